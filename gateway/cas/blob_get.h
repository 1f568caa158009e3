/* blob_get: a blob of either kind, whole, in memory: for messages that may be longer than a record. */
#pragma once

#include "gateway/cas/pair.h"
#include "gateway/cas/playback.h"

struct blob_get {
	struct cas *cas;
	struct scope scope;
	struct digest digest;
	uint64_t bytes_max;
	void (*fn)(struct blob_get *get);        /* inline or later */
	int result;                      /* STORE_OK, STORE_MISSING (also a damaged one), -EMSGSIZE, -errno */
	struct span blob;                /* until blob_get_fini() */
	/* The rest is blob_get's. */
	uint8_t *memory;
	size_t have;
	struct store_read read;
	struct pair pair;
	struct playbacks *playbacks;
	struct playback playback;
};

/* The first six fields are the caller's, the rest zero. No cancel. */
void blob_get(struct blob_get *get);
/* After `fn`, or of an all-zero one; all-zero afterwards. */
void blob_get_fini(struct blob_get *get);
