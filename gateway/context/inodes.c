/* Files by inode, and copies between their names. */
#include "gateway/context/inodes.h"

#include <errno.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* A file as it was when it was read. */
struct inodes_file {
	uint64_t inode, size;
	int64_t mtime_ns, ctime_ns;
	uint32_t device;
	struct scan_place place;
};

void inodes_init(struct inodes *inodes)
{
	*inodes = (struct inodes){ .mutex = PTHREAD_MUTEX_INITIALIZER };
}

void inodes_fini(struct inodes *inodes)
{
	free(inodes->files);
	free(inodes->slots);
	free(inodes->copies);
	pthread_mutex_destroy(&inodes->mutex);
}

static uint64_t hash_of(uint64_t inode, uint32_t device)
{
	return XXH3_64bits_withSeed(&inode, sizeof(inode), device);
}

static void insert(const struct inodes *inodes, uint32_t *slots, uint32_t slots_count, uint32_t number)
{
	uint64_t slot = hash_of(inodes->files[number].inode, inodes->files[number].device);

	while (slots[slot & (slots_count - 1)])
		slot++;
	slots[slot & (slots_count - 1)] = number + 1;
}

/* The table is at most half full. */
static int grow(struct inodes *inodes)
{
	uint32_t capacity = inodes->capacity ? inodes->capacity * 2 : 32, slots_count = 2 * capacity;
	struct inodes_file *files = realloc(inodes->files, capacity * sizeof(*files));
	uint32_t *slots;

	if (!files)
		return -ENOMEM;
	inodes->files = files;
	slots = calloc(slots_count, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < inodes->count; i++)
		insert(inodes, slots, slots_count, i);
	free(inodes->slots);
	inodes->slots = slots;
	inodes->slots_count = slots_count;
	inodes->capacity = capacity;
	return 0;
}

static const struct inodes_file *find(const struct inodes *inodes, const struct table_row *row)
{
	if (inodes->slots_count == 0)
		return NULL;
	for (uint64_t slot = hash_of(row->inode, row->device);; slot++) {
		uint32_t number = inodes->slots[slot & (inodes->slots_count - 1)];
		const struct inodes_file *file;

		if (!number)
			return NULL;
		file = &inodes->files[number - 1];

		if (file->inode == row->inode && file->device == row->device && file->size == row->size &&
		    file->mtime_ns == row->mtime_ns && file->ctime_ns == row->ctime_ns)
			return file;
	}
}

static int copy_later(struct inodes *inodes, struct scan_place place, struct scan_place from)
{
	if (inodes->copies_count == inodes->copies_capacity) {
		uint32_t capacity = inodes->copies_capacity * 2 + 64;
		struct inodes_copy *moved = realloc(inodes->copies, capacity * sizeof(*moved));

		if (!moved)
			return -ENOMEM;
		inodes->copies = moved;
		inodes->copies_capacity = capacity;
	}
	inodes->copies[inodes->copies_count++] = (struct inodes_copy){ .row = place, .from = from };
	return 0;
}

int inodes_find(struct inodes *inodes, const struct table_row *row, struct scan_place place)
{
	const struct inodes_file *file;
	int r = 0;

	pthread_mutex_lock(&inodes->mutex);
	file = find(inodes, row);
	if (file)
		r = copy_later(inodes, place, file->place);
	pthread_mutex_unlock(&inodes->mutex);
	return r ? r : file != NULL;
}

int inodes_add(struct inodes *inodes, const struct table_row *row, struct scan_place place)
{
	int r = 0;

	pthread_mutex_lock(&inodes->mutex);
	if (inodes->count == inodes->capacity)
		r = grow(inodes);
	if (!r) {
		inodes->files[inodes->count] = (struct inodes_file){
			.inode = row->inode,
			.size = row->size,
			.mtime_ns = row->mtime_ns,
			.ctime_ns = row->ctime_ns,
			.device = row->device,
			.place = place,
		};
		insert(inodes, inodes->slots, inodes->slots_count, inodes->count++);
	}
	pthread_mutex_unlock(&inodes->mutex);
	return r;
}

void inodes_settle(const struct inodes *inodes, const struct scan_part *parts, struct table *table)
{
	for (uint32_t i = 0; i < inodes->copies_count; i++) {
		const struct inodes_copy *copy = &inodes->copies[i];
		const struct table_row *from = &table->rows[scan_part_joined_row(parts, table, copy->from)];
		struct table_row *row = &table->rows[scan_part_joined_row(parts, table, copy->row)];

		memcpy(row->hash, from->hash, sizeof(row->hash));
		row->link = from->link;
		row->xattrs = from->xattrs;
		row->flags |= from->flags & TABLE_ROW_RECIPE;
	}
}
