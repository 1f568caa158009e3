/* Pairs as notes of the store: "blob", hash and size, to the recipe's digest. */
#include "gateway/cas/pair.h"

#include "proto/sluice_v1.h"

#define PAIR_TAG 'b'
#define PAIR_KEY_BYTES (1 + DIGEST_HASH_BYTES + 8)

static void pair_key(struct pair *pair)
{
	uint8_t *at = pair->note.key;

	pair->note.scope = pair->scope;
	pair->note.key_size = PAIR_KEY_BYTES;
	*at++ = PAIR_TAG;
	memcpy(at, pair->blob.hash, DIGEST_HASH_BYTES);
	at += DIGEST_HASH_BYTES;
	for (unsigned i = 0; i < 8; i++)
		*at++ = (uint8_t)(pair->blob.size >> (56 - 8 * i));
}

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
	pair_key(pair);
	pair->note.fn = pair_on_found;
	store_note_get(store, &pair->note);
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

	pair_key(pair);
	digest_list_put(&value, &pair->recipe);
	pair->note.value_size = value.size;
	pair->note.fn = pair_on_kept;
	store_note_put(store, &pair->note);
}
