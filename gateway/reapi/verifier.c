/* Blobs that are hashed side by side. */
#include "gateway/reapi/verifier.h"

#include <string.h>

static void verifier_on_turn(struct post *post);

static void verifier_post(struct verifier *verifier)
{
	if (verifier->posted || list_empty(&verifier->waiting))
		return;
	verifier->posted = true;
	verifier->turn.fn = verifier_on_turn;
	ring_post(verifier->ring, &verifier->turn);
}

/* Some of those that wait, the first ones, moved to `lot`. */
static size_t verifier_take(struct verifier *verifier, struct list *lot, struct sha256_job jobs[static VERIFIER_JOBS_MAX])
{
	size_t count = 0, bytes = 0;

	while (count < VERIFIER_JOBS_MAX && bytes < VERIFIER_LOT_BYTES && !list_empty(&verifier->waiting)) {
		struct list *link = list_take(&verifier->waiting);
		const struct verification *each = container_of(link, struct verification, link);

		jobs[count++] = (struct sha256_job){ .data = each->bytes.data, .size = each->bytes.size };
		bytes += each->bytes.size;
		list_append(lot, link);
	}
	return count;
}

static void verifier_on_turn(struct post *post)
{
	struct verifier *verifier = container_of(post, struct verifier, turn);
	struct sha256_job jobs[VERIFIER_JOBS_MAX];
	struct list lot, *link;
	size_t count;

	list_init(&lot);
	verifier->posted = false;
	count = verifier_take(verifier, &lot, jobs);
	/* One behind the other the rest has its turns; before the events, as the last of them may end the owner. */
	verifier_post(verifier);
	sha256_batch(verifier->hasher, jobs, count);
	for (size_t i = 0; (link = list_take(&lot)); i++) {
		struct verification *each = container_of(link, struct verification, link);

		memcpy(each->hash, jobs[i].digest, sizeof(each->hash));
		each->fn(each);
	}
}

void verifier_init(struct verifier *verifier, struct ring *ring, const struct sha256 *hasher)
{
	*verifier = (struct verifier){ .ring = ring, .hasher = hasher };
	list_init(&verifier->waiting);
}

void verifier_add(struct verifier *verifier, struct verification *verification)
{
	list_append(&verifier->waiting, &verification->link);
	verifier_post(verifier);
}
