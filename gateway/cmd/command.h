/*
 * command: what `sluice NAME` does: one struct a subcommand, in a file of its own (push.c exports command_push), listed
 * in main.c's command_table.
 *
 * A command's run() gets argc and argv from its own name on, and returns an exit status. It begins like this, and
 * options_parse() has then dealt with --help, --config and every usage error:
 *
 *	struct push_options push;
 *	struct client_options client;
 *	void *const values[] = { &push, &client };       // in the order of command_push.groups
 *	CLEANUP(options_fini) struct options options;
 *	int status;
 *
 *	if (!options_parse(&options, &command_push, values, argc, argv, &status))
 *		return status;
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include "proto/grpc.h"

/* Scripts rely on these. `run` returns the action's own status instead when the action has run. */
enum exit_status {
	STATUS_OK = 0,
	STATUS_FAILURE = 1,
	STATUS_USAGE = 2,
	STATUS_INTERNAL = 100,           /* a bug here or at the gateway */
	STATUS_EXHAUSTED = 102,          /* the store, the disk, the queue or a quota is full */
	STATUS_INTERRUPTED = 130,
};

struct option_group;

struct command {
	const char *name;
	const char *summary;             /* one line for the list, no full stop */
	const char *help;                /* paragraphs, wrapped when shown, with at least one example: indented */
	int (*run)(int argc, char **argv);
	const char *operands;            /* for the usage line: "[DIR] -- COMMAND [ARG]..."; NULL: none are taken */
	const struct option_group *const *groups;        /* ends with NULL; NULL: only the common ones */
	bool serves;                     /* a daemon of the machine: its settings in /etc must be readable (options.h) */
};

/* All commands, in the order in which help lists them; ends with NULL. In main.c (tests bring their own). */
extern const struct command *const command_table[];

/* NULL: no such command. */
const struct command *command_find(const char *name);
/* The command that somebody who typed `name` may have meant; NULL when none is near. */
const struct command *command_suggest(const char *name);

/* `sluice help`, and `sluice help NAME`. */
void command_print_list(FILE *file);
void command_print_help(FILE *file, const struct command *command);

/*
 * "sluice push: …" on stderr, one line (clean.h) and with a full stop left to the caller. The first one adds where to read
 * more and returns STATUS_USAGE; the second returns STATUS_FAILURE.
 */
int command_usage(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
int command_fail(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The exit status that says what a call's status says, and what a -errno says. */
int command_status_grpc(enum grpc_status status);
int command_status_errno(int r);
