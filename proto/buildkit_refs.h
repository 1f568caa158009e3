/*
 * buildkit_refs: the references that a daemon gives out for results, and a table to say them anew. LLBBridge/Solve
 * answers with references that later calls (Return, ReadFile, Evaluate, NewContainer) name. When the calls of a build
 * are repeated on another daemon, its answer has other references at the same places; the client goes on with those
 * that it was told. So requests are rewritten: each old reference to the new one. All are 25 characters, so the
 * message keeps its length.
 *
 * A reference is a string field of its own wherever it stands, so it is found by its length byte and its characters;
 * which message it is in does not matter. About 129 bits of it are random (moby/buildkit identity.NewID).
 * Source: moby/buildkit v0.32.2 frontend/gateway/pb/gateway.proto (Result, Ref, RefMap, Attestations), gateway.go
 * (Solve).
 */
#pragma once

#include "proto/span.h"

#define BUILDKIT_REF_BYTES 25
#define BUILDKIT_REFS_MAX  128           /* of an answer, and of a build */

struct buildkit_ref_pair {
	uint8_t told[BUILDKIT_REF_BYTES];        /* what the client knows */
	uint8_t now[BUILDKIT_REF_BYTES];         /* what the daemon knows */
};

/* Zeroed: empty. Owns what is in it. */
struct buildkit_ref_map {
	size_t count;
	struct buildkit_ref_pair pairs[BUILDKIT_REFS_MAX];
};

enum buildkit_refs_outcome {
	BUILDKIT_REFS_LEARNED = 0,
	BUILDKIT_REFS_MALFORMED,                 /* one of the answers is no SolveResponse */
	BUILDKIT_REFS_DIFFER,                    /* not the same places, or a reference of another form */
	BUILDKIT_REFS_FULL,                      /* more than BUILDKIT_REFS_MAX */
};

/*
 * Learns from two answers (LLBBridge SolveResponse) to the same request what is to be said instead of each reference
 * in `told`: what stands at its place (alone, by platform, or the nth attestation of a platform) in `now`. A
 * reference that was learned before gets its new meaning. Unless it is LEARNED, `map` is as before.
 */
enum buildkit_refs_outcome buildkit_refs_learn(struct buildkit_ref_map *map, struct span told, struct span now);

/* Rewrites the references of `map` in an encoded message, in one pass; returns how many there were. */
size_t buildkit_refs_rewrite(const struct buildkit_ref_map *map, uint8_t *message, size_t size);
