/*
 * based: blobs whose edits are made: what they are told by, and how (proto/delta.h). Pure.
 */
#pragma once

#include "gateway/base/digest_map.h"
#include "proto/buffer.h"

#define BASED_BYTES_MAX (1u << 20)       /* of edits, all together; what comes then is not kept, and goes whole */

struct based_blob {
	struct digest blob;
	struct digest base;
	size_t at, size;                 /* of its edits, in `edits` */
};

struct based {
	struct digest_map blobs;         /* of struct based_blob */
	struct buffer edits;
};

void based_fini(struct based *based);                    /* all-zero is accepted, and has none */
/* The first one told of a blob counts. May be dropped. */
void based_add(struct based *based, const struct digest *blob, const struct digest *base, struct span edits);
/* NULL: none. Until the next based_add(). */
const struct based_blob *based_find(const struct based *based, const struct digest *blob);

static inline struct span based_edits(const struct based *based, const struct based_blob *of)
{
	return span_make(based->edits.data + of->at, of->size);
}
