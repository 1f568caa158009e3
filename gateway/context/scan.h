/*
 * scan: walks a directory tree into a table. With the table of the last scan at hand it walks along that: an entry
 * whose stat is what it was (and was not too fresh then to be trusted) keeps its content name without being opened. A
 * directory in which nothing has changed costs one listing and one fstatat an entry, without sorting.
 *
 * Sockets are left out, as Docker does. Device nodes end the scan. Entries that vanish meanwhile are as if they had
 * never been there. Nothing outside of the tree is ever opened: every step is one name, relative to a directory's
 * descriptor, and symlinks are not followed.
 *
 * Blocking. Directories are walked, and changed files read and hashed, by several threads (scan_crew.h); what comes out
 * is the same for any number of them, but which of several failures is told. Memory: nothing for a tree in which
 * nothing has changed; else a row and a name an entry, those of directories with changes twice while the threads' parts
 * are joined; up to DIGESTER_BATCH_BYTES + DIGESTER_WINDOW_BYTES and a little a thread that reads. Descriptors: each
 * thread's depth, and SCAN_OFFERED_MAX; when they do not suffice one thread walks alone.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/context/digester.h"
#include "gateway/context/ignore.h"
#include "gateway/context/scan_crew.h"
#include "gateway/context/table.h"
#include "gateway/context/why.h"

#define SCAN_PROGRESS_ENTRIES 1000
#define SCAN_PROGRESS_BYTES   (8u << 20)
#define SCAN_FRESH_TICKS      2 /* of sysconf(_SC_CLK_TCK): times closer to the scan's start are not trusted later */

struct scan_options {
	int dir_fd;
	const struct table *former;              /* of the last scan; NULL: there was none */
	const struct ignore *ignore;             /* NULL: nothing is ignored */
	bool rules_changed;                      /* `former` was made with other ignore rules */
	unsigned threads;                        /* at most SCAN_THREADS_MAX; 0: as many as there are cores */
	const struct sha256 *hasher;
	struct digester_taker taker;             /* of what is read */
	struct why why;
	/* May come from any thread, from one at a time. */
	void (*progress)(void *context, uint64_t entries, uint64_t files_read, uint64_t bytes_read);
	void *context;
};

struct scan_totals {
	uint64_t entries;
	uint64_t changed; /* rows that were not taken over as they were, and rows that are gone */
	struct digester_totals reads;            /* `ns`: of the thread that was longest at it */
};

/*
 * Fills `table`, which is empty and whose `former` is that of the options: when nothing has changed with the former one's
 * rows, in place. Directories in which something may have changed are marked dirty (digests come from assemble.h); the
 * others keep theirs. 0 or -errno with `why`.
 */
int scan_run(struct table *table, const struct scan_options *options, struct scan_totals *totals);
