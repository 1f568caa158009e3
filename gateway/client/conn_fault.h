/* conn_fault: why a client's connection to a gateway failed or ended, in one sentence that says what to do. */
#pragma once

#include "gateway/net/conn.h"

/*
 * Of a connection that ends or has ended (conn_end()), until its on_closed returns. `address`: where the gateway is; NULL: at
 * the other end of a socket pair. `connect_timeout_ns`: how long was waited for it.
 */
void conn_fault_describe(const struct conn *conn, const struct address *address, uint64_t connect_timeout_ns, char *text,
                         size_t size);
