/* Index look-ups and pending tables, merged. */
#include "gateway/store/resolve.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/state.h"

int resolve_init(struct resolve *resolve, struct store *store, size_t max)
{
	*resolve = (struct resolve){
		.store = store,
		.max = max,
		.values = calloc(max, ROW_BLOB_BYTES),
		.sizes = calloc(max, sizeof(*resolve->sizes)),
		.sight_sizes = calloc(max, sizeof(*resolve->sight_sizes)),
		.seen = calloc(max, sizeof(*resolve->seen)),
		.keys = calloc(max, ROW_SIGHT_KEY_BYTES),
		.which = calloc(max, sizeof(*resolve->which)),
	};
	if (!resolve->values || !resolve->sizes || !resolve->sight_sizes || !resolve->seen || !resolve->keys ||
	    !resolve->which)
		return ERR_RAISE(-ENOMEM);
	return 0;
}

void resolve_fini(struct resolve *resolve)
{
	free(resolve->values);
	free(resolve->sizes);
	free(resolve->sight_sizes);
	free(resolve->seen);
	free(resolve->keys);
	free(resolve->which);
	*resolve = (struct resolve){ 0 };
}

static const uint8_t *resolve_hash(const struct resolve *resolve, size_t i)
{
	return resolve->hashes + i * resolve->stride;
}

static bool resolve_row(const struct resolve *resolve, size_t i, struct row_blob *row)
{
	if (resolve->sizes[i] != ROW_BLOB_BYTES)
		return false;
	return row_blob_decode(row, span_make(resolve->values + i * ROW_BLOB_BYTES, ROW_BLOB_BYTES));
}

static void resolve_on_sights(struct index_get *get)
{
	struct resolve *resolve = container_of(get, struct resolve, get);

	for (size_t k = 0; k < resolve->which_count && !get->result; k++)
		resolve->seen[resolve->which[k]] = resolve->sight_sizes[k] >= 0;
	resolve->result = get->result;
	resolve->fn(resolve);
}

static void resolve_on_blobs(struct index_get *get)
{
	struct resolve *resolve = container_of(get, struct resolve, get);
	struct row_blob row;

	resolve->which_count = 0;
	for (size_t i = 0; i < resolve->count && !get->result; i++) {
		if (!resolve_row(resolve, i, &row))
			continue;
		resolve->seen[i] = resolve->scope.tenant == 0 ||
			(row.tenant == resolve->scope.tenant && row.instance == resolve->scope.instance);
		if (resolve->seen[i])
			continue;
		row_sight_key(resolve->keys + resolve->which_count * ROW_SIGHT_KEY_BYTES, resolve_hash(resolve, i),
		              resolve->scope.tenant, resolve->scope.instance);
		resolve->which[resolve->which_count++] = (uint16_t)i;
	}
	if (get->result || resolve->which_count == 0) {
		resolve->result = get->result;
		resolve->fn(resolve);
		return;
	}
	resolve->get = (struct index_get){
		.table = INDEX_BLOBS,
		.keys = resolve->keys,
		.key_size = ROW_SIGHT_KEY_BYTES,
		.key_stride = ROW_SIGHT_KEY_BYTES,
		.count = resolve->which_count,
		.values = resolve->values,       /* these rows have empty values: nothing is overwritten */
		.value_stride = 0,
		.sizes = resolve->sight_sizes,
		.fn = resolve_on_sights,
	};
	resolve->store->engine->get(resolve->store->index, &resolve->get);
}

void resolve_start(struct resolve *resolve)
{
	CHECK(resolve->count <= resolve->max);
	resolve->done = resolve->store->commit.done;
	memset(resolve->seen, 0, resolve->count * sizeof(*resolve->seen));
	resolve->get = (struct index_get){
		.table = INDEX_BLOBS,
		.keys = resolve->hashes,
		.key_size = DIGEST_HASH_BYTES,
		.key_stride = resolve->stride,
		.count = resolve->count,
		.values = resolve->values,
		.value_stride = ROW_BLOB_BYTES,
		.sizes = resolve->sizes,
		.fn = resolve_on_blobs,
	};
	resolve->store->engine->get(resolve->store->index, &resolve->get);
}

bool resolve_stale(const struct resolve *resolve)
{
	return resolve->done != resolve->store->commit.done;
}

static struct sight sight_of_entry(const struct pending_entry *entry, bool visible)
{
	return (struct sight){
		.exists = true,
		.visible = visible,
		.pending = true,
		.place = entry->place,
		.size = entry->size,
	};
}

/* An index row counts only while its segment is in the generation that it speaks of, and not being emptied. */
static bool row_counts(const struct store *store, const struct row_blob *row)
{
	const struct segment *segment;

	if (row->place.segment >= store->segments_max)
		return false;
	segment = &store->segments[row->place.segment];
	return segment->row.generation == row->place.generation &&
	       (segment->row.state == SEGMENT_OPEN || segment->row.state == SEGMENT_SEALED);
}

static bool is_gone(const struct pending_entry *entry)
{
	return entry && entry->kind == PENDING_GONE;
}

/* The newest word counts: open generation, frozen one, index. What was seen before a quarantine is seen no more. */
struct sight resolve_sight(const struct resolve *resolve, size_t i)
{
	const struct store *store = resolve->store;
	const struct pending *open = &store_open_generation(store)->pending;
	const struct pending *frozen = &store_frozen_generation(store)->pending;
	const uint8_t *hash = resolve_hash(resolve, i);
	const struct pending_entry *newest = pending_blob(open, hash), *older = pending_blob(frozen, hash);
	bool all = resolve->scope.tenant == 0, seen_index, seen_frozen, seen;
	struct row_blob row;

	if (is_gone(newest) || (!newest && is_gone(older)))
		return (struct sight){ 0 };
	if (!newest && !older && (!resolve_row(resolve, i, &row) || !row_counts(store, &row)))
		return (struct sight){ 0 };
	seen_index = resolve->seen[i] && !is_gone(older) && !(older && older->purge);
	seen_frozen = all || (seen_index || pending_sees(frozen, hash, &resolve->scope));
	seen = all || (seen_frozen && !(newest && newest->purge)) || pending_sees(open, hash, &resolve->scope);
	if (newest)
		return sight_of_entry(newest, seen);
	if (older)
		return sight_of_entry(older, seen);
	return (struct sight){ .exists = true, .visible = seen, .place = row.place, .size = row.size };
}
