/* Closure marks. */
#include "gateway/store/marks.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"

#define MARK_SEQUENCE_BYTES 8
#define MARKS_RESTARTS      2

_Static_assert(MARK_SEQUENCE_BYTES + STORE_SEGMENTS_MAX / 8 <= INDEX_VALUE_MAX, "a mark fits into a row");

size_t store_rest_bytes(const struct store *store)
{
	return (store->segments_max + 7) / 8;
}

void store_rest_add(uint8_t *rest, uint32_t place)
{
	CHECK(place > 0);
	if (place == LOOKUP_NOWHERE)
		return;
	rest[(place - 1) / 8] |= (uint8_t)(1u << ((place - 1) % 8));
}

void store_rest_union(const struct store *store, uint8_t *rest, const uint8_t *other)
{
	for (size_t i = 0; i < store_rest_bytes(store); i++)
		rest[i] |= other[i];
}

static bool rest_has(const uint8_t *rest, uint32_t segment)
{
	return rest[segment / 8] >> (segment % 8) & 1;
}

size_t marks_value_bytes(const struct store *store)
{
	return MARK_SEQUENCE_BYTES + store_rest_bytes(store);
}

void marks_value_encode(const struct store *store, uint8_t *value, uint64_t sequence, const uint8_t *rest)
{
	bytes_put64(value, sequence);
	memcpy(value + MARK_SEQUENCE_BYTES, rest, store_rest_bytes(store));
}

bool marks_fresh(const struct store *store, struct span value)
{
	uint64_t sequence;

	if (value.size != marks_value_bytes(store))      /* of another ceiling */
		return false;
	sequence = bytes_get64(value.data);
	for (uint32_t i = 0; i < store->segments_max; i++)
		if (rest_has(value.data + MARK_SEQUENCE_BYTES, i) && store->segments[i].row.disturbed > sequence)
			return false;
	return true;
}

int marks_init(struct marks *marks, struct store *store)
{
	list_init(&marks->queue);
	marks->keys = calloc(RESOLVE_MAX, ROW_SCOPED_KEY_BYTES);
	marks->values = calloc(RESOLVE_MAX, marks_value_bytes(store));
	marks->sizes = calloc(RESOLVE_MAX, sizeof(*marks->sizes));
	if (!marks->keys || !marks->values || !marks->sizes)
		return ERR_RAISE(-ENOMEM);
	return 0;
}

void marks_fini(struct marks *marks)
{
	free(marks->keys);
	free(marks->values);
	free(marks->sizes);
}

static void marks_on_get(struct index_get *get)
{
	struct store *store = container_of(get, struct store, marks.get);

	store->marks.getting = false;
	store->marks.got = true;
	store_step(store);
}

static void marks_begin_slice(struct store *store, const struct store_marks *lookup)
{
	struct marks *marks = &store->marks;
	size_t left = lookup->count - marks->at;

	marks->slice = left < RESOLVE_MAX ? left : RESOLVE_MAX;
	for (size_t i = 0; i < marks->slice; i++)
		row_scoped_key(marks->keys + i * ROW_SCOPED_KEY_BYTES, &lookup->scope,
		               lookup->directories[marks->at + i].hash);
	marks->getting = true;
	marks->get = (struct index_get){
		.table = INDEX_MARKS,
		.keys = marks->keys,
		.key_size = ROW_SCOPED_KEY_BYTES,
		.key_stride = ROW_SCOPED_KEY_BYTES,
		.count = marks->slice,
		.values = marks->values,
		.value_stride = marks_value_bytes(store),
		.sizes = marks->sizes,
		.fn = marks_on_get,
	};
	store->engine->get(store->index, &marks->get);
}

static void marks_use(struct store *store, const uint8_t *rest)
{
	for (uint32_t i = 0; i < store->segments_max; i++)
		if (rest_has(rest, i))
			store_used(store, i);
}

static void marks_take(struct store *store, struct store_marks *lookup, size_t i)
{
	size_t stride = marks_value_bytes(store), at = store->marks.at + i;
	const uint8_t *value = store->marks.values + i * stride;
	const uint8_t *rest = value + MARK_SEQUENCE_BYTES;
	bool found = store->marks.sizes[i] >= 0;
	bool whole = found && marks_fresh(store, span_make(value, (size_t)store->marks.sizes[i]));

	lookup->whole[at] = whole;
	store->status.marks_stale += found && !whole;
	if (whole)
		marks_use(store, rest);
	if (!lookup->rests)
		return;
	if (whole)
		memcpy(lookup->rests + at * store_rest_bytes(store), rest, store_rest_bytes(store));
	else
		memset(lookup->rests + at * store_rest_bytes(store), 0, store_rest_bytes(store));
}

/* As with look-ups of blobs: all answers are to be true at the same moment. */
static bool marks_outdated(const struct store *store, const struct store_marks *lookup)
{
	return !lookup->result && lookup->sequence != store->sequence;
}

static void marks_take_slice(struct store *store, struct store_marks *lookup)
{
	struct marks *marks = &store->marks;

	marks->got = false;
	lookup->result = marks->get.result;
	for (size_t i = 0; i < marks->slice && !lookup->result; i++)
		marks_take(store, lookup, i);
	marks->at += marks->slice;
	if (marks_outdated(store, lookup)) {
		lookup->sequence = store->sequence;
		marks->at = 0;
		marks->restarts++;
	}
}

void marks_step(struct store *store)
{
	struct marks *marks = &store->marks;

	if (store_pauses(store, STORE_PART_MARKS))
		return;
	while (!list_empty(&marks->queue) && !marks->getting) {
		struct store_marks *lookup = container_of(marks->queue.next, struct store_marks, link);

		if (marks->got) {
			marks_take_slice(store, lookup);
			if (marks->slice == RESOLVE_MAX && marks->at < lookup->count && !lookup->result &&
			    marks->restarts < MARKS_RESTARTS) {
				store_pause(store, STORE_PART_MARKS);
				return;
			}
		}
		if (lookup->result || marks->at == lookup->count) {
			marks->at = 0;
			marks->restarts = 0;
			list_remove(&lookup->link);
			lookup->fn(lookup);
		} else {
			if (marks->at == 0)
				lookup->sequence = store->sequence;
			marks_begin_slice(store, lookup);
		}
	}
}

void store_marks_lookup(struct store *store, struct store_marks *marks)
{
	CHECK(marks->count <= STORE_BATCH_MAX);
	marks->result = 0;
	list_append(&store->marks.queue, &marks->link);
	store_step(store);
}

uint64_t store_marks_begin(const struct store *store)
{
	return store->sequence;
}

void store_marks_write(struct store *store, struct store_marks *marks)
{
	CHECK(marks->count <= STORE_BATCH_MAX);
	CHECK(marks->sequence <= store->sequence);
	list_append(&store_open_generation(store)->marks, &marks->link);
	commit_want(store);              /* a walk waits for it, and somebody for the walk */
	store_step(store);
}
