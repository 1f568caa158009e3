/* The spawner between the pool of executors and the host's control stream. */
#include "gateway/daemon/spawning.h"

#include "gateway/admin/admin.h"
#include "gateway/base/log.h"
#include "gateway/buildkitd/spawner.h"
#include "gateway/daemon/parts.h"

/* ---- to the host ---- */

static int spawning_to_start(void *context, uint64_t id, const char *tenant, uint32_t number)
{
	return pool_spawn_start(((struct daemon *)context)->pool, id, tenant, number);
}

static int spawning_to_stop(void *context, uint64_t id)
{
	return pool_spawn_stop(((struct daemon *)context)->pool, id);
}

/* The host stays as long as the pool has users, and daemons need the host. */
static void spawning_on_closed(void *context)
{
	pool_leave(((struct daemon *)context)->pool);
}

/* ---- from the host ---- */

static void spawning_on_host(void *context, bool works, struct span why)
{
	spawner_on_host(((struct daemon *)context)->spawner, works, why);
}

static void spawning_on_host_lost(void *context)
{
	spawner_on_host_lost(((struct daemon *)context)->spawner);
}

static void spawning_on_event(void *context, const struct executor_spawn_event *event)
{
	struct spawner *spawner = ((struct daemon *)context)->spawner;

	if (event->state == EXECUTOR_SPAWN_READY)
		spawner_on_ready(spawner, event->id, event->socket);
	else if (event->state == EXECUTOR_SPAWN_ENDED)
		spawner_on_ended(spawner, event->id, event->why);
}

const struct pool_spawn_events spawning_events = {
	.on_host = spawning_on_host,
	.on_host_lost = spawning_on_host_lost,
	.on_event = spawning_on_event,
};

/* ---- life ---- */

/* What listens on the loopback is closed to daemons and their steps; what listens elsewhere is not. */
static void warn_of_admin(const struct daemon_config *config)
{
	enum spawn_network network = config->spawning.host.network;

	if (!config->admin || network == SPAWN_NETWORK_NONE)
		return;
	if (network != SPAWN_NETWORK_SLIRP || !admin_on_loopback(config->admin))
		log_event(LOG_WARNING, "steps of builds can reach the admin port", LOG_TEXT("admin", config->admin),
		          LOG_TEXT("network", spawn_network_names[network]));
}

int spawning_start(struct daemon *daemon, char *why, size_t why_size)
{
	const struct spawning_config *config = &daemon->config->spawning;
	const struct spawner_config spawner = {
		.ring = daemon->ring, .daemons_max = config->max, .tenant_max = config->tenant_max, .warm = config->warm,
		.warm_tenants = config->warm_tenants, .warm_tenants_count = config->warm_tenants_count, .slots = config->slots,
		.idle_ns = config->idle_ns, .start = spawning_to_start, .stop = spawning_to_stop, .on_closed = spawning_on_closed,
		.context = daemon,
	};
	int r;

	if (!config->host.enabled)
		return 0;
	r = spawner_create(&daemon->spawner, &spawner, why, why_size);
	if (r < 0)
		return r;
	pool_enter(daemon->pool);
	warn_of_admin(daemon->config);
	/* No host was started: nobody is let wait for one. */
	if (daemon->host_pid <= 0)
		spawner_on_host(daemon->spawner, false, span_text(daemon->no_executors));
	return 0;
}

void spawning_configure(const struct daemon *daemon, struct executors_config *config)
{
	if (!daemon->spawner)
		return;
	config->on_wanted = spawner_on_wanted;
	config->spawnable = spawner_spawnable;
	config->on_idle = spawner_on_idle;
	config->context = daemon->spawner;
}

void spawning_use(struct daemon *daemon)
{
	if (daemon->spawner)
		spawner_use(daemon->spawner, daemon->executors);
}

void spawning_close(struct daemon *daemon)
{
	if (daemon->spawner)
		spawner_close(daemon->spawner);
}

bool spawning_idle(const struct daemon *daemon)
{
	return !daemon->spawner || spawner_idle(daemon->spawner);
}

void spawning_stop(struct daemon *daemon)
{
	spawner_destroy(daemon->spawner);
	daemon->spawner = NULL;
}
