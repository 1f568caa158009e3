/* sluice: finds the command and runs it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
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

/* Whoever read it has gone, as `head` does when it has enough. */
static bool nobody_reads(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLERR);
}

/* Output that did not reach the disk or the pipe is a failure, also when it is only seen at the end. Of a pipe nobody needs to be told. */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (nobody_reads(STDOUT_FILENO))
		return status ? status : STATUS_FAILURE;
	status = status ? status : command_status_errno(errno ? errno : EIO);
	perror("sluice: standard output");
	return status;
}

/*
 * One that was closed by whoever started us would be the first file or socket that is opened, and what is logged would be written
 * into that. Opened the wrong way round: what is written there, or read, fails as it did.
 */
static bool fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	const struct command *command;
	const char *name = argc > 1 ? argv[1] : NULL;

	if (!fill_standard_descriptors())
		return STATUS_FAILURE;
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
