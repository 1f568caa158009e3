/* Keys of results: note_key.h, and what it begins with. */
#include "gateway/cas/results.h"

#include "gateway/cas/note_key.h"
#include "proto/buffer.h"
#include "proto/sluice_v1.h"

#define RESULT_TAG 'a'
#define WEB_TAG    'h'

void results_key(struct store_note *note, const struct scope *scope, const struct digest *action)
{
	note_key(note, scope, RESULT_TAG, action);
}

static void hash_key(struct store_note *note, const struct scope *scope, char tag, const struct digest *digest)
{
	note_key(note, scope, tag, digest);
	note->key_size = NOTE_KEY_HASH_BYTES;
}

void results_key_begin(struct store_note *note, const struct scope *scope, const struct digest *action)
{
	hash_key(note, scope, RESULT_TAG, action);
}

void results_key_web(struct store_note *note, const struct scope *scope, const struct digest *key)
{
	hash_key(note, scope, WEB_TAG, key);
}

void results_note_web(struct store_note *note, const struct scope *scope, const struct digest *key, uint8_t kind, const struct digest *digest)
{
	struct buffer value = buffer_over(note->value, sizeof(note->value));

	results_key_web(note, scope, key);
	buffer_put(&value, &kind, 1);
	digest_list_put(&value, digest);
	note->value_size = value.size;
}
