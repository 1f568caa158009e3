/* A stream of an h2: the consumer's operations, the out-queue and what nghttp2 takes from it. */
#include "proto/h2_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* A shorter payload is copied behind its head: two spans cost more than the copy. */
#define PIECE_LEAST_BYTES 2048

struct h2_stream *h2_stream_create(struct h2 *h2)
{
	struct h2_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->base.transport = &h2_stream_transport;
	stream->h2 = h2;
	stream->out = queue_make(h2->config.out_queue_bytes);
	stream->next = h2->streams;
	if (h2->streams)
		h2->streams->previous = stream;
	h2->streams = stream;
	h2->streams_count++;
	return stream;
}

static void stream_unlink(struct h2_stream *stream)
{
	struct h2 *h2 = stream->h2;

	if (stream->previous)
		stream->previous->next = stream->next;
	else
		h2->streams = stream->next;
	if (stream->next)
		stream->next->previous = stream->previous;
	assert(h2->streams_count > 0);
	h2->streams_count--;
}

static void writable_push(struct h2_stream *stream)
{
	struct h2 *h2 = stream->h2;

	assert(!stream->writable_queued);
	stream->writable_queued = true;
	stream->writable_next = NULL;
	stream->writable_previous = h2->writable_last;
	if (h2->writable_last)
		h2->writable_last->writable_next = stream;
	else
		h2->writable_first = stream;
	h2->writable_last = stream;
}

static void writable_remove(struct h2_stream *stream)
{
	struct h2 *h2 = stream->h2;

	if (!stream->writable_queued)
		return;
	stream->writable_queued = false;
	if (stream->writable_previous)
		stream->writable_previous->writable_next = stream->writable_next;
	else
		h2->writable_first = stream->writable_next;
	if (stream->writable_next)
		stream->writable_next->writable_previous = stream->writable_previous;
	else
		h2->writable_last = stream->writable_previous;
}

static void return_loan(struct h2_stream *stream)
{
	struct loan *loan = stream->loan;

	stream->loan = NULL;
	if (loan)
		loan->returned(loan);
}

void h2_streams_deliver_writable(struct h2 *h2)
{
	struct h2_stream *stream;

	while ((stream = h2->writable_first)) {
		writable_remove(stream);
		if (stream->loan && stream->loan->left == 0)
			return_loan(stream);
		if (!stream->reset && stream->base.events->on_writable)
			stream->base.events->on_writable(&stream->base);
	}
}

/* What the consumer will never ask for again: the connection's window must not lose it. */
static void give_back(struct h2_stream *stream)
{
	if (stream->unconsumed && !stream->h2->closed)
		nghttp2_session_consume_connection(stream->h2->session, stream->unconsumed);
	stream->unconsumed = 0;
}

static void drop_output(struct h2_stream *stream)
{
	h2_frame_rescue(stream);
	queue_fini(&stream->out);
	free(stream->trailers);
	stream->trailers = NULL;
	stream->write_short = false;
	writable_remove(stream);
}

void h2_stream_close(struct h2_stream *stream, uint32_t code)
{
	stream->reset = true;                    /* calls from inside on_close do nothing */
	give_back(stream);
	drop_output(stream);
	return_loan(stream);
	stream_unlink(stream);
	if (stream->attached && stream->base.events->on_close)
		stream->base.events->on_close(&stream->base, code);
	free(stream);
}

/* Wakes a data provider that had nothing to give. */
static void resume(struct h2_stream *stream)
{
	if (!stream->deferred)
		return;
	stream->deferred = false;
	nghttp2_session_resume_data(stream->h2->session, stream->id);
}

/* False once we gave it up or the carrier is gone: then nothing is queued any more. */
static bool stream_is_open(const struct h2_stream *stream)
{
	return !stream->reset && !stream->h2->closed;
}

nghttp2_nv h2_field(struct span name, struct span value, bool sensitive)
{
	/* nghttp2 copies both; its struct merely lacks const. */
	return (nghttp2_nv){
		.name = (uint8_t *)(uintptr_t)name.data,
		.namelen = name.size,
		.value = (uint8_t *)(uintptr_t)value.data,
		.valuelen = value.size,
		.flags = sensitive ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
	};
}

nghttp2_nv *h2_fields(nghttp2_nv few[static H2_FIELDS_FEW], size_t count)
{
	return count <= H2_FIELDS_FEW ? few : malloc(count * sizeof(*few));
}

void h2_fields_free(nghttp2_nv *fields, const nghttp2_nv *few)
{
	if (fields != few)
		free(fields);
}

bool h2_fields_fit(const struct h2 *h2, const struct header *headers, size_t count)
{
	size_t bytes = 0;

	if (count > h2->config.headers_max)
		return false;
	for (size_t i = 0; i < count; i++)
		bytes += headers[i].name.size + headers[i].value.size + 32;
	return bytes <= h2->config.header_list_bytes_max;
}

static int operation_headers(struct stream *base, const struct header *headers, size_t count, bool end)
{
	struct h2_stream *stream = (struct h2_stream *)base;
	nghttp2_data_provider provider = h2_stream_provider(stream);
	nghttp2_nv few[H2_FIELDS_FEW], *fields;
	int r;

	if (!stream_is_open(stream))
		return -EPIPE;
	if (!stream->h2->config.server || stream->headers_done || !h2_fields_fit(stream->h2, headers, count))
		return -EINVAL;
	fields = h2_fields(few, count);
	if (!fields)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		fields[i] = h2_field(headers[i].name, headers[i].value, headers[i].sensitive);
	r = nghttp2_submit_response(stream->h2->session, stream->id, fields, count, end ? NULL : &provider);
	h2_fields_free(fields, few);
	if (r)
		return r == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPIPE;
	stream->headers_done = true;
	stream->ending = end;
	h2_announce(stream->h2);
	return 0;
}

static size_t operation_write(struct stream *base, struct span data)
{
	struct h2_stream *stream = (struct h2_stream *)base;
	size_t taken;

	if (!stream_is_open(stream) || stream->ending)
		return 0;
	taken = stream->loan ? 0 : queue_write(&stream->out, data);
	stream->h2->copied_bytes += taken;
	if (taken < data.size)
		stream->write_short = true;
	if (taken) {
		resume(stream);
		h2_announce(stream->h2);
	}
	return taken;
}

static bool operation_lend(struct stream *base, struct loan *loan)
{
	struct h2_stream *stream = (struct h2_stream *)base;

	loan->at = loan->offset = loan->left = 0;
	for (size_t i = 0; i < loan->count; i++)
		loan->left += loan->pieces[i].size;
	if (!stream_is_open(stream) || stream->ending || stream->loan || loan->left == 0)
		return false;
	stream->loan = loan;
	stream->write_short = true;
	resume(stream);
	h2_announce(stream->h2);
	return true;
}

static size_t operation_untaken(const struct stream *base)
{
	const struct h2_stream *stream = (const struct h2_stream *)base;

	return stream->out.size + (stream->loan ? stream->loan->left : 0);
}

static void operation_end(struct stream *base)
{
	struct h2_stream *stream = (struct h2_stream *)base;

	if (!stream_is_open(stream) || stream->ending)
		return;
	stream->ending = true;
	resume(stream);
	h2_announce(stream->h2);
}

/* One allocation: the fields, then their bytes. */
static nghttp2_nv *copy_fields(const struct header *headers, size_t count)
{
	size_t bytes = 0;
	nghttp2_nv *fields;
	uint8_t *place;

	for (size_t i = 0; i < count; i++)
		bytes += headers[i].name.size + headers[i].value.size;
	fields = malloc(count * sizeof(*fields) + bytes + 1);
	if (!fields)
		return NULL;
	place = (uint8_t *)(fields + count);
	for (size_t i = 0; i < count; i++) {
		struct span name = headers[i].name;
		struct span value = headers[i].value;

		if (name.size)
			memcpy(place, name.data, name.size);
		if (value.size)
			memcpy(place + name.size, value.data, value.size);
		fields[i] = h2_field(span_make(place, name.size), span_make(place + name.size, value.size),
		                     headers[i].sensitive);
		place += name.size + value.size;
	}
	return fields;
}

static int operation_trailers(struct stream *base, const struct header *headers, size_t count)
{
	struct h2_stream *stream = (struct h2_stream *)base;

	if (!stream_is_open(stream))
		return -EPIPE;
	if (!stream->headers_done || stream->ending || count == 0 || !h2_fields_fit(stream->h2, headers, count))
		return -EINVAL;
	stream->trailers = copy_fields(headers, count);
	if (!stream->trailers)
		return -ENOMEM;
	stream->trailers_count = count;
	operation_end(base);
	return 0;
}

static void operation_consumed(struct stream *base, size_t bytes)
{
	struct h2_stream *stream = (struct h2_stream *)base;

	/* After a reset everything was given back at once. */
	if (!stream_is_open(stream))
		return;
	assert(bytes <= stream->unconsumed);
	stream->unconsumed -= bytes;
	nghttp2_session_consume(stream->h2->session, stream->id, bytes);
	h2_announce(stream->h2);
}

static void operation_reset(struct stream *base, uint32_t code)
{
	struct h2_stream *stream = (struct h2_stream *)base;

	if (!stream_is_open(stream))
		return;
	stream->reset = true;
	give_back(stream);
	drop_output(stream);
	nghttp2_submit_rst_stream(stream->h2->session, NGHTTP2_FLAG_NONE, stream->id, code);
	h2_announce(stream->h2);
}

const struct stream_transport h2_stream_transport = {
	.headers = operation_headers,
	.write = operation_write,
	.lend = operation_lend,
	.untaken = operation_untaken,
	.end = operation_end,
	.trailers = operation_trailers,
	.consumed = operation_consumed,
	.reset = operation_reset,
};

static void note_room(struct h2_stream *stream)
{
	bool lent = stream->loan && stream->loan->left;

	if (!stream->write_short || stream->writable_queued || lent || stream->out.size > stream->out.size_max / 2)
		return;
	stream->write_short = false;
	writable_push(stream);                   /* told between two frames, not inside nghttp2's callback */
}

/* ---- what goes out next: the queue, then the loan ---- */

struct span h2_stream_front(const struct h2_stream *stream, size_t room)
{
	const struct loan *loan = stream->loan;
	struct span front = queue_front(&stream->out);
	size_t at;

	if (front.size == 0 && loan && loan->left) {
		for (at = loan->at; loan->pieces[at].size == 0; at++)
			;
		front = span_make(loan->pieces[at].data + loan->offset, loan->pieces[at].size - loan->offset);
	}
	if (front.size > room)
		front.size = room;
	return front;
}

static void loan_skip(struct loan *loan, size_t size)
{
	assert(size <= loan->left);
	loan->left -= size;
	while (size) {
		size_t piece = loan->pieces[loan->at].size - loan->offset;

		if (size < piece) {
			loan->offset += size;
			return;
		}
		size -= piece;
		loan->at++;
		loan->offset = 0;
	}
}

void h2_stream_skip(struct h2_stream *stream, size_t size)
{
	size_t queued = stream->out.size < size ? stream->out.size : size;

	queue_drop(&stream->out, queued);
	if (size > queued)
		loan_skip(stream->loan, size - queued);
}

void h2_stream_drop(struct h2_stream *stream, size_t size)
{
	h2_stream_skip(stream, size);
	note_room(stream);
}

static void copy_out(struct h2_stream *stream, uint8_t *to, size_t size)
{
	stream->h2->copied_bytes += size;
	while (size) {
		struct span front = h2_stream_front(stream, size);

		memcpy(to, front.data, front.size);
		h2_stream_drop(stream, front.size);
		to += front.size;
		size -= front.size;
	}
}

static size_t waiting_bytes(const struct h2_stream *stream)
{
	return stream->out.size + (stream->loan ? stream->loan->left : 0);
}

/*
 * nghttp2 asks for the payload of the next DATA frame. The end is told together with the last bytes, so that no empty
 * frame follows them; but a frame that ends the stream is copied, since nghttp2 closes the stream before it is out.
 */
static ssize_t provide(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                       nghttp2_data_source *source, void *user_data)
{
	struct h2_stream *stream = source->ptr;
	size_t waiting = waiting_bytes(stream), size = waiting < room ? waiting : room;
	bool last = stream->ending && size == waiting;

	if (size == 0 && !last) {
		stream->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (stream->h2->config.pieces && size >= PIECE_LEAST_BYTES && !(last && !stream->trailers))
		*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	else
		copy_out(stream, to, size);
	if (last)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (last && stream->trailers) {
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		nghttp2_submit_trailer(session, id, stream->trailers, stream->trailers_count);
		free(stream->trailers);
		stream->trailers = NULL;
	}
	return (ssize_t)size;
}

nghttp2_data_provider h2_stream_provider(struct h2_stream *stream)
{
	return (nghttp2_data_provider){ .source.ptr = stream, .read_callback = provide };
}
