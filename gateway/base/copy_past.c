/* Whole cache lines by the stores that x86-64 has for it; memcpy before, behind, and elsewhere. */
#include "gateway/base/copy_past.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

#define LINE_BYTES 64

/* `to` begins a line. */
static void copy_lines(uint8_t *to, const uint8_t *from, size_t lines)
{
	for (; lines; lines--, to += LINE_BYTES, from += LINE_BYTES) {
		const __m128i *in = (const __m128i *)(const void *)from;
		__m128i *out = (__m128i *)(void *)to;
		__m128i first = _mm_loadu_si128(in), second = _mm_loadu_si128(in + 1);
		__m128i third = _mm_loadu_si128(in + 2), fourth = _mm_loadu_si128(in + 3);

		_mm_stream_si128(out, first);
		_mm_stream_si128(out + 1, second);
		_mm_stream_si128(out + 2, third);
		_mm_stream_si128(out + 3, fourth);
	}
	_mm_sfence();                    /* these stores are in no order with later ones */
}

void copy_past(void *to, const void *from, size_t size)
{
	uint8_t *out = to;
	const uint8_t *in = from;
	size_t head, middle;

	if (size < COPY_PAST_LEAST_BYTES) {
		if (size)
			memcpy(out, in, size);
		return;
	}
	head = -(uintptr_t)out % LINE_BYTES;
	middle = (size - head) / LINE_BYTES * LINE_BYTES;
	memcpy(out, in, head);
	copy_lines(out + head, in + head, middle / LINE_BYTES);
	memcpy(out + head + middle, in + head + middle, size - head - middle);
}
#else
void copy_past(void *to, const void *from, size_t size)
{
	if (size)
		memcpy(to, from, size);
}
#endif
