/* Progress: the vertexes of a StatusResponse, and one written here. */
#include "proto/buildkit_status.h"

#include "proto/pb.h"

#define SECOND_NS 1000000000

enum { RESPONSE_FIELD_VERTEX = 1, RESPONSE_FIELD_LOG = 3 };
enum {
	VERTEX_FIELD_DIGEST = 1,
	VERTEX_FIELD_NAME = 3,
	VERTEX_FIELD_CACHED = 4,
	VERTEX_FIELD_STARTED = 5,
	VERTEX_FIELD_COMPLETED = 6,
	VERTEX_FIELD_ERROR = 7,
};
enum { LOG_FIELD_VERTEX = 1, LOG_FIELD_TIMESTAMP = 2, LOG_FIELD_STREAM = 3, LOG_FIELD_MESSAGE = 4 };
enum { TIMESTAMP_FIELD_SECONDS = 1, TIMESTAMP_FIELD_NANOS = 2 };

MESSAGE_TYPE(buildkit_status_request_type, struct buildkit_status_request,
	     MESSAGE_FIELD(struct buildkit_status_request, ref, 1, MESSAGE_BYTES));

static int64_t timestamp_ns(int64_t seconds, int32_t nanos)
{
	int64_t ns;

	if (__builtin_mul_overflow(seconds, (int64_t)SECOND_NS, &ns) || __builtin_add_overflow(ns, (int64_t)nanos, &ns))
		return seconds < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

static bool read_timestamp(struct pb_reader reader, bool *set, int64_t *ns)
{
	struct pb_field field;
	int64_t seconds = 0;
	int32_t nanos = 0;

	while (pb_next(&reader, &field)) {
		if (field.number == TIMESTAMP_FIELD_SECONDS)
			pb_as_int64(&reader, &field, &seconds);
		else if (field.number == TIMESTAMP_FIELD_NANOS)
			pb_as_int32(&reader, &field, &nanos);
	}
	*set = true;
	*ns = timestamp_ns(seconds, nanos);
	return !reader.failed;
}

static bool vertex_field(struct pb_reader *reader, const struct pb_field *field, struct buildkit_vertex *vertex)
{
	switch (field->number) {
	case VERTEX_FIELD_DIGEST:
		return pb_as_bytes(reader, field, &vertex->digest);
	case VERTEX_FIELD_NAME:
		return pb_as_bytes(reader, field, &vertex->name);
	case VERTEX_FIELD_CACHED:
		return pb_as_bool(reader, field, &vertex->cached);
	case VERTEX_FIELD_STARTED:
		return read_timestamp(pb_enter(reader, field), &vertex->started, &vertex->started_ns);
	case VERTEX_FIELD_COMPLETED:
		return read_timestamp(pb_enter(reader, field), &vertex->completed, &vertex->completed_ns);
	case VERTEX_FIELD_ERROR:
		return pb_as_bytes(reader, field, &vertex->error);
	default:
		return true;
	}
}

static bool read_vertex(struct pb_reader reader, struct buildkit_vertex *vertex)
{
	struct pb_field field;

	*vertex = (struct buildkit_vertex){ 0 };
	while (pb_next(&reader, &field))
		if (!vertex_field(&reader, &field, vertex))
			return false;
	return !reader.failed;
}

bool buildkit_vertex_next(struct span *rest, struct buildkit_vertex *vertex, bool *failed)
{
	struct pb_reader reader = pb_reader_make(*rest);
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		if (field.number != RESPONSE_FIELD_VERTEX)
			continue;
		*rest = reader.rest;
		if (read_vertex(pb_enter(&reader, &field), vertex))
			return true;
		reader.failed = true;
	}
	if (reader.failed)
		*failed = true;
	*rest = (struct span){ 0 };
	return false;
}

/* Nanos count up from the second before, also before 1970. */
static void put_timestamp(struct buffer *out, uint32_t number, int64_t ns)
{
	int64_t seconds = ns / SECOND_NS, nanos = ns % SECOND_NS;
	size_t mark = pb_begin(out, number);

	if (nanos < 0) {
		seconds--;
		nanos += SECOND_NS;
	}
	pb_put_int64(out, TIMESTAMP_FIELD_SECONDS, seconds);
	pb_put_int64(out, TIMESTAMP_FIELD_NANOS, nanos);
	pb_end(out, mark);
}

void buildkit_status_put_vertex(struct buffer *out, const struct buildkit_vertex *vertex)
{
	size_t mark = pb_begin(out, RESPONSE_FIELD_VERTEX);

	pb_put_bytes(out, VERTEX_FIELD_DIGEST, vertex->digest);
	pb_put_bytes(out, VERTEX_FIELD_NAME, vertex->name);
	pb_put_bool(out, VERTEX_FIELD_CACHED, vertex->cached);
	if (vertex->started)
		put_timestamp(out, VERTEX_FIELD_STARTED, vertex->started_ns);
	if (vertex->completed)
		put_timestamp(out, VERTEX_FIELD_COMPLETED, vertex->completed_ns);
	pb_put_bytes(out, VERTEX_FIELD_ERROR, vertex->error);
	pb_end(out, mark);
}

/* The timestamp of a log is always written: buildx reads it without asking whether it is there. */
void buildkit_status_put_log(struct buffer *out, const struct buildkit_vertex_log *log)
{
	size_t mark = pb_begin(out, RESPONSE_FIELD_LOG);

	pb_put_bytes(out, LOG_FIELD_VERTEX, log->vertex);
	put_timestamp(out, LOG_FIELD_TIMESTAMP, log->timestamp_ns);
	pb_put_int64(out, LOG_FIELD_STREAM, log->stream);
	pb_put_bytes(out, LOG_FIELD_MESSAGE, log->message);
	pb_end(out, mark);
}
