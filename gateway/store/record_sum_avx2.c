/* XXH3-64 by vectors of AVX2: this file alone may use them. The compiler clears their upper halves before it returns. */
#include "gateway/store/record_sum_avx2.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t record_sum_avx2(struct span payload)
{
	return XXH3_64bits(payload.data, payload.size);
}
