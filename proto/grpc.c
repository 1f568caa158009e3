/* gRPC's own wire rules: message prefix, status codes, time-outs, percent-encoding, request headers. */
#include "proto/grpc.h"

#include <assert.h>
#include <stdio.h>

#define TIMEOUT_DIGITS_MAX 8

const char *grpc_status_name(enum grpc_status status)
{
	static const char *const names[] = {
		[GRPC_OK] = "OK",
		[GRPC_CANCELLED] = "CANCELLED",
		[GRPC_UNKNOWN] = "UNKNOWN",
		[GRPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
		[GRPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
		[GRPC_NOT_FOUND] = "NOT_FOUND",
		[GRPC_ALREADY_EXISTS] = "ALREADY_EXISTS",
		[GRPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
		[GRPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
		[GRPC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
		[GRPC_ABORTED] = "ABORTED",
		[GRPC_OUT_OF_RANGE] = "OUT_OF_RANGE",
		[GRPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
		[GRPC_INTERNAL] = "INTERNAL",
		[GRPC_UNAVAILABLE] = "UNAVAILABLE",
		[GRPC_DATA_LOSS] = "DATA_LOSS",
		[GRPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
	};

	if ((unsigned)status >= sizeof(names) / sizeof(names[0]))
		return "UNKNOWN";
	return names[status];
}

enum grpc_status grpc_status_from_h2(uint32_t code)
{
	switch (code) {
	case 7:                                  /* REFUSED_STREAM: nothing was processed, the call may be retried */
		return GRPC_UNAVAILABLE;
	case 8:                                  /* CANCEL */
		return GRPC_CANCELLED;
	case H2_CARRIER_CLOSED:
		return GRPC_UNAVAILABLE;
	case 11:                                 /* ENHANCE_YOUR_CALM */
		return GRPC_RESOURCE_EXHAUSTED;
	case 12:                                 /* INADEQUATE_SECURITY */
		return GRPC_PERMISSION_DENIED;
	default:
		return GRPC_INTERNAL;
	}
}

enum grpc_status grpc_status_parse(struct span text)
{
	unsigned value = 0;

	if (text.size == 0 || text.size > 2)
		return GRPC_UNKNOWN;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return GRPC_UNKNOWN;
		value = value * 10 + (unsigned)(text.data[i] - '0');
	}
	return value <= GRPC_UNAUTHENTICATED ? (enum grpc_status)value : GRPC_UNKNOWN;
}

enum grpc_status grpc_status_from_http(struct span status)
{
	if (span_is(status, "400"))
		return GRPC_INTERNAL;
	if (span_is(status, "401"))
		return GRPC_UNAUTHENTICATED;
	if (span_is(status, "403"))
		return GRPC_PERMISSION_DENIED;
	if (span_is(status, "404"))
		return GRPC_UNIMPLEMENTED;
	if (span_is(status, "429") || span_is(status, "502") || span_is(status, "503") || span_is(status, "504"))
		return GRPC_UNAVAILABLE;
	return GRPC_UNKNOWN;
}

void grpc_prefix(uint8_t prefix[static GRPC_PREFIX_BYTES], bool compressed, uint32_t size)
{
	prefix[0] = compressed;
	prefix[1] = (uint8_t)(size >> 24);
	prefix[2] = (uint8_t)(size >> 16);
	prefix[3] = (uint8_t)(size >> 8);
	prefix[4] = (uint8_t)size;
}

void grpc_reader_init(struct grpc_reader *reader, size_t message_bytes_max)
{
	assert(message_bytes_max > 0);
	*reader = (struct grpc_reader){
		.body = buffer_heap(message_bytes_max),
		.message_bytes_max = message_bytes_max,
	};
}

void grpc_reader_fini(struct grpc_reader *reader)
{
	buffer_fini(&reader->body);
	*reader = (struct grpc_reader){ 0 };
}

bool grpc_reader_idle(const struct grpc_reader *reader)
{
	return reader->prefix_size == 0;
}

static struct span span_take(struct span *data, size_t size)
{
	struct span front = span_make(data->data, size);

	if (size == 0)
		return front;                    /* of what may be NULL */
	data->data += size;
	data->size -= size;
	return front;
}

static void read_prefix(struct grpc_reader *reader, struct span *data)
{
	size_t missing = GRPC_PREFIX_BYTES - reader->prefix_size;
	struct span piece = span_take(data, data->size < missing ? data->size : missing);

	if (piece.size)
		memcpy(reader->prefix + reader->prefix_size, piece.data, piece.size);
	reader->prefix_size += piece.size;
}

static enum grpc_read check_prefix(struct grpc_reader *reader)
{
	const uint8_t *prefix = reader->prefix;

	if (prefix[0] > 1)
		return GRPC_READ_BAD_FLAG;
	reader->compressed = prefix[0];
	reader->body_size = (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 | (uint32_t)prefix[3] << 8 | prefix[4];
	if (reader->body_size > reader->message_bytes_max)
		return GRPC_READ_TOO_LARGE;
	buffer_clear(&reader->body);
	return GRPC_READ_MORE;
}

/* The next message starts with a fresh prefix; the collected body stays readable until then. */
static enum grpc_read finish_message(struct grpc_reader *reader, struct span body, struct span *message, bool *compressed)
{
	reader->prefix_size = 0;
	*message = body;
	*compressed = reader->compressed;
	return GRPC_READ_MESSAGE;
}

/* GRPC_READ_MESSAGE: the prefix is there, and the body may follow. */
static enum grpc_read feed_prefix(struct grpc_reader *reader, struct span *data)
{
	enum grpc_read read;

	if (reader->prefix_size == GRPC_PREFIX_BYTES)
		return GRPC_READ_MESSAGE;
	read_prefix(reader, data);
	if (reader->prefix_size < GRPC_PREFIX_BYTES)
		return GRPC_READ_MORE;
	read = check_prefix(reader);
	if (read != GRPC_READ_MORE) {
		reader->prefix_size = GRPC_PREFIX_BYTES;
		return read;
	}
	return GRPC_READ_MESSAGE;
}

/*
 * The body grows with what has really come, so that a peer who announces the largest message and sends none of it
 * does not cost us that much memory.
 */
static enum grpc_read feed_body(struct grpc_reader *reader, struct span *data, struct span *message, bool *compressed)
{
	size_t missing = reader->body_size - reader->body.size;
	struct span piece;

	if (reader->body.size == 0 && data->size >= missing)
		return finish_message(reader, span_take(data, missing), message, compressed);
	piece = span_take(data, data->size < missing ? data->size : missing);
	buffer_put(&reader->body, piece.data, piece.size);
	reader->bytes_copied += piece.size;
	if (reader->body.failed)
		return GRPC_READ_TOO_LARGE;      /* out of memory: to the peer the same thing */
	if (reader->body.size < reader->body_size)
		return GRPC_READ_MORE;
	return finish_message(reader, buffer_span(&reader->body), message, compressed);
}

enum grpc_read grpc_reader_feed(struct grpc_reader *reader, struct span *data, struct span *message, bool *compressed)
{
	enum grpc_read read = feed_prefix(reader, data);

	return read == GRPC_READ_MESSAGE ? feed_body(reader, data, message, compressed) : read;
}

enum grpc_read grpc_reader_feed_parts(struct grpc_reader *reader, struct span *data, struct span *message, bool *compressed,
                                      size_t *left)
{
	enum grpc_read read = feed_prefix(reader, data);
	size_t missing;

	if (read != GRPC_READ_MESSAGE)
		return read;
	if (reader->compressed)
		return feed_body(reader, data, message, compressed);
	missing = reader->body_size - reader->passed;
	if (missing && data->size == 0)
		return GRPC_READ_MORE;
	if (missing > GRPC_PART_BYTES_MAX)
		missing = GRPC_PART_BYTES_MAX;   /* also of a long backlog: who has enough after one part leaves the rest there */
	*message = span_take(data, data->size < missing ? data->size : missing);
	reader->passed += (uint32_t)message->size;
	*left = reader->body_size - reader->passed;
	if (*left == 0) {
		reader->prefix_size = 0;
		reader->passed = 0;
	}
	return GRPC_READ_PART;
}

struct timeout_unit {
	char letter;
	uint64_t ns;
};

/* Coarsest last: formatting takes the first that fits eight digits, so it loses least. */
static const struct timeout_unit timeout_units[] = {
	{ 'n', 1 },
	{ 'u', 1000 },
	{ 'm', 1000000 },
	{ 'S', 1000000000 },
	{ 'M', UINT64_C(60) * 1000000000 },
	{ 'H', UINT64_C(3600) * 1000000000 },
};
#define TIMEOUT_UNITS (sizeof(timeout_units) / sizeof(timeout_units[0]))

bool grpc_timeout_parse(struct span text, uint64_t *timeout_ns)
{
	uint64_t value = 0;
	size_t digits = text.size ? text.size - 1 : 0;

	if (digits == 0 || digits > TIMEOUT_DIGITS_MAX)
		return false;
	for (size_t i = 0; i < digits; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(text.data[i] - '0');
	}
	for (size_t i = 0; i < TIMEOUT_UNITS; i++) {
		if (text.data[digits] != timeout_units[i].letter)
			continue;
		/* 99,999,999 hours do not fit; that is forever. */
		if (__builtin_mul_overflow(value, timeout_units[i].ns, timeout_ns))
			*timeout_ns = UINT64_MAX;
		return true;
	}
	return false;
}

size_t grpc_timeout_format(uint64_t timeout_ns, char text[static 16])
{
	for (size_t i = 0; i < TIMEOUT_UNITS; i++) {
		/* Rounded up: a deadline may be sent late, never early. */
		uint64_t value = timeout_ns / timeout_units[i].ns + (timeout_ns % timeout_units[i].ns != 0);

		if (value <= 99999999)
			return (size_t)snprintf(text, 16, "%llu%c", (unsigned long long)value, timeout_units[i].letter);
	}
	assert(!"2^64 ns are fewer than 10^8 hours");
	return 0;
}

static bool message_byte_is_plain(uint8_t c)
{
	return c >= 0x20 && c <= 0x7e && c != '%';
}

void grpc_message_encode(struct buffer *out, struct span text)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.size && !out->failed; i++) {
		uint8_t c = text.data[i];

		if (message_byte_is_plain(c))
			buffer_put(out, &c, 1);
		else
			buffer_put(out, (const char[]){ '%', digits[c >> 4], digits[c & 15] }, 3);
	}
}

static int percent_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* PROTOCOL-HTTP2: "must not error out on invalid values": what is no escape is kept as it stands. */
void grpc_message_decode(struct buffer *out, struct span text)
{
	for (size_t i = 0; i < text.size && !out->failed; i++) {
		uint8_t c = text.data[i];

		if (c == '%' && text.size - i > 2) {
			int high = percent_value(text.data[i + 1]);
			int low = percent_value(text.data[i + 2]);

			if (high >= 0 && low >= 0) {
				c = (uint8_t)(high << 4 | low);
				i += 2;
			}
		}
		buffer_put(out, &c, 1);
	}
}

/* "zstd" as one element of a comma-separated list. */
static bool list_has(struct span list, const char *word)
{
	while (list.size) {
		const uint8_t *comma = memchr(list.data, ',', list.size);
		size_t size = comma ? (size_t)(comma - list.data) : list.size;
		struct span element = span_take(&list, size);

		if (comma)
			span_take(&list, 1);
		while (element.size && element.data[0] == ' ')
			span_take(&element, 1);
		while (element.size && element.data[element.size - 1] == ' ')
			element.size--;
		if (span_is(element, word))
			return true;
	}
	return false;
}

/* application/grpc, application/grpc+proto, application/grpc;… but not application/grpc-web. */
static bool content_type_is_grpc(struct span value)
{
	static const char type[] = "application/grpc";
	size_t size = sizeof(type) - 1;

	if (value.size < size || memcmp(value.data, type, size) != 0)
		return false;
	return value.size == size || value.data[size] == '+' || value.data[size] == ';';
}

bool grpc_request_parse(struct grpc_request *request, const struct h2_request *head)
{
	bool grpc = false;

	*request = (struct grpc_request){
		.path = head->path,
		.authority = head->authority,
		.headers = head->headers,
		.headers_count = head->headers_count,
	};
	for (size_t i = 0; i < head->headers_count; i++) {
		struct span name = head->headers[i].name;
		struct span value = head->headers[i].value;

		if (span_is(name, "content-type")) {
			grpc = content_type_is_grpc(value);
		} else if (span_is(name, "grpc-timeout")) {
			/* One that cannot be read is no promise of ours: as grpc-go, it is refused by being ignored. */
			if (!grpc_timeout_parse(value, &request->timeout_ns))
				request->timeout_ns = 0;
		} else if (span_is(name, "grpc-encoding")) {
			request->sends_zstd = span_is(value, "zstd");
			request->unknown_compressor = !request->sends_zstd && !span_is(value, "identity");
		} else if (span_is(name, "grpc-accept-encoding")) {
			request->accepts_zstd = list_has(value, "zstd");
		} else if (span_is(name, "authorization")) {
			request->authorization = value;
		}
	}
	return grpc && span_is(head->method, "POST");
}
