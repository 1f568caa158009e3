/* blob_find: how long is the blob of this hash? For who names blobs by their hash alone, as HTTP caches do. */
#pragma once

#include "gateway/cas/cas.h"
#include "gateway/cas/pair.h"

struct blob_find {
	struct cas *cas;
	struct scope scope;
	struct digest digest;            /* `size` is found */
	void (*fn)(struct blob_find *find);      /* inline or later */
	int result;                      /* STORE_OK, STORE_MISSING, -errno */
	/* The rest is blob_find's. */
	struct store_lookup lookup;
	uint32_t place;
	uint64_t size;
	struct pair pair;
};

/* The first four fields are the caller's, the rest zero. That a long one's pair is there does not yet say that its chunks are. */
void blob_find(struct blob_find *find);
