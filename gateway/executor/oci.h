/*
 * oci: one command in a container, by an OCI runtime (runc, crun) through its command line.
 *
 * What the command gets: a user namespace (its root is `uid_base` on the host, of which nothing else is owned), new pid,
 * mount, ipc, uts and network namespaces (with `network` one that leads out, see network.h), a read-only root, `work_dir` at /work, a private /tmp,
 * a minimal /dev, /proc with the usual paths masked, no_new_privs, few capabilities inside its namespace only, and a
 * seccomp profile (seccomp.h). Its stdin is at its end. With `init_path` it is the child of a small init (init.c), which
 * reaps and hands on signals.
 *
 * The runtime starts the container detached; its init then becomes a child of this process, which is made a subreaper
 * (process-wide) by the first call. So an exit status comes from waitpid, and memory counters are read before the
 * container's cgroup goes. Nobody else in this process may wait for any child (waitpid(-1)).
 * Blocking (a start takes about 0.1 s); one thread a process object.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OCI_ID_MAX        64
#define OCI_HIDDEN_MAX    16

struct oci_runtime {
	char path[PATH_MAX];
	char version[128];               /* its first line of --version */
	char state_dir[PATH_MAX];        /* the runtime's --root */
	bool works;
	char why[512];                   /* of each runtime that did not: what it said */
};

struct oci_limits {
	uint64_t memory_bytes;           /* 0: none, of each */
	uint64_t cpu_millis;             /* thousandths of a core */
	uint64_t pids_max;
	uint64_t files_max;              /* open files of a process; 0: 65536. At most our own hard limit */
};

struct oci_command {
	const char *id;                  /* letters, digits, '-', '_', '.' */
	const char *const *argv;
	const char *const *env;          /* NAME=value; PATH and HOME get a default when they are missing. NULL: none */
	const char *cwd;                 /* inside; NULL: /work */
	struct oci_limits limits;
	bool network;                    /* a way out: network.h */
	uint32_t uid_base, uid_count;    /* mapped to 0 … uid_count - 1 inside; of no other container at the same time */
	uint32_t uid, gid;               /* inside */
	const char *work_dir;            /* the merged tree; NULL: no /work */
	const char *image_rootfs;        /* an extracted image; NULL: the host's /usr, /bin, /sbin, /lib* and a minimal /etc */
	const char *const *hidden;       /* host paths that are masked where a mount would show them. NULL: none */
	const char *bundle_dir;          /* an empty directory of this command's own; its parents must be searchable by anyone */
	const char *init_path;           /* the init program (static); NULL: the command is PID 1 itself */
};

struct oci_process;

/*
 * Finds a runtime that runs a trial container here, with all the settings above: `wanted` (a name or path), or the first of
 * crun, runc. `scratch_dir` (created when missing, mode 0711; others must be able to search it) is for the trial and the state.
 * 0, or -ENOENT with `runtime->why`.
 */
int oci_probe(struct oci_runtime *runtime, const char *wanted, const char *scratch_dir);

/*
 * Starts the command. `*stdout_fd` and `*stderr_fd` are the caller's to read until their ends and to close. 0; -ENOENT,
 * -EACCES: there is no such program, or it may not be executed (a shell's 127 and 126; with an init that exits so instead);
 * -EINVAL: bad command, or one longer than the kernel takes; -ENETUNREACH: the network that it wants cannot be had; else
 * -errno: nothing is said of the command.
 *
 * One container at a time in a process, and until its end nobody else may start children there: what a runtime leaves to
 * it is told from its own by that (orphans.h).
 */
int oci_start(struct oci_process **process, const struct oci_runtime *runtime, const struct oci_command *command,
              int *stdout_fd, int *stderr_fd, char *why, size_t why_size);

/* Kills all of its processes; may be called from any thread, any number of times, until oci_finish() is called. */
void oci_kill(struct oci_process *process);

/* Readable once the command has ended: to poll on. */
int oci_wait_fd(const struct oci_process *process);

/* Waits for the end, deletes the container and its cgroup, frees the object. `*exit_status`: 128 + signal when it was killed. 0 or -errno. */
int oci_finish(struct oci_process *process, int *exit_status, bool *out_of_memory);

/*
 * The whole of it: start, hand on what it writes, enforce the time-out, finish. `cancel_fd` (-1: none): when it becomes
 * readable, all is killed. `output` returning non-zero cancels too.
 */
struct oci_run {
	const struct oci_runtime *runtime;
	const struct oci_command *command;
	uint64_t timeout_ns;             /* 0: none */
	int cancel_fd;
	int (*output)(void *context, int stream /* 1 or 2 */, const uint8_t *data, size_t size);
	void *context;
};

struct oci_result {
	int exit_status;                 /* 127, 126 when the program is not there or not executable */
	bool out_of_memory, timed_out, cancelled;
};

int oci_run(const struct oci_run *run, struct oci_result *result, char *why, size_t why_size);

/* At start, after a crash: deletes the containers that a former process left in the state directory. */
void oci_cleanup_stale(const struct oci_runtime *runtime);

/* When a slot's process was killed: deletes the one container that was started from this bundle, if there is one. */
void oci_cleanup_bundle(const struct oci_runtime *runtime, const char *bundle_dir);
