/* What is answered here, or by whichever executor there is, without a lease. */
#include "gateway/buildkit/buildkit_private.h"

#include <errno.h>
#include <stdio.h>
#include "gateway/base/check.h"

/* ---- why there is none ---- */

struct why {
	char *text;
	size_t size, used;
	unsigned executors;
};

static void why_add(void *context, struct executor *executor)
{
	struct why *why = context;
	const char *cause = executor_why(executor);
	int size;

	if (why->used >= why->size)
		return;
	size = snprintf(why->text + why->used, why->size - why->used, "%s%s: %s", why->executors ? "; " : "",
	                executor_name(executor), cause[0] ? cause : "it has no room");
	why->used += size > 0 ? (size_t)size : 0;
	why->executors++;
}

void answers_why(const struct buildkit *buildkit, const char *tenant, char *text, size_t text_size)
{
	struct why why = { .text = text, .size = text_size };

	why.used = (size_t)snprintf(text, text_size, "no executor is ready: ");
	executors_visit(buildkit->executors, tenant, why_add, &why);
	if (why.executors == 0 && buildkit_spawnable(buildkit, tenant))
		snprintf(text, text_size, "no executor is ready: one is being started, or waits for a place; try again later");
	else if (why.executors == 0)
		snprintf(text, text_size, "no executor serves your tenant: ask the operator for one");
}

/* ---- an executor, whichever ---- */

struct choice {
	const char *name;
	struct executor *best;
};

static void choose(void *context, struct executor *executor)
{
	struct choice *choice = context;

	if (executor_state(executor) != EXECUTOR_READY)
		return;
	if (!choice->best || executor_leases(executor) < executor_leases(choice->best))
		choice->best = executor;
}

static bool executors_are_known(const struct buildkit *buildkit, const char *tenant)
{
	struct executors_answers answers;

	executors_answers(buildkit->executors, tenant, &answers);
	return answers.list_workers.size > 0;
}

static void note_loss(void *context, struct executor *executor)
{
	enum executor_state state = executor_state(executor);

	*(bool *)context |= state == EXECUTOR_LOST || state == EXECUTOR_REFUSED;
}

/* Those that it had were stopped because nobody wanted them: the next one is started for who waits. */
static bool one_is_to_come(const struct buildkit *buildkit, const char *tenant)
{
	bool lost = false;

	executors_visit(buildkit->executors, tenant, note_loss, &lost);
	return !lost && buildkit_spawnable(buildkit, tenant);
}

static void errand_open(struct buildkit_call *call, struct executor *executor)
{
	struct binding *binding = call->binding;
	struct uplink *uplink = NULL;
	char why[512] = "";
	int r = uplink_for(&uplink, binding, executor, why, sizeof(why));

	if (r == 0)
		r = forward_open(&call->forward, conn_h2(uplink->conn), uplink->executor);
	if (r == -EPIPE) {
		uplink->errand = false;
		r = uplink_open(&uplink, binding, executor, true, why, sizeof(why));
		if (r == 0)
			r = forward_open(&call->forward, conn_h2(uplink->conn), uplink->executor);
	}
	if (r == 0)
		return;
	if (!why[0])
		snprintf(why, sizeof(why), "executor %s takes no more calls on this connection", executor_name(executor));
	forward_finish(&call->forward, r == -ENOMEM || r == -EINVAL ? GRPC_RESOURCE_EXHAUSTED : GRPC_UNAVAILABLE, why);
}

/* ---- waiting for the first one ---- */

static void first_on_granted(struct lease *lease)
{
	struct buildkit_call *call = container_of(lease, struct buildkit_call, lease);
	struct executors_answers answers;
	struct executor *executor = lease->executor;

	call->deadline_ns = 0;
	call->binding->asked_ns = 0;
	executors_answers(call->binding->buildkit->executors, call->binding->tenant, &answers);
	if (call_held(call) && call->kind == CALL_LIST_WORKERS && answers.list_workers.size)
		forward_reply(&call->forward, answers.list_workers);
	else if (call_held(call) && call->kind == CALL_INFO && answers.info.size)
		forward_reply(&call->forward, answers.info);
	else if (call_held(call) && call->kind == CALL_PING && answers.pong.size)
		forward_reply(&call->forward, answers.pong);
	else if (call_held(call))
		errand_open(call, executor);
	call->leasing = false;
	lease_release(lease);
}

/*
 * BuildKit's client asks Info again for as long as it is UNAVAILABLE, and in the end says only that its time is over. This
 * has waited already: with another status its user reads why.
 */
static void first_refuse_with(struct buildkit_call *call, const char *why)
{
	bool hopeful = buildkit_hopeful(call->binding->buildkit, call->binding->tenant) && call->kind != CALL_INFO;

	forward_finish(&call->forward, hopeful ? GRPC_UNAVAILABLE : GRPC_FAILED_PRECONDITION, why);
}

static void first_refuse(struct buildkit_call *call)
{
	char why[1024];

	answers_why(call->binding->buildkit, call->binding->tenant, why, sizeof(why));
	first_refuse_with(call, why);
}

static void first_on_refused(struct lease *lease, const char *why)
{
	struct buildkit_call *call = container_of(lease, struct buildkit_call, lease);

	call->leasing = false;
	first_refuse_with(call, why);
}

static void first_on_queued(struct lease *lease, uint32_t position, uint32_t waiting)
{
	(void)lease;
	(void)position;
	(void)waiting;
}

static void first_on_lost(struct lease *lease, const char *why)
{
	(void)lease;
	(void)why;
}

/* buildx asks twice, ListWorkers and Info: what both wait together is bounded as a build's wait is. */
static void first_wait(struct buildkit_call *call)
{
	struct binding *binding = call->binding;
	uint64_t last;

	CHECK(!call->leasing);
	if (!binding->asked_ns)
		binding->asked_ns = call->since_ns;
	last = binding->asked_ns + executors_queue_timeout_ns(binding->buildkit->executors);
	if (last <= ring_now_ns(binding->buildkit->ring)) {
		first_refuse(call);
		return;
	}
	call->leasing = true;
	call->deadline_ns = call->since_ns + BINDING_ANSWER_WAIT_NS;
	if (call->deadline_ns > last)
		call->deadline_ns = last;
	call->lease = (struct lease){
		.tenant = call->binding->tenant, .on_granted = first_on_granted, .on_queued = first_on_queued,
		.on_refused = first_on_refused, .on_lost = first_on_lost,
	};
	lease_request(call->binding->buildkit->executors, &call->lease);
}

void answers_expire(struct buildkit_call *call)
{
	if (call->leasing)
		lease_release(&call->lease);
	call->leasing = false;
	first_refuse(call);
}

/* ---- answering ---- */

void answers_give(struct buildkit_call *call)
{
	struct binding *binding = call->binding;
	struct executors_answers answers;
	struct span answer;

	executors_answers(binding->buildkit->executors, binding->tenant, &answers);
	answer = call->kind == CALL_LIST_WORKERS ? answers.list_workers : call->kind == CALL_INFO ? answers.info : answers.pong;
	if (answer.size)
		forward_reply(&call->forward, answer);
	else
		errand_run(call, NULL);          /* it does not know the method, perhaps, and says so */
}

/* Whoever drains or is doubted has what it built all the same, and nobody else has it. */
struct executor *errand_find(const struct binding *binding, const char *name)
{
	struct executor *leased = binding->state == BINDING_BOUND ? binding->lease.executor : NULL;
	struct executor *named;

	if (leased && strcmp(executor_name(leased), name) == 0 && uplink_usable(binding->uplink))
		return leased;
	named = executors_find(binding->buildkit->executors, binding->tenant, name);
	return named && (executor_state(named) == EXECUTOR_READY || executor_reachable(named)) ? named : NULL;
}

void errand_run(struct buildkit_call *call, const char *name)
{
	struct binding *binding = call->binding;
	struct buildkit *buildkit = binding->buildkit;
	struct executor *executor = name && name[0] ? errand_find(binding, name) : NULL;
	struct choice choice = { 0 };

	if (!executor && binding->state == BINDING_BOUND && executor_state(binding->lease.executor) == EXECUTOR_READY)
		executor = binding->lease.executor;
	if (!executor) {
		executors_visit(buildkit->executors, binding->tenant, choose, &choice);
		executor = choice.best;
	}
	if (executor)
		binding->asked_ns = 0;           /* who waits later waits from then on */
	if (executor)
		errand_open(call, executor);
	else if (executors_are_known(buildkit, binding->tenant) && !one_is_to_come(buildkit, binding->tenant))
		first_refuse(call);              /* one was ready, and none is: nobody knows until when */
	else
		first_wait(call);
}
