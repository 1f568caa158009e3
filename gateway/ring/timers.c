/*
 * timers: pairing heap after Fredman, Sedgewick, Sleator and Tarjan (1986). `previous` is the left sibling, or the
 * parent of a first child; it is NULL at the root.
 */
#include "gateway/ring/timers.h"

#include "gateway/base/check.h"
#include "gateway/ring/ring.h"

static bool before(const struct op *a, const struct op *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->offset < b->offset;
}

/* Both are roots without siblings; so is the result. */
static struct op *meld(struct op *a, struct op *b)
{
	struct op *top, *below;

	if (!a || !b)
		return a ? a : b;
	top = before(a, b) ? a : b;
	below = top == a ? b : a;
	below->u.heap.previous = top;
	below->u.heap.next = top->u.heap.child;
	if (below->u.heap.next)
		below->u.heap.next->u.heap.previous = below;
	top->u.heap.child = below;
	return top;
}

static struct op *detach(struct op *op)
{
	struct op *next = op->u.heap.next;

	op->u.heap.next = op->u.heap.previous = NULL;
	return next;
}

/* Melds siblings in pairs from the left, then the pairs from the right. */
static struct op *meld_siblings(struct op *sibling)
{
	struct op *pairs = NULL, *root = NULL;

	while (sibling) {
		struct op *a = sibling, *b = detach(a), *pair;

		sibling = b ? detach(b) : NULL;
		pair = meld(a, b);
		pair->u.heap.next = pairs;
		pairs = pair;
	}
	while (pairs) {
		struct op *pair = pairs;

		pairs = detach(pair);
		root = meld(root, pair);
	}
	return root;
}

void timers_insert(struct timers *timers, struct op *op)
{
	op->offset = timers->started++;
	op->u.heap.child = op->u.heap.next = op->u.heap.previous = NULL;
	timers->first = meld(timers->first, op);
}

void timers_remove(struct timers *timers, struct op *op)
{
	struct op *children;

	if (op != timers->first) {
		struct op *previous = op->u.heap.previous;

		CHECK(previous);
		if (previous->u.heap.child == op)
			previous->u.heap.child = op->u.heap.next;
		else
			previous->u.heap.next = op->u.heap.next;
		if (op->u.heap.next)
			op->u.heap.next->u.heap.previous = previous;
		detach(op);
	} else {
		timers->first = NULL;
	}
	children = op->u.heap.child;
	op->u.heap.child = NULL;
	timers->first = meld(timers->first, meld_siblings(children));
}

struct op *timers_take(struct timers *timers, uint64_t now_ns)
{
	struct op *op = timers->first;

	if (!op || op->deadline_ns > now_ns)
		return NULL;
	timers_remove(timers, op);
	return op;
}

uint64_t timers_next_ns(const struct timers *timers)
{
	return timers->first ? timers->first->deadline_ns : UINT64_MAX;
}
