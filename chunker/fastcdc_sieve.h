/*
 * fastcdc_sieve: where a chunk may end, sixteen stretches of a file at a time. Private to chunker/.
 *
 * The hash that decides is a chain through every byte, so one stretch goes no faster than its latency. But no byte counts for
 * more than 64 steps, and for the low 32 bits no more than 32. So each of 16 lanes can begin anywhere, 32 bytes early, and
 * take the low half of the hash through its own stretch. Where that half does not meet its part of the mask no chunk ends;
 * of the others, one byte in 64 to 4096, the whole hash is made and tested. The cuts are those of the plain loop.
 *
 * A sieve is pure: the same in every thread, nothing is kept.
 */
#pragma once

#include "chunker/fastcdc.h"

#define FASTCDC_LANES       16
#define FASTCDC_STRETCH_MAX 256 /* bytes of a lane: a longer one is shared by fewer chunks' ends, and what is behind a cut is lost */
#define FASTCDC_STRETCH     16  /* and a multiple of that many */
/* Bytes before the first that is tested; they have to be of the chunk, and belong to the hash. */
#define FASTCDC_SIEVE_BEFORE 64

/* For byte `i` of lane `l`'s stretch, which is byte `l * stretch + i` of the data. */
struct fastcdc_sifted {
	_Alignas(64) uint32_t low[FASTCDC_STRETCH_MAX][FASTCDC_LANES]; /* half of the hash */
	_Alignas(64) uint16_t hits[FASTCDC_STRETCH_MAX];               /* bit l: (low & mask) == 0 */
};

/*
 * Fills `out` for `stretch` bytes a lane. `data` are 16 stretches and the 32 bytes before. `planes` are those of a struct
 * fastcdc. Bytes behind the data may be asked to come nearer, but are not read.
 */
typedef void fastcdc_sieve(const uint8_t planes[static FASTCDC_PLANES][256], uint32_t mask, const uint8_t *data,
			   size_t stretch, struct fastcdc_sifted *out);

/* AVX-512 with VBMI, whose byte look-ups reach over 128 entries: Ice Lake, Zen 4 and later. */
fastcdc_sieve fastcdc_sieve_vbmi;

/* What this CPU and its operating system can run; NULL: nothing. fastcdc_sieve_x86.c or _plain.c, picked by meson. */
fastcdc_sieve *fastcdc_sieve_find(void);

/*
 * Looks for the first byte of `data` at which (hash & mask) is 0. FASTCDC_SIEVE_BEFORE bytes before `data` belong to the
 * hash. True: `*at` is its index. False: there is none before `*at`; less than FASTCDC_LANES * FASTCDC_STRETCH bytes are
 * left from there on.
 */
bool fastcdc_sieve_scan(const struct fastcdc *fastcdc, uint64_t mask, const uint8_t *data, size_t size, size_t *at);
