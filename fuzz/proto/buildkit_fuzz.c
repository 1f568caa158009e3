/*
 * Properties, for arbitrary bytes: a BytesMessage is read in place and written again; a request's exporters are all
 * well formed once it was decoded, and a probe has none; a StatusResponse's vertexes are written again and come back
 * equal; usage records without a prefix keep their ids; two answers (split where the first two bytes say) teach
 * references, whose rewriting does just what a comparison at every place does. The tables are in messages_fuzz.c.
 */
#include <stdlib.h>

#include "proto/buildkit.h"
#include "proto/buildkit_refs.h"
#include "proto/buildkit_solve.h"
#include "proto/buildkit_status.h"

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void bytes_message(struct span message)
{
	uint8_t head[BYTES_MESSAGE_HEAD_MAX];
	struct buffer again = buffer_heap(message.size + sizeof(head));
	struct span data, second;

	if (bytes_message_decode(message, &data)) {
		REQUIRE(data.size <= message.size);
		buffer_put(&again, head, bytes_message_head(head, data.size));
		buffer_put(&again, data.data, data.size);
		REQUIRE(!again.failed && bytes_message_decode(buffer_span(&again), &second));
		REQUIRE(span_equal(data, second));
	}
	buffer_fini(&again);
}

/* However it is cut, the parts bring what the whole has; and again with the same reader. */
static void bytes_message_in_parts(struct span message)
{
	struct bytes_message_reader reader = { 0 };
	struct span whole, data;
	bool good = bytes_message_decode(message, &whole);

	for (size_t cut = 1; cut < message.size && cut < 40; cut++) {
		struct buffer got = buffer_heap(message.size);
		struct span first = span_make(message.data, cut), second = span_make(message.data + cut, message.size - cut);
		bool taken = bytes_message_part(&reader, first, second.size, &data);

		if (taken && data.size)
			buffer_put(&got, data.data, data.size);
		taken = taken && bytes_message_part(&reader, second, 0, &data);
		REQUIRE(taken == good);
		if (taken && data.size)
			buffer_put(&got, data.data, data.size);
		REQUIRE(!taken || span_equal(buffer_span(&got), whole));
		buffer_fini(&got);
		if (!taken)
			break;                   /* whoever sent it is not listened to any more */
	}
	bytes_message_reader_fini(&reader);
}

static void solve(struct span message)
{
	struct buildkit_solve_request request;
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter exporter;
	uint32_t count = 0;

	if (!buildkit_solve_request_decode(message, &request)) {
		REQUIRE(!buildkit_solve_is_probe(message));
		return;
	}
	while (buildkit_exporter_next(&request, &cursor, &exporter))
		count++;
	if (request.exporters.count)
		REQUIRE(count == request.exporters.count);
	else
		REQUIRE(count == (request.exporter_type.size > 0));
	if (buildkit_solve_is_probe(message))
		REQUIRE(request.internal && count == 0 && request.frontend.size == 0 && !request.definition.data);
}

static bool vertex_equal(const struct buildkit_vertex *a, const struct buildkit_vertex *b)
{
	return span_equal(a->digest, b->digest) && span_equal(a->name, b->name) && span_equal(a->error, b->error) &&
	       a->cached == b->cached && a->started == b->started && a->completed == b->completed;
}

static void status(struct span message)
{
	struct span rest = message;
	struct buildkit_vertex vertex, second;
	bool failed = false;

	while (buildkit_vertex_next(&rest, &vertex, &failed)) {
		struct buffer again = buffer_heap(message.size + 256);
		struct span once;

		buildkit_status_put_vertex(&again, &vertex);
		once = buffer_span(&again);
		REQUIRE(!again.failed && buildkit_vertex_next(&once, &second, &failed) && !failed);
		REQUIRE(vertex_equal(&vertex, &second));
		REQUIRE(!buildkit_vertex_next(&once, &second, &failed) && !failed);
		buffer_fini(&again);
	}
}

static void usage(struct span message)
{
	struct buffer plain = buffer_heap(message.size + 256), named = buffer_heap(16 * message.size + 256);
	struct buildkit_usage_record before, after;

	if (buildkit_usage_record_put(&plain, message, (struct span){ 0 }) && !plain.failed) {
		REQUIRE(plain.size <= message.size);
		if (message_decode(&buildkit_usage_record_type, message, &before)) {
			REQUIRE(message_decode(&buildkit_usage_record_type, buffer_span(&plain), &after));
			REQUIRE(span_equal(before.id, after.id) && before.size_bytes == after.size_bytes);
			REQUIRE(before.parents.count == after.parents.count);
		}
	} else {
		REQUIRE(plain.failed || plain.size == 0);
	}
	if (!buildkit_disk_usage_put(&named, message, span_text("executor/")))
		REQUIRE(named.failed || named.size == 0);
	buffer_fini(&plain);
	buffer_fini(&named);
}

static const uint8_t *pair_at(const struct buildkit_ref_map *map, const uint8_t *id)
{
	for (size_t i = 0; i < map->count; i++)
		if (memcmp(map->pairs[i].told, id, BUILDKIT_REF_BYTES) == 0)
			return map->pairs[i].now;
	return NULL;
}

static size_t rewrite_slowly(const struct buildkit_ref_map *map, uint8_t *message, size_t size)
{
	size_t count = 0;

	for (size_t i = 0; i + BUILDKIT_REF_BYTES < size; i++) {
		const uint8_t *now = message[i] == BUILDKIT_REF_BYTES ? pair_at(map, message + i + 1) : NULL;

		if (!now)
			continue;
		memcpy(message + i + 1, now, BUILDKIT_REF_BYTES);
		i += BUILDKIT_REF_BYTES;
		count++;
	}
	return count;
}

static void refs(struct span message)
{
	struct buildkit_ref_map map = { 0 };
	size_t at = message.size < 2 ? 0 : (size_t)message.data[0] | (size_t)message.data[1] << 8;
	struct span told, now;
	uint8_t *one, *other;

	if (message.size < 2 || at > message.size - 2)
		return;
	told = span_make(message.data + 2, at);
	now = span_make(message.data + 2 + at, message.size - 2 - at);
	if (buildkit_refs_learn(&map, told, now) != BUILDKIT_REFS_LEARNED) {
		REQUIRE(map.count == 0);
		return;
	}
	one = malloc(message.size);
	other = malloc(message.size);
	memcpy(one, message.data, message.size);
	memcpy(other, message.data, message.size);
	REQUIRE(buildkit_refs_rewrite(&map, one, message.size) == rewrite_slowly(&map, other, message.size));
	REQUIRE(memcmp(one, other, message.size) == 0);
	free(one);
	free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span message = span_make(data, size);

	bytes_message(message);
	bytes_message_in_parts(message);
	solve(message);
	status(message);
	usage(message);
	refs(message);
	return 0;
}
