/*
 * spill: one growing stretch of memory that becomes a mapped file once it is long: a file has no name, takes its
 * directory's disk, and lets the kernel write out what nobody touches. Addresses change when it grows.
 *
 * What a table of a hundred thousand entries needs is then no memory that the process has to keep (RssFile, not RssAnon).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spill {
	uint8_t *data;                   /* NULL while empty */
	size_t capacity;                 /* bytes that may be used */
	/* The owner's, before the first growth. */
	const char *directory;           /* where the file goes; outlives the spill. NULL: it stays in memory */
	size_t memory_bytes_max;         /* beyond, it is a file */
	bool mapped;                     /* it is one now */
};

/* Room for at least `size` bytes in all, growing by half; new bytes are zero. 0, -ENOMEM, or errno of the disk (-ENOSPC). */
int spill_grow(struct spill *spill, size_t size);
/* Gives all back; may be used again. An all-zero one is accepted. */
void spill_fini(struct spill *spill);
