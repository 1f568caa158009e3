/*
 * scan_part: what one thread of a scan has found, and how the parts become one table. A part is a table of its own to
 * which directories were added in whatever order they came; how they hang together is noted aside, since the one that
 * lists a directory may be in another part. Of a directory whose rows are all what they were nothing but that is kept.
 * The joined table is in the order of a walk from the top, whoever walked. Pure memory, no effects.
 */
#pragma once

#include "gateway/context/table.h"

#define SCAN_PARTS_MAX 8

/* An entry: of that directory of that part, the `index`th. The root has an index of its own. */
#define SCAN_PLACE_ROOT UINT32_MAX
struct scan_place {
	uint32_t part, directory, index;
};

/* What a part knows of a directory besides the table's record of it. */
struct scan_origin {
	struct scan_place place;         /* the entry that it is */
	uint32_t same;                   /* the former directory that has all its rows, or TABLE_NONE */
	uint32_t names_first, names_end; /* what was put into the arena for it and its rows */
	uint32_t xattrs;                 /* its own, in the arena */
	bool xattrs_read;                /* else they are what the row that lists it says */
	uint32_t joined;                 /* its number in the joined table */
};

struct scan_part {
	struct table table;              /* row 0 is the root's in part 0, and nobody's in the others */
	struct scan_origin *origins;     /* parallel to the table's directories */
	uint32_t origins_capacity;
};

/* 0 or -ENOMEM. What is begun is ended by scan_part_fini(), all zero or not. */
int scan_part_init(struct scan_part *part, const struct table *former);
void scan_part_fini(struct scan_part *part);

/* The directory that is the entry `place`; rows that are added are in it. As table_add_directory(). */
int scan_part_begin(struct scan_part *part, struct scan_place place, uint32_t *directory);
/* All its rows are there. */
void scan_part_end(struct scan_part *part, uint32_t directory);
/* Instead: what was added since `mark` is what the former scan's directory `same` has. */
void scan_part_end_same(struct scan_part *part, uint32_t directory, const struct table_mark *mark, uint32_t same);

/* Takes over into `row` of `table` all that a row of the former scan knows beyond its stat. 0, -ENOMEM, -EOVERFLOW. */
int scan_part_take_over(struct table *table, const struct table *former, const struct table_row *known, uint32_t row);

/* A row that was taken over is in nothing another than the former one. */
bool scan_part_same_row(const struct table_row *row, const struct table_row *former);
/* The parts say that all is as in the former table, which can take the place of a joined one. */
bool scan_part_unchanged(const struct scan_part *parts, uint32_t count, const struct table *former);

/*
 * Fills `table`, which is empty, from all parts; directory 0 of part 0 is the root. Both are in memory for that moment.
 * 0, -ENOMEM or -EOVERFLOW.
 */
int scan_part_join(struct scan_part *parts, uint32_t count, struct table *table);
/* After that: which row of it the entry has become. */
uint32_t scan_part_joined_row(const struct scan_part *parts, const struct table *table, struct scan_place place);
