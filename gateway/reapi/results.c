/* Keys of results: note_key.h, and what it begins with. */
#include "gateway/reapi/results.h"

#include "gateway/cas/note_key.h"

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
