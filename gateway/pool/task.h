/*
 * task: what a REAPI Action and its Command ask an executor to do. Pure. Unknown fields are ignored. Platform properties,
 * the Action's before the Command's; any other one is refused, since it might be what makes the result right:
 *
 *	image, container-image           an OCI layout's name, also with "docker://" before it; none: the host's /usr
 *	network, dockerNetwork           "true" or "false"; "standard", "bridge" or "off"
 *	memory-bytes, cpu-millis, pids   limits
 *	OSFamily, Arch, ISA              "Linux", and what this machine is
 *	Pool, cache-silo-key             "default"; anything, as it is part of what the cache goes by
 *	sluice-outputs                   "changes": the result is the tree of all that changed, not what the Command names
 */
#pragma once

#include "proto/buffer.h"
#include "proto/message.h"

#define TASK_TIMEOUT_MAX_MS (24ull * 3600 * 1000)        /* also where the Action says nothing */
#define TASK_OUTPUTS_MAX    4096
/* Limits that an Action may ask for: what kernels take. A runtime is told of more by numbers that have wrapped, or refused. */
#define TASK_MEMORY_MAX_BYTES (1ull << 62)
#define TASK_CPU_MILLIS_MAX   1000000u                   /* a thousand cores */
#define TASK_PIDS_MAX         4194304u

struct task {
	struct digest command_digest, root;
	uint64_t timeout_ms;
	bool do_not_cache, network, changes, unix_modes;
	uint64_t memory_bytes, cpu_millis, pids; /* 0: the executor's default */
	/* Borrowed from the two blobs. */
	struct span platform;            /* the Action's */
	struct span image, working_directory;
	struct message_list arguments, environment, output_files, output_directories, output_paths;
	char fault[200];
};

/* Each returns NULL, or one sentence that says what is wrong with the blob (static, or the task's). The Action comes first. */
const char *task_take_action(struct task *task, struct span action);
const char *task_take_command(struct task *task, struct span command);

/* As an executor's Assignment, sluice.v1. `instance`: its number (scope.h). */
void task_encode(const struct task *task, uint64_t id, const char *tenant, uint32_t instance, struct buffer *assignment);
