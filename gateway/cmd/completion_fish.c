/* completion: the script for fish: a line for each command, each option and each operand. */
#include "gateway/cmd/completion.h"

static const char head[] =
	"# fish completion of sluice, printed by `sluice completion fish`.\n"
	"function __sluice_is # COMMAND: whether it is the one that is typed; without one, whether none is yet\n"
	"	set -l words (commandline -opc)\n"
	"	if test (count $argv) = 0\n"
	"		test (count $words) -le 1\n"
	"	else\n"
	"		test (count $words) -ge 2; and test $words[2] = $argv[1]\n"
	"	end\n"
	"end\n"
	"\n"
	"complete -c sluice -f\n"
	"complete -c sluice -n __sluice_is -s h -l help -d 'list the commands'\n"
	"complete -c sluice -n __sluice_is -l version -d 'tell the version'\n";

static void put_text(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			fputc('\\', file);
		fputc(*text, file);
	}
}

static void put_offer(FILE *file, const struct completion *completion)
{
	switch (completion->kind) {
	case COMPLETION_NONE:
		break;
	case COMPLETION_WORDS:
		fputs(" -a '", file);
		completion_put_words(file, completion);
		fputc('\'', file);
		break;
	case COMPLETION_FILE:
		fputs(" -F", file);
		break;
	case COMPLETION_DIRECTORY:
		fputs(" -a '(__fish_complete_directories)'", file);
		break;
	case COMPLETION_COMMAND:
		fputs(" -a '", file);
		completion_put_commands(file);
		fputc('\'', file);
		break;
	}
}

struct command_out {
	FILE *file;
	const struct command *command;
};

static void put_begin(const struct command_out *out)
{
	fprintf(out->file, "complete -c sluice -n '__sluice_is %s'", out->command->name);
}

static void put_option(void *context, const struct option *option)
{
	const struct command_out *out = context;

	put_begin(out);
	if (option->letter)
		fprintf(out->file, " -s %c", option->letter);
	fprintf(out->file, " -l %s", option->name);
	if (option->kind != OPTION_FLAG) {
		struct completion value = completion_of_option(option);

		/* "Exclusive": else what operands may be is offered, too. */
		fputs(value.kind == COMPLETION_FILE ? " -r" : " -x", out->file);
		put_offer(out->file, &value);
	}
	fputs(" -d '", out->file);
	put_text(out->file, option->help);
	fputs("'\n", out->file);
}

/* fish does not count operands: what any of them may be is offered for each. */
static void put_operands(const struct command_out *out)
{
	const char *text = out->command->operands ? out->command->operands : "";
	struct completion operand;

	while (completion_next_operand(&text, &operand)) {
		if (operand.kind == COMPLETION_NONE)
			continue;
		put_begin(out);
		put_offer(out->file, &operand);
		fputc('\n', out->file);
	}
	if (completion_has_rest(out->command)) {
		put_begin(out);
		fputs(" -F\n", out->file);
	}
}

void completion_print_fish(FILE *file)
{
	fputs(head, file);
	for (size_t i = 0; command_table[i]; i++) {
		fprintf(file, "complete -c sluice -n __sluice_is -a %s -d '", command_table[i]->name);
		put_text(file, command_table[i]->summary);
		fputs("'\n", file);
	}
	for (size_t i = 0; command_table[i]; i++) {
		struct command_out out = { .file = file, .command = command_table[i] };

		completion_each_option(command_table[i], put_option, &out);
		put_operands(&out);
	}
}
