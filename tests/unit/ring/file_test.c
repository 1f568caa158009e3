/*
 * Files: open, write, sync and read back, the ends of files, errors, O_DIRECT writes from registered memory (and that
 * they took the fixed path), and more requests at once than the ring has entries.
 */
#include "tests/unit/ring/tests.h"

#include <fcntl.h>
#include <sys/stat.h>
#include "gateway/ring/selftest.h"
#include "tests/unit/ring/fixture.h"

static int open_file(struct fixture *fixture, const char *name, int flags)
{
	struct call opened;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", fixture->directory, name);
	ring_open(fixture->ring, &call_init(&opened)->op, AT_FDCWD, path, flags, 0640);
	fd = call_wait(fixture->ring, &opened);
	return fd;
}

static int32_t write_at(struct fixture *fixture, int fd, const void *data, size_t size, uint64_t offset)
{
	struct call call;

	ring_write(fixture->ring, &call_init(&call)->op, fd, data, size, offset);
	return call_wait(fixture->ring, &call);
}

static int32_t read_at(struct fixture *fixture, int fd, void *data, size_t size, uint64_t offset)
{
	struct call call;

	ring_read(fixture->ring, &call_init(&call)->op, fd, data, size, offset);
	return call_wait(fixture->ring, &call);
}

static int32_t fdatasync_of(struct fixture *fixture, int fd)
{
	struct call call;

	ring_fdatasync(fixture->ring, &call_init(&call)->op, fd);
	return call_wait(fixture->ring, &call);
}

static void test_write_read(void **state)
{
	enum { BYTES = 3000000 };
	struct fixture *fixture = *state;
	const struct ring_counters *counters = ring_counters(fixture->ring);
	uint8_t *out = malloc(BYTES), *in = malloc(BYTES);
	struct stat st;
	int fd = open_file(fixture, "file", O_RDWR | O_CREAT | O_EXCL);

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	for (int i = 0; i < BYTES; i++)
		out[i] = (uint8_t)(i * 7 + (i >> 8));
	assert_int_equal(write_at(fixture, fd, out, BYTES, 0), BYTES);
	assert_int_equal(write_at(fixture, fd, "middle", 6, 1000), 6);
	memcpy(out + 1000, "middle", 6);
	assert_int_equal(fdatasync_of(fixture, fd), 0);
	assert_int_equal(read_at(fixture, fd, in, BYTES, 0), BYTES);
	assert_memory_equal(in, out, BYTES);
	assert_int_equal(read_at(fixture, fd, in, BYTES, BYTES - 10), 10);
	assert_memory_equal(in, out + BYTES - 10, 10);
	assert_int_equal(read_at(fixture, fd, in, 10, BYTES), 0);
	assert_int_equal(counters->writes, 2);
	assert_int_equal(counters->reads, 3);
	assert_int_equal(counters->syncs, 1);
	assert_int_equal(counters->writes_fixed, 0);
	close(fd);
	free(out);
	free(in);
}

static void test_errors(void **state)
{
	struct fixture *fixture = *state;
	int fd, full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	char byte;

	assert_int_equal(open_file(fixture, "absent", O_RDONLY), -ENOENT);
	fd = open_file(fixture, "file", O_WRONLY | O_CREAT);
	assert_true(fd >= 0);
	assert_int_equal(open_file(fixture, "file", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
	assert_int_equal(read_at(fixture, fd, &byte, 1, 0), -EBADF);
	assert_int_equal(write_at(fixture, full, "x", 1, 0), -ENOSPC);
	close(full);
	close(fd);
	assert_int_equal(fdatasync_of(fixture, fd), -EBADF);
}

/* As the store writes: whole blocks from the slots into a file that was allocated before, past the page cache. */
static void test_direct_write_from_slots(void **state)
{
	enum { SLOT = 256 << 10, SLOTS = 8 };
	struct fixture *fixture = *state;
	const struct ring_counters *counters = ring_counters(fixture->ring);
	uint8_t *slots = ring_slots_create(fixture->ring, SLOTS * SLOT), *in;
	struct call calls[SLOTS];
	int fd = open_file(fixture, "segment", O_RDWR | O_CREAT | O_DIRECT);

	if (fd == -EINVAL)
		fd = open_file(fixture, "segment", O_RDWR | O_CREAT);   /* a filesystem without it */
	assert_non_null(slots);
	assert_int_equal((uintptr_t)slots % 4096, 0);
	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, SLOTS * SLOT), 0);
	for (int i = 0; i < SLOTS; i++) {
		memset(slots + i * SLOT, 'a' + i, SLOT);
		ring_write(fixture->ring, &call_init(&calls[i])->op, fd, slots + i * SLOT, SLOT, (uint64_t)i * SLOT);
	}
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(call_wait(fixture->ring, &calls[i]), SLOT);
	assert_int_equal(fdatasync_of(fixture, fd), 0);
	assert_int_equal(counters->writes_fixed > 0, fixture_engine == RING_ENGINE_URING && selftest_fixed_write() == 0);
	in = aligned_alloc(4096, SLOT);
	for (int i = 0; i < SLOTS; i++) {
		assert_int_equal(read_at(fixture, fd, in, SLOT, (uint64_t)i * SLOT), SLOT);
		assert_memory_equal(in, slots + i * SLOT, SLOT);
	}
	/* Past the end, and over the end. */
	assert_int_equal(read_at(fixture, fd, in, SLOT, SLOTS * SLOT), 0);
	assert_int_equal(ftruncate(fd, SLOTS * SLOT - 1000), 0);
	assert_int_equal(read_at(fixture, fd, in, SLOT, (SLOTS - 1) * SLOT), SLOT - 1000);
	free(in);
	close(fd);
}

/* Eight entries, five hundred requests, every third cancelled at once: each completes once, and what ran is right. */
static void test_more_than_entries(void **state)
{
	enum { COUNT = 500 };
	struct fixture *fixture = *state;
	struct call *calls = calloc(COUNT, sizeof(*calls));
	uint32_t *values = calloc(COUNT, sizeof(*values));
	unsigned cancelled = 0;
	int fd;

	fixture_ring(fixture, &(struct ring_config){ .entries = 8 });
	fd = open_file(fixture, "numbers", O_RDWR | O_CREAT);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(pwrite(fd, &i, sizeof(i), (off_t)(i * sizeof(i))), sizeof(i));
	for (uint32_t i = 0; i < COUNT; i++) {
		ring_read(fixture->ring, &call_init(&calls[i])->op, fd, &values[i], sizeof(values[i]), i * sizeof(i));
		if (i % 3 == 0)
			ring_cancel(fixture->ring, &calls[i].op);
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		int32_t res = call_wait(fixture->ring, &calls[i]);

		assert_int_equal(calls[i].completions, 1);
		if (res == -ECANCELED && i % 3 == 0) {
			cancelled++;
			continue;
		}
		assert_int_equal(res, sizeof(values[i]));
		assert_int_equal(values[i], i);
	}
	assert_true(cancelled <= COUNT / 3 + 1);
	close(fd);
	free(calls);
	free(values);
}

int run_file_tests(void)
{
	const struct CMUnitTest tests[] = {
		fixture_test(test_write_read),
		fixture_test(test_errors),
		fixture_test(test_direct_write_from_slots),
		fixture_test(test_more_than_entries),
	};

	return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
