/* Starts the walkers, and puts together what they found. */
#include "gateway/context/scan.h"

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/context/inodes.h"
#include "gateway/context/scan_crew.h"
#include "gateway/context/scan_part.h"
#include "gateway/context/scan_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)

struct scan {
	const struct scan_options *options;
	unsigned threads;
	int64_t fresh_after_ns;
	struct scan_crew *crew;
	struct inodes inodes;
	struct scan_part parts[SCAN_THREADS_MAX];
	struct scan_walk *walks[SCAN_THREADS_MAX];       /* made by the thread that walks */
};

static int64_t fresh_after(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec - SCAN_FRESH_TICKS * (SECOND_NS / sysconf(_SC_CLK_TCK));
}

static unsigned threads_wanted(const struct scan_options *options)
{
	unsigned threads = options->threads;
	cpu_set_t cores;

	if (!threads)
		threads = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? (unsigned)CPU_COUNT(&cores) : 1;
	return threads < SCAN_THREADS_MAX ? threads : SCAN_THREADS_MAX;
}

static int walk_prepare(struct scan *scan, unsigned thread)
{
	int r = scan_part_init(&scan->parts[thread], scan->options->former);

	if (r)
		return r;
	scan->walks[thread] = scan_walk_create(&(struct scan_walk_options){
		.scan = scan->options,
		.crew = scan->crew,
		.inodes = &scan->inodes,
		.part = &scan->parts[thread],
		.part_number = thread,
		.fresh_after_ns = scan->fresh_after_ns,
	});
	return scan->walks[thread] ? 0 : -ENOMEM;
}

/* The first thread's walk is there already: it has the root. */
static void walk(void *context, unsigned thread)
{
	struct scan *scan = context;
	int r = scan->walks[thread] ? 0 : walk_prepare(scan, thread);

	if (r)
		scan_crew_fail(scan->crew, ERR_RAISE(r), "");
	else
		scan_walk_run(scan->walks[thread]);
}

/* A descriptor of the root that is read from its beginning. */
static int open_root(int dir_fd)
{
	int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd < 0 ? -errno : fd;
}

static int walk_all(struct scan *scan)
{
	struct scan_job root;
	int fd, r = walk_prepare(scan, 0);

	if (r)
		return ERR_RAISE(r);
	fd = open_root(scan->options->dir_fd);
	if (fd < 0)
		return ERR_RAISE(fd);
	r = scan_walk_root(scan->walks[0], fd, &root);
	if (r) {
		close(fd);
		return r;
	}
	return scan_crew_run(scan->crew, &root);
}

static unsigned parts_count(const struct scan *scan)
{
	unsigned count = 0;

	while (count < SCAN_THREADS_MAX && scan->walks[count])
		count++;
	return count;
}

static int settle(struct scan *scan, struct table *table, struct scan_totals *totals)
{
	unsigned count = parts_count(scan);
	const struct table *former = scan->options->former;
	int r;

	if (former && scan_part_unchanged(scan->parts, count, former)) {
		*table = table_borrow(former);
	} else {
		r = scan_part_join(scan->parts, count, table);
		if (r)
			return ERR_RAISE(r);
		inodes_settle(&scan->inodes, scan->parts, table);
	}
	*totals = (struct scan_totals){ 0 };
	for (unsigned i = 0; i < count; i++)
		scan_walk_totals(scan->walks[i], totals);
	return 0;
}

static int run(struct scan *scan, struct table *table, struct scan_totals *totals)
{
	int r;

	inodes_init(&scan->inodes);
	scan->crew = scan_crew_create(&(struct scan_crew_options){
		.threads = scan->threads,
		.walk = walk,
		.context = scan,
		.progress = scan->options->progress,
		.progress_context = scan->options->context,
		.why = scan->options->why,
	});
	r = scan->crew ? walk_all(scan) : -ENOMEM;
	if (!r)
		r = settle(scan, table, totals);
	for (unsigned i = 0; i < SCAN_THREADS_MAX; i++) {
		scan_walk_destroy(scan->walks[i]);
		scan_part_fini(&scan->parts[i]);
	}
	scan_crew_destroy(scan->crew);
	inodes_fini(&scan->inodes);
	return r;
}

int scan_run(struct table *table, const struct scan_options *options, struct scan_totals *totals)
{
	struct scan scan = { .options = options, .threads = threads_wanted(options), .fresh_after_ns = fresh_after() };
	int r;

	CHECK(table->rows_count == 0 && table->former == options->former);
	r = run(&scan, table, totals);
	/* Threads hold more directories open than one does. */
	if (scan.threads > 1 && err_no_descriptors(r)) {
		scan = (struct scan){ .options = options, .threads = 1, .fresh_after_ns = fresh_after() };
		r = run(&scan, table, totals);
	}
	return r ? ERR_RAISE(r) : 0;
}
