/*
 * impostor: a process of its own, a buildkitd by its name, that listens on a unix socket and carries each connection to
 * a stand-in in this process. To the kernel, and so to a gateway, it is the daemon, and it can be killed.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct impostor {
	pid_t pid;
	int orders, reports;
	char path[64];
};

/* Forks, so: before the test has threads. `name` is the process's; nothing listens yet. At most 63 bytes of path. */
void impostor_begin(struct impostor *impostor, const char *name, const char *path);
/* Listens, in the place of what was there, and carries connections to that port of 127.0.0.1; returns when it does. */
void impostor_serve(struct impostor *impostor, uint16_t target);
/* Killed, and waited for. */
void impostor_kill(struct impostor *impostor);
