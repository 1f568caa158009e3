/*
 * client: a connection to a gateway for programs that do one thing after the other (the commands, an executor's slot):
 * calls that look blocking. Each waits by running the client's own ring; several calls may be open at once and make
 * progress together.
 */
#pragma once

#include "gateway/net/address.h"
#include "proto/call.h"

struct client;
struct client_call;
struct link;

struct client_config {
	struct address address;
	int fd;                          /* >= 0: a connected socket instead of `address` */
	const char *ca_path, *certificate_path, *key_path, *server_name;         /* TLS; NULL where not given */
	const char *token;               /* bearer; NULL: none. Never logged */
	const char *instance;            /* `sluice-instance` metadata; NULL: none */
	uint64_t connect_timeout_ns;     /* 0: 10 s; connecting and shaking hands */
	/*
	 * 1 to LINK_PATHS_MAX: so many connections at most, as a link (gateway/link/link.h): when they are lost, calls go on over
	 * the next ones, for `link_timeout_ns` (0: a minute). 0: one connection, without that. Not with `fd`.
	 */
	unsigned link_conns;
	uint64_t link_timeout_ns;
	uint32_t message_bytes_max;      /* of a received message; 0: 5 MiB */
	int engine;                      /* enum ring_engine */
};

/*
 * Connects and shakes hands. 0 or -errno; `why` gets one sentence that says what to do ("connection refused: is
 * `sluice serve` running at …?").
 */
int client_open(struct client **client, const struct client_config *config, char *why, size_t why_size);
/*
 * Starts connecting without waiting (but for the name server); the first call waits. For doing other work meanwhile.
 * After a failed client_open_finish the client is still to be closed; client_open does that itself.
 */
int client_open_begin(struct client **client, const struct client_config *config, char *why, size_t why_size);
int client_open_finish(struct client *client, char *why, size_t why_size);
/* Closes what calls are still open, too: their handles are dead then. NULL is accepted. */
void client_close(struct client *client);
/* Ends the connection and all calls on it, and leaves the client to be asked for its last numbers; then client_close(). */
void client_disconnect(struct client *client);
/* Bytes of the TCP streams so far, TLS included; of these, the TLS handshakes' (0 without TLS). */
void client_bytes(const struct client *client, uint64_t *received, uint64_t *sent, uint64_t *handshake_received,
                  uint64_t *handshake_sent);
/* Of its connection, or of the fastest of its link: conn_line_rate(). */
uint64_t client_line_rate(const struct client *client);
struct ring *client_ring(struct client *client);
struct link *client_link(struct client *client);         /* NULL: it has none */

/*
 * Opens a call. 0 or -errno (client_error() has the sentence). `metadata` may be NULL. The token, the instance and
 * `grpc-encoding: zstd` are added here.
 */
int client_call_open(struct client_call **call, struct client *client, const char *path,
                     const struct header *metadata, size_t metadata_count);

enum client_outcome {
	CLIENT_OK = 0,
	CLIENT_END = 1,                  /* the server ended the call; its status is in client_call_status */
	CLIENT_AGAIN = 2,                /* only with wait false: nothing there yet */
	CLIENT_INTERRUPTED = 3,          /* client_interrupt() was called */
};

/*
 * Queues a message, waiting while the call's queue is full. CLIENT_OK, CLIENT_END, CLIENT_INTERRUPTED. `level`: zstd's,
 * 0: as it is. What is queued goes out while any client function of this client waits. After CLIENT_END the status is
 * there, and messages that were not fetched are gone.
 */
int client_send(struct client_call *call, struct span message, int level);
/* No more messages from us. */
void client_send_end(struct client_call *call);
/*
 * The next message, borrowed until the next client_receive of this call. With `timeout_ns` 0 it does not wait
 * (CLIENT_AGAIN), with UINT64_MAX as long as it takes.
 */
int client_receive(struct client_call *call, struct span *message, uint64_t timeout_ns);
/*
 * Valid once CLIENT_END was seen. `text` borrowed until client_call_close. When the connection broke: UNAVAILABLE, with
 * the sentence of client_error(). Of a call that ended without a text it says that, for whom an answer was missing.
 */
enum grpc_status client_call_status(const struct client_call *call, const char **text);
/* Message bytes of the call on the wire so far, compressed where they are, with their prefixes. */
void client_call_bytes(const struct client_call *call, uint64_t *received, uint64_t *sent);
void client_call_close(struct client_call *call);        /* cancels it when it has not ended; NULL is accepted */

/*
 * For machines of their own that run on the client's ring (gateway/upload/): starts the caller's `call`, which is then
 * his alone, waiting for the connection before. 0 or -errno, with client_error().
 */
int client_call_start(struct client *client, struct call *call, const char *path, size_t message_bytes_max,
                      const struct call_events *events, void *owner);
/* One turn of the ring, which sleeps until something happens. CLIENT_OK or CLIENT_INTERRUPTED. */
int client_run(struct client *client);

/*
 * Unary: send one, receive one, wait for the status. CLIENT_OK: status OK, and `response` borrowed until `*call` is
 * closed by the caller. CLIENT_END: another status, or no response. CLIENT_INTERRUPTED. Or -errno as client_call_open;
 * only then `*call` is not set.
 */
int client_unary(struct client *client, const char *path, struct span request, struct client_call **call,
                 struct span *response);

/*
 * Waits until one of: a message or the end of any open call that was not fetched yet, one of `fds` readable or hung up
 * (-1: none, else each once; `fds_ready` says which; at most CLIENT_WAIT_FDS_MAX; not looked at after the return), the
 * end of the connection (told once when there are fds to wait for), the timeout. For loops that watch a pipe and a call.
 * Sleeps in between. CLIENT_OK, CLIENT_AGAIN (timeout), CLIENT_INTERRUPTED.
 */
#define CLIENT_WAIT_FDS_MAX 8
int client_wait(struct client *client, const int *fds, size_t fds_count, bool *fds_ready, uint64_t timeout_ns);

/*
 * Async-signal-safe, from any thread: makes the call that waits, or the next that would, return CLIENT_INTERRUPTED; once,
 * so that one can go on to cancel things in good order.
 */
void client_interrupt(struct client *client);
/* The last failure of the connection or of client_call_open; "" when there was none. */
const char *client_error(const struct client *client);
