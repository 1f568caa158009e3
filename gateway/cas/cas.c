/* What the services of this folder share. */
#include "gateway/cas/cas.h"

#include <stdio.h>

#define LOT_LEAST_BYTES (384u << 10)     /* within a core's own cache; two SHA lanes take 130 us */
#define LOT_LANE_BYTES  (64u << 10)      /* for each lane of the hasher: a chunk of the usual size */

/* Lanes without a chunk would cost the hasher as much time as those with one, and more than what leaves the core's own cache. */
size_t cas_lot_bytes(const struct cas *cas, size_t beside)
{
	size_t bytes = cas->hasher->lanes * LOT_LANE_BYTES, least = LOT_LEAST_BYTES / beside;

	return bytes > least ? bytes : least;
}

void cas_init(struct cas *cas)
{
	gate_init(&cas->packs, CAS_PACKS_MAX);
	gate_init(&cas->deltas, CAS_DELTAS_MAX);
	gate_init(&cas->closures, CAS_CLOSURES_MAX);
	gate_init(&cas->trees, CAS_TREES_MAX);
	list_init(&cas->calls);
	list_init(&cas->watched);
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
	       !cas->walks_open && !op_in_flight(&cas->sweep);
}

bool cas_admits(const struct cas *cas, char *why, size_t why_size)
{
	if (cas->pushes_open + cas->fetches_open + cas->pins_open < CAS_CALLS_MAX)
		return true;
	snprintf(why, why_size, "the gateway has too many calls in progress; try again");
	return false;
}
