/*
 * The health connection of an executor: one health call at a time on it, and after each connect the question what the
 * daemon can do, since it may be another one now.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/buildkitd/executors_private.h"
#include "proto/pb.h"

#define HEALTH_CHECK         "/grpc.health.v1.Health/Check"
#define HEALTH_SERVING       1u
#define HEALTH_MESSAGE_MAX   4096
#define HEALTH_STREAMS_MAX   16
#define HEALTH_WINDOW_BYTES  (2u * ASK_ANSWER_BYTES_MAX)
#define NEVER_NS             (UINT64_MAX / 4)

static const struct call_events check_events;
static const struct conn_events health_conn_events;
static const struct h2_events health_h2_events = { 0 };

static void health_enter(struct executor_health *health, enum health_state state)
{
	CHECK(health->state != HEALTH_ENDED);
	health->state = state;
}

static struct executor *of_health(struct executor_health *health)
{
	return container_of(health, struct executor, health);
}

static uint64_t health_interval(const struct executor *executor)
{
	return executor->executors->config.health_interval_ns;
}

static uint64_t health_patience(const struct executor *executor)
{
	return executor->executors->config.answer_timeout_ns;
}

/* The timer's handler looks at wake_ns and arms it again when it came too early. */
static void health_wake_in(struct executor *executor, uint64_t delay_ns)
{
	struct executor_health *health = &executor->health;
	struct ring *ring = executor->executors->ring;

	health->wake_ns = ring_now_ns(ring) + delay_ns;
	if (op_in_flight(&health->timer))
		ring_cancel(ring, &health->timer);
	else
		ring_timer(ring, &health->timer, delay_ns);
}

static void health_join(struct executor *executor)
{
	struct executor_health *health = &executor->health;

	if (health->conn || op_in_flight(&health->timer) || op_in_flight(&health->resolve))
		return;
	if (health->state != HEALTH_ENDED)
		health_enter(health, HEALTH_ENDED);
	if (executor->state == EXECUTOR_DRAINING && !executor->leases_count)
		executors_sweep_later(executor->executors);
}

static void health_rest(struct executor *executor)
{
	health_enter(&executor->health, HEALTH_RESTING);
	health_wake_in(executor, health_interval(executor));
}

/* Each wait is twice the one before, up to the interval between two checks. */
static void health_retreat(struct executor *executor)
{
	struct executor_health *health = &executor->health;
	uint64_t first = health_interval(executor) / EXECUTOR_RETRY_SHARE, wait = health->retry_ns;

	health->retry_ns = wait < first ? first : wait * 2;
	if (health->retry_ns > health_interval(executor))
		health->retry_ns = health_interval(executor);
	health_enter(health, HEALTH_AWAY);
	health_wake_in(executor, wait);
}

static void health_close(struct executor *executor, const char *why)
{
	health_enter(&executor->health, HEALTH_CLOSING);
	conn_close(executor->health.conn, why);
}

/* ---- the health call ---- */

static void health_check(struct executor *executor)
{
	struct executor_health *health = &executor->health;

	health->serving = false;
	if (call_start(&health->check, conn_h2(health->conn), HEALTH_CHECK, span_text("localhost"),
	               health_patience(executor), NULL, 0, HEALTH_MESSAGE_MAX, &check_events, executor) < 0) {
		health_close(executor, "it takes no more calls on this connection");
		return;
	}
	call_send(&health->check, (struct span){ 0 }, 0);
	call_end(&health->check);
	health_enter(health, HEALTH_CHECKING);
	health_wake_in(executor, health_patience(executor));
}

static void check_on_message(struct call *call, struct span message)
{
	struct executor *executor = call->owner;
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;
	uint32_t status = 0;

	while (pb_next(&reader, &field))
		if (field.number == 1)
			pb_as_uint32(&reader, &field, &status);
	executor->health.serving = !reader.failed && status == HEALTH_SERVING;
}

static void check_on_end(struct call *call)
{
	(void)call;
}

static void check_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct executor *executor = call->owner;
	struct executor_health *health = &executor->health;
	char why[EXECUTOR_WHY_MAX] = "its health check says that it is not serving";

	if (status == GRPC_UNIMPLEMENTED) {
		/* Daemons of years ago do not serve it: that they answer has to do. */
		status = GRPC_OK;
		health->serving = true;
	}
	if (status != GRPC_OK)
		snprintf(why, sizeof(why), "its health check failed: %s: %.*s", grpc_status_name(status), (int)message.size,
		         message.size ? (const char *)message.data : "");
	call_fini(&health->check);
	if (health->state != HEALTH_CHECKING || conn_end(health->conn) != CONN_END_NONE)
		return;                                  /* the connection's own end says more */
	if (status != GRPC_OK || !health->serving) {
		health_rest(executor);
		executor_lost(executor, why);
	} else if (health->asked) {
		health_rest(executor);
		executor_answered(executor, false);
	} else {
		health_enter(health, HEALTH_ASKING);
		health_wake_in(executor, health_patience(executor));
		ask_start(&health->ask, executor->executors->ring, conn_h2(health->conn), health_patience(executor));
	}
}

static const struct call_events check_events = {
	.on_message = check_on_message, .on_end = check_on_end, .on_closed = check_on_closed,
};

static void health_on_asked(struct ask *ask, const char *why)
{
	struct executor_health *health = container_of(ask, struct executor_health, ask);
	struct executor *executor = of_health(health);

	if (health->state != HEALTH_ASKING || conn_end(health->conn) != CONN_END_NONE)
		return;
	health_rest(executor);
	if (why) {
		executor_lost(executor, why);
		return;
	}
	health->asked = true;
	health->retry_ns = health_interval(executor) / EXECUTOR_RETRY_SHARE;
	executor_answered(executor, true);
}

/* ---- the connection ---- */

static void health_open(struct executor *executor)
{
	struct executor_health *health = &executor->health;
	struct conn_config config = {
		.h2 = {
			.events = &health_h2_events, .owner = executor, .streams_max = HEALTH_STREAMS_MAX,
			.stream_window_bytes = HEALTH_WINDOW_BYTES, .connection_window_bytes = HEALTH_WINDOW_BYTES,
		},
		.events = &health_conn_events, .owner = executor, .server_name = executor->server_name,
		.handshake_timeout_ns = health_patience(executor), .idle_timeout_ns = NEVER_NS,
	};

	health->asked = false;
	if (conn_connect(&health->conn, executor->executors->ring, &health->place, executor->tls, &config, health->why,
	                 sizeof(health->why)) < 0) {
		health->conn = NULL;
		health_retreat(executor);
		executor_lost(executor, health->why);
		return;
	}
	health_check(executor);
}

static void health_on_ready(struct conn *conn)
{
	(void)conn;
}

static void health_on_closed(struct conn *conn, const char *reason)
{
	struct executor *executor = conn_owner(conn);

	executor->health.conn = NULL;
	if (executor->health.ending) {
		health_join(executor);
		return;
	}
	health_retreat(executor);
	executor_lost(executor, reason);
}

static const struct conn_events health_conn_events = { .on_ready = health_on_ready, .on_closed = health_on_closed };

/* ---- where it is ---- */

static bool is_literal(const struct address *address)
{
	uint8_t storage[sizeof(struct in6_addr)];

	return address->local || inet_pton(AF_INET, address->host, storage) == 1 ||
	       inet_pton(AF_INET6, address->host, storage) == 1;
}

/* On a worker: nothing of the executor changes until it lands. */
static int32_t health_resolve(struct op *op)
{
	struct executor_health *health = container_of(op, struct executor_health, resolve);

	health->resolved_count = address_resolve_all(&of_health(health)->address, false, health->resolved, health->why,
	                                             sizeof(health->why));
	return health->resolved_count;
}

/* One of the addresses after the other, a connection each. */
static void health_take_place(struct executor *executor)
{
	struct executor_health *health = &executor->health;
	const struct sockaddr_storage *found = &health->resolved[health->tries++ % (unsigned)health->resolved_count].sockaddr;

	health->place = executor->address;
	if (found->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)found)->sin_addr, health->place.host,
		          sizeof(health->place.host));
	else
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)found)->sin6_addr, health->place.host,
		          sizeof(health->place.host));
	health->found = true;
}

static void health_on_resolved(struct op *op, int32_t res)
{
	struct executor *executor = of_health(container_of(op, struct executor_health, resolve));

	if (executor->health.ending) {
		health_join(executor);
		return;
	}
	if (res < 1) {
		health_retreat(executor);
		executor_lost(executor, executor->health.why);
		return;
	}
	health_take_place(executor);
	health_open(executor);
}

static void health_connect(struct executor *executor)
{
	struct executor_health *health = &executor->health;

	if (is_literal(&executor->address)) {
		health->place = executor->address;
		health->found = true;
		health_open(executor);
		return;
	}
	health_enter(health, HEALTH_RESOLVING);
	ring_work_slow(executor->executors->ring, &health->resolve, health_resolve);
}

/* ---- time ---- */

static void health_on_timer(struct op *op, int32_t res)
{
	struct executor_health *health = container_of(op, struct executor_health, timer);
	struct executor *executor = of_health(health);
	struct ring *ring = executor->executors->ring;
	uint64_t now = ring_now_ns(ring);

	(void)res;                               /* -ECANCELED: health_wake_in() */
	if (health->ending) {
		health_join(executor);
		return;
	}
	if (now < health->wake_ns) {
		ring_timer(ring, op, health->wake_ns - now);
		return;
	}
	switch (health->state) {
	case HEALTH_AWAY:
		health_connect(executor);
		break;
	case HEALTH_RESTING:
		health_check(executor);
		break;
	case HEALTH_CHECKING:
	case HEALTH_ASKING:
		health_close(executor, "it did not answer in time");
		break;
	case HEALTH_RESOLVING:
	case HEALTH_CLOSING:
	case HEALTH_ENDED:
		break;
	}
}

void health_start(struct executor *executor)
{
	struct executor_health *health = &executor->health;

	health->timer.fn = health_on_timer;
	health->resolve.fn = health_on_resolved;
	health->ask.on_done = health_on_asked;
	health->state = HEALTH_AWAY;
	health->retry_ns = health_interval(executor) / EXECUTOR_RETRY_SHARE;
	health_connect(executor);
}

void health_restart(struct executor *executor, const char *why)
{
	struct executor_health *health = &executor->health;

	if (health->ending)
		return;
	if (health->state == HEALTH_CHECKING || health->state == HEALTH_ASKING || health->state == HEALTH_RESTING) {
		health->retry_ns = 0;
		health_close(executor, why);
	}
}

void health_end(struct executor *executor)
{
	struct executor_health *health = &executor->health;
	struct ring *ring = executor->executors->ring;

	if (health->ending)
		return;
	health->ending = true;
	if (health->conn)
		conn_close(health->conn, "its executor is not needed any more");
	ring_cancel(ring, &health->timer);
	ring_cancel(ring, &health->resolve);
	health_join(executor);
}

bool health_ended(const struct executor *executor)
{
	return executor->health.state == HEALTH_ENDED;
}
