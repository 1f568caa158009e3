/* A count and a line. */
#include "gateway/cas/gate.h"

#include "gateway/base/check.h"

void gate_init(struct gate *gate, unsigned max)
{
	CHECK(max > 0);
	*gate = (struct gate){ .max = max };
	list_init(&gate->waiting);
}

void gate_enter(struct gate *gate, struct gate_pass *pass)
{
	if (gate->busy == gate->max || !list_empty(&gate->waiting)) {
		list_append(&gate->waiting, &pass->link);
		return;
	}
	gate->busy++;
	pass->fn(pass);
}

void gate_leave(struct gate *gate)
{
	CHECK(gate->busy > 0);
	gate->busy--;
	if (gate->opening)
		return;                          /* the loop below, further up the stack, goes on */
	gate->opening = true;
	while (gate->busy < gate->max) {
		struct list *next = list_take(&gate->waiting);

		if (!next)
			break;
		gate->busy++;
		container_of(next, struct gate_pass, link)->fn(container_of(next, struct gate_pass, link));
	}
	gate->opening = false;
}

bool gate_cancel(struct gate_pass *pass)
{
	bool waited = list_linked(&pass->link);

	list_remove(&pass->link);
	return waited;
}
