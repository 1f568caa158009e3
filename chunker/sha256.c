/* The choice of a backend, its self-test, and the batch. */
#include "chunker/sha256.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "chunker/sha256_backends.h"
#include "chunker/sha256_calibrate.h"
#include "chunker/sha256_schedule.h"

#define SELF_TEST_SHORT 132 /* lengths 0 to 131: every padding, and one to three blocks */
#define SELF_TEST_JOBS  (SELF_TEST_SHORT + SHA256_LANES_MAX) /* and many blocks at a time in every lane */
#define SELF_TEST_BYTES 1024

static const struct sha256_lanes_backend sha256_by_openssl = { .backend = SHA256_OPENSSL, .lanes = 1 };

static void self_test_fill(uint8_t data[static SELF_TEST_BYTES])
{
	uint32_t value = 1;

	for (size_t i = 0; i < SELF_TEST_BYTES; i++) {
		value = value * 1664525 + 1013904223;
		data[i] = (uint8_t)(value >> 24);
	}
}

bool sha256_self_test(sha256_advance *advance, size_t lanes)
{
	struct sha256_job jobs[SELF_TEST_JOBS];
	uint8_t data[SELF_TEST_BYTES];
	uint8_t expected[SHA256_BYTES];

	self_test_fill(data);
	for (size_t i = 0; i < SELF_TEST_JOBS; i++)
		jobs[i] = (struct sha256_job){ .data = data + i,
			                       .size = i < SELF_TEST_SHORT ? i : SELF_TEST_BYTES - SELF_TEST_JOBS };
	/* The last jobs, too, in lanes: what OpenSSL did would prove nothing. */
	sha256_schedule(advance, lanes, 1, jobs, SELF_TEST_JOBS);
	for (size_t i = 0; i < SELF_TEST_JOBS; i++) {
		sha256_once(jobs[i].data, jobs[i].size, expected);
		if (memcmp(jobs[i].digest, expected, SHA256_BYTES) != 0)
			return false;
	}
	return true;
}

static void hasher_take(struct sha256 *hasher, const struct sha256_lanes_backend *backend, size_t busy_min)
{
	if (hasher->states[hasher->backend] == SHA256_CHOSEN)
		hasher->states[hasher->backend] = SHA256_USABLE;
	hasher->backend = backend->backend;
	hasher->advance = backend->advance;
	hasher->lanes = backend->lanes;
	hasher->busy_min = busy_min;
	hasher->states[hasher->backend] = SHA256_CHOSEN;
}

/* Before it is measured: with SHA instructions one stream outruns 8 vector lanes, and two of them most likely 16. */
static bool is_eligible(const struct sha256 *hasher, enum sha256_backend wanted, enum sha256_backend backend)
{
	if (wanted == SHA256_AUTO)
		return !hasher->sha_instructions || backend == SHA256_SHANI;
	return wanted == backend;
}

int sha256_choose(struct sha256 *hasher, enum sha256_backend wanted, const struct sha256_lanes_backend *backends,
		  size_t count, bool sha_instructions)
{
	const struct sha256_lanes_backend *chosen = &sha256_by_openssl;

	assert(wanted < SHA256_BACKENDS);
	*hasher = (struct sha256){ .sha_instructions = sha_instructions, .automatic = wanted == SHA256_AUTO };
	hasher->states[SHA256_OPENSSL] = SHA256_USABLE;
	for (size_t i = 0; i < count; i++) {
		bool works = sha256_self_test(backends[i].advance, backends[i].lanes);

		hasher->states[backends[i].backend] = works ? SHA256_USABLE : SHA256_FAILED;
		if (works && chosen == &sha256_by_openssl && is_eligible(hasher, wanted, backends[i].backend))
			chosen = &backends[i];
		if (works && hasher->automatic && backends[i].backend == SHA256_SHANI) {
			hasher->few = backends[i].advance;
			hasher->few_lanes = backends[i].lanes;
		}
	}
	hasher_take(hasher, chosen, chosen->backend == SHA256_SHANI ? SHA256_BUSY_MIN_SHANI : SHA256_BUSY_MIN);
	return wanted == SHA256_AUTO || wanted == hasher->backend ? 0 : -ENOTSUP;
}

/*
 * What this process found, for all its hashers: a word, so that threads share it without a lock; the later of two that
 * find it out at the same time stays. The backend, and `busy_min` above it; 0: nothing yet.
 */
static atomic_uint process_verdict;

#define VERDICT_BACKEND_BITS 8

/* Takes over what was found. False: nothing was. */
static bool verdict_take(struct sha256 *hasher, const struct sha256_lanes_backend *backends, size_t count)
{
	unsigned verdict = atomic_load(&process_verdict);
	unsigned backend = verdict & ((1u << VERDICT_BACKEND_BITS) - 1);
	const struct sha256_lanes_backend *chosen = &sha256_by_openssl;

	if (!verdict)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (backends[i].backend == backend)
			chosen = &backends[i];
	}
	hasher_take(hasher, chosen, verdict >> VERDICT_BACKEND_BITS);
	hasher->calibrated = true;
	return true;
}

int sha256_init(struct sha256 *hasher, enum sha256_backend wanted)
{
	struct sha256_lanes_backend backends[SHA256_BACKENDS];
	size_t count = sha256_backends(backends);
	int r = sha256_choose(hasher, wanted, backends, count, sha256_cpu_has_sha());

	if (hasher->automatic)
		verdict_take(hasher, backends, count);
	return r;
}

void sha256_calibrate(struct sha256 *hasher)
{
	struct sha256_lanes_backend backends[SHA256_BACKENDS];
	size_t count = sha256_backends(backends);
	struct sha256_verdict verdict;

	if (!hasher->automatic || verdict_take(hasher, backends, count))
		return;
	verdict = sha256_measure(hasher->states, backends, count);
	atomic_store(&process_verdict, (unsigned)verdict.backend | (unsigned)verdict.busy_min << VERDICT_BACKEND_BITS);
	verdict_take(hasher, backends, count);
}

static bool batch_is_large(const struct sha256_job *jobs, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count && bytes < SHA256_CALIBRATE_BYTES; i++)
		bytes += jobs[i].size;
	return bytes >= SHA256_CALIBRATE_BYTES;
}

void sha256_batch(const struct sha256 *hasher, struct sha256_job *jobs, size_t count)
{
	struct sha256 calibrated;

	if (hasher->automatic && !hasher->calibrated &&
	    (atomic_load(&process_verdict) || batch_is_large(jobs, count))) {
		calibrated = *hasher;
		sha256_calibrate(&calibrated);
		hasher = &calibrated;
	}
	if (hasher->advance) {
		const struct sha256_stage stages[SHA256_STAGES_MAX] = {
			{ hasher->advance, hasher->lanes, hasher->busy_min },
			{ hasher->few, hasher->few_lanes, SHA256_BUSY_MIN_SHANI },
		};

		sha256_schedule_stages(stages, hasher->few && hasher->few != hasher->advance ? 2 : 1, jobs, count);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (jobs[i].stream)
			sha256_stream_update(jobs[i].stream, jobs[i].data, jobs[i].size);
		else
			sha256_once(jobs[i].data, jobs[i].size, jobs[i].digest);
	}
}

const char *sha256_backend_name(enum sha256_backend backend)
{
	static const char *const names[SHA256_BACKENDS] = {
		[SHA256_AUTO] = "auto",
		[SHA256_OPENSSL] = "openssl",
		[SHA256_SHANI] = "sha-ni",
		[SHA256_AVX2] = "avx2",
		[SHA256_AVX512] = "avx512",
	};

	assert(backend < SHA256_BACKENDS);
	return names[backend];
}

const char *sha256_describe(const struct sha256 *hasher, enum sha256_backend backend)
{
	assert(backend < SHA256_BACKENDS);
	switch (hasher->states[backend]) {
	case SHA256_ABSENT:
		return "no: not in this CPU or build";
	case SHA256_FAILED:
		return "no: self-test gave a wrong digest";
	case SHA256_USABLE:
		return hasher->calibrated ? "works; not used: slower here" : "works; not used";
	case SHA256_CHOSEN:
		return hasher->calibrated ? "used: the fastest here" : "used";
	}
	return "unknown";
}
