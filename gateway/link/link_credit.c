/* Windows of channels. */
#include "gateway/link/link_credit.h"

#include "gateway/base/check.h"
#include "proto/sluice_v1.h"

#define MAY_SEND_MAX (1ull << 40)

void link_credit_init(struct link_credit *credit, uint64_t *granted)
{
	*credit = (struct link_credit){
		.may_send = LINK_CREDIT_FIRST, .may_arrive = LINK_CREDIT_FIRST, .window = LINK_CREDIT_FIRST,
	};
	*granted += credit->window;
}

void link_credit_fini(struct link_credit *credit, uint64_t *granted)
{
	CHECK(*granted >= credit->window);
	*granted -= credit->window;
	*credit = (struct link_credit){ 0 };
}

bool link_credit_add(struct link_credit *credit, uint64_t bytes)
{
	if (bytes > MAY_SEND_MAX || credit->may_send > MAY_SEND_MAX)
		return false;
	credit->may_send += bytes;
	return true;
}

bool link_credit_arrived(struct link_credit *credit, size_t bytes)
{
	if (bytes > credit->may_arrive)
		return false;
	credit->may_arrive -= bytes;
	return true;
}

/* A reader that takes what it is given gets more of it at a time. */
static uint64_t widen(struct link_credit *credit, uint64_t *granted)
{
	uint64_t more = credit->window;

	if (credit->window + more > LINK_CREDIT_MAX || *granted + more > LINK_CREDIT_LINK_MAX)
		return 0;
	credit->window += more;
	*granted += more;
	return more;
}

uint64_t link_credit_consumed(struct link_credit *credit, size_t bytes, uint64_t *granted)
{
	uint64_t grant;

	credit->consumed += bytes;
	if (credit->consumed < credit->window / 2)
		return 0;
	grant = credit->consumed + widen(credit, granted);
	credit->consumed = 0;
	credit->may_arrive += grant;
	return grant;
}
