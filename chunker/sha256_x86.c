/* Vector backends of x86-64. */
#include "chunker/sha256_backends.h"

#include <cpuid.h>

#define CPUID_FEATURES_LEAF 7
#define CPUID_EBX_SHA       (1u << 29)

size_t sha256_backends(struct sha256_lanes_backend out[static SHA256_BACKENDS])
{
	size_t count = 0;

	__builtin_cpu_init();
	/* The builtin also asks whether the operating system saves these registers. */
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		out[count++] = (struct sha256_lanes_backend){ SHA256_AVX512, sha256_advance_avx512, 16 };
	if (__builtin_cpu_supports("avx2"))
		out[count++] = (struct sha256_lanes_backend){ SHA256_AVX2, sha256_advance_avx2, 8 };
	return count;
}

bool sha256_cpu_has_sha(void)
{
	unsigned eax, ebx, ecx, edx;

	if (!__get_cpuid_count(CPUID_FEATURES_LEAF, 0, &eax, &ebx, &ecx, &edx))
		return false;
	return ebx & CPUID_EBX_SHA;
}
