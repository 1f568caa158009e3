/* options: reads the command line into assignments, then applies default, file, environment and those, in that order. */
#include "gateway/cmd/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/units.h"
#include "gateway/base/user.h"
#include "gateway/cmd/command.h"
#include "gateway/cmd/config_file.h"
#include "gateway/cmd/suggest.h"

#define SYSTEM_CONFIG "/etc/sluice/sluice.yaml"

enum source { SOURCE_NONE, SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_COMMAND_LINE };

struct option_state {
	const struct option *option;
	void *member;
	enum source source;
	const char **items;              /* of a list: ours, also once the caller's values are gone */
	size_t list_room;
};

struct common_values {
	const char *config;
	bool help;
};

static const struct option common_options[] = {
	{ .name = "config", .kind = OPTION_TEXT, .offset = offsetof(struct common_values, config), .argument = "FILE",
	  .environment = "SLUICE_CONFIG",
	  .help = "read settings from FILE instead of ~/.config/sluice/sluice.yaml and " SYSTEM_CONFIG },
	{ .name = "help", .letter = 'h', .kind = OPTION_FLAG, .offset = offsetof(struct common_values, help),
	  .help = "say what the command does" },
};

const struct option_group options_common = OPTION_GROUP("Common options", common_options);

/* One option as the command line gave it. */
struct assignment {
	struct option_state *state;
	const char *value;
};

struct parse {
	struct options *options;
	struct common_values common;
	struct assignment *assignments;
	size_t assignment_count;
	int argc, next;
	char **argv;
	char why[1024];
};

static __attribute__((format(printf, 2, 3))) bool refuse(struct parse *parse, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(parse->why, sizeof(parse->why), format, arguments);
	va_end(arguments);
	return false;
}

/* ---- one value ---- */

static bool list_add(struct option_state *state, bool restart, const char *text)
{
	struct option_list *list = state->member;

	if (restart)
		list->count = 0;
	if (list->count == state->list_room) {
		size_t room = state->list_room ? state->list_room * 2 : 8;
		const char **items = list->count < OPTION_LIST_MAX ? realloc(list->items, room * sizeof(*items)) : NULL;

		if (!items)
			return false;
		list->items = state->items = items;
		state->list_room = room;
	}
	list->items[list->count++] = text;
	return true;
}

static bool parse_flag(const char *text, bool *value)
{
	static const char *const yes[] = { "true", "yes", "on", "1" }, *const no[] = { "false", "no", "off", "0" };

	for (size_t i = 0; i < 4; i++) {
		if (strcasecmp(text, yes[i]) != 0 && strcasecmp(text, no[i]) != 0)
			continue;
		*value = strcasecmp(text, yes[i]) == 0;
		return true;
	}
	return false;
}

static bool parse_number(const struct option *option, const char *text, uint64_t *value)
{
	uint64_t number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9')
		return false;
	if (number < option->least || (option->most && number > option->most))
		return false;
	*value = number;
	return true;
}

static bool parse_duration(const struct option *option, const char *text, uint64_t *value)
{
	uint64_t ns;

	if (!units_parse_duration(text, &ns) || ns < option->least || ns > OPTION_DURATION_MAX_NS)
		return false;
	*value = ns;
	return true;
}

static bool parse_choice(const struct option *option, const char *text, int *value)
{
	for (int i = 0; option->choices[i]; i++) {
		if (strcmp(option->choices[i], text) == 0) {
			*value = i;
			return true;
		}
	}
	return false;
}

static bool value_store(struct option_state *state, bool restart, const char *text)
{
	const struct option *option = state->option;
	uint64_t bytes;

	switch (option->kind) {
	case OPTION_FLAG:
		return parse_flag(text, state->member);
	case OPTION_TEXT:
		*(const char **)state->member = text;
		return true;
	case OPTION_BYTES:
		return units_parse_bytes(text, 0, state->member);
	case OPTION_SHARE:
		*(const char **)state->member = text;
		return units_parse_bytes(text, 100, &bytes);
	case OPTION_DURATION:
		return parse_duration(option, text, state->member);
	case OPTION_NUMBER:
		return parse_number(option, text, state->member);
	case OPTION_CHOICE:
		return parse_choice(option, text, state->member);
	case OPTION_LIST:
		return list_add(state, restart, text);
	}
	return false;
}

static void value_clear(const struct option_state *state)
{
	switch (state->option->kind) {
	case OPTION_FLAG:
		*(bool *)state->member = false;
		break;
	case OPTION_TEXT:
	case OPTION_SHARE:
		*(const char **)state->member = NULL;
		break;
	case OPTION_BYTES:
	case OPTION_DURATION:
	case OPTION_NUMBER:
		*(uint64_t *)state->member = 0;
		break;
	case OPTION_CHOICE:
		*(int *)state->member = 0;
		break;
	case OPTION_LIST:
		*(struct option_list *)state->member = (struct option_list){ 0 };
		break;
	}
}

/* What would have been accepted; for the error. */
static void describe_kind(const struct option *option, char *text, size_t size)
{
	size_t used = 0;

	switch (option->kind) {
	case OPTION_FLAG:
		snprintf(text, size, "true or false");
		break;
	case OPTION_BYTES:
		snprintf(text, size, "a size like 512MB or 1.5GiB");
		break;
	case OPTION_SHARE:
		snprintf(text, size, "a size like 512MB, 1.5GiB or 10%%");
		break;
	case OPTION_DURATION:
		snprintf(text, size, "a duration %slike 150ms, 30s, 5m or 7d, at most 36500d", option->least ? "of more than 0, " : "");
		break;
	case OPTION_NUMBER:
		if (option->most)
			snprintf(text, size, "a number from %" PRIu64 " to %" PRIu64, option->least, option->most);
		else
			snprintf(text, size, "a number of at least %" PRIu64, option->least);
		break;
	case OPTION_CHOICE:
		for (size_t i = 0; option->choices[i] && used < size; i++)
			used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "one of ",
			                         option->choices[i]);
		break;
	default:
		snprintf(text, size, "a list of at most %d items", OPTION_LIST_MAX);
		break;
	}
}

/* A source gives the option this value. `restart`: the first item that this source gives to a list. */
static bool state_set(struct option_state *state, enum source source, bool restart, const char *text, char *why,
                      size_t why_size)
{
	char wanted[256];

	CHECK(source >= state->source);
	if (!value_store(state, restart, text)) {
		describe_kind(state->option, wanted, sizeof(wanted));
		snprintf(why, why_size, "\"%s\" is not %s", text, wanted);
		return false;
	}
	state->source = source;
	return true;
}

/* ---- the tables ---- */

static void add_group(struct options *options, const struct option_group *group, void *values)
{
	for (size_t i = 0; i < group->count; i++) {
		struct option_state *state = &options->states[options->state_count++];

		*state = (struct option_state){
			.option = &group->options[i],
			.member = (char *)values + group->options[i].offset,
		};
		value_clear(state);
	}
}

static bool collect_states(struct parse *parse, const struct command *command, void *const *values)
{
	struct options *options = parse->options;
	size_t count = options_common.count;

	for (size_t i = 0; command->groups && command->groups[i]; i++)
		count += command->groups[i]->count;
	options->states = calloc(count, sizeof(*options->states));
	if (!options->states)
		return refuse(parse, "out of memory");
	add_group(options, &options_common, &parse->common);
	for (size_t i = 0; command->groups && command->groups[i]; i++)
		add_group(options, command->groups[i], values[i]);
	return true;
}

static struct option_state *find_name(struct options *options, const char *name, size_t size)
{
	for (size_t i = 0; i < options->state_count; i++) {
		const char *known = options->states[i].option->name;

		if (strlen(known) == size && memcmp(known, name, size) == 0)
			return &options->states[i];
	}
	return NULL;
}

static struct option_state *find_letter(struct options *options, char letter)
{
	for (size_t i = 0; i < options->state_count; i++)
		if (options->states[i].option->letter == letter)
			return &options->states[i];
	return NULL;
}

bool options_given(const struct options *options, const char *name)
{
	for (size_t i = 0; i < options->state_count; i++)
		if (strcmp(options->states[i].option->name, name) == 0)
			return options->states[i].source > SOURCE_DEFAULT;
	CHECK(!"an option of this command");
	return false;
}

/* ---- the command line ---- */

static void assign(struct parse *parse, struct option_state *state, const char *value)
{
	parse->assignments[parse->assignment_count++] = (struct assignment){ .state = state, .value = value };
}

static bool refuse_unknown(struct parse *parse, const char *name, size_t size)
{
	struct options *options = parse->options;
	size_t best = SIZE_MAX;
	const char *near = NULL;
	char typed[64];

	snprintf(typed, sizeof(typed), "%.*s", (int)(size < 63 ? size : 63), name);
	for (size_t i = 0; i < options->state_count; i++)
		if (suggest_nearer(typed, options->states[i].option->name, &best))
			near = options->states[i].option->name;
	if (near)
		return refuse(parse, "unknown option --%s; did you mean --%s?", typed, near);
	return refuse(parse, "unknown option --%s", typed);
}

/* The value of an option that needs one: attached, or the next argument. */
static bool take_value(struct parse *parse, struct option_state *state, const char *attached)
{
	if (!attached && parse->next == parse->argc)
		return refuse(parse, "--%s needs a value: --%s %s", state->option->name, state->option->name,
		              state->option->argument ? state->option->argument : "VALUE");
	assign(parse, state, attached ? attached : parse->argv[parse->next++]);
	return true;
}

static bool take_long(struct parse *parse, const char *text)
{
	size_t size = strcspn(text, "=");
	const char *attached = text[size] ? text + size + 1 : NULL;
	struct option_state *state = find_name(parse->options, text, size);

	if (!state)
		return refuse_unknown(parse, text, size);
	if (state->option->kind != OPTION_FLAG)
		return take_value(parse, state, attached);
	assign(parse, state, attached ? attached : "true");
	return true;
}

/* One or more letters: -j, -jq, -oPATH, -o PATH. */
static bool take_letters(struct parse *parse, const char *text)
{
	for (; *text; text++) {
		struct option_state *state = find_letter(parse->options, *text);

		if (!state)
			return refuse(parse, "unknown option -%c", *text);
		if (state->option->kind != OPTION_FLAG)
			return take_value(parse, state, text[1] ? text + 1 : NULL);
		assign(parse, state, "true");
	}
	return true;
}

static bool read_arguments(struct parse *parse)
{
	struct options *options = parse->options;
	bool separated = false;
	size_t letters = 0;

	for (int i = 0; i < parse->argc; i++)
		letters += strlen(parse->argv[i]);
	parse->assignments = calloc(letters + 1, sizeof(*parse->assignments));
	options->operands = calloc((size_t)parse->argc + 1, sizeof(*options->operands));
	if (!parse->assignments || !options->operands)
		return refuse(parse, "out of memory");
	while (parse->next < parse->argc) {
		char *argument = parse->argv[parse->next++];

		if (separated || argument[0] != '-' || argument[1] == '\0') {
			options->operands[options->operand_count++] = argument;
		} else if (strcmp(argument, "--") == 0) {
			separated = true;
			options->separator = options->operand_count;
		} else if (!(argument[1] == '-' ? take_long(parse, argument + 2) : take_letters(parse, argument + 1))) {
			return false;
		}
	}
	if (!separated)
		options->separator = options->operand_count;
	return true;
}

static bool apply_assignment(struct parse *parse, const struct assignment *assignment)
{
	struct option_state *state = assignment->state;
	char why[512];

	if (state_set(state, SOURCE_COMMAND_LINE, state->source < SOURCE_COMMAND_LINE, assignment->value, why,
	              sizeof(why)))
		return true;
	return refuse(parse, "--%s: %s", state->option->name, why);
}

/* ---- defaults and the environment ---- */

static bool apply_default(struct parse *parse, struct option_state *state)
{
	char why[512];

	if (!state->option->fallback)
		return true;
	CHECK(state_set(state, SOURCE_DEFAULT, true, state->option->fallback, why, sizeof(why)));
	return true;
}

static bool apply_environment(struct parse *parse, struct option_state *state)
{
	const char *name = state->option->environment;
	const char *value = name ? getenv(name) : NULL;
	char why[512];

	if (!value || !*value)
		return true;
	if (state_set(state, SOURCE_ENVIRONMENT, true, value, why, sizeof(why)))
		return true;
	return refuse(parse, "%s in the environment: %s", name, why);
}

/* ---- the configuration file ---- */

static char *own(struct options *options, const char *text)
{
	char **owned = realloc(options->owned, (options->owned_count + 1) * sizeof(*owned));

	if (!owned)
		return NULL;
	options->owned = owned;
	owned[options->owned_count] = strdup(text);
	return owned[options->owned_count] ? owned[options->owned_count++] : NULL;
}

/*
 * Looks through the tables of all commands: one file serves them all. Of two keys that are as near, the running command's
 * is meant: a client's `token` is no misspelt `tokens` of a gateway.
 */
static bool key_is_known(const struct options *options, const char *key, const char **near)
{
	size_t best = SIZE_MAX;

	*near = NULL;
	for (size_t i = 0; i < options->state_count; i++) {
		const char *own = options->states[i].option->key;

		if (own && suggest_nearer(key, own, &best))
			*near = own;
	}
	for (size_t c = 0; command_table[c]; c++) {
		const struct option_group *const *groups = command_table[c]->groups;

		for (size_t g = 0; groups && groups[g]; g++) {
			for (size_t i = 0; i < groups[g]->count; i++) {
				const char *known = groups[g]->options[i].key;

				if (known && strcmp(known, key) == 0)
					return true;
				if (known && suggest_nearer(key, known, &best))
					*near = known;
			}
		}
	}
	return false;
}

static struct option_state *find_key(struct options *options, const char *key)
{
	for (size_t i = 0; i < options->state_count; i++) {
		const char *known = options->states[i].option->key;

		if (known && strcmp(known, key) == 0)
			return &options->states[i];
	}
	return NULL;
}

static bool entry_read(void *context, const struct config_entry *entry, char *why, size_t why_size)
{
	struct parse *parse = context;
	struct option_state *state = find_key(parse->options, entry->key);
	const char *near, *value;
	char reason[512];

	if (!state && !key_is_known(parse->options, entry->key, &near)) {
		snprintf(why, why_size, near ? "unknown key `%s`; did you mean `%s`?" : "unknown key `%s`", entry->key,
		         near);
		return false;
	}
	if (!state || (!*entry->value && !entry->item))
		return true;
	if (entry->item && state->option->kind != OPTION_LIST) {
		snprintf(why, why_size, "`%s` takes one value, not a list", entry->key);
		return false;
	}
	value = own(parse->options, entry->value);
	if (!value) {
		snprintf(why, why_size, "out of memory");
		return false;
	}
	if (state_set(state, SOURCE_FILE, entry->first, value, reason, sizeof(reason)))
		return true;
	snprintf(why, why_size, "`%s`: %s", entry->key, reason);
	return false;
}

static int read_config(struct parse *parse, const char *path)
{
	int r = config_file_read(path, &config_file_format, entry_read, parse, parse->why, sizeof(parse->why));

	return r == -ENOTDIR ? -ENOENT : r;
}

/* One that has none is wanted most (help, version) when the file is wrong. */
static bool has_settings(const struct options *options)
{
	for (size_t i = 0; i < options->state_count; i++)
		if (options->states[i].option->key)
			return true;
	return false;
}

/* NULL: there is no home. */
static const char *own_config(char *path, size_t size)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (base && *base == '/')
		snprintf(path, size, "%s/sluice/sluice.yaml", base);
	else if (home && *home == '/')
		snprintf(path, size, "%s/.config/sluice/sluice.yaml", home);
	else
		return NULL;
	return path;
}

/* The user's own file is read last, and so wins. */
static bool read_configs(struct parse *parse)
{
	const struct command *command = parse->options->command;
	char path[4096];
	const char *own = own_config(path, sizeof(path));
	char error[USER_ERROR_BYTES];
	int r, machine;

	if (parse->common.config)
		return read_config(parse, parse->common.config) == 0;
	machine = read_config(parse, SYSTEM_CONFIG);
	if (machine != 0 && machine != -ENOENT && machine != -EACCES)
		return false;
	r = own ? read_config(parse, own) : -ENOENT;
	if (r == -EACCES)
		fprintf(stderr, "sluice %s: %s; going on without it\n", command->name, parse->why);
	else if (r != 0 && r != -ENOENT)
		return false;
	/* It may be a gateway's, and kept from all who only use that. The gateway itself would be another than it says. */
	if (machine != -EACCES || !command->serves)
		return true;
	user_error(machine, error);
	if (r != 0)
		return refuse(parse, SYSTEM_CONFIG ": %s; let it be read, or name another file with --config", error);
	fprintf(stderr, "sluice %s: " SYSTEM_CONFIG ": %s; going on with %s\n", command->name, error, own);
	return true;
}

/* ---- all together ---- */

/* --config and --help are wanted before the rest can be judged. */
static bool apply_common(struct parse *parse)
{
	struct option_state *states = parse->options->states;

	for (size_t i = 0; i < options_common.count; i++)
		if (!apply_default(parse, &states[i]) || !apply_environment(parse, &states[i]))
			return false;
	for (size_t i = 0; i < parse->assignment_count; i++)
		if (parse->assignments[i].state < states + options_common.count &&
		    !apply_assignment(parse, &parse->assignments[i]))
			return false;
	return true;
}

static bool apply_all(struct parse *parse)
{
	struct options *options = parse->options;

	for (size_t i = options_common.count; i < options->state_count; i++)
		if (!apply_default(parse, &options->states[i]))
			return false;
	if (has_settings(options) && !read_configs(parse))
		return false;
	for (size_t i = options_common.count; i < options->state_count; i++)
		if (!apply_environment(parse, &options->states[i]))
			return false;
	for (size_t i = 0; i < parse->assignment_count; i++)
		if (!apply_assignment(parse, &parse->assignments[i]))
			return false;
	return true;
}

static bool parse_run(struct parse *parse, void *const *values)
{
	const struct command *command = parse->options->command;

	if (!collect_states(parse, command, values) || !read_arguments(parse) || !apply_common(parse))
		return false;
	if (parse->common.help)
		return true;
	if (!apply_all(parse))
		return false;
	if (!command->operands && parse->options->operand_count)
		return refuse(parse, "unexpected argument \"%s\"", parse->options->operands[0]);
	return true;
}

bool options_parse(struct options *options, const struct command *command, void *const *values, int argc, char **argv,
                   int *status)
{
	struct parse parse = { .options = options, .argc = argc, .argv = argv, .next = 1 };
	bool parsed;

	*options = (struct options){ .command = command };
	parsed = parse_run(&parse, values);
	free(parse.assignments);
	if (parsed && parse.common.help) {
		command_print_help(stdout, command);
		*status = STATUS_OK;
		return false;
	}
	if (!parsed)
		*status = command_usage(command, "%s", parse.why);
	return parsed;
}

void options_fini(struct options *options)
{
	for (size_t i = 0; i < options->state_count; i++)
		free(options->states[i].items);
	for (size_t i = 0; i < options->owned_count; i++)
		free(options->owned[i]);
	free(options->owned);
	free(options->states);
	free(options->operands);
	*options = (struct options){ 0 };
}
