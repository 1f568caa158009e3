/* bench: the best of several interleaved runs, since a shared machine is noisy and ratios inside one run are not. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_RUNS 5

static inline double bench_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct bench {
	const char *name;
	void (*run)(const uint8_t *data, size_t size, const void *argument);
	const void *argument;
	double seconds; /* best so far; 0 before the first run */
};

/* Runs all of them in turn, BENCH_RUNS times, and prints GB/s and the ratio to the first. */
static inline void bench_all(struct bench *benches, size_t count, const uint8_t *data, size_t size)
{
	for (int run = 0; run < BENCH_RUNS; run++) {
		for (size_t i = 0; i < count; i++) {
			double begin = bench_seconds();
			double seconds;

			benches[i].run(data, size, benches[i].argument);
			seconds = bench_seconds() - begin;
			if (!run || seconds < benches[i].seconds)
				benches[i].seconds = seconds;
		}
	}
	for (size_t i = 0; i < count; i++)
		printf("%-28s %7.2f GB/s  %5.2f x\n", benches[i].name, (double)size / benches[i].seconds / 1e9,
		       benches[0].seconds / benches[i].seconds);
}

/* `size` bytes without structure. */
static inline uint8_t *bench_data(size_t size)
{
	uint64_t *data = malloc(size);
	uint64_t state = 88172645463325252u;

	if (!data)
		exit(1);
	for (size_t i = 0; i < size / 8; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		data[i] = state;
	}
	return (uint8_t *)data;
}
