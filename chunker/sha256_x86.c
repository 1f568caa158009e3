/* Backends of x86-64, and its clock. */
#include "chunker/sha256_backends.h"

#include <cpuid.h>
#include <x86intrin.h>

#define CPUID_FEATURES_LEAF 7
#define CPUID_EBX_SHA       (1u << 29)

size_t sha256_backends(struct sha256_lanes_backend out[static SHA256_BACKENDS])
{
	size_t count = 0;

	__builtin_cpu_init();
	if (sha256_cpu_has_sha() && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1"))
		out[count++] = (struct sha256_lanes_backend){ SHA256_SHANI, sha256_advance_shani, 2 };
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

/* Counts at a constant rate on every CPU that has AVX2 or the SHA instructions. */
uint64_t sha256_ticks(void)
{
	return __rdtsc();
}
