/*
 * sha256_lanes: the compression function of SHA-256 (FIPS 180-4, 6.2) over several independent messages at once, one a
 * vector lane. Knows nothing of lengths or padding: whole blocks only. Private to chunker/.
 *
 * sha256_lanes.c is compiled once for each vector instruction set, under a name of its own; sha256_shani.c is the same by
 * the SHA instructions, whose lanes are not of a vector: two messages in turn.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK_BYTES 64
#define SHA256_WORDS       8
#define SHA256_LANES_MAX   16

struct sha256_lanes {
	/* Chaining values, word by word: words[i][lane]. Lanes beyond the function's width are not touched. */
	uint32_t words[SHA256_WORDS][SHA256_LANES_MAX];
	/* What each lane reads next; every lane must point to readable blocks, idle ones too. Left alone. */
	const uint8_t *data[SHA256_LANES_MAX];
};

/* Takes `blocks` blocks into every lane. */
typedef void sha256_advance(struct sha256_lanes *lanes, size_t blocks);

/* Where the CPU has the instructions; see sha256_x86.c. */
sha256_advance sha256_advance_shani;  /* 2 lanes */
sha256_advance sha256_advance_avx2;   /* 8 lanes */
sha256_advance sha256_advance_avx512; /* 16 lanes */
/*
 * The same sources for any CPU (the last for any x86-64 of the last fifteen years): slow, and only there for tests to
 * compare on CPUs that lack the others' instructions.
 */
sha256_advance sha256_advance_portable8;
sha256_advance sha256_advance_portable16;
sha256_advance sha256_advance_portable_shani;
