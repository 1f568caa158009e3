/* What memory knows of the index's names. */
#include "gateway/store/recall.h"

#include <stdlib.h>
#include <string.h>

/* What a blob's rows take of the map, at least: so many names may come to be there. */
#define BLOB_ROWS_BYTES 160
#define CHANGES_FIRST   256u

void recall_init(struct recall *recall, uint64_t map_bytes)
{
	*recall = (struct recall){ 0 };
	(void)filter_init(&recall->filter, map_bytes / BLOB_ROWS_BYTES);
	(void)row_cache_init(&recall->cache, map_bytes / BLOB_ROWS_BYTES);
}

void recall_fini(struct recall *recall)
{
	filter_fini(&recall->filter);
	row_cache_fini(&recall->cache);
}

/* ---- asking ---- */

bool recall_understand(const struct index_get *get)
{
	return get->table == INDEX_BLOBS && get->key_size == DIGEST_HASH_BYTES && get->value_stride >= ROW_BLOB_BYTES;
}

static const uint8_t *get_key(const struct index_get *get, size_t i)
{
	return get->keys + i * get->key_stride;
}

static void recall_prefetch(const struct recall *recall, const uint8_t *hash, bool filters)
{
	if (filters)
		filter_prefetch(&recall->filter, hash);
	row_cache_prefetch(&recall->cache, hash);
}

static bool recall_answer(struct recall *recall, const struct index_get *get, size_t i, bool filters)
{
	const uint8_t *hash = get_key(get, i), *row;

	if (filters && !filter_may(&recall->filter, hash)) {
		get->sizes[i] = -1;
		return true;
	}
	row = row_cache_find(&recall->cache, hash);
	if (!row)
		return false;
	memcpy(get->values + i * get->value_stride, row, ROW_BLOB_BYTES);
	get->sizes[i] = ROW_BLOB_BYTES;
	return true;
}

size_t recall_sift(struct recall *recall, const struct index_get *get, size_t from, size_t count, uint16_t which[static RECALL_SIFT_MAX])
{
	/* One alone is mostly asked for to be read, and so is there: the filter would only cost an access to memory. */
	bool filters = recall->complete && recall->filter.blocks && !filter_full(&recall->filter) && get->count > 1;
	size_t end = from + count, kept = 0;

	for (size_t i = from; i < end && i < from + RECALL_AHEAD; i++)
		recall_prefetch(recall, get_key(get, i), filters);
	for (size_t i = from; i < end; i++) {
		if (i + RECALL_AHEAD < end)
			recall_prefetch(recall, get_key(get, i + RECALL_AHEAD), filters);
		if (!recall_answer(recall, get, i, filters))
			which[kept++] = (uint16_t)(i - from);
	}
	return kept;
}

void recall_learn(struct recall *recall, const uint8_t *hash, struct span row)
{
	if (row.size == ROW_BLOB_BYTES)
		row_cache_put(&recall->cache, hash, row.data);
}

void recall_add(struct recall *recall, const uint8_t *hash)
{
	filter_add(&recall->filter, hash);
}

/* ---- changing ---- */

/* Into the filter a few names later, when the memory for it has come. */
static void changes_add(struct recall *recall, struct recall_changes *changes, const uint8_t *hash)
{
	uint8_t *slot = changes->adds[changes->adds_count % RECALL_AHEAD];

	if (changes->adds_count >= RECALL_AHEAD)
		filter_add(&recall->filter, slot);
	memcpy(slot, hash, DIGEST_HASH_BYTES);
	filter_prefetch(&recall->filter, hash);
	changes->adds_count++;
}

static struct recall_change *changes_grow(struct recall_changes *changes)
{
	if (changes->lost)
		return NULL;
	if (changes->count == changes->capacity) {
		size_t capacity = changes->capacity ? changes->capacity * 2 : CHANGES_FIRST;
		struct recall_change *grown = NULL;

		if (capacity <= RECALL_CHANGES_MAX)
			grown = realloc(changes->changes, capacity * sizeof(*grown));
		if (!grown) {
			changes->lost = true;
			return NULL;
		}
		changes->changes = grown;
		changes->capacity = capacity;
	}
	return &changes->changes[changes->count++];
}

static void changes_put(struct recall *recall, struct recall_changes *changes, const struct index_change *change)
{
	bool put = change->kind == INDEX_PUT && change->value.size == ROW_BLOB_BYTES;
	struct recall_change *noted;

	if (change->kind == INDEX_PUT)
		changes_add(recall, changes, change->key);
	noted = changes_grow(changes);
	if (!noted)
		return;
	memcpy(noted->hash, change->key, DIGEST_HASH_BYTES);
	noted->put = put;
	if (put)
		memcpy(noted->row, change->value.data, ROW_BLOB_BYTES);
}

void recall_note(struct recall *recall, struct recall_changes *changes, const struct index_change *change)
{
	if (change->table != INDEX_BLOBS)
		return;
	if (change->key_size == DIGEST_HASH_BYTES)
		changes_put(recall, changes, change);
	else if (change->kind == INDEX_DELETE_GROUP)
		changes->lost = true;    /* of many names */
}

void recall_noted(struct recall *recall, struct recall_changes *changes)
{
	for (size_t i = 0; i < RECALL_AHEAD && i < changes->adds_count; i++)
		filter_add(&recall->filter, changes->adds[i]);
}

static void recall_take_one(struct recall *recall, const struct recall_change *change)
{
	if (change->put)
		row_cache_put(&recall->cache, change->hash, change->row);
	else
		row_cache_forget(&recall->cache, change->hash);
}

void recall_take(struct recall *recall, struct recall_changes *changes)
{
	if (changes->lost)
		row_cache_forget_all(&recall->cache);
	for (size_t i = 0; i < changes->count && !changes->lost; i++) {
		if (i + RECALL_AHEAD < changes->count)
			row_cache_prefetch(&recall->cache, changes->changes[i + RECALL_AHEAD].hash);
		recall_take_one(recall, &changes->changes[i]);
	}
	free(changes->changes);
	*changes = (struct recall_changes){ 0 };
}
