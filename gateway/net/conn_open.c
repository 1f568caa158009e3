/* How a conn begins: accepted, adopted, or connected to one address after the other. */
#include "gateway/net/conn_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/net/socket.h"

#define SECOND_NS            1000000000ull

#define HANDSHAKE_TIMEOUT_NS (10 * SECOND_NS)
#define IDLE_TIMEOUT_NS      (3600 * SECOND_NS)
#define STALL_TIMEOUT_NS     (120 * SECOND_NS)

static void conn_on_connect(struct op *op, int32_t res);

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

static int conn_create(struct conn **out, struct ring *ring, struct tls_context *tls, const char *server_name,
                       const struct conn_config *config)
{
	static atomic_uint_fast64_t ids;
	struct conn *conn = calloc(1, sizeof(*conn));
	struct h2_config h2 = config->h2;
	int r;

	if (!conn)
		return ERR_RAISE(-ENOMEM);
	*conn = (struct conn){
		.ring = ring, .state = CONN_CONNECTING, .handle = -1, .events = config->events, .owner = config->owner,
		.undecided = h2.server && config->http1,
		.stream_events = h2.events, .stream_owner = h2.owner, .server = h2.server, .handshaken = !tls,
		.handshake_timeout_ns = or_default(config->handshake_timeout_ns, HANDSHAKE_TIMEOUT_NS),
		.idle_timeout_ns = or_default(config->idle_timeout_ns, IDLE_TIMEOUT_NS),
		.stall_timeout_ns = or_default(config->stall_timeout_ns, STALL_TIMEOUT_NS),
		.watch = frame_watch_make(h2.server), .peer.uid = UINT32_MAX,
		.connect.fn = conn_on_connect, .recv.fn = conn_on_recv, .send.fn = conn_on_send,
		.timer.fn = conn_on_timer, .step.fn = conn_on_step, .close.fn = conn_on_close,
	};
	conn->id = atomic_fetch_add(&ids, 1) + 1;
	conn->deadline_ns = ring_now_ns(ring) + conn->handshake_timeout_ns;
	conn_out_init(conn);
	h2.events = &conn_h2_events;
	h2.owner = conn;
	h2.pieces = true;
	r = h2_create(&conn->h2, &h2);
	if (r == 0 && tls)
		r = tls_create(&conn->tls, tls, server_name);
	if (r < 0) {
		conn_destroy(conn);
		return ERR_RAISE(r);
	}
	*out = conn;
	return 0;
}

static void conn_on_peer(struct op *op, int32_t res)
{
	struct conn *conn = container_of(op, struct conn, connect);

	if (res == 0)
		address_describe((const struct sockaddr *)&op->u.address, conn->peer.address, sizeof(conn->peer.address));
	if (conn->state >= CONN_CLOSING) {
		conn_join(conn);
		return;
	}
	CHECK(conn->state == CONN_CONNECTING);
	conn_begin(conn);
}

/* A direct descriptor tells in the loop's next turn. Nothing is read before: whatever is logged says who it was. */
static void conn_ask_peer(struct conn *conn)
{
	conn->connect.fn = conn_on_peer;
	ring_peer(conn->ring, &conn->connect, conn->handle);
	ring_timer(conn->ring, &conn->timer, conn->handshake_timeout_ns);
}

int conn_accept(struct conn **out, struct ring *ring, int handle, const struct conn_peer *peer,
                struct tls_context *tls, const struct conn_config *config)
{
	struct conn *conn;
	int r;

	CHECK(config->h2.server);
	r = conn_create(&conn, ring, tls, NULL, config);
	if (r < 0)
		return ERR_RAISE(r);
	conn->handle = handle;
	conn->peer = *peer;
	if (ring_handle_fd(ring, handle) < 0)
		conn_ask_peer(conn);
	else
		conn_begin(conn);
	*out = conn;
	return 0;
}

int conn_adopt(struct conn **out, struct ring *ring, int fd, const struct conn_config *config)
{
	struct conn *conn;
	int r = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);

	if (r < 0)
		return ERR_RAISE(-errno);
	r = conn_create(&conn, ring, NULL, NULL, config);
	if (r < 0)
		return ERR_RAISE(r);
	conn->handle = fd;
	if (config->peer)
		conn->peer = *config->peer;
	else
		socket_peer(fd, &conn->peer);
	conn_begin(conn);
	*out = conn;
	return 0;
}

/* ---- connecting ---- */

/* So that one that drops what it gets does not use up the time of all. */
static uint64_t share_of_time(const struct conn *conn)
{
	uint64_t now = ring_now_ns(conn->ring), left = conn->deadline_ns > now ? conn->deadline_ns - now : 0;

	return now + left / (uint64_t)(conn->candidates->count - conn->candidates->next + 1);
}

/* One that there can be no socket for is passed over: a name may lead to IPv6, too, and the machine have none. */
static int conn_try_next(struct conn *conn)
{
	struct conn_candidates *candidates = conn->candidates;
	const struct address_resolved *at;
	const struct sockaddr *sockaddr;
	int fd;

	do {
		at = &candidates->resolved[candidates->next++];
		sockaddr = (const struct sockaddr *)&at->sockaddr;
		fd = socket_create(sockaddr->sa_family);
	} while (fd < 0 && candidates->next < candidates->count);
	if (fd < 0)
		return ERR_RAISE(fd);
	conn->handle = fd;
	conn->peer.loopback = address_is_loopback(sockaddr);
	address_describe(sockaddr, conn->peer.address, sizeof(conn->peer.address));
	candidates->until_ns = share_of_time(conn);
	ring_connect(conn->ring, &conn->connect, fd, sockaddr, at->size);
	conn_retime(conn);
	return 0;
}

static void conn_on_connect(struct op *op, int32_t res)
{
	struct conn *conn = container_of(op, struct conn, connect);
	int r = res;

	if (conn->state >= CONN_CLOSING) {
		conn_join(conn);
		return;
	}
	CHECK(conn->state == CONN_CONNECTING);
	if (res >= 0) {
		if (conn->peer.local)
			socket_peer(conn->handle, &conn->peer);
		conn_begin(conn);
		return;
	}
	ring_close(conn->ring, NULL, conn->handle);
	conn->handle = -1;
	if (conn->candidates->next < conn->candidates->count)
		r = conn_try_next(conn);
	if (r < 0)
		conn_end_now(conn, CONN_END_CONNECT, r, strerror(-r));
}

/* How many there are to try. */
static int conn_resolve(struct conn_candidates *candidates, const struct address *address, const struct conn_config *config,
                        char *why, size_t why_size)
{
	if (!config->resolved_count)
		return address_resolve_all(address, false, candidates->resolved, why, why_size);
	CHECK(config->resolved_count <= ADDRESS_RESOLVED_MAX);
	memcpy(candidates->resolved, config->resolved, (size_t)config->resolved_count * sizeof(*config->resolved));
	return config->resolved_count;
}

int conn_connect(struct conn **out, struct ring *ring, const struct address *address, struct tls_context *tls,
                 const struct conn_config *config, char *why, size_t why_size)
{
	const char *name = config->server_name ? config->server_name : address->host;
	struct conn *conn;
	int r;

	CHECK(!config->h2.server);
	r = conn_create(&conn, ring, tls, name, config);
	if (r < 0) {
		snprintf(why, why_size, "no memory for a connection");
		return ERR_RAISE(r);
	}
	conn->peer.local = address->local;
	conn->candidates = calloc(1, sizeof(*conn->candidates));
	r = conn->candidates ? conn_resolve(conn->candidates, address, config, why, why_size) : -ENOMEM;
	if (r > 0) {
		conn->candidates->count = r;
		r = conn_try_next(conn);
		if (r < 0)
			snprintf(why, why_size, "cannot make a socket: %s", strerror(-r));
	}
	if (r < 0) {
		conn_destroy(conn);
		return ERR_RAISE(r);
	}
	*out = conn;
	return 0;
}
