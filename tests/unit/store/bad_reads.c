/* Reads that fail: by another file, one that the kernel cannot read at that place. */
#include "tests/unit/store/bad_reads.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
	struct stat file;
	uint64_t begin, end;
	unsigned times;
	int unreadable;
} bad = { .unreadable = -1 };

/* Finds it in one segment. */
static bool find(const char *path, const struct blob *blob)
{
	int fd = open(path, O_RDONLY);
	uint8_t *bytes, *at;
	bool found;

	if (fd < 0)
		return false;
	assert_int_equal(fstat(fd, &bad.file), 0);
	bytes = malloc((size_t)bad.file.st_size);
	assert_int_equal(pread(fd, bytes, (size_t)bad.file.st_size, 0), bad.file.st_size);
	close(fd);
	at = memmem(bytes, (size_t)bad.file.st_size, blob->data, blob->digest.size);
	found = at;
	if (found) {
		bad.begin = (uint64_t)(at - bytes);
		bad.end = bad.begin + blob->digest.size;
	}
	free(bytes);
	return found;
}

void bad_reads_begin(const struct fixture *fixture, const struct blob *blob, unsigned times)
{
	char path[128];
	unsigned number = 0;

	do
		snprintf(path, sizeof(path), "%s/segments/%08x", fixture->path, number);
	while (!find(path, blob) && ++number < 64);
	assert_true(number < 64);
	bad.unreadable = open("/proc/self/mem", O_RDONLY);       /* nothing is at its first addresses */
	assert_true(bad.unreadable >= 0);
	bad.times = times;
}

void bad_reads_end(void)
{
	bad.times = 0;
	close(bad.unreadable);
}

void __real_ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t size, uint64_t offset);
void __wrap_ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t size, uint64_t offset);

void __wrap_ring_read(struct ring *ring, struct op *op, int fd, void *data, size_t size, uint64_t offset)
{
	struct stat file;

	if (bad.times && offset < bad.end && offset + size > bad.begin && fstat(fd, &file) == 0 &&
	    file.st_ino == bad.file.st_ino && file.st_dev == bad.file.st_dev) {
		bad.times--;
		fd = bad.unreadable;
		offset = 0;
	}
	__real_ring_read(ring, op, fd, data, size, offset);
}
