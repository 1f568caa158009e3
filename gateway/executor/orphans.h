/*
 * orphans: what a runtime left to this process, which is their subreaper: a process that nobody knows the id of,
 * alive or not yet waited for. It may be a container's, of a start that failed or was killed, or a helper of the
 * runtime's own: crun forks one into a session of its own, which does all the work, and lets go of it. So it has any
 * user, group and name; what tells it from this process's own children is that it was not there before.
 *
 * From orphans_note() to orphans_end() nobody else may start a child of this process: one container at a time.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define ORPHANS_KNOWN_MAX 128            /* children that this process may have; with more, nothing is ended but the group */

struct orphans {
	pid_t known[ORPHANS_KNOWN_MAX];
	unsigned known_count;
	bool known_all;
};

/* Before a runtime is started. */
void orphans_note(struct orphans *orphans);
/*
 * Once it has ended, and its container, if there was one, was waited for: kills and waits for what is left of its
 * process group (0: it had none), and for each child that this process has come to since orphans_note(). Returns how
 * many there were.
 */
unsigned orphans_end(const struct orphans *orphans, pid_t group);
