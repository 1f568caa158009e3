/*
 * How fast are cuts found, for each profile, of a file that is in memory and of one that comes in 64 KiB pieces, with
 * the sieve and without, against copying the same bytes, hashing them with XXH3, and against fastcdc-rs when its
 * library is named? And what do cutting and hashing cost together, with and without a former recipe that guides the
 * cuts?
 *
 *	cut [--json FILE] [--fastcdc-rs LIBRARY]    see perf/chunker/run, which builds the library
 *	cut --backend NAME [--json FILE]            only what hashes, by these lanes: avx512, avx2, openssl, sha-ni
 *
 * With OPENSSL_ia32cap=:~0x20000000 in the environment and --backend avx512 it is what a CPU without SHA instructions does: OpenSSL
 * does without them, and so do our lanes.
 */
#include <dlfcn.h>
#include <string.h>
#include <xxhash.h>

#include "chunker/cutter.h"
#include "chunker/guide.h"
#include "chunker/profile.h"
#include "perf/bench.h"

#define SIZE         (64u << 20)
#define PIECE_BYTES  (64u << 10)
#define WINDOW_BYTES (4u << 20) /* as the client's scan has it */
#define CHUNKS_MAX   (SIZE / 4096)
/* One byte is changed in each so many: an edited file. */
#define EDIT_BYTES   (3u << 20)

static uint8_t *copy;
static volatile size_t cuts; /* keeps the work from being optimised away */
static struct sha256 hasher;
static struct sha256_job jobs[WINDOW_BYTES / 4096 + 1], out[WINDOW_BYTES / 4096 + 1];
static struct guide_reason reasons[WINDOW_BYTES / 4096 + 1];

static struct {
	size_t count;
	size_t sizes[CHUNKS_MAX];
	uint8_t digests[CHUNKS_MAX][SHA256_BYTES];
} former;

static size_t (*fastcdc_rs_cuts)(const uint8_t *data, size_t size, uint32_t average);

static void run_copy(const uint8_t *data, size_t size, const void *argument)
{
	memcpy(copy, data, size);
	cuts = copy[size / 2];
}

static void run_xxh3(const uint8_t *data, size_t size, const void *argument)
{
	cuts = XXH3_64bits(data, size);
}

static void run_whole(const uint8_t *data, size_t size, const void *argument)
{
	size_t count = 0;

	for (size_t offset = 0; offset < size; count++)
		offset += fastcdc_cut(argument, data + offset, size - offset);
	cuts = count;
}

static void run_rust(const uint8_t *data, size_t size, const void *argument)
{
	const struct fastcdc *fastcdc = argument;

	cuts = fastcdc_rs_cuts(data, size, fastcdc->average);
}

static void run_pieces(const uint8_t *data, size_t size, const void *argument)
{
	struct cutter cutter;
	size_t count = 0, chunk = 0, fed = 0;

	cutter_init(&cutter, argument);
	for (size_t end = PIECE_BYTES; end <= size; end += PIECE_BYTES) {
		size_t length;

		while ((length = cutter_feed(&cutter, data + fed, end - fed))) {
			chunk += length;
			fed = chunk;
			count++;
		}
		fed = end;
	}
	cuts = count + (cutter_finish(&cutter) > 0);
}

static struct guide_chunk former_chunk(const void *context, size_t index)
{
	return (struct guide_chunk){ former.digests[index], former.sizes[index] };
}

/* A window at a time, as the client's scan does it. `former_count` 0: without a former recipe. */
static void cut_and_hash(const uint8_t *data, size_t size, const struct fastcdc *fastcdc, size_t former_count)
{
	struct guide guide;
	size_t count = 0;

	guide_init(&guide, fastcdc, former_chunk, NULL, former_count);
	for (size_t at = 0; at < size;) {
		size_t window = size - at < WINDOW_BYTES ? size - at : WINDOW_BYTES;
		bool ended = window == size - at;
		size_t found = guide_propose(&guide, data + at, window, ended, jobs, reasons, sizeof(jobs) / sizeof(jobs[0]));

		sha256_batch(&hasher, jobs, found);
		found = guide_confirm(&guide, data + at, window, ended, jobs, reasons, found, &hasher, out,
				      sizeof(out) / sizeof(out[0]));
		for (size_t i = 0; i < found; i++)
			at += out[i].size;
		count += found;
	}
	cuts = count;
}

static void run_cut_and_hash(const uint8_t *data, size_t size, const void *argument)
{
	cut_and_hash(data, size, argument, 0);
}

static void run_guided(const uint8_t *data, size_t size, const void *argument)
{
	cut_and_hash(data, size, argument, former.count);
}

static void run_cut_and_openssl(const uint8_t *data, size_t size, const void *argument)
{
	for (size_t at = 0; at < size;) {
		struct sha256_job job = { .data = data + at, .size = fastcdc_cut(argument, data + at, size - at) };

		sha256_once(job.data, job.size, job.digest);
		at += job.size;
	}
}

static void former_make(const uint8_t *data, size_t size, const struct fastcdc *fastcdc)
{
	former.count = 0;
	for (size_t at = 0; at < size; former.count++) {
		former.sizes[former.count] = fastcdc_cut(fastcdc, data + at, size - at);
		sha256_once(data + at, former.sizes[former.count], former.digests[former.count]);
		at += former.sizes[former.count];
	}
}

static void bench_cuts(struct bench_report *report, const uint8_t *data)
{
	const struct fastcdc *fine = profile_fastcdc(PROFILE_FINE), *native = profile_fastcdc(PROFILE_NATIVE);
	const struct fastcdc *reapi = profile_fastcdc(PROFILE_REAPI);
	struct fastcdc plain = *native;
	struct bench benches[] = {
		{ .name = "memcpy", .run = run_copy },
		{ .name = "XXH3", .run = run_xxh3 },
		{ .name = "fine 16 KiB, whole", .run = run_whole, .argument = fine },
		{ .name = "native 64 KiB, whole", .run = run_whole, .argument = native },
		{ .name = "reapi 512 KiB, whole", .run = run_whole, .argument = reapi },
		{ .name = "native 64 KiB, in pieces", .run = run_pieces, .argument = native },
		{ .name = "native 64 KiB, without a sieve", .run = run_whole, .argument = &plain },
		{ .name = "fastcdc-rs 16 KiB", .run = run_rust, .argument = fine },
		{ .name = "fastcdc-rs 64 KiB", .run = run_rust, .argument = native },
		{ .name = "fastcdc-rs 512 KiB", .run = run_rust, .argument = reapi },
	};

	plain.sieve = NULL;
	bench_all(report, "cut", benches, sizeof(benches) / sizeof(benches[0]) - (fastcdc_rs_cuts ? 0 : 3), data, SIZE);
}

static void bench_cut_and_hash(struct bench_report *report, uint8_t *data)
{
	const struct fastcdc *native = profile_fastcdc(PROFILE_NATIVE);
	struct bench benches[] = {
		{ .name = "cut + OpenSSL, one by one", .run = run_cut_and_openssl, .argument = native },
		{ .name = "cut + hash", .run = run_cut_and_hash, .argument = native },
		{ .name = "guided + hash", .run = run_guided, .argument = native },
	};

	former_make(data, SIZE, native);
	bench_all(report, "native, unchanged", benches, 3, data, SIZE);
	/* In the midst of the file a byte more: all behind it is somewhere else. */
	memmove(data + SIZE / 2 + 1, data + SIZE / 2, SIZE / 2 - 1);
	for (size_t at = EDIT_BYTES; at < SIZE; at += EDIT_BYTES)
		data[at] ^= 0x55;
	bench_all(report, "native, an edit each 3 MiB", benches, 3, data, SIZE);
}

/* The same algorithm, so the same cuts, or there is nothing to compare. */
static void check_rust(const uint8_t *data)
{
	for (uint32_t number = PROFILE_NATIVE; number <= PROFILE_REAPI; number++) {
		const struct fastcdc *fastcdc = profile_fastcdc(number);

		run_whole(data, SIZE, fastcdc);
		if (cuts != fastcdc_rs_cuts(data, SIZE, fastcdc->average)) {
			fprintf(stderr, "fastcdc-rs cuts otherwise\n");
			exit(1);
		}
	}
}

/* The lanes that are named; NULL: the fastest here. False: they are not to be had. */
static bool hasher_open(const char *name)
{
	int backend = SHA256_AUTO;

	while (name && backend < SHA256_BACKENDS && strcmp(sha256_backend_name((enum sha256_backend)backend), name) != 0)
		backend++;
	if (backend == SHA256_BACKENDS || sha256_init(&hasher, (enum sha256_backend)backend) < 0) {
		fprintf(stderr, "no such way to hash here: %s\n", name);
		return false;
	}
	sha256_calibrate(&hasher);
	printf("hash: %s\n", sha256_backend_name(hasher.backend));
	return true;
}

int main(int argc, char **argv)
{
	struct bench_report report = bench_report_open(bench_option(argc, argv, "--json"));
	const char *backend = bench_option(argc, argv, "--backend");
	const char *rust = bench_option(argc, argv, "--fastcdc-rs");
	uint8_t *data = bench_data(SIZE);

	if (rust) {
		void *library = dlopen(rust, RTLD_NOW);

		*(void **)&fastcdc_rs_cuts = library ? dlsym(library, "fastcdc_rs_cuts") : NULL;
		if (!fastcdc_rs_cuts) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		check_rust(data);
	}
	copy = malloc(SIZE);
	if (!copy || !hasher_open(backend))
		return 1;
	memset(copy, 1, SIZE);
	if (!backend)
		bench_cuts(&report, data);
	bench_cut_and_hash(&report, data);
	bench_report_close(&report);
	free(copy);
	free(data);
	return 0;
}
