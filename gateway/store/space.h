/*
 * space: finds the writer its next segment: an emptied one, a new file while the ceiling allows it, else an eviction.
 * One segment's worth is kept for the eviction's own copies, so that it can always finish.
 */
#pragma once

#include "gateway/store/segment.h"

enum space_state {
	SPACE_IDLE,
	SPACE_CREATING,                  /* a worker makes the file */
	SPACE_ACTIVATING,                /* the index learns the new generation */
};

struct space {
	enum space_state state;
	bool puts_starve, moves_starve;  /* who waits for a segment */
	struct segment *segment;         /* being created or activated */
	uint32_t absent;                 /* segments that may still be created */
	uint32_t free;
	uint64_t disk_full_until_ns;
	int lack;                        /* -errno: descriptors or memory ran out; until then nothing is tried, nor evicted for it */
	uint64_t lack_until_ns;
	struct op work;
	struct index_apply apply;
	struct row_segment row;          /* of the segment in its new generation */
	int rows_left;
};

void space_step(struct store *store);
/* The process has run out of `space.lack` a moment ago. */
bool space_still_lacks(struct store *store);
/* Segments that could be taken now. */
uint32_t space_available(const struct store *store);
