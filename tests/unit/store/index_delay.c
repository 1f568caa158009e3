/* Delays in front of, or behind, LMDB. */
#include "tests/unit/store/index_delay.h"

#include <stdlib.h>
#include "gateway/base/check.h"

#define DELAY_NS 300000

/* One delayed operation: a get, a scan or an apply. */
struct delayed {
	struct index *index;
	struct op timer;
	struct index_get *get;
	struct index_scan *scan;
	struct index_apply *apply;
	void (*get_fn)(struct index_get *get);
	void (*scan_fn)(struct index_scan *scan);
};

struct index {
	struct index *inner;
	struct ring *ring;
	bool stale;
	struct list applies;             /* keep their order whatever the timers do */
	unsigned in_flight;
};

static void noop_get(struct index_get *get)
{
}

static void noop_scan(struct index_scan *scan)
{
}

static void on_timer(struct op *op, int32_t res)
{
	struct delayed *delayed = container_of(op, struct delayed, timer), now = *delayed;
	struct index *index = delayed->index;

	free(delayed);
	index->in_flight--;
	if (now.apply)
		index_lmdb.apply(index->inner, container_of(list_take(&index->applies), struct index_apply, link));
	else if (now.get && !index->stale)
		index_lmdb.get(index->inner, now.get);
	else if (now.scan && !index->stale)
		index_lmdb.scan(index->inner, now.scan);
	else if (now.get)
		(now.get->fn = now.get_fn)(now.get);
	else
		(now.scan->fn = now.scan_fn)(now.scan);
}

static struct delayed *delay(struct index *index)
{
	struct delayed *delayed = calloc(1, sizeof(*delayed));

	CHECK(delayed);
	delayed->index = index;
	delayed->timer.fn = on_timer;
	index->in_flight++;
	ring_timer(index->ring, &delayed->timer, DELAY_NS);
	return delayed;
}

static void delay_get(struct index *index, struct index_get *get)
{
	struct delayed *delayed = delay(index);

	delayed->get = get;
	delayed->get_fn = get->fn;
	if (!index->stale)
		return;
	get->fn = noop_get;
	index_lmdb.get(index->inner, get);
}

static void delay_scan(struct index *index, struct index_scan *scan)
{
	struct delayed *delayed = delay(index);

	delayed->scan = scan;
	delayed->scan_fn = scan->fn;
	if (!index->stale)
		return;
	scan->fn = noop_scan;
	index_lmdb.scan(index->inner, scan);
}

static void delay_apply(struct index *index, struct index_apply *apply)
{
	list_append(&index->applies, &apply->link);
	delay(index)->apply = apply;
}

static int delay_open(struct index **out, const struct index_config *config, bool stale)
{
	struct index *index = calloc(1, sizeof(*index));
	int r;

	CHECK(index);
	index->ring = config->ring;
	index->stale = stale;
	list_init(&index->applies);
	r = index_lmdb.open(&index->inner, config);
	if (r)
		free(index);
	else
		*out = index;
	return r;
}

static int late_open(struct index **out, const struct index_config *config)
{
	return delay_open(out, config, false);
}

static int stale_open(struct index **out, const struct index_config *config)
{
	return delay_open(out, config, true);
}

static void delay_close(struct index *index)
{
	CHECK(index->in_flight == 0);
	index_lmdb.close(index->inner);
	free(index);
}

static int delay_scan_now(struct index *index, struct index_scan *scan)
{
	return index_lmdb.scan_now(index->inner, scan);
}

static int delay_apply_now(struct index *index, struct index_apply *apply)
{
	return index_lmdb.apply_now(index->inner, apply);
}

static void delay_usage(struct index *index, struct index_usage *usage)
{
	index_lmdb.usage(index->inner, usage);
}

#define DELAYING(engine_name, open_fn)                                                                                 \
	{                                                                                                              \
		.name = engine_name, .open = open_fn, .close = delay_close, .get = delay_get, .scan = delay_scan,      \
		.apply = delay_apply, .scan_now = delay_scan_now, .apply_now = delay_apply_now, .usage = delay_usage,  \
	}

const struct index_engine index_late = DELAYING("late", late_open);
const struct index_engine index_stale = DELAYING("stale", stale_open);
