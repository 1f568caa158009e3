/* Vertices of our own. */
#include "gateway/buildkit/vertex.h"

#include <stdio.h>
#include "chunker/sha256.h"
#include "proto/buildkit_status.h"
#include "proto/digest.h"

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

static void put_vertex(const struct vertex *vertex, uint64_t completed_wall_ns, const char *error, struct buffer *out)
{
	const struct buildkit_vertex told = {
		.digest = span_text(vertex->digest), .name = span_text(vertex->name), .error = span_text(error ? error : ""),
		.started = true, .started_ns = (int64_t)vertex->started_wall_ns,
		.completed = completed_wall_ns != 0, .completed_ns = (int64_t)completed_wall_ns,
	};

	buildkit_status_put_vertex(out, &told);
}

void vertex_started(const struct vertex *vertex, struct buffer *out)
{
	put_vertex(vertex, 0, NULL, out);
}

void vertex_log(const struct vertex *vertex, const char *line, uint64_t now_wall_ns, struct buffer *out)
{
	char text[512];
	int size = snprintf(text, sizeof(text), "%.500s\n", line);
	const struct buildkit_vertex_log log = {
		.vertex = span_text(vertex->digest), .timestamp_ns = (int64_t)now_wall_ns, .stream = BUILDKIT_LOG_STDOUT,
		.message = span_make(text, (size_t)size),
	};

	buildkit_status_put_log(out, &log);
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
