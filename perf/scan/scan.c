/*
 * What does finding out that nothing has changed cost, compared with the least that anybody could do: one thread that
 * lists each directory and stats each entry?
 *
 *	scan DIR [SNAPSHOT]    prints the best of 7 interleaved runs of both, and their ratio
 *	scan --plain DIR       the plain loop alone, once
 *
 * Needs a quiet machine; the tree's inodes should be in memory (the first round of each is not counted).
 */
#include "gateway/base/err.h"
#include "gateway/context/manifest.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 8

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

/* Consumes `fd`. Returns the count of entries. */
static unsigned long plain(int fd)
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

			if (below >= 0)
				count += plain(below);
		}
	}
	if (dir)
		closedir(dir);
	return count;
}

static unsigned long plain_at(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return plain(fd);
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

static void keep_least(struct spent *best, struct spent from, struct spent to)
{
	double wall = to.wall - from.wall, cpu = to.cpu - from.cpu;

	if (best->wall == 0 || wall < best->wall)
		best->wall = wall;
	if (best->cpu == 0 || cpu < best->cpu)
		best->cpu = cpu;
}

int main(int argc, char **argv)
{
	const char *snapshot = argc > 2 ? argv[2] : "/tmp/perf-scan.snapshot";
	struct spent plain_best = { 0 }, scan_best = { 0 };
	struct manifest_totals totals = { 0 };
	struct rusage usage;

	if (argc == 3 && strcmp(argv[1], "--plain") == 0) {
		printf("%lu entries\n", plain_at(argv[2]));
		return 0;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: scan DIR [SNAPSHOT]\n");
		return 2;
	}
	for (int round = 0; round < ROUNDS; round++) {
		struct spent start = now(), middle, end;

		plain_at(argv[1]);
		middle = now();
		totals = scan_at(argv[1], snapshot);
		end = now();
		if (round == 0) {
			printf("first: %.0f ms, %llu files read, %.1f MB\n", end.wall - middle.wall,
			       (unsigned long long)totals.files_read, (double)totals.bytes_read / 1e6);
			continue;
		}
		keep_least(&plain_best, start, middle);
		keep_least(&scan_best, middle, end);
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("files %llu directories %llu files_read %llu\n", (unsigned long long)totals.files,
	       (unsigned long long)totals.directories, (unsigned long long)totals.files_read);
	printf("wall: plain %.1f ms, scan %.1f ms, ratio %.2f\n", plain_best.wall, scan_best.wall,
	       scan_best.wall / plain_best.wall);
	printf("cpu:  plain %.1f ms, scan %.1f ms, ratio %.2f\n", plain_best.cpu, scan_best.cpu,
	       scan_best.cpu / plain_best.cpu);
	printf("peak RSS %ld MB\n", usage.ru_maxrss / 1024);
	return 0;
}
