/*
 * executor_process: which process an executor is, where the kernel says so: a buildkitd that listens on a unix socket
 * of this machine. What a daemon knows of builds dies with its process, so that it has ended says more than that a
 * connection has.
 *
 * Only the end is told, and never wrongly: a process that ended and whose id is another's by now, or was not waited
 * for, counts as there. Not known, and so never ended: behind TCP; in a process namespace that we do not see; when
 * somebody else than a buildkitd listens, as a proxy does, or systemd for it, for those may end, or stay, without the
 * daemon.
 *
 * System calls that do not block; from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct conn_peer;

/* Of a connection that stands: the process's id; 0: not known. */
uint32_t executor_process_of(const struct conn_peer *peer);
/* No process has that id any more. Never of 0. */
bool executor_process_ended(uint32_t process);
