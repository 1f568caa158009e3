/*
 * same: what the entries of the roots given last were, 8 bytes each: so an edge can say how far a context is as it was while it is
 * still being listed. By a keyed hash: two that are taken for one make a gateway fail a build, no more, as it looks at the root
 * that comes then.
 *
 * In memory, of the SAME_LISTINGS_MAX roots used last, at most SAME_BYTES_MAX: an edge that was restarted tells its next root
 * first. Pure; one thread, but for same_make().
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/edge/listing.h"

#define SAME_LISTINGS_MAX 16
#define SAME_BYTES_MAX    (32u << 20)
#define SAME_STEP         4096           /* entries of which is said at a time that they are the same; what is shorter is not kept */

struct same_entries {
	struct digest root;
	uint32_t count;
	/* The rest is same's. */
	unsigned users;                  /* with being kept */
	struct list link;
	uint64_t hashes[];
};

struct sames {
	struct list kept;                /* the one used last at the end */
	unsigned count;
	uint64_t bytes, seed;
};

/* `seed`: nobody outside knows it. */
void sames_init(struct sames *sames, uint64_t seed);
void sames_fini(struct sames *sames);

/* Those of a root; the caller's until sames_put(). NULL: not known. */
struct same_entries *sames_get(struct sames *sames, const struct digest *root);
void sames_put(struct same_entries *entries);            /* NULL is accepted */
/* Kept from now on, in place of the caller's use. NULL is accepted. */
void sames_keep(struct sames *sames, struct same_entries *entries);

/* Of a listing that is sealed; on any thread. NULL: it is too short or too long, or no memory. */
struct same_entries *same_make(const struct sames *sames, const struct listing *listing);
/* The entry, which has its content's name, is what it was at this place. */
bool same_is(const struct sames *sames, const struct same_entries *entries, const struct listing *listing, uint32_t number);
