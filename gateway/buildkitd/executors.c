/* The pool itself: its executors, its tenants, and its end. */
#include "gateway/buildkitd/executors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/buildkitd/executors_private.h"

/* ---- tenants ---- */

static void tenant_free(struct executors_tenant *tenant)
{
	list_remove(&tenant->link);
	tenant->executors->tenants_count--;
	capabilities_fini(&tenant->common);
	buffer_fini(&tenant->list_workers);
	buffer_fini(&tenant->info);
	buffer_fini(&tenant->pong);
	free(tenant->name);
	free(tenant);
}

struct executors_tenant *executors_tenant_find(const struct executors *executors, const char *name)
{
	list_for_each(link, &executors->tenants) {
		struct executors_tenant *tenant = container_of(link, struct executors_tenant, link);

		if (strcmp(tenant->name, name) == 0)
			return tenant;
	}
	return NULL;
}

/* One that nothing holds on to is forgotten. */
static bool tenants_make_room(struct executors *executors)
{
	if (executors->tenants_count < EXECUTORS_TENANTS_MAX)
		return true;
	list_for_each(link, &executors->tenants) {
		struct executors_tenant *tenant = container_of(link, struct executors_tenant, link);

		if (tenant->executors_count || tenant->granted_count || tenant->waiting_count || tenant->serving)
			continue;
		tenant_free(tenant);
		return true;
	}
	return false;
}

struct executors_tenant *executors_tenant_get(struct executors *executors, const char *name)
{
	struct executors_tenant *tenant = executors_tenant_find(executors, name);

	if (tenant)
		return tenant;
	if (!tenants_make_room(executors))
		return NULL;
	tenant = calloc(1, sizeof(*tenant));
	if (!tenant)
		return NULL;
	tenant->name = strdup(name);
	if (!tenant->name) {
		free(tenant);
		return NULL;
	}
	tenant->executors = executors;
	tenant->list_workers = tenant->info = tenant->pong = buffer_heap(ASK_ANSWER_BYTES_MAX);
	list_init(&tenant->waiting);
	list_append(&executors->tenants, &tenant->link);
	executors->tenants_count++;
	return tenant;
}

/* ---- executors ---- */

static bool name_is_taken(const struct executors *executors, const char *tenant, const char *name)
{
	const struct executor *executor = executors_find(executors, tenant, name);

	return executor && executor->state != EXECUTOR_DRAINING;
}

/* A daemon's cache is one tenant's (DESIGN.md decision 10); what two host names stand for is not seen through here. */
static bool address_is_anothers(const struct executors *executors, const struct executor_config *config)
{
	list_for_each(link, &executors->all) {
		const struct executor *executor = container_of(link, struct executor, link);

		if (strcmp(executor->address.host, config->address.host) == 0 &&
		    strcmp(executor->address.port, config->address.port) == 0 &&
		    strcmp(executor->tenant->name, config->tenant) != 0)
			return true;
	}
	return false;
}

int executors_add(struct executors *executors, struct executor **out, const struct executor_config *config)
{
	struct executors_tenant *tenant;
	struct executor *executor;

	if (executors->closing)
		return ERR_RAISE(-ESHUTDOWN);
	if (name_is_taken(executors, config->tenant, config->name))
		return ERR_RAISE(-EEXIST);
	if (address_is_anothers(executors, config))
		return ERR_RAISE(-EADDRINUSE);
	if (executors->count == EXECUTORS_MAX)
		return ERR_RAISE(-ENOSPC);
	tenant = executors_tenant_get(executors, config->tenant);
	if (!tenant)
		return ERR_RAISE(executors->tenants_count == EXECUTORS_TENANTS_MAX ? -ENOSPC : -ENOMEM);
	executor = calloc(1, sizeof(*executor));
	if (!executor)
		return ERR_RAISE(-ENOMEM);
	executor->executors = executors;
	executor->tenant = tenant;
	executor->address = config->address;
	executor->tls = config->tls;
	executor->slots = config->slots ? config->slots : EXECUTOR_SLOTS_DEFAULT;
	executor->idle_since_ns = executor->away_since_ns = ring_now_ns(executors->ring);
	snprintf(executor->name, sizeof(executor->name), "%s", config->name);
	snprintf(executor->server_name, sizeof(executor->server_name), "%s",
	         config->server_name ? config->server_name : config->address.host);
	snprintf(executor->why, sizeof(executor->why), "it was not heard of yet");
	list_init(&executor->leases);
	list_append(&executors->all, &executor->link);
	executors->count++;
	tenant->executors_count++;
	health_start(executor);
	if (out)
		*out = executor;
	return 0;
}

void executors_visit(const struct executors *executors, const char *tenant,
                     void (*visit)(void *context, struct executor *executor), void *context)
{
	list_for_each(link, &executors->all) {
		struct executor *executor = container_of(link, struct executor, link);

		if (!tenant || strcmp(executor->tenant->name, tenant) == 0)
			visit(context, executor);
	}
}

struct executor *executors_find(const struct executors *executors, const char *tenant, const char *name)
{
	struct executor *found = NULL;

	list_for_each(link, &executors->all) {
		struct executor *executor = container_of(link, struct executor, link);

		if (strcmp(executor->name, name) != 0 || strcmp(executor->tenant->name, tenant) != 0)
			continue;
		if (executor->state != EXECUTOR_DRAINING)
			return executor;
		found = executor;
	}
	return found;
}

void executors_answers(const struct executors *executors, const char *name, struct executors_answers *answers)
{
	const struct executors_tenant *tenant = executors_tenant_find(executors, name);

	*answers = (struct executors_answers){ 0 };
	if (!tenant || !tenant->common_known)
		return;
	answers->list_workers = buffer_span(&tenant->list_workers);
	answers->info = buffer_span(&tenant->info);
	answers->pong = buffer_span(&tenant->pong);
}

void executors_status(const struct executors *executors, struct executors_status *status)
{
	*status = (struct executors_status){
		.executors = executors->count, .waiting = executors->waiting_count, .leases_total = executors->leases_total,
		.leases_refused = executors->leases_refused, .executors_lost = executors->lost,
	};
	list_for_each(link, &executors->all) {
		const struct executor *executor = container_of(link, struct executor, link);

		status->slots_busy += executor->slots_busy;
		if (executor->state != EXECUTOR_READY)
			continue;
		status->executors_ready++;
		status->slots += executor->slots;
	}
}

/* ---- the end of executors ---- */

/*
 * Freed here alone, from the loop: what tells leases of a loss, or serves them, may look at an executor again after a
 * callback that released its last lease.
 */
static void executors_on_sweep(struct op *op, int32_t res)
{
	struct executors *executors = container_of(op, struct executors, sweep);

	(void)res;
	list_for_each_safe(link, after, &executors->all) {
		struct executor *executor = container_of(link, struct executor, link);
		void (*gone)(void *context) = executor->gone;
		void *context = executor->gone_context;

		if (executor->state != EXECUTOR_DRAINING || executor->leases_count || !health_ended(executor))
			continue;
		log_event(LOG_INFO, "executor gone", LOG_TEXT("executor", executor->name));
		executor_free(executor);
		if (gone)
			gone(context);
	}
}

void executors_sweep_later(struct executors *executors)
{
	if (!op_in_flight(&executors->sweep))
		ring_timer(executors->ring, &executors->sweep, 0);
}

/* ---- life ---- */

int executors_create(struct executors **out, const struct executors_config *config)
{
	struct executors *executors = calloc(1, sizeof(*executors));

	if (!executors)
		return ERR_RAISE(-ENOMEM);
	executors->ring = config->ring;
	executors->config = *config;
	if (!config->queue_timeout_ns)
		executors->config.queue_timeout_ns = QUEUE_TIMEOUT_NS;
	if (!config->health_interval_ns)
		executors->config.health_interval_ns = HEALTH_INTERVAL_NS;
	if (!config->answer_timeout_ns)
		executors->config.answer_timeout_ns = ANSWER_TIMEOUT_NS;
	executors->tick.fn = executors_on_tick;
	executors->sweep.fn = executors_on_sweep;
	list_init(&executors->all);
	list_init(&executors->tenants);
	list_init(&executors->turns);
	affinities_init(&executors->affinities);
	*out = executors;
	return 0;
}

void executors_close(struct executors *executors)
{
	if (executors->closing)
		return;
	executors->closing = true;
	executors_refuse_all(executors, "the gateway is shutting down");
	ring_cancel(executors->ring, &executors->tick);
	list_for_each(link, &executors->all)
		health_end(container_of(link, struct executor, link));
}

bool executors_idle(const struct executors *executors)
{
	if (!executors->closing || op_in_flight(&executors->tick) || op_in_flight(&executors->sweep))
		return false;
	list_for_each(link, &executors->all) {
		const struct executor *executor = container_of(link, struct executor, link);

		if (!health_ended(executor) || executor->leases_count)
			return false;
	}
	return true;
}

void executors_destroy(struct executors *executors)
{
	if (!executors)
		return;
	CHECK(executors_idle(executors));
	list_for_each_safe(link, after, &executors->all)
		executor_free(container_of(link, struct executor, link));
	list_for_each_safe(link, after, &executors->tenants)
		tenant_free(container_of(link, struct executors_tenant, link));
	free(executors);
}

uint64_t executors_queue_timeout_ns(const struct executors *executors)
{
	return executors->config.queue_timeout_ns;
}

void executors_set_tls(struct executors *executors, const struct tls_context *before, struct tls_context *after)
{
	list_for_each(link, &executors->all) {
		struct executor *executor = container_of(link, struct executor, link);

		if (executor->tls == before)
			executor->tls = after;
	}
}
