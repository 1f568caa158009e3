/* Notes: small values by key. */
#include "gateway/base/check.h"
#include "gateway/store/bytes.h"
#include "gateway/store/state.h"

/* `like`: the key, or what it begins with. */
static bool note_is(const struct store_note *note, const struct store_note *like, bool begins)
{
	return scope_same(&note->scope, &like->scope) &&
	       (begins ? note->key_size >= like->key_size : note->key_size == like->key_size) &&
	       memcmp(note->key, like->key, like->key_size) == 0;
}

/* The newest of a generation. */
static const struct store_note *note_pending(const struct generation *generation, const struct store_note *like, bool begins)
{
	for (struct list *link = generation->notes.prev; link != &generation->notes; link = link->prev) {
		const struct store_note *note = container_of(link, struct store_note, link);

		if (note_is(note, like, begins))
			return note;
	}
	return NULL;
}

static int note_get(struct store *store, struct store_note *note, bool begins)
{
	const struct store_note *pending = note_pending(store_open_generation(store), note, begins);
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
		pending = note_pending(store_frozen_generation(store), note, begins);
	if (pending) {
		memcpy(note->key, pending->key, pending->key_size);
		note->key_size = pending->key_size;
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
	if (!index_scan_next(&scan, &at, &row) || (begins ? row.key.size > sizeof(key) : row.key.size != scan.prefix_size) ||
	    row.value.size > STORE_NOTE_VALUE_MAX)
		return STORE_MISSING;
	memcpy(note->key, row.key.data + 8, row.key.size - 8);
	note->key_size = row.key.size - 8;
	memcpy(note->value, row.value.data, row.value.size);
	note->value_size = row.value.size;
	return STORE_OK;
}

void store_note_get(struct store *store, struct store_note *note)
{
	CHECK(note->key_size <= STORE_NOTE_KEY_MAX);
	note->result = note_get(store, note, false);
	note->fn(note);
}

void store_note_find(struct store *store, struct store_note *note)
{
	CHECK(note->key_size <= STORE_NOTE_KEY_MAX);
	note->result = note_get(store, note, true);
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
