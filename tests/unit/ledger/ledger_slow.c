/* A timer in front of SQLite, and one behind it. */
#include "tests/unit/ledger/ledger_slow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"

#define DELAY_NS 300000

unsigned ledger_slow_refusals;

struct ledger_backend {
	struct ledger_backend *inner;
	struct ring *ring;
	struct ledger_task *task;
	void (*fn)(struct ledger_task *task);    /* the task's own, while ours stands there */
	struct op before, behind;
};

static struct ledger_backend *waiting_for_inner;         /* one at a time, as engine.h says */

static void slow_on_behind(struct op *op, int32_t res)
{
	struct ledger_backend *slow = container_of(op, struct ledger_backend, behind);
	struct ledger_task *task = slow->task;

	task->fn = slow->fn;
	slow->task = NULL;
	if (task->kind == LEDGER_TASK_CLOSE)
		free(slow);
	task->fn(task);
}

static void slow_on_inner(struct ledger_task *task)
{
	struct ledger_backend *slow = waiting_for_inner;

	CHECK(slow->task == task);
	waiting_for_inner = NULL;
	ring_timer(slow->ring, &slow->behind, DELAY_NS);
}

static void slow_on_before(struct op *op, int32_t res)
{
	struct ledger_backend *slow = container_of(op, struct ledger_backend, before);

	if (slow->task->kind == LEDGER_TASK_WRITE && ledger_slow_refusals) {
		ledger_slow_refusals--;
		slow->task->result = -ENOSPC;
		snprintf(slow->task->why, sizeof(slow->task->why), "it is a test");
		ring_timer(slow->ring, &slow->behind, DELAY_NS);
		return;
	}
	CHECK(!waiting_for_inner);
	waiting_for_inner = slow;
	slow->task->fn = slow_on_inner;
	ledger_sqlite.run(slow->inner, slow->task);
}

static void slow_run(struct ledger_backend *slow, struct ledger_task *task)
{
	CHECK(!slow->task);
	slow->task = task;
	slow->fn = task->fn;
	ring_timer(slow->ring, &slow->before, DELAY_NS);
}

static int slow_open(struct ledger_backend **out, const struct ledger_config *config, char *why, size_t why_size)
{
	struct ledger_backend *slow = calloc(1, sizeof(*slow));
	int r;

	CHECK(slow);
	slow->ring = config->ring;
	slow->before.fn = slow_on_before;
	slow->behind.fn = slow_on_behind;
	r = ledger_sqlite.open(&slow->inner, config, why, why_size);
	if (r)
		free(slow);
	else
		*out = slow;
	return r;
}

const struct ledger_engine ledger_slow = { .name = "slow", .open = slow_open, .run = slow_run };
