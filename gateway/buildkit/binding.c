/* A client connection's route to an executor. */
#include "gateway/buildkit/buildkit_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"

static void binding_enter(struct binding *binding, enum binding_state state)
{
	binding->state = state;
	binding->idle_deadline_ns = 0;
	/* A doubt is of the executor: it stays when another connection to the same one is made. */
	if (state == BINDING_CONNECTING || state == BINDING_BOUND)
		return;
	doubt_drop(&binding->doubt);
}

/* ---- what the calls ask for ---- */

struct buildkit_call *binding_solve(const struct binding *binding, const char *ref)
{
	if (!ref[0])
		return NULL;
	for_each_call(call, binding)
		if (call->kind == CALL_SOLVE && call->known && strcmp(call->ref, ref) == 0)
			return call;
	return NULL;
}

bool binding_solve_is_over(const struct binding *binding, const char *ref)
{
	for (unsigned i = 0; i < BINDING_OVER_KEPT && !binding_solve(binding, ref); i++)
		if (ref[0] && strcmp(binding->over[i], ref) == 0)
			return true;
	return false;
}

void binding_end_solve(struct binding *binding, const char *ref)
{
	if (!ref[0])
		return;
	snprintf(binding->over[binding->over_next], BUILD_ID_MAX, "%s", ref);
	binding->over_next = (binding->over_next + 1) % BINDING_OVER_KEPT;
	for_each_call(call, binding)
		if ((call->kind == CALL_BRIDGE || call->kind == CALL_RETURN) && call_held(call) && strcmp(call->ref, ref) == 0)
			call_has_no_job(call);
}

static const struct buildkit_call *binding_session(const struct binding *binding, const char *session)
{
	for_each_call(call, binding)
		if (call->kind == CALL_SESSION && strcmp(call->session, session) == 0)
			return call;
	return NULL;
}

/* It cannot go on without an executor. */
static bool wants_executor(const struct buildkit_call *call)
{
	if (!call_held(call) || !call->known)
		return false;
	switch (call->kind) {
	case CALL_SOLVE:
		return !call->probe;
	case CALL_BRIDGE:
		return true;
	case CALL_RETURN:
		/* Of itself it asks for nothing: a build that was refused is returned, too. */
		return !call->empty && binding_solve(call->binding, call->ref);
	default:
		return false;
	}
}

static bool binding_wants_executor(const struct binding *binding)
{
	for_each_call(call, binding)
		if (wants_executor(call))
			return true;
	return false;
}

/* Builds that are held or under way. */
static uint32_t binding_builds(const struct binding *binding)
{
	uint32_t count = 0;

	for_each_call(call, binding)
		count += call->kind == CALL_SOLVE && call->known && !call->probe && forward_answerable(&call->forward);
	return count;
}

/*
 * The directory decides where it is built, and the session that knows it may come a moment after the Solve. False: wait
 * for it, until call->deadline_ns.
 */
static bool binding_affinity(struct binding *binding, uint64_t now, uint64_t *affinity)
{
	bool bridge = false, missing = false;

	*affinity = 0;
	for_each_call(call, binding) {
		const struct buildkit_call *session;

		bridge |= wants_executor(call) && call->kind != CALL_SOLVE;
		if (!wants_executor(call) || call->kind != CALL_SOLVE || !call->session[0])
			continue;
		session = binding_session(binding, call->session);
		if (session && !*affinity)
			*affinity = session->affinity;
		if (!session && !call->deadline_ns)
			call->deadline_ns = call->since_ns + BINDING_SESSION_WAIT_NS;
		missing |= !session && now < call->deadline_ns;
	}
	return bridge || !missing;
}

/* ---- the lease ---- */

static void binding_show_position(struct binding *binding)
{
	for_each_call(call, binding)
		if (call->kind == CALL_STATUS && call_held(call))
			call_show_position(call, binding->position, binding->waiting);
}

static void binding_refuse(struct binding *binding, enum grpc_status status, const char *why)
{
	log_event(LOG_INFO, "build refused", LOG_TEXT("tenant", binding->tenant), LOG_TEXT("why", why));
	for_each_call(call, binding)
		if (wants_executor(call))
			call_refuse(call, status, why);
}

static void lease_on_queued(struct lease *lease, uint32_t position, uint32_t waiting)
{
	struct binding *binding = container_of(lease, struct binding, lease);

	binding->position = position;
	binding->waiting = waiting;
	binding_show_position(binding);
}

static void lease_on_granted(struct lease *lease)
{
	struct binding *binding = container_of(lease, struct binding, lease);

	CHECK(binding->state == BINDING_WAITING);
	binding->slots = 1;
	binding_enter(binding, BINDING_CONNECTING);
	binding_step(binding);
}

static void lease_on_refused(struct lease *lease, const char *why)
{
	struct binding *binding = container_of(lease, struct binding, lease);
	char text[512];
	bool none = !buildkit_hopeful(binding->buildkit, binding->tenant);

	snprintf(text, sizeof(text), "%s", why);
	binding_enter(binding, BINDING_UNBOUND);
	binding_refuse(binding, none ? GRPC_FAILED_PRECONDITION : GRPC_UNAVAILABLE, text);
	binding_step(binding);
}

static bool binding_suits(const struct lease *lease, const struct executor *executor)
{
	const struct binding *binding = container_of(lease, struct binding, lease);

	for_each_call(call, binding)
		if (call->kind == CALL_SOLVE && call_held(call) && opening_has_twin(call, executor_name(executor)))
			return false;
	return true;
}

static void lease_on_lost(struct lease *lease, const char *why)
{
	struct binding *binding = container_of(lease, struct binding, lease);

	(void)why;
	if (binding->state != BINDING_CONNECTING && binding->state != BINDING_BOUND)
		return;
	doubt_raise(&binding->doubt, ring_now_ns(binding->buildkit->ring));
	binding_step(binding);
}

static void binding_request(struct binding *binding, uint64_t affinity, const struct executor *avoid)
{
	binding->lease = (struct lease){
		.tenant = binding->tenant, .affinity = affinity, .avoid = avoid, .suits = binding_suits,
		.on_granted = lease_on_granted, .on_queued = lease_on_queued, .on_refused = lease_on_refused,
		.on_lost = lease_on_lost,
	};
	binding->position = binding->waiting = 0;
	binding_enter(binding, BINDING_WAITING);
	lease_request(binding->buildkit->executors, &binding->lease);
}

static void binding_unbind(struct binding *binding)
{
	struct uplink *uplink = binding->uplink;

	binding->uplink = NULL;
	if (uplink && uplink->conn)
		uplink_leave(uplink);
	if (binding->state != BINDING_UNBOUND)
		lease_release(&binding->lease);
	binding_enter(binding, BINDING_UNBOUND);
}

/* Each build under way takes a slot. */
static void binding_charge(struct binding *binding)
{
	uint32_t wanted = binding_builds(binding);

	wanted = wanted < 1 ? 1 : wanted > BINDING_SLOTS_MAX ? BINDING_SLOTS_MAX : wanted;
	for (; binding->slots < wanted; binding->slots++)
		lease_grow(&binding->lease);
	for (; binding->slots > wanted; binding->slots--)
		lease_shrink(&binding->lease);
}

/* ---- the connection to the executor ---- */

/* It cannot be reached: another one is tried, then the builds are told. */
static void binding_retry(struct binding *binding, const char *reason)
{
	struct executor *executor = binding->lease.executor;
	uint64_t affinity = binding->lease.affinity;
	char text[640];

	snprintf(text, sizeof(text), "executor %s cannot be reached: %s", executor_name(executor), reason);
	binding_enter(binding, BINDING_UNBOUND);
	executor_suspect(executor, reason);
	lease_release(&binding->lease);
	if (++binding->tries >= BINDING_TRIES_MAX) {
		binding->tries = 0;
		binding_refuse(binding, GRPC_UNAVAILABLE, text);
	} else if (binding_wants_executor(binding)) {
		binding_request(binding, affinity, executor);
	}
}

/* It is we who have no room for a connection: no word against the executor, on which others build. */
static bool is_our_own(int r)
{
	return err_no_descriptors(r) || r == -ENOBUFS || r == -ENOMEM;
}

static void binding_connect(struct binding *binding)
{
	char why[512] = "", text[600];
	int r = uplink_open(&binding->uplink, binding, binding->lease.executor, false, why, sizeof(why));

	if (is_our_own(r)) {
		snprintf(text, sizeof(text), "the gateway has no room for one more connection to an executor: %s", why);
		binding_unbind(binding);
		binding_refuse(binding, GRPC_RESOURCE_EXHAUSTED, text);
	} else if (r < 0) {
		binding_retry(binding, why);
	}
}

void binding_on_uplink_ready(struct binding *binding, struct uplink *uplink)
{
	if (binding->uplink != uplink || binding->state != BINDING_CONNECTING)
		return;
	if (uplink->leaving) {
		binding->uplink = NULL;
		uplink_leave(uplink);
		binding_retry(binding, "it takes no calls on a new connection");
		binding_step(binding);
		return;
	}
	binding->tries = 0;
	snprintf(binding->executor, sizeof(binding->executor), "%s", uplink->executor);
	binding_enter(binding, BINDING_BOUND);
	for_each_call(call, binding)
		if (call->kind == CALL_STATUS && call_held(call))
			call_end_waiting(call, NULL);
	binding_step(binding);
}

/* The first of the calls decides for all, before any of them was told. */
static void binding_decide_loss(struct binding *binding, const char *executor)
{
	const char *why = NULL;

	binding->losing = executor;
	binding->replaying = binding->buildkit->replay == REPLAY_SAFE && replay_possible(binding, executor, &why);
	binding->losses += binding->replaying;
	if (why)
		log_event(LOG_WARNING, "build not replayed", LOG_TEXT("tenant", binding->tenant), LOG_TEXT("executor", executor),
		          LOG_TEXT("why", why));
}

bool binding_on_call_lost(struct buildkit_call *call)
{
	struct binding *binding = call->binding;
	const struct buildkit_call *solve;

	if (binding->state == BINDING_CLOSED)
		return false;
	if (binding->losing != call->forward.executor)
		binding_decide_loss(binding, call->forward.executor);
	if (!binding->replaying)
		return false;
	switch (call->kind) {
	case CALL_SOLVE:
		replay_begin(call->replay, call->forward.executor);
		return true;
	case CALL_STATUS:
		solve = binding_solve(binding, call->ref);
		return solve && solve->replay && forward_answerable(&solve->forward);
	case CALL_BRIDGE:
	case CALL_RETURN:
		return true;
	default:
		return false;
	}
}

static void binding_lost(struct binding *binding, bool replaying, const char *reason)
{
	struct executor *executor = binding->lease.executor;
	uint64_t affinity = binding->lease.affinity;

	binding_enter(binding, BINDING_UNBOUND);
	executor_suspect(executor, reason);
	lease_release(&binding->lease);
	if (replaying && binding_wants_executor(binding))
		binding_request(binding, affinity, executor);
}

/* What still runs on connections that took no more calls hangs as well. */
static void binding_close_others(struct binding *binding, const char *executor, const char *reason)
{
	list_for_each(link, &binding->uplinks) {
		struct uplink *uplink = container_of(link, struct uplink, link);

		if (uplink->conn && strcmp(uplink->executor, executor) == 0)
			conn_close(uplink->conn, reason);
	}
}

void binding_on_uplink_gone(struct binding *binding, struct uplink *uplink, const char *reason)
{
	bool replaying = binding->losing == uplink->executor && binding->replaying, given_up;

	if (binding->losing == uplink->executor)
		binding->losing = NULL;
	if (binding->uplink != uplink) {
		binding_step(binding);
		return;
	}
	binding->uplink = NULL;
	if (binding->state == BINDING_CONNECTING) {
		binding_retry(binding, reason);
	} else if (binding->state == BINDING_BOUND) {
		log_event(LOG_WARNING, "executor connection lost", LOG_TEXT("executor", uplink->executor),
		          LOG_TEXT("reason", reason));
		given_up = binding->doubt.state == DOUBT_GIVEN_UP;
		binding_lost(binding, replaying, reason);
		if (given_up)
			binding_close_others(binding, uplink->executor, reason);
	}
	binding_step(binding);
}

/* ---- bound ---- */

/* Something of a build is still at the executor: more builds that need it may follow. */
static bool binding_is_there(const struct binding *binding)
{
	for_each_call(call, binding)
		if (call->kind <= CALL_RETURN && call_carried(call))
			return true;
	return false;
}

/* One that is not ready may be gone with the lease, and what it has of the build is asked for next. */
static bool binding_may_part(const struct binding *binding)
{
	return !binding_is_there(binding) && executor_state(binding->lease.executor) == EXECUTOR_READY;
}

/* To an executor where its Refs are free. */
static void binding_move(struct binding *binding)
{
	const struct executor *avoid = binding->lease.avoid;
	uint64_t affinity = binding->lease.affinity;

	binding_unbind(binding);
	binding_request(binding, affinity, avoid);
}

static void binding_bound(struct binding *binding, uint64_t now)
{
	bool wants = binding_wants_executor(binding);

	if (binding->doubt.state == DOUBT_GIVEN_UP)
		return;                          /* no other connection to this one: the end of its own follows */
	if (!uplink_usable(binding->uplink) && (wants || opening_is_due(binding))) {
		/* It said goodbye: what it has goes on, the rest takes a new connection to the same executor. */
		uplink_leave(binding->uplink);
		binding->uplink = NULL;
		binding_enter(binding, BINDING_CONNECTING);
		binding_connect(binding);
		return;
	}
	if (wants && !binding_is_there(binding) && lease_is_misplaced(&binding->lease)) {
		binding_move(binding);
		return;
	}
	if (doubt_judge(&binding->doubt, now, executor_reachable(binding->lease.executor)))
		conn_close(binding->uplink->conn, executor_why(binding->lease.executor));
	opening_run(binding);
	binding_charge(binding);
	if (binding_builds(binding) > 0 || binding_wants_executor(binding))
		binding->idle_deadline_ns = 0;
	else if (binding_may_part(binding) || (binding->idle_deadline_ns && now >= binding->idle_deadline_ns))
		binding_unbind(binding);
	else if (!binding->idle_deadline_ns)
		binding->idle_deadline_ns = now + BINDING_LINGER_NS;
}

/* ---- deciding ---- */

static void binding_expire(struct binding *binding, uint64_t now)
{
	for_each_call(call, binding)
		if (call_held(call) && call->deadline_ns && call->deadline_ns <= now && call->kind != CALL_SOLVE)
			call_expire(call);
}

static void binding_decide(struct binding *binding, uint64_t now)
{
	uint64_t affinity;

	switch (binding->state) {
	case BINDING_UNBOUND:
		if (!binding_wants_executor(binding) || !binding_affinity(binding, now, &affinity))
			break;
		binding->tries = 0;
		binding_request(binding, affinity, NULL);
		break;
	case BINDING_WAITING:
		if (!binding_wants_executor(binding))
			binding_unbind(binding);
		else
			binding_show_position(binding);  /* to a Status that came meanwhile */
		break;
	case BINDING_CONNECTING:
		if (!binding->uplink)
			binding_connect(binding);
		break;
	case BINDING_BOUND:
		if (binding->losing != binding->uplink->executor)        /* else it is about to be gone */
			binding_bound(binding, now);
		break;
	case BINDING_CLOSED:
		break;
	}
}

static void note_deadline(uint64_t *next, uint64_t deadline, uint64_t now)
{
	if (deadline > now && deadline < *next)
		*next = deadline;
}

/* What was over at `now` has been looked at with that: all that comes behind it is still to come. */
static void binding_arm(struct binding *binding, uint64_t now)
{
	struct ring *ring = binding->buildkit->ring;
	uint64_t next = UINT64_MAX;

	note_deadline(&next, binding->idle_deadline_ns, now);
	note_deadline(&next, binding->doubt.deadline_ns, now);
	note_deadline(&next, binding->twin_deadline_ns, now);
	for_each_call(call, binding)
		if (call_held(call))
			note_deadline(&next, call->deadline_ns, now);
	if (next == UINT64_MAX)
		return;
	if (!op_in_flight(&binding->timer)) {
		binding->timer_at_ns = next;
		ring_timer(ring, &binding->timer, next - now);
	} else if (next < binding->timer_at_ns) {
		ring_cancel(ring, &binding->timer);      /* its completion arms it anew */
	}
}

void binding_step(struct binding *binding)
{
	uint64_t now = 0;

	binding->again = true;
	if (binding->stepping || binding->state == BINDING_CLOSED)
		return;
	binding->stepping = true;
	while (binding->again && binding->state != BINDING_CLOSED) {
		binding->again = false;
		now = ring_now_ns(binding->buildkit->ring);
		binding_expire(binding, now);
		binding_decide(binding, now);
	}
	binding->stepping = false;
	if (binding->state != BINDING_CLOSED)
		binding_arm(binding, now);
}

static void binding_on_timer(struct op *op, int32_t res)
{
	struct binding *binding = container_of(op, struct binding, timer);

	(void)res;
	if (binding->state == BINDING_CLOSED)
		binding_join(binding);
	else
		binding_step(binding);
}

/* ---- life ---- */

struct binding *binding_create(struct buildkit *buildkit, const struct conn *client, const struct scope *scope,
                               const struct tenant_identity *identity)
{
	struct binding *binding = calloc(1, sizeof(*binding));

	if (!binding)
		return NULL;
	binding->buildkit = buildkit;
	binding->client = client;
	binding->scope = *scope;
	binding->account.bytes_max = BINDING_KEPT_BYTES_MAX;
	binding->timer.fn = binding_on_timer;
	snprintf(binding->tenant, sizeof(binding->tenant), "%s", identity->tenant);
	snprintf(binding->subject, sizeof(binding->subject), "%s", identity->subject);
	list_init(&binding->calls);
	list_init(&binding->uplinks);
	siblings_init(&binding->sessions);
	list_append(buildkit_bucket(buildkit, client), &binding->link);
	buildkit->bindings_count++;
	return binding;
}

void binding_join(struct binding *binding)
{
	if (binding->state != BINDING_CLOSED || !list_empty(&binding->calls) || !list_empty(&binding->uplinks) ||
	    op_in_flight(&binding->timer))
		return;
	CHECK(binding->account.bytes == 0);
	CHECK(binding->buildkit->bindings_count > 0);
	binding->buildkit->bindings_count--;
	free(binding);
}

void binding_close(struct binding *binding)
{
	binding->client = NULL;
	list_remove(&binding->link);
	binding_unbind(binding);
	binding_enter(binding, BINDING_CLOSED);
	list_for_each(link, &binding->uplinks)
		uplink_leave(container_of(link, struct uplink, link));
	ring_cancel(binding->buildkit->ring, &binding->timer);
	binding_join(binding);
}
