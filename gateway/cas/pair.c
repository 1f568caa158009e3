/* Pairs as notes of the store: "blob", hash and size, to the recipe's digest. */
#include "gateway/cas/pair.h"

#include "gateway/cas/note_key.h"
#include "proto/sluice_v1.h"

#define PAIR_TAG 'b'

static void pair_on_found(struct store_note *note)
{
	struct pair *pair = container_of(note, struct pair, note);
	struct span value = span_make(note->value, note->value_size);

	pair->result = note->result;
	if (note->result == STORE_OK && !digest_list_next(&value, &pair->recipe))
		pair->result = STORE_MISSING;
	pair->fn(pair);
}

void pair_find(struct store *store, struct pair *pair)
{
	note_key(&pair->note, &pair->scope, PAIR_TAG, &pair->blob);
	pair->note.fn = pair_on_found;
	store_note_get(store, &pair->note);
}

static void pair_on_sized(struct store_note *note)
{
	struct pair *pair = container_of(note, struct pair, note);

	pair->blob.size = 0;
	for (size_t i = NOTE_KEY_HASH_BYTES; i < NOTE_KEY_BYTES; i++)
		pair->blob.size = pair->blob.size << 8 | note->key[i];
	if (note->result == STORE_OK && note->key_size != NOTE_KEY_BYTES)
		note->result = STORE_MISSING;
	pair_on_found(note);
}

void pair_find_sized(struct store *store, struct pair *pair)
{
	note_key(&pair->note, &pair->scope, PAIR_TAG, &pair->blob);
	pair->note.key_size = NOTE_KEY_HASH_BYTES;
	pair->note.fn = pair_on_sized;
	store_note_find(store, &pair->note);
}

static void pair_on_kept(struct store_note *note)
{
	struct pair *pair = container_of(note, struct pair, note);

	pair->result = note->result;
	pair->fn(pair);
}

void pair_keep(struct store *store, struct pair *pair)
{
	struct buffer value = buffer_over(pair->note.value, sizeof(pair->note.value));

	note_key(&pair->note, &pair->scope, PAIR_TAG, &pair->blob);
	digest_list_put(&value, &pair->recipe);
	pair->note.value_size = value.size;
	pair->note.fn = pair_on_kept;
	store_note_put(store, &pair->note);
}
