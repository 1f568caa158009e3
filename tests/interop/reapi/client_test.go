package reapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand"
	"sync"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	bspb "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const patience = 2 * time.Minute

func digestOf(blob []byte) *repb.Digest {
	sum := sha256.Sum256(blob)
	return &repb.Digest{Hash: hex.EncodeToString(sum[:]), SizeBytes: int64(len(blob))}
}

func noise(size int, seed int64) []byte {
	blob := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(blob)
	return blob
}

func missing(t testing.TB, connection *grpc.ClientConn, instance string, digests ...*repb.Digest) int {
	t.Helper()
	answer := must[*repb.FindMissingBlobsResponse](t)(repb.NewContentAddressableStorageClient(connection).FindMissingBlobs(
		within(t, patience), &repb.FindMissingBlobsRequest{InstanceName: instance, BlobDigests: digests}))
	return len(answer.MissingBlobDigests)
}

// write sends `wire` (the blob, or its zstd form) as `resource`, `step` bytes a message.
func write(t testing.TB, connection *grpc.ClientConn, resource string, wire []byte, step int) (*bspb.WriteResponse, error) {
	t.Helper()
	stream := must[bspb.ByteStream_WriteClient](t)(bspb.NewByteStreamClient(connection).Write(within(t, patience)))
	for at := 0; ; {
		size := min(step, len(wire)-at)
		err := stream.Send(&bspb.WriteRequest{ResourceName: resource, WriteOffset: int64(at), Data: wire[at : at+size],
			FinishWrite: at+size == len(wire)})
		at += size
		if err == io.EOF || at == len(wire) {
			return stream.CloseAndRecv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, connection *grpc.ClientConn, request *bspb.ReadRequest) ([]byte, error) {
	t.Helper()
	stream := must[bspb.ByteStream_ReadClient](t)(bspb.NewByteStreamClient(connection).Read(within(t, patience), request))
	blob := []byte{}
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			return blob, nil
		}
		if err != nil {
			return nil, err
		}
		blob = append(blob, answer.Data...)
	}
}

func uploadName(instance, id string, digest *repb.Digest, compressed bool) string {
	kind := "blobs"
	if compressed {
		kind = "compressed-blobs/zstd"
	}
	return fmt.Sprintf("%suploads/%s/%s/%s/%d", instance, id, kind, digest.Hash, digest.SizeBytes)
}

func downloadName(instance string, digest *repb.Digest, compressed bool) string {
	kind := "blobs"
	if compressed {
		kind = "compressed-blobs/zstd"
	}
	return fmt.Sprintf("%s%s/%s/%d", instance, kind, digest.Hash, digest.SizeBytes)
}

// Blobs from nothing to 100 MB, compressed and not, in an instance with a slash in its name.
func TestBlobsOfAnySize(t *testing.T) {
	g := newGateway(t)
	connection := g.dial(t)
	encoder := must[*zstd.Encoder](t)(zstd.NewWriter(nil))
	decoder := must[*zstd.Decoder](t)(zstd.NewReader(nil))
	for _, size := range []int{0, 1, 4096, 1 << 20, 4 << 20, 4<<20 + 1, 20_000_000, 100_000_000} {
		for _, compressed := range []bool{false, true} {
			blob := noise(size, int64(size)+7)
			copy(blob, bytes.Repeat([]byte("compressible "), size/30))
			if compressed && size > 0 {
				blob[0] ^= 1
			}
			digest, wire := digestOf(blob), blob
			if compressed {
				wire = encoder.EncodeAll(blob, nil)
			}
			answer, err := write(t, connection, uploadName("team/a/", "id", digest, compressed), wire, 1<<20)
			if err != nil {
				t.Fatalf("%d bytes, compressed %v: %v", size, compressed, err)
			}
			if size > 0 && answer.CommittedSize != int64(len(wire)) {
				t.Errorf("%d bytes: committed %d of %d", size, answer.CommittedSize, len(wire))
			}
			got := must[[]byte](t)(read(t, connection, &bspb.ReadRequest{ResourceName: downloadName("team/a/", digest, compressed),
				ReadOffset: int64(size / 3)}))
			if compressed {
				got = must[[]byte](t)(decoder.DecodeAll(got, nil))
			}
			if !bytes.Equal(got, blob[size/3:]) {
				t.Errorf("%d bytes, compressed %v: other bytes came back", size, compressed)
			}
			if count := missing(t, connection, "team/a", digest); count != 0 {
				t.Errorf("%d bytes are missing", size)
			}
			if count := missing(t, connection, "", digest); count != min(1, size) {
				t.Errorf("%d bytes are there in another instance", size)
			}
		}
	}
}

// A tree of directories, a large file among its files, and its way back by GetTree and BatchReadBlobs.
func TestTrees(t *testing.T) {
	g := newGateway(t)
	connection := g.dial(t)
	cas := repb.NewContentAddressableStorageClient(connection)
	blobs := map[string][]byte{}
	add := func(blob []byte) *repb.Digest {
		digest := digestOf(blob)
		blobs[digest.Hash] = blob
		return digest
	}
	level := &repb.Directory{Files: []*repb.FileNode{{Name: "large", Digest: add(noise(9_000_000, 1))}}}
	for depth := range 30 {
		directory := &repb.Directory{}
		for file := range 20 {
			directory.Files = append(directory.Files, &repb.FileNode{Name: fmt.Sprintf("f%02d", file),
				Digest: add([]byte(fmt.Sprint("file ", depth, file)))})
		}
		directory.Directories = []*repb.DirectoryNode{{Name: "down", Digest: add(must[[]byte](t)(proto.Marshal(level)))}}
		level = directory
	}
	root := add(must[[]byte](t)(proto.Marshal(level)))
	digests, batch := []*repb.Digest{}, &repb.BatchUpdateBlobsRequest{}
	for hash, blob := range blobs {
		digest := &repb.Digest{Hash: hash, SizeBytes: int64(len(blob))}
		digests = append(digests, digest)
		if len(blob) < 1<<20 {
			batch.Requests = append(batch.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: digest, Data: blob})
		} else if _, err := write(t, connection, uploadName("", "id", digest, false), blob, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	for _, response := range must[*repb.BatchUpdateBlobsResponse](t)(cas.BatchUpdateBlobs(within(t, patience), batch)).Responses {
		if response.Status.GetCode() != 0 {
			t.Errorf("%s: %v", response.Digest.Hash, response.Status)
		}
	}
	if count := missing(t, connection, "", digests...); count != 0 {
		t.Errorf("%d blobs are missing", count)
	}
	stream := must[repb.ContentAddressableStorage_GetTreeClient](t)(cas.GetTree(within(t, patience),
		&repb.GetTreeRequest{RootDigest: root, PageSize: 7}))
	found, pages := 0, 0
	for {
		page, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pages++
		found += len(page.Directories)
	}
	if found != 31 || pages != 5 {
		t.Errorf("%d directories in %d pages", found, pages)
	}
}

// Which chunks a client with the gateway's own parameters has to send of a file in which 1 KB changed: found with SplitBlob, by
// asking for the chunks of the old version, and put together with SpliceBlob.
func TestAChangeOfALargeBlob(t *testing.T) {
	g := newGateway(t)
	connection := g.dial(t)
	cas := repb.NewContentAddressableStorageClient(connection)
	blob := noise(100_000_000, 3)
	if _, err := write(t, connection, uploadName("", "id", digestOf(blob), false), blob, 1<<20); err != nil {
		t.Fatal(err)
	}
	old := must[*repb.SplitBlobResponse](t)(cas.SplitBlob(within(t, patience), &repb.SplitBlobRequest{BlobDigest: digestOf(blob)}))
	if old.ChunkingFunction != repb.ChunkingFunction_FAST_CDC_2020 || len(old.ChunkDigests) < 100 {
		t.Fatalf("%d chunks by %v", len(old.ChunkDigests), old.ChunkingFunction)
	}
	changed := bytes.Clone(blob)
	copy(changed[50_000_000:], noise(1000, 4))
	// Cut where the old one was cut: those chunks that did not change are there.
	sent, at, chunks := 0, int64(0), []*repb.Digest{}
	for _, chunk := range old.ChunkDigests {
		part := changed[at : at+chunk.SizeBytes]
		at += chunk.SizeBytes
		digest := digestOf(part)
		chunks = append(chunks, digest)
		if digest.Hash == chunk.Hash {
			continue
		}
		sent += len(part)
		must[*repb.BatchUpdateBlobsResponse](t)(cas.BatchUpdateBlobs(within(t, patience), &repb.BatchUpdateBlobsRequest{
			Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: digest, Data: part}}}))
	}
	must[*repb.SpliceBlobResponse](t)(cas.SpliceBlob(within(t, patience),
		&repb.SpliceBlobRequest{BlobDigest: digestOf(changed), ChunkDigests: chunks}))
	if sent >= 2_000_000 {
		t.Errorf("%d bytes were sent", sent)
	}
	got := must[[]byte](t)(read(t, connection, &bspb.ReadRequest{ResourceName: downloadName("", digestOf(changed), false)}))
	if !bytes.Equal(got, changed) {
		t.Error("other bytes came back")
	}
}

func code(t *testing.T, err error, wanted codes.Code, says string) {
	t.Helper()
	if status.Code(err) != wanted || !bytes.Contains([]byte(err.Error()), []byte(says)) {
		t.Errorf("not %v with %q: %v", wanted, says, err)
	}
}

func TestLies(t *testing.T) {
	g := newGateway(t)
	connection := g.dial(t)
	for _, size := range []int{1000, 10_000_000} {
		blob := noise(size, 5)
		good, wrong := digestOf(blob), digestOf(noise(size, 6))
		_, err := write(t, connection, uploadName("", "id", wrong, false), blob, 1<<20)
		code(t, err, codes.InvalidArgument, good.Hash)
		_, err = write(t, connection, uploadName("", "id", &repb.Digest{Hash: good.Hash, SizeBytes: good.SizeBytes + 1}, false), blob, 1<<20)
		code(t, err, codes.InvalidArgument, "before all of the blob")
		_, err = write(t, connection, uploadName("", "id", &repb.Digest{Hash: good.Hash, SizeBytes: good.SizeBytes - 1}, false), blob, 1<<20)
		code(t, err, codes.InvalidArgument, "more data")
		if count := missing(t, connection, "", good, wrong); count != 2 {
			t.Errorf("%d of 2 are missing", count)
		}
	}
	// What a result names and is not there is told blob by blob.
	gone := digestOf(noise(10, 7))
	_, err := repb.NewActionCacheClient(connection).UpdateActionResult(within(t, patience), &repb.UpdateActionResultRequest{
		ActionDigest: digestOf([]byte("action")),
		ActionResult: &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "out", Digest: gone}}}})
	code(t, err, codes.FailedPrecondition, gone.Hash)
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("%d details", len(details))
	}
	violations := details[0].(*errdetails.PreconditionFailure).Violations
	if len(violations) != 1 || violations[0].Type != "MISSING" || violations[0].Subject != fmt.Sprintf("blobs/%s/10", gone.Hash) {
		t.Errorf("violations: %v", violations)
	}
}

// 10,000 small writes at a time over 20 connections, and some that never end: all that ended are there.
func TestManySmallWrites(t *testing.T) {
	g := newGateway(t)
	total, retried := 10_000, 0
	var group sync.WaitGroup
	var mutex sync.Mutex
	digests := make([]*repb.Digest, total)
	for worker := range 20 {
		connection := g.dial(t)
		for range 10 {
			stream := must[bspb.ByteStream_WriteClient](t)(bspb.NewByteStreamClient(connection).Write(within(t, patience)))
			unfinished := digestOf(noise(5_000_000, int64(worker)))
			stream.Send(&bspb.WriteRequest{ResourceName: uploadName("", "never", unfinished, false), Data: []byte("begun")})
		}
		for i := worker; i < total; i += 20 {
			group.Add(1)
			go func() {
				defer group.Done()
				blob := []byte(fmt.Sprintf("small blob %d %s", i, bytes.Repeat([]byte{'x'}, i%5000)))
				digests[i] = digestOf(blob)
				for {
					_, err := write(t, connection, uploadName("", fmt.Sprint(i), digests[i], false), blob, 3000)
					if status.Code(err) != codes.ResourceExhausted {
						if err != nil {
							t.Error(err)
						}
						return
					}
					mutex.Lock()
					retried++
					mutex.Unlock()
				}
			}()
		}
	}
	group.Wait()
	connection := g.dial(t)
	for at := 0; at < total; at += 2000 {
		if count := missing(t, connection, "", digests[at:at+2000]...); count != 0 {
			t.Errorf("%d of 2000 are missing", count)
		}
	}
	t.Logf("%d were told to try again", retried)
}

func TestWellKnownServices(t *testing.T) {
	g := newGateway(t)
	connection := g.dial(t)
	health := must[*healthpb.HealthCheckResponse](t)(healthpb.NewHealthClient(connection).Check(within(t, patience), &healthpb.HealthCheckRequest{}))
	if health.Status != healthpb.HealthCheckResponse_SERVING {
		t.Error(health)
	}
	capabilities := must[*repb.ServerCapabilities](t)(repb.NewCapabilitiesClient(connection).GetCapabilities(within(t, patience), &repb.GetCapabilitiesRequest{}))
	cache := capabilities.CacheCapabilities
	if cache.GetFastCdc_2020Params().GetAvgChunkSizeBytes() != 512<<10 || !cache.SplitBlobSupport || !cache.SpliceBlobSupport ||
		capabilities.HighApiVersion.Minor != 12 || capabilities.ExecutionCapabilities != nil {
		t.Error(capabilities)
	}
}
