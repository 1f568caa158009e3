/* command: finding commands, and what is printed about them. */
#include "gateway/cmd/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include "gateway/cmd/clean.h"
#include "gateway/cmd/options.h"
#include "gateway/cmd/progress.h"
#include "gateway/cmd/suggest.h"

enum {
	HELP_COLUMN = 30,
	HELP_WIDTH = 100,
	COMPLAINT_BYTES_MAX = 8 << 10,   /* room for a reason with a path in it */
};

const struct command *command_find(const char *name)
{
	for (size_t i = 0; command_table[i]; i++)
		if (strcmp(command_table[i]->name, name) == 0)
			return command_table[i];
	return NULL;
}

const struct command *command_suggest(const char *name)
{
	const struct command *near = NULL;
	size_t best = SIZE_MAX;

	for (size_t i = 0; command_table[i]; i++)
		if (suggest_nearer(name, command_table[i]->name, &best))
			near = command_table[i];
	return near;
}

void command_print_list(FILE *file)
{
	fputs("sluice makes a build context cost what changed, not what is there.\n\n"
	      "Usage: sluice COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n", file);
	for (size_t i = 0; command_table[i]; i++)
		fprintf(file, "  %-10s %s\n", command_table[i]->name, command_table[i]->summary);
	fputs("\n`sluice help COMMAND` says more, with an example. `sluice --version` tells the version.\n", file);
}

/* Words of `text`, to its end or an empty or indented line, broken at HELP_WIDTH and indented; the cursor is at `column`. */
static size_t put_wrapped(FILE *file, const char **text, size_t indent, size_t column)
{
	const char *at = *text;

	while (*at && *at != '\n' && *at != ' ') {
		size_t size = strcspn(at, " \n");

		if (column > indent && column + 1 + size > HELP_WIDTH) {
			fprintf(file, "\n%*s", (int)indent, "");
			column = indent;
		}
		if (column > indent) {
			fputc(' ', file);
			column++;
		}
		fwrite(at, 1, size, file);
		column += size;
		at += size;
		at += *at == '\n' ? 1 : strspn(at, " ");
	}
	*text = at;
	return column;
}

static size_t put_words(FILE *file, const char *text, size_t column)
{
	return put_wrapped(file, &text, HELP_COLUMN, column);
}

/* Paragraphs are wrapped; empty lines and indented ones, which are examples, stay. */
static void put_paragraphs(FILE *file, const char *text)
{
	while (*text) {
		size_t size = strcspn(text, "\n");

		if (size && *text != ' ') {
			put_wrapped(file, &text, 0, 0);
			fputc('\n', file);
			continue;
		}
		fprintf(file, "%.*s\n", (int)size, text);
		text += size + (text[size] == '\n');
	}
}

static void put_choices(const struct option *option, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; option->choices[i] && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "|" : "", option->choices[i]);
}

/* "SLUICE_GATEWAY; `gateway`; default 8": where else the value can come from. */
static void put_sources(FILE *file, const struct option *option, size_t column)
{
	char text[512] = "";
	size_t used = 0;

	if (option->environment)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "; %s", option->environment);
	if (option->key)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "; `%s:`", option->key);
	if (option->fallback)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "; default %s", option->fallback);
	if (used) {
		text[1] = '(';
		snprintf(text + used, sizeof(text) - used, ")");
		put_words(file, text + 1, column);
	}
}

static void put_option(FILE *file, const struct option *option)
{
	char head[256], choices[160];
	const char *argument = option->argument;
	int size;

	if (option->kind == OPTION_CHOICE && !argument) {
		put_choices(option, choices, sizeof(choices));
		argument = choices;
	}
	size = snprintf(head, sizeof(head), "  %c%c%s --%s%s%s", option->letter ? '-' : ' ',
	                option->letter ? option->letter : ' ', option->letter ? "," : " ", option->name,
	                argument ? " " : "", argument ? argument : "");
	fputs(head, file);
	if (size >= HELP_COLUMN) {
		fputc('\n', file);
		size = 0;
	}
	fprintf(file, "%*s", HELP_COLUMN - size, "");
	put_sources(file, option, put_words(file, option->help, HELP_COLUMN));
	fputc('\n', file);
}

static void put_group(FILE *file, const struct option_group *group)
{
	fprintf(file, "\n%s:\n", group->title);
	for (size_t i = 0; i < group->count; i++)
		put_option(file, &group->options[i]);
}

void command_print_help(FILE *file, const struct command *command)
{
	fprintf(file, "Usage: sluice %s [OPTION]...%s%s\n\n", command->name, command->operands ? " " : "",
	        command->operands ? command->operands : "");
	put_paragraphs(file, command->help);
	for (size_t i = 0; command->groups && command->groups[i]; i++)
		put_group(file, command->groups[i]);
	put_group(file, &options_common);
}

static void complain(const struct command *command, const char *format, va_list arguments)
{
	char text[COMPLAINT_BYTES_MAX];

	vsnprintf(text, sizeof(text), format, arguments);
	clean_text(text);                /* it may quote a peer, or the name of a file */
	fflush(stdout);
	progress_make_way();
	fprintf(stderr, "sluice %s: %s\n", command->name, text);
}

int command_usage(const struct command *command, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(command, format, arguments);
	va_end(arguments);
	if (strcmp(command->name, "help") == 0)
		fputs("`sluice help` lists the commands.\n", stderr);
	else
		fprintf(stderr, "`sluice help %s` says more.\n", command->name);
	return STATUS_USAGE;
}

int command_fail(const struct command *command, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(command, format, arguments);
	va_end(arguments);
	return STATUS_FAILURE;
}

int command_status_grpc(enum grpc_status status)
{
	switch (status) {
	case GRPC_OK:
		return STATUS_OK;
	case GRPC_RESOURCE_EXHAUSTED:
		return STATUS_EXHAUSTED;
	case GRPC_INTERNAL:
		return STATUS_INTERNAL;
	default:
		return STATUS_FAILURE;
	}
}

int command_status_errno(int r)
{
	switch (r < 0 ? -r : r) {
	case 0:
		return STATUS_OK;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return STATUS_EXHAUSTED;
	case EINTR:
		return STATUS_INTERRUPTED;
	default:
		return STATUS_FAILURE;
	}
}
