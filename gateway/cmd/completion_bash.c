/* completion: the script for bash. */
#include "gateway/cmd/completion.h"

/*
 * bash breaks words at '=' and ':': "--engine=epoll" comes as three, "grpc://h:1" as five. What follows one of these is a part of
 * the word before. Only the words that are offered are quoted: they are our own, and plain.
 */
static const char head[] =
	"# bash completion of sluice, printed by `sluice completion bash`.\n"
	"_sluice_offer() # KIND [WORD]...\n"
	"{\n"
	"	local kind=$1\n"
	"	shift\n"
	"	case $kind in\n"
	"	words) mapfile -t COMPREPLY < <(compgen -W \"$*\" -- \"$word\") ;;\n"
	"	file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$word\") ;;\n"
	"	directory) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$word\") ;;\n"
	"	esac\n"
	"}\n"
	"\n"
	"_sluice()\n"
	"{\n"
	"	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} assigned='' separated=''\n"
	"	local options='' valued='' value='' rest='' operand=0 i\n"
	"	local -a operands=()\n"
	"\n"
	"	COMPREPLY=()\n"
	"	if [ \"$word\" = : ] || [ \"$before\" = : ]; then\n"
	"		return\n"
	"	elif [ \"$word\" = = ]; then\n"
	"		word='' assigned=1\n"
	"	elif [ \"$before\" = = ]; then\n"
	"		before=${COMP_WORDS[COMP_CWORD - 2]} assigned=1\n"
	"	fi\n"
	"	if [ \"$COMP_CWORD\" -le 1 ]; then\n"
	"		_sluice_offer words ";
static const char middle[] =
	" --help --version\n"
	"		return\n"
	"	fi\n"
	"	case ${COMP_WORDS[1]} in\n";
static const char tail[] =
	"	*) return ;;\n"
	"	esac\n"
	"	for ((i = 2; i < COMP_CWORD; i++)); do\n"
	"		case ${COMP_WORDS[i]} in\n"
	"		[=:]) i=$((i + 1)) ;;\n"
	"		--) separated=1; break ;;\n"
	"		-*) [[ $valued == *\" ${COMP_WORDS[i]} \"* && ${COMP_WORDS[i + 1]} != = ]] && i=$((i + 1)) ;;\n"
	"		*) operand=$((operand + 1)) ;;\n"
	"		esac\n"
	"	done\n"
	"	if [ -n \"$separated\" ]; then\n"
	"		_sluice_offer $rest\n"
	"	elif [ -n \"$value\" ]; then\n"
	"		_sluice_offer $value\n"
	"	elif [ -n \"$assigned\" ]; then\n"
	"		_sluice_offer words true false\n"
	"	elif [[ $word == -* ]]; then\n"
	"		_sluice_offer words $options\n"
	"	else\n"
	"		_sluice_offer ${operands[operand]}\n"
	"	fi\n"
	"}\n"
	"complete -F _sluice sluice\n";

static void put_offer(FILE *file, const struct completion *completion)
{
	switch (completion->kind) {
	case COMPLETION_NONE:
		fputs("none", file);
		break;
	case COMPLETION_WORDS:
		fputs("words ", file);
		completion_put_words(file, completion);
		break;
	case COMPLETION_FILE:
		fputs("file", file);
		break;
	case COMPLETION_DIRECTORY:
		fputs("directory", file);
		break;
	case COMPLETION_COMMAND:
		fputs("words ", file);
		completion_put_commands(file);
		break;
	}
}

static void put_names(FILE *file, const struct option *option, const char *between)
{
	fprintf(file, "--%s", option->name);
	if (option->letter)
		fprintf(file, "%s-%c", between, option->letter);
}

static void put_option(void *context, const struct option *option)
{
	fputc(' ', context);
	put_names(context, option, " ");
}

static void put_valued(void *context, const struct option *option)
{
	if (option->kind != OPTION_FLAG)
		put_option(context, option);
}

static void put_value(void *context, const struct option *option)
{
	struct completion value;

	if (option->kind == OPTION_FLAG)
		return;
	value = completion_of_option(option);
	fputs("\t\t", context);
	put_names(context, option, "|");
	fputs(") value='", context);
	put_offer(context, &value);
	fputs("' ;;\n", context);
}

static void put_operands(FILE *file, const struct command *command)
{
	const char *text = command->operands ? command->operands : "";
	struct completion operand;

	fputs("\t\toperands=(", file);
	for (size_t i = 0; completion_next_operand(&text, &operand); i++) {
		fputs(i ? " '" : "'", file);
		put_offer(file, &operand);
		fputc('\'', file);
	}
	fputs(")\n", file);
	if (completion_has_rest(command))
		fputs("\t\trest=file\n", file);
}

static void put_command(FILE *file, const struct command *command)
{
	fprintf(file, "\t%s)\n\t\toptions='", command->name);
	completion_each_option(command, put_option, file);
	fputs("'\n\t\tvalued='", file);
	completion_each_option(command, put_valued, file);
	fputs(" '\n", file);
	put_operands(file, command);
	fputs("\t\tcase $before in\n", file);
	completion_each_option(command, put_value, file);
	fputs("\t\tesac\n\t\t;;\n", file);
}

void completion_print_bash(FILE *file)
{
	fputs(head, file);
	completion_put_commands(file);
	fputs(middle, file);
	for (size_t i = 0; command_table[i]; i++)
		put_command(file, command_table[i]);
	fputs(tail, file);
}
