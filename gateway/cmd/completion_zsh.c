/* completion: the script for zsh: one call of _arguments for each command. */
#include "gateway/cmd/completion.h"

#include <string.h>

static const char head[] =
	"#compdef sluice\n"
	"# zsh completion of sluice, printed by `sluice completion zsh`.\n"
	"_sluice_commands() {\n"
	"	local -a commands\n"
	"	commands=(\n";
static const char middle[] =
	"	)\n"
	"	_describe -t commands command commands\n"
	"}\n"
	"\n"
	"_sluice() {\n"
	"	local curcontext=$curcontext state line\n"
	"	typeset -A opt_args\n"
	"	_arguments -C '(- *)'{-h,--help}'[list the commands]' '(- *)--version[tell the version]' \\\n"
	"		'1: :_sluice_commands' '*:: :->arguments' && return\n"
	"	[[ $state == arguments ]] || return 1\n"
	"	case $words[1] in\n";
static const char tail[] =
	"	esac\n"
	"}\n"
	"\n"
	"# As a file of $fpath it is called to complete; by `source` it is only made known.\n"
	"if [[ $funcstack[1] == _sluice ]]; then\n"
	"	_sluice \"$@\"\n"
	"else\n"
	"	(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n"
	"	compdef _sluice sluice\n"
	"fi\n";

/* What has a meaning within an explanation in brackets; and in a message, where zsh would show any other backslash. */
#define EXPLANATION ":\\[]"
#define MESSAGE     ":"

/* Within '…', as a part of a specification in which `special` characters have a meaning. */
static void put_text(FILE *file, struct span text, const char *special)
{
	for (size_t i = 0; i < text.size; i++) {
		char byte = (char)text.data[i];

		if (byte == '\'') {
			fputs("'\\''", file);
			continue;
		}
		if (strchr(special, byte))
			fputc('\\', file);
		fputc(byte, file);
	}
}

/* ":MESSAGE:ACTION" */
static void put_offer(FILE *file, const struct completion *completion)
{
	fputc(':', file);
	put_text(file, completion->title, MESSAGE);
	switch (completion->kind) {
	case COMPLETION_NONE:
		fputs(": ", file);
		break;
	case COMPLETION_WORDS:
		fputs(":(", file);
		completion_put_words(file, completion);
		fputc(')', file);
		break;
	case COMPLETION_FILE:
		fputs(":_files", file);
		break;
	case COMPLETION_DIRECTORY:
		fputs(":_files -/", file);
		break;
	case COMPLETION_COMMAND:
		fputs(":_sluice_commands", file);
		break;
	}
}

/* What comes before the '[' of the explanation. One that was given is not offered again, but of a list; nor is its other name. */
static void put_names(FILE *file, const struct option *option)
{
	const char *attached = option->kind == OPTION_FLAG ? "" : "=", *separate = option->kind == OPTION_FLAG ? "" : "+";

	if (!option->letter)
		fprintf(file, "'%s--%s%s", option->kind == OPTION_LIST ? "*" : "", option->name, attached);
	else if (option->kind == OPTION_LIST)
		fprintf(file, "'*'{-%c+,--%s=}'", option->letter, option->name);
	else
		fprintf(file, "'(-%c --%s)'{-%c%s,--%s%s}'", option->letter, option->name, option->letter, separate, option->name, attached);
}

static void put_option(void *context, const struct option *option)
{
	FILE *file = context;

	fputs(" \\\n\t\t\t", file);
	put_names(file, option);
	if (option->kind == OPTION_FLAG && option->fallback)     /* it is on: only "=false" says anything */
		fputs("=-", file);
	fputc('[', file);
	put_text(file, span_text(option->help), EXPLANATION);
	fputc(']', file);
	if (option->kind != OPTION_FLAG) {
		struct completion value = completion_of_option(option);

		put_offer(file, &value);
	} else if (option->fallback) {
		fprintf(file, "::%s:(true false)", option->name);
	}
	fputc('\'', file);
}

static void put_operands(FILE *file, const struct command *command)
{
	const char *text = command->operands ? command->operands : "";
	struct completion operand;

	for (size_t i = 1; completion_next_operand(&text, &operand); i++) {
		fprintf(file, " \\\n\t\t\t'%zu", i);
		put_offer(file, &operand);
		fputc('\'', file);
	}
	if (completion_has_rest(command))
		fputs(" \\\n\t\t\t'*:COMMAND:_files'", file);
}

void completion_print_zsh(FILE *file)
{
	fputs(head, file);
	for (size_t i = 0; command_table[i]; i++) {
		fprintf(file, "\t\t'%s:", command_table[i]->name);
		put_text(file, span_text(command_table[i]->summary), EXPLANATION);
		fputs("'\n", file);
	}
	fputs(middle, file);
	for (size_t i = 0; command_table[i]; i++) {
		fprintf(file, "\t%s)\n\t\t_arguments -s -S", command_table[i]->name);
		completion_each_option(command_table[i], put_option, file);
		put_operands(file, command_table[i]);
		fputs("\n\t\t;;\n", file);
	}
	fputs(tail, file);
}
