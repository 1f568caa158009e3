/*
 * digest_hash: where a digest belongs in a hash table. Digests are what a peer says of its blobs, whether it has them or not, and
 * an index of a few bits of theirs would be the peer's to choose: with a million names that meet in one place each look takes
 * a million steps. So all of a digest goes through SipHash-1-3 under a secret of the table's own.
 */
#pragma once

#include "proto/digest.h"

struct digest_secret {
	uint64_t words[2];
};

/* One that nobody can guess. It decides on places in a table and on nothing that could be seen from outside. */
struct digest_secret digest_secret_make(void);
uint64_t digest_hash(const struct digest *digest, const struct digest_secret *secret);
