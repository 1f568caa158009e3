/*
 * verifier: digests of blobs that came whole. Many small ones come at a time, each by a call of its own: those that end in one turn
 * of the loop are hashed together, in as many lanes as the hasher has, where one by one they would all be single streams. On the
 * ring's thread.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/base/list.h"
#include "gateway/ring/ring.h"
#include "proto/span.h"

#define VERIFIER_JOBS_MAX  64
#define VERIFIER_LOT_BYTES (512u << 10)  /* of blobs that are hashed in one turn, if it is more than one */

struct verifier {
	struct ring *ring;
	const struct sha256 *hasher;
	struct list waiting;
	struct post turn;
	bool posted;
};

/* Embedded in its owner, who keeps it and the bytes until `fn`, which comes once, from the loop. */
struct verification {
	struct span bytes;
	uint8_t hash[SHA256_BYTES];      /* out */
	void (*fn)(struct verification *verification);
	struct list link;
};

void verifier_init(struct verifier *verifier, struct ring *ring, const struct sha256 *hasher);
/* Never refused: whoever has bytes that wait here has had memory for them. */
void verifier_add(struct verifier *verifier, struct verification *verification);
