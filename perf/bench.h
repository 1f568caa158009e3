/*
 * bench: things done in turns, so that what disturbs a shared machine disturbs all of them. Ratios inside one run are
 * worth something; times are not. The least of the runs is what the code can do, the median what it did, the spread (the
 * distance between the quarters, of the median) says whether to believe either.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BENCH_RUNS 9

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
	double seconds[BENCH_RUNS]; /* sorted when all have run */
};

/* Where results go: a table to stdout, and JSON to a file that `--json FILE` names. */
struct bench_report {
	FILE *json; /* NULL: none was asked for */
	bool begun;
};

/* Of the sources, as scripts/state tells it and the environment hands it on; "": nobody does. */
static inline const char *bench_state(void)
{
	const char *state = getenv("SLUICE_STATE");

	return state ? state : "";
}

static inline struct bench_report bench_report_open(const char *path)
{
	struct bench_report report = { .json = path ? fopen(path, "w") : NULL };

	if (path && !report.json) {
		perror(path);
		exit(1);
	}
	if (report.json)
		fprintf(report.json, "[");
	return report;
}

static inline void bench_report_close(struct bench_report *report)
{
	if (!report->json)
		return;
	fprintf(report->json, "\n]\n");
	fclose(report->json);
}

static inline int bench_compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static inline double bench_least(const struct bench *bench)
{
	return bench->seconds[0];
}

static inline double bench_median(const struct bench *bench)
{
	return bench->seconds[BENCH_RUNS / 2];
}

static inline double bench_spread(const struct bench *bench)
{
	return (bench->seconds[BENCH_RUNS * 3 / 4] - bench->seconds[BENCH_RUNS / 4]) / bench_median(bench);
}

static inline void bench_print(struct bench_report *report, const char *group, const struct bench *benches, size_t count,
			       size_t size)
{
	printf("%-30s %8s %8s %7s %8s\n", group, "GB/s", "median", "spread", "ratio");
	for (size_t i = 0; i < count; i++) {
		double best = (double)size / bench_least(&benches[i]) / 1e9;
		double median = (double)size / bench_median(&benches[i]) / 1e9;
		double ratio = bench_least(&benches[0]) / bench_least(&benches[i]);

		printf("%-30s %8.2f %8.2f %6.1f%% %7.2fx\n", benches[i].name, best, median,
		       bench_spread(&benches[i]) * 100, ratio);
		if (!report->json)
			continue;
		fprintf(report->json,
			"%s\n  {\"group\": \"%s\", \"name\": \"%s\", \"bytes\": %zu, \"runs\": %d, \"seconds_min\": %.9f, "
			"\"seconds_median\": %.9f, \"spread\": %.4f, \"gb_s\": %.3f, \"ratio_to_first\": %.3f, \"state\": \"%s\"}",
			report->begun ? "," : "", group, benches[i].name, size, BENCH_RUNS, bench_least(&benches[i]),
			bench_median(&benches[i]), bench_spread(&benches[i]), best, ratio, bench_state());
		report->begun = true;
	}
	printf("\n");
}

/* One number by itself, of things that are compared in its group. */
static inline void bench_value(struct bench_report *report, const char *group, const char *name, double value, const char *unit)
{
	if (!report->json)
		return;
	fprintf(report->json, "%s\n  {\"group\": \"%s\", \"name\": \"%s\", \"value\": %.3f, \"unit\": \"%s\", \"state\": \"%s\"}",
		report->begun ? "," : "", group, name, value, unit, bench_state());
	report->begun = true;
}

/* Runs all of them in turn, BENCH_RUNS times and once to warm up, and reports each with its ratio to the first. */
static inline void bench_all(struct bench_report *report, const char *group, struct bench *benches, size_t count,
			     const uint8_t *data, size_t size)
{
	for (int run = -1; run < BENCH_RUNS; run++) {
		for (size_t i = 0; i < count; i++) {
			double begin = bench_seconds();

			benches[i].run(data, size, benches[i].argument);
			if (run >= 0)
				benches[i].seconds[run] = bench_seconds() - begin;
		}
	}
	for (size_t i = 0; i < count; i++)
		qsort(benches[i].seconds, BENCH_RUNS, sizeof(double), bench_compare);
	bench_print(report, group, benches, count, size);
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

/* The value behind `name` on the command line; NULL: it is not there. */
static inline const char *bench_option(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	}
	return NULL;
}
