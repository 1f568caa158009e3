/* Slots and the queue in front of them. */
#include "gateway/pool/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/pool/fair_queue.h"
#include "proto/pb.h"

#define POOL_MESSAGE_BYTES_MAX (2u << 20)        /* from the host: a Finished with its outputs and deleted paths */
#define POOL_ATTACHED_MAX      (2 * POOL_SLOTS_MAX)      /* a slot that starts again may meet its own old connection */
#define POOL_SPAWN_BYTES_MAX   512               /* a message about a daemon: a tenant's name and two numbers */
#define POOL_POSITIONS_NEAR    16                /* positions up to this are told each, beyond it every 16th */

/*
 *	NEW -> CONTROL ---------> LEAVING -> (freed)
 *	    -> IDLE <-> BUSY
 *	       IDLE ------------> LEAVING
 *
 * The call may end in any state.
 */
enum slot_state {
	SLOT_NEW,                        /* attached, has not said hello */
	SLOT_CONTROL,                    /* the host's control stream */
	SLOT_IDLE,
	SLOT_BUSY,                       /* has a job */
	SLOT_LEAVING,                    /* told to go, or says itself that it goes */
};

struct slot {
	struct call call;
	struct pool *pool;
	struct conn *conn;
	enum slot_state state;
	uint32_t number;
	struct pool_job *job;
	uint64_t affinity;               /* of its last job: the tree that it still holds */
	bool cancel_waits;               /* for room in the call's queue */
	bool refused_output;             /* the job's owner could not take it: the call is held */
	struct buffer held;              /* the message that was refused */
	struct list link;
};

struct pool {
	struct pool_config config;
	struct list slots;               /* attached ones, control too */
	struct slot *control;
	uint32_t attached_count, slots_count, slots_busy;
	unsigned users;
	char runtime[128], why[256];
	struct fair_queue queue;
	struct list resolves;
	uint64_t next_id, jobs_total, jobs_lost;
	struct buffer message;
	bool draining;
};

int pool_create(struct pool **pool, const struct pool_config *config)
{
	struct pool *made = calloc(1, sizeof(*made));

	if (!made)
		return ERR_RAISE(-ENOMEM);
	made->config = *config;
	made->message = buffer_heap(POOL_ASSIGNMENT_BYTES_MAX + 64);
	list_init(&made->slots);
	list_init(&made->resolves);
	fair_queue_init(&made->queue, POOL_QUEUE_MAX, POOL_QUEUE_TENANT_MAX, POOL_TENANTS_MAX);
	*pool = made;
	return 0;
}

void pool_destroy(struct pool *pool)
{
	if (!pool)
		return;
	CHECK(list_empty(&pool->slots));
	CHECK(pool->users == 0);
	fair_queue_fini(&pool->queue);
	buffer_fini(&pool->message);
	free(pool);
}

enum grpc_status pool_ready(const struct pool *pool, char *why, size_t why_size)
{
	if (!pool->config.enabled) {
		snprintf(why, why_size, "this gateway has no executors: %s", pool->config.disabled_why);
		return GRPC_FAILED_PRECONDITION;
	}
	if (!pool->control) {
		snprintf(why, why_size, pool->draining ? "the gateway is shutting down" :
		         "the executor host is not connected; see the gateway's log");
		return GRPC_UNAVAILABLE;
	}
	if (!*pool->runtime) {
		snprintf(why, why_size, "no OCI runtime works on the executor host: %s", pool->why);
		return GRPC_FAILED_PRECONDITION;
	}
	return GRPC_OK;
}

int pool_executor_scope(void *context, const struct conn *conn, struct scope *scope)
{
	struct pool *pool = context;

	if (!conn_peer(conn)->local)             /* a look at most peers, not a search */
		return -ENOENT;
	list_for_each(link, &pool->slots) {
		const struct slot *slot = container_of(link, struct slot, link);

		if (slot->conn != conn)
			continue;
		if (slot->state != SLOT_BUSY)
			return -EACCES;
		*scope = slot->job->scope;
		scope->rights = SCOPE_READ | SCOPE_WRITE | SCOPE_COMMIT;
		return 0;
	}
	return -ENOENT;
}

static bool slot_counts(enum slot_state state)
{
	return state == SLOT_IDLE || state == SLOT_BUSY;
}

static void slot_enter(struct slot *slot, enum slot_state state)
{
	struct pool *pool = slot->pool;

	CHECK(slot->state != SLOT_LEAVING);
	pool->slots_count += slot_counts(state);
	pool->slots_count -= slot_counts(slot->state);
	pool->slots_busy += state == SLOT_BUSY;
	pool->slots_busy -= slot->state == SLOT_BUSY;
	slot->state = state;
}

/* ---- to the host ---- */

static bool slot_send(struct slot *slot, uint32_t number, struct span body)
{
	struct pool *pool = slot->pool;

	buffer_clear(&pool->message);
	pb_put_bytes_always(&pool->message, number, body);
	/* One assignment at a time and small messages: a full queue means that the host does not read. */
	return !pool->message.failed && call_send(&slot->call, buffer_span(&pool->message), 0) == CALL_SENT;
}

static void slot_send_cancel(struct slot *slot)
{
	struct pool *pool = slot->pool;

	buffer_clear(&pool->message);
	pb_put_varint(&pool->message, 3, slot->job->id);
	slot->cancel_waits = call_send(&slot->call, buffer_span(&pool->message), 0) == CALL_FULL;
}

static void slot_on_writable(struct call *call)
{
	struct slot *slot = container_of(call, struct slot, call);

	if (slot->cancel_waits)
		slot_send_cancel(slot);
}

/* ---- buildkitd processes of the host ---- */

static int pool_tell_host(struct pool *pool, uint32_t number, const struct message_type *type, const void *message)
{
	uint8_t storage[POOL_SPAWN_BYTES_MAX];
	struct buffer body = buffer_over(storage, sizeof(storage));

	message_encode(type, &body, message);
	CHECK(!body.failed);
	if (!pool->control || !slot_send(pool->control, number, buffer_span(&body)))
		return -ENOTCONN;
	return 0;
}

int pool_spawn_start(struct pool *pool, uint64_t id, const char *tenant, uint32_t number)
{
	const struct executor_spawn_start message = { .id = id, .tenant = span_text(tenant), .number = number };

	return pool_tell_host(pool, 4, &executor_spawn_start_type, &message);
}

int pool_spawn_stop(struct pool *pool, uint64_t id)
{
	const struct executor_spawn_stop message = { .id = id };

	return pool_tell_host(pool, 5, &executor_spawn_stop_type, &message);
}

static void pool_on_spawn_event(struct pool *pool, struct span bytes)
{
	struct executor_spawn_event event;

	if (pool->config.spawn_events && message_decode(&executor_spawn_event_type, bytes, &event))
		pool->config.spawn_events->on_event(pool->config.spawn_context, &event);
}

/* ---- environments ---- */

static void resolve_done(struct pool_resolve *resolve, enum grpc_status status, const char *fault)
{
	list_remove(&resolve->link);
	resolve->status = status;
	snprintf(resolve->fault, sizeof(resolve->fault), "%s", fault);
	resolve->fn(resolve);
}

void pool_resolve(struct pool *pool, struct pool_resolve *resolve)
{
	uint8_t storage[5000];
	struct buffer body = buffer_over(storage, sizeof(storage));
	struct executor_resolve message = { .id = ++pool->next_id, .image = resolve->image };
	enum grpc_status status;
	char why[256];

	resolve->id = message.id;
	list_append(&pool->resolves, &resolve->link);
	message_encode(&executor_resolve_type, &body, &message);
	status = pool_ready(pool, why, sizeof(why));
	if (body.failed)
		resolve_done(resolve, GRPC_INVALID_ARGUMENT, "the name of the image is too long");
	else if (status != GRPC_OK)
		resolve_done(resolve, status, why);
	else if (!slot_send(pool->control, 1, buffer_span(&body)))
		resolve_done(resolve, GRPC_UNAVAILABLE, "the executor host does not answer");
}

void pool_resolve_cancel(struct pool *pool, struct pool_resolve *resolve)
{
	list_remove(&resolve->link);
}

static struct pool_resolve *pool_find_resolve(struct pool *pool, uint64_t id)
{
	list_for_each(link, &pool->resolves) {
		struct pool_resolve *resolve = container_of(link, struct pool_resolve, link);

		if (resolve->id == id)
			return resolve;
	}
	return NULL;
}

static void pool_on_resolved(struct pool *pool, struct span bytes)
{
	struct executor_resolved resolved;
	struct pool_resolve *resolve;
	char fault[256];

	if (!message_decode(&executor_resolved_type, bytes, &resolved))
		return;
	resolve = pool_find_resolve(pool, resolved.id);
	if (!resolve)                            /* its owner has gone meanwhile */
		return;
	snprintf(fault, sizeof(fault), "%.*s", (int)resolved.fault.size, (const char *)resolved.fault.data);
	if (*fault) {
		resolve_done(resolve, GRPC_FAILED_PRECONDITION, fault);
	} else if (resolved.environment.size != sizeof(resolve->environment)) {
		resolve_done(resolve, GRPC_INTERNAL, "the executor host sent no environment");
	} else {
		memcpy(resolve->environment, resolved.environment.data, sizeof(resolve->environment));
		resolve_done(resolve, GRPC_OK, "");
	}
}

/* ---- jobs ---- */

uint64_t pool_job_id(struct pool *pool)
{
	return ++pool->next_id;
}

/* The one that holds this tree already, else one that holds none, else any. */
static struct slot *pool_choose(struct pool *pool, uint64_t affinity)
{
	struct slot *any = NULL, *fresh = NULL;

	list_for_each(link, &pool->slots) {
		struct slot *slot = container_of(link, struct slot, link);

		if (slot->state != SLOT_IDLE)
			continue;
		if (affinity && slot->affinity == affinity)
			return slot;
		if (!slot->affinity)
			fresh = slot;
		any = slot;
	}
	return fresh ? fresh : any;
}

static void slot_start(struct slot *slot, struct pool_job *job)
{
	slot_enter(slot, SLOT_BUSY);
	slot->job = job;
	slot->affinity = job->affinity;
	slot->pool->jobs_total++;
	job->slot = slot;
	if (!slot_send(slot, 2, job->assignment))
		call_cancel(&slot->call);        /* its end fails the job */
	job->on_started(job);
}

static void job_tell_position(struct list *link, uint32_t position)
{
	struct pool_job *job = container_of(link, struct pool_job, link);

	if (job->position && (position == job->position || (position > POOL_POSITIONS_NEAR && position % POOL_POSITIONS_NEAR)))
		return;
	job->position = position;
	job->on_queued(job, position);
}

/* Gives out what can be given out, and tells those who still wait how far they have come. */
static void pool_dispatch(struct pool *pool)
{
	while (pool->queue.count && pool_choose(pool, 0)) {
		struct pool_job *job = container_of(fair_queue_take(&pool->queue), struct pool_job, link);

		slot_start(pool_choose(pool, job->affinity), job);
	}
	fair_queue_visit(&pool->queue, job_tell_position);
}

int pool_submit(struct pool *pool, struct pool_job *job)
{
	char why[256];
	int r;

	if (job->assignment.size > POOL_ASSIGNMENT_BYTES_MAX)
		return -EMSGSIZE;
	if (pool_ready(pool, why, sizeof(why)) != GRPC_OK)
		return -ENOTCONN;
	r = fair_queue_add(&pool->queue, job->scope.tenant, &job->link);
	if (r < 0)
		return r;
	pool_dispatch(pool);
	return 0;
}

bool pool_cancel(struct pool *pool, struct pool_job *job)
{
	if (!job->slot) {
		fair_queue_remove(&pool->queue, job->scope.tenant, &job->link);
		fair_queue_visit(&pool->queue, job_tell_position);
		return false;
	}
	if (!job->cancelled) {
		job->cancelled = true;
		slot_send_cancel(job->slot);
	}
	pool_job_resume(pool, job);              /* what waits for the owner is thrown away */
	return true;
}

static void slot_finish(struct slot *slot, const struct executor_finished *finished, const char *why)
{
	struct pool_job *job = slot->job;

	slot->job = NULL;
	slot->refused_output = slot->cancel_waits = false;
	job->slot = NULL;
	job->on_finished(job, finished, why);
}

/* ---- leaving ---- */

static void slot_dismiss(struct slot *slot)
{
	if (slot->pool->control == slot)
		slot->pool->control = NULL;
	slot_enter(slot, SLOT_LEAVING);
	call_finish(&slot->call, GRPC_OK, NULL);
}

static void pool_dismiss(struct pool *pool)
{
	list_for_each(link, &pool->slots) {
		struct slot *slot = container_of(link, struct slot, link);

		CHECK(slot->state != SLOT_BUSY); /* a job's owner is a user */
		if (slot->state != SLOT_LEAVING)
			slot_dismiss(slot);
	}
}

void pool_enter(struct pool *pool)
{
	pool->users++;
}

void pool_leave(struct pool *pool)
{
	CHECK(pool->users > 0);
	if (--pool->users == 0 && pool->draining)
		pool_dismiss(pool);
}

void pool_drain(struct pool *pool)
{
	pool->draining = true;
	if (pool->users == 0)
		pool_dismiss(pool);
}

/* ---- from the host ---- */

static void pool_on_control(struct pool *pool, struct slot *slot, const struct executor_hello *hello)
{
	slot_enter(slot, SLOT_CONTROL);
	pool->control = slot;
	snprintf(pool->runtime, sizeof(pool->runtime), "%.*s", (int)hello->runtime.size, (const char *)hello->runtime.data);
	snprintf(pool->why, sizeof(pool->why), "%.*s", (int)hello->why.size, (const char *)hello->why.data);
	log_event(LOG_INFO, "executor host attached", LOG_U64("slots", hello->slots), LOG_SPAN("runtime", hello->runtime),
	          LOG_SPAN("why", hello->why), LOG_SPAN("spawn", hello->spawn));
	if (pool->config.spawn_events)
		pool->config.spawn_events->on_host(pool->config.spawn_context, hello->spawn.size > 0, hello->spawn_why);
}

static void slot_on_hello(struct slot *slot, struct span bytes)
{
	struct executor_hello hello;
	struct pool *pool = slot->pool;

	if (slot->state != SLOT_NEW || !message_decode(&executor_hello_type, bytes, &hello) || hello.slot > POOL_SLOTS_MAX ||
	    (hello.slot == 0 && pool->control) || (hello.slot && pool->slots_count == POOL_SLOTS_MAX)) {
		call_finish(&slot->call, GRPC_INVALID_ARGUMENT, "an unexpected Hello");
		return;
	}
	slot->number = hello.slot;
	if (pool->draining && pool->users == 0) {
		slot_dismiss(slot);
	} else if (hello.slot == 0) {
		pool_on_control(pool, slot, &hello);
	} else {
		slot_enter(slot, SLOT_IDLE);
		pool_dispatch(pool);
	}
}

static void slot_on_output(struct slot *slot, struct span bytes, struct span message)
{
	struct executor_output output;
	struct pool_job *job = slot->job;

	if (!job || !message_decode(&executor_output_type, bytes, &output) || output.id != job->id)
		return;                          /* of a job that has ended */
	if (job->cancelled || job->on_output(job, output.stream, output.data))
		return;
	buffer_clear(&slot->held);
	buffer_put(&slot->held, message.data, message.size);
	if (slot->held.failed) {
		call_cancel(&slot->call);        /* out of memory: better no result than one with a gap */
		return;
	}
	slot->refused_output = true;
	call_hold(&slot->call);
}

void pool_job_resume(struct pool *pool, struct pool_job *job)
{
	struct slot *slot = job->slot;
	struct attach_request request;
	struct executor_output output;

	if (!slot || !slot->refused_output)
		return;
	message_decode(&attach_request_type, buffer_span(&slot->held), &request);
	message_decode(&executor_output_type, request.output, &output);
	if (!job->cancelled && !job->on_output(job, output.stream, output.data))
		return;
	slot->refused_output = false;
	call_release(&slot->call);
}

static void slot_on_finished(struct slot *slot, struct span bytes)
{
	struct executor_finished finished;

	if (!slot->job || !message_decode(&executor_finished_type, bytes, &finished) || finished.id != slot->job->id)
		return;
	slot_enter(slot, SLOT_IDLE);
	slot_finish(slot, &finished, NULL);
	pool_dispatch(slot->pool);
}

static void slot_on_message(struct call *call, struct span message)
{
	struct slot *slot = container_of(call, struct slot, call);
	struct attach_request request;

	if (!message_decode(&attach_request_type, message, &request)) {
		call_finish(call, GRPC_INVALID_ARGUMENT, "malformed AttachRequest");
		return;
	}
	if (request.hello.data)
		slot_on_hello(slot, request.hello);
	else if (request.resolved.data && slot->state == SLOT_CONTROL)
		pool_on_resolved(slot->pool, request.resolved);
	else if (request.spawn_event.data && slot->state == SLOT_CONTROL)
		pool_on_spawn_event(slot->pool, request.spawn_event);
	else if (request.output.data)
		slot_on_output(slot, request.output, message);
	else if (request.finished.data)
		slot_on_finished(slot, request.finished);
}

/* A busy one that ends its side stays busy until the call is closed, which fails the job. */
static void slot_on_end(struct call *call)
{
	struct slot *slot = container_of(call, struct slot, call);

	if (slot->state == SLOT_IDLE)
		slot_enter(slot, SLOT_LEAVING);
	call_finish(call, GRPC_OK, NULL);
}

/* Without its host no slot comes back, so nobody waits for one any longer. */
static void pool_control_lost(struct pool *pool)
{
	static const char why[] = "the executor host was lost; see the gateway's log";
	struct list *link;

	pool->control = NULL;
	log_event(LOG_WARNING, "executor host lost");
	while (!list_empty(&pool->resolves))
		resolve_done(container_of(pool->resolves.next, struct pool_resolve, link), GRPC_UNAVAILABLE, why);
	while ((link = fair_queue_take(&pool->queue))) {
		struct pool_job *job = container_of(link, struct pool_job, link);

		pool->jobs_lost++;
		job->on_finished(job, NULL, why);
	}
	if (pool->config.spawn_events)
		pool->config.spawn_events->on_host_lost(pool->config.spawn_context);
}

static void slot_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct slot *slot = container_of(call, struct slot, call);
	struct pool *pool = slot->pool;
	enum slot_state state = slot->state;

	list_remove(&slot->link);
	pool->attached_count--;
	if (state != SLOT_LEAVING)
		slot_enter(slot, SLOT_LEAVING);
	if (state == SLOT_BUSY) {
		log_event(LOG_WARNING, "slot lost", LOG_U64("slot", slot->number));
		pool->jobs_lost++;
		slot_finish(slot, NULL, "the executor died under the action; its log says why");
	}
	if (pool->control == slot)
		pool_control_lost(pool);
	buffer_fini(&slot->held);
	call_fini(&slot->call);
	free(slot);
}

static const struct call_events slot_events = {
	.on_message = slot_on_message,
	.on_end = slot_on_end,
	.on_writable = slot_on_writable,
	.on_closed = slot_on_closed,
};

int pool_attach_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct pool *pool = context;
	const struct conn_peer *peer = conn_peer(request->conn);
	struct slot *slot;

	if (!pool->config.enabled || !peer->local || peer->uid != pool->config.executor_uid) {
		snprintf(why, why_size, "only the gateway's own executor host may attach");
		return GRPC_PERMISSION_DENIED;
	}
	slot = pool->attached_count < POOL_ATTACHED_MAX ? calloc(1, sizeof(*slot)) : NULL;
	if (!slot) {
		snprintf(why, why_size, "too many slots");
		return GRPC_RESOURCE_EXHAUSTED;
	}
	slot->pool = pool;
	slot->conn = request->conn;
	slot->held = buffer_heap(POOL_MESSAGE_BYTES_MAX);
	list_append(&pool->slots, &slot->link);
	pool->attached_count++;
	call_accept(&slot->call, request->stream, request->head, POOL_MESSAGE_BYTES_MAX, &slot_events, slot);
	return 0;
}

void pool_status(const struct pool *pool, struct pool_status *status)
{
	*status = (struct pool_status){
		.slots = pool->slots_count, .slots_busy = pool->slots_busy, .queued = pool->queue.count,
		.jobs_total = pool->jobs_total, .jobs_lost = pool->jobs_lost,
	};
	snprintf(status->runtime, sizeof(status->runtime), "%s", pool->runtime);
}

void pool_tenant_status(const struct pool *pool, uint32_t tenant, struct pool_status *status)
{
	pool_status(pool, status);
	status->slots_busy = 0;
	status->queued = fair_queue_count(&pool->queue, tenant);
	status->jobs_total = status->jobs_lost = 0;
	list_for_each(link, &pool->slots) {
		const struct slot *slot = container_of(link, struct slot, link);

		status->slots_busy += slot->state == SLOT_BUSY && slot->job && slot->job->scope.tenant == tenant;
	}
}
