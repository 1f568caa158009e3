/* Claims on the disk. */
#include "gateway/play/claims_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"

#define MAGIC 0x736d6c6369756c73ull      /* "sluiclms", little-endian */

struct head {
	uint64_t magic;
	uint32_t version, record_bytes;
	struct claims_file_head is;
};

struct record {
	struct claim claim;
	uint64_t sum;
};

_Static_assert(sizeof(struct head) == CLAIMS_FILE_HEAD_BYTES && sizeof(struct record) == CLAIMS_FILE_RECORD_BYTES, "no holes");

static struct head head_make(const struct claims_file_head *is)
{
	return (struct head){ .magic = MAGIC, .version = CLAIMS_FILE_VERSION, .record_bytes = CLAIMS_FILE_RECORD_BYTES,
		              .is = *is };
}

/* Of this claim at this place of this file: one that strayed is none. */
static uint64_t record_sum(const struct claims_file_head *head, const struct claim *claim, uint64_t at)
{
	uint64_t id;

	memcpy(&id, head->id, sizeof(id));
	return XXH3_64bits_withSeed(claim, sizeof(*claim), id ^ at);
}

static bool is_zeros(struct span bytes)
{
	for (size_t i = 0; i < bytes.size; i++)
		if (bytes.data[i])
			return false;
	return true;
}

int claims_file_parse(struct claims *claims, struct span bytes, const struct claims_file_head *head, uint64_t *end)
{
	struct head expected = head_make(head);
	uint64_t at = sizeof(expected);
	int r;

	if (bytes.size < sizeof(expected) || memcmp(bytes.data, &expected, sizeof(expected)) != 0)
		return CLAIMS_FILE_DAMAGED;
	for (; bytes.size - at >= sizeof(struct record); at += sizeof(struct record)) {
		struct record record;

		memcpy(&record, bytes.data + at, sizeof(record));
		if (record.sum != record_sum(head, &record.claim, at) ||
		    is_zeros(span_make(record.claim.path.bytes, sizeof(record.claim.path.bytes))))
			break;
		r = claims_replay(claims, &record.claim);
		if (r != CLAIMS_MADE)
			return r < 0 ? r : CLAIMS_FILE_DAMAGED;
	}
	*end = at;
	if (bytes.size - at < sizeof(struct record) || is_zeros(span_make(bytes.data + at, bytes.size - at)))
		return CLAIMS_FILE_OK;
	return CLAIMS_FILE_DAMAGED;
}

void claims_file_name(const uint8_t id[static CLAIMS_FILE_ID_BYTES], char name[static CLAIMS_FILE_NAME_BYTES])
{
	for (size_t i = 0; i < CLAIMS_FILE_ID_BYTES; i++)
		snprintf(name + 2 * i, 3, "%02x", id[i]);
}

/* ---- reading ---- */

/* Who can write to it can make an executor keep old content: it must be our own. */
static bool is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static int open_ours(int dir_fd, const char *name, int flags, int *out, uint64_t *size)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return errno == ELOOP ? CLAIMS_FILE_DAMAGED : -errno;
	if (fstat(fd, &st) < 0)
		return ERR_RAISE(-errno);
	if (!is_ours(&st))
		return CLAIMS_FILE_DAMAGED;
	*size = (uint64_t)st.st_size;
	*out = fd;
	fd = -1;
	return CLAIMS_FILE_OK;
}

int claims_file_peek(int dir_fd, const char *name, struct claims_file_head *head)
{
	CLEANUP(fd_closep) int fd = -1;
	struct head found, expected;
	uint64_t size;
	int r = open_ours(dir_fd, name, O_RDONLY, &fd, &size);

	if (r)
		return r;
	if (pread(fd, &found, sizeof(found), 0) != sizeof(found))
		return CLAIMS_FILE_DAMAGED;
	expected = head_make(&found.is);
	if (memcmp(&found, &expected, sizeof(found)) != 0)
		return CLAIMS_FILE_DAMAGED;
	*head = found.is;
	return CLAIMS_FILE_OK;
}

static int read_all(int fd, uint64_t size, const struct claims_file_head *head, struct claims *claims, uint64_t *end)
{
	void *memory;
	int r;

	if (size < CLAIMS_FILE_HEAD_BYTES || size > CLAIMS_FILE_HEAD_BYTES + (CLAIMS_RECORDS_MAX + 1ull) * CLAIMS_FILE_RECORD_BYTES)
		return CLAIMS_FILE_DAMAGED;
	memory = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (memory == MAP_FAILED)
		return ERR_RAISE(-errno);
	r = claims_file_parse(claims, span_make(memory, (size_t)size), head, end);
	munmap(memory, (size_t)size);
	return r;
}

/* ---- writing ---- */

static int write_full(int fd, const void *data, size_t size, uint64_t at)
{
	const uint8_t *from = data;

	while (size) {
		ssize_t written = pwrite(fd, from, size, (off_t)at);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return ERR_RAISE(-errno);
		from += written;
		at += (uint64_t)written;
		size -= (size_t)written;
	}
	return 0;
}

/* Its name is on the disk as well before anything rests on it. */
static int file_make(int dir_fd, const char *name, const struct claims_file_head *is, int *out)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct head head = head_make(is);
	int r;

	if (fd < 0)
		return ERR_RAISE(-errno);
	r = write_full(fd, &head, sizeof(head), 0);
	if (r == 0 && (fdatasync(fd) < 0 || fsync(dir_fd) < 0))
		r = ERR_RAISE(-errno);
	if (r < 0) {
		unlinkat(dir_fd, name, 0);
		return r;
	}
	*out = fd;
	fd = -1;
	return 0;
}

int claims_file_open(int dir_fd, const struct claims_file_head *head, bool make, struct claims *claims, int *out,
                     uint64_t *end)
{
	char name[CLAIMS_FILE_NAME_BYTES];
	CLEANUP(fd_closep) int fd = -1;
	uint64_t size = 0;
	int r;

	claims_file_name(head->id, name);
	if (make) {
		*end = CLAIMS_FILE_HEAD_BYTES;
		return file_make(dir_fd, name, head, out);
	}
	r = open_ours(dir_fd, name, O_RDWR, &fd, &size);
	if (r == -ENOENT)
		r = CLAIMS_FILE_DAMAGED;
	if (r == 0)
		r = read_all(fd, size, head, claims, end);
	/* What a crash left behind it must not be taken for claims of later. */
	if (r == 0 && *end < size && (ftruncate(fd, (off_t)*end) < 0 || fdatasync(fd) < 0))
		r = ERR_RAISE(-errno);
	if (r == 0)
		(void)futimens(fd, NULL);
	if (r)
		return r;
	*out = fd;
	fd = -1;
	return 0;
}

int claims_file_append(int fd, uint64_t at, const struct claims_file_head *head, const struct claim *claims, size_t count)
{
	struct record *records = malloc(count * sizeof(*records) + 1);
	int r;

	if (!records)
		return ERR_RAISE(-ENOMEM);
	for (size_t i = 0; i < count; i++)
		records[i] = (struct record){ .claim = claims[i],
			                      .sum = record_sum(head, &claims[i], at + i * sizeof(*records)) };
	r = write_full(fd, records, count * sizeof(*records), at);
	free(records);
	if (r == 0 && fdatasync(fd) < 0)
		r = ERR_RAISE(-errno);
	return r;
}
