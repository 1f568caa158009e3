/* spawning: buildkitd processes that the executor host starts for this gateway (`--spawn`). For daemon.c and buildkitd.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "gateway/buildkitd/executors.h"
#include "gateway/executor/host.h"
#include "gateway/pool/pool.h"

struct daemon;

/* Settings of `serve`. */
struct spawning_config {
	struct host_spawn host;          /* `enabled` is whether there is any of this */
	uint32_t max, tenant_max, warm, slots;
	const char *const *warm_tenants;
	size_t warm_tenants_count;
	uint64_t idle_ns;
};

extern const struct pool_spawn_events spawning_events;   /* `context` is the daemon */

/* Nothing when it is not enabled. After the action pool was made, before the executors. 0 or -errno with `why`. */
int spawning_start(struct daemon *daemon, char *why, size_t why_size);
/* Adds the spawner's part, so that executors are asked for. */
void spawning_configure(const struct daemon *daemon, struct executors_config *config);
/* Once the executors were made. */
void spawning_use(struct daemon *daemon);
/* No new ones; the host may go once the builds on those that there are have ended. Twice is as good as once. */
void spawning_close(struct daemon *daemon);
bool spawning_idle(const struct daemon *daemon);
void spawning_stop(struct daemon *daemon);       /* idle, the executors destroyed */
