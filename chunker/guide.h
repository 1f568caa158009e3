/*
 * guide: finds the cuts of a changed file by its former recipe, without looking at most of its bytes; they are exactly
 * those of fastcdc_cut().
 *
 * A chunk that had these bytes before was not cut earlier then, so it is not cut earlier now. What is left to show is
 * that it ends here: that the byte behind it hits the mask, which the last 64 bytes decide. So the former recipe
 * proposes a length, the mask is asked at that one place, and the chunk's digest, which is wanted anyway, tells whether
 * its bytes are those of before. Where it is another, the chunk is scanned; the others stand, since where a chunk ends
 * does not depend on what came before it.
 *
 *	guide_propose(..., jobs, ...)      lengths, as far as the bytes at hand allow
 *	sha256_batch(hasher, jobs, count)
 *	guide_confirm(..., jobs, ..., out) the cuts, with their digests
 *
 * One file a guide, one thread, no allocation, no release. A former recipe that is not the one of any file gives cuts
 * that are not those of a scan, but still the file's bytes and their digests.
 */
#pragma once

#include "chunker/fastcdc.h"
#include "chunker/sha256.h"

/* How many former chunks are tried for the place behind a change; half as many inserted or removed ones are bridged. */
#define GUIDE_LOOK 32
/* How many are searched for the digest of a chunk that was found by scanning. */
#define GUIDE_SEARCH 65536

struct guide_chunk {
	const uint8_t *digest; /* SHA256_BYTES; borrowed until the next question */
	size_t size;
};

/* The former recipe's chunk with this index, which is below the guide's count. */
typedef struct guide_chunk guide_former(const void *context, size_t index);

struct guide {
	const struct fastcdc *fastcdc;
	guide_former *former;
	const void *context;
	size_t count;   /* of the former recipe's chunks; 0: everything is scanned */
	size_t next;    /* the former chunk that is expected here */
	size_t scanned; /* chunks since the last one that was proposed */
	uint64_t proposed, refuted; /* chunks, for whoever wants to know */
};

/* `former` must have been cut with the same `fastcdc`. All is borrowed for as long as the guide is in use. */
void guide_init(struct guide *guide, const struct fastcdc *fastcdc, guide_former *former, const void *context,
		size_t count);

/* What a job's length rests on. */
enum guide_ground {
	GUIDE_SCANNED,
	GUIDE_PROPOSED, /* by the former chunk before guide->next; right when the digest is that one's */
};

/* A job's ground, and the former chunk's index. */
struct guide_reason {
	enum guide_ground ground;
	size_t former;
};

/*
 * `data` are the next bytes of the file, from a cut on; `ended`: up to its end. Fills in jobs for the chunks whose bytes
 * and ends are at hand: while at least `max` bytes of the profile are left, or all when `ended`. Returns their count, at
 * most `jobs_max`.
 */
size_t guide_propose(struct guide *guide, const uint8_t *data, size_t size, bool ended, struct sha256_job *jobs,
		     struct guide_reason *reasons, size_t jobs_max);

/*
 * Takes the same data, and the jobs hashed. Writes the true chunks to `out`, digests included (what had to be cut anew is
 * hashed by `hasher`); at least one chunk when there was a job. Returns their count. What is behind them is offered
 * again. `out_max` is size / fastcdc_scan_start() + 1 at least: no data has more chunks.
 */
size_t guide_confirm(struct guide *guide, const uint8_t *data, size_t size, bool ended, const struct sha256_job *jobs,
		     const struct guide_reason *reasons, size_t count, const struct sha256 *hasher,
		     struct sha256_job *out, size_t out_max);
