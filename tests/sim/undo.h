/* undo: the writes of a simulated ring that a power loss could still take back, file by file, in order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "gateway/base/list.h"

struct undo {
	struct list files;
	uint64_t sequence;               /* of the newest write */
	unsigned volatile_count;
};

/* From a seed. */
typedef uint64_t undo_random_fn(void *context);

void undo_init(struct undo *undo);
void undo_fini(struct undo *undo);

/* Writes like pwrite(2) to the file behind `fd`, and keeps both states. Returns size, or -errno. */
int32_t undo_write(struct undo *undo, int fd, const void *data, size_t size, uint64_t offset);
/* What was written to the file up to `sequence` is durable, or, when the sync failed, can never become so. */
void undo_sync(struct undo *undo, int fd, uint64_t sequence, bool failed);
/* Takes back what is not durable, and lets some of it survive. The log is empty then. */
void undo_crash(struct undo *undo, undo_random_fn *random, void *context);
