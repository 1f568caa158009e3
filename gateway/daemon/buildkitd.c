/* The pool and its source, from their start to their end. */
#include "gateway/daemon/buildkitd.h"

#include <stdio.h>

#include "gateway/base/err.h"
#include "gateway/daemon/parts.h"

int buildkitd_start(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	struct executors_config pool = { .ring = daemon->ring, .queue_timeout_ns = config->buildkit_queue_timeout_ns };
	struct executors_source_config source = {
		.ring = daemon->ring, .addresses = config->buildkit, .count = config->buildkit_count,
		.tenant = config->buildkit_tenant ? config->buildkit_tenant : "default",
	};
	int r;

	if (!config->buildkit_count && !daemon->spawner)
		return 0;
	spawning_configure(daemon, &pool);
	r = executors_create(&daemon->executors, &pool);
	if (r < 0) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(r);
	}
	spawning_use(daemon);
	source.executors = daemon->executors;
	r = executors_source_create(&daemon->executors_source, &source, why, why_size);
	return r < 0 ? ERR_RAISE(r) : 0;
}

void buildkitd_stop(struct daemon *daemon)
{
	if (!daemon->executors)
		return;
	if (daemon->executors_source)
		executors_source_close(daemon->executors_source);
	spawning_close(daemon);
	executors_close(daemon->executors);
	while (!executors_idle(daemon->executors) || !spawning_idle(daemon) ||
	       (daemon->executors_source && !executors_source_idle(daemon->executors_source)))
		ring_run(daemon->ring, UINT64_MAX);
	executors_destroy(daemon->executors);
	spawning_stop(daemon);
	executors_source_destroy(daemon->executors_source);
}
