/*
 * XXH3-64 on x86-64, whose library takes 16 bytes a step by its usual name. Its XXH3_64bits_dispatch() is as fast as what is
 * here, but returns with the upper halves of the vectors in use: SSE that followed it ran at a quarter of its speed. AVX-512
 * is no faster than AVX2.
 */
#include "gateway/store/record_sum_avx2.h"

#include <xxhash.h>

uint64_t record_sum(struct span payload)
{
	if (__builtin_cpu_supports("avx2"))
		return record_sum_avx2(payload);
	return XXH3_64bits(payload.data, payload.size);
}
