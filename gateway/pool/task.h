/*
 * task: what a REAPI Action and its Command ask an executor to do. Pure. Unknown platform properties and fields are
 * ignored; `image` (an OCI layout's name; none: the host's /usr), `network` ("true"), `memory-bytes`, `cpu-millis` and
 * `pids` are known, the Action's platform before the Command's.
 */
#pragma once

#include "proto/buffer.h"
#include "proto/message.h"

#define TASK_TIMEOUT_MAX_MS (24ull * 3600 * 1000)        /* also where the Action says nothing */

struct task {
	struct digest command_digest, root;
	uint64_t timeout_ms;
	bool do_not_cache, network;
	uint64_t memory_bytes, cpu_millis, pids; /* 0: the executor's default */
	/* Borrowed from the two blobs. */
	struct span platform;            /* the Action's */
	struct span image, working_directory;
	struct message_list arguments, environment;
};

/* Each returns NULL, or one sentence that says what is wrong with the blob (static text). The Action comes first. */
const char *task_take_action(struct task *task, struct span action);
const char *task_take_command(struct task *task, struct span command);

/* As an executor's Assignment, sluice.v1. */
void task_encode(const struct task *task, uint64_t id, const char *tenant, struct buffer *assignment);
