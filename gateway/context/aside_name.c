/* Names by chance. */
#include "gateway/context/aside_name.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define DIGITS 16

/* Not by our number alone: two containers that share a directory may both be process 1. */
void aside_name_make(char name[static ASIDE_NAME_BYTES], const char *prefix)
{
	uint64_t random = 0;

	(void)!getrandom(&random, sizeof(random), 0);    /* a name that is taken is refused where it is made */
	snprintf(name, ASIDE_NAME_BYTES, "%s%0*llx", prefix, DIGITS, (unsigned long long)random);
}

bool aside_name_is(const char *name, const char *prefix)
{
	size_t prefix_size = strlen(prefix);

	return strncmp(name, prefix, prefix_size) == 0 && strlen(name) == prefix_size + DIGITS &&
	       strspn(name + prefix_size, "0123456789abcdef") == DIGITS;
}
