/* The broker of contexts, from its start to its end. */
#include "gateway/daemon/brokering.h"

#include <stdio.h>
#include <string.h>

#include "gateway/base/err.h"
#include "gateway/daemon/parts.h"

int brokering_start(struct daemon *daemon, char *why, size_t why_size)
{
	const struct daemon_config *config = daemon->config;
	char path[4096];
	int r;

	daemon->broker = (struct diffcopy_service){
		.cas = &daemon->cas, .mtime_trust = !config->mtime_distrust, .directory = config->store_path,
	};
	snprintf(path, sizeof(path), "%s/snapshots", config->store_path);
	r = stat_memory_create(&daemon->broker.memory, daemon->ring, path);
	if (r < 0)
		snprintf(why, why_size, "%s cannot be used: %s", path, strerror(-r));
	if (r < 0)
		return ERR_RAISE(r);
	snprintf(path, sizeof(path), "%s/claims", config->store_path);
	r = stable_create(&daemon->play.stable, daemon->ring, path);
	if (r < 0)
		snprintf(why, why_size, "%s cannot be used: %s", path, strerror(-r));
	return r < 0 ? ERR_RAISE(r) : 0;
}

static void brokering_on_saved(void *context)
{
	struct daemon *daemon = context;

	daemon->broker.memory = NULL;
}

static void brokering_on_stable_closed(void *context)
{
	struct daemon *daemon = context;

	daemon->play.stable = NULL;
}

void brokering_stop(struct daemon *daemon)
{
	play_service_fini(&daemon->play);
	if (daemon->play.stable)
		stable_destroy(daemon->play.stable, brokering_on_stable_closed, daemon);
	while (daemon->play.stable)
		ring_run(daemon->ring, UINT64_MAX);
	if (!daemon->broker.memory)
		return;
	stat_memory_destroy(daemon->broker.memory, brokering_on_saved, daemon);
	while (daemon->broker.memory)
		ring_run(daemon->ring, UINT64_MAX);
}
