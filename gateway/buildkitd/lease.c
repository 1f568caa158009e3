/* Leases: where they are placed, and the queue of those that find no place. */
#include <stdio.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/buildkitd/executors_private.h"

/* ---- placement ---- */

static bool has_room(const struct executor *executor)
{
	return executor->state == EXECUTOR_READY && executor->slots_busy < executor->slots;
}

/* By the share of its slots that are taken. */
static bool less_loaded(const struct executor *one, const struct executor *other)
{
	return (uint64_t)one->slots_busy * other->slots < (uint64_t)other->slots_busy * one->slots;
}

static bool lease_suits(const struct lease *lease, const struct executor *executor)
{
	return !lease->suits || lease->suits(lease, executor);
}

/* One that has room. */
struct candidate {
	struct executor *executor;       /* NULL: none */
	bool suits;
};

static bool is_better(struct candidate one, struct candidate other, const struct executor *warm)
{
	if (!other.executor || one.suits != other.suits)
		return !other.executor || one.suits;
	return other.executor != warm && (one.executor == warm || less_loaded(one.executor, other.executor));
}

static struct executor *lease_place(const struct lease *lease)
{
	struct executors *executors = lease->home->executors;
	const struct executor *warm = lease->affinity ? affinities_get(&executors->affinities, lease->affinity) : NULL;
	struct candidate best = { 0 };
	struct executor *avoided = NULL;
	bool others_ready = false;

	list_for_each(link, &executors->all) {
		struct executor *executor = container_of(link, struct executor, link);
		struct candidate candidate = { .executor = executor };

		if (executor->tenant != lease->home)
			continue;
		if (executor->state == EXECUTOR_READY && executor != lease->avoid)
			others_ready = true;
		if (!has_room(executor))
			continue;
		if (executor == lease->avoid) {
			avoided = executor;
			continue;
		}
		candidate.suits = lease_suits(lease, executor);
		if (is_better(candidate, best, warm))
			best = candidate;
	}
	return best.executor ? best.executor : others_ready ? NULL : avoided;
}

/* ---- the queue ---- */

static void queue_add(struct lease *lease)
{
	struct executors_tenant *tenant = lease->home;

	lease->waiting = true;
	list_append(&tenant->waiting, &lease->link);
	tenant->executors->waiting_count++;
	if (tenant->waiting_count++ == 0)
		list_append(&tenant->executors->turns, &tenant->turn);
}

static void queue_remove(struct lease *lease)
{
	struct executors_tenant *tenant = lease->home;

	lease->waiting = false;
	list_remove(&lease->link);
	tenant->executors->waiting_count--;
	if (--tenant->waiting_count == 0)
		list_remove(&tenant->turn);
}

static void lease_refuse(struct executors *executors, struct lease *lease, const char *why)
{
	if (lease->waiting)
		queue_remove(lease);
	lease->home = NULL;
	executors->leases_refused++;
	lease->on_refused(lease, why);
}

/* It comes elsewhere for what it is, not for what is there: the next one of its affinity is better off at the warm one. */
static bool lease_strays(const struct lease *lease, const struct executor *executor)
{
	const struct executor *warm = affinities_get(&executor->executors->affinities, lease->affinity);

	return warm && warm != executor && warm->state == EXECUTOR_READY && !lease_suits(lease, warm);
}

static void lease_grant(struct lease *lease, struct executor *executor)
{
	struct executors *executors = executor->executors;

	queue_remove(lease);
	lease->granted = true;
	lease->executor = executor;
	lease->losses = executor->losses;
	lease->slots = 1;
	list_append(&executor->leases, &lease->link);
	executor->leases_count++;
	executor->slots_busy++;
	executor->tenant->granted_count++;
	executors->leases_total++;
	if (lease->affinity && !lease_strays(lease, executor))
		affinities_set(&executors->affinities, lease->affinity, executor);
	lease->on_granted(lease);
}

static bool tenant_has_room(const struct executors_tenant *tenant)
{
	list_for_each(link, &tenant->executors->all) {
		const struct executor *executor = container_of(link, struct executor, link);

		if (executor->tenant == tenant && has_room(executor))
			return true;
	}
	return false;
}

/* The first one that can be placed: one that avoids the only executor with room does not stop the others. */
static bool tenant_grant_next(struct executors_tenant *tenant)
{
	if (!tenant->waiting_count || !tenant_has_room(tenant))
		return false;
	list_for_each(link, &tenant->waiting) {
		struct lease *lease = container_of(link, struct lease, link);
		struct executor *executor = lease_place(lease);

		if (!executor)
			continue;
		lease_grant(lease, executor);
		return true;
	}
	return false;
}

/* Whoever changes the queue from inside on_queued sets `again`. */
static void tenant_tell_positions(struct executors_tenant *tenant)
{
	uint32_t position = 0;

	list_for_each(link, &tenant->waiting) {
		struct lease *lease = container_of(link, struct lease, link);

		if (lease->position == ++position)
			continue;
		lease->position = position;
		if (lease->on_queued)
			lease->on_queued(lease, position, tenant->waiting_count);
		if (tenant->again)
			return;
	}
}

static void tenant_want(struct executors_tenant *tenant)
{
	struct executors *executors = tenant->executors;
	uint64_t now = ring_now_ns(executors->ring);

	if (!executors->config.on_wanted || !tenant->waiting_count || now < tenant->wanted_at_ns || executors->closing)
		return;
	tenant->wanted_at_ns = now + WANTED_INTERVAL_NS;
	executors->config.on_wanted(executors->config.context, tenant->name);
}

void tenant_serve(struct executors_tenant *tenant)
{
	tenant->again = true;
	if (tenant->serving)
		return;                                  /* from inside a callback: the loop below goes on */
	tenant->serving = true;
	while (tenant->again) {
		tenant->again = false;
		while (tenant_grant_next(tenant))
			;
		tenant_tell_positions(tenant);
	}
	tenant->serving = false;
	tenant_want(tenant);
}

/* ---- time ---- */

static void tick_arm(struct executors *executors)
{
	uint64_t now = ring_now_ns(executors->ring), at = now + WANTED_INTERVAL_NS;

	if (executors->waiting_count == 0 || executors->closing || op_in_flight(&executors->tick))
		return;
	list_for_each(link, &executors->turns) {
		const struct executors_tenant *tenant = container_of(link, struct executors_tenant, turn);
		const struct lease *first = container_of(tenant->waiting.next, struct lease, link);

		if (first->deadline_ns < at)
			at = first->deadline_ns;
	}
	ring_timer(executors->ring, &executors->tick, at > now ? at - now : 0);
}

/* Why nothing came: the first of its executors that is not ready says. */
static void describe_wait(const struct executors_tenant *tenant, char *why, size_t why_size)
{
	uint64_t seconds = (tenant->executors->config.queue_timeout_ns + 999999999u) / 1000000000u;
	size_t length;

	snprintf(why, why_size, "no executor of tenant %s became free in %llu s: try again later", tenant->name,
	         (unsigned long long)seconds);
	length = strlen(why);
	list_for_each(link, &tenant->executors->all) {
		const struct executor *executor = container_of(link, struct executor, link);

		if (executor->tenant != tenant || executor->state == EXECUTOR_READY)
			continue;
		snprintf(why + length, why_size - length, "; executor %s: %s", executor->name, executor->why);
		return;
	}
}

/* All wait equally long, so the first one is the one whose time is up first. */
static void tenant_expire(struct executors_tenant *tenant)
{
	struct executors *executors = tenant->executors;
	char why[EXECUTOR_WHY_MAX + EXECUTOR_NAME_MAX + 200];

	while (tenant->waiting_count) {
		struct lease *first = container_of(tenant->waiting.next, struct lease, link);

		if (first->deadline_ns > ring_now_ns(executors->ring))
			return;
		describe_wait(tenant, why, sizeof(why));
		lease_refuse(executors, first, why);
		tenant_serve(tenant);
	}
}

/* Each tenant that waits, once; another one is the first each time, so that a spawner hears them in turn. */
void executors_on_tick(struct op *op, int32_t res)
{
	struct executors *executors = container_of(op, struct executors, tick);
	uint32_t turns = 0;

	if (res < 0 || executors->closing)
		return;
	list_for_each(link, &executors->turns)
		turns++;
	for (uint32_t i = 0; i < turns && !list_empty(&executors->turns); i++) {
		struct list *link = list_take(&executors->turns);
		struct executors_tenant *tenant = container_of(link, struct executors_tenant, turn);

		list_append(&executors->turns, link);
		tenant_expire(tenant);
		tenant_refuse_hopeless(tenant);  /* a spawner may have learned that it starts none */
		tenant_want(tenant);
	}
	if (!list_empty(&executors->turns))
		list_append(&executors->turns, list_take(&executors->turns));
	tick_arm(executors);
}

/* ---- who is avoided ---- */

static void list_forget(const struct list *leases, const struct executor *executor)
{
	list_for_each(link, leases) {
		struct lease *lease = container_of(link, struct lease, link);

		if (lease->avoid == executor)
			lease->avoid = NULL;
	}
}

void leases_forget(const struct executor *executor)
{
	list_forget(&executor->tenant->waiting, executor);
	list_for_each(link, &executor->executors->all)
		list_forget(&container_of(link, struct executor, link)->leases, executor);
}

/* ---- hope ---- */

/* Whether an executor of the tenant may ever become free. */
static bool tenant_may_hope(const struct executors *executors, const char *name, bool waiting)
{
	list_for_each(link, &executors->all) {
		const struct executor *executor = container_of(link, struct executor, link);

		if (executor->state != EXECUTOR_DRAINING && strcmp(executor->tenant->name, name) == 0)
			return true;
	}
	return executors->config.spawnable && executors->config.spawnable(executors->config.context, name, waiting);
}

static void tenant_refuse_all(struct executors_tenant *tenant, const char *why)
{
	while (tenant->waiting_count)
		lease_refuse(tenant->executors, container_of(tenant->waiting.next, struct lease, link), why);
}

void tenant_refuse_hopeless(struct executors_tenant *tenant)
{
	if (tenant->waiting_count && !tenant_may_hope(tenant->executors, tenant->name, true))
		tenant_refuse_all(tenant, "no executor can become free for your tenant: the last one was taken away, or "
		                  "none can be started here now; ask the operator");
}

void executors_refuse_all(struct executors *executors, const char *why)
{
	while (!list_empty(&executors->turns))
		tenant_refuse_all(container_of(executors->turns.next, struct executors_tenant, turn), why);
}

/* ---- what owners of leases call ---- */

/* Finds the lease its tenant. False with `why`. */
static bool lease_admit(struct executors *executors, struct lease *lease, char *why, size_t why_size)
{
	struct executors_tenant *tenant;

	if (executors->closing) {
		snprintf(why, why_size, "the gateway is shutting down");
		return false;
	}
	if (!tenant_may_hope(executors, lease->tenant, false)) {
		snprintf(why, why_size, "no buildkitd serves your tenant here: ask the operator for one");
		return false;
	}
	tenant = executors_tenant_get(executors, lease->tenant);
	if (!tenant) {
		snprintf(why, why_size, "too many tenants build at the same time");
		return false;
	}
	if (tenant->waiting_count >= EXECUTORS_QUEUE_TENANT_MAX ||
	    (executors->waiting_count >= EXECUTORS_QUEUE_MAX && tenant->waiting_count >= EXECUTORS_QUEUE_SURE)) {
		snprintf(why, why_size, "%u builds wait for an executor already, %u of them your tenant's: try again later",
		         executors->waiting_count, tenant->waiting_count);
		return false;
	}
	lease->home = tenant;
	return true;
}

void lease_request(struct executors *executors, struct lease *lease)
{
	char why[200];

	lease->home = NULL;
	lease->executor = NULL;
	lease->waiting = lease->granted = false;
	lease->slots = lease->position = 0;
	lease->link = (struct list){ 0 };
	if (!lease_admit(executors, lease, why, sizeof(why))) {
		lease_refuse(executors, lease, why);
		return;
	}
	lease->deadline_ns = ring_now_ns(executors->ring) + executors->config.queue_timeout_ns;
	queue_add(lease);
	tenant_serve(lease->home);
	tick_arm(executors);
}

void lease_grow(struct lease *lease)
{
	CHECK(lease->granted);
	lease->slots++;
	lease->executor->slots_busy++;
}

void lease_shrink(struct lease *lease)
{
	CHECK(lease->granted);
	CHECK(lease->slots > 1);
	lease->slots--;
	lease->executor->slots_busy--;
	tenant_serve(lease->home);
}

bool lease_is_misplaced(const struct lease *lease)
{
	CHECK(lease->granted);
	if (lease_suits(lease, lease->executor))
		return false;
	list_for_each(link, &lease->home->executors->all) {
		const struct executor *executor = container_of(link, struct executor, link);

		if (executor->tenant == lease->home && executor != lease->executor && executor != lease->avoid && has_room(executor) &&
		    lease_suits(lease, executor))
			return true;
	}
	return false;
}

void lease_release(struct lease *lease)
{
	struct executors_tenant *tenant = lease->home;
	struct executor *executor = lease->executor;

	if (!tenant)
		return;
	if (lease->waiting) {
		queue_remove(lease);
		lease->home = NULL;
		tenant_serve(tenant);
		return;
	}
	CHECK(lease->granted);
	lease->granted = false;
	lease->home = NULL;
	lease->executor = NULL;
	list_remove(&lease->link);
	executor->leases_count--;
	executor->slots_busy -= lease->slots;
	tenant->granted_count--;
	tenant_serve(tenant);
	executor_left(executor);
}
