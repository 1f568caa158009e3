/* The insides of a walk, for its two files: scan_walk.c goes from directory to directory, scan_list.c lists one. */
#pragma once

#include "gateway/base/check.h"
#include "gateway/context/finder.h"
#include "gateway/context/scan_walk.h"

#define SCAN_LISTING_BYTES (256u << 10)
#define SCAN_WHY_BYTES     5000

/* A directory on the way from the root to where the walk is. */
struct scan_frame {
	int fd;
	uint32_t directory;                      /* of the part */
	uint32_t former;                         /* of the former table, or TABLE_NONE */
	bool same;                               /* its rows are the former directory's, and not in the part */
	uint32_t next, count;                    /* rows: the one whose turn it is to be walked into; all */
	uint32_t path_size;                      /* of the scan's path, when this directory is the last on it */
	bool judged;                             /* its ignore state is known */
};

struct scan_walk {
	struct scan_walk_options options;
	const struct scan_options *scan;
	struct table *table;                     /* the part's */
	struct scan_totals totals;
	struct digester *digester;
	char why_text[SCAN_WHY_BYTES];
	struct why why;
	struct buffer path;                      /* root-relative, of the innermost frame */
	uint8_t *listing;
	struct scan_frame *frames;                    /* TREE_DEPTH_MAX of them */
	uint32_t base, depth;                    /* frames in use; those below `base` only lead to the job's directory */
	uint8_t *states;                         /* ignore states, one a frame and one to spare */
	struct finder finder;
	struct digester_totals counted;          /* what the crew has heard of */
	uint64_t counted_entries, count_at;
};

static inline struct scan_frame *scan_walk_top(struct scan_walk *walk)
{
	CHECK(walk->depth > 0);
	return &walk->frames[walk->depth - 1];
}

/* The entry `name` of the innermost directory as the path, until it is left. False: no memory. */
bool scan_walk_path_enter(struct scan_walk *walk, struct span name);
void scan_walk_path_leave(struct scan_walk *walk);
/* "path/name: text". Returns `r`. */
__attribute__((format(printf, 4, 5))) int scan_walk_refuse(struct scan_walk *walk, struct span name, int r,
							   const char *format, ...);
/* Something was seen or read: tells the crew, now and then. */
void scan_walk_count(struct scan_walk *walk);

/* The innermost directory is another than it was, or an entry of it. */
void scan_list_changed(struct scan_walk *walk);
/* Lists the innermost directory into the part. 0 or -errno. */
int scan_list(struct scan_walk *walk);
/* Row 0 of the part gets what the stat of the root says, and what the former row knows. 0 or -errno. */
int scan_list_root(struct scan_walk *walk, const struct stat *st);
