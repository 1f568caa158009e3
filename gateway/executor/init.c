/*
 * init: the first process of a container. Runs the command as its child, hands on signals, reaps whatever ends, and
 * ends as the command did (128 + signal). A command that were PID 1 itself would not die of its own abort() or kill, and would leave
 * zombies. A static program of its own: it has to run in any image.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_NOT_FOUND      127
#define STATUS_NOT_EXECUTABLE 126
#define STATUS_FAILED         125

static volatile sig_atomic_t child;

static void on_signal(int number)
{
	if (child > 0)
		kill((pid_t)child, number);
}

static void set_handlers(void (*handler)(int number))
{
	static const int numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}

static int run(char **argv)
{
	int error;

	set_handlers(SIG_DFL);
	execvp(argv[0], argv);
	error = errno;
	fprintf(stderr, "sluice: %s: %s\n", argv[0], strerror(error));
	return error == ENOENT || error == ENOTDIR ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

int main(int argc, char **argv)
{
	int status;
	pid_t pid, ended;

	if (argc < 2)
		return STATUS_FAILED;
	set_handlers(on_signal);
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "sluice: cannot fork: %s\n", strerror(errno));
		return STATUS_FAILED;
	}
	if (pid == 0)
		return run(argv + 1);
	child = pid;
	do {
		ended = waitpid(-1, &status, 0);
	} while ((ended >= 0 && ended != pid) || (ended < 0 && errno == EINTR));
	if (ended < 0)
		return STATUS_FAILED;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
