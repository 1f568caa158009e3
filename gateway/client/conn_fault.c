/* Why the connection failed or ended, in one sentence that says what to do. */
#include "gateway/client/conn_fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int connect_failure(const char *name, int error, uint64_t connect_timeout_ns, char *text, size_t size)
{
	switch (-error) {
	case ECONNREFUSED:
		return snprintf(text, size, "cannot reach %s: connection refused: is `sluice serve` running there?", name);
	case ENOENT:
		return snprintf(text, size, "cannot reach %s: there is no such socket: is `sluice serve` running, and listening "
		                            "there?", name);
	case EACCES:
	case EPERM:
		return snprintf(text, size, "cannot reach %s: permission denied: the socket's owner or group may connect", name);
	case ETIMEDOUT:
		return snprintf(text, size, "cannot reach %s: no answer within %llu s: is the address right, and does a "
		                            "firewall let it through?", name,
		                (unsigned long long)((connect_timeout_ns + 999999999) / 1000000000));
	default:
		return snprintf(text, size, "cannot reach %s: %s", name, strerror(-error));
	}
}

struct conn_fault conn_fault_of(const struct conn *conn)
{
	return (struct conn_fault){ conn_end(conn), conn_error(conn), conn_reason(conn) };
}

void conn_fault_describe(const struct conn_fault *fault, const struct address *address, uint64_t connect_timeout_ns, char *text,
                         size_t size)
{
	bool closed_early = fault->error == -ECONNRESET && fault->end == CONN_END_HANDSHAKE;
	char name[ADDRESS_TEXT_MAX] = "the gateway";

	if (address)
		address_format(address, name);
	switch (fault->end) {
	case CONN_END_CONNECT:
		connect_failure(name, fault->error, connect_timeout_ns, text, size);
		break;
	case CONN_END_HANDSHAKE:
		snprintf(text, size, "cannot talk to %s: %s%s", name, fault->reason,
		         !closed_early || !address ? "" : address->tls ? " (is it a plain listener, grpc://?)" :
		         " (is it a TLS listener, grpcs://?)");
		break;
	case CONN_END_HANDSHAKE_TIMEOUT:
		snprintf(text, size, "cannot talk to %s: it took the connection but said nothing: is it a sluice gateway?", name);
		break;
	case CONN_END_DRAINED:
	case CONN_END_IDLE:
		snprintf(text, size, "%s closed the connection in good order (GOAWAY): it shuts down or restarts; try again",
		         name);
		break;
	default:
		snprintf(text, size, "connection to %s lost: %s", name, fault->reason);
		break;
	}
}
