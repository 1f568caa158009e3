/* What the services of this folder share. */
#include "gateway/cas/cas.h"

#include <stdio.h>

void cas_init(struct cas *cas)
{
	gate_init(&cas->packs, CAS_PACKS_MAX);
	gate_init(&cas->deltas, CAS_DELTAS_MAX);
	gate_init(&cas->closures, CAS_CLOSURES_MAX);
	gate_init(&cas->trees, CAS_TREES_MAX);
	promises_init(&cas->promises, cas->ring);
}

void cas_fini(struct cas *cas)
{
	for (size_t i = 0; i < CAS_PACKS_MAX; i++)
		buffer_fini(&cas->spares[i]);
	promises_fini(&cas->promises);
}

bool cas_idle(const struct cas *cas)
{
	return !cas->pushes_open && !cas->fetches_open && !cas->pins_open && !cas->ingests_open && !cas->playbacks_open &&
	       !cas->walks_open;
}

bool cas_admits(const struct cas *cas, char *why, size_t why_size)
{
	if (cas->pushes_open + cas->fetches_open + cas->pins_open < CAS_CALLS_MAX)
		return true;
	snprintf(why, why_size, "the gateway has too many calls in progress; try again");
	return false;
}
