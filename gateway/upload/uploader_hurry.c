/* What somebody waits for goes before all else that has not begun. */
#include "gateway/upload/uploader_private.h"

#define LOOK 4                           /* times as many as are wanted: when all are that far in front, it is well */

static bool are_in_front(const struct digest_vector *vector, size_t from, const struct digest_set *wanted)
{
	size_t found = 0, all = digest_set_count(wanted);

	for (size_t i = from; i < vector->count && i - from < LOOK * all && found < all; i++)
		found += digest_set_has(wanted, &vector->items[i]);
	return found == all;
}

/* In the order in which they were. */
static int bring_forward(struct digest_vector *vector, size_t from, const struct digest_set *wanted)
{
	struct digest_vector first = { 0 };
	size_t to = vector->count;
	int r = 0;

	if (are_in_front(vector, from, wanted))
		return 0;
	for (size_t i = from; r == 0 && i < vector->count; i++)
		if (digest_set_has(wanted, &vector->items[i]))
			r = digest_vector_add(&first, &vector->items[i]);
	for (size_t i = vector->count; r == 0 && first.count && i-- > from;)
		if (!digest_set_has(wanted, &vector->items[i]))
			vector->items[--to] = vector->items[i];
	if (r == 0 && first.count)
		memcpy(vector->items + from, first.items, first.count * sizeof(*first.items));
	digest_vector_fini(&first);
	return r;
}

void uploader_hurry(struct uploader *uploader, const struct digest *digests, size_t count)
{
	struct digest_set wanted = { 0 };
	bool held;
	int r = 0;

	if (uploader->state >= UPLOADER_ENDING)
		return;
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = digests[i].size ? digest_set_add(&wanted, &digests[i]) : 0;
	held = uploader_hold(uploader);
	if (r >= 0 && digest_set_count(&wanted))
		r = bring_forward(&uploader->missing, uploader->missing_next, &wanted);
	if (r >= 0 && digest_set_count(&wanted))
		r = bring_forward(&uploader->fed.digests, uploader->fed.asked, &wanted);
	digest_set_fini(&wanted);
	if (r < 0)
		uploader_fail_memory(uploader);
	uploader_release(uploader, held);
}
