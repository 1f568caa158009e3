/*
 * cutter: cuts a file that arrives in pieces, at exactly the places where fastcdc_cut() cuts the whole one, however the
 * pieces fall.
 *
 * The caller keeps the bytes of the pending chunk (at most `max` of them: it needs them to hash and store the chunk);
 * the cutter keeps counts, a hash and one byte. One file a cutter, one thread at a time, no allocation. To cut a file:
 *
 *	cutter_init(&cutter, profile_fastcdc(profile));
 *	for each piece, appended to buffer[0..have), of which the first `fed` bytes were fed before:
 *		while ((length = cutter_feed(&cutter, buffer + fed, have - fed))) {
 *			take the chunk buffer[0..length); drop it from the front: have -= length
 *			fed = 0
 *		}
 *		fed = have
 *	length = cutter_finish(&cutter): the last chunk, buffer[0..length); 0 when nothing is pending
 */
#pragma once

#include "chunker/fastcdc.h"

struct cutter {
	const struct fastcdc *fastcdc;
	size_t pending; /* bytes absorbed since the last chunk's end */
	uint64_t hash;
	uint8_t held; /* with an odd `pending` past the scan's start: the last byte, not tested before its partner comes */
};

/* `fastcdc` is borrowed for as long as the cutter is in use. */
void cutter_init(struct cutter *cutter, const struct fastcdc *fastcdc);

/*
 * Offers the next bytes of the file. `data` is not kept.
 *
 * 0: no chunk ends yet; all of `data` was absorbed.
 * Otherwise: the length of the chunk that has ended, counted from the chunk's own first byte, whenever that one was
 * fed. The cutter stands at the chunk's end and remembers nothing behind it: feed again from there.
 *
 * Mind that a cut is known only when the byte (or the two bytes) behind it were seen. So the end may lie before
 * `data`: the length is at least what was pending minus one, and then one byte that was absorbed earlier, and all of
 * `data`, are fed again.
 */
size_t cutter_feed(struct cutter *cutter, const uint8_t *data, size_t size);

/* The file ends here. Returns the length of the last chunk, 0 when none is pending; ready for the next file. */
size_t cutter_finish(struct cutter *cutter);

/* Bytes of the pending chunk that were absorbed; below `max` between calls. */
static inline size_t cutter_pending(const struct cutter *cutter)
{
	return cutter->pending;
}
