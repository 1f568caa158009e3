/*
 * recent: a small value a key, of the RECENT_MAX keys used last: what a context's root was, so that its edge need only look at
 * what is different; which lineage a client's directory went by. Whose keys are more than RECENT_SHARE makes room with his own.
 * Hints: what is forgotten costs bytes. In memory. Pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RECENT_MAX             4096
#define RECENT_SHARE           (RECENT_MAX / 4)
#define RECENT_KEY_BYTES       32
#define RECENT_VALUE_BYTES_MAX 40

struct recent {
	struct recent_row *rows;         /* NULL: nothing was remembered yet */
	uint32_t count;
	uint64_t clock;
};

/* NULL: not known. Lent until the next call. */
const void *recent_find(struct recent *recent, const uint8_t key[static RECENT_KEY_BYTES]);
/* `owner`: a tenant. May be dropped for want of memory. */
void recent_remember(struct recent *recent, uint64_t owner, const uint8_t key[static RECENT_KEY_BYTES], const void *value,
                     size_t bytes);
void recent_forget(struct recent *recent, const uint8_t key[static RECENT_KEY_BYTES]);
void recent_fini(struct recent *recent);         /* all-zero is accepted */
