/*
 * sha256: digests of many independent pieces at once, and of one stream at a time.
 *
 * One SHA-256 is a serial chain, and without the CPU's SHA instructions by far the slowest thing that is done to a byte.
 * Chunks are independent, so a batch hashes several of them side by side: 2 by the SHA instructions, which one alone
 * leaves idle half of the time, or 8 or 16 in vector lanes. Each way is first tested against OpenSSL and never used when
 * it errs; which one is the fastest here is found out by trying, once a process.
 *
 * Nothing here allocates or fails after init. A `struct sha256` is plain memory without resources: no release. Threads
 * may share one for sha256_batch(), which only reads it; init and calibrate change it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/sha.h>

#define SHA256_BYTES 32

enum sha256_backend {
	SHA256_AUTO,    /* only to ask for: the fastest that works here */
	SHA256_OPENSSL, /* one after the other; everywhere; uses the CPU's SHA instructions where it has them */
	SHA256_SHANI,   /* 2 lanes, by the CPU's SHA instructions */
	SHA256_AVX2,    /* 8 lanes */
	SHA256_AVX512,  /* 16 lanes */
	SHA256_BACKENDS
};

enum sha256_state {
	SHA256_ABSENT, /* not in this build, or not in this CPU */
	SHA256_FAILED, /* there, but it gave a wrong digest in its self-test: never used */
	SHA256_USABLE, /* works, but another one is better here, or was asked for */
	SHA256_CHOSEN,
};

struct sha256_stream;

struct sha256_job {
	const uint8_t *data; /* borrowed; may be NULL when `size` is 0 */
	size_t size;
	uint8_t digest[SHA256_BYTES]; /* out */
	struct sha256_stream *stream; /* NULL; else the bytes are the next ones of this, and `digest` is left alone */
};

struct sha256_lanes;

struct sha256 {
	enum sha256_backend backend; /* the chosen one, never SHA256_AUTO */
	enum sha256_state states[SHA256_BACKENDS];
	void (*advance)(struct sha256_lanes *lanes, size_t blocks); /* of the chosen one; NULL: OpenSSL */
	size_t lanes;
	size_t busy_min; /* with fewer jobs left `few` is faster, or OpenSSL, one after the other */
	/* For fewer jobs than that: the 2 lanes of the SHA instructions, when wider ones are chosen; NULL: OpenSSL. */
	void (*few)(struct sha256_lanes *lanes, size_t blocks);
	size_t few_lanes;
	bool sha_instructions; /* the CPU has them, and so OpenSSL is fast */
	bool automatic;        /* SHA256_AUTO was asked for */
	bool calibrated;       /* `backend` and `busy_min` were measured */
};

/* A batch of this many bytes is worth a calibration, when there was none in this process yet. */
#define SHA256_CALIBRATE_BYTES (1u << 20)

/*
 * Tests each backend that this CPU can run (well under a millisecond) and chooses. With SHA256_AUTO it always succeeds:
 * what a calibration of this process found, else the SHA instructions when the CPU has them, else the widest lanes that
 * work, else OpenSSL. -ENOTSUP when another backend was wanted and is absent or failed; `hasher` then still says why, to
 * sha256_describe(), and uses OpenSSL.
 */
int sha256_init(struct sha256 *hasher, enum sha256_backend wanted);

/*
 * Of a hasher that was made with SHA256_AUTO: times the backends that work, and uses the fastest. Once a process, about
 * half a millisecond; from then on the result is only taken over, by every hasher. sha256_batch() does it by itself
 * before the first batch of SHA256_CALIBRATE_BYTES, so one who hashes little never pays for it; for those who would
 * rather pay at the start. Any thread.
 */
void sha256_calibrate(struct sha256 *hasher);

/*
 * Fills in the digest of each job. The jobs' sizes may differ freely: a lane that ends takes the next job. Order of
 * work is not the order of jobs; all are done on return. A stream may be of one job only: it is one more lane's work,
 * so that what has a digest as a whole and one of each of its pieces gets both in little more time than one.
 */
void sha256_batch(const struct sha256 *hasher, struct sha256_job *jobs, size_t count);

/* For people: "openssl", "sha-ni", "avx2", "avx512"; and what became of it here, one line, static text. */
const char *sha256_backend_name(enum sha256_backend backend);
const char *sha256_describe(const struct sha256 *hasher, enum sha256_backend backend);

/* One digest of bytes that are together. */
void sha256_once(const uint8_t *data, size_t size, uint8_t digest[static SHA256_BYTES]);

/* One digest of bytes that come in pieces: init, any number of updates, final; plain memory, again from init on. */
struct sha256_stream {
	SHA256_CTX context;
};

void sha256_stream_init(struct sha256_stream *stream);
void sha256_stream_update(struct sha256_stream *stream, const uint8_t *data, size_t size);
void sha256_stream_final(struct sha256_stream *stream, uint8_t digest[static SHA256_BYTES]);
