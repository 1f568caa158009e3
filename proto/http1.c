/*
 * One request after the other.
 *
 *	HEAD -> BODY ---------------------------------------+-> ANSWERING -> HEAD
 *	     -> SIZE -> EXTENSION -> DATA -> DATA_END -> SIZE |
 *	          '-> TRAILERS ------------------------------'
 */
#include "proto/http1.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/buffer.h"

#define CODE_PROTOCOL_ERROR 1u                   /* RFC 9113 section 7; what on_close says */
#define CODE_INTERNAL_ERROR 2u
#define SIZE_DIGITS_MAX     15u

enum http1_state {
	HTTP1_HEAD,
	HTTP1_BODY,                              /* `left` bytes of it */
	HTTP1_SIZE,                              /* the digits of a chunk's size */
	HTTP1_EXTENSION,                         /* the rest of that line */
	HTTP1_DATA,                              /* `left` bytes of a chunk */
	HTTP1_DATA_END,                          /* its CRLF */
	HTTP1_TRAILERS,
	HTTP1_ANSWERING,                         /* all of the request has come */
};

struct http1 {
	struct stream stream;
	const struct h2_events *events;
	void *owner;
	enum http1_state state;
	struct http1_head parsed;                /* of the present request; borrows from `head` */
	struct buffer head;
	struct buffer ahead;                     /* what came before the answer had gone */
	size_t ahead_at;                         /* how much of it has been parsed */
	struct buffer queue, leaving;            /* out; `leaving` is with the owner */
	struct h2_fault fault;
	uint64_t left, unconsumed, copied;
	uint64_t answer_left;                    /* of the body that our headers have promised */
	size_t line;                             /* bytes of a chunk's line, or of trailers, so far */
	unsigned digits;
	bool line_empty, line_cr;                /* of the trailer line, or the end of a chunk's */
	bool open;                               /* there is a stream */
	bool requested, answered, ended, continued;
	bool last;                               /* nothing follows the present answer */
	bool cut;                                /* which began before all of the request had come */
	bool draining;
	bool input_ended;                        /* nothing more comes */
	bool broken;                             /* the stream was reset */
	uint32_t broken_code;
	bool owed;                               /* on_writable */
	bool told;                               /* on_output, since the last http1_output() */
	bool dead;
};

/* ---- out ---- */

static void tell(struct http1 *http1)
{
	if (http1->told)
		return;
	http1->told = true;
	if (http1->events->on_output)
		http1->events->on_output(http1->owner);
}

static const char *phrase(unsigned status)
{
	static const struct {
		unsigned status;
		const char *phrase;
	} phrases[] = {
		{ 200, "OK" }, { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 411, "Length Required" },
		{ 413, "Content Too Large" }, { 415, "Unsupported Media Type" }, { 417, "Expectation Failed" },
		{ 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" }, { 501, "Not Implemented" },
		{ 503, "Service Unavailable" }, { 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "";
}

static void put_span(struct buffer *out, struct span text)
{
	buffer_put(out, text.data, text.size);
}

static void put_field(struct buffer *out, struct span name, struct span value)
{
	put_span(out, name);
	buffer_put_text(out, ": ");
	put_span(out, value);
	buffer_put_text(out, "\r\n");
}

static void put_status(struct buffer *out, struct span status)
{
	unsigned number = 0;

	for (size_t i = 0; i < status.size && i < 3; i++)
		number = number * 10 + (status.data[i] - '0');
	buffer_put_text(out, "HTTP/1.1 ");
	put_span(out, status);
	buffer_put_text(out, " ");
	buffer_put_text(out, phrase(number));
	buffer_put_text(out, "\r\n");
}

/* What an answer says of its length. False: that is no number. */
static bool headers_length(const struct header *headers, size_t count, bool *sized, uint64_t *length)
{
	for (size_t i = 1; i < count; i++) {
		if (!span_is(headers[i].name, "content-length"))
			continue;
		*sized = true;
		if (!http1_length_parse(headers[i].value, length))
			return false;
	}
	return true;
}

static int transport_headers(struct stream *stream, const struct header *headers, size_t count, bool end)
{
	struct http1 *http1 = (struct http1 *)stream;
	uint64_t length = 0;
	bool sized = false;

	if (!http1->open || http1->answered || http1->broken)
		return -EPIPE;
	if (count == 0 || !span_is(headers[0].name, ":status") || !headers_length(headers, count, &sized, &length) ||
	    (!sized && !end))
		return -EINVAL;
	http1->answer_left = end ? 0 : length;
	put_status(&http1->queue, headers[0].value);
	for (size_t i = 1; i < count; i++)
		put_field(&http1->queue, headers[i].name, headers[i].value);
	if (!sized)
		buffer_put_text(&http1->queue, "content-length: 0\r\n");
	http1->cut = !http1->requested;
	if (http1->cut || http1->draining || http1->parsed.closes) {
		http1->last = true;
		buffer_put_text(&http1->queue, "connection: close\r\n");
	}
	buffer_put_text(&http1->queue, "\r\n");
	http1->answered = true;
	http1->ended = end;
	if (http1->queue.failed) {
		http1->broken = true;
		http1->broken_code = CODE_INTERNAL_ERROR;
	}
	tell(http1);
	return http1->queue.failed ? -ENOMEM : 0;
}

static size_t transport_write(struct stream *stream, struct span data)
{
	struct http1 *http1 = (struct http1 *)stream;
	size_t room = http1->queue.size < HTTP1_OUT_BYTES ? HTTP1_OUT_BYTES - http1->queue.size : 0;
	size_t size = data.size < room ? data.size : room;

	if (!http1->answered || http1->ended || http1->broken)
		return 0;
	assert(data.size <= http1->answer_left);
	buffer_put(&http1->queue, data.data, size);
	if (http1->queue.failed) {
		stream_reset(stream, CODE_INTERNAL_ERROR);
		return 0;
	}
	http1->copied += size;
	http1->answer_left -= size;
	http1->owed = size < data.size;
	tell(http1);
	return size;
}

static bool transport_lend(struct stream *stream, struct loan *loan)
{
	(void)stream, (void)loan;
	return false;
}

static size_t transport_untaken(const struct stream *stream)
{
	return ((const struct http1 *)stream)->queue.size;
}

/* An answer that stays shorter than it said cannot be told from a whole one but by the connection's end. */
static void transport_end(struct stream *stream)
{
	struct http1 *http1 = (struct http1 *)stream;

	if (!http1->open || http1->ended)
		return;
	if (!http1->answered || http1->answer_left) {
		stream_reset(stream, CODE_INTERNAL_ERROR);
		return;
	}
	http1->ended = true;
	tell(http1);
}

static int transport_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	(void)headers, (void)count;
	transport_end(stream);
	return 0;
}

static void transport_consumed(struct stream *stream, size_t bytes)
{
	struct http1 *http1 = (struct http1 *)stream;
	bool wanted = http1_wants(http1);

	if (!http1->open)
		return;
	assert(bytes <= http1->unconsumed);
	http1->unconsumed -= bytes;
	if (http1->parsed.expects && !http1->continued && !http1->answered && !http1->requested) {
		http1->continued = true;
		buffer_put_text(&http1->queue, "HTTP/1.1 100 Continue\r\n\r\n");
		tell(http1);
	}
	if (!wanted && http1_wants(http1))
		tell(http1);
}

static void transport_reset(struct stream *stream, uint32_t code)
{
	struct http1 *http1 = (struct http1 *)stream;

	if (!http1->open || http1->broken)
		return;
	http1->broken = true;
	http1->broken_code = code;
	tell(http1);
}

static const struct stream_transport transport = {
	.headers = transport_headers, .write = transport_write, .lend = transport_lend, .untaken = transport_untaken,
	.end = transport_end, .trailers = transport_trailers, .consumed = transport_consumed, .reset = transport_reset,
};

/* ---- the end of a stream and of the connection ---- */

static void stream_closed(struct http1 *http1, uint32_t code)
{
	const struct stream_events *events = http1->stream.events;

	if (!http1->open)
		return;
	http1->open = false;
	http1->unconsumed = 0;                   /* the next request's body is not to wait for it */
	if (events && events->on_close)
		events->on_close(&http1->stream, code);
}

/* What the peer did wrong is told to it, unless an answer has begun already. */
static void refuse(struct http1 *http1, unsigned status, const char *why)
{
	char text[512];

	if (!http1->answered) {
		snprintf(text, sizeof(text), "HTTP/1.1 %u %s\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n"
		         "connection: close\r\n\r\n%s\n", status, phrase(status), strlen(why) + 1, why);
		buffer_put_text(&http1->queue, text);
	}
	http1->fault = (struct h2_fault){ .scope = H2_FAULT_CONNECTION, .code = CODE_PROTOCOL_ERROR, .reason = why };
	http1->dead = true;
	stream_closed(http1, CODE_PROTOCOL_ERROR);
	tell(http1);
}

/* ---- in ---- */

static void request_done(struct http1 *http1)
{
	const struct stream_events *events = http1->stream.events;

	http1->state = HTTP1_ANSWERING;
	http1->requested = true;
	if (!http1->broken && events && events->on_end)
		events->on_end(&http1->stream);
}

static void request_begin(struct http1 *http1)
{
	struct http1_head *head = &http1->parsed;
	bool bare = !head->chunked && head->content_length == 0;
	struct h2_request request = {
		.method = head->method, .path = head->target, .authority = head->authority, .scheme = span_text("http"),
		.headers = head->headers, .headers_count = head->headers_count, .ended = bare,
	};

	http1->stream = (struct stream){ .transport = &transport };
	http1->open = true;
	http1->requested = bare;
	http1->answered = http1->ended = http1->continued = http1->last = http1->owed = false;
	http1->unconsumed = http1->answer_left = http1->line = http1->digits = 0;
	http1->left = head->content_length;
	http1->state = bare ? HTTP1_ANSWERING : head->chunked ? HTTP1_SIZE : HTTP1_BODY;
	if (http1->events->on_stream(http1->owner, &http1->stream, &request) < 0) {
		http1->open = false;
		refuse(http1, 503, "no request is taken here now; try again");
	} else if (bare && !http1->broken && http1->stream.events && http1->stream.events->on_end) {
		http1->stream.events->on_end(&http1->stream);
	}
	buffer_fini(&http1->head);               /* what was borrowed during on_stream ends here */
	head->headers_count = 0;
}

/* The byte `back` places before `at` of what came after `before`. */
static uint8_t byte_before(const struct buffer *before, struct span data, size_t at, size_t back)
{
	return at >= back ? data.data[at - back] : before->data[before->size + at - back];
}

/* How much of `data` ends the head that begins with `before`, with its empty line; 0: all of it, and more has to come. */
static size_t head_end(const struct buffer *before, struct span data)
{
	static const char end[] = "\n\r\n\r";  /* backwards */
	size_t at = 0, same;

	while (at < data.size) {
		const uint8_t *line = memchr(data.data + at, '\n', data.size - at);

		if (!line)
			return 0;
		at = (size_t)(line - data.data);
		for (same = 0; same < 4 && before->size + at >= same; same++)
			if (byte_before(before, data, at, same) != (uint8_t)end[same])
				break;
		at++;
		if (same == 4)
			return at;
	}
	return 0;
}

/* Only the head is copied: many may lie in one span. */
static void take_head(struct http1 *http1, struct span *data)
{
	size_t room = HTTP1_HEAD_BYTES_MAX - http1->head.size;
	size_t size = data->size < room ? data->size : room, end = head_end(&http1->head, span_make(data->data, size));
	const char *why;
	unsigned status;

	if (!http1->head.data)
		http1->head = buffer_heap(HTTP1_HEAD_BYTES_MAX);
	if (end)
		size = end;
	buffer_put(&http1->head, data->data, size);
	if (http1->head.failed) {
		refuse(http1, 503, "the gateway is out of memory; try again");
		return;
	}
	*data = span_make(data->data + size, data->size - size);
	if (!end) {
		if (http1->head.size == HTTP1_HEAD_BYTES_MAX)
			refuse(http1, 431, "the request's line and fields are longer than 16 KiB");
		return;
	}
	status = http1_head_parse(&http1->parsed, http1->head.data, http1->head.size, &why);
	if (status)
		refuse(http1, status, why);
	else
		request_begin(http1);
}

/* The next bytes of the body: at most `left`. True: these were the last of that. */
static bool take_data(struct http1 *http1, struct span *data)
{
	size_t size = data->size < http1->left ? data->size : (size_t)http1->left;
	const struct stream_events *events = http1->stream.events;
	struct span part = span_make(data->data, size);

	*data = span_make(data->data + size, data->size - size);
	http1->left -= size;
	if (!size)
		return http1->left == 0;
	http1->unconsumed += size;
	if (!http1->broken && events && events->on_data)
		events->on_data(&http1->stream, part);
	else
		http1->unconsumed -= size;
	return http1->left == 0;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t take_byte(struct span *data)
{
	uint8_t byte = data->data[0];

	*data = span_make(data->data + 1, data->size - 1);
	return byte;
}

static void take_size(struct http1 *http1, struct span *data)
{
	int digit = hex_digit(data->data[0]);

	if (digit >= 0 && http1->digits < SIZE_DIGITS_MAX) {
		take_byte(data);
		http1->left = (http1->digits++ ? http1->left : 0) * 16 + (unsigned)digit;
	} else if (digit >= 0 || !http1->digits) {
		refuse(http1, 400, "a chunk's size is no hexadecimal number");
	} else {
		http1->state = HTTP1_EXTENSION;
		http1->line = 0;
		http1->line_cr = false;
	}
}

/* ";name=value" means nothing here. A control character, or a CR without an LF, is refused. */
static void take_extension(struct http1 *http1, struct span *data)
{
	uint8_t byte = take_byte(data);

	if (http1->line == 0 && byte != ';' && byte != '\r' && byte != ' ' && byte != '\t') {
		refuse(http1, 400, "a chunk's size is no hexadecimal number");
	} else if (++http1->line > HTTP1_LINE_BYTES) {
		refuse(http1, 431, "a chunk's extensions are longer than 4 KiB");
	} else if (http1->line_cr != (byte == '\n')) {
		refuse(http1, 400, "a chunk's size does not end with CR LF");
	} else if (byte == '\n') {
		http1->digits = 0;
		http1->line = 0;
		http1->line_empty = true;
		http1->line_cr = false;
		http1->state = http1->left ? HTTP1_DATA : HTTP1_TRAILERS;
	} else if (byte < ' ' && byte != '\r' && byte != '\t') {
		refuse(http1, 400, "a control character beside a chunk's size");
	} else {
		http1->line_cr = byte == '\r';
	}
}

static void take_data_end(struct http1 *http1, struct span *data)
{
	uint8_t byte = take_byte(data);

	if (byte != (http1->line_cr ? '\n' : '\r')) {
		refuse(http1, 400, "a chunk is longer than its size");
		return;
	}
	if (http1->line_cr)
		http1->state = HTTP1_SIZE;
	http1->line_cr = !http1->line_cr;
}

/* They are dropped: nobody asked for them (no TE field is ever sent). */
static void take_trailers(struct http1 *http1, struct span *data)
{
	uint8_t byte = take_byte(data);

	if (++http1->line > HTTP1_LINE_BYTES) {
		refuse(http1, 431, "trailers are longer than 4 KiB");
	} else if (http1->line_cr != (byte == '\n')) {
		refuse(http1, 400, "a trailer does not end with CR LF");
	} else if (byte == '\n') {
		if (http1->line_empty) {
			request_done(http1);
			return;
		}
		http1->line_empty = true;
		http1->line_cr = false;
	} else {
		http1->line_cr = byte == '\r';
		if (byte != '\r')
			http1->line_empty = false;
	}
}

static void take(struct http1 *http1, struct span *data)
{
	switch (http1->state) {
	case HTTP1_HEAD:
		take_head(http1, data);
		break;
	case HTTP1_BODY:
		if (take_data(http1, data))
			request_done(http1);
		break;
	case HTTP1_SIZE:
		take_size(http1, data);
		break;
	case HTTP1_EXTENSION:
		take_extension(http1, data);
		break;
	case HTTP1_DATA:
		if (take_data(http1, data)) {
			http1->line_cr = false;
			http1->state = HTTP1_DATA_END;
		}
		break;
	case HTTP1_DATA_END:
		take_data_end(http1, data);
		break;
	case HTTP1_TRAILERS:
		take_trailers(http1, data);
		break;
	case HTTP1_ANSWERING:
		break;
	}
}

/* Until nothing is left, or an answer has to go first. */
static void parse(struct http1 *http1, struct span *data)
{
	while (data->size && !http1->dead && http1->state != HTTP1_ANSWERING)
		take(http1, data);
}

/* For the next requests. */
static void keep(struct http1 *http1, struct span data)
{
	struct buffer *ahead = &http1->ahead;

	if (!ahead->data)
		*ahead = buffer_heap(HTTP1_AHEAD_BYTES);
	if (http1->ahead_at) {
		ahead->size -= http1->ahead_at;
		memmove(ahead->data, ahead->data + http1->ahead_at, ahead->size);
		http1->ahead_at = 0;
	}
	put_span(ahead, data);
	if (ahead->failed)
		refuse(http1, 400, "too much was sent ahead of the answers");
}

int http1_feed(struct http1 *http1, struct span data)
{
	if (!http1->ahead.size)
		parse(http1, &data);
	if (data.size && !http1->dead)
		keep(http1, data);
	return http1->fault.scope == H2_FAULT_CONNECTION ? -EPROTO : 0;
}

bool http1_wants(const struct http1 *http1)
{
	return http1->unconsumed < HTTP1_WINDOW_BYTES && http1->ahead.size == 0;
}

/* The answer has gone: what came ahead is the next request. It is parsed where it lies, however many there are. */
static void next_request(struct http1 *http1)
{
	struct span rest;

	http1->state = HTTP1_HEAD;
	http1->answered = http1->ended = false;
	if (!http1->ahead.size)
		return;
	rest = span_make(http1->ahead.data + http1->ahead_at, http1->ahead.size - http1->ahead_at);
	parse(http1, &rest);
	http1->ahead_at = http1->ahead.size - rest.size;
	if (rest.size && !http1->dead)
		return;
	buffer_fini(&http1->ahead);
	http1->ahead_at = 0;
}

/* Is a request that has come whole being answered? */
static bool is_whole(const struct http1 *http1)
{
	return http1->open && http1->state == HTTP1_ANSWERING;
}

static void drop_buffers(struct http1 *http1)
{
	buffer_fini(&http1->queue);
	buffer_fini(&http1->leaving);
	http1->queue = buffer_heap(2 * HTTP1_OUT_BYTES);
	http1->leaving = buffer_heap(2 * HTTP1_OUT_BYTES);
}

static struct span take_queue(struct http1 *http1)
{
	struct buffer empty = http1->leaving;

	http1->leaving = http1->queue;
	http1->queue = empty;
	if (http1->owed && http1->open) {
		http1->owed = false;
		if (http1->stream.events && http1->stream.events->on_writable)
			http1->stream.events->on_writable(&http1->stream);
	}
	return buffer_span(&http1->leaving);
}

struct span http1_output(struct http1 *http1)
{
	http1->told = false;
	buffer_clear(&http1->leaving);
	while (true) {
		if (http1->broken) {
			http1->broken = false;
			http1->dead = true;
			drop_buffers(http1);
			stream_closed(http1, http1->broken_code);
			return (struct span){ 0 };
		}
		if (http1->queue.size)
			return take_queue(http1);
		if (!http1->open || !http1->ended)
			break;
		stream_closed(http1, 0);
		if (http1->last)
			http1->dead = true;
		else
			next_request(http1);
		if (http1->input_ended && !is_whole(http1))
			http1->dead = true;
	}
	if (!http1->open)
		drop_buffers(http1);
	return (struct span){ 0 };
}

bool http1_alive(const struct http1 *http1)
{
	return !http1->dead;
}

bool http1_unfinished(const struct http1 *http1)
{
	switch (http1->state) {
	case HTTP1_HEAD:
		return http1->head.size > 0;
	case HTTP1_SIZE:
		return http1->digits > 0;
	case HTTP1_EXTENSION:
	case HTTP1_DATA_END:
	case HTTP1_TRAILERS:
		return true;
	default:
		return false;
	}
}

bool http1_cut(const struct http1 *http1)
{
	return http1->cut;
}

void http1_drain(struct http1 *http1)
{
	http1->draining = true;
	if (http1->open)
		http1->last = true;
	else
		http1->dead = true;
	tell(http1);
}

bool http1_input_ended(struct http1 *http1)
{
	http1->input_ended = true;
	if (!is_whole(http1))
		http1->dead = true;
	return !http1->dead;
}

const struct h2_fault *http1_fault(const struct http1 *http1)
{
	return &http1->fault;
}

size_t http1_streams_count(const struct http1 *http1)
{
	return http1->open;
}

uint64_t http1_copied_bytes(const struct http1 *http1)
{
	return http1->copied;
}

void http1_carrier_closed(struct http1 *http1)
{
	http1->dead = true;
	stream_closed(http1, H2_CARRIER_CLOSED);
}

struct http1 *http1_create(const struct h2_events *events, void *owner)
{
	struct http1 *http1 = calloc(1, sizeof(*http1));

	if (!http1)
		return NULL;
	http1->events = events;
	http1->owner = owner;
	drop_buffers(http1);
	return http1;
}

void http1_destroy(struct http1 *http1)
{
	if (!http1)
		return;
	stream_closed(http1, CODE_INTERNAL_ERROR);
	buffer_fini(&http1->head);
	buffer_fini(&http1->ahead);
	buffer_fini(&http1->queue);
	buffer_fini(&http1->leaving);
	free(http1);
}
