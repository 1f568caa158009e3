/*
 * source: blobs by digest, in batches, blocking: from the gateway (client.h), from a cache, from a test's table.
 */
#pragma once

#include "proto/digest.h"
#include "proto/span.h"

struct source {
	/*
	 * Fetches `count` blobs; calls `visit` once for each, in any order, `blob` borrowed until it returns; `index` says
	 * which. A visit that returns non-zero ends the fetch with that value. 0; -ENOENT: a blob is missing
	 * (`why` names it); -EBADMSG: its bytes do not match its digest; else -errno. Digests are checked by the source.
	 *
	 * One fetch at a time: answers come in the order asked. A visit may fetch from the same source only of the last blob
	 * that was asked for (of one, say), whose bytes are gone with that.
	 */
	int (*fetch)(struct source *source, const struct digest *digests, size_t count,
	             int (*visit)(void *context, size_t index, struct span blob), void *context, char *why, size_t why_size);
	/*
	 * One blob, of any length, in pieces, which come in order; its digest is checked at the end. As fetch() otherwise. NULL:
	 * this source has none that fetch() would not take.
	 */
	int (*stream)(struct source *source, const struct digest *digest,
	              int (*visit)(void *context, uint64_t offset, struct span bytes), void *context, char *why, size_t why_size);
};
