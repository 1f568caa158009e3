/*
 * results: under which keys action results are noted in the store, a scope's own: those that REAPI's clients brought, by the
 * action's digest; and what HTTP clients put under /ac/, by 64 hex digits, which need not be a result at all.
 */
#pragma once

#include "gateway/store/store.h"

/* ActionCache's. One without a value: what was brought counts no more, as if it had never been. */
void results_key(struct store_note *note, const struct scope *scope, const struct digest *action);
/* What such a key begins with when the action's size is not known: for store_note_find(). */
void results_key_begin(struct store_note *note, const struct scope *scope, const struct digest *action);
/* Of /ac/. Such a note's first byte says what it is; the digest follows. */
enum { RESULTS_WEB_RESULT = 'r', RESULTS_WEB_VALUE = 'v' };
void results_key_web(struct store_note *note, const struct scope *scope, const struct digest *key);
/* Key and value, for store_note_put(): under `key` lies `digest`, of that kind. */
void results_note_web(struct store_note *note, const struct scope *scope, const struct digest *key, uint8_t kind, const struct digest *digest);
