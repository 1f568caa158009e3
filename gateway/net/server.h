/*
 * server: listeners, their connections, and the table of methods. Accepts within limits, makes conns, and hands each
 * new stream to the method that its path names. On one ring.
 */
#pragma once

#include "gateway/net/conn.h"
#include "proto/call.h"

#define SERVER_PARKED_MAX 1024u          /* connections beyond the limit that wait as bare sockets */
#define SERVER_OWN_MAX    192u           /* connections of the program's own helpers */

struct server;

/* A request as a method gets it. Borrowed during start(). */
struct server_request {
	struct conn *conn;
	struct stream *stream;
	const struct grpc_request *head;
};

struct server_method {
	const char *path;                /* "/sluice.v1.Store/Push" */
	/*
	 * Takes the stream over (call_accept) and returns 0; or a positive enum grpc_status with `why` set, and the
	 * server answers that. A call with `grpc-timeout` is ended with DEADLINE_EXCEEDED when that has passed, and its
	 * on_closed then gets that status (see deadline.h).
	 */
	int (*start)(void *context, const struct server_request *request, char *why, size_t why_size);
};

struct server_config {
	const struct server_method *methods;             /* sorted by path not needed; ends with path NULL */
	/* As a method's start, for paths that no method has, however they are compressed; no deadline is kept. NULL: they
	   get UNIMPLEMENTED. */
	int (*unknown)(void *context, const struct server_request *request, char *why, size_t why_size);
	/*
	 * Requests that are no gRPC, over either HTTP: HTTP/1.1 is spoken only when this is there. It answers, or sets the stream's
	 * events and answers later; a body that nobody asked for is dropped. NULL: they get 415.
	 */
	void (*web)(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head);
	void *context;                                   /* handed to start */
	/*
	 * 0: 1,024. Beyond, connections wait for their turn: up to 1,024 as bare sockets here (the kernel accepts many in one go; from
	 * the half of it on nothing more is accepted), then in the listeners' backlogs.
	 */
	uint32_t connections_max;
	uint32_t streams_max;                            /* a connection; 0: 256 */
	/* 0: 1 GiB; of each connection a quarter of it: what its calls keep of messages that have not come whole, see gathering.h. */
	uint64_t gathered_bytes_max;
	uint32_t unix_mode;                              /* of unix sockets: who may connect; 0: 0660 */
	uint64_t handshake_timeout_ns, idle_timeout_ns, stall_timeout_ns;        /* 0: conn's defaults */
	/* Called when the last connection has gone after server_drain(). */
	void (*on_drained)(void *context);
	/* A connection has gone (its calls have all had on_closed). Optional. */
	void (*on_conn_closed)(void *context, struct conn *conn);
};

/* `config` is copied, the table of methods is not. */
int server_create(struct server **server, struct ring *ring, const struct server_config *config);
/* Listens; `tls` NULL for grpc:// and unix://. `bound` gets the address with the real port. A stale unix socket is replaced. */
int server_listen(struct server *server, const struct address *address, struct tls_context *tls,
                  char *bound, size_t bound_size, char *why, size_t why_size);
/*
 * The same for the program's own helpers, which come over a unix socket that nobody else can reach: SERVER_OWN_MAX of their
 * connections are taken beside connections_max, and more refused. A drain leaves them alone until its time-out: they may have to
 * call to end what they do, and close by themselves.
 */
int server_listen_own(struct server *server, const struct address *address, char *bound, size_t bound_size, char *why,
                      size_t why_size);
/*
 * New connections get other keys from now on (all TLS listeners). A context is the caller's and has to live until it is
 * replaced or the server is drained; present connections do not need it.
 */
void server_set_tls(struct server *server, struct tls_context *tls);
/*
 * Adopts a connected socket pair's end as one more connection, of this peer; NULL: of whoever the socket tells. 0, and the
 * descriptor is the server's; -EMFILE: connections_max are open; -ESHUTDOWN, -ENOMEM.
 */
int server_adopt(struct server *server, int fd, const struct conn_peer *peer);
/*
 * Stop listening, GOAWAY to all but the program's own helpers, wait for the streams; after `timeout_ns` close what is left. Again with 0: close it
 * now; again with another time: nothing.
 */
void server_drain(struct server *server, uint64_t timeout_ns);
void server_destroy(struct server *server);              /* only when drained or never listened */

struct server_status {
	uint64_t connections, connections_total, streams, streams_total, gathered_bytes, refused_messages, refused_connections,
	         handshake_failures, handshake_timeouts, idle_closed, stalls, protocol_faults, bytes_received, bytes_sent, copied_bytes_tls_received, copied_bytes_tls_sent,
	         copied_bytes_gathered, copied_bytes_queued;
};
void server_status(const struct server *server, struct server_status *status);
