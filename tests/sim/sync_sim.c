/* What a power loss leaves of names and of files that no ring writes. */
#include "tests/sim/sync_sim.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/check.h"

#define DURABLE_MAX 4096

struct durable {
	ino_t inode;
	off_t size;                      /* of a file; -1: the name of a file */
};

static struct durable durable[DURABLE_MAX];
static size_t count;
static enum sync_site liar = SYNC_SITES;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct durable *find(ino_t inode, bool name)
{
	for (size_t i = 0; i < count; i++)
		if (durable[i].inode == inode && (durable[i].size == -1) == name)
			return &durable[i];
	return NULL;
}

static void note(ino_t inode, off_t size)
{
	struct durable *known = find(inode, size == -1);

	CHECK(count < DURABLE_MAX);
	if (!known)
		known = &durable[count++];
	*known = (struct durable){ inode, size };
}

int sync_file(enum sync_site site, int fd)
{
	struct stat st;

	CHECK(fstat(fd, &st) == 0);
	pthread_mutex_lock(&mutex);
	if (site != liar)
		note(st.st_ino, st.st_size);
	pthread_mutex_unlock(&mutex);
	return 0;
}

static void each_entry(const char *path, void (*fn)(int dir_fd, const char *name, const struct stat *st))
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	struct stat st;

	CHECK(directory);
	while ((entry = readdir(directory)))
		if (fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			fn(dirfd(directory), entry->d_name, &st);
	closedir(directory);
}

static void note_name(int dir_fd, const char *name, const struct stat *st)
{
	(void)dir_fd, (void)name;
	note(st->st_ino, -1);
}

int sync_directory(enum sync_site site, int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	pthread_mutex_lock(&mutex);
	if (site != liar)
		each_entry(path, note_name);
	pthread_mutex_unlock(&mutex);
	return 0;
}

void sync_sim_begin(enum sync_site lying)
{
	count = 0;
	liar = lying;
}

static void lose_name(int dir_fd, const char *name, const struct stat *st)
{
	if (!find(st->st_ino, true))
		CHECK(unlinkat(dir_fd, name, 0) == 0);
}

static void lose_size(int dir_fd, const char *name, const struct durable *known)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	CHECK(ftruncate(fd, known ? known->size : 0) == 0);
	close(fd);
}

/* Logged as a name alone, it is an empty file. What fdatasync() of its data would save of that is left out. */
static void lose_segment(int dir_fd, const char *name, const struct stat *st)
{
	const struct durable *known = find(st->st_ino, false);

	lose_name(dir_fd, name, st);
	if (!known || known->size < st->st_size)
		lose_size(dir_fd, name, known);
}

static void lose_file(int dir_fd, const char *name, const struct stat *st)
{
	if (strcmp(name, "format") != 0 && strcmp(name, "scopes") != 0)
		return;                  /* LMDB is trusted */
	lose_name(dir_fd, name, st);
	lose_size(dir_fd, name, find(st->st_ino, false));
}

void sync_sim_crash(const char *path)
{
	char segments[256];

	snprintf(segments, sizeof(segments), "%s/segments", path);
	each_entry(segments, lose_segment);
	each_entry(path, lose_file);
}

const char *sync_sim_name(enum sync_site site)
{
	static const char *const names[SYNC_SITES] = {
		[SYNC_FORMAT] = "format", [SYNC_SCOPES] = "scopes", [SYNC_STORE_DIRECTORY] = "the store's directory",
		[SYNC_SEGMENT_FILE] = "a new segment", [SYNC_SEGMENT_DIRECTORY] = "the directory of segments",
	};

	return names[site];
}
