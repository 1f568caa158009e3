/* note_key: notes of the store about something that has a digest; the tag, a letter, says what is noted of it. */
#pragma once

#include "gateway/store/store.h"

#define NOTE_KEY_HASH_BYTES (1 + DIGEST_HASH_BYTES)      /* what it begins with, for who does not know the size */
#define NOTE_KEY_BYTES      (NOTE_KEY_HASH_BYTES + 8)

/* Whose note it is, and its key: the tag, the hash, and the size with its highest byte first. */
static inline void note_key(struct store_note *note, const struct scope *scope, char tag, const struct digest *digest)
{
	uint8_t *at = note->key;

	note->scope = *scope;
	note->key_size = NOTE_KEY_BYTES;
	*at++ = (uint8_t)tag;
	memcpy(at, digest->hash, DIGEST_HASH_BYTES);
	at += DIGEST_HASH_BYTES;
	for (unsigned i = 0; i < 8; i++)
		*at++ = (uint8_t)(digest->size >> (56 - 8 * i));
}
