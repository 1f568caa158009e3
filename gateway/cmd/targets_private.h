/* targets_private: what the files that targets are made of share. */
#pragma once

#include "gateway/cmd/targets.h"
#include "gateway/context/ignore.h"
#include "proto/buffer.h"

struct need {
	char *name;
	unsigned line;
	struct target *target;           /* once all names are known */
};

enum mark {
	MARK_NONE,
	MARK_OPEN,                       /* on the way from the target where the walk began: met again, it is a cycle */
	MARK_DONE,
};

struct target {
	char *name;
	unsigned line;
	struct buffer lines;             /* patterns, as a .dockerignore */
	size_t lines_count;
	struct ignore *patterns;         /* NULL: none */
	struct need *needs;
	size_t needs_count, needs_capacity;
	size_t next;                     /* need to be walked into */
	enum mark mark;
	char *paths[TARGETS_REASONS_MAX];
	size_t paths_count;
	bool more, affected;
	struct target_command command;
	char *image, *working_directory;
	size_t visit;                    /* the last walk through needs that met it */
};

struct targets {
	struct target **items;           /* as in the file; when it was read, in order of their needs */
	size_t count, capacity;
	struct target **by_name;
	size_t needs_count, patterns_count, texts_count;
	size_t visits;
	struct target **stack;           /* of such a walk */
	const char **affected_needs;     /* lent by targets_reason() */
	uint8_t *states;                 /* of the directories of a path, for one target at a time */
};

/* As a .dockerignore would leave it out: by the patterns that match it or a directory that it is in. It has patterns. */
enum ignore_verdict targets_judge(struct targets *targets, const struct target *target, struct span path);
