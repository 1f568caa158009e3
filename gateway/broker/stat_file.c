/* Tables on the disk. */
#include "gateway/broker/stat_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"

#define MAGIC 0x7461747369756c73ull      /* "sluistat", little-endian */

struct head {
	uint64_t magic;
	uint32_t version, entry_bytes;
	uint8_t key[STAT_FILE_KEY_BYTES];
	uint8_t zero[16];
};

struct tail {
	uint64_t count;
	uint32_t generation, zero;
	uint64_t sum;
};

#define SUMMED_TAIL_BYTES offsetof(struct tail, sum)

_Static_assert(sizeof(struct head) == 64 && sizeof(struct tail) == 24, "no holes");

static struct head head_make(const uint8_t *key)
{
	struct head head = { .magic = MAGIC, .version = STAT_FILE_VERSION, .entry_bytes = STAT_ENTRY_BYTES };

	memcpy(head.key, key, sizeof(head.key));
	return head;
}

bool stat_file_parse(struct stat_file *file, struct span bytes, const uint8_t key[static STAT_FILE_KEY_BYTES],
                     size_t entries_max)
{
	struct head expected = head_make(key);
	struct stat_file found;
	struct tail tail;

	if (bytes.size < sizeof(expected) + sizeof(tail) || memcmp(bytes.data, &expected, sizeof(expected)) != 0)
		return false;
	memcpy(&tail, bytes.data + bytes.size - sizeof(tail), sizeof(tail));
	if (tail.count > entries_max || tail.zero || tail.generation == 0 ||
	    bytes.size != sizeof(expected) + tail.count * STAT_ENTRY_BYTES + sizeof(tail))
		return false;
	if (XXH3_64bits(bytes.data, bytes.size - sizeof(tail.sum)) != tail.sum)
		return false;
	found = (struct stat_file){
		.entries = (const struct stat_entry *)(const void *)(bytes.data + sizeof(expected)),
		.count = (size_t)tail.count, .generation = tail.generation,
	};
	for (size_t i = 0; i < found.count; i++)
		if (!stat_entry_valid(&found.entries[i]) || found.entries[i].generation > found.generation)
			return false;
	*file = found;
	return true;
}

void stat_file_name(const uint8_t key[static STAT_FILE_KEY_BYTES], char name[static STAT_FILE_NAME_BYTES])
{
	for (size_t i = 0; i < STAT_FILE_KEY_BYTES; i++)
		snprintf(name + 2 * i, 3, "%02x", key[i]);
}

/* ---- reading ---- */

/* Who can write to it can make us give old content for new: it must be our own. */
static bool is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_size > 0 && st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

int stat_file_open(struct stat_file_mapping *mapping, int dir_fd, const uint8_t key[static STAT_FILE_KEY_BYTES],
                   size_t entries_max)
{
	struct stat_file_mapping opened = { 0 };
	char name[STAT_FILE_NAME_BYTES];
	struct stat st;
	int fd;

	stat_file_name(key, name);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ELOOP ? -EBADMSG : -errno;
	if (fstat(fd, &st) < 0 || !is_ours(&st)) {
		close(fd);
		return -EBADMSG;
	}
	opened.bytes = (size_t)st.st_size;
	opened.memory = mmap(NULL, opened.bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (opened.memory == MAP_FAILED) {
		int r = -errno;

		close(fd);
		return r;
	}
	(void)futimens(fd, NULL);
	close(fd);
	if (!stat_file_parse(&opened.file, span_make(opened.memory, opened.bytes), key, entries_max)) {
		munmap(opened.memory, opened.bytes);
		return -EBADMSG;
	}
	*mapping = opened;
	return 0;
}

void stat_file_close(struct stat_file_mapping *mapping)
{
	if (mapping->memory)
		munmap(mapping->memory, mapping->bytes);
	*mapping = (struct stat_file_mapping){ 0 };
}

/* ---- writing ---- */

static int write_full(struct stat_writer *writer, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size) {
		ssize_t written = write(writer->fd, at, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return ERR_RAISE(-errno);
		at += written;
		size -= (size_t)written;
	}
	return 0;
}

static int write_summed(struct stat_writer *writer, const void *data, size_t size)
{
	XXH3_64bits_update(writer->hash, data, size);
	return write_full(writer, data, size);
}

static int create_aside(int dir_fd, const char *name)
{
	return openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

int stat_writer_begin(struct stat_writer *writer, int dir_fd, const uint8_t key[static STAT_FILE_KEY_BYTES])
{
	struct head head = head_make(key);

	*writer = (struct stat_writer){ .dir_fd = dir_fd };
	stat_file_name(key, writer->name);
	memcpy(writer->aside, writer->name, sizeof(writer->aside));
	memcpy(writer->aside + 2 * STAT_FILE_KEY_BYTES, ".new", 5);
	writer->hash = XXH3_createState();
	writer->fd = create_aside(dir_fd, writer->aside);
	if (writer->fd < 0 && errno == EEXIST) {
		/* There is one writer a key, and one daemon a store: it was left by one that died. */
		unlinkat(dir_fd, writer->aside, 0);
		writer->fd = create_aside(dir_fd, writer->aside);
	}
	if (writer->fd < 0)
		return ERR_RAISE(-errno);
	if (!writer->hash)
		return ERR_RAISE(-ENOMEM);
	XXH3_64bits_reset(writer->hash);
	return write_summed(writer, &head, sizeof(head));
}

int stat_writer_put(struct stat_writer *writer, const struct stat_entry *entries, size_t count)
{
	writer->count += count;
	return write_summed(writer, entries, count * sizeof(*entries));
}

int stat_writer_finish(struct stat_writer *writer, uint32_t generation)
{
	struct tail tail = { .count = writer->count, .generation = generation };
	int r = write_summed(writer, &tail, SUMMED_TAIL_BYTES);

	tail.sum = XXH3_64bits_digest(writer->hash);
	if (!r)
		r = write_full(writer, &tail.sum, sizeof(tail.sum));
	if (!r && renameat(writer->dir_fd, writer->aside, writer->dir_fd, writer->name) < 0)
		r = ERR_RAISE(-errno);
	if (!r)
		writer->aside[0] = 0;
	return r;
}

void stat_writer_end(struct stat_writer *writer)
{
	if (writer->fd >= 0)
		close(writer->fd);
	if (writer->fd >= 0 && writer->aside[0])
		unlinkat(writer->dir_fd, writer->aside, 0);
	XXH3_freeState(writer->hash);
	*writer = (struct stat_writer){ .fd = -1 };
}

/* ---- how many there may be ---- */

struct found {
	char name[STAT_FILE_NAME_BYTES];
	uint64_t bytes;
	struct timespec used;
};

static int older(const void *a, const void *b)
{
	const struct timespec *left = &((const struct found *)a)->used, *right = &((const struct found *)b)->used;

	if (left->tv_sec != right->tv_sec)
		return left->tv_sec < right->tv_sec ? -1 : 1;
	return (left->tv_nsec > right->tv_nsec) - (left->tv_nsec < right->tv_nsec);
}

/* All of them; as many more as there may come to be while nobody prunes. */
static int list_files(DIR *dir, struct found **out, size_t *count)
{
	size_t capacity = 0;
	struct dirent *entry;

	*out = NULL;
	*count = 0;
	while ((entry = readdir(dir))) {
		struct found *found;
		struct stat st;

		if (strlen(entry->d_name) != 2 * STAT_FILE_KEY_BYTES ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (*count == capacity) {
			capacity = capacity ? 2 * capacity : 256;
			found = reallocarray(*out, capacity, sizeof(*found));
			if (!found)
				return -ENOMEM;
			*out = found;
		}
		found = &(*out)[(*count)++];
		*found = (struct found){ .bytes = (uint64_t)st.st_size, .used = st.st_mtim };
		memcpy(found->name, entry->d_name, 2 * STAT_FILE_KEY_BYTES + 1);
	}
	return 0;
}

int stat_files_prune(int dir_fd, size_t files_max, uint64_t bytes_max)
{
	CLEANUP(free_p) struct found *files = NULL;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t count, removed = 0;
	uint64_t bytes = 0;

	if (!dir) {
		r = ERR_RAISE(-errno);
		if (fd >= 0)
			close(fd);
		return r;
	}
	r = list_files(dir, &files, &count);
	closedir(dir);
	if (r)
		return ERR_RAISE(r);
	for (size_t i = 0; i < count; i++)
		bytes += files[i].bytes;
	if (count)
		qsort(files, count, sizeof(*files), older);
	for (; removed < count && (count - removed > files_max || bytes > bytes_max); removed++) {
		unlinkat(dir_fd, files[removed].name, 0);
		bytes -= files[removed].bytes;
	}
	return (int)removed;
}
