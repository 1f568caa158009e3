/*
 * socket: the options that every socket of ours gets. Set on a listener, accepted sockets inherit them, so that they
 * need not be set on direct descriptors, which take no setsockopt.
 */
#pragma once

#include "gateway/net/conn.h"

#define SOCKET_BACKLOG 1024

/* A non-blocking, close-on-exec stream socket; or -errno. */
int socket_create(int family);

/* Who is at the other end of a connected socket, as far as the kernel tells. */
void socket_peer(int fd, struct conn_peer *peer);

/*
 * A listening socket. A unix path's directory must exist; a socket there is replaced only when nobody listens on it, and we may try that. Who listens
 * already is given time to end, five seconds of a TCP port: a server that was killed lets go of it late. `mode` is who may connect
 * to a unix socket, which takes the right to write. `bound` gets the address with the real port. A descriptor or -errno with `why`.
 */
int socket_listen(const struct address *address, mode_t mode, char *bound, size_t bound_size, char *why, size_t why_size);
