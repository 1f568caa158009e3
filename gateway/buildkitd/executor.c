/* One executor: what its health check learns becomes its state, and reaches those who have it on lease. */
#include "gateway/buildkitd/executors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/buildkitd/executors_private.h"

static void executor_enter(struct executor *executor, enum executor_state state)
{
	CHECK(executor->state != EXECUTOR_DRAINING);
	executor->state = state;
}

static void executor_explain(struct executor *executor, const char *why)
{
	if (why != executor->why)
		snprintf(executor->why, sizeof(executor->why), "%s", why);
}

/* ---- it cannot be used ---- */

static struct lease *untold_lease(struct executor *executor)
{
	list_for_each(link, &executor->leases) {
		struct lease *lease = container_of(link, struct lease, link);

		if (lease->losses != executor->losses)
			return lease;
	}
	return NULL;
}

/* Any of them may release itself, or others, when it is told. */
static void tell_leases(struct executor *executor)
{
	struct lease *lease;

	executor->losses++;
	while ((lease = untold_lease(executor))) {
		lease->losses = executor->losses;
		if (lease->on_lost)
			lease->on_lost(lease, executor->why);
	}
}

void executor_lost(struct executor *executor, const char *why)
{
	bool was_reachable = executor->reachable, news = strcmp(executor->why, why) != 0;

	executor->reachable = false;
	if (executor->state == EXECUTOR_READY) {
		executor->executors->lost++;
		executor->away_since_ns = ring_now_ns(executor->executors->ring);
		executor_enter(executor, EXECUTOR_LOST);
	} else if (executor->state == EXECUTOR_REFUSED) {
		executor->away_since_ns = ring_now_ns(executor->executors->ring);
		executor_enter(executor, EXECUTOR_JOINING);
	}
	if (executor->state == EXECUTOR_DRAINING && !was_reachable)
		return;
	executor_explain(executor, why);
	if (news)
		log_event(LOG_WARNING, was_reachable ? "executor lost" : "executor not reachable",
		          LOG_TEXT("executor", executor->name), LOG_TEXT("tenant", executor->tenant->name), LOG_TEXT("reason", why));
	if (was_reachable)
		tell_leases(executor);
}

void executor_suspect(struct executor *executor, const char *why)
{
	if (executor->state == EXECUTOR_READY || executor->state == EXECUTOR_DRAINING) {
		executor_lost(executor, why);
		health_restart(executor, why);
	}
}

static void executor_refuse(struct executor *executor, const char *why)
{
	bool news = executor->state != EXECUTOR_REFUSED || strcmp(executor->why, why) != 0;

	executor_enter(executor, EXECUTOR_REFUSED);
	executor_explain(executor, why);
	if (news)
		log_event(LOG_WARNING, "executor refused", LOG_TEXT("executor", executor->name),
		          LOG_TEXT("tenant", executor->tenant->name), LOG_TEXT("reason", why));
}

/* ---- it can be used ---- */

static void executor_be_ready(struct executor *executor)
{
	executor_enter(executor, EXECUTOR_READY);
	executor->why[0] = '\0';
	log_event(LOG_INFO, "executor ready", LOG_TEXT("executor", executor->name),
	          LOG_TEXT("tenant", executor->tenant->name), LOG_U64("slots", executor->slots));
	if (!executor->leases_count)
		executor->idle_since_ns = ring_now_ns(executor->executors->ring);
	tenant_serve(executor->tenant);
}

/* One that stays away must not keep those out that could build: but it gets the time of a restart. */
static bool keeps_the_set(const struct executor *executor)
{
	const struct executors *executors = executor->executors;
	uint64_t kept_ns = EXECUTORS_SET_KEPT * executors->config.health_interval_ns;

	return executor->state == EXECUTOR_READY ||
	       (executor->state == EXECUTOR_LOST && ring_now_ns(executors->ring) - executor->away_since_ns < kept_ns);
}

static bool others_keep_the_set(const struct executor *executor)
{
	list_for_each(link, &executor->executors->all) {
		const struct executor *other = container_of(link, struct executor, link);

		if (other != executor && other->tenant == executor->tenant && keeps_the_set(other))
			return true;
	}
	return false;
}

static bool keep(struct buffer *kept, struct span answer)
{
	buffer_clear(kept);
	buffer_put(kept, answer.data, answer.size);
	return !kept->failed;
}

/* What it can is what the tenant's clients are told from now on. */
static bool executor_define(struct executor *executor, char *why, size_t why_size)
{
	struct executors_tenant *tenant = executor->tenant;
	const struct ask *ask = &executor->health.ask;

	tenant->common_known = false;
	capabilities_fini(&tenant->common);
	if (!capabilities_parse(&tenant->common, ask_answer(ask, ASK_WORKERS), ask_answer(ask, ASK_PING), why, why_size))
		return false;
	tenant->common_known = keep(&tenant->list_workers, ask_answer(ask, ASK_WORKERS)) &&
	                       keep(&tenant->info, ask_answer(ask, ASK_INFO)) &&
	                       keep(&tenant->pong, ask_answer(ask, ASK_PING));
	if (!tenant->common_known)
		snprintf(why, why_size, "out of memory");
	return tenant->common_known;
}

static void executor_judge(struct executor *executor)
{
	char missing[EXECUTOR_WHY_MAX - 100], why[EXECUTOR_WHY_MAX];

	if (!executor->tenant->common_known || !others_keep_the_set(executor)) {
		if (executor_define(executor, why, sizeof(why)))
			executor_be_ready(executor);
		else
			executor_refuse(executor, why);
		return;
	}
	if (capabilities_cover(&executor->capabilities, &executor->tenant->common, missing, sizeof(missing))) {
		executor_be_ready(executor);
		return;
	}
	snprintf(why, sizeof(why), "it lacks what the other executors of the tenant have: %s", missing);
	executor_refuse(executor, why);
}

void executor_answered(struct executor *executor, bool asked)
{
	const struct ask *ask = &executor->health.ask;
	char why[EXECUTOR_WHY_MAX];

	executor->reachable = true;
	if (asked) {
		capabilities_fini(&executor->capabilities);
		executor->understood = capabilities_parse(&executor->capabilities, ask_answer(ask, ASK_WORKERS),
		                                          ask_answer(ask, ASK_PING), why, sizeof(why));
	}
	if (executor->state == EXECUTOR_DRAINING || executor->state == EXECUTOR_READY)
		return;
	if (executor->understood)
		executor_judge(executor);
	else if (asked)
		executor_refuse(executor, why);
}

/* ---- the end ---- */

void executor_left(struct executor *executor)
{
	struct executors *executors = executor->executors;

	if (executor->leases_count)
		return;
	executor->idle_since_ns = ring_now_ns(executors->ring);
	if (executor->state == EXECUTOR_DRAINING)
		health_end(executor);
	else if (executors->config.on_idle)
		executors->config.on_idle(executors->config.context, executor);
}

void executor_drain(struct executor *executor, void (*gone)(void *context), void *context)
{
	if (executor->state != EXECUTOR_DRAINING) {
		executor_enter(executor, EXECUTOR_DRAINING);
		executor_explain(executor, "it is being drained");
		log_event(LOG_INFO, "executor draining", LOG_TEXT("executor", executor->name),
		          LOG_U64("leases", executor->leases_count));
	}
	if (gone) {
		CHECK(!executor->gone);
		executor->gone = gone;
		executor->gone_context = context;
	}
	if (!executor->leases_count)
		health_end(executor);
	tenant_refuse_hopeless(executor->tenant);
}

void executor_free(struct executor *executor)
{
	struct executors *executors = executor->executors;

	CHECK(executor->leases_count == 0);
	CHECK(health_ended(executor));
	affinities_forget(&executors->affinities, executor);
	leases_forget(executor);
	list_remove(&executor->link);
	executors->count--;
	executor->tenant->executors_count--;
	ask_fini(&executor->health.ask);
	capabilities_fini(&executor->capabilities);
	free(executor);
}

/* ---- what others may know ---- */

const char *executor_name(const struct executor *executor)
{
	return executor->name;
}

const char *executor_tenant(const struct executor *executor)
{
	return executor->tenant->name;
}

enum executor_state executor_state(const struct executor *executor)
{
	return executor->state;
}

const char *executor_why(const struct executor *executor)
{
	return executor->why;
}

bool executor_reachable(const struct executor *executor)
{
	return executor->reachable;
}

uint32_t executor_leases(const struct executor *executor)
{
	return executor->leases_count;
}

uint64_t executor_idle_since_ns(const struct executor *executor)
{
	return executor->idle_since_ns;
}

uint64_t executor_away_since_ns(const struct executor *executor)
{
	return executor->state == EXECUTOR_JOINING || executor->state == EXECUTOR_LOST ? executor->away_since_ns : UINT64_MAX;
}

int executor_connect(struct executor *executor, struct conn **conn, const struct conn_config *config, char *why,
                     size_t why_size)
{
	struct conn_config own = *config;
	int r;

	if (!executor->health.found) {
		snprintf(why, why_size, "executor %s: its name has not been resolved yet", executor->name);
		return ERR_RAISE(-EHOSTUNREACH);
	}
	if (!own.server_name)
		own.server_name = executor->server_name;
	r = conn_connect(conn, executor->executors->ring, &executor->health.place, executor->tls, &own, why, why_size);
	return r < 0 ? ERR_RAISE(r) : 0;
}
