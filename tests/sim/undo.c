/*
 * undo: at a crash the whole log is taken back, newest first, and then applied again, oldest first: durable writes
 * whole, the others as the seed says. So writes that overlap come out as some order-preserving subset of them. A log
 * loses its head as soon as that is durable.
 */
#include "tests/sim/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/check.h"

enum { TORN_BYTES = 4096 };

struct undo_file {
	struct list link;
	dev_t device;
	ino_t inode;
	int fd;                          /* ours: the owner may close its own; through the page cache */
	struct list writes;
};

struct undo_write {
	struct list link;
	uint64_t sequence, offset, file_bytes;  /* file_bytes: before */
	size_t size, old_size;
	bool durable, doomed;
	uint8_t *new;
	uint8_t old[];                   /* old_size bytes, then the new ones */
};

void undo_init(struct undo *undo)
{
	*undo = (struct undo){ 0 };
	list_init(&undo->files);
}

static void drop_write(struct undo *undo, struct undo_write *write)
{
	undo->volatile_count -= !write->durable;
	list_remove(&write->link);
	free(write);
}

static void drop_file(struct undo *undo, struct undo_file *file)
{
	list_for_each_safe(link, after, &file->writes)
		drop_write(undo, container_of(link, struct undo_write, link));
	list_remove(&file->link);
	close(file->fd);
	free(file);
}

void undo_fini(struct undo *undo)
{
	list_for_each_safe(link, after, &undo->files)
		drop_file(undo, container_of(link, struct undo_file, link));
}

static struct undo_file *find_file(struct undo *undo, const struct stat *st)
{
	list_for_each(link, &undo->files) {
		struct undo_file *file = container_of(link, struct undo_file, link);

		if (file->device == st->st_dev && file->inode == st->st_ino)
			return file;
	}
	return NULL;
}

static struct undo_file *add_file(struct undo *undo, int fd, const struct stat *st)
{
	struct undo_file *file = calloc(1, sizeof(*file));
	char path[64];

	CHECK(file);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	file->fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(file->fd >= 0);
	file->device = st->st_dev;
	file->inode = st->st_ino;
	list_init(&file->writes);
	list_append(&undo->files, &file->link);
	return file;
}

static void write_all(int fd, const uint8_t *data, size_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t n = pwrite(fd, data, size, (off_t)offset);

		CHECK(n > 0);
		data += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
}

static void log_write_of(struct undo *undo, struct undo_file *file, const void *data, size_t size, uint64_t offset)
{
	struct undo_write *write = malloc(sizeof(*write) + 2 * size);
	struct stat st;
	ssize_t old;

	CHECK(write);
	*write = (struct undo_write){ .sequence = ++undo->sequence, .offset = offset, .size = size };
	CHECK(fstat(file->fd, &st) == 0);
	write->file_bytes = (uint64_t)st.st_size;
	old = pread(file->fd, write->old, size, (off_t)offset);
	CHECK(old >= 0);
	write->old_size = (size_t)old;
	write->new = write->old + write->old_size;
	memcpy(write->new, data, size);
	list_append(&file->writes, &write->link);
	undo->volatile_count++;
}

int32_t undo_write(struct undo *undo, int fd, const void *data, size_t size, uint64_t offset)
{
	int flags = fcntl(fd, F_GETFL);
	uint64_t alignment = flags & O_DIRECT ? 512 : 1;
	struct undo_file *file;
	struct stat st;

	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if ((offset | size | (uintptr_t)data) % alignment)
		return -EINVAL;
	CHECK(fstat(fd, &st) == 0);
	file = find_file(undo, &st);
	if (!file)
		file = add_file(undo, fd, &st);
	log_write_of(undo, file, data, size, offset);
	write_all(file->fd, data, size, offset);
	return (int32_t)size;
}

void undo_sync(struct undo *undo, int fd, uint64_t sequence, bool failed)
{
	struct undo_file *file;
	struct stat st;

	CHECK(fstat(fd, &st) == 0);
	file = find_file(undo, &st);
	if (!file)
		return;
	list_for_each(link, &file->writes) {
		struct undo_write *write = container_of(link, struct undo_write, link);

		if (write->durable || write->doomed || write->sequence > sequence)
			continue;
		write->doomed = failed;
		write->durable = !failed;
		undo->volatile_count -= write->durable;
	}
	list_for_each_safe(link, after, &file->writes) {
		struct undo_write *write = container_of(link, struct undo_write, link);

		if (!write->durable)
			break;
		drop_write(undo, write);
	}
}

static void take_back(struct undo_file *file, const struct undo_write *write)
{
	struct stat st;

	CHECK(fstat(file->fd, &st) == 0);
	write_all(file->fd, write->old, write->old_size, write->offset);
	/* It made the file longer, and nobody has changed the length since. */
	if ((uint64_t)st.st_size == write->offset + write->size && write->file_bytes < (uint64_t)st.st_size)
		CHECK(ftruncate(file->fd, (off_t)write->file_bytes) == 0);
}

/* Whole, nothing, or block by block, a third each. */
static void survive(struct undo_file *file, const struct undo_write *write, undo_random_fn *random, void *context)
{
	uint64_t fate = write->durable ? 0 : random(context) % 3;
	size_t size;

	for (size_t at = 0; fate != 1 && at < write->size; at += size) {
		size = TORN_BYTES - (write->offset + at) % TORN_BYTES;
		size = size < write->size - at ? size : write->size - at;
		if (fate == 0 || random(context) % 2)
			write_all(file->fd, write->new + at, size, write->offset + at);
	}
}

void undo_crash(struct undo *undo, undo_random_fn *random, void *context)
{
	list_for_each(link, &undo->files) {
		struct undo_file *file = container_of(link, struct undo_file, link);

		for (struct list *at = file->writes.prev; at != &file->writes; at = at->prev)
			take_back(file, container_of(at, struct undo_write, link));
		list_for_each(at, &file->writes)
			survive(file, container_of(at, struct undo_write, link), random, context);
	}
	undo_fini(undo);
}
