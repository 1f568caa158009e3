/* One build's account. */
#include "gateway/buildkit/build.h"

#include <stdio.h>
#include <stdlib.h>
#include "chunker/sha256.h"
#include "proto/buildkit_status.h"

static void copy_text(char *to, size_t to_size, struct span text)
{
	size_t size = text.size < to_size ? text.size : to_size - 1;

	if (size)
		memcpy(to, text.data, size);
	to[size] = '\0';
}

/* Timestamps are rewritten relative to an epoch: those of files that are older than it stay, and are part of the result. */
static bool wants_real_times(const struct buildkit_solve_request *solve)
{
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter exporter;
	struct span value;

	if (message_map_find(&solve->frontend_attributes, "build-arg:SOURCE_DATE_EPOCH", &value))
		return true;
	while (buildkit_exporter_next(solve, &cursor, &exporter))
		if (message_map_find(&exporter.attributes, "source-date-epoch", &value) ||
		    (message_map_find(&exporter.attributes, "rewrite-timestamp", &value) && !span_is(value, "false")))
			return true;
	return false;
}

struct build *build_create(const struct buildkit_solve_request *solve, const char *tenant, const char *subject,
                           uint64_t now_wall_ns)
{
	struct build *build = calloc(1, sizeof(*build));
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter exporter;
	size_t at = 0;

	if (!build)
		return NULL;
	build->asked_wall_ns = now_wall_ns;
	build->internal = solve->internal;
	build->real_times = wants_real_times(solve);
	snprintf(build->tenant, sizeof(build->tenant), "%s", tenant);
	snprintf(build->subject, sizeof(build->subject), "%s", subject);
	copy_text(build->ref, sizeof(build->ref), solve->ref);
	copy_text(build->session, sizeof(build->session), solve->session);
	while (at + 2 < sizeof(build->exporters) && buildkit_exporter_next(solve, &cursor, &exporter)) {
		if (at)
			build->exporters[at++] = ',';
		copy_text(build->exporters + at, sizeof(build->exporters) - at, exporter.type);
		at += strlen(build->exporters + at);
	}
	return build;
}

void build_destroy(struct build *build)
{
	if (!build)
		return;
	digest_set_fini(&build->seen);
	free(build);
}

static void take_vertex(struct build *build, const struct buildkit_vertex *vertex)
{
	struct digest digest = { .size = 1 };

	if (!vertex->completed || digest_set_count(&build->seen) >= BUILD_STEPS_MAX)
		return;
	sha256_once(vertex->digest.data, vertex->digest.size, digest.hash);
	if (digest_set_add(&build->seen, &digest) != 1)
		return;
	build->steps++;
	build->steps_cached += vertex->cached;
	build->steps_failed += vertex->error.size > 0;
}

void build_take_status(struct build *build, struct span message)
{
	struct buildkit_vertex vertex;
	bool failed = false;

	while (buildkit_vertex_next(&message, &vertex, &failed))
		take_vertex(build, &vertex);
}

void build_set_shared_key(struct build *build, struct span shared_key)
{
	const uint8_t *colon = NULL;

	for (size_t i = 0; i < shared_key.size; i++)
		if (shared_key.data[i] == ':')
			colon = shared_key.data + i;
	copy_text(build->directory, sizeof(build->directory),
	          span_make(shared_key.data, colon ? (size_t)(colon - shared_key.data) : shared_key.size));
}

const char *build_result_name(enum build_result result)
{
	static const char *const names[] = {
		[BUILD_RUNNING] = "running", [BUILD_DONE] = "done", [BUILD_FAILED] = "failed", [BUILD_CANCELLED] = "cancelled",
		[BUILD_LOST] = "lost", [BUILD_REFUSED] = "refused",
	};

	return names[result];
}
