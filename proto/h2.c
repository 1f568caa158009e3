/* An HTTP/2 connection without I/O: its life, what goes in and what comes out. */
#include "proto/h2_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define STREAMS_MAX_DEFAULT       256
#define STREAM_WINDOW_DEFAULT     (1u << 20)
#define CONNECTION_WINDOW_DEFAULT (8u << 20)
#define FRAME_BYTES_DEFAULT       16384u
#define FRAME_BYTES_LIMIT         ((1u << 24) - 1)
#define OUT_QUEUE_DEFAULT         (256u << 10)
#define HEADER_LIST_DEFAULT       (64u << 10)
#define WINDOW_LIMIT              ((1u << 31) - 1)
#define ACKS_QUEUED_MAX           H2_CONTROL_CREDIT
#define CONTINUATIONS_MAX         16

void h2_announce(struct h2 *h2)
{
	if (h2->entered || h2->announced || h2->closed || !nghttp2_session_want_write(h2->session))
		return;
	h2->announced = true;
	if (h2->config.events->on_output)
		h2->config.events->on_output(h2->config.owner);
}

/* ---- life cycle ---- */

static int config_fill(struct h2_config *config)
{
	if (!config->streams_max)
		config->streams_max = STREAMS_MAX_DEFAULT;
	if (!config->stream_window_bytes)
		config->stream_window_bytes = STREAM_WINDOW_DEFAULT;
	if (!config->connection_window_bytes)
		config->connection_window_bytes = CONNECTION_WINDOW_DEFAULT;
	if (!config->frame_bytes_max)
		config->frame_bytes_max = FRAME_BYTES_DEFAULT;
	if (!config->out_queue_bytes)
		config->out_queue_bytes = OUT_QUEUE_DEFAULT;
	if (!config->header_list_bytes_max)
		config->header_list_bytes_max = HEADER_LIST_DEFAULT;
	if (!config->headers_max)
		config->headers_max = STREAM_HEADERS_MAX;
	if (config->headers_max > H2_HEADERS_LIMIT)
		return -EINVAL;
	if (!config->events || (config->server && !config->events->on_stream))
		return -EINVAL;
	if (config->stream_window_bytes > WINDOW_LIMIT || config->connection_window_bytes > WINDOW_LIMIT)
		return -EINVAL;
	if (config->frame_bytes_max < FRAME_BYTES_DEFAULT || config->frame_bytes_max > FRAME_BYTES_LIMIT)
		return -EINVAL;
	return 0;
}

static nghttp2_option *make_options(const struct h2_config *config)
{
	nghttp2_option *option;

	if (nghttp2_option_new(&option))
		return NULL;
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_max_send_header_block_length(option, 2 * (size_t)config->header_list_bytes_max);
	nghttp2_option_set_max_outbound_ack(option, ACKS_QUEUED_MAX);
	nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX + config->header_list_bytes_max / FRAME_BYTES_DEFAULT);
	/* nghttp2 would count resets against a clock; ours are counted against completed streams. */
	nghttp2_option_set_stream_reset_rate_limit(option, UINT32_MAX, UINT32_MAX);
	return option;
}

static int session_start(struct h2 *h2)
{
	const struct h2_config *config = &h2->config;
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, config->stream_window_bytes },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, config->streams_max },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, config->frame_bytes_max },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, config->header_list_bytes_max },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },     /* last: a client's word only */
	};
	size_t count = sizeof(settings) / sizeof(settings[0]) - config->server;

	if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, count))
		return -ENOMEM;
	if (nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
	                                          (int32_t)config->connection_window_bytes))
		return -ENOMEM;
	return 0;
}

static int session_create(struct h2 *h2)
{
	nghttp2_session_callbacks *callbacks = h2_callbacks_create();
	nghttp2_option *option = make_options(&h2->config);
	int r = -ENOMEM;

	if (callbacks && option) {
		if (h2->config.server)
			r = nghttp2_session_server_new2(&h2->session, callbacks, h2, option);
		else
			r = nghttp2_session_client_new2(&h2->session, callbacks, h2, option);
	}
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_option_del(option);
	return r ? -ENOMEM : session_start(h2);
}

int h2_create(struct h2 **out, const struct h2_config *config)
{
	struct h2 *h2 = calloc(1, sizeof(*h2));
	int r;

	if (!h2)
		return -ENOMEM;
	h2->config = *config;
	h2->control_credit = H2_CONTROL_CREDIT;
	r = config_fill(&h2->config);
	if (r == 0)
		r = session_create(h2);
	if (r < 0) {
		nghttp2_session_del(h2->session);
		free(h2);
		return r;
	}
	*out = h2;
	return 0;
}

/* 0 for a stream whose both ends were done and only the closing frame was still on its way. */
static void close_all(struct h2 *h2, uint32_t code)
{
	assert(!h2->entered);
	h2->entered = true;
	h2->closed = true;
	while (h2->streams) {
		struct h2_stream *stream = h2->streams;
		bool done = stream->local_ended && (stream->peer_ended || h2->config.server);

		h2_stream_close(stream, done ? NGHTTP2_NO_ERROR : code);
	}
	h2->entered = false;
}

void h2_destroy(struct h2 *h2)
{
	if (!h2)
		return;
	close_all(h2, NGHTTP2_INTERNAL_ERROR);
	h2_block_clear(&h2->block);
	h2_block_fini(&h2->block);
	h2_frame_fini(&h2->frame);
	nghttp2_session_del(h2->session);
	free(h2);
}

void h2_carrier_closed(struct h2 *h2)
{
	close_all(h2, H2_CARRIER_CLOSED);
}

/* ---- operations ---- */

/* nghttp2 gave up with a code of its own: make it a fault with a GOAWAY. */
static void fail_from_library(struct h2 *h2, int error)
{
	switch (error) {
	case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
		h2_fail(h2, NGHTTP2_PROTOCOL_ERROR, "bad connection preface");
		break;
	case NGHTTP2_ERR_FLOODED:
	case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
		h2_fail(h2, NGHTTP2_ENHANCE_YOUR_CALM, nghttp2_strerror(error));
		break;
	default:
		h2_fail(h2, NGHTTP2_INTERNAL_ERROR, nghttp2_strerror(error));
	}
}

int h2_feed(struct h2 *h2, struct span data)
{
	ssize_t taken;

	assert(!h2->entered);
	if (h2->closed || h2_failed(h2))
		return -EPROTO;
	if (data.size == 0)
		return 0;
	h2->received_bytes += data.size;
	h2->entered = true;
	taken = nghttp2_session_mem_recv(h2->session, data.data, data.size);
	if (taken < 0)
		fail_from_library(h2, (int)taken);
	else
		assert((size_t)taken == data.size);
	h2->entered = false;
	return h2_failed(h2) ? -EPROTO : 0;
}

/* What nghttp2 has to send, which may be the head of a frame that goes out in pieces. A negative code of nghttp2's: none. */
static int next_frame(struct h2 *h2, struct span *out)
{
	const uint8_t *data = NULL;
	ssize_t size = 0;

	do {
		h2_streams_deliver_writable(h2);
		size = nghttp2_session_mem_send(h2->session, &data);
	} while (size == 0 && !h2->frame.head_due && h2->writable_first);
	if (size < 0)
		return (int)size;
	*out = size ? span_make(data, (size_t)size) : h2_frame_output(h2);
	return 0;
}

struct span h2_output(struct h2 *h2)
{
	struct span out;
	int r = 0;

	assert(!h2->entered);
	if (h2->closed)
		return span_make(NULL, 0);
	h2->entered = true;
	h2->announced = false;
	out = h2_frame_output(h2);
	if (h2->frame.lost)
		r = NGHTTP2_ERR_NOMEM;
	else if (out.size == 0)
		r = next_frame(h2, &out);
	if (r == 0 && out.size == 0 && h2->control_credit < H2_CONTROL_CREDIT)
		h2->control_credit = H2_CONTROL_CREDIT;
	h2->entered = false;
	if (r < 0) {
		/* Out of memory in the middle of a frame: there is no way to say so on the wire. */
		h2->fault = (struct h2_fault){ H2_FAULT_CONNECTION, NGHTTP2_INTERNAL_ERROR, nghttp2_strerror(r) };
		h2_carrier_closed(h2);
		return span_make(NULL, 0);
	}
	return out;
}

size_t h2_output_left(const struct h2 *h2)
{
	return h2->frame.left;
}

bool h2_alive(const struct h2 *h2)
{
	return !h2->closed && (h2->frame.head_due || h2->frame.left || nghttp2_session_want_read(h2->session) ||
	                       nghttp2_session_want_write(h2->session));
}

void h2_drain(struct h2 *h2)
{
	if (h2->draining || h2->closed || h2_failed(h2))
		return;
	h2->draining = true;
	nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h2->session),
	                      NGHTTP2_NO_ERROR, NULL, 0);
	h2_announce(h2);
}

const struct h2_fault *h2_fault(const struct h2 *h2)
{
	return &h2->fault;
}

size_t h2_streams_count(const struct h2 *h2)
{
	return h2->streams_count;
}

void h2_each_stream(struct h2 *h2, void (*fn)(struct stream *stream))
{
	assert(!h2->entered);
	for (struct h2_stream *stream = h2->streams, *next; stream; stream = next) {
		next = stream->next;
		if (stream->attached && !stream->reset)
			fn(&stream->base);
	}
}

uint64_t h2_copied_bytes(const struct h2 *h2)
{
	return h2->copied_bytes;
}

uint64_t h2_received_bytes(const struct h2 *h2)
{
	return h2->received_bytes;
}

static int may_open(const struct h2 *h2, const struct h2_request *request)
{
	uint32_t peer_streams_max;

	if (h2->config.server || !h2_fields_fit(h2, request->headers, request->headers_count))
		return -EINVAL;
	if (h2->closed || h2->draining || h2->peer_goaway || h2_failed(h2))
		return -EPIPE;
	peer_streams_max = nghttp2_session_get_remote_settings(h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	if (h2->streams_count >= peer_streams_max || h2->streams_count >= h2->config.streams_max)
		return -EAGAIN;
	return 0;
}

static int32_t submit_request(struct h2_stream *stream, const struct h2_request *request, bool end)
{
	nghttp2_data_provider provider = h2_stream_provider(stream);
	nghttp2_nv few[H2_FIELDS_FEW], *fields = h2_fields(few, 4 + request->headers_count);
	size_t count = 0;
	int32_t id;

	if (!fields)
		return NGHTTP2_ERR_NOMEM;
	fields[count++] = h2_field(span_text(":method"), request->method, false);
	fields[count++] = h2_field(span_text(":scheme"), request->scheme, false);
	fields[count++] = h2_field(span_text(":path"), request->path, false);
	if (request->authority.size)
		fields[count++] = h2_field(span_text(":authority"), request->authority, false);
	for (size_t i = 0; i < request->headers_count; i++) {
		const struct header *header = &request->headers[i];

		fields[count++] = h2_field(header->name, header->value, header->sensitive);
	}
	id = nghttp2_submit_request(stream->h2->session, NULL, fields, count, end ? NULL : &provider, stream);
	h2_fields_free(fields, few);
	return id;
}

int h2_open(struct h2 *h2, struct stream **out, const struct h2_request *request, bool end,
            const struct stream_events *events, void *owner)
{
	struct h2_stream *stream;
	int r = may_open(h2, request);

	if (r < 0)
		return r;
	stream = h2_stream_create(h2);
	if (!stream)
		return -ENOMEM;
	stream->id = submit_request(stream, request, end);
	if (stream->id < 0) {
		r = stream->id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPIPE;
		h2_stream_close(stream, NGHTTP2_INTERNAL_ERROR);
		return r;
	}
	stream->base.events = events;
	stream->base.owner = owner;
	stream->attached = true;
	stream->headers_done = true;
	stream->ending = end;
	*out = &stream->base;
	h2_announce(h2);
	return 0;
}
