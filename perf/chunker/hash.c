/*
 * Which backend is the fastest way to hash chunks here, by chunk size and by number of jobs in a batch, against OpenSSL
 * one chunk after the other? And is what calibration chooses the right one?
 *
 *	hash [--json FILE]
 *
 * With OPENSSL_ia32cap=:~0x20000000 in the environment OpenSSL does without the CPU's SHA instructions: what the vector
 * lanes are worth on a CPU that has none.
 */
#include "chunker/sha256.h"
#include "perf/bench.h"

#define SIZE     (32u << 20)
#define JOBS_MAX 256
/* In a pack: digest, lengths and tags before each blob. Side by side, blobs of 64 KiB meet in the same places of a cache. */
#define PACK_HEAD_BYTES 44

struct shape {
	const struct sha256 *hasher;
	size_t chunk_bytes;
	size_t jobs; /* in a batch */
	size_t head_bytes; /* before each chunk; not hashed */
};

static volatile uint8_t seen;

static void run_batches(const uint8_t *data, size_t size, const void *argument)
{
	const struct shape *shape = argument;
	struct sha256_job jobs[JOBS_MAX];

	for (size_t offset = 0; offset < size;) {
		size_t count = 0;

		while (count < shape->jobs && offset < size) {
			size_t bytes = size - offset < shape->chunk_bytes ? size - offset : shape->chunk_bytes;

			if (size - offset > shape->chunk_bytes + shape->head_bytes)
				offset += shape->head_bytes;
			jobs[count++] = (struct sha256_job){ .data = data + offset, .size = bytes };
			offset += bytes;
		}
		sha256_batch(shape->hasher, jobs, count);
		seen = jobs[0].digest[0];
	}
}

/* ---- chunks as a cutter makes them ---- */

#define UNEVEN_LEAST (16u << 10)
#define UNEVEN_MOST  (256u << 10)

/* 16 KiB, and behind that as likely to end at each byte as at any other: 64 KiB on average. */
static size_t uneven_bytes(uint64_t *random)
{
	size_t bytes = UNEVEN_LEAST;

	do {
		*random = *random * 6364136223846793005u + 1442695040888963407u;
		bytes += 1024;
	} while (bytes < UNEVEN_MOST && (*random >> 33) % 48);
	return bytes;
}

static void run_uneven(const uint8_t *data, size_t size, const void *argument)
{
	const struct shape *shape = argument;
	struct sha256_job jobs[JOBS_MAX];
	uint64_t random = 1;

	for (size_t offset = 0; offset < size;) {
		size_t count = 0, begin = offset;

		while (offset < size && offset - begin < shape->chunk_bytes) {
			size_t bytes = uneven_bytes(&random);

			bytes = size - offset < bytes ? size - offset : bytes;
			jobs[count++] = (struct sha256_job){ .data = data + offset, .size = bytes };
			offset += bytes;
		}
		sha256_batch(shape->hasher, jobs, count);
		seen = jobs[0].digest[0];
	}
}

/* What calibration chose, with and without the narrower lanes for what the wide ones leave. */
static void bench_uneven(struct bench_report *report, const struct sha256 *chosen, size_t batch_bytes, const uint8_t *data)
{
	struct sha256 wide = *chosen;
	const struct shape shapes[] = { { chosen, batch_bytes, 0, 0 }, { &wide, batch_bytes, 0, 0 } };
	struct bench benches[] = {
		{ .name = "ended by OpenSSL", .run = run_uneven, .argument = &shapes[1] },
		{ .name = "as chosen", .run = run_uneven, .argument = &shapes[0] },
	};
	char group[80];

	wide.few = NULL;
	snprintf(group, sizeof(group), "chunks of 64 KiB on average, %zu KiB a batch", batch_bytes >> 10);
	bench_all(report, group, benches, 2, data, SIZE);
}

static void bench_shape(struct bench_report *report, const struct sha256 hashers[static SHA256_BACKENDS], size_t chunk_bytes, size_t jobs,
			size_t head_bytes, const uint8_t *data)
{
	struct bench benches[SHA256_BACKENDS];
	struct shape shapes[SHA256_BACKENDS];
	char group[64];
	size_t count = 0;

	for (int backend = SHA256_OPENSSL; backend < SHA256_BACKENDS; backend++) {
		if (hashers[backend].backend != (enum sha256_backend)backend)
			continue;
		shapes[count] = (struct shape){ &hashers[backend], chunk_bytes, jobs, head_bytes };
		benches[count] = (struct bench){ .name = sha256_backend_name((enum sha256_backend)backend),
						 .run = run_batches, .argument = &shapes[count] };
		count++;
	}
	snprintf(group, sizeof(group), "%zu bytes, %zu a batch%s", chunk_bytes, jobs, head_bytes ? ", as in a pack" : "");
	bench_all(report, group, benches, count, data, SIZE);
}

int main(int argc, char **argv)
{
	static const size_t chunk_bytes[] = { 1 << 10, 16 << 10, 64 << 10, 512 << 10 };
	static const size_t jobs[] = { 1, 2, 3, 4, 8, 16 };
	struct bench_report report = bench_report_open(bench_option(argc, argv, "--json"));
	uint8_t *data = bench_data(SIZE);
	struct sha256 hashers[SHA256_BACKENDS];

	/* What is not there falls back to OpenSSL, and is left out above. */
	for (int backend = SHA256_AUTO; backend < SHA256_BACKENDS; backend++)
		sha256_init(&hashers[backend], (enum sha256_backend)backend);
	sha256_calibrate(&hashers[SHA256_AUTO]);
	for (int backend = SHA256_OPENSSL; backend < SHA256_BACKENDS; backend++)
		printf("%-8s %s\n", sha256_backend_name((enum sha256_backend)backend),
		       sha256_describe(&hashers[SHA256_AUTO], (enum sha256_backend)backend));
	for (size_t i = 0; i < sizeof(chunk_bytes) / sizeof(chunk_bytes[0]); i++)
		bench_shape(&report, hashers, chunk_bytes[i], 64, 0, data);
	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		bench_shape(&report, hashers, 64 << 10, jobs[i], 0, data);
	bench_shape(&report, hashers, 64 << 10, 16, PACK_HEAD_BYTES, data);
	for (size_t kib = 128; kib <= 4096; kib *= 2)
		bench_uneven(&report, &hashers[SHA256_AUTO], kib << 10, data);
	bench_report_close(&report);
	free(data);
	return 0;
}
