/*
 * sha256_calibrate: which backend is the fastest on this machine, found out by trying. No table of CPUs would do: two of
 * the same name differ in clock, in microcode and in what else runs on them. Private to chunker/.
 */
#pragma once

#include "chunker/sha256_backends.h"

struct sha256_verdict {
	enum sha256_backend backend;
	size_t busy_min; /* with fewer jobs left OpenSSL, or the lanes of the SHA instructions, are faster; 1 to the backend's lanes */
};

struct sha256_timing {
	enum sha256_backend backend;
	size_t lanes;
	uint64_t ticks; /* for the same bytes in each lane, all lanes busy */
};

/* Times OpenSSL and those of `backends` that work, according to `states`; no more than a few milliseconds. */
struct sha256_verdict sha256_measure(const enum sha256_state states[static SHA256_BACKENDS],
				     const struct sha256_lanes_backend *backends, size_t count);

/*
 * The decision, from timings that are given: `timings[0]` is OpenSSL's one lane. Most bytes a tick wins; but more lanes
 * must win by an eighth, since they are full less often.
 */
struct sha256_verdict sha256_judge(const struct sha256_timing *timings, size_t count);
