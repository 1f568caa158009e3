/* sluice completion: a script that completes our command line, for the shell that is named. */
#include "gateway/cmd/completion.h"

#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"

static bool is(struct span word, const char *text)
{
	return word.size == strlen(text) && memcmp(word.data, text, word.size) == 0;
}

static bool is_small(struct span word)
{
	return word.size && word.data[0] >= 'a' && word.data[0] <= 'z';
}

static void add_word(struct completion *completion, struct span word)
{
	CHECK(completion->count < COMPLETION_WORDS_MAX);
	completion->kind = COMPLETION_WORDS;
	completion->words[completion->count++] = word;
}

/* One of the words that are alternatives: "ca", "DIR". */
static void add_alternative(struct completion *completion, struct span word)
{
	static const struct {
		const char *word;
		enum completion_kind kind;
	} meanings[] = {
		{ "COMMAND", COMPLETION_COMMAND }, { "DIR", COMPLETION_DIRECTORY }, { "FILE", COMPLETION_FILE },
		{ "PATH", COMPLETION_FILE }, { "STORE", COMPLETION_DIRECTORY }, { "TARGETS.yaml", COMPLETION_FILE },
	};

	if (is_small(word))
		add_word(completion, word);
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (is(word, meanings[i].word))
			completion->kind = meanings[i].kind;
}

static struct completion completion_of(struct span title)
{
	struct completion completion = { .title = title };
	size_t size;

	for (struct span rest = title; rest.size; rest = span_make(rest.data + size, rest.size - size)) {
		for (size = 0; size < rest.size && rest.data[size] != '|'; size++)
			;
		add_alternative(&completion, span_make(rest.data, size));
		size += size < rest.size;
	}
	return completion;
}

struct completion completion_of_option(const struct option *option)
{
	struct completion completion = { .title = span_text(option->argument ? option->argument : option->name) };

	CHECK(option->kind != OPTION_FLAG);
	if (option->kind != OPTION_CHOICE)
		return option->argument ? completion_of(completion.title) : completion;
	for (size_t i = 0; option->choices[i]; i++)
		add_word(&completion, span_text(option->choices[i]));
	return completion;
}

bool completion_next_operand(const char **text, struct completion *operand)
{
	const char *begin = *text + strspn(*text, " ["), *end = begin + strcspn(begin, " ]");

	if (begin == end || strncmp(begin, "--", 2) == 0)
		return false;
	*operand = completion_of(span_make(begin, (size_t)(end - begin)));
	*text = end + strspn(end, "].");
	return true;
}

bool completion_has_rest(const struct command *command)
{
	return command->operands && strstr(command->operands, "-- ");
}

static void visit_group(const struct option_group *group, completion_visit *visit, void *context)
{
	for (size_t i = 0; i < group->count; i++)
		visit(context, &group->options[i]);
}

void completion_each_option(const struct command *command, completion_visit *visit, void *context)
{
	for (size_t i = 0; command->groups && command->groups[i]; i++)
		visit_group(command->groups[i], visit, context);
	visit_group(&options_common, visit, context);
}

void completion_put_commands(FILE *file)
{
	for (size_t i = 0; command_table[i]; i++)
		fprintf(file, "%s%s", i ? " " : "", command_table[i]->name);
}

void completion_put_words(FILE *file, const struct completion *completion)
{
	for (size_t i = 0; i < completion->count; i++)
		fprintf(file, "%s%.*s", i ? " " : "", (int)completion->words[i].size, (const char *)completion->words[i].data);
}

static int completion_run(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*print)(FILE *file);
	} shells[] = { { "bash", completion_print_bash }, { "zsh", completion_print_zsh }, { "fish", completion_print_fish } };
	CLEANUP(options_fini) struct options options;
	int status;

	if (!options_parse(&options, &command_completion, NULL, argc, argv, &status))
		return status;
	if (options.operand_count != 1)
		return command_usage(&command_completion, "one shell is needed: bash, zsh or fish");
	for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
		if (strcmp(shells[i].name, options.operands[0]) != 0)
			continue;
		shells[i].print(stdout);
		return STATUS_OK;
	}
	return command_usage(&command_completion, "\"%s\" is none of bash, zsh and fish", options.operands[0]);
}

const struct command command_completion = {
	.name = "completion",
	.summary = "print a script with which a shell completes commands, options and their values",
	.help = "Prints the script for the shell that is named; it fits the program that printed it.\n\n"
	        "  sluice completion bash > /usr/share/bash-completion/completions/sluice\n"
	        "  sluice completion zsh > /usr/local/share/zsh/site-functions/_sluice\n"
	        "  sluice completion fish > ~/.config/fish/completions/sluice.fish\n"
	        "  source <(sluice completion bash)       # for this shell alone, also zsh",
	.run = completion_run,
	.operands = "bash|zsh|fish",
};
