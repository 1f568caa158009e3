/* Errors into a status. */
#include "gateway/executor/inputs_status.h"

#include <errno.h>

enum grpc_status inputs_status(int r)
{
	switch (r) {
	case -ENOSPC:
		return GRPC_RESOURCE_EXHAUSTED;
	case -ENOENT:                            /* evicted or damaged since it was looked for */
	case -ECONNRESET:
	case -EREMOTEIO:
	case -ENOMEM:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_FAILED_PRECONDITION;
	}
}
