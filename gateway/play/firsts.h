/*
 * firsts: which mtime the daemon was told of each file of one context, for further names of it. Under a stable key other builds
 * may have claimed another one since, but at this daemon a file and its further names are one, and have one mtime.
 *
 * Most contexts have no such name, so a file costs no more than 16 bytes behind the last one. The first time that one is looked
 * for makes the table to find it in, and later times put in what has come since. Paths are told apart by 64 bits of a keyed
 * hash. Pure; memory beyond FIRSTS_MEMORY_ROWS is a mapped file. The owner bounds the count.
 */
#pragma once

#include "gateway/play/claims.h"

#define FIRSTS_MEMORY_ROWS 100000u
#define FIRST_BYTES        16            /* a file; with the table up to 32 */

struct firsts {
	struct spill told, table;
	uint32_t count;
	uint32_t capacity, placed;       /* of the table; of those told, how many are in it */
};

/* `directory`: where large ones go. */
void firsts_init(struct firsts *firsts, const char *directory);
void firsts_fini(struct firsts *firsts);         /* all-zero is accepted */

/* 0, -ENOMEM, or errno of the disk. */
int firsts_note(struct firsts *firsts, const struct claim_hash *path, int64_t mtime_ns);

enum firsts_outcome {
	FIRSTS_FOUND = 0,
	FIRSTS_NONE = 1,                 /* no file was told of by this path */
};                                       /* as firsts_note() */
int firsts_find(struct firsts *firsts, const struct claim_hash *path, int64_t *mtime_ns);
