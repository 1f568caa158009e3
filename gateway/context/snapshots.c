/* Counts what is in the folder, and removes. */
#include "gateway/context/snapshots.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ASIDE_SUFFIX 7                   /* ".XXXXXX" */
#define SECOND_NS    1000000000

struct kept {
	char name[SNAPSHOTS_NAME_DIGITS + 1];
	int64_t used_ns;
	uint64_t bytes;
};

struct folder {
	DIR *dir;
	const char *newest;
	struct kept *kept;
	size_t count, capacity;
};

static bool is_digits(const char *name)
{
	return strspn(name, "0123456789abcdef") == SNAPSHOTS_NAME_DIGITS;
}

static int64_t nanoseconds(const struct timespec *time)
{
	return (int64_t)time->tv_sec * SECOND_NS + time->tv_nsec;
}

/* A push without a change only reads it. */
static int64_t used_ns(const struct stat *st)
{
	int64_t read = nanoseconds(&st->st_atim), written = nanoseconds(&st->st_mtim);

	return read > written ? read : written;
}

static void folder_add(struct folder *folder, const char *name, const struct stat *st)
{
	if (folder->count == folder->capacity) {
		size_t capacity = folder->capacity ? 2 * folder->capacity : SNAPSHOTS_MAX;
		struct kept *grown = realloc(folder->kept, capacity * sizeof(*grown));

		if (!grown)
			return;                  /* the next time */
		folder->kept = grown;
		folder->capacity = capacity;
	}
	folder->kept[folder->count] = (struct kept){
		.used_ns = strcmp(name, folder->newest) ? used_ns(st) : INT64_MAX, .bytes = (uint64_t)st->st_size,
	};
	memcpy(folder->kept[folder->count++].name, name, sizeof(folder->kept->name));
}

static void folder_look_at(struct folder *folder, const char *name)
{
	struct stat st;

	if (!is_digits(name) || fstatat(dirfd(folder->dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return;
	name += SNAPSHOTS_NAME_DIGITS;
	if (*name == 0)
		folder_add(folder, name - SNAPSHOTS_NAME_DIGITS, &st);
	else if (*name == '.' && strlen(name) == ASIDE_SUFFIX && st.st_mtim.tv_sec < time(NULL) - SNAPSHOTS_ASIDE_S)
		unlinkat(dirfd(folder->dir), name - SNAPSHOTS_NAME_DIGITS, 0);
}

static int compare_used(const void *a, const void *b)
{
	int64_t of_a = ((const struct kept *)a)->used_ns, of_b = ((const struct kept *)b)->used_ns;

	return (of_a < of_b) - (of_a > of_b);
}

/* The one used last, which is the new one, comes first. */
static void folder_trim(struct folder *folder)
{
	uint64_t bytes = 0;

	if (folder->count)
		qsort(folder->kept, folder->count, sizeof(folder->kept[0]), compare_used);
	for (size_t i = 0; i < folder->count; i++) {
		bytes += folder->kept[i].bytes;
		if (i > 0 && (i >= SNAPSHOTS_MAX || bytes > SNAPSHOTS_BYTES_MAX))
			unlinkat(dirfd(folder->dir), folder->kept[i].name, 0);
	}
}

void snapshots_trim(const char *path)
{
	const char *slash = strrchr(path, '/');
	struct folder folder = { .newest = slash ? slash + 1 : path };
	char of[PATH_MAX];
	struct dirent *entry;

	if (!slash || snprintf(of, sizeof(of), "%.*s", (int)(slash - path), path) >= (int)sizeof(of))
		return;
	folder.dir = opendir(of);
	if (!folder.dir)
		return;
	while ((entry = readdir(folder.dir)))
		folder_look_at(&folder, entry->d_name);
	folder_trim(&folder);
	free(folder.kept);
	closedir(folder.dir);
}
