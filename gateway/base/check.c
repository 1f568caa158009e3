/* check: says which fact did not hold, then aborts; a core dump has the rest. */
#include "gateway/base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *expr, const char *file, int line, const char *function)
{
	fprintf(stderr, "sluice: bug: %s does not hold at %s:%d in %s()\n", expr, file, line, function);
	abort();
}
