/* Notes: small values by key. */
#include "gateway/base/check.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"

static bool note_is(const struct store_note *a, const struct store_note *b)
{
	return a->scope.tenant == b->scope.tenant && a->scope.instance == b->scope.instance &&
	       a->key_size == b->key_size && memcmp(a->key, b->key, a->key_size) == 0;
}

/* The newest of a generation. */
static const struct store_note *note_pending(const struct generation *generation, const struct store_note *like)
{
	for (struct list *link = generation->notes.prev; link != &generation->notes; link = link->prev) {
		const struct store_note *note = container_of(link, struct store_note, link);

		if (note_is(note, like))
			return note;
	}
	return NULL;
}

static int note_get(struct store *store, struct store_note *note)
{
	const struct store_note *pending = note_pending(store_open_generation(store), note);
	uint8_t key[8 + STORE_NOTE_KEY_MAX];
	struct index_scan scan = {
		.table = INDEX_NOTES,
		.rows_capacity = INDEX_SCAN_ROW_MAX,
		.rows_max = 1,
	};
	uint8_t rows[INDEX_SCAN_ROW_MAX];
	struct index_row row;
	size_t at = 0;
	int r;

	if (!pending)
		pending = note_pending(store_frozen_generation(store), note);
	if (pending) {
		memcpy(note->value, pending->value, pending->value_size);
		note->value_size = pending->value_size;
		return STORE_OK;
	}
	bytes_put32_key(key, note->scope.tenant);
	bytes_put32_key(key + 4, note->scope.instance);
	memcpy(key + 8, note->key, note->key_size);
	memcpy(scan.key, key, 8 + note->key_size);
	scan.key_size = scan.prefix_size = 8 + note->key_size;
	scan.rows = rows;
	r = store->engine->scan_now(store->index, &scan);
	if (r)
		return r;
	if (!index_scan_next(&scan, &at, &row) || row.key.size != scan.prefix_size ||
	    row.value.size > STORE_NOTE_VALUE_MAX)
		return STORE_MISSING;
	memcpy(note->value, row.value.data, row.value.size);
	note->value_size = row.value.size;
	return STORE_OK;
}

void store_note_get(struct store *store, struct store_note *note)
{
	CHECK(note->key_size <= STORE_NOTE_KEY_MAX);
	note->result = note_get(store, note);
	note->fn(note);
}

void store_note_put(struct store *store, struct store_note *note)
{
	CHECK(note->key_size <= STORE_NOTE_KEY_MAX);
	CHECK(note->value_size <= STORE_NOTE_VALUE_MAX);
	list_append(&store_open_generation(store)->notes, &note->link);
	commit_want(store);
	store_step(store);
}
