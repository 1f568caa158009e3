package reapi

import (
	"testing"

	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// reflector asks one gateway, as grpcurl does: services first, then files, and what these import.
type reflector struct {
	*testing.T
	stream reflectpb.ServerReflection_ServerReflectionInfoClient
	files  map[string]*descriptorpb.FileDescriptorProto
}

func (r *reflector) ask(request *reflectpb.ServerReflectionRequest) *reflectpb.ServerReflectionResponse {
	r.Helper()
	if err := r.stream.Send(request); err != nil {
		r.Fatal(err)
	}
	return must[*reflectpb.ServerReflectionResponse](r.T)(r.stream.Recv())
}

func (r *reflector) take(response *reflectpb.ServerReflectionResponse) {
	r.Helper()
	parts := response.GetFileDescriptorResponse().GetFileDescriptorProto()
	if len(parts) == 0 {
		r.Fatal(response)
	}
	for _, bytes := range parts {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(bytes, file); err != nil {
			r.Fatal(err)
		}
		r.files[file.GetName()] = file
		for _, name := range file.Dependency {
			if r.files[name] == nil {
				r.take(r.ask(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileByFilename{FileByFilename: name}}))
			}
		}
	}
}

func symbol(name string) *reflectpb.ServerReflectionRequest {
	return &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}}
}

func sameField(t *testing.T, ours, theirs protoreflect.FieldDescriptor) {
	t.Helper()
	if theirs == nil {
		t.Errorf("%s is no field there", ours.FullName())
		return
	}
	if ours.Number() != theirs.Number() || ours.Kind() != theirs.Kind() || ours.Cardinality() != theirs.Cardinality() ||
		(ours.ContainingOneof() == nil) != (theirs.ContainingOneof() == nil) {
		t.Errorf("%s: %v, and there %v", ours.FullName(), ours, theirs)
	}
	if ours.Message() != nil && ours.Message().FullName() != theirs.Message().FullName() {
		t.Errorf("%s is a %s, and there a %s", ours.FullName(), ours.Message().FullName(), theirs.Message().FullName())
	}
	if ours.Enum() != nil && ours.Enum().FullName() != theirs.Enum().FullName() {
		t.Errorf("%s is a %s, and there a %s", ours.FullName(), ours.Enum().FullName(), theirs.Enum().FullName())
	}
}

// same compares what is described here with what Go's own packages were made of; those know more fields and calls.
func same(t *testing.T, ours protoreflect.Descriptor) int {
	t.Helper()
	theirs, err := protoregistry.GlobalFiles.FindDescriptorByName(ours.FullName())
	if err != nil {
		t.Logf("%s is not known to any package here", ours.FullName())
		return 0
	}
	count := 1
	switch ours := ours.(type) {
	case protoreflect.MessageDescriptor:
		theirs := theirs.(protoreflect.MessageDescriptor)
		for i := range ours.Fields().Len() {
			sameField(t, ours.Fields().Get(i), theirs.Fields().ByName(ours.Fields().Get(i).Name()))
		}
		for i := range ours.Messages().Len() {
			count += same(t, ours.Messages().Get(i))
		}
		for i := range ours.Enums().Len() {
			count += same(t, ours.Enums().Get(i))
		}
	case protoreflect.EnumDescriptor:
		for i := range ours.Values().Len() {
			value := ours.Values().Get(i)
			if known := theirs.(protoreflect.EnumDescriptor).Values().ByName(value.Name()); known == nil || known.Number() != value.Number() {
				t.Errorf("%s: %v, and there %v", value.FullName(), value.Number(), known)
			}
		}
	case protoreflect.ServiceDescriptor:
		for i := range ours.Methods().Len() {
			method := ours.Methods().Get(i)
			known := theirs.(protoreflect.ServiceDescriptor).Methods().ByName(method.Name())
			if known == nil || known.Input().FullName() != method.Input().FullName() || known.Output().FullName() != method.Output().FullName() ||
				known.IsStreamingClient() != method.IsStreamingClient() || known.IsStreamingServer() != method.IsStreamingServer() {
				t.Errorf("%v, and there %v", method, known)
			}
		}
	}
	return count
}

// What the gateway says of itself is what others' packages say of the same services, and is enough for a client that knows nothing.
func TestReflection(t *testing.T) {
	g := newGateway(t)
	connection := g.dial(t)
	r := &reflector{T: t, files: map[string]*descriptorpb.FileDescriptorProto{}}
	r.stream = must[reflectpb.ServerReflection_ServerReflectionInfoClient](t)(
		reflectpb.NewServerReflectionClient(connection).ServerReflectionInfo(within(t, patience)))
	list := r.ask(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService()
	if len(list) != 11 {
		t.Error(list)
	}
	for _, service := range list {
		r.take(r.ask(symbol(service.Name)))
	}
	for _, unknown := range []string{"", "sluice.v1.Nothing", "sluice.v1"} {
		if answer := r.ask(symbol(unknown)); answer.GetErrorResponse().GetErrorCode() != 5 {
			t.Errorf("%q: %v", unknown, answer)
		}
	}
	// Many questions before the first answer is read.
	for range 100 {
		if err := r.stream.Send(symbol("sluice.v1.Store")); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		r.take(must[*reflectpb.ServerReflectionResponse](t)(r.stream.Recv()))
	}
	r.stream.CloseSend()

	set := &descriptorpb.FileDescriptorSet{}
	for _, file := range r.files {
		set.File = append(set.File, file)
	}
	files := must[*protoregistry.Files](t)(protodesc.NewFiles(set))
	for _, service := range list {
		if _, err := files.FindDescriptorByName(protoreflect.FullName(service.Name)); err != nil {
			t.Error(err)
		}
	}
	compared := 0
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Messages().Len() {
			compared += same(t, file.Messages().Get(i))
		}
		for i := range file.Services().Len() {
			compared += same(t, file.Services().Get(i))
		}
		return true
	})
	if compared < 90 {
		t.Errorf("only %d were compared", compared)
	}

	method := must[protoreflect.Descriptor](t)(files.FindDescriptorByName("build.bazel.remote.execution.v2.Capabilities.GetCapabilities")).(protoreflect.MethodDescriptor)
	answer := dynamicpb.NewMessage(method.Output())
	if err := connection.Invoke(within(t, patience), "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities", dynamicpb.NewMessage(method.Input()), answer); err != nil {
		t.Fatal(err)
	}
	cache := answer.Get(method.Output().Fields().ByName("cache_capabilities")).Message()
	if !cache.Get(cache.Descriptor().Fields().ByName("splice_blob_support")).Bool() || len(answer.GetUnknown()) != 0 || len(cache.GetUnknown()) != 0 {
		t.Error(answer)
	}
}

// Clients that are older than v1 ask by its former name.
func TestReflectionAlpha(t *testing.T) {
	connection := newGateway(t).dial(t)
	stream := must[alphapb.ServerReflection_ServerReflectionInfoClient](t)(
		alphapb.NewServerReflectionClient(connection).ServerReflectionInfo(within(t, patience)))
	stream.Send(&alphapb.ServerReflectionRequest{MessageRequest: &alphapb.ServerReflectionRequest_FileByFilename{FileByFilename: "health.proto"}})
	answer := must[*alphapb.ServerReflectionResponse](t)(stream.Recv())
	if len(answer.GetFileDescriptorResponse().GetFileDescriptorProto()) != 1 {
		t.Error(answer)
	}
	stream.CloseSend()
}
