/* The bytes that are carried: the files of a real tree, each piece of them a blob. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "perf/bench.h"
#include "perf/ingest/load.h"
#include "proto/sluice_v1.h"

#define BLOB_BYTES 65536
#define TREE_FDS   16

static struct {
	struct sha256_job *jobs;
	size_t count, bytes;
} open_body;

static void body_finish(void)
{
	struct body *body;
	struct sha256 hasher;

	if (open_body.count == 0)
		return;
	sha256_init(&hasher, SHA256_AUTO);
	load.bodies = realloc(load.bodies, (load.bodies_count + 1) * sizeof(*load.bodies));
	CHECK(load.bodies);
	body = &load.bodies[load.bodies_count++];
	*body = (struct body){ .message = buffer_heap(CALL_SEND_BYTES_MAX), .digests = buffer_heap(SLUICE_MESSAGE_BYTES_MAX),
	                       .blobs = open_body.count, .data_bytes = open_body.bytes };
	sha256_batch(&hasher, open_body.jobs, open_body.count);
	load.way->encode(body, open_body.jobs, open_body.count);
	CHECK(!body->message.failed && !body->digests.failed);
	for (size_t i = 0; i < open_body.count; i++)
		free((void *)(uintptr_t)open_body.jobs[i].data);
	load.data_bytes += body->data_bytes;
	open_body.count = open_body.bytes = 0;
}

static void body_add(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	uint64_t stamp = load.stamp * 0x9e3779b97f4a7c15ull + load.bodies_count;

	if (open_body.bytes + size + sizeof(stamp) > load.way->body_bytes || open_body.count == SLUICE_LIST_MAX)
		body_finish();
	copy = malloc(size + sizeof(stamp));
	CHECK(copy);
	memcpy(copy, &stamp, sizeof(stamp));
	memcpy(copy + sizeof(stamp), data, size);
	open_body.jobs[open_body.count++] = (struct sha256_job){ .data = copy, .size = size + sizeof(stamp) };
	open_body.bytes += size + sizeof(stamp);
}

static int take_file(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	static uint8_t piece[BLOB_BYTES - 8];
	ssize_t n;
	int fd;

	if (type != FTW_F || stat->st_size == 0 || !S_ISREG(stat->st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return 0;
	while (load.data_bytes + open_body.bytes < load.data_bytes_max && (n = read(fd, piece, sizeof(piece))) > 0)
		body_add(piece, (size_t)n);
	close(fd);
	return load.data_bytes + open_body.bytes >= load.data_bytes_max;
}

void make_bodies(const char *tree)
{
	open_body.jobs = calloc(SLUICE_LIST_MAX, sizeof(*open_body.jobs));
	CHECK(open_body.jobs);
	nftw(tree, take_file, TREE_FDS, FTW_PHYS);
	body_finish();
	if (load.bodies_count == 0) {
		fprintf(stderr, "load: nothing to read below %s\n", tree);
		exit(1);
	}
}
