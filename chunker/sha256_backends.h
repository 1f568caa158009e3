/*
 * sha256_backends: which backends this build has and this CPU can run, and their self-test. Private to chunker/;
 * sha256_x86.c or sha256_plain.c stands behind it, picked by meson.
 */
#pragma once

#include "chunker/sha256.h"
#include "chunker/sha256_lanes.h"

struct sha256_lanes_backend {
	enum sha256_backend backend;
	sha256_advance *advance;
	size_t lanes;
};

/* Puts what CPU and operating system support into `out`, likely the fastest first; returns how many. */
size_t sha256_backends(struct sha256_lanes_backend out[static SHA256_BACKENDS]);

/* Whether one stream is fast here: the CPU has SHA instructions, which OpenSSL uses. */
bool sha256_cpu_has_sha(void);

/* The CPU's own clock, in ticks of some length: no call of the system's. */
uint64_t sha256_ticks(void);

/* Hashes pieces of every length around the block's edges, and compares with OpenSSL. */
bool sha256_self_test(sha256_advance *advance, size_t lanes);

/*
 * The choice, apart from what the CPU has and from calibration. `backends`: likely the fastest first; each is tested,
 * and what fails is never chosen. Otherwise as sha256_init().
 */
int sha256_choose(struct sha256 *hasher, enum sha256_backend wanted, const struct sha256_lanes_backend *backends,
		  size_t count, bool sha_instructions);
