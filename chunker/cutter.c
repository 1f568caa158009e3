/* The same cuts as fastcdc_cut(), one piece of the file at a time. */
#include "chunker/cutter.h"

#include <assert.h>

void cutter_init(struct cutter *cutter, const struct fastcdc *fastcdc)
{
	*cutter = (struct cutter){ .fastcdc = fastcdc };
}

static size_t cutter_end(struct cutter *cutter, size_t length)
{
	assert(length > 0);
	assert(length <= cutter->fastcdc->max);
	cutter->pending = 0;
	cutter->hash = 0;
	return length;
}

/* Below the scan's start bytes are only counted. */
static size_t cutter_skip(struct cutter *cutter, size_t size)
{
	size_t start = fastcdc_scan_start(cutter->fastcdc);
	size_t skipped;

	if (cutter->pending >= start)
		return 0;
	skipped = start - cutter->pending;
	if (skipped > size)
		skipped = size;
	cutter->pending += skipped;
	return skipped;
}

/*
 * A byte at an even offset is tested together with the next one, or, as the last of the file, not at all. So it waits
 * here for its partner. Returns the length of the chunk when one of the two hits.
 */
static size_t cutter_join(struct cutter *cutter, uint8_t partner)
{
	const uint8_t pair[2] = { cutter->held, partner };
	size_t position = cutter->pending - 1;
	size_t found = fastcdc_scan(cutter->fastcdc, position, pair, sizeof(pair), &cutter->hash);

	if (found < sizeof(pair))
		return cutter_end(cutter, position + found);
	cutter->pending++;
	return 0;
}

size_t cutter_feed(struct cutter *cutter, const uint8_t *data, size_t size)
{
	const struct fastcdc *fastcdc = cutter->fastcdc;
	size_t offset = cutter_skip(cutter, size);
	size_t take, tested, found;

	if (offset == size)
		return 0;
	if (cutter->pending % 2) {
		size_t length = cutter_join(cutter, data[offset++]);

		if (length)
			return length;
	}
	take = size - offset;
	if (take > fastcdc->max - cutter->pending)
		take = fastcdc->max - cutter->pending;
	tested = take & ~(size_t)1;
	found = fastcdc_scan(fastcdc, cutter->pending, data + offset, tested, &cutter->hash);
	if (found < tested)
		return cutter_end(cutter, cutter->pending + found);
	if (take > tested)
		cutter->held = data[offset + tested];
	cutter->pending += take;
	return cutter->pending == fastcdc->max ? cutter_end(cutter, fastcdc->max) : 0;
}

size_t cutter_finish(struct cutter *cutter)
{
	return cutter->pending ? cutter_end(cutter, cutter->pending) : 0;
}
