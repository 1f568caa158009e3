/* A table of fixed size: buckets for finding, a list for age. */
#include "gateway/buildkitd/affinity.h"

#include <stddef.h>

void affinities_init(struct affinities *affinities)
{
	*affinities = (struct affinities){ 0 };
	list_init(&affinities->used);
}

/* Keys are hashes; folding spreads also those that are not. */
static struct affinity **bucket_of(const struct affinities *affinities, uint64_t key)
{
	return (struct affinity **)&affinities->buckets[(key ^ key >> 17 ^ key >> 41) % AFFINITIES_BUCKETS];
}

static struct affinity **place_of(const struct affinities *affinities, uint64_t key)
{
	struct affinity **at = bucket_of(affinities, key);

	while (*at && (*at)->key != key)
		at = &(*at)->next;
	return at;
}

const struct executor *affinities_get(const struct affinities *affinities, uint64_t key)
{
	const struct affinity *found = *place_of(affinities, key);

	return found ? found->executor : NULL;
}

/* One to write to: unused, or the oldest. */
static struct affinity *take_one(struct affinities *affinities)
{
	struct affinity *oldest;

	if (affinities->count < AFFINITIES_MAX)
		return &affinities->all[affinities->count++];
	oldest = container_of(list_take(&affinities->used), struct affinity, link);
	*place_of(affinities, oldest->key) = oldest->next;
	return oldest;
}

void affinities_set(struct affinities *affinities, uint64_t key, const struct executor *executor)
{
	struct affinity *affinity = *place_of(affinities, key), **bucket;

	if (!affinity) {
		affinity = take_one(affinities);
		bucket = bucket_of(affinities, key);
		*affinity = (struct affinity){ .key = key, .next = *bucket };
		*bucket = affinity;
	}
	affinity->executor = executor;
	list_remove(&affinity->link);
	list_append(&affinities->used, &affinity->link);
}

/* The entry stays, without an executor, until its age takes it. */
void affinities_forget(struct affinities *affinities, const struct executor *executor)
{
	list_for_each(link, &affinities->used) {
		struct affinity *affinity = container_of(link, struct affinity, link);

		if (affinity->executor == executor)
			affinity->executor = NULL;
	}
}
