/* Handlers note what happened; spawner_step() decides what is started and stopped. */
#include "gateway/buildkitd/spawner_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"

#define IDLE_NS_DEFAULT  600000000000ull
#define JOIN_NS_DEFAULT  30000000000ull
#define TICK_NS_DEFAULT  1000000000ull
#define RETRY_NS_DEFAULT 1000000000ull
#define WANTED_NS        1500000000ull   /* the pool repeats what it wants every second while somebody waits */
#define LIVED_RETRIES    60              /* one that lived so many times retry_ns is no failure of starting */
#define HOPELESS_FAILURES 3              /* in a row; then nobody is let wait until the next try */
#define NAME_MAX_BYTES   48

static void spawner_step(struct spawner *spawner);
static void spawner_on_tick(struct op *op, int32_t res);

/* ---- daemons ---- */

/* It comes to its end. One that lived was a start that went well: those that failed before it are none in a row with the next. */
static void daemon_note_life(struct daemon *daemon)
{
	const struct spawner *spawner = daemon->spawner;

	if (spawner_now_ns(spawner) - daemon->started_ns > LIVED_RETRIES * spawner->config.retry_ns)
		daemon->tenant->failures = 0;
}

/* A dead one has no process any more, and its root may have the next. */
static bool daemon_counts(const struct daemon *daemon)
{
	return daemon->state != DAEMON_DEAD;
}

static uint32_t daemons_count(const struct spawner *spawner, const struct spawner_tenant *tenant)
{
	uint32_t count = 0;

	list_for_each(link, &spawner->daemons) {
		const struct daemon *daemon = container_of(link, struct daemon, link);

		count += daemon_counts(daemon) && (!tenant || daemon->tenant == tenant);
	}
	return count;
}

/* Those that will have room, or may have it in a moment. */
static uint32_t daemons_serving(const struct spawner *spawner, const struct spawner_tenant *tenant, bool *coming)
{
	uint32_t count = 0;

	*coming = false;
	list_for_each(link, &spawner->daemons) {
		const struct daemon *daemon = container_of(link, struct daemon, link);

		if (daemon->tenant != tenant || daemon->state > DAEMON_SERVING)
			continue;
		count++;
		if (daemon->state == DAEMON_STARTING || executor_state(daemon->executor) == EXECUTOR_JOINING)
			*coming = true;
	}
	return count;
}

static struct daemon *daemon_find(const struct spawner *spawner, uint64_t id)
{
	list_for_each(link, &spawner->daemons) {
		struct daemon *daemon = container_of(link, struct daemon, link);

		if (daemon->id == id && daemon_counts(daemon))
			return daemon;
	}
	return NULL;
}

static uint32_t free_number(const struct spawner *spawner, const struct spawner_tenant *tenant)
{
	uint64_t used = 0;
	uint32_t number = 0;

	list_for_each(link, &spawner->daemons) {
		const struct daemon *daemon = container_of(link, struct daemon, link);

		if (daemon->tenant == tenant && daemon_counts(daemon))
			used |= 1ull << daemon->number;
	}
	while (used >> number & 1)
		number++;
	CHECK(number < SPAWNER_DAEMONS_MAX);
	return number;
}

static void daemon_enter(struct daemon *daemon, enum daemon_state state)
{
	CHECK(state > daemon->state);    /* the order of the enum is the only way */
	daemon->state = state;
}

static void daemon_free(struct daemon *daemon)
{
	CHECK(!daemon->executor);
	list_remove(&daemon->link);
	free(daemon);
}

static bool daemon_start(struct spawner *spawner, struct spawner_tenant *tenant)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));

	if (!daemon)
		return false;
	*daemon = (struct daemon){
		.spawner = spawner, .tenant = tenant, .id = ++spawner->last_id, .started_ns = spawner_now_ns(spawner),
		.number = free_number(spawner, tenant),
	};
	if (spawner->config.start(spawner->config.context, daemon->id, tenant->name, daemon->number) < 0) {
		free(daemon);
		return false;
	}
	list_append(&spawner->daemons, &daemon->link);
	spawner->started_total++;
	log_event(LOG_INFO, "buildkitd asked for", LOG_U64("id", daemon->id), LOG_TEXT("tenant", tenant->name),
	          LOG_U64("number", daemon->number));
	return true;
}

static void daemon_stop(struct daemon *daemon)
{
	if (!daemon->stop_sent)
		daemon->stop_sent = daemon->spawner->config.stop(daemon->spawner->config.context, daemon->id) == 0;
}

/* The pool has freed the executor: the last lease is gone. */
static void daemon_on_gone(void *context)
{
	struct daemon *daemon = context;
	struct spawner *spawner = daemon->spawner;

	daemon->executor = NULL;
	if (daemon->state == DAEMON_DEAD) {
		daemon_free(daemon);
	} else {
		CHECK(daemon->state == DAEMON_DRAINING);
		daemon_enter(daemon, DAEMON_STOPPING);
	}
	spawner_step(spawner);
}

static void daemon_drain(struct daemon *daemon, const char *reason)
{
	log_event(LOG_INFO, "buildkitd is to be stopped", LOG_U64("id", daemon->id), LOG_TEXT("tenant", daemon->tenant->name),
	          LOG_TEXT("reason", reason));
	daemon_note_life(daemon);
	daemon_enter(daemon, DAEMON_DRAINING);
	executor_drain(daemon->executor, daemon_on_gone, daemon);
}

/* ---- what is decided ---- */

static bool tenant_wants(const struct spawner *spawner, const struct spawner_tenant *tenant)
{
	bool coming;
	uint32_t serving = daemons_serving(spawner, tenant, &coming);
	uint64_t now = spawner_now_ns(spawner);

	if (tenant->not_before_ns > now || daemons_count(spawner, tenant) >= spawner->config.tenant_max)
		return false;
	if (tenant->warm && serving < spawner->config.warm)
		return true;
	return tenant->wanted_until_ns > now && !coming;
}

static bool is_joining(const struct daemon *daemon)
{
	return executor_state(daemon->executor) == EXECUTOR_JOINING &&
	       spawner_now_ns(daemon->spawner) - executor_idle_since_ns(daemon->executor) < daemon->spawner->config.join_ns;
}

/* Idle longest, and not one that is kept warm or still becomes ready. */
static struct daemon *idle_longest(const struct spawner *spawner)
{
	struct daemon *longest = NULL;

	list_for_each(link, &spawner->daemons) {
		struct daemon *daemon = container_of(link, struct daemon, link);
		bool coming;

		if (daemon->state != DAEMON_SERVING || executor_leases(daemon->executor) || is_joining(daemon))
			continue;
		if (daemon->tenant->warm && daemons_serving(spawner, daemon->tenant, &coming) <= spawner->config.warm)
			continue;
		if (!longest || executor_idle_since_ns(daemon->executor) < executor_idle_since_ns(longest->executor))
			longest = daemon;
	}
	return longest;
}

static void start_wanted(struct spawner *spawner)
{
	if (!spawner->host_works || spawner->closing)
		return;
	list_for_each(link, &spawner->tenants) {
		struct spawner_tenant *tenant = container_of(link, struct spawner_tenant, link);

		while (tenant_wants(spawner, tenant) && daemons_count(spawner, NULL) < spawner->config.daemons_max)
			if (!daemon_start(spawner, tenant))
				return;
	}
	/* Another tenant's turn comes first next time. */
	if (!list_empty(&spawner->tenants))
		list_append(&spawner->tenants, list_take(&spawner->tenants));
}

/* Not from inside the pool's calls: draining may reach other tenants' leases. */
static void make_room(struct spawner *spawner)
{
	struct daemon *daemon;

	if (!spawner->host_works || spawner->closing || daemons_count(spawner, NULL) < spawner->config.daemons_max)
		return;
	list_for_each(link, &spawner->daemons)
		if (container_of(link, struct daemon, link)->state == DAEMON_DRAINING ||
		    container_of(link, struct daemon, link)->state == DAEMON_STOPPING)
			return;          /* room is coming */
	list_for_each(link, &spawner->tenants) {
		if (!tenant_wants(spawner, container_of(link, struct spawner_tenant, link)))
			continue;
		daemon = idle_longest(spawner);
		if (daemon)
			daemon_drain(daemon, "another tenant needs its place");
		return;
	}
}

static void stop_idle(struct spawner *spawner)
{
	struct daemon *daemon = idle_longest(spawner);

	while (daemon && executor_idle_since_ns(daemon->executor) + spawner->config.idle_ns <= spawner_now_ns(spawner)) {
		spawner->idle_stopped_total++;
		daemon_drain(daemon, "idle");
		daemon = idle_longest(spawner);
	}
}

static bool has_failed(const struct daemon *daemon)
{
	uint64_t since = daemon->state == DAEMON_SERVING ? executor_away_since_ns(daemon->executor) : UINT64_MAX;
	uint64_t now = spawner_now_ns(daemon->spawner);

	return since < now && now - since >= daemon->spawner->config.join_ns && !executor_leases(daemon->executor);
}

/* One that hangs does not end by itself, and is the tenant's only one, perhaps. Who has it on lease finds out first. */
static void stop_failed(struct spawner *spawner)
{
	list_for_each(link, &spawner->daemons) {
		struct daemon *daemon = container_of(link, struct daemon, link);

		if (!has_failed(daemon))
			continue;
		daemon_drain(daemon, executor_why(daemon->executor));
		spawner_tenant_failed(spawner, daemon->tenant);
	}
}

/* Told once nothing waits for the pool: what is left to the host is to end its processes, which it does by itself, too. */
static void tell_closed(struct spawner *spawner)
{
	if (!spawner->closing || spawner->closed_told)
		return;
	list_for_each(link, &spawner->daemons) {
		const struct daemon *daemon = container_of(link, struct daemon, link);

		if (daemon->executor || (daemon->state == DAEMON_STOPPING && !daemon->stop_sent))
			return;
	}
	spawner->closed_told = true;
	ring_cancel(spawner->config.ring, &spawner->tick);
	spawner->config.on_closed(spawner->config.context);
}

static void arm(struct spawner *spawner)
{
	if (!spawner->closed_told && !op_in_flight(&spawner->tick) && (!list_empty(&spawner->tenants) || !list_empty(&spawner->daemons)))
		ring_timer(spawner->config.ring, &spawner->tick, spawner->config.tick_ns);
}

/* Starts and stops what can be; draining is left to the tick. */
static void spawner_step(struct spawner *spawner)
{
	list_for_each(link, &spawner->daemons) {
		struct daemon *daemon = container_of(link, struct daemon, link);

		if (daemon->state == DAEMON_STOPPING)
			daemon_stop(daemon);
	}
	start_wanted(spawner);
	tell_closed(spawner);
	arm(spawner);
}

static void spawner_on_tick(struct op *op, int32_t res)
{
	struct spawner *spawner = container_of(op, struct spawner, tick);

	if (res < 0 || spawner->closed_told)
		return;
	if (!spawner->closing) {
		stop_failed(spawner);
		stop_idle(spawner);
		make_room(spawner);
		spawner_tenants_forget(spawner);
	}
	spawner_step(spawner);
}

/* ---- from the pool ---- */

void spawner_on_wanted(void *context, const char *name)
{
	struct spawner *spawner = context;
	struct spawner_tenant *tenant = spawner->closing ? NULL : spawner_tenant_get(spawner, name);
	bool coming;

	if (!tenant)
		return;
	daemons_serving(spawner, tenant, &coming);
	if (coming)
		return;                  /* it is not known yet whether that one is enough; if not, this is said again */
	tenant->wanted_until_ns = spawner_now_ns(spawner) + WANTED_NS;
	spawner_step(spawner);
}

/* While starts fail those who wait do so for the next one, and who comes is told at once. */
bool spawner_spawnable(void *context, const char *name, bool waiting)
{
	struct spawner *spawner = context;
	const struct spawner_tenant *tenant = spawner_tenant_find(spawner, name);

	if (spawner->closing || strlen(name) >= EXECUTOR_TENANT_MAX)
		return false;
	if (spawner->host_heard && !spawner->host_works)
		return false;
	return waiting || !tenant || tenant->failures < HOPELESS_FAILURES || tenant->not_before_ns <= spawner_now_ns(spawner);
}

/* The tick sees how long it has been so. */
void spawner_on_idle(void *context, struct executor *executor)
{
	(void)executor;
	arm(context);
}

/* ---- from the host ---- */

void spawner_on_host(struct spawner *spawner, bool works, struct span why)
{
	spawner->host_heard = true;
	spawner->host_works = works;
	snprintf(spawner->why, sizeof(spawner->why), "%.*s", (int)why.size, (const char *)why.data);
	if (!works)
		log_event(LOG_ERROR, "no buildkitd is started here", LOG_TEXT("why", spawner->why));
	spawner_step(spawner);
}

void spawner_on_ready(struct spawner *spawner, uint64_t id, struct span socket)
{
	struct daemon *daemon = daemon_find(spawner, id);
	struct executor_config config = { .address.local = true, .slots = spawner->config.slots };
	char name[NAME_MAX_BYTES];
	int r;

	if (!daemon || daemon->state != DAEMON_STARTING)
		return;
	snprintf(name, sizeof(name), "spawn-%llu", (unsigned long long)id);
	config.name = name;
	config.tenant = daemon->tenant->name;
	r = socket.size < sizeof(config.address.host) ? 0 : -ENAMETOOLONG;
	snprintf(config.address.host, sizeof(config.address.host), "%.*s", (int)socket.size, (const char *)socket.data);
	if (!r)
		r = executors_add(spawner->executors, &daemon->executor, &config);
	if (r < 0) {
		log_event(LOG_WARNING, "buildkitd not taken into the pool", LOG_U64("id", id), LOG_TEXT("reason", err_text(r)));
		spawner_tenant_failed(spawner, daemon->tenant);
		daemon_enter(daemon, DAEMON_STOPPING);
	} else {
		log_event(LOG_INFO, "buildkitd listens", LOG_U64("id", id), LOG_TEXT("tenant", daemon->tenant->name),
		          LOG_U64("after_ms", (spawner_now_ns(spawner) - daemon->started_ns) / 1000000));
		daemon_enter(daemon, DAEMON_SERVING);
		daemon->tenant->wanted_until_ns = 0;
	}
	spawner_step(spawner);
}

static void daemon_died(struct daemon *daemon, const char *why)
{
	struct spawner *spawner = daemon->spawner;
	bool draining = daemon->state == DAEMON_DRAINING;
	uint64_t lived_ns = spawner_now_ns(spawner) - daemon->started_ns;

	spawner->died_total++;
	log_event(LOG_WARNING, "buildkitd died", LOG_U64("id", daemon->id), LOG_TEXT("tenant", daemon->tenant->name),
	          LOG_U64("lived_ms", lived_ns / 1000000), LOG_TEXT("why", why));
	daemon_note_life(daemon);
	spawner_tenant_failed(spawner, daemon->tenant);
	if (!daemon->executor) {
		daemon_free(daemon);
		return;
	}
	daemon_enter(daemon, DAEMON_DEAD);
	/* Who has it on lease and has not seen a connection break yet hears it from here. */
	executor_suspect(daemon->executor, why);
	executor_drain(daemon->executor, draining ? NULL : daemon_on_gone, daemon);
}

void spawner_on_ended(struct spawner *spawner, uint64_t id, struct span why)
{
	struct daemon *daemon = daemon_find(spawner, id);
	char text[EXECUTOR_WHY_MAX];

	if (!daemon)
		return;
	snprintf(text, sizeof(text), "%.*s", (int)why.size, (const char *)why.data);
	if (daemon->state == DAEMON_STOPPING) {
		log_event(LOG_INFO, "buildkitd stopped", LOG_U64("id", id), LOG_TEXT("why", text));
		daemon_free(daemon);
	} else {
		daemon_died(daemon, *text ? text : "it ended");
	}
	spawner_step(spawner);
}

void spawner_on_host_lost(struct spawner *spawner)
{
	spawner->host_works = false;
	snprintf(spawner->why, sizeof(spawner->why), "the executor host was lost; see the gateway's log");
	list_for_each_safe(link, after, &spawner->daemons) {
		struct daemon *daemon = container_of(link, struct daemon, link);

		if (daemon->state == DAEMON_STOPPING)
			daemon_free(daemon);
		else if (daemon_counts(daemon))
			daemon_died(daemon, spawner->why);
	}
	spawner_step(spawner);
}

/* ---- life ---- */

static bool bounds_agree(const struct spawner_config *config, char *why, size_t why_size)
{
	if (config->daemons_max == 0 || config->daemons_max > SPAWNER_DAEMONS_MAX) {
		snprintf(why, why_size, "between 1 and %d buildkitd processes can be kept, not %u", SPAWNER_DAEMONS_MAX,
		         config->daemons_max);
		return false;
	}
	if (config->warm > config->tenant_max) {
		snprintf(why, why_size, "%u buildkitd processes of a tenant cannot be kept warm when it may have %u", config->warm,
		         config->tenant_max);
		return false;
	}
	if (config->warm * config->warm_tenants_count > config->daemons_max) {
		snprintf(why, why_size, "%zu buildkitd processes are to be kept warm, and there may be %u in all",
		         (size_t)config->warm * config->warm_tenants_count, config->daemons_max);
		return false;
	}
	return true;
}

int spawner_create(struct spawner **out, const struct spawner_config *config, char *why, size_t why_size)
{
	struct spawner *spawner = calloc(1, sizeof(*spawner));

	if (!spawner) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	spawner->config = *config;
	spawner->config.tenant_max = config->tenant_max ? config->tenant_max : 1;
	spawner->config.idle_ns = config->idle_ns ? config->idle_ns : IDLE_NS_DEFAULT;
	spawner->config.join_ns = config->join_ns ? config->join_ns : JOIN_NS_DEFAULT;
	spawner->config.tick_ns = config->tick_ns ? config->tick_ns : TICK_NS_DEFAULT;
	spawner->config.retry_ns = config->retry_ns ? config->retry_ns : RETRY_NS_DEFAULT;
	spawner->tick.fn = spawner_on_tick;
	list_init(&spawner->tenants);
	list_init(&spawner->daemons);
	if (!bounds_agree(&spawner->config, why, why_size)) {
		spawner_destroy(spawner);
		return ERR_RAISE(-EINVAL);
	}
	for (size_t i = 0; i < config->warm_tenants_count && config->warm; i++) {
		struct spawner_tenant *tenant = spawner_tenant_get(spawner, config->warm_tenants[i]);

		if (!tenant) {
			snprintf(why, why_size, "\"%.100s\" is no name of a tenant", config->warm_tenants[i]);
			spawner_destroy(spawner);
			return ERR_RAISE(-EINVAL);
		}
		tenant->warm = true;
	}
	*out = spawner;
	return 0;
}

void spawner_use(struct spawner *spawner, struct executors *executors)
{
	spawner->executors = executors;
}

void spawner_close(struct spawner *spawner)
{
	if (spawner->closing)
		return;
	spawner->closing = true;
	list_for_each(link, &spawner->daemons) {
		struct daemon *daemon = container_of(link, struct daemon, link);

		if (daemon->state == DAEMON_STARTING)
			daemon_enter(daemon, DAEMON_STOPPING);
		else if (daemon->state == DAEMON_SERVING)
			daemon_drain(daemon, "the gateway is shutting down");
	}
	spawner_step(spawner);
}

bool spawner_idle(const struct spawner *spawner)
{
	return spawner->closed_told && !op_in_flight(&spawner->tick);
}

void spawner_destroy(struct spawner *spawner)
{
	struct list *link;

	if (!spawner)
		return;
	CHECK(!op_in_flight(&spawner->tick));
	while ((link = list_take(&spawner->daemons)))    /* those that the host ends by itself */
		free(container_of(link, struct daemon, link));
	while ((link = list_take(&spawner->tenants)))
		free(container_of(link, struct spawner_tenant, link));
	free(spawner);
}

void spawner_status(const struct spawner *spawner, struct spawner_status *status)
{
	*status = (struct spawner_status){
		.daemons = daemons_count(spawner, NULL), .started_total = spawner->started_total,
		.died_total = spawner->died_total, .idle_stopped_total = spawner->idle_stopped_total,
	};
	list_for_each(link, &spawner->daemons)
		status->starting += container_of(link, struct daemon, link)->state == DAEMON_STARTING;
}
