/* A blocked Bloom filter. */
#include "gateway/store/filter.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_BYTES 64
#define BLOCK_WORDS (BLOCK_BYTES / sizeof(uint64_t))
#define KEY_BITS    4                    /* of a block, set by a key: with a byte a key, one question in 40 is answered wrongly */
#define FILL        2                    /* times as many keys as it was made for: one in 4 */

int filter_init(struct filter *filter, uint64_t keys)
{
	uint64_t blocks = 1;
	void *words;

	while (blocks * BLOCK_BYTES < keys)
		blocks *= 2;
	*filter = (struct filter){ 0 };
	/* Zeros that take no memory before something is added. */
	words = mmap(NULL, blocks * BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (words == MAP_FAILED)
		return -ENOMEM;
	*filter = (struct filter){ .words = words, .blocks = blocks, .added_max = blocks * BLOCK_BYTES * FILL };
	return 0;
}

void filter_fini(struct filter *filter)
{
	if (filter->words)
		munmap(filter->words, filter->blocks * BLOCK_BYTES);
	*filter = (struct filter){ 0 };
}

static uint64_t *filter_block(const struct filter *filter, const uint8_t *hash)
{
	uint64_t word;

	memcpy(&word, hash, sizeof(word));
	return filter->words + (word & (filter->blocks - 1)) * BLOCK_WORDS;
}

/* Nine bits each of the hash's second word: where in the block. */
static void filter_bits(const uint8_t *hash, uint16_t bits[static KEY_BITS])
{
	uint64_t word;

	memcpy(&word, hash + 8, sizeof(word));
	for (unsigned i = 0; i < KEY_BITS; i++, word >>= 9)
		bits[i] = word & (8 * BLOCK_BYTES - 1);
}

void filter_add(struct filter *filter, const uint8_t *hash)
{
	uint16_t bits[KEY_BITS];
	uint64_t *block;
	bool is_new = false;

	if (!filter->blocks)
		return;
	block = filter_block(filter, hash);
	filter_bits(hash, bits);
	for (unsigned i = 0; i < KEY_BITS; i++) {
		uint64_t bit = UINT64_C(1) << (bits[i] % 64);

		is_new |= !(__atomic_fetch_or(&block[bits[i] / 64], bit, __ATOMIC_RELEASE) & bit);
	}
	if (is_new)
		__atomic_fetch_add(&filter->added, 1, __ATOMIC_RELAXED);
}

bool filter_may(const struct filter *filter, const uint8_t *hash)
{
	uint16_t bits[KEY_BITS];
	const uint64_t *block;
	bool may = true;

	if (!filter->blocks)
		return true;
	block = filter_block(filter, hash);
	filter_bits(hash, bits);
	for (unsigned i = 0; i < KEY_BITS; i++)
		may &= __atomic_load_n(&block[bits[i] / 64], __ATOMIC_ACQUIRE) >> (bits[i] % 64) & 1;
	return may;
}

void filter_prefetch(const struct filter *filter, const uint8_t *hash)
{
	if (filter->blocks)
		__builtin_prefetch(filter_block(filter, hash));
}

bool filter_full(const struct filter *filter)
{
	return __atomic_load_n(&filter->added, __ATOMIC_RELAXED) > filter->added_max;
}
