/*
 * Shows that every way to hash gives OpenSSL's digests: each backend that this CPU runs, and their sources compiled for
 * any CPU (so the 16 lanes are tested where AVX-512 is not, and the SHA instructions' two on a model of these). Over every
 * padding, unequal lengths, more and fewer jobs than lanes, with and without the hand-over of the last lanes to OpenSSL.
 * That a backend that errs is found and left out. And that calibration takes what is fastest, once a process.
 */
#include "chunker/sha256.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "chunker/sha256_backends.h"
#include "chunker/sha256_calibrate.h"
#include "chunker/sha256_schedule.h"
#include "tests/unit/chunker/inputs.h"

#define JOBS_MAX 200

struct way {
	const char *name;
	sha256_advance *advance;
	size_t lanes;
};

/* Those for any CPU, then what this one has. */
static struct way ways[3 + SHA256_BACKENDS] = {
	{ "portable8", sha256_advance_portable8, 8 },
	{ "portable16", sha256_advance_portable16, 16 },
};
static size_t way_count = 2;

static void ways_find(void)
{
	struct sha256_lanes_backend backends[SHA256_BACKENDS];
	size_t count = sha256_backends(backends);

#ifdef __x86_64__
	ways[way_count++] = (struct way){ "portable sha-ni", sha256_advance_portable_shani, 2 };
#endif
	for (size_t i = 0; i < count; i++) {
		ways[way_count++] = (struct way){ sha256_backend_name(backends[i].backend), backends[i].advance,
						  backends[i].lanes };
	}
	for (size_t i = 0; i < way_count; i++)
		print_message("compared with OpenSSL: %s\n", ways[i].name);
}

/* By EVP: not the code that is under test. */
static void assert_digest(const uint8_t *data, size_t size, const uint8_t digest[static SHA256_BYTES])
{
	uint8_t expected[SHA256_BYTES];

	assert_int_equal(EVP_Digest(size ? data : (const uint8_t *)"", size, expected, NULL, EVP_sha256(), NULL), 1);
	assert_memory_equal(digest, expected, SHA256_BYTES);
}

static void jobs_check(struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert_digest(jobs[i].data, jobs[i].size, jobs[i].digest);
		memset(jobs[i].digest, 0, SHA256_BYTES);
	}
}

static void jobs_try(struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < way_count; i++) {
		sha256_schedule(ways[i].advance, ways[i].lanes, 1, jobs, count);
		jobs_check(jobs, count);
		sha256_schedule(ways[i].advance, ways[i].lanes, SHA256_BUSY_MIN, jobs, count);
		jobs_check(jobs, count);
		sha256_schedule(ways[i].advance, ways[i].lanes, SHA256_LANES_MAX + 1, jobs, count);
		jobs_check(jobs, count);
		for (size_t j = 0; j < way_count; j++) {
			const struct sha256_stage stages[] = { { ways[i].advance, ways[i].lanes, ways[i].lanes },
				                               { ways[j].advance, ways[j].lanes, 2 } };

			sha256_schedule_stages(stages, 2, jobs, count);
			jobs_check(jobs, count);
		}
	}
}

/* Each size alone, and each in exact memory. */
static void test_every_padding(void **state)
{
	for (size_t size = 0; size <= 200; size++) {
		uint8_t *exact = size ? malloc(size) : NULL;
		struct sha256_job job = { .data = exact, .size = size };

		if (size)
			memcpy(exact, input_bytes(INPUT_COUNTER) + size, size);
		jobs_try(&job, 1);
		free(exact);
	}
}

/* All paddings side by side, in both orders: lanes end at different blocks and take the next job. */
static void test_paddings_together(void **state)
{
	struct sha256_job jobs[JOBS_MAX];

	for (size_t i = 0; i < JOBS_MAX; i++)
		jobs[i] = (struct sha256_job){ .data = input_bytes(INPUT_COUNTER) + 7 * i, .size = i };
	jobs_try(jobs, JOBS_MAX);
	for (size_t i = 0; i < JOBS_MAX; i++)
		jobs[i].size = JOBS_MAX - i;
	jobs_try(jobs, JOBS_MAX);
}

/* The last lanes go to OpenSSL at every point of their way: in the data, before the padding and in the midst of it. */
static void test_hand_over(void **state)
{
	static const size_t edges[] = { 0, 1, 55, 56, 63, 64, 119, 120, 127, 128, 183, 184, 191, 192, 1000 };
	const size_t count = sizeof(edges) / sizeof(edges[0]);

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count; j++) {
			for (size_t k = 0; k < count; k++) {
				struct sha256_job jobs[] = {
					{ .data = input_bytes(INPUT_COUNTER), .size = edges[i] },
					{ .data = input_bytes(INPUT_COUNTER) + 99, .size = edges[j] },
					{ .data = input_bytes(INPUT_HEX) + 1, .size = edges[k] },
				};

				sha256_schedule(ways[0].advance, ways[0].lanes, SHA256_BUSY_MIN, jobs, 3);
				jobs_check(jobs, 3);
			}
		}
	}
}

static void test_random_jobs(void **state)
{
	uint64_t random = 256;

	for (int run = 0; run < 60; run++) {
		struct sha256_job jobs[JOBS_MAX];
		size_t count = input_random(&random) % (run % 3 ? 20 : JOBS_MAX);

		for (size_t i = 0; i < count; i++) {
			jobs[i] = (struct sha256_job){
				.size = input_random(&random) % ((size_t)2 << input_random(&random) % 13),
				.data = input_bytes(INPUT_COUNTER) + input_random(&random) % 1000000,
			};
		}
		jobs_try(jobs, count);
	}
}

/* Hashes nothing: keeps the last block that lane 0 was to read. */
static uint8_t last_block[SHA256_BLOCK_BYTES];

static void advance_noting(struct sha256_lanes *lanes, size_t blocks)
{
	memcpy(last_block, lanes->data[0] + (blocks - 1) * SHA256_BLOCK_BYTES, SHA256_BLOCK_BYTES);
}

/*
 * A job of more than 2^32 bits, whose length needs both words: as the lanes pad it (noted, not hashed: that would take
 * long), as OpenSSL ends it when the lanes give it up at block 10, where two short ones end, and as OpenSSL ends it when
 * they give it up behind 2^32 bits.
 */
static void test_long_job(void **state)
{
	static const uint8_t bits[8] = { 0, 0, 0, 1, 0, 0, 0x02, 0x68 }; /* 2^32 + 77 * 8 */
	const size_t size = ((size_t)1 << 29) + 77;
	uint8_t *data = calloc(1, size);
	struct sha256_job jobs[3] = { { .data = data, .size = size } };
	struct sha256_stream stream;

	assert_non_null(data);
	data[size - 1] = 0xaa;
	sha256_schedule(advance_noting, 1, 1, jobs, 1);
	assert_int_equal(last_block[12], 0xaa);
	assert_int_equal(last_block[13], 0x80);
	assert_memory_equal(last_block + SHA256_BLOCK_BYTES - sizeof(bits), bits, sizeof(bits));
	for (size_t i = 1; i < 3; i++)
		jobs[i] = (struct sha256_job){ .data = data, .size = 640 };
	sha256_schedule(ways[0].advance, ways[0].lanes, SHA256_BUSY_MIN, jobs, 3);
	jobs_check(jobs + 1, 2);
	memcpy(last_block, jobs[0].digest, SHA256_BYTES);
	sha256_stream_init(&stream);
	sha256_stream_update(&stream, data, (size_t)1 << 29);
	sha256_resume(stream.context.h, &jobs[0], (size_t)1 << 29);
	assert_memory_equal(jobs[0].digest, last_block, SHA256_BYTES);
	jobs_check(jobs, 1);
	free(data);
}

/* What batch does under each backend that can be asked for. */
static void test_batch(void **state)
{
	for (int backend = SHA256_AUTO; backend < SHA256_BACKENDS; backend++) {
		struct sha256_job jobs[JOBS_MAX];
		struct sha256 hasher;
		int r = sha256_init(&hasher, (enum sha256_backend)backend);

		if (r == -ENOTSUP) {
			assert_int_equal(hasher.backend, SHA256_OPENSSL);
			assert_int_equal(hasher.states[backend], SHA256_ABSENT);
		} else {
			assert_int_equal(r, 0);
		}
		if (!r && backend != SHA256_AUTO)
			assert_int_equal(hasher.backend, backend);
		for (size_t i = 0; i < JOBS_MAX; i++) {
			jobs[i] = (struct sha256_job){ .data = input_bytes(INPUT_HEX) + i,
						       .size = (i * 7919) % 20000 };
		}
		for (size_t count = 0; count <= JOBS_MAX; count += count < 20 ? 1 : 60) {
			sha256_batch(&hasher, jobs, count);
			jobs_check(jobs, count);
		}
	}
}

/* Errs in one word of one lane, and only from the second block of a message on. */
static void advance_wrong(struct sha256_lanes *lanes, size_t blocks)
{
	sha256_advance_portable8(lanes, blocks);
	if (blocks > 1)
		lanes->words[5][7] ^= 1u << 31;
}

static void test_choice(void **state)
{
	const struct sha256_lanes_backend good[] = {
		{ SHA256_AVX512, sha256_advance_portable16, 16 },
		{ SHA256_AVX2, sha256_advance_portable8, 8 },
	};
	const struct sha256_lanes_backend with_sha[] = { { SHA256_SHANI, sha256_advance_portable8, 2 }, good[0] };
	const struct sha256_lanes_backend first_wrong[] = { { SHA256_AVX512, advance_wrong, 8 }, good[1] };
	const struct sha256_lanes_backend all_wrong[] = { { SHA256_AVX2, advance_wrong, 8 } };
	struct sha256 hasher;

	assert_int_equal(sha256_choose(&hasher, SHA256_AUTO, good, 2, false), 0);
	assert_int_equal(hasher.backend, SHA256_AVX512);
	assert_int_equal(hasher.states[SHA256_AVX512], SHA256_CHOSEN);
	assert_int_equal(hasher.states[SHA256_AVX2], SHA256_USABLE);
	assert_int_equal(hasher.states[SHA256_OPENSSL], SHA256_USABLE);

	/* SHA instructions: before it is measured only these are trusted, by our lanes or by OpenSSL. */
	assert_int_equal(sha256_choose(&hasher, SHA256_AUTO, with_sha, 2, true), 0);
	assert_int_equal(hasher.backend, SHA256_SHANI);
	assert_int_equal(hasher.busy_min, 2);
	assert_int_equal(sha256_choose(&hasher, SHA256_AUTO, good, 2, true), 0);
	assert_int_equal(hasher.backend, SHA256_OPENSSL);
	assert_null(hasher.advance);
	assert_int_equal(hasher.states[SHA256_AVX2], SHA256_USABLE);
	assert_int_equal(sha256_choose(&hasher, SHA256_AVX2, good, 2, true), 0);
	assert_int_equal(hasher.backend, SHA256_AVX2);

	assert_int_equal(sha256_choose(&hasher, SHA256_AUTO, first_wrong, 2, false), 0);
	assert_int_equal(hasher.backend, SHA256_AVX2);
	assert_int_equal(hasher.states[SHA256_AVX512], SHA256_FAILED);
	assert_non_null(strstr(sha256_describe(&hasher, SHA256_AVX512), "wrong digest"));
	assert_int_equal(sha256_choose(&hasher, SHA256_AVX512, first_wrong, 2, false), -ENOTSUP);
	assert_int_equal(hasher.backend, SHA256_OPENSSL);

	assert_int_equal(sha256_choose(&hasher, SHA256_AUTO, all_wrong, 1, false), 0);
	assert_int_equal(hasher.backend, SHA256_OPENSSL);
	assert_int_equal(hasher.states[SHA256_AVX2], SHA256_FAILED);
	assert_int_equal(hasher.states[SHA256_AVX512], SHA256_ABSENT);

	assert_int_equal(sha256_choose(&hasher, SHA256_AUTO, NULL, 0, false), 0);
	assert_int_equal(hasher.backend, SHA256_OPENSSL);
	for (int backend = SHA256_OPENSSL; backend < SHA256_BACKENDS; backend++)
		assert_true(strlen(sha256_describe(&hasher, (enum sha256_backend)backend)) > 0);
}

static size_t few_advances;

static void advance_few(struct sha256_lanes *lanes, size_t blocks)
{
	few_advances++;
	sha256_advance_portable8(lanes, blocks);
}

/* Too few jobs for the wide lanes that were found to be the fastest go through those of the SHA instructions, also at a batch's end. */
static void test_few_jobs(void **state)
{
	const struct sha256_lanes_backend backends[] = {
		{ SHA256_AVX512, sha256_advance_portable16, 16 },
		{ SHA256_SHANI, advance_few, 8 },
	};
	struct sha256_job jobs[16];
	struct sha256 hasher;

	assert_int_equal(sha256_choose(&hasher, SHA256_AUTO, backends, 2, false), 0);
	assert_int_equal(hasher.backend, SHA256_AVX512);
	hasher.calibrated = true;
	hasher.busy_min = 5;
	for (size_t count = 0; count <= 16; count++) {
		for (size_t i = 0; i < count; i++)
			jobs[i] = (struct sha256_job){ .data = input_bytes(INPUT_HEX) + i, .size = 500 + 100 * i };
		few_advances = 0;
		sha256_batch(&hasher, jobs, count);
		jobs_check(jobs, count);
		/* And what is left of more, when they are of unequal lengths. */
		assert_int_equal(few_advances > 0, count >= 2);
	}
	assert_int_equal(sha256_choose(&hasher, SHA256_AVX512, backends, 2, true), 0);
	assert_null(hasher.few);         /* who asks for one way gets it, and OpenSSL */
}

static void test_judgement(void **state)
{
	/* A Zen 4, in ticks for 4 KiB a lane: openssl, sha-ni, avx512, avx2. */
	const struct sha256_timing zen4[] = {
		{ SHA256_OPENSSL, 1, 5800 }, { SHA256_SHANI, 2, 6000 }, { SHA256_AVX512, 16, 58000 }, { SHA256_AVX2, 8, 53000 },
	};
	const struct sha256_timing cascade_lake[] = {
		{ SHA256_OPENSSL, 1, 26000 }, { SHA256_AVX512, 16, 62000 }, { SHA256_AVX2, 8, 73000 },
	};
	const struct sha256_timing even[] = { { SHA256_OPENSSL, 1, 1000 }, { SHA256_SHANI, 2, 1000 }, { SHA256_AVX512, 16, 7500 } };
	const struct sha256_timing far[] = { { SHA256_OPENSSL, 1, 1000 }, { SHA256_SHANI, 2, 1000 }, { SHA256_AVX512, 16, 7000 } };
	const struct sha256_timing slow[] = { { SHA256_OPENSSL, 1, 1000 }, { SHA256_AVX2, 8, 9000 } };
	const struct sha256_timing no_clock[] = { { SHA256_OPENSSL, 1, 0 }, { SHA256_AVX2, 8, 0 } };
	struct sha256_verdict verdict = sha256_judge(zen4, 4);

	assert_int_equal(verdict.backend, SHA256_SHANI);
	assert_int_equal(verdict.busy_min, 2);
	verdict = sha256_judge(cascade_lake, 3);
	assert_int_equal(verdict.backend, SHA256_AVX512);
	assert_int_equal(verdict.busy_min, 3);
	/* More lanes must win by an eighth, in whatever order they are tried. */
	assert_int_equal(sha256_judge(even, 3).backend, SHA256_SHANI);
	verdict = sha256_judge(far, 3);
	assert_int_equal(verdict.backend, SHA256_AVX512);
	assert_int_equal(verdict.busy_min, 15);          /* 14 of its lanes do in a tick what the two others do */
	assert_int_equal(sha256_judge(slow, 2).backend, SHA256_OPENSSL);
	assert_int_equal(sha256_judge(slow, 1).backend, SHA256_OPENSSL);
	sha256_judge(no_clock, 2);
}

/* Before the other tests: nobody has calibrated yet. */
static void test_calibration(void **state)
{
	static uint8_t zeros[SHA256_CALIBRATE_BYTES];
	struct sha256_job jobs[] = { { .data = zeros, .size = sizeof(zeros) - 1 }, { .data = zeros, .size = 1 } };
	struct sha256 early, late, asked;

	assert_int_equal(sha256_init(&early, SHA256_AUTO), 0);
	assert_true(early.automatic);
	sha256_batch(&early, jobs, 1);
	jobs_check(jobs, 1);
	sha256_init(&late, SHA256_AUTO);
	assert_false(late.calibrated);
	/* One byte more is worth it. */
	sha256_batch(&early, jobs, 2);
	jobs_check(jobs, 2);
	assert_false(early.calibrated);
	sha256_init(&late, SHA256_AUTO);
	assert_true(late.calibrated);
	assert_int_equal(late.states[late.backend], SHA256_CHOSEN);
	for (int backend = SHA256_OPENSSL; backend < SHA256_BACKENDS; backend++)
		assert_int_equal(late.states[backend] == SHA256_CHOSEN, (enum sha256_backend)backend == late.backend);
	sha256_calibrate(&early);
	assert_int_equal(early.backend, late.backend);
	assert_int_equal(early.busy_min, late.busy_min);
	assert_true(early.busy_min >= 1 && early.busy_min <= early.lanes);
	print_message("calibration chose %s, from %zu jobs on\n", sha256_backend_name(late.backend), late.busy_min);
	/* Who asks for a backend by name gets that one. */
	sha256_init(&asked, SHA256_OPENSSL);
	sha256_calibrate(&asked);
	assert_int_equal(asked.backend, SHA256_OPENSSL);
	assert_false(asked.calibrated);
}

static void test_stream(void **state)
{
	const uint8_t *data = input_bytes(INPUT_COUNTER);
	struct sha256_stream stream;
	uint8_t digest[SHA256_BYTES];
	uint64_t random = 5;

	for (int run = 0; run < 100; run++) {
		size_t size = input_random(&random) % 10000;

		sha256_stream_init(&stream);
		sha256_stream_update(&stream, NULL, 0);
		for (size_t offset = 0; offset < size;) {
			size_t piece = 1 + input_random(&random) % (size - offset);

			sha256_stream_update(&stream, data + offset, piece);
			offset += piece;
		}
		sha256_stream_final(&stream, digest);
		assert_digest(data, size, digest);
	}
}

/* One round of a stream beside jobs, in a place among them; `way` below 0: through a hasher. */
static void along(int way, size_t busy_min, const struct sha256 *hasher, struct sha256_job *jobs, size_t count)
{
	if (way < 0)
		sha256_batch(hasher, jobs, count);
	else
		sha256_schedule(ways[way].advance, ways[way].lanes, busy_min, jobs, count);
}

static void stream_along(int way, size_t busy_min, const struct sha256 *hasher, uint64_t *random)
{
	const uint8_t *data = input_bytes(INPUT_COUNTER);
	struct sha256_stream stream;
	uint8_t digest[SHA256_BYTES];
	size_t total = 0;

	sha256_stream_init(&stream);
	for (size_t round = input_random(random) % 6; round > 0; round--) {
		struct sha256_job jobs[10];
		size_t count = input_random(random) % 10, place = input_random(random) % (count + 1);
		size_t piece = input_random(random) % ((size_t)2 << input_random(random) % 14);

		for (size_t i = 0; i <= count; i++)
			jobs[i] = (struct sha256_job){ .data = input_bytes(INPUT_HEX) + i, .size = input_random(random) % 3000 };
		jobs[place] = (struct sha256_job){ .data = data + total, .size = piece, .stream = &stream };
		total += piece;
		along(way, busy_min, hasher, jobs, count + 1);
		jobs[place] = jobs[count];
		jobs_check(jobs, count);
	}
	sha256_stream_final(&stream, digest);
	assert_digest(data, total, digest);
}

/* Pieces of any size of a stream, blocks begun before and left begun, beside jobs that end before it, and after. */
static void test_streams_beside_jobs(void **state)
{
	struct sha256 hashers[SHA256_BACKENDS];
	uint64_t random = 9;

	for (int backend = SHA256_AUTO; backend < SHA256_BACKENDS; backend++)
		sha256_init(&hashers[backend], (enum sha256_backend)backend);
	for (int run = 0; run < 100; run++) {
		for (size_t way = 0; way < way_count; way++) {
			stream_along((int)way, 1, NULL, &random);
			stream_along((int)way, SHA256_BUSY_MIN, NULL, &random);
		}
		for (int backend = SHA256_AUTO; backend < SHA256_BACKENDS; backend++)
			stream_along(-1, 0, &hashers[backend], &random);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calibration),
		cmocka_unit_test(test_every_padding), cmocka_unit_test(test_paddings_together),
		cmocka_unit_test(test_hand_over),     cmocka_unit_test(test_random_jobs),
		cmocka_unit_test(test_long_job),      cmocka_unit_test(test_batch),
		cmocka_unit_test(test_few_jobs),
		cmocka_unit_test(test_choice),        cmocka_unit_test(test_judgement),
		cmocka_unit_test(test_stream),	      cmocka_unit_test(test_streams_beside_jobs),
	};

	ways_find();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
