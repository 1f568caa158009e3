/*
 * inodes: the files with more than one name that a scan has read, so that their other names need not be read, too.
 * Pure.
 */
#pragma once

#include "gateway/context/table.h"

/* Content that is taken over from another name when all is read and hashed. */
struct inodes_copy {
	uint32_t row, from;
};

/* All zero but for the table to begin with. */
struct inodes {
	struct table *table;
	uint32_t *slots;                         /* hash table of rows + 1, by device and inode */
	uint32_t count, slots_count;
	struct inodes_copy *copies;
	uint32_t copies_count, copies_capacity;
};

void inodes_fini(struct inodes *inodes);

/* Another name of the row's file that was read and has not changed since, or TABLE_NONE. */
uint32_t inodes_find(const struct inodes *inodes, const struct table_row *row);

/* The row was read. 0 or -ENOMEM. */
int inodes_add(struct inodes *inodes, uint32_t row);

/* `row` has the content of `from`, which may not be known yet. 0 or -ENOMEM. */
int inodes_copy_later(struct inodes *inodes, uint32_t row, uint32_t from);

/* All contents are known: does the copies. */
void inodes_settle(struct inodes *inodes);
