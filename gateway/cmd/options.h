/*
 * options: the settings of a command, from one table a group. A setting comes from the first of these that has it:
 *
 *	1. the command line: --name VALUE, --name=VALUE, -n VALUE; for a flag --name or --name=false
 *	2. the environment; an empty variable counts as not set
 *	3. the configuration file: --config or SLUICE_CONFIG; without either ~/.config/sluice/sluice.yaml, then
 *	   /etc/sluice/sluice.yaml, each where it exists; not looked at for a command none of whose options has a key. One's own
 *	   that may not be read is named on stderr and skipped; the machine's is skipped in silence, but by a command that
 *	   `serves`: that is refused, or named on stderr where one's own was read
 *	4. the table's default
 *
 * A list is taken whole from the first source that names it. Options and operands may be mixed; `--` ends the options.
 * In a configuration file a key may be any command's; one that no command has is refused, with its line.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command;

/* What an option's value is, and the member that it is written to. */
enum option_kind {
	OPTION_FLAG,                     /* bool */
	OPTION_TEXT,                     /* const char *; NULL when not set and without a default */
	OPTION_BYTES,                    /* uint64_t: "512MB" */
	OPTION_SHARE,                    /* const char *: "512MB" or "10%", checked; the command asks units_parse_bytes() of what */
	OPTION_DURATION,                 /* uint64_t, nanoseconds, from `least` to OPTION_DURATION_MAX_NS: "150ms", "7d" */
	OPTION_NUMBER,                   /* uint64_t, between `least` and `most` */
	OPTION_CHOICE,                   /* int: index in `choices` */
	OPTION_LIST,                     /* struct option_list: one item each time it is given; in YAML a sequence */
};

enum {
	OPTION_LIST_MAX = 4096,          /* items */
	OPTION_CONFIG_BYTES_MAX = 1 << 20,
};

/* A hundred years, for those who mean never: it may be added to any time of a clock, several times over. */
#define OPTION_DURATION_MAX_NS (UINT64_C(36500) * 86400 * 1000000000)

struct option_list {
	const char **items;
	size_t count;
};

struct option {
	const char *name;                /* "tls-ca" */
	char letter;                     /* 0: none */
	enum option_kind kind;
	size_t offset;                   /* of the member in the group's values */
	const char *argument;            /* for help: "FILE"; NULL for a flag */
	const char *environment;         /* NULL: none */
	const char *key;                 /* in the configuration file: "tls.ca"; NULL: none */
	const char *fallback;            /* as it would be typed; NULL: false, NULL, 0 or empty */
	const char *help;                /* one sentence, no full stop */
	const char *const *choices;      /* OPTION_CHOICE; ends with NULL */
	uint64_t least, most;            /* OPTION_NUMBER; most 0: no bound. OPTION_DURATION: `least` 1 where 0 would mean nothing */
};

/* Options that belong together, and are shared by commands; one struct of values each. */
struct option_group {
	const char *title;               /* in help: "Options", "Gateway" */
	const struct option *options;
	size_t count;
};

#define OPTION_GROUP(title_, options_) { .title = (title_), .options = (options_), .count = sizeof(options_) / sizeof((options_)[0]) }

struct option_state;

/* The outcome of one parse. */
struct options {
	const struct command *command;
	char **operands;                 /* borrowed strings of argv */
	size_t operand_count;
	size_t separator;                /* index of the first operand after `--`; operand_count when there was no `--` */
	/* the rest is options.c's */
	struct option_state *states;
	size_t state_count;
	char **owned;
	size_t owned_count;
};

/*
 * `values[i]` is the struct that command->groups[i] writes to; all of its members that have an option are set. Texts
 * are borrowed from argv, the environment or `options`: valid until options_fini().
 *
 * False: the command ends here with `*status`, and what there was to say has been said (help on stdout, an error on
 * stderr).
 */
bool options_parse(struct options *options, const struct command *command, void *const *values, int argc, char **argv,
                   int *status);
void options_fini(struct options *options);

/* Whether anything but the table's default gave the option; `name` must be one of the command's. */
bool options_given(const struct options *options, const char *name);

/* The options that every command has: --config and --help; for help. */
extern const struct option_group options_common;
