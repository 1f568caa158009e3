/*
 * inodes: the files with more than one name that a scan has read, so that their other names need not be read, too: but
 * for one that two threads come to at the same moment. Shared by all threads of a scan.
 */
#pragma once

#include "gateway/context/scan_part.h"

#include <pthread.h>

struct inodes_file;

/* Content that is taken over from another name when all is read and hashed. */
struct inodes_copy {
	struct scan_place row, from;
};

struct inodes {
	pthread_mutex_t mutex;
	struct inodes_file *files;
	uint32_t *slots;                         /* hash table of files + 1, by device and inode */
	uint32_t count, capacity, slots_count;
	struct inodes_copy *copies;
	uint32_t copies_count, copies_capacity;
};

void inodes_init(struct inodes *inodes);
void inodes_fini(struct inodes *inodes);

/*
 * 1: another name of the file that `row`, at `place`, is about was read, and the file has not changed since: `place`
 * gets its content from there; 0: it has to be read; -ENOMEM.
 */
int inodes_find(struct inodes *inodes, const struct table_row *row, struct scan_place place);

/* The row was read. 0 or -ENOMEM. */
int inodes_add(struct inodes *inodes, const struct table_row *row, struct scan_place place);

/* All contents are known, and the parts have become `table`: does the copies. */
void inodes_settle(const struct inodes *inodes, const struct scan_part *parts, struct table *table);
