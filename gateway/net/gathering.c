/* Bytes of unfinished messages, and who has to go for them. */
#include "gateway/net/gathering.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"

#define CONN_PART 4                      /* that a connection may have of all */

/* A call that keeps something that counts. */
struct gathering_call {
	struct call *call;
	struct gathering_conn *conn;
	uint64_t bytes;
	struct list link;
};

static void count(struct gathering_call *each, uint64_t bytes)
{
	each->conn->bytes += bytes - each->bytes;
	each->conn->all->bytes += bytes - each->bytes;
	each->bytes = bytes;
}

static void forget(struct gathering_call *each)
{
	if (!each)
		return;
	count(each, 0);
	list_remove(&each->link);
	each->call->metered = NULL;
	free(each);
}

static struct gathering_call *note(struct gathering_conn *conn, struct call *call)
{
	struct gathering_call *each = call->metered;

	if (!each) {
		each = calloc(1, sizeof(*each));
		if (!each)
			return NULL;
		*each = (struct gathering_call){ .call = call, .conn = conn };
		call->metered = each;
	}
	list_remove(&each->link);
	list_append(&conn->all->calls, &each->link);
	return each;
}

static bool conn_fits(const struct gathering_conn *conn)
{
	return conn->bytes <= conn->all->bytes_max / CONN_PART;
}

static bool fits(const struct gathering_conn *conn)
{
	return conn_fits(conn) && conn->all->bytes <= conn->all->bytes_max;
}

static void note_refused(struct gathering *all, const struct gathering_call *each)
{
	all->refused++;
	log_event(LOG_INFO, "message refused", LOG_U64("bytes", each->bytes), LOG_U64("connection_bytes", each->conn->bytes),
	          LOG_U64("all_bytes", all->bytes));
}

/* True when the call that asks, the last of all, may stay. */
static bool make_room(struct gathering_conn *conn, const struct call *asking)
{
	struct gathering *all = conn->all;

	list_for_each_safe(link, after, &all->calls) {
		struct call *call = container_of(link, struct gathering_call, link)->call;

		if (fits(conn))
			return true;
		if (call != asking)
			call_trim(call);
	}
	list_for_each_safe(link, after, &all->calls) {
		struct gathering_call *each = container_of(link, struct gathering_call, link);

		if (fits(conn) || !conn_fits(conn) || each->call == asking)
			break;
		note_refused(all, each);
		call_finish(each->call, GRPC_RESOURCE_EXHAUSTED,
		            "too many long messages are on their way at a time, and this one stood still; try again");
	}
	return fits(conn);
}

static bool on_kept(struct call_meter *meter, struct call *call, size_t bytes)
{
	struct gathering_conn *conn = container_of(meter, struct gathering_conn, meter);
	struct gathering_call *each = call->metered;

	if (!bytes) {
		forget(each);
		return true;
	}
	each = note(conn, call);
	if (!each)
		return false;
	count(each, bytes);
	if (fits(conn) || make_room(conn, call))
		return true;
	note_refused(conn->all, each);
	return false;
}

void gathering_init(struct gathering *gathering, uint64_t bytes_max)
{
	*gathering = (struct gathering){ .bytes_max = bytes_max };
	list_init(&gathering->calls);
}

void gathering_conn_init(struct gathering_conn *conn, struct gathering *gathering)
{
	*conn = (struct gathering_conn){ .meter.kept = on_kept, .all = gathering };
}

void gathering_watch(struct gathering_conn *conn, struct call *call)
{
	CHECK(!call->meter && !call->bytes_received);
	call->meter = &conn->meter;
}
