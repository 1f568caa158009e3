/* Whether an executor is still there. */
#include "gateway/buildkit/doubt.h"

void doubt_raise(struct doubt *doubt, uint64_t now_ns)
{
	if (doubt->state == DOUBT_GIVEN_UP)
		return;
	doubt->state = DOUBT_HELD;
	doubt->deadline_ns = now_ns + DOUBT_GRACE_NS;
}

bool doubt_judge(struct doubt *doubt, uint64_t now_ns, bool reachable)
{
	if (doubt->state != DOUBT_HELD || now_ns < doubt->deadline_ns)
		return false;
	doubt->state = reachable ? DOUBT_NONE : DOUBT_GIVEN_UP;
	doubt->deadline_ns = 0;
	return !reachable;
}

void doubt_drop(struct doubt *doubt)
{
	*doubt = (struct doubt){ .state = DOUBT_NONE };
}
