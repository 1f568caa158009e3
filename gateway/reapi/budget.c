/* Bytes in line. */
#include "gateway/reapi/budget.h"

#include "gateway/base/check.h"

void budget_init(struct budget *budget, uint64_t max)
{
	*budget = (struct budget){ .max = max };
	list_init(&budget->waiting);
}

/* One that leaves from inside its `fn` does not deepen the stack, however many wait. */
static void budget_open(struct budget *budget)
{
	if (budget->opening)
		return;
	budget->opening = true;
	while (!list_empty(&budget->waiting)) {
		struct budget_share *share = container_of(budget->waiting.next, struct budget_share, link);

		if (budget->max - budget->used < share->bytes)
			break;
		budget->used += share->bytes;
		list_remove(&share->link);
		share->fn(share);
	}
	budget->opening = false;
}

void budget_enter(struct budget *budget, struct budget_share *share, uint64_t bytes)
{
	CHECK(!share->bytes && !list_linked(&share->link));
	share->bytes = bytes < budget->max ? bytes : budget->max;
	if (!share->bytes)
		share->bytes = 1;
	list_append(&budget->waiting, &share->link);
	budget_open(budget);
}

bool budget_has(const struct budget *budget, uint64_t bytes)
{
	return list_empty(&budget->waiting) && budget->max - budget->used >= (bytes < budget->max ? bytes : budget->max);
}

bool budget_grow(struct budget *budget, struct budget_share *share, uint64_t bytes)
{
	CHECK(!list_linked(&share->link) && bytes >= share->bytes);
	if (budget->max - budget->used < bytes - share->bytes)
		return false;
	budget->used += bytes - share->bytes;
	share->bytes = bytes;
	return true;
}

void budget_leave(struct budget *budget, struct budget_share *share)
{
	uint64_t bytes = share->bytes;

	share->bytes = 0;
	if (list_linked(&share->link)) {
		list_remove(&share->link);
		budget_open(budget);             /* it may have been the first, and too large for what there is */
		return;
	}
	CHECK(budget->used >= bytes);
	budget->used -= bytes;
	if (bytes)
		budget_open(budget);
}
