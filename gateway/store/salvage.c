/* Walking a segment's records. */
#include "gateway/store/salvage.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/store/store.h"

#define SALVAGE_WINDOW_BYTES (16u << 20)
_Static_assert(SALVAGE_WINDOW_BYTES >= 2 * (STORE_BLOB_BYTES_MAX + RECORD_BLOCK_BYTES), "a record fits");

/* A stretch of the file in memory. */
struct window {
	uint8_t *data;
	uint64_t offset;
	size_t size;
};

/* Makes [at, at + size) readable through the window; false: it is not (past the end, or unreadable). */
static bool window_cover(struct window *window, const struct salvage *salvage, uint64_t at, size_t size)
{
	if (at + size > salvage->segment_bytes)
		return false;
	if (at >= window->offset && at + size <= window->offset + window->size)
		return true;
	window->offset = at;
	window->size = 0;
	while (window->size < SALVAGE_WINDOW_BYTES) {
		ssize_t got = pread(salvage->fd, window->data + window->size, SALVAGE_WINDOW_BYTES - window->size,
		                    (off_t)(at + window->size));

		if (got < 0 && window->size < size)
			salvage->unreadable(salvage->context, at + window->size, -errno);
		if (got <= 0)
			break;
		window->size += (size_t)got;
	}
	return window->size >= size;
}

static bool is_whole(const struct record *record, struct span payload)
{
	uint8_t hash[DIGEST_HASH_BYTES];

	if (record->payload_sum != record_sum(payload))
		return false;
	CHECK(EVP_Digest(payload.data, payload.size, hash, NULL, EVP_sha256(), NULL));
	return memcmp(hash, record->digest.hash, sizeof(hash)) == 0;
}

/* A header at `at` that belongs there. */
static bool header_at(const struct salvage *salvage, struct window *window, uint64_t at, struct record *record)
{
	if (!window_cover(window, salvage, at, RECORD_HEADER_BYTES))
		return false;
	return record_decode(record, window->data + (at - window->offset), salvage->secret) &&
	       record->segment == salvage->segment && record->generation == salvage->generation &&
	       record->offset == at && record->digest.size <= STORE_BLOB_BYTES_MAX &&
	       at + record_bytes(record->digest.size) <= salvage->segment_bytes;
}

/* The next place that may hold a header, after `at`. */
static uint64_t next_candidate(const struct salvage *salvage, struct window *window, uint64_t at)
{
	for (at += RECORD_ALIGN; window_cover(window, salvage, at, RECORD_HEADER_BYTES);) {
		size_t from = (size_t)(at - window->offset), last = window->size - RECORD_HEADER_BYTES;

		for (; from <= last; from += RECORD_ALIGN)
			if (record_maybe(window->data + from))
				return window->offset + from;
		at = window->offset + from;
	}
	return at + RECORD_HEADER_BYTES <= salvage->segment_bytes ? record_block_ceiling(at + 1) : salvage->segment_bytes;
}

int salvage_walk(const struct salvage *salvage)
{
	struct window window = { .data = malloc(SALVAGE_WINDOW_BYTES) };
	uint64_t at = RECORD_BLOCK_BYTES;
	int r = 0;

	if (!window.data)
		return ERR_RAISE(-ENOMEM);
	while (!r && at < salvage->segment_bytes) {
		struct record record;
		bool whole;

		if (!header_at(salvage, &window, at, &record)) {
			at = next_candidate(salvage, &window, at);
			continue;
		}
		whole = window_cover(&window, salvage, at, (size_t)record_bytes(record.digest.size)) &&
		        is_whole(&record, span_make(window.data + (at - window.offset) + RECORD_HEADER_BYTES,
		                                    (size_t)record.digest.size));
		r = salvage->visit(salvage->context, &record, whole);
		at = whole ? at + record_bytes(record.digest.size) : next_candidate(salvage, &window, at);
	}
	free(window.data);
	return r;
}

bool salvage_generation(int fd, uint32_t segment, uint64_t secret, uint32_t *generation)
{
	uint8_t block[RECORD_BLOCK_BYTES];

	return pread(fd, block, sizeof(block), 0) == (ssize_t)sizeof(block) &&
	       record_decode_segment(block, segment, secret, generation);
}
