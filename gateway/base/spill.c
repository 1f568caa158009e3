/* Anonymous pages first, a file without a name later. */
#include "gateway/base/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "gateway/base/err.h"

#define PAGE_BYTES      4096u
#define SPILL_BYTES_MIN 65536u

static size_t round_up(size_t size)
{
	return (size + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

/* Blocks are reserved, so that a full disk is told here and not by a signal at the first touch. */
static int map_file(const char *directory, size_t size, uint8_t **data)
{
	int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return ERR_RAISE(-errno);
	r = -posix_fallocate(fd, 0, (off_t)size);
	if (r == 0) {
		*data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (*data == MAP_FAILED)
			r = -errno;
	}
	close(fd);
	return r < 0 ? ERR_RAISE(r) : 0;
}

static int map_memory(size_t size, uint8_t **data)
{
	*data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return *data == MAP_FAILED ? ERR_RAISE(-ENOMEM) : 0;
}

/* A file is replaced by a longer one: seldom, as it grows by half, and simpler than keeping its descriptor. */
int spill_grow(struct spill *spill, size_t size)
{
	size_t capacity = spill->capacity + spill->capacity / 2;
	uint8_t *data;
	bool mapped;
	int r;

	if (size <= spill->capacity)
		return 0;
	if (size > SIZE_MAX / 2)
		return ERR_RAISE(-ENOMEM);
	if (capacity < size)
		capacity = size;
	capacity = round_up(capacity < SPILL_BYTES_MIN ? SPILL_BYTES_MIN : capacity);
	mapped = spill->directory && capacity > spill->memory_bytes_max;
	r = mapped ? map_file(spill->directory, capacity, &data) : map_memory(capacity, &data);
	if (r < 0)
		return r;
	if (spill->data) {
		memcpy(data, spill->data, spill->capacity);
		munmap(spill->data, spill->capacity);
	}
	spill->data = data;
	spill->capacity = capacity;
	spill->mapped = mapped;
	return 0;
}

void spill_fini(struct spill *spill)
{
	if (spill->data)
		munmap(spill->data, spill->capacity);
	spill->data = NULL;
	spill->capacity = 0;
	spill->mapped = false;
}
