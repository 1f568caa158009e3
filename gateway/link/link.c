/* A client's link: its life, and what its owner hears. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/link/link_private.h"

static void link_on_step(struct op *op, int32_t res);

static struct link *link_of(struct link_mux *mux)
{
	return container_of(mux, struct link, mux);
}

void link_wake(struct link *link)
{
	if (!op_in_flight(&link->step))
		ring_timer(link->ring, &link->step, 0);
}

/* ---- states ---- */

static void link_enter(struct link *link, enum link_state state)
{
	CHECK(state > link->state || (link->state == LINK_DOWN && state == LINK_UP));
	link->state = state;
}

void link_note(struct link *link, enum conn_end end, int error, const char *reason)
{
	link->end = end;
	link->error = error;
	if (reason != link->reason)
		snprintf(link->reason, sizeof(link->reason), "%s", reason);
}

static void close_conns(struct link *link, const char *reason)
{
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		link_path_detach(&link->conns[i].path);
		if (link->conns[i].conn)
			conn_close(link->conns[i].conn, reason);
	}
}

void link_lose(struct link *link, enum conn_end end, int error, const char *format, ...)
{
	char reason[LINK_REASON_MAX];
	va_list arguments;

	if (link->state >= LINK_LOST)
		return;
	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	link_note(link, end, error, reason);
	log_event(LOG_DEBUG, "link lost", LOG_TEXT("gateway", link->name), LOG_TEXT("reason", reason));
	link_enter(link, LINK_LOST);
	close_conns(link, "the link is lost");
	link_mux_close_channels(&link->mux);
	if (link->config.events->on_lost)
		link->config.events->on_lost(link, link->reason);
}

void link_came_up(struct link *link)
{
	if (link->state == LINK_DOWN)
		link->resumes++;
	link_enter(link, LINK_UP);
	log_event(LOG_DEBUG, "link up", LOG_TEXT("gateway", link->name), LOG_U64("resumes", link->resumes));
	if (link->config.events->on_up)
		link->config.events->on_up(link);
}

void link_path_lost(struct link *link)
{
	if (link->state >= LINK_LOST)
		return;
	link->paths_lost++;
	link_wake(link);
	if (link->state != LINK_UP || link_mux_paths(&link->mux))
		return;
	link_enter(link, LINK_DOWN);
	link->down_since_ns = ring_now_ns(link->ring);
	log_event(LOG_DEBUG, "link down", LOG_TEXT("gateway", link->name));
	if (link->config.events->on_down)
		link->config.events->on_down(link, link->reason);
}

/* ---- events of the mux ---- */

static int mux_on_channel(struct link_mux *mux, int fd)
{
	(void)mux, (void)fd;
	return -EPROTO;                          /* never: a gateway opens none */
}

static void mux_on_trouble(struct link_mux *mux, enum link_trouble trouble)
{
	struct link *link = link_of(mux);

	switch (trouble) {
	case LINK_TROUBLE_MEMORY:
		link_lose(link, CONN_END_NONE, -ENOMEM, "the link to %s is lost: no memory", link->name);
		break;
	case LINK_TROUBLE_OVER:
		link_lose(link, CONN_END_NONE, 0, "the link to %s is lost: the gateway ended it", link->name);
		break;
	default:
		link_lose(link, CONN_END_NONE, -EPROTO, "the link to %s is lost: the other side broke its rules", link->name);
		break;
	}
}

static void mux_on_dead(struct link_mux *mux, struct link_path *path)
{
	struct link_conn *at = container_of(path, struct link_conn, path);

	link_note(link_of(mux), CONN_END_STALL, -ETIMEDOUT, "no answer any more");
	link_path_detach(path);
	if (at->conn)
		conn_close(at->conn, "no answer any more");
	if (at->attached) {
		at->attached = false;
		link_path_lost(link_of(mux));
	}
}

/* Traffic is worth another conn, for every so many bytes. */
static bool widen(struct link *link)
{
	const struct link_core_counters *counters = &link->mux.core.counters;

	if (link->state != LINK_UP || link->wanted >= link->config.conns ||
	    counters->bytes_sent + counters->bytes_received < (uint64_t)link->wanted * LINK_WIDEN_BYTES)
		return false;
	link->wanted++;
	return true;
}

static void mux_on_crowded(struct link_mux *mux)
{
	if (widen(link_of(mux)))
		link_wake(link_of(mux));
}

/* Connected, and nobody says welcome. */
static void close_unwelcomed(struct link *link, uint64_t now_ns)
{
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		struct link_conn *at = &link->conns[i];

		if (at->conn && at->ready && !at->path.greeted && now_ns - at->ready_ns >= link->mux.silence_ns)
			conn_close(at->conn, "the gateway does not answer");
	}
}

static void mux_on_tick(struct link_mux *mux, uint64_t now_ns)
{
	struct link *link = link_of(mux);
	char last[LINK_REASON_MAX / 2];

	/* What comes in crowds the other side. */
	if (mux->core.counters.bytes_received > mux->core.counters.bytes_sent && widen(link))
		link_wake(link);
	close_unwelcomed(link, now_ns);
	if (link->state >= LINK_LOST || link->state == LINK_UP || now_ns - link->down_since_ns < link->timeout_ns)
		return;
	snprintf(last, sizeof(last), "%.*s", (int)sizeof(last) - 1, link->reason);
	link_lose(link, link->end, link->error, "the link to %s is lost: no connection for %llu s%s%s", link->name,
	          (unsigned long long)((link->timeout_ns + 999999999u) / 1000000000u), last[0] ? ": " : "", last);
}

static void mux_on_idle(struct link_mux *mux)
{
	(void)mux;
}

static void mux_on_gone(struct link_mux *mux)
{
	struct link *link = link_of(mux);

	link->mux_gone = true;
	link_wake(link);
}

static const struct link_mux_events link_mux_events = {
	.on_channel = mux_on_channel, .on_trouble = mux_on_trouble, .on_dead = mux_on_dead, .on_tick = mux_on_tick,
	.on_idle = mux_on_idle, .on_crowded = mux_on_crowded, .on_gone = mux_on_gone,
};

/* ---- the step, and the end ---- */

static void link_free(struct link *link)
{
	if (link->authorization)
		explicit_bzero(link->authorization, strlen(link->authorization));
	free(link->authorization);
	free(link->server_name);
	free(link);
}

static void link_begin_end(struct link *link)
{
	link->ending = true;
	link->farewell_ns = ring_now_ns(link->ring) + LINK_FAREWELL_NS;
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		link_conn_farewell(&link->conns[i]);
	ring_cancel(link->ring, &link->retry);
	ring_cancel(link->ring, &link->resolve);
	link_mux_close(&link->mux);
}

/* All conns have said what they had to. */
static bool conns_ended(struct link *link)
{
	bool late = ring_now_ns(link->ring) >= link->farewell_ns, all = true;

	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		all &= link_conn_ended(&link->conns[i], late);
	if (!all && !op_in_flight(&link->step))
		ring_timer(link->ring, &link->step, LINK_FAREWELL_STEP_NS);
	return all;
}

static void link_end(struct link *link)
{
	if (!link->ending)
		link_begin_end(link);
	if (!conns_ended(link))
		return;
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++)
		if (link->conns[i].conn)
			return;
	if (!link->mux_gone || op_in_flight(&link->retry) || op_in_flight(&link->resolve) || op_in_flight(&link->step))
		return;
	link->config.events->on_closed(link);
	link_free(link);
}

static void link_on_step(struct op *op, int32_t res)
{
	struct link *link = container_of(op, struct link, step);

	(void)res;
	if (link->state == LINK_CLOSING)
		link_end(link);
	else
		link_connect(link);
}

void link_close(struct link *link)
{
	if (!link || link->state == LINK_CLOSING)
		return;
	link_enter(link, LINK_CLOSING);
	link_wake(link);
}

/* ---- the beginning ---- */

static bool copy_texts(struct link *link, const struct link_config *config)
{
	if (config->token && asprintf(&link->authorization, "Bearer %s", config->token) < 0) {
		link->authorization = NULL;
		return false;
	}
	link->server_name = config->server_name ? strdup(config->server_name) : NULL;
	return !config->server_name || link->server_name;
}

static void set_names(struct link *link)
{
	const struct link_config *config = &link->config;
	const char *host = config->address.local ? "localhost" :
	                   config->server_name ? config->server_name : config->address.host;
	bool six = strchr(host, ':') != NULL;

	snprintf(link->authority, sizeof(link->authority), "%s%s%s", six ? "[" : "", host, six ? "]" : "");
	address_format(&config->address, link->name);
}

int link_open(struct link **out, struct ring *ring, const struct link_config *config, char *why, size_t why_size)
{
	struct link_mux_config mux = { .ring = ring, .events = &link_mux_events, .silence_ns = config->silence_ns };
	struct link *link;

	if (config->conns > LINK_PATHS_MAX || (config->address.tls && !config->tls)) {
		snprintf(why, why_size, config->address.tls && !config->tls ? "a grpcs:// address needs TLS" :
		         "a link has at most %d connections", LINK_PATHS_MAX);
		return ERR_RAISE(-EINVAL);
	}
	link = calloc(1, sizeof(*link));
	if (!link || !copy_texts(link, config)) {
		snprintf(why, why_size, "no memory for a link");
		if (link)
			link_free(link);
		return ERR_RAISE(-ENOMEM);
	}
	link->ring = ring;
	link->config = *config;
	link->config.conns = config->conns ? config->conns : 1;
	link->config.timeout_ns = link->timeout_ns = config->timeout_ns ? config->timeout_ns : LINK_TIMEOUT_NS;
	link->wanted = config->conns_at_once ? link->config.conns : 1;
	link->down_since_ns = ring_now_ns(ring);
	link->step.fn = link_on_step;
	link->retry.fn = link_on_retry;
	link->resolve.fn = link_on_resolved;
	set_names(link);
	ring_random(ring, link->id, sizeof(link->id));
	mux.tick_ns = link_mux_tick_ns(link->timeout_ns);
	link_mux_init(&link->mux, &mux);
	link_wake(link);
	*out = link;
	return 0;
}

/* ---- what is asked ---- */

int link_channel_open(struct link *link)
{
	if (link->state >= LINK_LOST)
		return ERR_RAISE(-EPIPE);
	return link_mux_open_channel(&link->mux);
}

void *link_owner(const struct link *link)
{
	return link->config.owner;
}

bool link_is_up(const struct link *link)
{
	return link->state == LINK_UP;
}

bool link_is_lost(const struct link *link)
{
	return link->state == LINK_LOST;
}

const char *link_reason(const struct link *link)
{
	return link->reason;
}

enum conn_end link_how_ended(const struct link *link)
{
	return link->end;
}

int link_conn_error(const struct link *link)
{
	return link->error;
}

void link_bytes(const struct link *link, uint64_t *received, uint64_t *sent, uint64_t *handshake_received,
                uint64_t *handshake_sent)
{
	*received = link->received;
	*sent = link->sent;
	*handshake_received = link->handshake_received;
	*handshake_sent = link->handshake_sent;
	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		uint64_t in, out;

		if (!link->conns[i].conn)
			continue;
		conn_bytes(link->conns[i].conn, &in, &out);
		*received += in;
		*sent += out;
		conn_handshake_bytes(link->conns[i].conn, &in, &out);
		*handshake_received += in;
		*handshake_sent += out;
	}
}

uint64_t link_line_rate(const struct link *link)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < LINK_PATHS_MAX; i++) {
		uint64_t rate = link->conns[i].conn ? conn_line_rate(link->conns[i].conn) : 0;

		if (rate > most)
			most = rate;
	}
	return most;
}

void link_status(const struct link *link, struct link_status *status)
{
	const struct link_core_counters *counters = &link->mux.core.counters;

	*status = (struct link_status){
		.paths = link_mux_paths(&link->mux), .channels = link->mux.channels.count,
		.channels_total = link->mux.channels.total, .paths_total = link->paths_total, .paths_lost = link->paths_lost,
		.resumes = link->resumes, .frames_sent = counters->frames_sent, .frames_received = counters->frames_received,
		.bytes_sent = counters->bytes_sent, .bytes_received = counters->bytes_received,
		.bytes_resent = counters->bytes_resent, .bytes_duplicate = counters->bytes_duplicate,
	};
}
