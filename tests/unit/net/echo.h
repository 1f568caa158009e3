/*
 * echo: a gateway's network side for tests: a thread with its own ring, a server with a few methods, on real sockets.
 *
 *	/test.Echo/Unary    one message back
 *	/test.Echo/Stream   each message back, in order, holding while the way back is full
 *	/test.Echo/Sink     counts bytes; answers with their number at the end
 *	/test.Echo/Source   first message: how many bytes to send (u64); sends them in 64 KiB messages, byte i is i*7 & 255
 *	/test.Echo/Peer     tenant, subject, uid and loopback as the server saw them: "O|CN|uid|loopback"
 *	/test.Echo/Headers  "authorization|sluice-instance" as they arrived
 *	/test.Echo/Hold     takes one message, then holds until some other call to Release; then as Sink
 *	/test.Echo/Release  releases it; one message back
 *	/test.Echo/Hang     never answers; ends when the client goes
 *	/test.Echo/Refuse   start() refuses: PERMISSION_DENIED "not you, 100 % sure"
 *	/sluice.v1.Store/Fetch      ends well at the first message, without an answer
 *
 * With `web`, what is no gRPC is answered with how many bytes its body had, which are taken a window at a time, a turn later; a
 * GET of /BYTES gets so many, a hundredth of a second later.
 */
#pragma once

#include <pthread.h>
#include "gateway/net/server.h"

struct echo_config {
	enum ring_engine engine;
	const char *address;             /* NULL: grpc://127.0.0.1:0 */
	const char *own_path;            /* of a socket for the program's own helpers; NULL: none */
	const struct tls_config *tls;    /* NULL: none */
	bool web;
	uint32_t connections_max;
	uint64_t gathered_bytes_max;
	uint64_t handshake_timeout_ns, idle_timeout_ns, stall_timeout_ns;
};

struct echo {
	struct echo_config config;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool started, listening, drained, stop;
	char bound[ADDRESS_TEXT_MAX], why[256];
	struct ring *ring;
	struct server *server;
	struct tls_context *tls;
	struct server_status status;     /* as of the last echo_status */
	uint64_t status_wanted, status_given;
	uint64_t hanging;                /* calls to Hang that are open */
	uint64_t exceeded;               /* calls to Hang whose owner was told DEADLINE_EXCEEDED */
	struct call *held;
	uint64_t drain_timeout_ns;
	int adopt_fd;
	struct tls_context *next_tls;
	struct post post_drain, post_status, post_stop, post_adopt, post_tls;
};

/* False: it does not listen; `why` says why. */
bool echo_start(struct echo *echo, const struct echo_config *config);
/* Asks for a drain; echo_wait_drained() waits for its end. */
void echo_drain(struct echo *echo, uint64_t timeout_ns);
void echo_wait_drained(struct echo *echo);
/* Drains at once, if that was not done, and joins the thread. */
void echo_stop(struct echo *echo);
struct server_status echo_status(struct echo *echo);
/* Waits until a condition on the status holds; fails the test after 20 s. */
struct server_status echo_until(struct echo *echo, bool (*condition)(const struct server_status *status, uint64_t value),
                                uint64_t value);
/* One more connection: an end of a pair. */
void echo_adopt(struct echo *echo, int fd);
/* New connections get these keys. */
void echo_set_tls(struct echo *echo, const struct tls_config *config);
uint64_t echo_hanging(struct echo *echo);
uint64_t echo_exceeded(struct echo *echo);
/* Waits until no call to Hang is open. */
void echo_until_none_hangs(struct echo *echo);
