/*
 * sha256_differential: the lanes, of every backend for any CPU and as this CPU has them, give OpenSSL's digests, whatever the jobs'
 * lengths, with the last lanes handed over at whatever point.
 *
 * Input: one byte count of jobs, one byte for the hand-over's threshold, two bytes of length a job, then the data of
 * the jobs; where it ends, jobs begin at its start again.
 */
#include <stdlib.h>
#include <string.h>

#include "chunker/sha256_backends.h"
#include "chunker/sha256_schedule.h"

#define JOBS_MAX 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t expected[SHA256_BYTES];

		sha256_once(jobs[i].data, jobs[i].size, expected);
		if (memcmp(jobs[i].digest, expected, SHA256_BYTES) != 0)
			abort();
		memset(jobs[i].digest, 0, SHA256_BYTES);
	}
}

static void check(sha256_advance *advance, size_t lanes, size_t busy_min, struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		memset(jobs[i].digest, 0, SHA256_BYTES);
	sha256_schedule(advance, lanes, busy_min, jobs, count);
	compare(jobs, count);
	/* What is left goes on in other lanes of the same kind. */
	sha256_schedule_stages((const struct sha256_stage[]){ { advance, lanes, busy_min }, { advance, lanes, 2 } }, 2, jobs, count);
	compare(jobs, count);
}

/* Lengths are cut to what the data has, so that a sanitizer sees a byte read past it. */
static void jobs_make(struct sha256_job *jobs, size_t count, const uint8_t *lengths, const uint8_t *data, size_t size)
{
	size_t offset = 0;

	for (size_t i = 0; i < count; i++) {
		size_t length = lengths[2 * i] | (size_t)lengths[2 * i + 1] << 8;

		if (offset == size)
			offset = 0;
		if (length > size - offset)
			length = size - offset;
		jobs[i] = (struct sha256_job){ .data = data + offset, .size = length };
		offset += length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sha256_lanes_backend backends[SHA256_BACKENDS];
	struct sha256_job jobs[JOBS_MAX];
	size_t count, busy_min, backend_count;

	if (size < 2)
		return 0;
	count = data[0] % (JOBS_MAX + 1);
	busy_min = 1 + data[1] % SHA256_LANES_MAX;
	if (size < 2 + 2 * count)
		return 0;
	jobs_make(jobs, count, data + 2, data + 2 + 2 * count, size - 2 - 2 * count);
	check(sha256_advance_portable8, 8, busy_min, jobs, count);
	check(sha256_advance_portable16, 16, busy_min, jobs, count);
#ifdef __x86_64__
	check(sha256_advance_portable_shani, 2, busy_min, jobs, count);
#endif
	backend_count = sha256_backends(backends);
	for (size_t i = 0; i < backend_count; i++)
		check(backends[i].advance, backends[i].lanes, busy_min, jobs, count);
	return 0;
}
