/* The sieve of x86-64. */
#include "chunker/fastcdc_sieve.h"

/* The builtin also asks whether the operating system saves these registers. */
fastcdc_sieve *fastcdc_sieve_find(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi"))
		return fastcdc_sieve_vbmi;
	return NULL;
}
