/*
 * scan_part: what one thread of a scan has found, and how the parts become one table. A part is a table of its own to
 * which directories were added in whatever order they came; how they hang together is noted aside, since the row that
 * lists a directory may lie in another part. The joined table is in the order of a walk from the top, whoever walked.
 * Pure memory, no effects.
 */
#pragma once

#include "gateway/context/table.h"

/* A row of a part. Row 0 is the root's in part 0, and nobody's in the others. */
struct scan_place {
	uint32_t part, row;
};

/* What a part knows of a directory besides the table's record of it. */
struct scan_origin {
	struct scan_place place;         /* the row that lists it */
	uint32_t names_first, names_end; /* all that was put into the arena for it and its rows */
	uint32_t xattrs;                 /* its own, in the arena */
	bool xattrs_read;                /* else they are what the row that lists it says */
	uint32_t joined;                 /* its number in the joined table */
};

struct scan_part {
	struct table table;
	struct scan_origin *origins;     /* parallel to the table's directories */
	uint32_t origins_capacity;
};

/* 0 or -ENOMEM. What is begun is ended by scan_part_fini(), all zero or not. */
int scan_part_init(struct scan_part *part, const struct table *former);
void scan_part_fini(struct scan_part *part);

/* The directory that `place` lists; rows that are added are in it until scan_part_end(). As table_add_directory(). */
int scan_part_begin(struct scan_part *part, struct scan_place place, uint32_t *directory);
void scan_part_end(struct scan_part *part, uint32_t directory);

/*
 * Fills `table`, which is empty, from all parts; directory 0 of part 0 is the root, and by now no row of a directory has
 * a `former` any more. Both are in memory for that moment. 0, -ENOMEM or -EOVERFLOW.
 */
int scan_part_join(struct scan_part *parts, uint32_t count, struct table *table);
/* After that: which row of it a part's row has become. */
uint32_t scan_part_joined_row(const struct scan_part *parts, const struct table *table, struct scan_place place);
