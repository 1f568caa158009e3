/* conn_fault: why a client's connection to a gateway failed or ended, in one sentence that says what to do. */
#pragma once

#include "gateway/net/conn.h"

struct conn_fault {
	enum conn_end end;
	int error;                       /* negative errno; 0: none */
	const char *reason;              /* borrowed */
};

/* Of a connection that ends or has ended (conn_end()), until its on_closed returns. */
struct conn_fault conn_fault_of(const struct conn *conn);
/*
 * `address`: where the gateway is; NULL: at the other end of a socket pair. `connect_timeout_ns`: how long was waited for
 * the connection.
 */
void conn_fault_describe(const struct conn_fault *fault, const struct address *address, uint64_t connect_timeout_ns, char *text,
                         size_t size);
