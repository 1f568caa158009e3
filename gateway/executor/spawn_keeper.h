/* spawn_keeper: the process that starts one daemon, watches it and cleans up after it. Blocking; forked by spawns.c. */
#pragma once

#include "gateway/executor/spawns.h"

struct spawn_keeper {
	const struct spawn_config *config;
	uint64_t id;
	struct span tenant;
	uint32_t number;
	int stop_fd;                     /* at its end: stop */
	int event_fd;                    /* a pipe; a struct spawn_event is one write */
};

/* Until the daemon has ended; the process's exit status. */
int spawn_keep(const struct spawn_keeper *keeper);
