/* Queue, batches, retries, order and retention: what is the same whatever the lines are kept in. */
#include "gateway/ledger/ledger.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/ledger/engine.h"

struct ledger {
	struct ring *ring;
	const struct ledger_engine *engine;
	struct ledger_backend *backend;
	uint64_t keep_ns;
	struct list waiting;             /* struct ledger_append, not yet given to the engine */
	struct list writing;             /* those of the task that is running */
	struct list lists;               /* struct ledger_list; the first one is running when the task is a list */
	size_t lists_count;
	const struct ledger_build *lines[LEDGER_BATCH_MAX];
	struct ledger_task task;
	bool busy;                       /* `task` is the engine's */
	struct op gather;                /* until it lands, what waits goes on gathering, or rests after a failure */
	struct op trim;                  /* until it lands, nothing is trimmed */
	uint64_t appended, settled;      /* lines accepted; lines written or given up */
	bool failing;                    /* the last write failed */
	bool dropping;                   /* a line was dropped since the last write that went well */
	void (*on_closed)(void *context);        /* not NULL: closing */
	void *context;
	struct ledger_status status;
};

static void ledger_step(struct ledger *ledger);

static void ledger_start_timer(struct ledger *ledger, struct op *op, uint64_t delay_ns)
{
	if (!op_in_flight(op) && !ledger->on_closed)
		ring_timer(ledger->ring, op, delay_ns);
}

static void ledger_on_gather(struct op *op, int32_t res)
{
	ledger_step(container_of(op, struct ledger, gather));
}

static void ledger_on_trim(struct op *op, int32_t res)
{
	ledger_step(container_of(op, struct ledger, trim));
}

static void ledger_run(struct ledger *ledger, enum ledger_task_kind kind, void (*fn)(struct ledger_task *task))
{
	CHECK(!ledger->busy);
	ledger->busy = true;
	ledger->task.kind = kind;
	ledger->task.fn = fn;
	ledger->task.result = 0;
	ledger->task.why[0] = '\0';
	ledger->engine->run(ledger->backend, &ledger->task);
}

/* A task has come back. A trouble that lasts is logged when it begins, not each time it is met. */
static void ledger_task_landed(struct ledger *ledger, bool said_before)
{
	ledger->busy = false;
	if (ledger->task.result == 0)
		return;
	CHECK(ledger->task.result < 0);
	ledger->status.errors++;
	if (!said_before)
		log_event(LOG_ERROR, "ledger failed", LOG_TEXT("error", err_report(ledger->task.result)),
		          LOG_TEXT("why", ledger->task.why));
}

/* ---- writing ---- */

static void ledger_settle(struct ledger *ledger, struct list *appends, int result)
{
	struct list *link;

	while ((link = list_take(appends))) {
		struct ledger_append *append = container_of(link, struct ledger_append, link);

		append->result = result;
		ledger->settled++;
		ledger->status.lines_waiting--;
		ledger->status.lines_written += result == LEDGER_OK;
		append->fn(append);
	}
}

static void ledger_give_up(struct ledger *ledger, int result)
{
	log_event(LOG_ERROR, "ledger lost lines", LOG_U64("lines", ledger->status.lines_waiting),
	          LOG_TEXT("error", err_report(result)));
	ledger_settle(ledger, &ledger->waiting, result);
}

static void ledger_on_failed_write(struct ledger *ledger, int result)
{
	struct list *link;

	/* Back to the front, in their order. */
	while ((link = ledger->writing.prev) != &ledger->writing) {
		list_remove(link);
		list_insert_before(ledger->waiting.next, link);
	}
	ledger->failing = true;
	if (ledger->on_closed)
		ledger_give_up(ledger, result);
	else
		ledger_start_timer(ledger, &ledger->gather, LEDGER_RETRY_NS);
}

static void ledger_on_written(struct ledger_task *task)
{
	struct ledger *ledger = container_of(task, struct ledger, task);

	ledger_task_landed(ledger, ledger->failing);
	if (task->result < 0) {
		ledger_on_failed_write(ledger, task->result);
	} else {
		if (ledger->failing || ledger->dropping)
			log_event(LOG_INFO, "ledger writes again", LOG_U64("dropped", ledger->status.lines_dropped));
		ledger->failing = ledger->dropping = false;
		ledger_settle(ledger, &ledger->writing, LEDGER_OK);
		if (!list_empty(&ledger->waiting))
			ledger_start_timer(ledger, &ledger->gather, LEDGER_GATHER_NS);
	}
	ledger_step(ledger);
}

static void ledger_write(struct ledger *ledger)
{
	struct list *link;

	ledger->task.count = 0;
	ledger->task.lines = ledger->lines;
	while (ledger->task.count < LEDGER_BATCH_MAX && (link = list_take(&ledger->waiting))) {
		list_append(&ledger->writing, link);
		ledger->lines[ledger->task.count++] = &container_of(link, struct ledger_append, link)->build;
	}
	ledger_run(ledger, LEDGER_TASK_WRITE, ledger_on_written);
}

void ledger_append(struct ledger *ledger, struct ledger_append *append)
{
	CHECK(!ledger->on_closed);
	CHECK(append->build.tenant[0]);
	CHECK(append->build.result < LEDGER_RESULTS);
	CHECK(append->build.fault < LEDGER_FAULTS);
	if (ledger->status.lines_waiting == LEDGER_WAITING_MAX) {
		if (!ledger->dropping)
			log_event(LOG_WARNING, "ledger full, lines are dropped", LOG_U64("waiting", LEDGER_WAITING_MAX));
		ledger->dropping = true;
		ledger->status.lines_dropped++;
		append->result = LEDGER_DROPPED;
		append->fn(append);
		return;
	}
	ledger->status.lines_waiting++;
	ledger->appended++;
	list_append(&ledger->waiting, &append->link);
	if (!ledger->busy)
		ledger_start_timer(ledger, &ledger->gather, LEDGER_GATHER_NS);
}

/* ---- listing ---- */

static void ledger_on_listed(struct ledger_task *task)
{
	struct ledger *ledger = container_of(task, struct ledger, task);
	struct ledger_list *list = container_of(list_take(&ledger->lists), struct ledger_list, link);

	ledger_task_landed(ledger, false);
	ledger->lists_count--;
	list->result = task->result;
	CHECK(list->count <= list->limit);
	list->fn(list);
	ledger_step(ledger);
}

void ledger_list(struct ledger *ledger, struct ledger_list *list)
{
	CHECK(!ledger->on_closed);
	CHECK(list->tenant[0]);
	CHECK(list->limit >= 1);
	CHECK(list->limit <= LEDGER_LIST_MAX);
	list->count = 0;
	if (ledger->lists_count == LEDGER_LISTS_MAX) {
		list->result = LEDGER_BUSY;
		list->fn(list);
		return;
	}
	list->after = ledger->appended;
	list_append(&ledger->lists, &list->link);
	ledger->lists_count++;
	ledger_step(ledger);
}

/* The first list must see lines that wait: they do not gather any longer. When the disk refuses them, it goes without. */
static bool ledger_list_wants_lines(const struct ledger *ledger)
{
	if (list_empty(&ledger->lists) || ledger->failing)
		return false;
	return container_of(ledger->lists.next, struct ledger_list, link)->after > ledger->settled;
}

static void ledger_answer(struct ledger *ledger)
{
	ledger->task.list = container_of(ledger->lists.next, struct ledger_list, link);
	ledger_run(ledger, LEDGER_TASK_LIST, ledger_on_listed);
}

/* ---- retention ---- */

static void ledger_on_trimmed(struct ledger_task *task)
{
	struct ledger *ledger = container_of(task, struct ledger, task);

	ledger_task_landed(ledger, false);
	if (task->result == 0)
		ledger->status.lines_deleted += task->deleted;
	if (task->result < 0 || task->deleted < LEDGER_TRIM_MAX)
		ledger_start_timer(ledger, &ledger->trim, LEDGER_TRIM_NS);
	ledger_step(ledger);
}

static void ledger_trim(struct ledger *ledger)
{
	uint64_t now = ring_wall_ns(ledger->ring);

	ledger->task.before_wall_ns = ledger->keep_ns && now > ledger->keep_ns ? now - ledger->keep_ns : 0;
	ledger->task.lines_max = LEDGER_LINES_MAX;
	ledger->task.deleted = 0;
	ledger_run(ledger, LEDGER_TASK_TRIM, ledger_on_trimmed);
}

/* ---- the end ---- */

static void ledger_on_closed(struct ledger_task *task)
{
	struct ledger *ledger = container_of(task, struct ledger, task);
	void (*fn)(void *context) = ledger->on_closed;
	void *context = ledger->context;

	ledger_task_landed(ledger, false);
	CHECK(ledger->status.lines_waiting == 0);
	CHECK(ledger->lists_count == 0);
	free(ledger);
	fn(context);
}

void ledger_close(struct ledger *ledger, void (*fn)(void *context), void *context)
{
	if (!ledger) {
		fn(context);
		return;
	}
	CHECK(!ledger->on_closed);
	ledger->on_closed = fn;
	ledger->context = context;
	ring_cancel(ledger->ring, &ledger->gather);
	ring_cancel(ledger->ring, &ledger->trim);
	ledger_step(ledger);
}

/* Decides what the engine does next; the only place that starts tasks. */
static void ledger_step(struct ledger *ledger)
{
	bool gathering = op_in_flight(&ledger->gather);

	if (ledger->busy)
		return;
	if (!list_empty(&ledger->waiting) && (!gathering || ledger->on_closed || ledger_list_wants_lines(ledger)))
		ledger_write(ledger);
	else if (!list_empty(&ledger->lists))
		ledger_answer(ledger);
	else if (!ledger->on_closed && !op_in_flight(&ledger->trim))
		ledger_trim(ledger);
	else if (ledger->on_closed && !gathering && !op_in_flight(&ledger->trim))
		ledger_run(ledger, LEDGER_TASK_CLOSE, ledger_on_closed);
}

int ledger_open(struct ledger **out, const struct ledger_config *config, char *why, size_t why_size)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));
	int r;

	if (!ledger) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	ledger->ring = config->ring;
	ledger->engine = config->engine ? config->engine : &ledger_sqlite;
	ledger->keep_ns = config->keep_ns;
	list_init(&ledger->waiting);
	list_init(&ledger->writing);
	list_init(&ledger->lists);
	ledger->gather.fn = ledger_on_gather;
	ledger->trim.fn = ledger_on_trim;
	r = ledger->engine->open(&ledger->backend, config, why, why_size);
	if (r < 0) {
		free(ledger);
		return r;
	}
	ledger_step(ledger);                     /* what has become too old while nobody ran */
	*out = ledger;
	return 0;
}

void ledger_status(const struct ledger *ledger, struct ledger_status *status)
{
	*status = ledger->status;
}
