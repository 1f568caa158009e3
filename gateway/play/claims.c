/* Open addressing, both tables at most half full. */
#include "gateway/play/claims.h"

#include <errno.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY          /* a hash's state on the stack */
#include <xxhash.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"

#define CAPACITY_MIN 1024u

_Static_assert(sizeof(struct claim) == CLAIM_BYTES, "no holes");

static const struct claim_hash nobody;           /* a free row; no path hashes to it but by a miracle, which is made another */

static struct claim_hash hash_make(XXH128_hash_t from)
{
	struct claim_hash hash;

	memcpy(hash.bytes, &from.low64, 8);
	memcpy(hash.bytes + 8, &from.high64, 8);
	hash.bytes[0] |= memcmp(&hash, &nobody, sizeof(hash)) == 0;
	return hash;
}

struct claim_hash claims_content(const struct claims *claims, const struct span *parts, size_t count)
{
	XXH3_state_t state;

	XXH3_INITSTATE(&state);
	XXH3_128bits_reset_withSeed(&state, claims->seed);
	for (size_t i = 0; i < count; i++) {
		uint64_t size = parts[i].size;

		XXH3_128bits_update(&state, &size, sizeof(size));
		XXH3_128bits_update(&state, parts[i].data, parts[i].size);
	}
	return hash_make(XXH3_128bits_digest(&state));
}

struct claim_hash claims_path(const struct claims *claims, struct span name, struct span path)
{
	const struct span parts[] = { name, path };

	return claims_content(claims, parts, 2);
}

/* ---- what is now ---- */

static struct claim *rows_of(const struct claims *claims)
{
	return (struct claim *)(void *)claims->rows.data;
}

/* The path's row, or a free one. */
static struct claim *row_find(struct claim *rows, uint32_t capacity, const struct claim_hash *path)
{
	uint64_t key;

	memcpy(&key, path->bytes, sizeof(key));
	for (uint32_t i = (uint32_t)key & (capacity - 1);; i = (i + 1) & (capacity - 1))
		if (memcmp(&rows[i].path, path, sizeof(*path)) == 0 || memcmp(&rows[i].path, &nobody, sizeof(nobody)) == 0)
			return &rows[i];
}

static struct spill spill_like(const struct spill *spill)
{
	return (struct spill){ .directory = spill->directory, .memory_bytes_max = spill->memory_bytes_max };
}

static int rows_grow(struct claims *claims)
{
	uint32_t capacity = claims->rows_capacity ? 2 * claims->rows_capacity : CAPACITY_MIN;
	struct spill grown = spill_like(&claims->rows);
	int r;

	if (claims->rows_capacity && 2 * (claims->rows_count + 1) <= claims->rows_capacity)
		return 0;
	r = spill_grow(&grown, capacity * sizeof(struct claim));
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < claims->rows_capacity; i++) {
		const struct claim *row = &rows_of(claims)[i];

		if (memcmp(&row->path, &nobody, sizeof(nobody)) != 0)
			*row_find((struct claim *)(void *)grown.data, capacity, &row->path) = *row;
	}
	spill_fini(&claims->rows);
	claims->rows = grown;
	claims->rows_capacity = capacity;
	return 0;
}

/* ---- what was ever used ---- */

/* Never 0, which is a free place. */
static uint64_t use_hash(const struct claims *claims, const struct claim *claim, int64_t mtime_ns)
{
	struct claim use = { .path = claim->path, .size = claim->size, .mtime_ns = mtime_ns };
	uint64_t hash = XXH3_64bits_withSeed(&use, sizeof(use), claims->seed);

	return hash ? hash : 1;
}

static uint64_t *use_find(uint64_t *used, uint32_t capacity, uint64_t hash)
{
	for (uint32_t i = (uint32_t)(hash >> 32) & (capacity - 1);; i = (i + 1) & (capacity - 1))
		if (used[i] == hash || used[i] == 0)
			return &used[i];
}

static bool is_used(const struct claims *claims, uint64_t hash)
{
	return claims->used_capacity && *use_find((uint64_t *)(void *)claims->used.data, claims->used_capacity, hash) == hash;
}

static int used_grow(struct claims *claims)
{
	uint32_t capacity = claims->used_capacity ? 2 * claims->used_capacity : CAPACITY_MIN;
	struct spill grown = spill_like(&claims->used);
	const uint64_t *before = (const uint64_t *)(const void *)claims->used.data;
	int r;

	if (claims->used_capacity && 2 * (claims->used_count + 1) <= claims->used_capacity)
		return 0;
	r = spill_grow(&grown, capacity * sizeof(uint64_t));
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < claims->used_capacity; i++)
		if (before[i])
			*use_find((uint64_t *)(void *)grown.data, capacity, before[i]) = before[i];
	spill_fini(&claims->used);
	claims->used = grown;
	claims->used_capacity = capacity;
	return 0;
}

static void use_add(struct claims *claims, uint64_t hash)
{
	uint64_t *place = use_find((uint64_t *)(void *)claims->used.data, claims->used_capacity, hash);

	claims->used_count += *place == 0;
	*place = hash;
}

/* ---- claims ---- */

bool claims_find(const struct claims *claims, const struct claim_hash *path, const struct claim_hash *content,
                 int64_t *mtime_ns)
{
	const struct claim *row = claims->rows_capacity ? row_find(rows_of(claims), claims->rows_capacity, path) : NULL;

	if (!row || memcmp(&row->path, path, sizeof(*path)) != 0 || memcmp(&row->content, content, sizeof(*content)) != 0)
		return false;
	*mtime_ns = row->mtime_ns;
	return true;
}

bool claims_latest(const struct claims *claims, const struct claim_hash *path, int64_t *mtime_ns)
{
	const struct claim *row = claims->rows_capacity ? row_find(rows_of(claims), claims->rows_capacity, path) : NULL;

	if (!row || memcmp(&row->path, path, sizeof(*path)) != 0)
		return false;
	*mtime_ns = row->mtime_ns;
	return true;
}

int claims_replay(struct claims *claims, const struct claim *claim)
{
	struct claim *row;
	bool told;
	int r;

	if (claims->count == CLAIMS_MAX || claims->records == CLAIMS_RECORDS_MAX)
		return CLAIMS_FULL;
	r = rows_grow(claims);
	if (r == 0)
		r = used_grow(claims);
	if (r < 0)
		return ERR_RAISE(r);
	row = row_find(rows_of(claims), claims->rows_capacity, &claim->path);
	claims->rows_count += memcmp(&row->path, &nobody, sizeof(nobody)) == 0;
	told = memcmp(&row->path, &claim->path, sizeof(row->path)) == 0 && row->size == claim->size && row->mtime_ns == claim->mtime_ns;
	*row = *claim;
	use_add(claims, use_hash(claims, claim, claim->mtime_ns));
	claims->count += !told;
	claims->records++;
	return CLAIMS_MADE;
}

/*
 * How far behind the wanted mtime the next try is: one by one at first, then anywhere within the next second. In a row all the
 * way, a path that is written again and again with one mtime, as by tools that set it, would cost a look at all that it
 * was ever told.
 */
static uint64_t claim_step(const struct claims *claims, const struct claim *claim, unsigned tries)
{
	const struct {
		struct claim claim;
		uint64_t nonce;
	} from = { *claim, (uint64_t)claims->count << 32 | tries };

	return tries <= CLAIMS_IN_A_ROW ? tries : XXH3_64bits_withSeed(&from, sizeof(from), claims->seed) % CLAIMS_SPREAD_NS;
}

int claims_make(struct claims *claims, struct claim *claim)
{
	int64_t mtime_ns = claim->mtime_ns;
	unsigned tries = 0;

	if (claims_find(claims, &claim->path, &claim->content, &claim->mtime_ns))
		return CLAIMS_KNOWN;
	while (is_used(claims, use_hash(claims, claim, mtime_ns)))
		if (++tries > CLAIMS_TRIES_MAX || __builtin_add_overflow(claim->mtime_ns, claim_step(claims, claim, tries), &mtime_ns))
			return CLAIMS_FULL;
	claim->mtime_ns = mtime_ns;
	return claims_replay(claims, claim);
}

int claims_follow(struct claims *claims, const struct claim *claim)
{
	int64_t mtime_ns;

	if (claims_find(claims, &claim->path, &claim->content, &mtime_ns) && mtime_ns == claim->mtime_ns)
		return CLAIMS_KNOWN;
	return claims_replay(claims, claim);
}

int claims_name(struct claims *claims, const struct claim *claim)
{
	const struct claim *row = claims->rows_capacity ? row_find(rows_of(claims), claims->rows_capacity, &claim->path) : NULL;

	if (!row || memcmp(&row->path, &claim->path, sizeof(row->path)) != 0 || row->size != claim->size ||
	    row->mtime_ns != claim->mtime_ns)
		return CLAIMS_KNOWN;
	return claims_replay(claims, claim);
}

void claims_init(struct claims *claims, uint64_t seed, const char *directory)
{
	*claims = (struct claims){ .seed = seed };
	claims->rows = (struct spill){ .directory = directory, .memory_bytes_max = 2 * CLAIMS_MEMORY_ROWS * sizeof(struct claim) };
	claims->used = (struct spill){ .directory = directory, .memory_bytes_max = 4 * CLAIMS_MEMORY_ROWS * sizeof(uint64_t) };
}

void claims_fini(struct claims *claims)
{
	spill_fini(&claims->rows);
	spill_fini(&claims->used);
	*claims = (struct claims){ 0 };
}
