/*
 * push_sign: signatures (proto/delta.h) of blobs that a pusher has here, so that one who has not kept their bytes can tell others
 * by them. What a tenant does not have is told to be absent, whoever else has it; all is, to who may not read. On the ring's
 * thread; one start, one `fn`.
 */
#pragma once

#include "gateway/cas/blob_reads.h"
#include "proto/sluice_v1.h"

struct push_sign {
	bool *present;                   /* out, a blob each */
	struct buffer hashes;            /* out: of those that are, in order */
	int result;                      /* 0, or -errno */
	/* The rest is its own. */
	void (*fn)(struct push_sign *sign);
	size_t *offsets;
	struct blob_reads reads;
};

/* `digests`: of SLUICE_BASES_BYTES together at most; kept until `fn`, which may come inline. */
void push_sign_start(struct push_sign *sign, struct store *store, const struct scope *scope, const struct digest *digests,
                     size_t count, void (*fn)(struct push_sign *sign));
void push_sign_fini(struct push_sign *sign);             /* not between start and `fn`; all-zero is accepted */
