/* What is hashed side by side. */
#include "gateway/reapi/verifier.h"

#include "gateway/base/check.h"

static void verifier_on_turn(struct post *post);

static void verifier_post(struct verifier *verifier)
{
	if (verifier->posted || (list_empty(&verifier->urgent) && verifier->bytes < verifier->lot_bytes))
		return;
	verifier->posted = true;
	verifier->turn.fn = verifier_on_turn;
	ring_post(verifier->ring, &verifier->turn);
}

static void enlist(struct verifier *verifier, struct verification *verification)
{
	list_remove(&verification->link);
	list_append(verification->is_urgent ? &verifier->urgent : &verifier->waiting, &verification->link);
	verifier_post(verifier);
}

/* Those that wait, the first ones, moved to `lot`: their jobs. */
static size_t take(struct verifier *verifier, struct list *lot, struct sha256_job jobs[static VERIFIER_JOBS_MAX])
{
	size_t count = 0, bytes = 0;
	struct list *link;

	while (count + VERIFIER_SHARE_MAX <= VERIFIER_JOBS_MAX && bytes < verifier->lot_bytes &&
	       ((link = list_take(&verifier->urgent)) || (link = list_take(&verifier->waiting)))) {
		struct verification *each = container_of(link, struct verification, link);

		each->first_job = count;
		count += each->jobs(each, jobs + count);
		CHECK(count <= each->first_job + VERIFIER_SHARE_MAX);
		bytes += each->bytes;
		verifier->bytes -= each->bytes;
		each->bytes = 0;
		each->is_urgent = false;
		each->in_turn = true;
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
	count = take(verifier, &lot, jobs);
	/* One behind the other the rest has its turns; before the events, as the last of them may end the owner. */
	verifier_post(verifier);
	sha256_batch(verifier->hasher, jobs, count);
	while ((link = list_take(&lot))) {
		struct verification *each = container_of(link, struct verification, link);

		each->in_turn = false;
		if (each->bytes || each->is_urgent)
			enlist(verifier, each);  /* more came with the event of another one */
		each->fn(each, jobs + each->first_job);
	}
}

void verifier_init(struct verifier *verifier, struct ring *ring, const struct sha256 *hasher)
{
	*verifier = (struct verifier){ .ring = ring, .hasher = hasher };
	verifier->lot_bytes = hasher->lanes > 2 ? VERIFIER_LOT_BYTES : VERIFIER_OWN_BYTES;
	list_init(&verifier->urgent);
	list_init(&verifier->waiting);
}

void verifier_add(struct verifier *verifier, struct verification *verification, size_t bytes, bool urgent)
{
	verification->bytes += bytes;
	verifier->bytes += bytes;
	verification->is_urgent |= urgent || verification->bytes >= VERIFIER_OWN_BYTES;
	if (!verification->in_turn)
		enlist(verifier, verification);
}

void verifier_drop(struct verifier *verifier, struct verification *verification)
{
	list_remove(&verification->link);
	verifier->bytes -= verification->bytes;
	verification->bytes = 0;
	verification->is_urgent = verification->in_turn = false;
}
