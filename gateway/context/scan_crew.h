/*
 * scan_crew: the threads of a scan. Whoever finds a directory offers it to the others, and walks it alone when they
 * have enough; who has nothing left takes what was offered last. Threads are started by offers, so a tree without
 * directories has none. The first failure ends the scan for all.
 */
#pragma once

#include "gateway/context/scan_part.h"
#include "gateway/context/why.h"

#define SCAN_THREADS_MAX SCAN_PARTS_MAX
#define SCAN_OFFERED_MAX 32             /* directories that are open and wait for a thread */

/* A directory to be walked into. */
struct scan_job {
	int fd;
	struct scan_place place;         /* the row that lists it */
	uint32_t former;                 /* the former scan's directory, or TABLE_NONE */
	uint32_t depth;
	bool changed;                    /* its own row has changed */
	char *path;                      /* root-relative */
	size_t path_size;
};

struct scan_crew;

struct scan_crew_options {
	unsigned threads;                        /* that may walk, with the caller of scan_crew_run() */
	void (*walk)(void *context, unsigned thread); /* takes jobs until there are none; threads count from 0 */
	void (*progress)(void *context, uint64_t entries, uint64_t files_read, uint64_t bytes_read);
	void *context, *progress_context;
	struct why why;
};

struct scan_crew *scan_crew_create(const struct scan_crew_options *options);
void scan_crew_destroy(struct scan_crew *crew);

/* Walks from `root` (consumed). Blocks until all threads are through. 0 or the first failure, with its `why`. */
int scan_crew_run(struct scan_crew *crew, const struct scan_job *root);

/* For the walking threads. False: nobody needs it; the job is still the caller's. Its path is copied, its fd taken. */
bool scan_crew_offer(struct scan_crew *crew, const struct scan_job *job);
/* False: nothing is left, or the scan has failed. The job is the caller's, to be ended by scan_job_fini(). */
bool scan_crew_take(struct scan_crew *crew, struct scan_job *job);
void scan_job_fini(struct scan_job *job);

void scan_crew_fail(struct scan_crew *crew, int r, const char *why);
bool scan_crew_failed(const struct scan_crew *crew);

/* That much more has been seen. Now and then calls `progress`, never from two threads at a time. */
void scan_crew_count(struct scan_crew *crew, uint64_t entries, uint64_t files_read, uint64_t bytes_read);
