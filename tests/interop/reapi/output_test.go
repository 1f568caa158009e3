package reapi

import (
	"fmt"
	"io"
	"testing"
	"time"

	longrunning "cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	bspb "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// put uploads messages, and the empty directory beside them.
func put(t testing.TB, connection *grpc.ClientConn, messages ...proto.Message) []*repb.Digest {
	t.Helper()
	return putIn(t, connection, "", messages...)
}

func putIn(t testing.TB, connection *grpc.ClientConn, instance string, messages ...proto.Message) []*repb.Digest {
	t.Helper()
	request := &repb.BatchUpdateBlobsRequest{InstanceName: instance}
	digests := []*repb.Digest{}
	for _, message := range messages {
		blob := must[[]byte](t)(proto.Marshal(message))
		digests = append(digests, digestOf(blob))
		request.Requests = append(request.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: digestOf(blob), Data: blob})
	}
	answer := must[*repb.BatchUpdateBlobsResponse](t)(repb.NewContentAddressableStorageClient(connection).BatchUpdateBlobs(within(t, patience), request))
	for _, response := range answer.Responses {
		if response.Status.GetCode() != 0 {
			t.Fatal(response)
		}
	}
	return digests
}

// next is the next operation, and what its metadata says.
func next(t testing.TB, stream grpc.ServerStreamingClient[longrunning.Operation]) (*longrunning.Operation, *repb.ExecuteOperationMetadata) {
	t.Helper()
	operation, metadata := must[*longrunning.Operation](t)(stream.Recv()), &repb.ExecuteOperationMetadata{}
	if err := operation.Metadata.UnmarshalTo(metadata); err != nil {
		t.Fatal(err)
	}
	return operation, metadata
}

// What an action that took too long is told by, word for word, and what it wrote until then, as other servers' clients look for them:
// a policy for the results in the request, and output by its digest.
func TestATimeOutIsToldAsClientsKnowIt(t *testing.T) {
	g := newGatewayOf(t, 1)
	g.says(t, "executor host attached")
	connection := g.dial(t)
	command := &repb.Command{Arguments: []string{"/bin/sh", "-c", "echo so far; echo oops >&2; sleep 100"}}
	digests := put(t, connection, &repb.Directory{}, command)
	action := put(t, connection, &repb.Action{InputRootDigest: digests[0], CommandDigest: digests[1], Timeout: durationpb.New(time.Second)})[0]
	operations := must[repb.Execution_ExecuteClient](t)(repb.NewExecutionClient(connection).Execute(within(t, patience),
		&repb.ExecuteRequest{ActionDigest: action, ResultsCachePolicy: &repb.ResultsCachePolicy{}, DigestFunction: repb.DigestFunction_SHA256}))
	operation, _ := next(t, operations)
	for !operation.Done {
		operation, _ = next(t, operations)
	}
	response := &repb.ExecuteResponse{}
	if err := operation.GetResponse().UnmarshalTo(response); err != nil || codes.Code(response.Status.GetCode()) != codes.DeadlineExceeded ||
		response.Status.GetMessage() != "execution timeout exceeded" {
		t.Errorf("%v: %v", err, response)
	}
	for _, stream := range []struct {
		digest *repb.Digest
		text   string
	}{{response.Result.GetStdoutDigest(), "so far\n"}, {response.Result.GetStderrDigest(), "oops\n"}} {
		name := fmt.Sprintf("blobs/%s/%d", stream.digest.GetHash(), stream.digest.GetSizeBytes())
		if got := must[[]byte](t)(read(t, connection, &bspb.ReadRequest{ResourceName: name})); string(got) != stream.text {
			t.Errorf("%q, not %q", got, stream.text)
		}
	}
}

// An action that waits for what the test sees of its output: the first line is there before it ends.
func TestOutputIsReadWhileItIsWritten(t *testing.T) {
	g := newGatewayOf(t, 1)
	g.says(t, "executor host attached")
	connection := g.dial(t)
	directory := &repb.Directory{}
	command := &repb.Command{Arguments: []string{"/bin/sh", "-c", "echo first; echo oops >&2; sleep 3; echo last"}}
	digests := put(t, connection, directory, command)
	action := put(t, connection, &repb.Action{InputRootDigest: digests[0], CommandDigest: digests[1], DoNotCache: true})[0]
	operations := must[repb.Execution_ExecuteClient](t)(repb.NewExecutionClient(connection).Execute(within(t, patience),
		&repb.ExecuteRequest{ActionDigest: action}))
	operation, metadata := next(t, operations)
	for metadata.StdoutStreamName == "" {
		if operation.Done {
			t.Fatal(operation)
		}
		operation, metadata = next(t, operations)
	}
	output := must[bspb.ByteStream_ReadClient](t)(bspb.NewByteStreamClient(connection).Read(within(t, patience),
		&bspb.ReadRequest{ResourceName: metadata.StdoutStreamName}))
	if got := string(must[*bspb.ReadResponse](t)(output.Recv()).Data); got != "first\n" {
		t.Errorf("%q came first", got)
	}
	// Both at an offset; the action has two seconds to go.
	rest := must[[]byte](t)(read(t, connection, &bspb.ReadRequest{ResourceName: metadata.StdoutStreamName, ReadOffset: 4}))
	errors := must[[]byte](t)(read(t, connection, &bspb.ReadRequest{ResourceName: metadata.StderrStreamName, ReadLimit: 4}))
	if string(rest) != "t\nlast\n" || string(errors) != "oops" {
		t.Errorf("%q, %q", rest, errors)
	}
	if got := string(must[*bspb.ReadResponse](t)(output.Recv()).Data); got != "last\n" {
		t.Errorf("%q came last", got)
	}
	if _, err := output.Recv(); err != io.EOF {
		t.Error(err)
	}
	for !operation.Done {
		operation, metadata = next(t, operations)
	}
	response := &repb.ExecuteResponse{}
	if err := operation.GetResponse().UnmarshalTo(response); err != nil || string(response.Result.GetStdoutRaw()) != "first\nlast\n" {
		t.Errorf("%v: %v", err, response)
	}
}
