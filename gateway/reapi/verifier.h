/*
 * verifier: digests of blobs that come in, each by a call of its own. One SHA-256 is a serial chain, and a hasher has several
 * lanes: what many calls have received is hashed side by side, once it is a lot, or once somebody can't go on without it. Small
 * blobs are whole by then; of long ones it is the next bytes. On the ring's thread.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/base/list.h"
#include "gateway/ring/ring.h"

#define VERIFIER_JOBS_MAX  160
#define VERIFIER_SHARE_MAX 40            /* jobs of one verification in a turn */
#define VERIFIER_OWN_BYTES (1u << 20)    /* of one: enough to be hashed, whoever else is there */
#define VERIFIER_LOT_BYTES (2u << 20)    /* of all: the same; a turn begins nothing more behind them. Eight calls' fill 16 lanes */

struct verifier {
	struct ring *ring;
	const struct sha256 *hasher;
	struct list urgent, waiting;
	size_t lot_bytes;                /* no more than VERIFIER_LOT_BYTES: with two lanes one call's are enough */
	size_t bytes;                    /* of those in both lists */
	struct post turn;
	bool posted;
};

/* Embedded in its owner, zeroed at first, who sets the two functions. */
struct verification {
	/* In a turn: writes what is to be hashed now; at most VERIFIER_SHARE_MAX jobs. Returns how many. */
	size_t (*jobs)(struct verification *verification, struct sha256_job *jobs);
	/* Behind that, in the same turn: they are done. It may be added again, others may be dropped, its owner may go. */
	void (*fn)(struct verification *verification, const struct sha256_job *jobs);
	/* The rest is the verifier's. */
	struct list link;
	bool is_urgent, in_turn;
	size_t bytes, first_job;
};

void verifier_init(struct verifier *verifier, struct ring *ring, const struct sha256 *hasher);
/*
 * `bytes` more can be hashed; `fn` comes from the loop, never from in here. `urgent`: the owner waits for it; otherwise they wait
 * for as many as are worth a turn, perhaps for ever. Never refused: whoever has bytes that wait here has had memory for them.
 */
void verifier_add(struct verifier *verifier, struct verification *verification, size_t bytes, bool urgent);
/* Nothing comes any more. What was never added may be dropped, too. */
void verifier_drop(struct verifier *verifier, struct verification *verification);
