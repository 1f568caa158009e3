/*
 * stat_file: a table of a stat_memory as a file. In the machine's byte order, which the magic shows:
 *
 *	8   magic "sluistat" as a number       4  version        4  bytes an entry       32  the trust key      16  zero
 *	64  an entry, as struct stat_entry; any number of them
 *	8   how many they were                 4  generation     4  zero                 8  XXH3 of all before it
 *
 * A key's place may come twice; the later one counts. All calls but stat_file_parse() block, and are for ring_work.
 */
#pragma once

#include "gateway/broker/stat_slots.h"

#define STAT_FILE_VERSION    1
#define STAT_FILE_KEY_BYTES  32
#define STAT_FILE_NAME_BYTES (2 * STAT_FILE_KEY_BYTES + 5)       /* the key in hex, ".new", NUL */

struct stat_file {
	const struct stat_entry *entries;        /* in the bytes that were parsed */
	size_t count;
	uint32_t generation;
};

/* `bytes`: aligned to 8. False: not such a file, damaged, of another key or version, or more than `entries_max`. */
bool stat_file_parse(struct stat_file *file, struct span bytes, const uint8_t key[static STAT_FILE_KEY_BYTES],
                     size_t entries_max);

/* The hex name, without ".new". */
void stat_file_name(const uint8_t key[static STAT_FILE_KEY_BYTES], char name[static STAT_FILE_NAME_BYTES]);

struct stat_file_mapping {
	struct stat_file file;
	void *memory;
	size_t bytes;
};
/* 0; -ENOENT; -EBADMSG: there is one that cannot be used; -errno. Marks it as used now. */
int stat_file_open(struct stat_file_mapping *mapping, int dir_fd, const uint8_t key[static STAT_FILE_KEY_BYTES],
                   size_t entries_max);
void stat_file_close(struct stat_file_mapping *mapping);

/*
 * Writing, piece by piece, aside; it takes the old one's place with stat_writer_finish(). Nothing is synced: after a power
 * loss there is the old table, which was true as well, or one whose sum is wrong, and then the client is asked again. A sync
 * for each build made hundreds of builds a second wait for the disk.
 */
struct stat_writer {
	int dir_fd, fd;
	char name[STAT_FILE_NAME_BYTES], aside[STAT_FILE_NAME_BYTES];
	uint64_t count;
	void *hash;
};
int stat_writer_begin(struct stat_writer *writer, int dir_fd, const uint8_t key[static STAT_FILE_KEY_BYTES]);
int stat_writer_put(struct stat_writer *writer, const struct stat_entry *entries, size_t count);
int stat_writer_finish(struct stat_writer *writer, uint32_t generation);
/* Always last; what was not finished is gone. */
void stat_writer_end(struct stat_writer *writer);

/* Removes those files that were not used for longest, until both bounds hold. Returns how many, or -errno. */
int stat_files_prune(int dir_fd, size_t files_max, uint64_t bytes_max);
