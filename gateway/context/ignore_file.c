/* ignore_file: see ignore_file.h. */
#include "gateway/context/ignore_file.h"

#include "chunker/sha256.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define IGNORE_NAME ".dockerignore"

static int read_text(int fd, uint8_t **text, size_t *size)
{
	uint8_t *data = malloc(IGNORE_BYTES_MAX + 1);
	size_t have = 0;

	if (!data)
		return -ENOMEM;
	while (have <= IGNORE_BYTES_MAX) {
		ssize_t got = read(fd, data + have, IGNORE_BYTES_MAX + 1 - have);

		if (got < 0) {
			int r = -errno;

			free(data);
			return r;
		}
		if (got == 0)
			break;
		have += (size_t)got;
	}
	*text = data;
	*size = have;
	return 0;
}

static int parse(struct ignore_file *file, int fd, const char *path, struct why why)
{
	CLEANUP(free_p) uint8_t *text = NULL;
	char fault[200] = "";
	size_t size = 0;
	int r = read_text(fd, &text, &size);

	if (r)
		return WHY_RAISE(why, r, path, "cannot be read: %s", err_text(r));
	r = ignore_create(&file->ignore, span_make(text, size), fault, sizeof(fault));
	if (r)
		return WHY_RAISE(why, r, path, "%s", fault[0] ? fault : err_text(r));
	sha256_once(text, size, file->digest);
	return 0;
}

int ignore_file_read(struct ignore_file *file, const char *path, struct why why)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return WHY_RAISE(why, -errno, path, "cannot be opened: %s", err_text(errno));
	return parse(file, fd, path, why);
}

int ignore_file_read_in(struct ignore_file *file, int dir_fd, struct why why)
{
	/* In a directory of somebody else's there may be a FIFO, which nobody is to wait for. */
	CLEANUP(fd_closep) int fd = openat(dir_fd, IGNORE_NAME, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return WHY_RAISE(why, -errno, IGNORE_NAME, "cannot be opened: %s", err_text(errno));
	/* It would be empty for the next scan, or is already: nothing would be ignored then. */
	if (S_ISFIFO(st.st_mode))
		return WHY_RAISE(why, -EINVAL, IGNORE_NAME, "is a pipe, which can be read only once");
	return parse(file, fd, IGNORE_NAME, why);
}

void ignore_file_fini(struct ignore_file *file)
{
	ignore_destroy(file->ignore);
	*file = (struct ignore_file){ 0 };
}
