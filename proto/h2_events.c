/* What nghttp2 tells about a connection, turned into events of its streams, and what a peer may not do. */
#include "proto/h2_private.h"

#include <assert.h>
#include <stdlib.h>

/*
 * Resets by the peer that are more than its completed streams (CVE-2023-44487), for each stream that it may have at a time: who gives
 * up all that it has, and all that it begins behind that, is no attacker yet.
 */
#define RESETS_EXCESS_PER_STREAM  2

/* See H2_CONTROL_CREDIT. */
#define CONTROL_CREDIT_MAX        65536
#define CONTROL_CREDIT_PER_DATA   4

#define BLOCK_FIELDS_FIRST        24

/* ---- faults ---- */

bool h2_failed(const struct h2 *h2)
{
	return h2->fault.scope == H2_FAULT_CONNECTION;
}

void h2_fail(struct h2 *h2, uint32_t code, const char *reason)
{
	if (h2_failed(h2))
		return;
	h2->fault = (struct h2_fault){ .scope = H2_FAULT_CONNECTION, .code = code, .reason = reason };
	nghttp2_session_terminate_session(h2->session, code);
}

/* What every receiving callback returns: after a fault nghttp2 must stop reading at once. */
static int h2_verdict(const struct h2 *h2)
{
	return h2_failed(h2) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void charge_control(struct h2 *h2)
{
	if (--h2->control_credit < 0)
		h2_fail(h2, NGHTTP2_ENHANCE_YOUR_CALM, "flood of control frames");
}

static void charge_reset(struct h2 *h2)
{
	if (++h2->resets > h2->completed + RESETS_EXCESS_PER_STREAM * (uint64_t)h2->config.streams_max && h2->config.server)
		h2_fail(h2, NGHTTP2_ENHANCE_YOUR_CALM, "rapid reset");
}

/* ---- header blocks ---- */

void h2_block_clear(struct h2_block *block)
{
	for (size_t i = 0; i < 2 * block->count; i++)
		nghttp2_rcbuf_decref(block->held[i]);
	/* A long block is seldom followed by another. */
	if (block->capacity > H2_PSEUDO_MAX + STREAM_HEADERS_MAX)
		h2_block_fini(block);
	block->count = 0;
	block->pseudo_count = 0;
	block->bytes = 0;
	block->too_many = false;
}

void h2_block_fini(struct h2_block *block)
{
	free(block->fields);
	free(block->held);
	block->fields = NULL;
	block->held = NULL;
	block->capacity = 0;
}

static bool block_grow(struct h2_block *block)
{
	size_t capacity = block->capacity ? 2 * block->capacity : BLOCK_FIELDS_FIRST;
	struct header *fields = realloc(block->fields, capacity * sizeof(*fields));
	nghttp2_rcbuf **held;

	if (fields)
		block->fields = fields;
	held = realloc(block->held, 2 * capacity * sizeof(nghttp2_rcbuf *));
	if (held)
		block->held = held;
	if (fields && held)
		block->capacity = capacity;
	return fields && held;
}

static struct span rcbuf_span(nghttp2_rcbuf *rcbuf)
{
	nghttp2_vec bytes = nghttp2_rcbuf_get_buf(rcbuf);

	return span_make(bytes.base, bytes.len);
}

static void block_add(struct h2_block *block, size_t headers_max, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
                      bool sensitive)
{
	struct header field = { .name = rcbuf_span(name), .value = rcbuf_span(value), .sensitive = sensitive };
	bool pseudo = field.name.size && field.name.data[0] == ':';

	block->bytes += field.name.size + field.value.size + 32;
	if (pseudo ? block->pseudo_count == H2_PSEUDO_MAX : block->count - block->pseudo_count == headers_max)
		block->too_many = true;
	if (!block->too_many && block->count == block->capacity && !block_grow(block))
		block->too_many = true;
	if (block->too_many)
		return;
	nghttp2_rcbuf_incref(name);
	nghttp2_rcbuf_incref(value);
	block->held[2 * block->count] = name;
	block->held[2 * block->count + 1] = value;
	block->fields[block->count++] = field;
	block->pseudo_count += pseudo;           /* nghttp2 has seen to it that these come first */
}

static struct span block_find(const struct h2_block *block, const char *name)
{
	for (size_t i = 0; i < block->count; i++)
		if (span_is(block->fields[i].name, name))
			return block->fields[i].value;
	return span_make(NULL, 0);
}

/* ---- events ---- */

static bool listens(const struct h2_stream *stream)
{
	return stream->attached && !stream->reset;
}

static void deliver_end(struct h2_stream *stream)
{
	stream->peer_ended = true;
	if (listens(stream) && stream->base.events->on_end)
		stream->base.events->on_end(&stream->base);
}

static void refuse(struct h2_stream *stream, uint32_t code)
{
	stream->base.transport->reset(&stream->base, code);
}

static void deliver_request(struct h2_stream *stream, bool ended)
{
	struct h2 *h2 = stream->h2;
	const struct h2_block *block = &h2->block;
	struct h2_request request = {
		.method = block_find(block, ":method"),
		.path = block_find(block, ":path"),
		.authority = block_find(block, ":authority"),
		.scheme = block_find(block, ":scheme"),
		.headers = block->fields + block->pseudo_count,
		.headers_count = block->count - block->pseudo_count,
		.ended = ended,
	};

	if (request.authority.size == 0)
		request.authority = block_find(block, "host");
	if (h2->draining || h2->config.events->on_stream(h2->config.owner, &stream->base, &request) < 0) {
		refuse(stream, NGHTTP2_REFUSED_STREAM);
		return;
	}
	assert(stream->base.events);
	stream->attached = true;
}

/* A response block has a status, a trailing one has none; interim (1xx) responses mean nothing to gRPC. */
static void deliver_block(struct h2_stream *stream)
{
	const struct stream_events *events = stream->base.events;
	const struct h2_block *block = &stream->h2->block;
	struct span status = block_find(block, ":status");

	if (!listens(stream) || (status.size && status.data[0] == '1'))
		return;
	if (status.size) {
		if (events->on_headers)
			events->on_headers(&stream->base, block->fields, block->count);
	} else if (events->on_trailers) {
		events->on_trailers(&stream->base, block->fields, block->count);
	}
}

static void on_headers_received(struct h2 *h2, struct h2_stream *stream, const nghttp2_frame *frame)
{
	bool ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	if (h2->block.too_many)
		refuse(stream, NGHTTP2_ENHANCE_YOUR_CALM);
	else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		deliver_request(stream, ended);
	else
		deliver_block(stream);
	h2_block_clear(&h2->block);
	if (ended)
		deliver_end(stream);
}

static void on_goaway_received(struct h2 *h2, uint32_t code)
{
	h2->peer_goaway = true;
	if (h2->config.events->on_goaway)
		h2->config.events->on_goaway(h2->config.owner, code);
}

/* ---- nghttp2's callbacks ---- */

static int callback_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *user_data)
{
	struct h2 *h2 = user_data;

	switch (head->type) {
	case NGHTTP2_DATA:
		if (head->length == 0 && !(head->flags & NGHTTP2_FLAG_END_STREAM))
			charge_control(h2);
		break;
	case NGHTTP2_HEADERS:
	case NGHTTP2_RST_STREAM:                 /* counted where it is known what it ends */
		break;
	case NGHTTP2_PUSH_PROMISE:               /* forbidden by our SETTINGS, which a hostile server need not answer */
		h2_fail(h2, NGHTTP2_PROTOCOL_ERROR, "server push");
		break;
	default:
		charge_control(h2);
	}
	return h2_verdict(h2);
}

static int callback_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct h2 *h2 = user_data;
	struct h2_stream *stream;

	h2_block_clear(&h2->block);
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return h2_verdict(h2);
	stream = h2_stream_create(h2);
	if (!stream)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	stream->id = frame->hd.stream_id;
	nghttp2_session_set_stream_user_data(session, stream->id, stream);
	return h2_verdict(h2);
}

static int callback_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                           nghttp2_rcbuf *value, uint8_t flags, void *user_data)
{
	struct h2 *h2 = user_data;

	block_add(&h2->block, h2->config.headers_max, name, value, flags & NGHTTP2_NV_FLAG_NO_INDEX);
	if (h2->block.bytes > h2->config.header_list_bytes_max)
		h2_fail(h2, NGHTTP2_ENHANCE_YOUR_CALM, "header list too large");
	return h2_verdict(h2);
}

static int callback_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size,
                         void *user_data)
{
	struct h2 *h2 = user_data;
	struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);

	if (!stream || !listens(stream) || !stream->base.events->on_data) {
		nghttp2_session_consume(session, id, size);
		return h2_verdict(h2);
	}
	stream->unconsumed += size;
	stream->base.events->on_data(&stream->base, span_make(data, size));
	return h2_verdict(h2);
}

static int callback_frame_received(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct h2 *h2 = user_data;
	struct h2_stream *stream = NULL;

	if (frame->hd.stream_id)
		stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		if (stream)
			on_headers_received(h2, stream, frame);
		break;
	case NGHTTP2_DATA:
		if (stream && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
			deliver_end(stream);
		break;
	case NGHTTP2_RST_STREAM:
		charge_reset(h2);
		break;
	case NGHTTP2_GOAWAY:
		on_goaway_received(h2, frame->goaway.error_code);
		break;
	default:
		break;
	}
	return h2_verdict(h2);
}

/*
 * nghttp2 refuses a frame. It answers with RST_STREAM or GOAWAY; which of them is known when that is sent. Making us
 * reset streams is as good for an attacker as resetting them himself (CVE-2025-8671), so it costs the same.
 */
static int callback_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user_data)
{
	struct h2 *h2 = user_data;

	/*
	 * grpc-go's client says goodbye with the last stream number there is, which nghttp2 takes for a server's word. It
	 * leaves: nothing is wrong with it.
	 */
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code == NGHTTP2_NO_ERROR) {
		h2->peer_left = true;
		on_goaway_received(h2, NGHTTP2_NO_ERROR);
		return h2_verdict(h2);
	}
	if (!h2_failed(h2))
		h2->fault = (struct h2_fault){
			.scope = H2_FAULT_STREAM,
			.code = error == NGHTTP2_ERR_REFUSED_STREAM ? NGHTTP2_REFUSED_STREAM : NGHTTP2_PROTOCOL_ERROR,
			.reason = nghttp2_strerror(error),
		};
	if (error == NGHTTP2_ERR_REFUSED_STREAM)
		charge_control(h2);              /* over the stream limit: clumsy, not hostile, but not free */
	else
		charge_reset(h2);
	return h2_verdict(h2);
}

static int callback_stream_closed(nghttp2_session *session, int32_t id, uint32_t code, void *user_data)
{
	struct h2 *h2 = user_data;
	struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);

	if (code == NGHTTP2_NO_ERROR)
		h2->completed++;
	if (stream) {
		nghttp2_session_set_stream_user_data(session, id, NULL);
		h2_stream_close(stream, code);
	}
	return 0;
}

/* A server that has said all tells the client to stop sending (RFC 9113 8.1); gRPC servers do so too. */
static void on_local_end(struct h2 *h2, struct h2_stream *stream)
{
	stream->local_ended = true;
	if (h2->config.server && !stream->peer_ended && !stream->reset)
		refuse(stream, NGHTTP2_NO_ERROR);
}

static int callback_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct h2 *h2 = user_data;
	struct h2_stream *stream;

	if (frame->hd.type == NGHTTP2_DATA && h2->control_credit < CONTROL_CREDIT_MAX)
		h2->control_credit += CONTROL_CREDIT_PER_DATA;
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code && !h2_failed(h2) && !h2->peer_left)
		h2->fault = (struct h2_fault){
			.scope = H2_FAULT_CONNECTION,
			.code = frame->goaway.error_code,
			.reason = h2->fault.reason ? h2->fault.reason : nghttp2_http2_strerror(frame->goaway.error_code),
		};
	if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
		stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
		if (stream)
			on_local_end(h2, stream);
	}
	return 0;
}

/* Headers that could not be sent (the stream lives on without them): the peer must not wait for them. */
static int callback_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user_data)
{
	struct h2_stream *stream;

	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (stream && frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		refuse(stream, NGHTTP2_INTERNAL_ERROR);
	return 0;
}

static ssize_t callback_frame_size(nghttp2_session *session, uint8_t type, int32_t id, int32_t connection_window,
                                   int32_t stream_window, uint32_t peer_frame_bytes_max, void *user_data)
{
	const struct h2 *h2 = user_data;

	return h2->config.frame_bytes_max;       /* nghttp2 lowers it to the windows and the peer's own limit */
}

nghttp2_session_callbacks *h2_callbacks_create(void)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks))
		return NULL;
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, callback_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, callback_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(callbacks, callback_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, callback_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, callback_frame_received);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, callback_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, callback_stream_closed);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, callback_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, callback_frame_not_sent);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, h2_frame_begin);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, callback_frame_size);
	return callbacks;
}
