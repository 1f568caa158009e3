package reapi

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	longrunning "cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	bspb "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// buildbox is a buildbox-casd: the CAS beside BuildStream, recc and their like on a client's machine. What it is given for
// the instance `far` goes on to the gateway's instance team/b, in chunks and by SpliceBlob; what it has not is fetched from there
// with SplitBlob. The instance `here` is its own store.
type buildbox struct {
	address string
	process *exec.Cmd
	log     *output
}

const far, here = "far", "here"

func newBuildbox(t *testing.T, g *gateway, flags ...string) *buildbox {
	t.Helper()
	program := os.Getenv("BUILDBOX_CASD")
	if program == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("BUILDBOX_CASD names no buildbox-casd")
		}
		t.Skip("BUILDBOX_CASD names no buildbox-casd")
	}
	b := &buildbox{address: freeAddress(t), log: &output{}}
	b.process = exec.Command(program, append(append([]string{"--bind=" + b.address, "--log-level=info", "--proxy-instance=" + far + ":team/b",
		"--enable-chunking-for-instance=" + far, "--local-server-instance=" + here}, flags...),
		"--remote=http://"+g.address, filepath.Join(scratch(t), "cas"))...)
	b.process.Stdout, b.process.Stderr = b.log, b.log
	if err := b.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *buildbox) stop(t *testing.T) {
	b.process.Process.Signal(syscall.SIGTERM)
	if err := b.process.Wait(); err != nil {
		t.Errorf("buildbox-casd ended with %v", err)
	}
	if t.Failed() {
		t.Logf("buildbox-casd: %s", b.log)
	}
}

func (b *buildbox) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	connection := must[*grpc.ClientConn](t)(grpc.NewClient(b.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(16<<20))))
	t.Cleanup(func() { connection.Close() })
	return connection
}

// try calls UploadMissingBlobs or FetchMissingBlobs of buildbox's own service, whose messages have the fields of REAPI's.
func try(t *testing.T, connection *grpc.ClientConn, method string, digests ...*repb.Digest) error {
	answer := &repb.BatchUpdateBlobsResponse{}
	err := connection.Invoke(within(t, patience), "/build.buildgrid.LocalContentAddressableStorage/"+method,
		&repb.FindMissingBlobsRequest{InstanceName: far, BlobDigests: digests}, answer)
	for _, one := range answer.Responses {
		if err == nil {
			err = status.FromProto(one.Status).Err()
		}
	}
	return err
}

func move(t *testing.T, connection *grpc.ClientConn, method string, digests ...*repb.Digest) {
	t.Helper()
	if err := try(t, connection, method, digests...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// versions are an output of 100 MB, and a later one that differs in a KB.
func versions(seed int64) [][]byte {
	blob := noise(100_000_000, seed)
	changed := bytes.Clone(blob)
	copy(changed[60_000_000:], noise(1024, seed+1))
	return [][]byte{blob, changed}
}

// grows waits until a number of the metrics is more than `before`, and says by how much once it stands still.
func (g *gateway) grows(t *testing.T, name string, before float64) float64 {
	t.Helper()
	for value := g.reaches(t, name, before+1); ; {
		time.Sleep(1500 * time.Millisecond)
		now := g.counter(t, name)
		if now == value {
			return now - before
		}
		value = now
	}
}

// Two versions of an output go up through a client that chunks, and down to another one that has nothing: of the second only the
// chunks that changed travel, either way.
func TestBuildboxChunks(t *testing.T) {
	g := newGateway(t)
	near, other := newBuildbox(t, g).dial(t), newBuildbox(t, g).dial(t)
	up, down := 0.0, 0.0
	for i, blob := range versions(5) {
		must[*bspb.WriteResponse](t)(write(t, near, uploadName(here+"/", "id", digestOf(blob), false), blob, 1<<20))
		move(t, near, "UploadMissingBlobs", digestOf(blob))
		sent := g.grows(t, "sluice_reapi_received_bytes_total", up)
		move(t, other, "FetchMissingBlobs", digestOf(blob))
		fetched := g.grows(t, "sluice_reapi_sent_bytes_total", down)
		t.Logf("version %d: %.0f bytes up, %.0f down", i, sent, fetched)
		up, down = up+sent, down+fetched
		if i > 0 && (sent >= 2_000_000 || fetched >= 2_000_000) {
			t.Errorf("1 KB changed: %.0f bytes went up, %.0f down", sent, fetched)
		}
		got := must[[]byte](t)(read(t, other, &bspb.ReadRequest{ResourceName: downloadName(here+"/", digestOf(blob), false)}))
		if !bytes.Equal(got, blob) {
			t.Errorf("version %d: other bytes came back", i)
		}
	}
	if splices, splits := g.counter(t, "sluice_reapi_splices_total"), g.counter(t, "sluice_reapi_splits_total"); splices != 2 || splits != 2 {
		t.Errorf("%.0f SpliceBlob, %.0f SplitBlob", splices, splits)
	}
	if count := missing(t, g.dial(t), "", digestOf(versions(5)[0])); count != 1 {
		t.Error("it is there in another instance")
	}
}

// A tree of directories goes up whole and comes down whole, a file that is cut and one of no bytes in it.
func TestBuildboxTrees(t *testing.T) {
	g := newGateway(t)
	near, other := newBuildbox(t, g).dial(t), newBuildbox(t, g).dial(t)
	blobs := [][]byte{noise(10_000_000, 9), {}}
	root := &repb.Directory{}
	for n := range 20 {
		directory := &repb.Directory{Files: []*repb.FileNode{{Name: "empty", Digest: digestOf(nil)}}}
		for m := range 20 {
			blobs = append(blobs, noise(100*n+m, int64(100*n+m)))
			directory.Files = append(directory.Files, &repb.FileNode{Name: fmt.Sprintf("file%02d", m), Digest: digestOf(blobs[len(blobs)-1])})
		}
		root.Directories = append(root.Directories, &repb.DirectoryNode{Name: fmt.Sprintf("directory%02d", n), Digest: putIn(t, near, here, directory)[0]})
	}
	root.Files = []*repb.FileNode{{Name: "large", Digest: digestOf(blobs[0]), IsExecutable: true}}
	root.Symlinks = []*repb.SymlinkNode{{Name: "link", Target: "directory01/file01"}}
	for _, blob := range blobs {
		must[*bspb.WriteResponse](t)(write(t, near, uploadName(here+"/", "id", digestOf(blob), false), blob, 1<<20))
	}
	// FetchTree's request has the fields of GetTree's, and fetch_file_blobs in the place of page_size.
	tree := &repb.GetTreeRequest{InstanceName: far, RootDigest: putIn(t, near, here, root)[0], PageSize: 1}
	for _, one := range []struct {
		connection *grpc.ClientConn
		method     string
	}{{near, "UploadTree"}, {other, "FetchTree"}} {
		err := one.connection.Invoke(within(t, patience), "/build.buildgrid.LocalContentAddressableStorage/"+one.method, tree, &emptypb.Empty{})
		if err != nil {
			t.Fatalf("%s: %v", one.method, err)
		}
	}
	for _, blob := range blobs {
		got := must[[]byte](t)(read(t, other, &bspb.ReadRequest{ResourceName: downloadName(here+"/", digestOf(blob), false)}))
		if !bytes.Equal(got, blob) {
			t.Errorf("other bytes came back of %d", len(blob))
		}
	}
}

// The gateway is killed while chunks go up, and comes back. The client goes on by itself; what was taken in the quarter of a second
// before was not on disk yet, and where one of these chunks is missing in the end it is told, and need only be asked again.
func TestBuildboxOutlivesAGateway(t *testing.T) {
	g := newGateway(t)
	near := newBuildbox(t, g, "--retry-limit=30", "--retry-delay=100").dial(t)
	blob := versions(7)[0]
	must[*bspb.WriteResponse](t)(write(t, near, uploadName(here+"/", "id", digestOf(blob), false), blob, 1<<20))
	done := make(chan error)
	go func() { done <- try(t, near, "UploadMissingBlobs", digestOf(blob)) }()
	g.reaches(t, "sluice_reapi_received_bytes_total", 1_000_000)
	g.crash()
	g.start(t)
	err := <-done
	t.Logf("the upload: %v", err)
	if err != nil && status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	if err != nil {
		move(t, near, "UploadMissingBlobs", digestOf(blob))
	}
	connection := g.dial(t)
	if count := missing(t, connection, "team/b", digestOf(blob)); count != 0 {
		t.Error("it is not there")
	}
	got := must[[]byte](t)(read(t, connection, &bspb.ReadRequest{ResourceName: downloadName("team/b/", digestOf(blob), false)}))
	if !bytes.Equal(got, blob) {
		t.Error("other bytes came back")
	}
}

// An action is run through one, and its result found through another, which fetches the output.
func TestBuildboxExecutes(t *testing.T) {
	g := newGatewayOf(t, 1)
	g.says(t, "executor host attached")
	input := []byte("of the input\n")
	wanted := digestOf([]byte("made of the input\n"))
	for turn := range 2 {
		client := newBuildbox(t, g).dial(t)
		must[*bspb.WriteResponse](t)(write(t, client, uploadName(far+"/", "id", digestOf(input), false), input, 1<<20))
		root := &repb.Directory{Files: []*repb.FileNode{{Name: "input", Digest: digestOf(input)}}}
		command := &repb.Command{Arguments: []string{"/bin/sh", "-c", "(printf 'made '; cat input) >made; echo done"}, OutputPaths: []string{"made"}}
		digests := putIn(t, client, far, root, command)
		action := putIn(t, client, far, &repb.Action{InputRootDigest: digests[0], CommandDigest: digests[1]})[0]
		operations := must[repb.Execution_ExecuteClient](t)(repb.NewExecutionClient(client).Execute(within(t, patience),
			&repb.ExecuteRequest{InstanceName: far, ActionDigest: action}))
		operation := must[*longrunning.Operation](t)(operations.Recv())
		for !operation.Done {
			operation = must[*longrunning.Operation](t)(operations.Recv())
		}
		response := &repb.ExecuteResponse{}
		if err := operation.GetResponse().UnmarshalTo(response); err != nil || codes.Code(response.Status.GetCode()) != codes.OK ||
			len(response.Result.GetOutputFiles()) != 1 || response.CachedResult != (turn > 0) {
			t.Fatalf("turn %d: %v: %v", turn, err, response)
		}
		if got := response.Result.OutputFiles[0].Digest; got.Hash != wanted.Hash {
			t.Errorf("%v was made", got)
		}
		result := must[*repb.ActionResult](t)(repb.NewActionCacheClient(client).GetActionResult(within(t, patience),
			&repb.GetActionResultRequest{InstanceName: far, ActionDigest: action, InlineStdout: true}))
		if string(result.StdoutRaw) != "done\n" {
			t.Errorf("it said %q", result.StdoutRaw)
		}
		move(t, client, "FetchMissingBlobs", wanted)
		got := must[[]byte](t)(read(t, client, &bspb.ReadRequest{ResourceName: downloadName(here+"/", wanted, false)}))
		if string(got) != "made of the input\n" {
			t.Errorf("%q came back", got)
		}
	}
}
