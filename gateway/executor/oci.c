/* oci: the life of one container. */
#include "gateway/executor/oci.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/context/why.h"
#include "gateway/executor/bundle.h"
#include "gateway/executor/network.h"
#include "gateway/executor/orphans.h"
#include "gateway/executor/tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS_PER_SECOND        1000000000ull
#define START_TIMEOUT_NS     (60 * NS_PER_SECOND)
#define DELETE_TIMEOUT_NS    (60 * NS_PER_SECOND)
#define DRAIN_TIMEOUT_NS     (5 * NS_PER_SECOND)     /* for the last output once all processes are gone */
#define LOG_BYTES_MAX        16384
#define OUTPUT_BYTES         65536

/* Of execve(): a string, and all of them whatever the stack's limit; and what comes to a command's own by the bundle. */
#define EXEC_TEXT_BYTES_MAX  (128u << 10)
#define EXEC_BYTES_MAX       (6ull << 20)
#define EXEC_OWN_BYTES       4096

struct oci_process {
	const struct oci_runtime *runtime;       /* borrowed */
	char id[OCI_ID_MAX + 1];
	pid_t start_group;               /* of the runtime that started it; 0: it did not run, or nobody is left in it */
	struct orphans orphans;          /* what that leaves */
	pid_t pid;
	int pid_fd;
	struct network network;          /* all zero: none */
};

static bool id_is_valid(const char *id)
{
	size_t size = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	return size > 0 && size <= OCI_ID_MAX && !id[size] && id[0] != '.' && id[0] != '-';
}

/* As the kernel counts: with the NUL and the pointer of each. */
static uint64_t texts_bytes(const char *const *texts, bool *one_too_long)
{
	uint64_t bytes = 0;

	for (; texts && *texts; texts++) {
		size_t size = strlen(*texts) + 1;

		*one_too_long |= size > EXEC_TEXT_BYTES_MAX;
		bytes += size + sizeof(*texts);
	}
	return bytes;
}

/* The runtime would only find out in the container, and tell it as a failure of its own. */
static int check_bytes(const struct oci_command *command, struct why why)
{
	bool one_too_long = false;
	uint64_t bytes = texts_bytes(command->argv, &one_too_long) + texts_bytes(command->env, &one_too_long) + EXEC_OWN_BYTES;
	uint64_t bytes_max = (uint64_t)sysconf(_SC_ARG_MAX);

	bytes_max = bytes_max < EXEC_BYTES_MAX ? bytes_max : EXEC_BYTES_MAX;
	if (one_too_long)
		return WHY_RAISE(why, -EINVAL, "command", "an argument or variable is longer than %u bytes", EXEC_TEXT_BYTES_MAX - 1);
	if (bytes > bytes_max)
		return WHY_RAISE(why, -EINVAL, "command", "%llu bytes of arguments and variables; the kernel takes %llu",
		                 (unsigned long long)bytes, (unsigned long long)bytes_max);
	return 0;
}

static int command_check(const struct oci_command *command, struct why why)
{
	if (!command->id || !id_is_valid(command->id))
		return WHY_RAISE(why, -EINVAL, "command", "bad container id");
	if (!command->argv || !command->argv[0])
		return WHY_RAISE(why, -EINVAL, "command", "no arguments");
	if (command->cwd && command->cwd[0] != '/')
		return WHY_RAISE(why, -EINVAL, "command", "the working directory is no absolute path");
	if (command->uid_base == 0 || command->uid_count == 0)
		return WHY_RAISE(why, -EINVAL, "command", "no range of user ids");
	return check_bytes(command, why);
}

static const char *last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int run_delete(const struct oci_runtime *runtime, const char *id)
{
	const char *const argv[] = { runtime->path, "--root", runtime->state_dir, "delete", "--force", id, NULL };
	int status = 0;
	int r = tool_run(&(struct tool_options){ .argv = argv, .stdout_fd = -1, .stderr_fd = -1, .timeout_ns = DELETE_TIMEOUT_NS },
	                 &status);

	return r ? r : status ? -EIO : 0;
}

/* The last error of a log of JSON lines. */
static void log_read(const char *path, char *message, size_t size)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[LOG_BYTES_MAX];
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *rest = text, *line;

	*message = 0;
	if (got <= 0)
		return;
	text[got] = 0;
	while ((line = strsep(&rest, "\n"))) {
		json_t *entry = json_loads(line, 0, NULL);
		const char *found = json_string_value(json_object_get(entry, "msg"));

		if (found)
			snprintf(message, size, "%s", found);
		json_decref(entry);
	}
}

/*
 * What failed: the program (-ENOENT, -EACCES) or the runtime. Runtimes put it in words only, and these name paths that are
 * the command's. With an init that is what they start: of the command's program it says itself, by its exit status.
 */
static int classify(const struct oci_command *command, const char *message)
{
	if (command->init_path)
		return -EIO;
	if (strstr(message, "executable file") && strstr(message, "not found"))
		return -ENOENT;
	if (strstr(message, "exec") && strstr(message, "no such file or directory"))
		return -ENOENT;
	if (strstr(message, "exec") && strstr(message, "permission denied"))
		return -EACCES;
	return -EIO;
}

static int read_pid(const char *path, pid_t *pid)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[32] = "";
	long number;

	if (fd < 0)
		return ERR_RAISE(-errno);
	if (read(fd, text, sizeof(text) - 1) <= 0)
		return ERR_RAISE(-EIO);
	number = strtol(text, NULL, 10);
	if (number <= 1)
		return ERR_RAISE(-EIO);
	*pid = (pid_t)number;
	return 0;
}

/* Detached: the runtime ends when the command runs. `status` is the runtime's. */
static int run_detached(struct oci_process *process, const struct oci_command *command, int stdout_fd, int stderr_fd,
                        const char *log, const char *pid_file, int *status)
{
	const struct oci_runtime *runtime = process->runtime;
	const char *const argv[] = {
		runtime->path, "--root", runtime->state_dir, "--log", log, "--log-format", "json", "run", "--detach", "--pid-file",
		pid_file, "--bundle", command->bundle_dir, command->id, NULL,
	};

	return tool_run(&(struct tool_options){ .argv = argv, .stdout_fd = stdout_fd, .stderr_fd = stderr_fd,
		                                .timeout_ns = START_TIMEOUT_NS, .group = &process->start_group }, status);
}

static int start_container(struct oci_process *process, const struct oci_command *command, int stdout_fd, int stderr_fd,
                           struct why why)
{
	char log[PATH_MAX], pid_file[PATH_MAX], message[384];
	int status = 0, r;

	if ((size_t)snprintf(log, sizeof(log), "%s/runtime.log", command->bundle_dir) >= sizeof(log) ||
	    (size_t)snprintf(pid_file, sizeof(pid_file), "%s/pid", command->bundle_dir) >= sizeof(pid_file))
		return WHY_RAISE(why, -ENAMETOOLONG, "bundle", "its path is too long");
	r = run_detached(process, command, stdout_fd, stderr_fd, log, pid_file, &status);
	if (!r && status == 0)
		r = read_pid(pid_file, &process->pid);
	else if (!r) {
		/* The program itself may be missing: the only -ENOENT and -EACCES that leave here. */
		log_read(log, message, sizeof(message));
		r = classify(command, message);
		why_write(why, last_name(process->runtime->path), "%s", *message ? message : "the container did not start");
		return ERR_RAISE(r);
	}
	if (r)
		return WHY_RAISE(why, r == -ETIMEDOUT ? r : -EIO, last_name(process->runtime->path), "%s", strerror(-r));
	process->pid_fd = pidfd_open(process->pid, 0);
	if (process->pid_fd < 0)
		return WHY_RAISE(why, -errno, last_name(process->runtime->path), "cannot watch the container's process");
	return 0;
}

/* The ends that the command writes to belong to its user: it may open them again as /dev/stdout. */
static int make_pipe(const struct oci_command *command, int ends[2])
{
	if (pipe2(ends, O_CLOEXEC))
		return ERR_RAISE(-errno);
	if (fchown(ends[1], command->uid_base + command->uid, command->uid_base + command->gid) == 0)
		return 0;
	close(ends[0]);
	close(ends[1]);
	return ERR_RAISE(-errno);
}

static void process_free(struct oci_process *process)
{
	network_close(&process->network);
	if (process->pid_fd >= 0)
		close(process->pid_fd);
	free(process);
}

/* Nobody is left in it, as a rule, and then its number may be another's long before the container ends. */
static void forget_empty_group(struct oci_process *process)
{
	if (kill(-process->start_group, 0) && errno == ESRCH)
		process->start_group = 0;
}

static int start_with_pipes(struct oci_process *process, const struct oci_command *command, int out[2], int err[2], struct why why)
{
	int r;

	orphans_note(&process->orphans);
	r = start_container(process, command, out[1], err[1], why);
	close(out[1]);
	close(err[1]);
	if (!r) {
		forget_empty_group(process);
		return 0;
	}
	run_delete(process->runtime, command->id);
	orphans_end(&process->orphans, process->start_group);
	close(out[0]);
	close(err[0]);
	return r;
}

/* The bundle, and the network that it names. */
static int prepare(struct oci_process *process, const struct oci_command *command, struct why why)
{
	char path[64];
	int r;

	if (command->network && network_open(&process->network, why.text, why.size))
		return ERR_RAISE(-ENETUNREACH);
	if (command->network)
		network_path(&process->network, path, sizeof(path));
	r = bundle_write(command, command->network ? path : NULL, why);
	return r == -ENOENT || r == -EACCES ? -EIO : r;  /* those two mean the program */
}

static int start(struct oci_process *process, const struct oci_command *command, int out[2], int err[2], struct why why)
{
	int r = prepare(process, command, why);

	if (!r)
		r = make_pipe(command, out);
	if (r)
		return r;
	r = make_pipe(command, err);
	if (r) {
		close(out[0]);
		close(out[1]);
		return r;
	}
	return start_with_pipes(process, command, out, err, why);
}

int oci_start(struct oci_process **out_process, const struct oci_runtime *runtime, const struct oci_command *command,
              int *stdout_fd, int *stderr_fd, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	struct oci_process *process;
	int out[2], err[2];
	int r = command_check(command, why);

	if (r)
		return r;
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		return ERR_RAISE(-errno);
	process = calloc(1, sizeof(*process));
	if (!process)
		return ERR_RAISE(-ENOMEM);
	*process = (struct oci_process){ .runtime = runtime, .pid_fd = -1 };
	snprintf(process->id, sizeof(process->id), "%s", command->id);
	r = start(process, command, out, err, why);
	if (r) {
		process_free(process);
		return r;
	}
	*stdout_fd = out[0];
	*stderr_fd = err[0];
	*out_process = process;
	return 0;
}

/* The end of a pid namespace's first process is the end of all that are in it. */
void oci_kill(struct oci_process *process)
{
	pidfd_send_signal(process->pid_fd, SIGKILL, NULL, 0);
}

int oci_wait_fd(const struct oci_process *process)
{
	return process->pid_fd;
}

/* The number behind `key` in a file of "key number" lines. */
static uint64_t read_counter(const char *path, const char *key)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[1024];
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *rest = text, *line;
	size_t size = strlen(key);

	if (got <= 0)
		return 0;
	text[got] = 0;
	while ((line = strsep(&rest, "\n"))) {
		if (strncmp(line, key, size) == 0 && line[size] == ' ')
			return strtoull(line + size + 1, NULL, 10);
	}
	return 0;
}

/* Its cgroup is there until the container is deleted. Version 1 and version 2 of cgroups. */
static bool ran_out_of_memory(const char *id)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/memory/sluice/%s/memory.oom_control", id);
	if (read_counter(path, "oom_kill"))
		return true;
	snprintf(path, sizeof(path), "/sys/fs/cgroup/sluice/%s/memory.events", id);
	return read_counter(path, "oom_kill") > 0;
}

static int wait_for(const struct oci_process *process, int *exit_status)
{
	siginfo_t info = { 0 };

	while (waitid(P_PIDFD, (id_t)process->pid_fd, &info, WEXITED)) {
		if (errno != EINTR)
			return ERR_RAISE(-errno);
	}
	*exit_status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	return 0;
}

int oci_finish(struct oci_process *process, int *exit_status, bool *out_of_memory)
{
	int r = wait_for(process, exit_status);

	*out_of_memory = ran_out_of_memory(process->id);
	if (run_delete(process->runtime, process->id))
		log_event(LOG_WARNING, "container not deleted", LOG_TEXT("id", process->id));
	/* Also one that started it well: crun's helper, whose parent has gone, ends behind it. */
	orphans_end(&process->orphans, process->start_group);
	process_free(process);
	return r;
}

void oci_cleanup_stale(const struct oci_runtime *runtime)
{
	DIR *dir = opendir(runtime->state_dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (!id_is_valid(entry->d_name))
			continue;
		log_event(LOG_WARNING, "stale container deleted", LOG_TEXT("id", entry->d_name));
		run_delete(runtime, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

void oci_cleanup_bundle(const struct oci_runtime *runtime, const char *bundle_dir)
{
	char path[PATH_MAX], id[OCI_ID_MAX + 2] = "";
	CLEANUP(fd_closep) int fd = -1;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", bundle_dir, BUNDLE_ID_FILE) >= sizeof(path))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || read(fd, id, sizeof(id) - 1) <= 0 || !id_is_valid(id))
		return;
	log_event(LOG_WARNING, "stale container deleted", LOG_TEXT("id", id));
	run_delete(runtime, id);
}

/* What oci_run is waiting for. */
enum { WAIT_STDOUT, WAIT_STDERR, WAIT_END, WAIT_CANCEL, WAITS };

struct running {
	const struct oci_run *run;
	struct oci_result *result;
	struct oci_process *process;
	struct pollfd waits[WAITS];
	uint64_t deadline_ns;            /* 0: none */
	bool ended;
};

static void stop_waiting(struct pollfd *wait)
{
	wait->fd = -1;
	wait->revents = 0;
}

static void running_on_output(struct running *running, int index)
{
	uint8_t data[OUTPUT_BYTES];
	struct pollfd *wait = &running->waits[index];
	ssize_t got = read(wait->fd, data, sizeof(data));

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (got <= 0) {
		close(wait->fd);
		stop_waiting(wait);
		return;
	}
	if (running->run->output && !running->result->cancelled &&
	    running->run->output(running->run->context, index == WAIT_STDOUT ? 1 : 2, data, (size_t)got)) {
		running->result->cancelled = true;
		oci_kill(running->process);
	}
}

static void running_on_time(struct running *running)
{
	if (running->ended) {            /* somebody else holds the pipe open: not any of its processes, they are gone */
		for (int index = WAIT_STDOUT; index <= WAIT_STDERR; index++) {
			if (running->waits[index].fd >= 0)
				close(running->waits[index].fd);
			stop_waiting(&running->waits[index]);
		}
		return;
	}
	running->result->timed_out = true;
	running->deadline_ns = 0;
	oci_kill(running->process);
}

static void running_on_ready(struct running *running)
{
	if (running->waits[WAIT_CANCEL].revents) {
		running->result->cancelled = true;
		stop_waiting(&running->waits[WAIT_CANCEL]);
		oci_kill(running->process);
	}
	for (int index = WAIT_STDOUT; index <= WAIT_STDERR; index++) {
		if (running->waits[index].revents)
			running_on_output(running, index);
	}
	if (running->waits[WAIT_END].revents) {
		running->ended = true;
		running->deadline_ns = clock_now_ns() + DRAIN_TIMEOUT_NS;
		stop_waiting(&running->waits[WAIT_END]);
	}
}

static bool running_is_over(const struct running *running)
{
	return running->ended && running->waits[WAIT_STDOUT].fd < 0 && running->waits[WAIT_STDERR].fd < 0;
}

static void running_loop(struct running *running)
{
	while (!running_is_over(running)) {
		uint64_t now = clock_now_ns();
		int timeout_ms = -1, ready;

		if (running->deadline_ns && now >= running->deadline_ns) {
			running_on_time(running);
			continue;
		}
		if (running->deadline_ns)
			timeout_ms = (int)((running->deadline_ns - now) / 1000000) + 1;
		ready = poll(running->waits, WAITS, timeout_ms);
		CHECK(ready >= 0 || errno == EINTR);
		if (ready > 0)
			running_on_ready(running);
	}
}

int oci_run(const struct oci_run *run, struct oci_result *result, char *why, size_t why_size)
{
	struct running running = { .run = run, .result = result };
	int stdout_fd, stderr_fd;
	int r = oci_start(&running.process, run->runtime, run->command, &stdout_fd, &stderr_fd, why, why_size);

	*result = (struct oci_result){ 0 };
	if (r == -ENOENT || r == -EACCES) {
		result->exit_status = r == -ENOENT ? 127 : 126;
		if (run->output)
			run->output(run->context, 2, (const uint8_t *)why, strlen(why));
		return 0;
	}
	if (r)
		return r;
	running.waits[WAIT_STDOUT] = (struct pollfd){ .fd = stdout_fd, .events = POLLIN };
	running.waits[WAIT_STDERR] = (struct pollfd){ .fd = stderr_fd, .events = POLLIN };
	running.waits[WAIT_END] = (struct pollfd){ .fd = oci_wait_fd(running.process), .events = POLLIN };
	running.waits[WAIT_CANCEL] = (struct pollfd){ .fd = run->cancel_fd, .events = POLLIN };
	running.deadline_ns = run->timeout_ns ? clock_now_ns() + run->timeout_ns : 0;
	running_loop(&running);
	return oci_finish(running.process, &result->exit_status, &result->out_of_memory);
}
