/* Rows by inode, and copies between them. */
#include "gateway/context/inodes.h"

#include <errno.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

void inodes_fini(struct inodes *inodes)
{
	free(inodes->slots);
	free(inodes->copies);
	*inodes = (struct inodes){ 0 };
}

static uint64_t hash_of(const struct table_row *row)
{
	return XXH3_64bits_withSeed(&row->inode, sizeof(row->inode), row->device);
}

static int grow(struct inodes *inodes)
{
	uint32_t slots = inodes->slots_count ? inodes->slots_count * 2 : 64;
	uint32_t *grown = calloc(slots, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	for (uint32_t i = 0; i < inodes->slots_count; i++) {
		uint64_t slot;

		if (!inodes->slots[i])
			continue;
		slot = hash_of(&inodes->table->rows[inodes->slots[i] - 1]);
		while (grown[slot & (slots - 1)])
			slot++;
		grown[slot & (slots - 1)] = inodes->slots[i];
	}
	free(inodes->slots);
	inodes->slots = grown;
	inodes->slots_count = slots;
	return 0;
}

uint32_t inodes_find(const struct inodes *inodes, const struct table_row *row)
{
	if (inodes->slots_count == 0)
		return TABLE_NONE;
	for (uint64_t slot = hash_of(row); inodes->slots[slot & (inodes->slots_count - 1)]; slot++) {
		uint32_t known = inodes->slots[slot & (inodes->slots_count - 1)] - 1;
		const struct table_row *candidate = &inodes->table->rows[known];

		if (candidate->inode == row->inode && candidate->device == row->device &&
		    candidate->size == row->size && candidate->mtime_ns == row->mtime_ns &&
		    candidate->ctime_ns == row->ctime_ns)
			return known;
	}
	return TABLE_NONE;
}

int inodes_add(struct inodes *inodes, uint32_t number)
{
	uint64_t slot = hash_of(&inodes->table->rows[number]);
	int r = 2 * (inodes->count + 1) > inodes->slots_count ? grow(inodes) : 0;

	if (r)
		return r;
	while (inodes->slots[slot & (inodes->slots_count - 1)])
		slot++;
	inodes->slots[slot & (inodes->slots_count - 1)] = number + 1;
	inodes->count++;
	return 0;
}

int inodes_copy_later(struct inodes *inodes, uint32_t number, uint32_t from)
{
	if (inodes->copies_count == inodes->copies_capacity) {
		uint32_t capacity = inodes->copies_capacity * 2 + 64;
		struct inodes_copy *moved = realloc(inodes->copies, capacity * sizeof(*moved));

		if (!moved)
			return -ENOMEM;
		inodes->copies = moved;
		inodes->copies_capacity = capacity;
	}
	inodes->copies[inodes->copies_count++] = (struct inodes_copy){ .row = number, .from = from };
	return 0;
}

void inodes_settle(struct inodes *inodes)
{
	for (uint32_t i = 0; i < inodes->copies_count; i++) {
		const struct table_row *from = &inodes->table->rows[inodes->copies[i].from];
		struct table_row *row = &inodes->table->rows[inodes->copies[i].row];

		memcpy(row->hash, from->hash, sizeof(row->hash));
		row->link = from->link;
		row->xattrs = from->xattrs;
		row->flags |= from->flags & TABLE_ROW_RECIPE;
	}
}
