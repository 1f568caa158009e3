/* No backends of ours: every architecture but x86-64. */
#include "chunker/sha256_backends.h"

size_t sha256_backends(struct sha256_lanes_backend out[static SHA256_BACKENDS])
{
	return 0;
}

bool sha256_cpu_has_sha(void)
{
	return false;
}

/* Never asked where there is nothing to choose from. */
uint64_t sha256_ticks(void)
{
	return 0;
}
