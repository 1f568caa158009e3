/* sluice: finds the command and runs it. */
#include <stdio.h>
#include <string.h>
#include "gateway/cmd/commands.h"

const struct command *const command_table[] = {
	&command_serve,
	&command_edge,
	&command_push,
	&command_pull,
	&command_run,
	&command_ls,
	&command_cat,
	&command_diff,
	&command_explain,
	&command_affected,
	&command_status,
	&command_builds,
	&command_pin,
	&command_fsck,
	&command_doctor,
	&command_chunk,
	&command_cert,
	&command_completion,
	&command_version,
	&command_help,
	NULL,
};

static int refuse(const char *name)
{
	const struct command *near = command_suggest(name);

	fprintf(stderr, "sluice: no command \"%s\"", name);
	if (near)
		fprintf(stderr, "; did you mean `sluice %s`?", near->name);
	fputs("\n`sluice help` lists the commands.\n", stderr);
	return STATUS_USAGE;
}

/* Output that did not reach the disk or the pipe is a failure, also when it is only seen at the end. */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	perror("sluice: standard output");
	return status ? status : STATUS_FAILURE;
}

int main(int argc, char **argv)
{
	const struct command *command;
	const char *name = argc > 1 ? argv[1] : NULL;

	if (!name) {
		command_print_list(stderr);
		return STATUS_USAGE;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0)
		name = "version";
	command = command_find(name);
	if (!command)
		return refuse(name);
	return finish(command->run(argc - 1, argv + 1));
}
