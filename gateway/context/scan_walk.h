/*
 * scan_walk: one thread's share of a scan. It takes directories from the crew, walks down from them depth first, and
 * puts what it finds into its own part of the table; directories that it comes to it offers to the others first. What
 * has changed it reads and hashes with a digester of its own. Blocking.
 */
#pragma once

#include "gateway/context/inodes.h"
#include "gateway/context/scan.h"
#include "gateway/context/scan_crew.h"
#include "gateway/context/scan_part.h"

struct scan_walk;

struct scan_walk_options {
	const struct scan_options *scan;
	struct scan_crew *crew;
	struct inodes *inodes;                   /* of all threads */
	struct scan_part *part;
	uint32_t part_number;
	int64_t fresh_after_ns;
};

/* NULL: no memory. */
struct scan_walk *scan_walk_create(const struct scan_walk_options *options);
void scan_walk_destroy(struct scan_walk *walk);

/* Adds the root's row, of the directory open as `fd`, to the part. 0 with the job of walking into it, or -errno. */
int scan_walk_root(struct scan_walk *walk, int fd, struct scan_job *job);

/* Walks as long as there is something to take. What fails, fails the crew. */
void scan_walk_run(struct scan_walk *walk);

/* Adds up. */
void scan_walk_totals(const struct scan_walk *walk, struct scan_totals *totals);
