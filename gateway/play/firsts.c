/* A list in the order of telling, and numbers of it by path: open addressing, at most half full. */
#include "gateway/play/firsts.h"

#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define CAPACITY_MIN 1024u

struct first {
	uint64_t path;
	int64_t mtime_ns;
};

_Static_assert(sizeof(struct first) == FIRST_BYTES, "no holes");

void firsts_init(struct firsts *firsts, const char *directory)
{
	*firsts = (struct firsts){
		.told = { .directory = directory, .memory_bytes_max = FIRSTS_MEMORY_ROWS * sizeof(struct first) },
		.table = { .directory = directory, .memory_bytes_max = FIRSTS_MEMORY_ROWS * 4 * sizeof(uint32_t) },
	};
}

void firsts_fini(struct firsts *firsts)
{
	spill_fini(&firsts->told);
	spill_fini(&firsts->table);
	*firsts = (struct firsts){ 0 };
}

static uint64_t path_key(const struct claim_hash *path)
{
	uint64_t key;

	memcpy(&key, path->bytes, sizeof(key));
	return key;
}

static struct first *told_at(const struct firsts *firsts, uint32_t number)
{
	return (struct first *)(void *)firsts->told.data + number;
}

int firsts_note(struct firsts *firsts, const struct claim_hash *path, int64_t mtime_ns)
{
	int r = spill_grow(&firsts->told, ((size_t)firsts->count + 1) * sizeof(struct first));

	if (r < 0)
		return r;
	*told_at(firsts, firsts->count++) = (struct first){ .path = path_key(path), .mtime_ns = mtime_ns };
	return 0;
}

/* Of numbers, counted from one: the path's, or a free place. */
static uint32_t *place_of(const struct firsts *firsts, uint64_t path)
{
	uint32_t *table = (uint32_t *)(void *)firsts->table.data;

	for (uint32_t i = (uint32_t)path & (firsts->capacity - 1);; i = (i + 1) & (firsts->capacity - 1))
		if (table[i] == 0 || told_at(firsts, table[i] - 1)->path == path)
			return &table[i];
}

static int table_grow(struct firsts *firsts)
{
	struct spill grown = { .directory = firsts->table.directory, .memory_bytes_max = firsts->table.memory_bytes_max };
	uint32_t capacity = firsts->capacity ? firsts->capacity : CAPACITY_MIN;
	int r;

	while (capacity / 2 < firsts->count)
		capacity *= 2;
	if (capacity == firsts->capacity)
		return 0;
	r = spill_grow(&grown, capacity * sizeof(uint32_t));
	if (r < 0)
		return r;
	spill_fini(&firsts->table);
	firsts->table = grown;
	firsts->capacity = capacity;
	firsts->placed = 0;
	return 0;
}

int firsts_find(struct firsts *firsts, const struct claim_hash *path, int64_t *mtime_ns)
{
	int r = table_grow(firsts);
	uint32_t number;

	if (r < 0)
		return r;
	CHECK(firsts->count < firsts->capacity);
	for (; firsts->placed < firsts->count; firsts->placed++)
		*place_of(firsts, told_at(firsts, firsts->placed)->path) = firsts->placed + 1;
	number = *place_of(firsts, path_key(path));
	if (number == 0)
		return FIRSTS_NONE;
	*mtime_ns = told_at(firsts, number - 1)->mtime_ns;
	return FIRSTS_FOUND;
}
