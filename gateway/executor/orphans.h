/*
 * orphans: what a runtime that failed, or was killed over its start, left to this process, which is their subreaper: a process
 * of the container's that nobody knows the id of, alive or not yet waited for.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/*
 * Kills and waits for what is left of the runtime's process group (0: it had none), and each child of this process that runs as one
 * of these users, as a container's own session is a group of its own. Only when none of them is waited for by anybody else: the range
 * belongs to one container at a time. Returns how many there were.
 */
unsigned orphans_end(pid_t group, uint32_t uid_base, uint32_t uid_count);
