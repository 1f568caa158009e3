/*
 * pending: what was accepted and is not in the index yet, in memory, bounded. A store has two: one that takes new
 * entries, one that a commit is writing out and nobody changes.
 */
#pragma once

#include "gateway/store/rows.h"

#define PENDING_MAX 16384                /* a commit's dirty index pages are at most about that many: 64 MiB of them */

enum pending_kind {
	PENDING_NOTHING,                 /* taken back */
	PENDING_BLOB,                    /* lies at `place`; seen by the scope */
	PENDING_SIGHT,                   /* is elsewhere; seen by the scope, too */
	PENDING_GONE,                    /* quarantined at `place` */
};

struct pending_entry {
	uint8_t hash[DIGEST_HASH_BYTES];
	uint32_t size;
	uint8_t kind;
	bool purge;                      /* a blob that replaces a quarantined one: forget who saw that */
	bool moved;                      /* a copy: what was at `gone` is listed there no more */
	struct place place, gone;
	uint32_t tenant, instance;
};

struct pending_order {
	uint32_t begin;                  /* of the hash, as a number that sorts as it does */
	uint32_t entry;                  /* index into entries */
};

struct pending {
	struct pending_entry *entries;
	uint32_t *table;                 /* 1 + index into entries, below the upper bits of the name's bucket; 0: empty */
	struct pending_order *order;     /* for the commit; PENDING_MAX, then as much room for sorting */
	uint32_t count;
	uint64_t secret;
};

/* `secret` keeps anyone from aiming at one bucket. 0 or -ENOMEM. */
int pending_init(struct pending *pending, uint64_t secret);
void pending_fini(struct pending *pending);
void pending_clear(struct pending *pending);

/* The blob's own entry (PENDING_BLOB or PENDING_GONE); NULL: none. */
struct pending_entry *pending_blob(const struct pending *pending, const uint8_t *hash);
bool pending_sees(const struct pending *pending, const uint8_t *hash, const struct scope *scope);
/* Any entry says that somebody's acceptance of this blob is not in the index yet. */
bool pending_has(const struct pending *pending, const uint8_t *hash);

/* NULL: full. */
struct pending_entry *pending_add(struct pending *pending, enum pending_kind kind, const struct digest *digest,
                                  const struct scope *scope, struct place place);
/* Takes back what scopes were to see of it; its own entry becomes PENDING_GONE. */
void pending_turn_gone(struct pending *pending, struct pending_entry *blob);

/* Fills `order`: by the first four bytes of the hash, of which it is enough to know for a commit; else as they were added. */
void pending_sort(struct pending *pending);
