/*
 * sha256_schedule: spreads jobs over lanes. A lane that ends takes the next job at once, so unequal sizes cost nothing
 * until the jobs run out; what then is left in too few lanes to pay goes on in a backend with fewer, and is ended by OpenSSL.
 * Private to chunker/.
 */
#pragma once

#include "chunker/sha256.h"
#include "chunker/sha256_lanes.h"

/*
 * With fewer busy lanes than this OpenSSL is faster than any vector lanes (measured without SHA instructions), until a
 * calibration says more; and of the two lanes of the SHA instructions both must be busy.
 */
#define SHA256_BUSY_MIN       3
#define SHA256_BUSY_MIN_SHANI 2

#define SHA256_STAGES_MAX 2

/*
 * Does all `jobs` with `advance`, which has `lanes` lanes. With fewer than `busy_min` busy lanes OpenSSL takes over; 1
 * means never, for tests.
 */
void sha256_schedule(sha256_advance *advance, size_t lanes, size_t busy_min, struct sha256_job *jobs, size_t count);

/* A backend, and the busy lanes below which those that are left leave it. */
struct sha256_stage {
	sha256_advance *advance;
	size_t lanes, busy_min;
};

/* As sha256_schedule(), each stage going on with what the one before it has left; the longest first. */
void sha256_schedule_stages(const struct sha256_stage *stages, size_t stages_count, struct sha256_job *jobs, size_t count);

/* Ends `job`, of which `done` bytes (whole blocks) have led to the chaining value `words`. By OpenSSL. */
void sha256_resume(const uint32_t words[static SHA256_WORDS], struct sha256_job *job, size_t done);

/* How many bytes more fill the block that a stream has begun; 0: none is begun. */
size_t sha256_stream_wants(const struct sha256_stream *stream);
/* Of a stream that has begun no block: its chaining value, and the one after `bytes` more, which are whole blocks. */
void sha256_stream_words(const struct sha256_stream *stream, uint32_t words[static SHA256_WORDS]);
void sha256_stream_advanced(struct sha256_stream *stream, const uint32_t words[static SHA256_WORDS], size_t bytes);
