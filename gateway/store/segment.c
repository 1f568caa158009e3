/* The files of segments. */
#include "gateway/store/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/store/sync.h"

char *segment_name(char name[static SEGMENT_NAME_MAX], uint32_t number)
{
	snprintf(name, SEGMENT_NAME_MAX, SEGMENT_DIR "/%08x", number);
	return name;
}

static int directory_sync(int dir_fd, const char *name)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : sync_directory(SYNC_SEGMENT_DIRECTORY, fd);
}

int segment_create(int dir_fd, uint32_t number, uint64_t bytes)
{
	char name[SEGMENT_NAME_MAX];
	CLEANUP(fd_closep) int fd = -1;
	int r = 0;

	fd = openat(dir_fd, segment_name(name, number), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return ERR_RAISE(-errno);
	if (fallocate(fd, 0, 0, (off_t)bytes) < 0)
		r = -errno;
	if (r == -EOPNOTSUPP)
		r = -posix_fallocate(fd, 0, (off_t)bytes);
	/* Its size, too: some file systems log a new name as an empty file. */
	if (!r)
		r = sync_file(SYNC_SEGMENT_FILE, fd);
	if (!r)
		r = directory_sync(dir_fd, SEGMENT_DIR);
	if (r)
		unlinkat(dir_fd, name, 0);
	return r ? ERR_RAISE(r) : 0;
}

int segment_open_read(struct segment *segment, int dir_fd)
{
	char name[SEGMENT_NAME_MAX];

	if (segment->read_fd >= 0)
		return 0;
	segment->read_fd = openat(dir_fd, segment_name(name, segment->number), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return segment->read_fd < 0 ? ERR_RAISE(-errno) : 0;
}

int segment_open_write(struct segment *segment, int dir_fd, bool direct)
{
	char name[SEGMENT_NAME_MAX];
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;

	CHECK(segment->write_fd < 0);
	segment_name(name, segment->number);
	if (direct)
		segment->write_fd = openat(dir_fd, name, flags | O_DIRECT);
	if (segment->write_fd < 0)       /* tmpfs and some overlays have no direct writes: EINVAL */
		segment->write_fd = openat(dir_fd, name, flags);
	if (segment->write_fd < 0)
		return ERR_RAISE(-errno);
	/* No read-ahead over ground that is still being written past the page cache. */
	posix_fadvise(segment->read_fd, 0, 0, POSIX_FADV_RANDOM);
	return 0;
}

void segment_close_write(struct segment *segment)
{
	if (segment->write_fd < 0)
		return;
	CHECK(!op_in_flight(&segment->sync));
	close(segment->write_fd);
	segment->write_fd = -1;
	if (segment->read_fd >= 0)
		posix_fadvise(segment->read_fd, 0, 0, POSIX_FADV_NORMAL);
}

void segment_close(struct segment *segment)
{
	segment_close_write(segment);
	if (segment->read_fd >= 0)
		close(segment->read_fd);
	segment->read_fd = -1;
}
