/*
 * oci_rig: two slots' workspaces with a small tree, a runtime that works, and commands in containers there. For tests, which need
 * root and a runtime: they are skipped loudly without. argv[1]: the init program; argv[2]: forbidden.c, built.
 */
#pragma once

#include "gateway/executor/oci.h"
#include "gateway/executor/workspace.h"
#include "tests/unit/context/tree_model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECOND       1000000000ull
#define OUTPUT_MAX   65536

/* Nothing else on the machine has these ids. */
#define UID_BASE     1900000000u

extern char top[64], slots[80], scratch[80];
extern const char *init_path, *forbidden_path;
extern struct oci_runtime runtime;
extern struct workspace *workspaces[2];

struct outcome {
	struct oci_result result;
	char out[OUTPUT_MAX], err[OUTPUT_MAX];
	size_t out_size, err_size;
	int cancel_fd;                   /* written to as soon as "ready" was put out; -1: never */
	char why[512];
};

/* Of a test: the workspaces, fresh; and that nothing is left. */
int rig_setup(void **state);
int rig_teardown(void **state);
/* All of a test program: `group` runs its tests, where they can be run. */
int rig_main(int argc, char **argv, int (*group)(void));

/* The slot's tree, as it would be made for this user inside. */
void give_tree(unsigned slot, uint32_t uid, uint32_t gid);

/* For struct oci_run: into the outcome that is its context. */
int on_output(void *context, int stream, const uint8_t *data, size_t size);
struct oci_command command_for(unsigned slot, const char *const *argv);
int run_command(unsigned slot, const struct oci_command *command, uint64_t timeout_ns, struct outcome *outcome);
/* In the first slot; the outcome is good until the next call. */
struct outcome *run_argv(const char *const *argv);
struct outcome *run_shell(const char *script);
void expect(const struct outcome *outcome, int status, const char *out);
/* Of processes: owned by one of our ranges of ids. */
size_t count_processes(void);
void expect_nothing_left(void);
