/*
 * spawn_cgroup: the cgroup of one daemon, in every hierarchy that is mounted (version 1, 2 or both): /sluice-buildkit/NAME,
 * and a cgroup namespace that begins there. It carries the daemon's limits, keeps it from seeing the cgroups of others,
 * and is how what is left of a daemon is found and killed. Blocking; root.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SPAWN_CGROUP_HIERARCHIES_MAX 32
#define SPAWN_CGROUP_NAME_MAX        96
#define SPAWN_CGROUP_OPTIONS_MAX     512

struct spawn_limits {
	uint64_t memory_bytes;           /* 0: none, of each */
	uint32_t cpu_millis;
	uint32_t pids_max;
};

struct spawn_hierarchy {
	char mount[128];                 /* where the host has it: "/sys/fs/cgroup/memory" */
	char options[SPAWN_CGROUP_OPTIONS_MAX];  /* version 1: its controllers or its name, as mount(2) wants them */
	bool unified;                    /* version 2 */
};

struct spawn_cgroup {
	struct spawn_hierarchy hierarchies[SPAWN_CGROUP_HIERARCHIES_MAX];
	size_t count;                    /* 0: this machine has none that can be used */
	char name[SPAWN_CGROUP_NAME_MAX];
};

/*
 * One line of mountinfo: "... ROOT MOUNT OPTIONS - TYPE SOURCE SUPER". True: it is a hierarchy at or below /sys/fs/cgroup; one
 * whose place or options do not fit is none.
 */
bool spawn_hierarchy_read(struct spawn_hierarchy *hierarchy, const char *line);
/* Finds the hierarchies. 0, or -ENOENT with `why`: none is mounted, or none can be written to. */
int spawn_cgroup_init(struct spawn_cgroup *cgroup, const char *name, char *why, size_t why_size);
/* Makes it anew: kills who is in there, removes it, and sets the limits. 0 or -errno. */
int spawn_cgroup_make(const struct spawn_cgroup *cgroup, const struct spawn_limits *limits, char *why, size_t why_size);
/* Moves a process, by its id as the caller sees it. */
int spawn_cgroup_join(const struct spawn_cgroup *cgroup, pid_t pid, char *why, size_t why_size);
/*
 * In the process that joined: its own cgroup namespace, with the hierarchies mounted below `directory` as they are
 * below the host's /sys/fs/cgroup. With version 2 it moves on to a child of its own, so that its containers' cgroups
 * may have controllers.
 */
int spawn_cgroup_enter(const struct spawn_cgroup *cgroup, const char *directory, char *why, size_t why_size);
/* Kills who is in there, waits for their end (5 s at most) and removes it. What is not there is no error. */
int spawn_cgroup_remove(const struct spawn_cgroup *cgroup);
