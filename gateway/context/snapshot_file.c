/* Snapshots on the disk. */
#include "gateway/context/snapshot_file.h"

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define WRITE_BYTES (256u << 10)

/* Who can write to it can make us push old content under a new root: it must be our own. */
static bool is_ours(int fd, size_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return false;
	*size = (size_t)st.st_size;
	return st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

bool snapshot_file_open(struct snapshot_file *file, const char *path, struct span directory)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct snapshot_file opened = { 0 };

	if (fd < 0 || !is_ours(fd, &opened.mapping_bytes))
		return false;
	opened.mapping = mmap(NULL, opened.mapping_bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (opened.mapping == MAP_FAILED)
		return false;
	if (!snapshot_decode(&opened.snapshot, span_make(opened.mapping, opened.mapping_bytes), directory)) {
		munmap(opened.mapping, opened.mapping_bytes);
		return false;
	}
	*file = opened;
	return true;
}

void snapshot_file_close(struct snapshot_file *file)
{
	if (file->mapping)
		munmap(file->mapping, file->mapping_bytes);
	*file = (struct snapshot_file){ 0 };
}

/* Collects small pieces; a piece that is longer than the buffer goes straight through. */
struct writer {
	int fd;
	size_t have;
	uint8_t *data;
};

static int write_full(int fd, const uint8_t *data, size_t size)
{
	while (size) {
		ssize_t written = write(fd, data, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		data += written;
		size -= (size_t)written;
	}
	return 0;
}

static int writer_flush(struct writer *writer)
{
	size_t have = writer->have;

	writer->have = 0;
	return write_full(writer->fd, writer->data, have);
}

static int writer_put(void *context, const void *data, size_t size)
{
	struct writer *writer = context;

	if (size > WRITE_BYTES - writer->have) {
		int r = writer_flush(writer);

		if (r)
			return r;
	}
	if (size > WRITE_BYTES)
		return write_full(writer->fd, data, size);
	memcpy(writer->data + writer->have, data, size);
	writer->have += size;
	return 0;
}

static int write_snapshot(int fd, const struct snapshot *snapshot)
{
	CLEANUP(free_p) uint8_t *data = malloc(WRITE_BYTES);
	struct writer writer = { .fd = fd, .data = data };
	int r;

	if (!data)
		return -ENOMEM;
	r = snapshot_encode(snapshot, writer_put, &writer);
	if (!r)
		r = writer_flush(&writer);
	if (!r && fsync(fd) < 0)
		r = -errno;
	return r;
}

static int make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = 0;
		r = mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
		*slash = '/';
		if (r)
			return r;
	}
	return 0;
}

/* mkostemp's files have mode 0600. */
static int open_aside(char *aside)
{
	int fd = mkostemp(aside, O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		int r = make_parents(aside);

		if (r)
			return r;
		memset(aside + strlen(aside) - 6, 'X', 6);
		fd = mkostemp(aside, O_CLOEXEC);
	}
	return fd < 0 ? -errno : fd;
}

int snapshot_file_save(const char *path, const struct snapshot *snapshot)
{
	char aside[PATH_MAX];
	int fd, r;

	if (snprintf(aside, sizeof(aside), "%s.XXXXXX", path) >= (int)sizeof(aside))
		return ERR_RAISE(-ENAMETOOLONG);
	fd = open_aside(aside);
	if (fd < 0)
		return ERR_RAISE(fd);
	r = write_snapshot(fd, snapshot);
	close(fd);
	if (!r && rename(aside, path) < 0)
		r = -errno;
	if (r) {
		unlink(aside);
		return ERR_RAISE(r);
	}
	return 0;
}
