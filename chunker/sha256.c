/* The choice of a backend, its self-test, and the batch. */
#include "chunker/sha256.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "chunker/sha256_backends.h"
#include "chunker/sha256_schedule.h"

#define SELF_TEST_JOBS  132 /* lengths 0 to 131: every padding, and one to three blocks */
#define SELF_TEST_BYTES 1024

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
	struct sha256_job jobs[SELF_TEST_JOBS + 1];
	uint8_t data[SELF_TEST_BYTES];
	uint8_t expected[SHA256_BYTES];

	self_test_fill(data);
	for (size_t i = 0; i < SELF_TEST_JOBS; i++)
		jobs[i] = (struct sha256_job){ .data = data + i, .size = i };
	jobs[SELF_TEST_JOBS] = (struct sha256_job){ .data = data, .size = SELF_TEST_BYTES };
	/* The last jobs, too, in lanes: what OpenSSL did would prove nothing. */
	sha256_schedule(advance, lanes, 1, jobs, SELF_TEST_JOBS + 1);
	for (size_t i = 0; i <= SELF_TEST_JOBS; i++) {
		sha256_once(jobs[i].data, jobs[i].size, expected);
		if (memcmp(jobs[i].digest, expected, SHA256_BYTES) != 0)
			return false;
	}
	return true;
}

static void hasher_choose(struct sha256 *hasher, const struct sha256_lanes_backend *chosen)
{
	hasher->backend = chosen->backend;
	hasher->advance = chosen->advance;
	hasher->lanes = chosen->lanes;
}

int sha256_choose(struct sha256 *hasher, enum sha256_backend wanted, const struct sha256_lanes_backend *backends,
		  size_t count, bool sha_instructions)
{
	static const struct sha256_lanes_backend openssl = { .backend = SHA256_OPENSSL, .lanes = 1 };
	const struct sha256_lanes_backend *chosen = NULL;

	assert(wanted < SHA256_BACKENDS);
	*hasher = (struct sha256){ .sha_instructions = sha_instructions };
	hasher->states[SHA256_OPENSSL] = SHA256_USABLE;
	/* With SHA instructions one stream outruns 8 lanes; whether 16 outrun it is for a calibration to say. */
	if (wanted == SHA256_AUTO && sha_instructions)
		wanted = SHA256_OPENSSL;
	for (size_t i = 0; i < count; i++) {
		bool works = sha256_self_test(backends[i].advance, backends[i].lanes);

		hasher->states[backends[i].backend] = works ? SHA256_USABLE : SHA256_FAILED;
		if (works && !chosen && (wanted == SHA256_AUTO || wanted == backends[i].backend))
			chosen = &backends[i];
	}
	hasher_choose(hasher, chosen ? chosen : &openssl);
	hasher->states[hasher->backend] = SHA256_CHOSEN;
	return wanted == SHA256_AUTO || wanted == hasher->backend ? 0 : -ENOTSUP;
}

int sha256_init(struct sha256 *hasher, enum sha256_backend wanted)
{
	struct sha256_lanes_backend backends[SHA256_BACKENDS];
	size_t count = sha256_backends(backends);

	return sha256_choose(hasher, wanted, backends, count, sha256_cpu_has_sha());
}

void sha256_batch(const struct sha256 *hasher, struct sha256_job *jobs, size_t count)
{
	if (hasher->advance) {
		sha256_schedule(hasher->advance, hasher->lanes, SHA256_BUSY_MIN, jobs, count);
		return;
	}
	for (size_t i = 0; i < count; i++)
		sha256_once(jobs[i].data, jobs[i].size, jobs[i].digest);
}

const char *sha256_backend_name(enum sha256_backend backend)
{
	static const char *const names[SHA256_BACKENDS] = {
		[SHA256_AUTO] = "auto",
		[SHA256_OPENSSL] = "openssl",
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
		if (hasher->backend == SHA256_OPENSSL && hasher->sha_instructions)
			return "works; not used: the CPU's SHA instructions are faster";
		return "works; not used";
	case SHA256_CHOSEN:
		if (backend == SHA256_OPENSSL && hasher->sha_instructions)
			return "used, with the CPU's SHA instructions";
		return "used";
	}
	return "unknown";
}
