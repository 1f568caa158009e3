/* sluice help: the list of commands, or one of them in full. */
#include "gateway/base/cleanup.h"
#include "gateway/cmd/commands.h"
#include "gateway/cmd/options.h"

static int help_run(int argc, char **argv)
{
	CLEANUP(options_fini) struct options options;
	const struct command *command;
	int status;

	if (!options_parse(&options, &command_help, NULL, argc, argv, &status))
		return status;
	if (options.operand_count == 0) {
		command_print_list(stdout);
		return STATUS_OK;
	}
	if (options.operand_count > 1)
		return command_usage(&command_help, "one command at a time, not %zu", options.operand_count);
	command = command_find(options.operands[0]);
	if (!command) {
		const struct command *near = command_suggest(options.operands[0]);

		return command_usage(&command_help, near ? "no command \"%s\"; did you mean %s?" : "no command \"%s\"",
		                     options.operands[0], near ? near->name : "");
	}
	command_print_help(stdout, command);
	return STATUS_OK;
}

const struct command command_help = {
	.name = "help",
	.summary = "say what a command does, with an example",
	.help = "Lists the commands; with a command's name, its options, where else each can be set, and an example.\n\n"
	        "  sluice help push",
	.run = help_run,
	.operands = "[COMMAND]",
};
