/* The client's connection: opening it, waiting on it, and saying in one sentence why it failed. */
#include "gateway/client/client_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/client/conn_fault.h"

#define CONNECT_TIMEOUT_NS      10000000000ull
#define MESSAGE_BYTES_MAX       (5u << 20)
#define STREAM_WINDOW_BYTES     (4u << 20)
#define CONNECTION_WINDOW_BYTES (16u << 20)
/* A turn for the send that was in flight, one for ours; more when it took several. A full socket is not waited for. */
#define FLUSH_TURNS             4

/* ---- the connection ---- */

static void client_describe(struct client *client, const struct conn_fault *fault)
{
	conn_fault_describe(fault, client->adopted ? NULL : &client->address, client->connect_timeout_ns, client->why,
	                    sizeof(client->why));
}

void client_note_end(struct client *client)
{
	struct conn_fault fault;

	if (client->error || !client->conn || conn_end(client->conn) == CONN_END_NONE)
		return;
	fault = conn_fault_of(client->conn);
	client->error = fault.error ? fault.error : -ECONNRESET;
	client_describe(client, &fault);
}

/* A link that was never up failed as a connection does, and is told as one. */
static void client_note_link_lost(struct client *client)
{
	const struct link *link = client->link;
	struct conn_fault fault = { link_how_ended(link), link_conn_error(link), link_reason(link) };

	if (client->error)
		return;
	client->error = fault.error ? fault.error : -ECONNRESET;
	if (!client->link_up && fault.end != CONN_END_NONE)
		client_describe(client, &fault);
	else
		snprintf(client->why, sizeof(client->why), "%s", fault.reason);
}

static void client_on_ready(struct conn *conn)
{
	struct client *client = conn_owner(conn);

	client->ready = true;
}

static void client_on_closed(struct conn *conn, const char *reason)
{
	struct client *client = conn_owner(conn);

	(void)reason;
	client_note_end(client);
	if (!client->link) {
		conn_bytes(conn, &client->received, &client->sent);
		conn_handshake_bytes(conn, &client->handshake_received, &client->handshake_sent);
	}
	client->conn = NULL;
}

static const struct conn_events client_conn_events = { .on_ready = client_on_ready, .on_closed = client_on_closed };
static const struct h2_events client_h2_events = { 0 };

/* ---- the link ---- */

static void client_on_link_up(struct link *link)
{
	((struct client *)link_owner(link))->link_up = true;
}

static void client_on_link_lost(struct link *link, const char *reason)
{
	(void)reason;
	client_note_link_lost(link_owner(link));
}

static void client_on_link_closed(struct link *link)
{
	struct client *client = link_owner(link);

	link_bytes(link, &client->received, &client->sent, &client->handshake_received, &client->handshake_sent);
	client->link = NULL;
}

static const struct link_events client_link_events = {
	.on_up = client_on_link_up, .on_lost = client_on_link_lost, .on_closed = client_on_link_closed,
};

/* The connection is a channel then. */
static int client_connect_link(struct client *client, const struct client_config *config, struct conn_config *conn, char *why,
                               size_t why_size)
{
	struct link_config link = {
		.address = client->address, .tls = client->tls, .server_name = config->server_name, .token = config->token,
		.conns = config->link_conns, .timeout_ns = config->link_timeout_ns, .connect_timeout_ns = client->connect_timeout_ns,
		.events = &client_link_events, .owner = client,
	};
	int r = link_open(&client->link, client->ring, &link, why, why_size), fd;

	if (r < 0)
		return ERR_RAISE(r);
	fd = link_channel_open(client->link);
	/* The link has time-outs of its own; these are behind them. */
	conn->handshake_timeout_ns = 2 * client->connect_timeout_ns;
	conn->stall_timeout_ns = UINT64_MAX / 4;
	r = fd < 0 ? fd : conn_adopt(&client->conn, client->ring, fd, conn);
	if (r < 0)
		snprintf(why, why_size, "cannot make a channel: %s", strerror(-r));
	if (r < 0 && fd >= 0)
		close(fd);
	return r;
}

static int client_connect(struct client *client, const struct client_config *config, char *why, size_t why_size)
{
	struct conn_config conn = {
		.h2 = {
			.events = &client_h2_events, .owner = client,
			.stream_window_bytes = STREAM_WINDOW_BYTES, .connection_window_bytes = CONNECTION_WINDOW_BYTES,
			.frame_bytes_max = CONN_FRAME_BYTES,
		},
		.events = &client_conn_events,
		.owner = client,
		.server_name = config->server_name,
		.handshake_timeout_ns = client->connect_timeout_ns,
		.idle_timeout_ns = UINT64_MAX / 4,               /* the gateway's business */
	};
	struct tls_config tls = {
		.certificate_path = config->certificate_path, .key_path = config->key_path, .ca_path = config->ca_path,
	};
	int r;

	if (client->adopted) {
		r = conn_adopt(&client->conn, client->ring, config->fd, &conn);
		if (r < 0)
			snprintf(why, why_size, "cannot use the connection that was handed over: %s", strerror(-r));
		return r;
	}
	if (client->address.tls) {
		r = tls_context_create(&client->tls, &tls, why, why_size);
		if (r < 0)
			return ERR_RAISE(r);
	}
	if (config->link_conns)
		return client_connect_link(client, config, &conn, why, why_size);
	return conn_connect(&client->conn, client->ring, &client->address, client->tls, &conn, why, why_size);
}

/* ---- interrupts ---- */

static void client_on_interrupt(struct op *op, int32_t res)
{
	(void)op, (void)res;             /* it only ends the wait; client->interrupted says the rest */
}

/* A byte through a socket ends a wait of either engine, also when the signal came between the look and the wait. */
static int client_watch_interrupts(struct client *client)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, client->interrupt_fds) < 0)
		return ERR_RAISE(-errno);
	client->interrupt.fn = client_on_interrupt;
	ring_recv(client->ring, &client->interrupt, client->interrupt_fds[0]);
	return 0;
}

void client_interrupt(struct client *client)
{
	int saved = errno;

	client->interrupted = 1;
	(void)!send(client->interrupt_fds[1], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	errno = saved;
}

static bool take_interrupt(struct client *client)
{
	bool was = client->interrupted;

	client->interrupted = 0;
	return was;
}

/* ---- waiting ---- */

uint64_t client_deadline(const struct client *client, uint64_t timeout_ns)
{
	uint64_t now = ring_now_ns(client->ring);

	return timeout_ns >= UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

bool client_turn(struct client *client, uint64_t deadline_ns)
{
	uint64_t now = ring_now_ns(client->ring);

	if (take_interrupt(client))
		return true;
	ring_run(client->ring, deadline_ns == UINT64_MAX ? UINT64_MAX : deadline_ns > now ? deadline_ns - now : 0);
	client_note_end(client);
	client_calls_free(client);
	return take_interrupt(client);
}

void client_flush(struct client *client)
{
	for (unsigned turn = 0; turn < FLUSH_TURNS && client->conn && conn_flush(client->conn); turn++)
		ring_run(client->ring, 0);
	client_note_end(client);
	client_calls_free(client);
}

/* ---- life ---- */

static char *bearer(const char *token)
{
	char *text = NULL;

	if (token && asprintf(&text, "Bearer %s", token) < 0)
		return NULL;
	return text;
}

static void set_authority(struct client *client, const char *server_name)
{
	const char *host = server_name ? server_name : client->address.host;
	bool six = strchr(host, ':') != NULL;

	if (client->adopted || client->address.local)
		host = "localhost";
	snprintf(client->authority, sizeof(client->authority), "%s%s%s", six ? "[" : "", host, six ? "]" : "");
}

static int client_create(struct client **out, const struct client_config *config, char *why, size_t why_size)
{
	/* Few sockets, few buffers: a command's memory is counted too. */
	struct ring_config ring = { .engine = (enum ring_engine)config->engine, .receive_buffers = 8, .sockets_max = 16 };
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client) {
		snprintf(why, why_size, "no memory");
		return ERR_RAISE(-ENOMEM);
	}
	client->interrupt_fds[0] = client->interrupt_fds[1] = -1;
	client_watches_init(client);
	list_init(&client->calls);
	list_init(&client->dead);
	client->address = config->address;
	client->adopted = config->fd >= 0;
	client->message_bytes_max = config->message_bytes_max ? config->message_bytes_max : MESSAGE_BYTES_MAX;
	client->connect_timeout_ns = config->connect_timeout_ns ? config->connect_timeout_ns : CONNECT_TIMEOUT_NS;
	client->authorization = bearer(config->token);
	client->instance = config->instance ? strdup(config->instance) : NULL;
	set_authority(client, config->server_name);
	r = ring_create(&client->ring, &ring);
	if (r < 0)
		snprintf(why, why_size, "cannot make an event loop: %s (`sluice doctor` says more)", strerror(-r));
	else if ((config->token && !client->authorization) || (config->instance && !client->instance))
		r = -ENOMEM;
	else
		r = client_watch_interrupts(client);
	if (r < 0) {
		if (!why[0])
			snprintf(why, why_size, "cannot make a client: %s", strerror(-r));
		client_close(client);
		return ERR_RAISE(r);
	}
	*out = client;
	return 0;
}

int client_open_begin(struct client **out, const struct client_config *config, char *why, size_t why_size)
{
	struct client *client = NULL;
	int r;

	why[0] = '\0';
	r = client_create(&client, config, why, why_size);
	if (r < 0)
		return ERR_RAISE(r);
	r = client_connect(client, config, why, why_size);
	if (r < 0) {
		client_close(client);
		return ERR_RAISE(r);
	}
	*out = client;
	return 0;
}

int client_open_finish(struct client *client, char *why, size_t why_size)
{
	while (!client->error && !client->ready)
		if (client_turn(client, UINT64_MAX)) {
			snprintf(why, why_size, "interrupted");
			return ERR_RAISE(-EINTR);
		}
	if (client->error) {
		snprintf(why, why_size, "%s", client->why);
		return ERR_RAISE(client->error);
	}
	return 0;
}

int client_open(struct client **out, const struct client_config *config, char *why, size_t why_size)
{
	struct client *client;
	int r = client_open_begin(&client, config, why, why_size);

	if (r < 0)
		return ERR_RAISE(r);
	r = client_open_finish(client, why, why_size);
	if (r < 0) {
		client_close(client);
		return ERR_RAISE(r);
	}
	*out = client;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* The token must not stay behind in freed memory. */
static void free_secret(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

void client_disconnect(struct client *client)
{
	client_calls_abandon(client);
	client_flush(client);            /* what is on its way is counted only when it is out */
	if (client->conn)
		conn_close(client->conn, "closed here");
	link_close(client->link);
	while (client->conn || client->link)
		ring_run(client->ring, UINT64_MAX);
}

void client_close(struct client *client)
{
	if (!client)
		return;
	if (op_in_flight(&client->interrupt))
		ring_cancel(client->ring, &client->interrupt);
	client_disconnect(client);
	while (op_in_flight(&client->interrupt))
		ring_run(client->ring, UINT64_MAX);
	CHECK(list_empty(&client->calls));
	client_calls_free(client);
	ring_destroy(client->ring);
	tls_context_destroy(client->tls);
	close_fd(client->interrupt_fds[0]);
	close_fd(client->interrupt_fds[1]);
	free_secret(client->authorization);
	free(client->instance);
	free(client);
}

/* ---- what is asked ---- */

void client_bytes(const struct client *client, uint64_t *received, uint64_t *sent, uint64_t *handshake_received,
                  uint64_t *handshake_sent)
{
	*received = client->received;
	*sent = client->sent;
	*handshake_received = client->handshake_received;
	*handshake_sent = client->handshake_sent;
	if (client->link)
		link_bytes(client->link, received, sent, handshake_received, handshake_sent);
	if (!client->conn || client->link)
		return;
	conn_bytes(client->conn, received, sent);
	conn_handshake_bytes(client->conn, handshake_received, handshake_sent);
}

uint64_t client_line_rate(const struct client *client)
{
	if (client->link)
		return link_line_rate(client->link);
	return client->conn ? conn_line_rate(client->conn) : 0;
}

struct ring *client_ring(struct client *client)
{
	return client->ring;
}

struct link *client_link(struct client *client)
{
	return client->link;
}

const char *client_error(const struct client *client)
{
	return client->why;
}
