/*
 * fsck: checks every record of every segment against its header, checksum and SHA-256, and the index against the
 * segments; optionally repairs the index from the segments. Blocking; takes the store's lock. Root works as the user that the
 * directory belongs to meanwhile, as the whole process: what is made is that user's, so that a gateway can open it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "proto/digest.h"

struct fsck_report {
	uint64_t segments, records, bytes, records_dead, records_corrupt, entries, entries_dangling, entries_missing,
	         entries_repaired, marks, pins;
	char why[512];                   /* one sentence when the store could not be checked, or not to its end */
};

/*
 * `problem` is called with one line a finding. Returns 0 clean, 1 problems found (all repaired when `repair`, and the
 * report says so), -ENOENT when there is no store, -EBUSY while a daemon has it, else -errno. Where there is no store
 * nothing is written.
 */
int store_fsck(const char *path, bool repair, struct fsck_report *report,
               void (*problem)(void *context, const char *line), void *context);
