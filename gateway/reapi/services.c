/* The services of the daemon's public methods; what only the gateway's own executors call is not told to others. */
#include "gateway/reapi/services.h"

static const char *const services[] = {
	"build.bazel.remote.execution.v2.ActionCache",
	"build.bazel.remote.execution.v2.Capabilities",
	"build.bazel.remote.execution.v2.ContentAddressableStorage",
	"build.bazel.remote.execution.v2.Execution",
	"google.bytestream.ByteStream",
	"google.longrunning.Operations",
	"grpc.health.v1.Health",
	"grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection",
	"sluice.v1.Link",
	"sluice.v1.Store",
};
#define SERVICES (sizeof(services) / sizeof(services[0]))

const char *service_name(size_t i)
{
	return i < SERVICES ? services[i] : NULL;
}

bool service_served(struct span name)
{
	for (size_t i = 0; i < SERVICES; i++)
		if (span_is(name, services[i]))
			return true;
	return false;
}
