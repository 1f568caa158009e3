/*
 * known: which blobs the gateway has had whole, by what this edge committed there: a set a trust key, shared by all filter
 * sets of a directory. Only what is not in it has to be asked about. It is a hint: what the gateway lost all the same shows
 * as a hole in a commit, and then known_forget() and a walk along closure marks. So eight bytes are kept of each: of its digest's keyed
 * hash, as whoever writes the files has a hand in their digests.
 *
 * In memory only, of the KNOWN_SETS_MAX directories used last: an edge that was restarted walks once. Pure; one thread.
 */
#pragma once

#include "gateway/base/digest_hash.h"
#include "gateway/base/list.h"

#define KNOWN_SETS_MAX    64
#define KNOWN_BLOBS_MAX   (1u << 21)     /* of a set; beyond, it begins anew */
#define KNOWN_KEY_BYTES   32

struct known_set {
	uint64_t *slots;                 /* 0: free */
	size_t capacity, count;
	struct digest_secret secret;
	/* The rest is known's. */
	uint8_t key[KNOWN_KEY_BYTES];
	unsigned users;
	struct list link;
};

struct known {
	struct list sets;                /* the one used last at the end */
	unsigned count;
};

void known_init(struct known *known);
void known_fini(struct known *known);    /* no set has a user */

/* The set of this key, empty when there was none; the caller's until known_put(). NULL: no memory. */
struct known_set *known_get(struct known *known, const uint8_t key[static KNOWN_KEY_BYTES]);
void known_put(struct known_set *set);   /* NULL is accepted */

bool known_has(const struct known_set *set, const struct digest *digest);
/* May be dropped, when memory is out. */
void known_add(struct known_set *set, const struct digest *digest);
void known_forget(struct known_set *set);
