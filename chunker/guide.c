/* Proposals, and their confirmation. */
#include "chunker/guide.h"

#include <assert.h>
#include <string.h>

void guide_init(struct guide *guide, const struct fastcdc *fastcdc, guide_former *former, const void *context,
		size_t count)
{
	*guide = (struct guide){ .fastcdc = fastcdc, .former = former, .context = context, .count = count };
}

/* What is known of the file from some cut on. */
struct rest {
	const uint8_t *data;
	size_t size;
	bool ended;
};

static bool is_certain(const struct guide *guide, const struct rest *rest)
{
	return rest->size && (rest->ended || rest->size >= guide->fastcdc->max);
}

/*
 * May the former chunk `index` be what is here? The last one ended with the file, where a test may have been left out
 * that is made elsewhere: it is one only at the end again.
 */
static bool may_be(const struct guide *guide, size_t index, const struct rest *rest)
{
	size_t size = guide->former(guide->context, index).size;
	bool at_end = rest->ended && size == rest->size;

	if (size == 0 || size > rest->size || (index + 1 == guide->count && !at_end))
		return false;
	/* The longest chunk ends for no reason of its bytes: nothing but its turn speaks for it. */
	if (size == guide->fastcdc->max && index != guide->next)
		return false;
	return fastcdc_may_end(guide->fastcdc, rest->data, rest->size, size);
}

/*
 * Which former chunk is here? The expected one; behind a change perhaps another: as many chunks as were scanned since
 * may have taken the place of as many, or were inserted, or more were there before. False: none that is looked at.
 */
static bool find_former(const struct guide *guide, const struct rest *rest, size_t *found)
{
	size_t from = guide->next, to;

	if (guide->scanned > GUIDE_LOOK / 2)
		from += guide->scanned - GUIDE_LOOK / 2;
	to = from + GUIDE_LOOK;
	for (size_t i = from; i < guide->count && i < to; i++) {
		if (may_be(guide, i, rest)) {
			*found = i;
			return true;
		}
	}
	return false;
}

static size_t propose_one(struct guide *guide, const struct rest *rest, struct guide_reason *reason)
{
	size_t index = 0;

	if (!find_former(guide, rest, &index)) {
		guide->scanned++;
		*reason = (struct guide_reason){ GUIDE_SCANNED, 0 };
		return fastcdc_cut(guide->fastcdc, rest->data, rest->size);
	}
	guide->scanned = 0;
	guide->next = index + 1;
	guide->proposed++;
	*reason = (struct guide_reason){ GUIDE_PROPOSED, index };
	return guide->former(guide->context, index).size;
}

size_t guide_propose(struct guide *guide, const uint8_t *data, size_t size, bool ended, struct sha256_job *jobs,
		     struct guide_reason *reasons, size_t jobs_max)
{
	struct rest rest = { data, size, ended };
	size_t count = 0;

	while (count < jobs_max && is_certain(guide, &rest)) {
		size_t length = propose_one(guide, &rest, &reasons[count]);

		jobs[count++] = (struct sha256_job){ .data = rest.data, .size = length };
		rest.data += length;
		rest.size -= length;
	}
	return count;
}

/* Right as it is, digest included. */
static bool holds(struct guide *guide, const struct sha256_job *job, const struct guide_reason *reason,
		  const struct rest *rest)
{
	if (reason->ground == GUIDE_SCANNED)
		return true;
	if (memcmp(job->digest, guide->former(guide->context, reason->former).digest, SHA256_BYTES) == 0)
		return true;
	guide->refuted++;
	/* Other bytes; mostly the cut is the same all the same. */
	return fastcdc_cut(guide->fastcdc, rest->data, rest->size) == job->size;
}

/* The first job from `index` on that begins at `data`; `count` when none does. Those that begin before are void. */
static size_t job_at(const struct sha256_job *jobs, size_t index, size_t count, const uint8_t *data)
{
	while (index < count && jobs[index].data < data)
		index++;
	return index;
}

/* Looks for the last chunk among the former ones, when it was scanned: then the next window begins in step. */
static void find_place(struct guide *guide, const uint8_t digest[static SHA256_BYTES])
{
	size_t end = guide->count - guide->next > GUIDE_SEARCH ? guide->next + GUIDE_SEARCH : guide->count;

	for (size_t i = guide->next; i < end; i++) {
		if (memcmp(guide->former(guide->context, i).digest, digest, SHA256_BYTES) == 0) {
			guide->next = i + 1;
			guide->scanned = 0;
			return;
		}
	}
}

/*
 * Cuts by scanning from where a proposal did not hold, until a cut falls on the beginning of a later job, or the bytes at
 * hand do not suffice. Returns how many chunks.
 */
static size_t cut_anew(struct guide *guide, struct rest *rest, const struct sha256_job *jobs, size_t *index,
		       size_t count, struct sha256_job *out, size_t out_max)
{
	const uint8_t *end = jobs[count - 1].data + jobs[count - 1].size;
	size_t made = 0;

	do {
		size_t length = fastcdc_cut(guide->fastcdc, rest->data, rest->size);

		assert(made < out_max);
		out[made++] = (struct sha256_job){ .data = rest->data, .size = length };
		rest->data += length;
		rest->size -= length;
		*index = job_at(jobs, *index, count, rest->data);
	} while (rest->data < end && is_certain(guide, rest) && jobs[*index < count ? *index : count - 1].data != rest->data);
	return made;
}

size_t guide_confirm(struct guide *guide, const uint8_t *data, size_t size, bool ended, const struct sha256_job *jobs,
		     const struct guide_reason *reasons, size_t count, const struct sha256 *hasher,
		     struct sha256_job *out, size_t out_max)
{
	struct rest rest = { data, size, ended };
	size_t index = 0, made = 0;

	while (index < count && jobs[index].data == rest.data) {
		size_t anew;

		assert(made < out_max);
		if (holds(guide, &jobs[index], &reasons[index], &rest)) {
			out[made++] = jobs[index++];
			rest.data += out[made - 1].size;
			rest.size -= out[made - 1].size;
			continue;
		}
		anew = cut_anew(guide, &rest, jobs, &index, count, out + made, out_max - made);
		sha256_batch(hasher, out + made, anew);
		made += anew;
	}
	if (made && guide->scanned && guide->next < guide->count)
		find_place(guide, out[made - 1].digest);
	return made;
}
