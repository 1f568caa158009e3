/* Vertices of our own. */
#include "gateway/buildkit/vertex.h"

#include <stdio.h>
#include "chunker/sha256.h"
#include "proto/digest.h"
#include "proto/pb.h"

/* Field numbers of control.proto. */
enum {
	RESPONSE_VERTEXES = 1, RESPONSE_LOGS = 3,
	VERTEX_DIGEST = 1, VERTEX_NAME = 3, VERTEX_STARTED = 5, VERTEX_COMPLETED = 6, VERTEX_ERROR = 7,
	LOG_VERTEX = 1, LOG_TIMESTAMP = 2, LOG_STREAM = 3, LOG_MESSAGE = 4,
	TIMESTAMP_SECONDS = 1, TIMESTAMP_NANOS = 2,
};

#define NS_PER_S 1000000000u

void vertex_init(struct vertex *vertex, const char *purpose, const char *ref, const char *name,
                          uint64_t now_wall_ns)
{
	struct digest digest = { 0 };
	char text[512];
	int size = snprintf(text, sizeof(text), "sluice %s %s", purpose, ref);

	*vertex = (struct vertex){ .started_wall_ns = now_wall_ns };
	sha256_once((const uint8_t *)text, (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1, digest.hash);
	memcpy(vertex->digest, "sha256:", 7);
	digest_hex(&digest, vertex->digest + 7);
	snprintf(vertex->name, sizeof(vertex->name), "%s", name);
}

static void put_time(struct buffer *out, uint32_t number, uint64_t wall_ns)
{
	size_t mark = pb_begin(out, number);

	pb_put_varint(out, TIMESTAMP_SECONDS, wall_ns / NS_PER_S);
	pb_put_varint(out, TIMESTAMP_NANOS, wall_ns % NS_PER_S);
	pb_end(out, mark);
}

static void put_vertex(const struct vertex *vertex, uint64_t completed_wall_ns, const char *error,
                       struct buffer *out)
{
	size_t mark = pb_begin(out, RESPONSE_VERTEXES);

	pb_put_text(out, VERTEX_DIGEST, vertex->digest);
	pb_put_text(out, VERTEX_NAME, vertex->name);
	put_time(out, VERTEX_STARTED, vertex->started_wall_ns);
	if (completed_wall_ns)
		put_time(out, VERTEX_COMPLETED, completed_wall_ns);
	if (error)
		pb_put_text(out, VERTEX_ERROR, error);
	pb_end(out, mark);
}

void vertex_started(const struct vertex *vertex, struct buffer *out)
{
	put_vertex(vertex, 0, NULL, out);
}

void vertex_log(const struct vertex *vertex, const char *line, uint64_t now_wall_ns, struct buffer *out)
{
	size_t mark = pb_begin(out, RESPONSE_LOGS);
	char text[512];
	int size = snprintf(text, sizeof(text), "%.500s\n", line);

	pb_put_text(out, LOG_VERTEX, vertex->digest);
	put_time(out, LOG_TIMESTAMP, now_wall_ns);
	pb_put_varint(out, LOG_STREAM, 1);
	pb_put_bytes(out, LOG_MESSAGE, span_make(text, (size_t)size));
	pb_end(out, mark);
}

void vertex_completed(const struct vertex *vertex, const char *error, uint64_t now_wall_ns, struct buffer *out)
{
	put_vertex(vertex, now_wall_ns, error, out);
}

char *vertex_ordinal(uint32_t number, char text[static 16])
{
	static const char *const endings[] = { "th", "st", "nd", "rd" };
	uint32_t last = number % 10;
	bool teen = number / 10 % 10 == 1;

	snprintf(text, 16, "%u%s", number, endings[last > 3 || teen ? 0 : last]);
	return text;
}
