/* The store's directory. */
#include "gateway/store/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/store/segment.h"
#include "gateway/store/sync.h"

#define LAYOUT_TEXT_MAX    256
#define LAYOUT_MAP_LEAST   (16ull << 20)
#define LAYOUT_MAP_PART    16
#define LAYOUT_SLACK_BYTES (512ull << 10)        /* directories, lock files, extent blocks */
#define LAYOUT_MEBIBYTE    (1ull << 20)

int layout_open(const char *path, bool create)
{
	int fd;

	if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
		return ERR_RAISE(-errno);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? ERR_RAISE(-errno) : fd;
}

int layout_lock(int dir_fd, const char *path, char *why, size_t why_size)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	char text[32] = "";
	int size;

	if (fd < 0)
		return ERR_RAISE(-errno);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int r = errno == EWOULDBLOCK ? -EBUSY : -errno;

		if (pread(fd, text, sizeof(text) - 1, 0) < 0)
			text[0] = 0;
		text[strcspn(text, "\n")] = 0;
		snprintf(why, why_size, "the store %s is in use by process %s", path,
		         text[0] ? text : "(unknown)");
		return ERR_RAISE(r);
	}
	size = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)size, 0) != size)
		return ERR_RAISE(-EIO);
	return fd_take(&fd);
}

static int layout_parse(const char *text, struct layout *layout)
{
	int end = 0;

	if (sscanf(text, "sluice store\nformat %" SCNu32 "\n%n", &layout->format, &end) != 1 || !end)
		return -EINVAL;
	if (layout->format != LAYOUT_FORMAT)
		return -EPROTONOSUPPORT;
	if (sscanf(text + end, "secret %" SCNx64 "\nsegment_bytes %" SCNu64 "\n", &layout->secret,
	           &layout->segment_bytes) != 2)
		return -EINVAL;
	return 0;
}

int layout_read(int dir_fd, struct layout *layout, const char *path, char *why, size_t why_size)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, "format", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[LAYOUT_TEXT_MAX + 1] = "";
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : ERR_RAISE(-errno);
	if (read(fd, text, LAYOUT_TEXT_MAX) < 0)
		return ERR_RAISE(-errno);
	r = layout_parse(text, layout);
	if (r == -EPROTONOSUPPORT)
		snprintf(why, why_size, "the store %s has format %u, this version knows %u; use a newer sluice", path,
		         layout->format, LAYOUT_FORMAT);
	else if (r)
		snprintf(why, why_size, "%s/format is not a sluice store's", path);
	return r ? ERR_RAISE(-EPROTONOSUPPORT) : 0;
}

int layout_prepare(int dir_fd)
{
	if (mkdirat(dir_fd, SEGMENT_DIR, 0700) < 0 && errno != EEXIST)
		return ERR_RAISE(-errno);
	return 0;
}

int layout_write(int dir_fd, const struct layout *layout)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, "format.new", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char text[LAYOUT_TEXT_MAX];
	int size = snprintf(text, sizeof(text),
	                    "sluice store\nformat %" PRIu32 "\nsecret %016" PRIx64 "\nsegment_bytes %" PRIu64 "\n",
	                    layout->format, layout->secret, layout->segment_bytes);

	ssize_t written;

	if (fd < 0)
		return ERR_RAISE(-errno);
	written = write(fd, text, (size_t)size);
	if (written != size)
		return ERR_RAISE(written < 0 ? -errno : -ENOSPC);
	if (sync_file(SYNC_FORMAT, fd) < 0 || renameat(dir_fd, "format.new", dir_fd, "format") < 0 ||
	    sync_directory(SYNC_STORE_DIRECTORY, dir_fd) < 0)
		return ERR_RAISE(-errno);
	return 0;
}

uint64_t layout_map_bytes(uint64_t ceiling_bytes)
{
	uint64_t bytes = ceiling_bytes / LAYOUT_MAP_PART / LAYOUT_MEBIBYTE * LAYOUT_MEBIBYTE;

	return bytes > LAYOUT_MAP_LEAST ? bytes : LAYOUT_MAP_LEAST;
}

uint64_t layout_segment_bytes(uint64_t ceiling_bytes)
{
	uint64_t bytes = ceiling_bytes / 64 / LAYOUT_MEBIBYTE * LAYOUT_MEBIBYTE;

	if (bytes < 8 * LAYOUT_MEBIBYTE)
		return 8 * LAYOUT_MEBIBYTE;
	return bytes < 1024 * LAYOUT_MEBIBYTE ? bytes : 1024 * LAYOUT_MEBIBYTE;
}

uint64_t layout_ceiling_least(uint64_t segment_bytes, uint32_t segments)
{
	uint64_t rest = segments * segment_bytes + LAYOUT_SLACK_BYTES;
	uint64_t small = rest + LAYOUT_MAP_LEAST, large = rest * LAYOUT_MAP_PART / (LAYOUT_MAP_PART - 1);

	return small > large ? small : large;
}

uint32_t layout_segments_max(uint64_t ceiling_bytes, uint64_t segment_bytes)
{
	uint64_t fixed = layout_map_bytes(ceiling_bytes) + LAYOUT_SLACK_BYTES, segments;

	if (ceiling_bytes <= fixed)
		return 0;
	segments = (ceiling_bytes - fixed) / segment_bytes;
	return segments < STORE_SEGMENTS_MAX ? (uint32_t)segments : STORE_SEGMENTS_MAX;
}
