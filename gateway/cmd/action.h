/* action: what `sluice run` asks for, as REAPI Command and Action bytes. Pure: the same wishes give the same digests. */
#pragma once

#include "gateway/cmd/options.h"
#include "proto/buffer.h"
#include "proto/digest.h"

struct action_wish {
	char *const *arguments;
	size_t arguments_count;
	const struct option_list *environment;   /* "NAME=VALUE", or "NAME": taken from ours, left out when it is not set */
	const struct option_list *outputs;
	const char *working_directory;   /* below the tree; NULL: its root */
	const char *image;               /* NULL: the host's /usr */
	bool no_cache, network;
	uint64_t timeout_ns, memory_bytes, cpu_millis, pids;
	struct digest root;
};

/* A directory that may be asked for: below the tree, without a slash before it or a way out. Whether it is there is not known here. */
bool action_directory_valid(const char *path);
/* "NAME=VALUE" or "NAME". */
bool action_variable_valid(const char *text);

/* False: out of memory, or longer than the buffer may be. */
bool action_command(const struct action_wish *wish, struct buffer *command);
bool action_encode(const struct action_wish *wish, const struct digest *command, struct buffer *action);
