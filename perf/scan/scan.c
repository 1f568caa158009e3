/*
 * What does finding out that nothing has changed cost, compared with the least that anybody could do: one thread, or two,
 * that list each directory and stat each entry?
 *
 *	scan DIR [SNAPSHOT] [--json FILE]    the least of 9 interleaved runs of each, the medians, and the ratios
 *	scan --plain DIR [THREADS]           the plain loop alone, once
 *
 * Needs a quiet machine; the tree's inodes should be in memory (the first round of each is not counted).
 */
#include "gateway/base/err.h"
#include "gateway/context/manifest.h"
#include "perf/bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS 2
/* Directories that wait for a thread; beyond, whoever found one walks it. */
#define WAITING_MAX 64

static double now_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Wall time, and CPU time: the latter is fair on a busy machine, too. */
struct spent {
	double wall, cpu;
};

static struct spent now(void)
{
	return (struct spent){ now_ms(CLOCK_MONOTONIC), now_ms(CLOCK_PROCESS_CPUTIME_ID) };
}

/* Directories that are open and not yet listed. */
struct walk {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int waiting[WAITING_MAX];
	size_t waiting_count;
	unsigned busy;
	bool shared; /* more than one thread: leave something for the others */
	unsigned long entries;
};

static bool walk_offer(struct walk *walk, int fd)
{
	bool taken;

	if (!walk->shared)
		return false;
	pthread_mutex_lock(&walk->lock);
	taken = walk->waiting_count < WAITING_MAX;
	if (taken) {
		walk->waiting[walk->waiting_count++] = fd;
		pthread_cond_signal(&walk->changed);
	}
	pthread_mutex_unlock(&walk->lock);
	return taken;
}

/* Consumes `fd`. Returns the count of entries. */
static unsigned long plain(struct walk *walk, int fd)
{
	DIR *dir = fdopendir(fd);
	unsigned long count = 0;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		count++;
		if (S_ISDIR(st.st_mode)) {
			int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (below >= 0 && !walk_offer(walk, below))
				count += plain(walk, below);
		}
	}
	if (dir)
		closedir(dir);
	return count;
}

/* Walks what waits until nothing does and nobody could find more. */
static void *walk_thread(void *argument)
{
	struct walk *walk = argument;

	pthread_mutex_lock(&walk->lock);
	while (walk->waiting_count || walk->busy) {
		unsigned long found;
		int fd;

		if (!walk->waiting_count) {
			pthread_cond_wait(&walk->changed, &walk->lock);
			continue;
		}
		fd = walk->waiting[--walk->waiting_count];
		walk->busy++;
		pthread_mutex_unlock(&walk->lock);
		found = plain(walk, fd);
		pthread_mutex_lock(&walk->lock);
		walk->entries += found;
		walk->busy--;
		pthread_cond_broadcast(&walk->changed);
	}
	pthread_mutex_unlock(&walk->lock);
	return NULL;
}

static unsigned long plain_at(const char *path, unsigned threads)
{
	struct walk walk = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .shared = threads > 1 };
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pthread_t others[THREADS];

	if (fd < 0) {
		perror(path);
		exit(1);
	}
	walk.waiting[walk.waiting_count++] = fd;
	for (unsigned i = 1; i < threads; i++) {
		if (pthread_create(&others[i], NULL, walk_thread, &walk))
			exit(1);
	}
	walk_thread(&walk);
	for (unsigned i = 1; i < threads; i++)
		pthread_join(others[i], NULL);
	return walk.entries;
}

static struct manifest_totals scan_at(const char *path, const char *snapshot)
{
	struct manifest_options options = { .path = path, .snapshot_path = snapshot, .use_ignore = true };
	struct manifest_totals totals;
	struct manifest *manifest;
	char why[512];
	int r = manifest_build(&manifest, &options, why, sizeof(why));

	if (!r)
		r = manifest_save(manifest);
	if (r) {
		fprintf(stderr, "%s\n", why[0] ? why : err_text(r));
		exit(1);
	}
	totals = *manifest_totals(manifest);
	manifest_destroy(manifest);
	return totals;
}

enum { PLAIN, PARALLEL, SCAN, WAYS };

static struct {
	const char *name;
	double wall[BENCH_RUNS], cpu[BENCH_RUNS];
} ways[WAYS] = { [PLAIN] = { "readdir+fstatat" }, [PARALLEL] = { "2 threads" }, [SCAN] = { "scan" } };

static void keep(int way, int round, struct spent from)
{
	struct spent to = now();

	if (round < 0)
		return;
	ways[way].wall[round] = to.wall - from.wall;
	ways[way].cpu[round] = to.cpu - from.cpu;
}

static void rounds_sort(void)
{
	for (int way = 0; way < WAYS; way++) {
		qsort(ways[way].wall, BENCH_RUNS, sizeof(double), bench_compare);
		qsort(ways[way].cpu, BENCH_RUNS, sizeof(double), bench_compare);
	}
}

static void json_write(const char *path, const struct manifest_totals *totals)
{
	struct bench_report report = bench_report_open(path);

	for (int way = 0; report.json && way < WAYS; way++) {
		fprintf(report.json,
			"%s\n  {\"group\": \"nothing changed\", \"name\": \"%s\", \"files\": %llu, \"runs\": %d, "
			"\"wall_ms_min\": %.3f, \"wall_ms_median\": %.3f, \"cpu_ms_min\": %.3f, \"cpu_ms_median\": %.3f, \"state\": \"%s\"}",
			way ? "," : "", ways[way].name, (unsigned long long)totals->files, BENCH_RUNS, ways[way].wall[0],
			ways[way].wall[BENCH_RUNS / 2], ways[way].cpu[0], ways[way].cpu[BENCH_RUNS / 2], bench_state());
	}
	bench_report_close(&report);
}

static void ratios_print(const char *what, double plain_ms, double parallel_ms, double scan_ms)
{
	printf("%s plain %.1f ms, %d threads %.1f ms, scan %.1f ms; to the threads %.2f, ratio %.2f\n", what, plain_ms, THREADS,
	       parallel_ms, scan_ms, scan_ms / parallel_ms, scan_ms / plain_ms);
}

int main(int argc, char **argv)
{
	const char *snapshot = argc > 2 && argv[2][0] != '-' ? argv[2] : "/tmp/perf-scan.snapshot";
	struct manifest_totals totals = { 0 };
	struct rusage usage;

	if (argc >= 3 && strcmp(argv[1], "--plain") == 0) {
		printf("%lu entries\n", plain_at(argv[2], argc > 3 && atoi(argv[3]) == THREADS ? THREADS : 1));
		return 0;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: scan DIR [SNAPSHOT] [--json FILE]\n");
		return 2;
	}
	for (int round = -1; round < BENCH_RUNS; round++) {
		struct spent start = now();

		plain_at(argv[1], 1);
		keep(PLAIN, round, start);
		start = now();
		plain_at(argv[1], THREADS);
		keep(PARALLEL, round, start);
		start = now();
		totals = scan_at(argv[1], snapshot);
		keep(SCAN, round, start);
		if (round < 0)
			printf("first: %.0f ms, %llu files read, %.1f MB\n", now().wall - start.wall,
			       (unsigned long long)totals.files_read, (double)totals.bytes_read / 1e6);
	}
	rounds_sort();
	getrusage(RUSAGE_SELF, &usage);
	printf("files %llu directories %llu files_read %llu\n", (unsigned long long)totals.files,
	       (unsigned long long)totals.directories, (unsigned long long)totals.files_read);
	ratios_print("wall:", ways[PLAIN].wall[0], ways[PARALLEL].wall[0], ways[SCAN].wall[0]);
	ratios_print("wall, medians:", ways[PLAIN].wall[BENCH_RUNS / 2], ways[PARALLEL].wall[BENCH_RUNS / 2],
		     ways[SCAN].wall[BENCH_RUNS / 2]);
	ratios_print("cpu: ", ways[PLAIN].cpu[0], ways[PARALLEL].cpu[0], ways[SCAN].cpu[0]);
	printf("peak RSS %ld MB\n", usage.ru_maxrss / 1024);
	json_write(bench_option(argc, argv, "--json"), &totals);
	return 0;
}
