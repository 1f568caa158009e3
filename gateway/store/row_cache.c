/* A two-way table of rows: a row's place, and the one beside it, which a CPU fetches together. */
#include "gateway/store/row_cache.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct row_cache_line {
	uint8_t hash[DIGEST_HASH_BYTES];
	uint8_t row[ROW_BLOB_BYTES];
	bool used;
	bool asked;                      /* since another row wanted its place */
	uint8_t rest[6];
};

_Static_assert(sizeof(struct row_cache_line) == 64, "a row is one line of the CPU's cache");

int row_cache_init(struct row_cache *cache, uint64_t rows)
{
	uint64_t count = 2;
	void *lines;

	while (count < rows && count < ROW_CACHE_ROWS_MAX)
		count *= 2;
	*cache = (struct row_cache){ 0 };
	/* Zeros that take no memory before a row comes. */
	lines = mmap(NULL, count * sizeof(*cache->lines), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (lines == MAP_FAILED)
		return -ENOMEM;
	*cache = (struct row_cache){ .lines = lines, .mask = count - 1 };
	return 0;
}

void row_cache_fini(struct row_cache *cache)
{
	if (cache->lines)
		munmap(cache->lines, (cache->mask + 1) * sizeof(*cache->lines));
	*cache = (struct row_cache){ 0 };
}

/* The other place is the one with the last bit turned. The filter beside it has the first half of the hash. */
static uint64_t row_cache_place(const struct row_cache *cache, const uint8_t *hash)
{
	uint64_t word;

	memcpy(&word, hash + DIGEST_HASH_BYTES / 2, sizeof(word));
	return word & cache->mask;
}

static bool line_is(const struct row_cache_line *line, const uint8_t *hash)
{
	return line->used && memcmp(line->hash, hash, DIGEST_HASH_BYTES) == 0;
}

static struct row_cache_line *row_cache_line(const struct row_cache *cache, const uint8_t *hash)
{
	uint64_t place;

	if (!cache->lines)
		return NULL;
	place = row_cache_place(cache, hash);
	if (line_is(&cache->lines[place], hash))
		return &cache->lines[place];
	if (line_is(&cache->lines[place ^ 1], hash))
		return &cache->lines[place ^ 1];
	return NULL;
}

const uint8_t *row_cache_find(struct row_cache *cache, const uint8_t *hash)
{
	struct row_cache_line *line = row_cache_line(cache, hash);

	if (!line)
		return NULL;
	if (!line->asked)
		line->asked = true;
	return line->row;
}

/* One that is empty, else one that nobody asked for since it was last in the way. */
static struct row_cache_line *row_cache_victim(const struct row_cache *cache, const uint8_t *hash)
{
	uint64_t place = row_cache_place(cache, hash);
	struct row_cache_line *own = &cache->lines[place], *other = &cache->lines[place ^ 1];

	if (!own->used || (other->used && !own->asked))
		return own;
	if (!other->used || !other->asked) {
		own->asked = false;
		return other;
	}
	other->asked = false;
	return own;
}

void row_cache_put(struct row_cache *cache, const uint8_t *hash, const uint8_t *row)
{
	struct row_cache_line *line;

	if (!cache->lines)
		return;
	line = row_cache_line(cache, hash);
	if (!line) {
		line = row_cache_victim(cache, hash);
		memcpy(line->hash, hash, DIGEST_HASH_BYTES);
		line->used = true;
		line->asked = false;
	}
	memcpy(line->row, row, ROW_BLOB_BYTES);
}

void row_cache_forget(struct row_cache *cache, const uint8_t *hash)
{
	struct row_cache_line *line = row_cache_line(cache, hash);

	if (line)
		line->used = false;
}

void row_cache_forget_all(struct row_cache *cache)
{
	size_t bytes = (cache->mask + 1) * sizeof(*cache->lines);

	if (cache->lines && madvise(cache->lines, bytes, MADV_DONTNEED) < 0)
		memset(cache->lines, 0, bytes);
}

void row_cache_prefetch(const struct row_cache *cache, const uint8_t *hash)
{
	if (cache->lines)
		__builtin_prefetch(&cache->lines[row_cache_place(cache, hash)], 1);
}
