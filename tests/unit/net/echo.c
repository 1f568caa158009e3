/* The echo server of the network tests. */
#include "tests/unit/net/echo.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "gateway/base/check.h"
#include "proto/http1.h"

#define MESSAGE_MAX (8u << 20)
#define PIECE_BYTES 65536

struct echo_call {
	struct echo *echo;
	struct call call;
	uint64_t received, to_send, sent;
	struct buffer kept;              /* Stream: what did not fit on the way back */
	bool keeping, ending;
};

static void note_hanging(struct echo *echo, int by)
{
	pthread_mutex_lock(&echo->mutex);
	echo->hanging += (uint64_t)by;
	pthread_cond_broadcast(&echo->changed);
	pthread_mutex_unlock(&echo->mutex);
}

static void note_exceeded(struct echo *echo)
{
	pthread_mutex_lock(&echo->mutex);
	echo->exceeded++;
	pthread_mutex_unlock(&echo->mutex);
}

static void ignore_message(struct call *call, struct span message)
{
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct echo_call *each = call->owner;

	call_fini(&each->call);
	buffer_fini(&each->kept);
	free(each);
}

/* ---- Unary ---- */

static void unary_on_message(struct call *call, struct span message)
{
	assert_int_equal(call_send(call, message, 0), CALL_SENT);
}

static void finish_ok(struct call *call)
{
	call_finish(call, GRPC_OK, NULL);
}

static const struct call_events unary_events = {
	.on_message = unary_on_message, .on_end = finish_ok, .on_closed = on_closed,
};

/* ---- Stream ---- */

static void stream_on_message(struct call *call, struct span message)
{
	struct echo_call *each = call->owner;

	if (call_send(call, message, 0) != CALL_FULL)
		return;
	buffer_clear(&each->kept);
	buffer_put(&each->kept, message.data, message.size);
	each->keeping = true;
	call_hold(call);
}

static void stream_on_writable(struct call *call)
{
	struct echo_call *each = call->owner;

	if (!each->keeping)
		return;
	if (call_send(call, buffer_span(&each->kept), 0) == CALL_FULL)
		return;
	each->keeping = false;
	call_release(call);
}

static const struct call_events stream_events = {
	.on_message = stream_on_message, .on_end = finish_ok, .on_writable = stream_on_writable, .on_closed = on_closed,
};

/* ---- Sink ---- */

static void sink_on_message(struct call *call, struct span message)
{
	struct echo_call *each = call->owner;

	each->received += message.size;
}

static void sink_on_end(struct call *call)
{
	struct echo_call *each = call->owner;

	call_send(call, span_make(&each->received, sizeof(each->received)), 0);
	call_finish(call, GRPC_OK, NULL);
}

static const struct call_events sink_events = {
	.on_message = sink_on_message, .on_end = sink_on_end, .on_closed = on_closed,
};

/* ---- Source ---- */

static void source_step(struct call *call)
{
	struct echo_call *each = call->owner;
	static uint8_t piece[PIECE_BYTES];

	while (each->sent < each->to_send) {
		size_t n = each->to_send - each->sent < PIECE_BYTES ? each->to_send - each->sent : PIECE_BYTES;

		for (size_t i = 0; i < n; i++)
			piece[i] = (uint8_t)((each->sent + i) * 7);
		if (call_send(call, span_make(piece, n), 0) != CALL_SENT)
			return;
		each->sent += n;
	}
	call_finish(call, GRPC_OK, NULL);
}

static void source_on_message(struct call *call, struct span message)
{
	struct echo_call *each = call->owner;

	CHECK(message.size == sizeof(each->to_send));
	memcpy(&each->to_send, message.data, sizeof(each->to_send));
	source_step(call);
}

static const struct call_events source_events = {
	.on_message = source_on_message, .on_writable = source_step, .on_closed = on_closed,
};

/* ---- Hold ---- */

static void hold_on_message(struct call *call, struct span message)
{
	struct echo_call *each = call->owner;

	each->received += message.size;
	if (each->received > message.size)
		return;
	each->echo->held = call;
	call_hold(call);
}

static const struct call_events hold_events = {
	.on_message = hold_on_message, .on_end = sink_on_end, .on_closed = on_closed,
};

static void release_on_message(struct call *call, struct span message)
{
	struct echo_call *each = call->owner;

	call_send(call, message, 0);
	call_finish(call, GRPC_OK, NULL);
	call_release(each->echo->held);
}

static const struct call_events release_events = { .on_message = release_on_message, .on_closed = on_closed };

/* ---- Hang ---- */

static void hang_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct echo_call *each = call->owner;

	if (status == GRPC_DEADLINE_EXCEEDED)
		note_exceeded(each->echo);
	note_hanging(each->echo, -1);
	on_closed(call, status, message);
}

static const struct call_events hang_events = { .on_message = ignore_message, .on_closed = hang_on_closed };

/* ---- Fetch ---- */

static void fetch_on_message(struct call *call, struct span message)
{
	call_finish(call, GRPC_OK, NULL);
}

static const struct call_events fetch_events = { .on_message = fetch_on_message, .on_closed = on_closed };

/* ---- starts ---- */

static struct echo_call *begin(void *context, const struct server_request *request, const struct call_events *events)
{
	struct echo_call *each = calloc(1, sizeof(*each));

	each->echo = context;
	each->kept = buffer_heap(MESSAGE_MAX);
	call_accept(&each->call, request->stream, request->head, MESSAGE_MAX, events, each);
	return each;
}

static int start_unary(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &unary_events);
	return 0;
}

static int start_stream(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &stream_events);
	return 0;
}

static int start_sink(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &sink_events);
	return 0;
}

static int start_source(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &source_events);
	return 0;
}

static int start_peer(void *context, const struct server_request *request, char *why, size_t why_size)
{
	const struct conn_peer *peer = conn_peer(request->conn);
	struct echo_call *each = begin(context, request, &unary_events);
	char text[640];

	snprintf(text, sizeof(text), "%s|%s|%d|%d", peer->certificate ? peer->organisation : "-",
	         peer->certificate ? peer->common_name : "-", (int)peer->uid, peer->loopback);
	call_send(&each->call, span_text(text), 0);
	call_finish(&each->call, GRPC_OK, NULL);
	return 0;
}

static int start_headers(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct echo_call *each = begin(context, request, &unary_events);
	struct span instance = { 0 };
	char text[640];

	for (size_t i = 0; i < request->head->headers_count; i++)
		if (span_is(request->head->headers[i].name, "sluice-instance"))
			instance = request->head->headers[i].value;
	snprintf(text, sizeof(text), "%.*s|%.*s", (int)request->head->authorization.size,
	         (const char *)request->head->authorization.data, (int)instance.size, (const char *)instance.data);
	call_send(&each->call, span_text(text), 0);
	call_finish(&each->call, GRPC_OK, NULL);
	return 0;
}

static int start_hold(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &hold_events);
	return 0;
}

static int start_release(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &release_events);
	return 0;
}

static int start_hang(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &hang_events);
	note_hanging(context, 1);
	return 0;
}

static int start_refuse(void *context, const struct server_request *request, char *why, size_t why_size)
{
	snprintf(why, why_size, "not you, 100 %% sure");
	return GRPC_PERMISSION_DENIED;
}

static int start_fetch(void *context, const struct server_request *request, char *why, size_t why_size)
{
	begin(context, request, &fetch_events);
	return 0;
}

static const struct server_method methods[] = {
	{ "/test.Echo/Unary", start_unary },   { "/test.Echo/Stream", start_stream }, { "/test.Echo/Sink", start_sink },
	{ "/test.Echo/Source", start_source }, { "/test.Echo/Peer", start_peer },     { "/test.Echo/Hang", start_hang },
	{ "/test.Echo/Refuse", start_refuse }, { "/test.Echo/Headers", start_headers }, { "/test.Echo/Hold", start_hold },
	{ "/test.Echo/Release", start_release }, { "/sluice.v1.Store/Fetch", start_fetch }, { 0 },
};

/* ---- what is no gRPC ---- */

struct web {
	struct ring *ring;
	struct stream *stream;           /* NULL: it has closed */
	struct op later;
	size_t bytes, unconsumed;
	size_t left;                     /* of a GET's answer */
};

static void web_answer(struct web *web)
{
	char text[24], length[24];
	struct header headers[2] = { { .name = span_text(":status"), .value = span_text("200") },
	                             { .name = span_text("content-length") } };

	snprintf(text, sizeof(text), "%zu bytes", web->bytes);
	snprintf(length, sizeof(length), "%zu", strlen(text));
	headers[1].value = span_text(length);
	stream_headers(web->stream, headers, 2, false);
	stream_write(web->stream, span_text(text));
	stream_end(web->stream);
}

static void web_give(struct web *web)
{
	static const uint8_t zeros[65536];
	size_t n, taken;

	do {
		n = web->left < sizeof(zeros) ? web->left : sizeof(zeros);
		taken = stream_write(web->stream, span_make(zeros, n));
		web->left -= taken;
	} while (web->left && taken == n);
	if (!web->left)
		stream_end(web->stream);
}

static void web_on_later(struct op *op, int32_t res)
{
	struct web *web = container_of(op, struct web, later);
	char length[24];
	struct header headers[2] = { { .name = span_text(":status"), .value = span_text("200") },
	                             { .name = span_text("content-length") } };

	if (!web->stream) {
		free(web);
		return;
	}
	if (web->left) {
		snprintf(length, sizeof(length), "%zu", web->left);
		headers[1].value = span_text(length);
		stream_headers(web->stream, headers, 2, false);
		web_give(web);
		return;
	}
	stream_consumed(web->stream, web->unconsumed);
	web->unconsumed = 0;
}

static void web_on_data(struct stream *stream, struct span data)
{
	struct web *web = stream->owner;

	web->bytes += data.size;
	web->unconsumed += data.size;
	if (web->unconsumed >= HTTP1_WINDOW_BYTES && !op_in_flight(&web->later))
		ring_timer(web->ring, &web->later, 0);
}

static void web_on_end(struct stream *stream)
{
	struct web *web = stream->owner;

	if (web->left)
		ring_timer(web->ring, &web->later, 10000000);
	else
		web_answer(web);
}

static void web_on_writable(struct stream *stream)
{
	web_give(stream->owner);
}

static void web_on_close(struct stream *stream, uint32_t code)
{
	struct web *web = stream->owner;

	web->stream = NULL;
	if (!op_in_flight(&web->later))
		free(web);
}

static const struct stream_events web_events = {
	.on_data = web_on_data, .on_end = web_on_end, .on_writable = web_on_writable, .on_close = web_on_close,
};

static void start_web(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head)
{
	struct web *web = calloc(1, sizeof(*web));
	char path[24];

	web->ring = ((struct echo *)context)->ring;
	web->stream = stream;
	web->later.fn = web_on_later;
	if (span_is(head->method, "GET")) {
		snprintf(path, sizeof(path), "%.*s", (int)head->path.size, (const char *)head->path.data);
		web->left = strtoul(path + 1, NULL, 10);
	}
	stream->events = &web_events;
	stream->owner = web;
}

/* ---- the thread ---- */

static void on_drained(void *context)
{
	struct echo *echo = context;

	server_status(echo->server, &echo->status);
	pthread_mutex_lock(&echo->mutex);
	echo->drained = true;
	pthread_cond_broadcast(&echo->changed);
	pthread_mutex_unlock(&echo->mutex);
}

static void do_drain(struct post *post)
{
	struct echo *echo = container_of(post, struct echo, post_drain);

	server_drain(echo->server, echo->drain_timeout_ns);
}

static void do_stop(struct post *post)
{
	struct echo *echo = container_of(post, struct echo, post_stop);

	echo->stop = true;
}

static void do_adopt(struct post *post)
{
	struct echo *echo = container_of(post, struct echo, post_adopt);

	CHECK(server_adopt(echo->server, echo->adopt_fd, NULL) == 0);
}

/* The old keys may go at once: present connections do not need them. */
static void do_tls(struct post *post)
{
	struct echo *echo = container_of(post, struct echo, post_tls);

	server_set_tls(echo->server, echo->next_tls);
	tls_context_destroy(echo->tls);
	echo->tls = echo->next_tls;
}

static void do_status(struct post *post)
{
	struct echo *echo = container_of(post, struct echo, post_status);

	pthread_mutex_lock(&echo->mutex);
	server_status(echo->server, &echo->status);
	echo->status_given++;
	pthread_cond_broadcast(&echo->changed);
	pthread_mutex_unlock(&echo->mutex);
}

static bool listen_here(struct echo *echo)
{
	const char *text = echo->config.address ? echo->config.address : "grpc://127.0.0.1:0";
	struct server_config config = {
		.methods = methods, .web = echo->config.web ? start_web : NULL, .context = echo, .connections_max = echo->config.connections_max,
		.gathered_bytes_max = echo->config.gathered_bytes_max,
		.handshake_timeout_ns = echo->config.handshake_timeout_ns,
		.idle_timeout_ns = echo->config.idle_timeout_ns,
		.stall_timeout_ns = echo->config.stall_timeout_ns, .on_drained = on_drained,
	};
	struct address address, own = { .local = true };
	char bound[ADDRESS_TEXT_MAX];

	if (server_create(&echo->server, echo->ring, &config) < 0)
		return false;
	snprintf(own.host, sizeof(own.host), "%s", echo->config.own_path ? echo->config.own_path : "");
	if (echo->config.own_path &&
	    server_listen_own(echo->server, &own, bound, sizeof(bound), echo->why, sizeof(echo->why)) < 0)
		return false;
	if (echo->config.tls && tls_context_create(&echo->tls, echo->config.tls, echo->why, sizeof(echo->why)) < 0)
		return false;
	return address_parse(&address, text, echo->why, sizeof(echo->why)) &&
	       server_listen(echo->server, &address, echo->tls, echo->bound, sizeof(echo->bound), echo->why,
	                     sizeof(echo->why)) == 0;
}

static void *run(void *context)
{
	struct echo *echo = context;
	struct ring_config config = { .engine = echo->config.engine, .sockets_max = 4096 };

	CHECK(ring_create(&echo->ring, &config) == 0);
	pthread_mutex_lock(&echo->mutex);
	echo->listening = listen_here(echo);
	echo->started = true;
	pthread_cond_broadcast(&echo->changed);
	pthread_mutex_unlock(&echo->mutex);
	while (!echo->stop)
		ring_run(echo->ring, UINT64_MAX);
	server_destroy(echo->server);
	ring_destroy(echo->ring);
	tls_context_destroy(echo->tls);
	return NULL;
}

bool echo_start(struct echo *echo, const struct echo_config *config)
{
	*echo = (struct echo){ .config = *config };
	pthread_mutex_init(&echo->mutex, NULL);
	pthread_cond_init(&echo->changed, NULL);
	echo->post_drain.fn = do_drain;
	echo->post_status.fn = do_status;
	echo->post_stop.fn = do_stop;
	echo->post_adopt.fn = do_adopt;
	echo->post_tls.fn = do_tls;
	CHECK(pthread_create(&echo->thread, NULL, run, echo) == 0);
	pthread_mutex_lock(&echo->mutex);
	while (!echo->started)
		pthread_cond_wait(&echo->changed, &echo->mutex);
	pthread_mutex_unlock(&echo->mutex);
	return echo->listening;
}

void echo_drain(struct echo *echo, uint64_t timeout_ns)
{
	echo->drain_timeout_ns = timeout_ns;
	ring_post(echo->ring, &echo->post_drain);
}

void echo_wait_drained(struct echo *echo)
{
	pthread_mutex_lock(&echo->mutex);
	while (!echo->drained)
		pthread_cond_wait(&echo->changed, &echo->mutex);
	pthread_mutex_unlock(&echo->mutex);
}

void echo_stop(struct echo *echo)
{
	if (!echo->drained)
		echo_drain(echo, 0);
	echo_wait_drained(echo);
	ring_post(echo->ring, &echo->post_stop);
	pthread_join(echo->thread, NULL);
	pthread_mutex_destroy(&echo->mutex);
	pthread_cond_destroy(&echo->changed);
}

struct server_status echo_status(struct echo *echo)
{
	struct server_status status;
	uint64_t wanted = ++echo->status_wanted;

	ring_post(echo->ring, &echo->post_status);
	pthread_mutex_lock(&echo->mutex);
	while (echo->status_given < wanted)
		pthread_cond_wait(&echo->changed, &echo->mutex);
	status = echo->status;
	pthread_mutex_unlock(&echo->mutex);
	return status;
}

struct server_status echo_until(struct echo *echo, bool (*condition)(const struct server_status *status, uint64_t value),
                                uint64_t value)
{
	struct timespec begin, now;
	struct server_status status;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		status = echo_status(echo);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - begin.tv_sec > 20)
			fail_msg("the server never came to the state that was waited for");
	} while (!condition(&status, value));
	return status;
}

void echo_adopt(struct echo *echo, int fd)
{
	echo->adopt_fd = fd;
	ring_post(echo->ring, &echo->post_adopt);
}

void echo_set_tls(struct echo *echo, const struct tls_config *config)
{
	char why[256] = "";

	if (tls_context_create(&echo->next_tls, config, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	ring_post(echo->ring, &echo->post_tls);
}

uint64_t echo_hanging(struct echo *echo)
{
	uint64_t hanging;

	pthread_mutex_lock(&echo->mutex);
	hanging = echo->hanging;
	pthread_mutex_unlock(&echo->mutex);
	return hanging;
}

uint64_t echo_exceeded(struct echo *echo)
{
	uint64_t exceeded;

	pthread_mutex_lock(&echo->mutex);
	exceeded = echo->exceeded;
	pthread_mutex_unlock(&echo->mutex);
	return exceeded;
}

void echo_until_none_hangs(struct echo *echo)
{
	pthread_mutex_lock(&echo->mutex);
	while (echo->hanging)
		pthread_cond_wait(&echo->changed, &echo->mutex);
	pthread_mutex_unlock(&echo->mutex);
}
