/*
 * inputs: reproducible files to cut. Made once a process and shared; a shorter input is the beginning of a longer one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define INPUT_BYTES_MAX 10000000

enum input_kind {
	INPUT_COUNTER, /* SHA-256("sluice" || little-endian u64 i) for i = 0, 1, ..: no structure */
	INPUT_HEX,     /* the lower-case hex digits of INPUT_COUNTER, a newline after each 63: text, 4 bits a byte */
	INPUT_ZERO,    /* one byte value: never a hit, or always one */
	INPUT_PERIOD,  /* 1000 bytes of INPUT_COUNTER over and over */
	INPUT_KINDS
};

/* At least INPUT_BYTES_MAX bytes, borrowed for ever. */
const uint8_t *input_bytes(enum input_kind kind);

/* xorshift64*: `state` is the seed, never 0. */
static inline uint64_t input_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}
