/* Timing the backends, and the decision. */
#include "chunker/sha256_calibrate.h"

#include <assert.h>

#include "chunker/sha256_schedule.h"

#define TIMED_BYTES 4096
/* The least of several: another program, or the CPU that wakes its vector units, may spoil some. */
#define ROUNDS 8
/* How much faster more lanes must be. */
#define GAIN_OF 8
#define GAIN    9

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Each lane a job of its own, at different addresses. `busy_min` 1: to the end by the backend itself. */
static uint64_t time_lanes(const struct sha256_lanes_backend *backend, const uint8_t *data)
{
	struct sha256_job jobs[SHA256_LANES_MAX];
	uint64_t begin;

	for (size_t i = 0; i < backend->lanes; i++)
		jobs[i] = (struct sha256_job){ .data = data + i * SHA256_BLOCK_BYTES, .size = TIMED_BYTES };
	begin = sha256_ticks();
	sha256_schedule(backend->advance, backend->lanes, 1, jobs, backend->lanes);
	return sha256_ticks() - begin;
}

static uint64_t time_openssl(const uint8_t *data)
{
	uint8_t digest[SHA256_BYTES];
	uint64_t begin = sha256_ticks();

	sha256_once(data, TIMED_BYTES, digest);
	return sha256_ticks() - begin;
}

struct sha256_verdict sha256_measure(const enum sha256_state states[static SHA256_BACKENDS],
				     const struct sha256_lanes_backend *backends, size_t count)
{
	static const uint8_t data[TIMED_BYTES + SHA256_LANES_MAX * SHA256_BLOCK_BYTES];
	struct sha256_timing timings[1 + SHA256_BACKENDS] = { { SHA256_OPENSSL, 1, UINT64_MAX } };
	size_t tried = 1;

	assert(count <= SHA256_BACKENDS);
	for (size_t i = 0; i < count; i++) {
		if (states[backends[i].backend] == SHA256_FAILED)
			continue;
		timings[tried] = (struct sha256_timing){ backends[i].backend, backends[i].lanes, UINT64_MAX };
		for (int round = 0; round < ROUNDS; round++)
			timings[tried].ticks = least(timings[tried].ticks, time_lanes(&backends[i], data));
		tried++;
	}
	for (int round = 0; tried > 1 && round < ROUNDS; round++)
		timings[0].ticks = least(timings[0].ticks, time_openssl(data));
	return sha256_judge(timings, tried);
}

/* Bytes a tick are lanes / ticks; compared without dividing. */
static bool is_better(const struct sha256_timing *a, const struct sha256_timing *b)
{
	unsigned __int128 of_a = (unsigned __int128)a->lanes * b->ticks, of_b = (unsigned __int128)b->lanes * a->ticks;

	return a->lanes > b->lanes ? of_a * GAIN_OF > of_b * GAIN : of_a * GAIN >= of_b * GAIN_OF;
}

struct sha256_verdict sha256_judge(const struct sha256_timing *timings, size_t count)
{
	const struct sha256_timing *best = &timings[0], *few = &timings[0];
	uint64_t busy_min;

	assert(count > 0);
	assert(timings[0].backend == SHA256_OPENSSL);
	for (size_t i = 1; i < count; i++) {
		if (is_better(&timings[i], best))
			best = &timings[i];
		if (timings[i].backend == SHA256_SHANI)
			few = &timings[i];
	}
	/* What has fewer lanes to fill goes on where they are left. */
	if (few->lanes >= best->lanes)
		few = &timings[0];
	if (best == timings)
		return (struct sha256_verdict){ SHA256_OPENSSL, 1 };
	/* The least k of which k lanes of the best do more in a tick than all of the few. */
	busy_min = best->ticks * few->lanes / (few->ticks ? few->ticks : 1) + 1;
	return (struct sha256_verdict){ best->backend, least(busy_min, best->lanes) };
}
