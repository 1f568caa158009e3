/*
 * targets: a file that says what a repository builds: named sets of path patterns, and which target needs which. And
 * which of them a set of changed paths affects. docs/affected.md has the format:
 *
 *	targets:
 *	  proto:
 *	    paths: [proto, "!proto/doc"]            # as lines of a .dockerignore: the last that matches decides
 *	  server:
 *	    paths: [server]
 *	    needs: [proto]                          # affected with it
 *	    run: make -C server check               # what `sluice run --targets` runs: a shell's line, or a list
 *	    outputs: [server/bin]                   # and what that makes
 *	    env: [CI, "GOFLAGS=-mod=vendor"]
 *	    image: go-1.22
 *	    workdir: server
 *	    timeout: 10m
 *
 * Pure, but for targets_read(), which reads the file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "gateway/cmd/options.h"
#include "proto/span.h"

enum {
	TARGETS_MAX = 16384,
	TARGETS_NEEDS_MAX = 262144,      /* in all */
	TARGETS_PATTERNS_MAX = 262144,   /* in all; a target has IGNORE_PATTERNS_MAX at most */
	TARGETS_BYTES_MAX = 8 << 20,
	TARGETS_NAME_MAX = 255,
	TARGETS_REASONS_MAX = 16,        /* paths that are remembered for a target */
	TARGETS_TEXTS_MAX = 262144,      /* arguments, outputs and variables, in all */
};

struct targets;

/*
 * 0; -EINVAL with "FILE:LINE: …" in `why`: not such a file, one without a target (no line then), a pattern that means
 * nothing, a need that no target is, a cycle; or another -errno.
 */
int targets_read(struct targets **targets, const char *path, char *why, size_t why_size);
/* `name` stands for the file in what is said of it. */
int targets_parse(struct targets **targets, struct span text, const char *name, char *why, size_t why_size);
void targets_destroy(struct targets *targets);           /* NULL is accepted */

/* A path of the tree ("a/b/c") is not what it was. 0 or -ENOMEM. */
int targets_touch(struct targets *targets, const char *path);
/* No more paths: what needs an affected target is affected. */
void targets_settle(struct targets *targets);

struct target_reason {                   /* why a target is affected */
	const char *const *paths;        /* the first that were touched; borrowed */
	size_t paths_count;              /* TARGETS_REASONS_MAX at most */
	bool more;                       /* there are others */
	const char *const *needs;        /* affected ones among those that it needs; borrowed */
	size_t needs_count;
};

/* All of them, each after those that it needs, else in the order of the file. */
size_t targets_count(const struct targets *targets);
const char *targets_name(const struct targets *targets, size_t index);
bool targets_affected(const struct targets *targets, size_t index);
/* Valid until the next call of this function. */
struct target_reason targets_reason(struct targets *targets, size_t index);

/* What a target runs. Borrowed for the targets' life. */
struct target_command {
	bool shell;                      /* the one argument is a line for `sh -c` */
	struct option_list arguments;    /* empty: it runs nothing */
	struct option_list outputs, environment;
	const char *image, *working_directory;   /* NULL: not said */
	uint64_t timeout_ns;             /* 0: not said */
};
const struct target_command *targets_command(const struct targets *targets, size_t index);

/*
 * What a target is made of, for making a tree of it: its own paths, and those of all that it needs, directly or not.
 * TARGETS_MAY_HOLD: not itself, but something below may be, should it be a directory.
 */
enum target_part { TARGETS_NO_PART, TARGETS_MAY_HOLD, TARGETS_PART, TARGETS_WHOLE };
enum target_part targets_part(struct targets *targets, size_t index, const char *path);
