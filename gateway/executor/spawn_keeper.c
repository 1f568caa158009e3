/* spawn_keeper: see spawn_keeper.h. */
#include "gateway/executor/spawn_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/executor/spawn_namespace.h"
#include "gateway/executor/tool.h"

#define KEEPER_START_NS    30000000000ull        /* for its socket and its network to be there */
#define KEEPER_STOP_NS     10000000000ull        /* from SIGTERM to SIGKILL */
#define KEEPER_TRY_MS      10                    /* between looks at its socket while it starts */
#define KEEPER_LINE_MAX    512
#define KEEPER_ARGUMENTS   12

/*
 *	STARTING -> READY -> STOPPING -> (ended)         any of them -> (ended)
 */
enum keeper_state {
	KEEPER_STARTING,                 /* its socket or its way out is not there yet */
	KEEPER_READY,
	KEEPER_STOPPING,                 /* SIGTERM was sent; SIGKILL follows at the deadline */
};

struct daemon_process {
	const struct spawn_keeper *keeper;
	enum keeper_state state;
	uint64_t deadline_ns;            /* while STARTING and STOPPING */
	struct spawn_directory directory;
	char program[PATH_MAX], init[PATH_MAX];
	struct spawn_cgroup cgroup;
	struct spawn_namespace namespace;
	struct spawn_way_out way_out;
	bool has_way_out;
	int pid_fd, output[2];
	char line[KEEPER_LINE_MAX], last[KEEPER_LINE_MAX];       /* of its output */
	size_t line_size;
	char why[SPAWN_WHY_MAX];
};

static void tell(const struct daemon_process *daemon, enum spawn_state state)
{
	struct spawn_event event = { .id = daemon->keeper->id, .state = state };

	if (state == SPAWN_READY)
		memcpy(event.socket, daemon->directory.socket, sizeof(event.socket));
	else
		memcpy(event.why, daemon->why, sizeof(event.why));
	_Static_assert(sizeof(event) <= PIPE_BUF, "one write is whole");
	if (write(daemon->keeper->event_fd, &event, sizeof(event)) < 0)
		_exit(1);                /* the host is gone, and with us the daemon */
}

/* ---- what it says ---- */

static void end_line(struct daemon_process *daemon)
{
	if (daemon->line_size == 0)
		return;
	daemon->line[daemon->line_size] = 0;
	log_event(LOG_DEBUG, "buildkitd says", LOG_TEXT("daemon", daemon->directory.name), LOG_TEXT("line", daemon->line));
	memcpy(daemon->last, daemon->line, daemon->line_size + 1);
	daemon->line_size = 0;
}

/* False: at its end. The rest of a line that is too long is dropped. */
static bool take_output(struct daemon_process *daemon)
{
	char text[4096];
	ssize_t size = read(daemon->output[0], text, sizeof(text));

	for (ssize_t i = 0; i < size; i++) {
		if (text[i] == '\n')
			end_line(daemon);
		else if (daemon->line_size + 1 < sizeof(daemon->line))
			daemon->line[daemon->line_size++] = text[i];
	}
	return size > 0 || (size < 0 && errno == EAGAIN);
}

/* ---- starting ---- */

struct keeper_arguments {
	const char *list[KEEPER_ARGUMENTS];
	char group[32], keep[64];
};

/* The socket is root's and its group's; so the gateway's group is that. */
static void put_arguments(struct keeper_arguments *put, const struct spawn_config *config)
{
	const char **arguments = put->list;
	size_t count = 0;

	arguments[count++] = "--root=" SPAWN_INSIDE_ROOT;
	arguments[count++] = "--addr=unix://" SPAWN_INSIDE_SOCKETS "/" SPAWN_SOCKET_NAME;
	arguments[count++] = "--oci-worker-snapshotter=overlayfs";
	arguments[count++] = "--oci-worker-net=host";    /* of its own network namespace */
	arguments[count++] = "--containerd-worker=false";
	snprintf(put->group, sizeof(put->group), "--group=%u", config->gid);
	arguments[count++] = put->group;
	if (config->keep_bytes) {
		snprintf(put->keep, sizeof(put->keep), "--oci-worker-gc-keepstorage=%llu", (unsigned long long)(config->keep_bytes / 1000000));
		arguments[count++] = put->keep;
	}
	arguments[count] = NULL;
}

/* A machine without cgroups that we may write to has nothing to put a daemon into; it does, when a limit is asked for. */
static int make_cgroup(struct daemon_process *daemon)
{
	const struct spawn_limits *limits = &daemon->keeper->config->limits;

	if (spawn_cgroup_init(&daemon->cgroup, daemon->directory.name, daemon->why, sizeof(daemon->why)) == 0)
		return spawn_cgroup_make(&daemon->cgroup, limits, daemon->why, sizeof(daemon->why));
	if (limits->memory_bytes || limits->cpu_millis || limits->pids_max)
		return ERR_RAISE(-ENOENT);
	log_event(LOG_WARNING, "a daemon without a cgroup of its own", LOG_TEXT("daemon", daemon->directory.name),
	          LOG_TEXT("why", daemon->why));
	*daemon->why = 0;
	return 0;
}

static int start_namespace(struct daemon_process *daemon)
{
	const struct spawn_config *config = daemon->keeper->config;
	struct keeper_arguments arguments;
	const struct spawn_namespace_config namespace = {
		.stage = daemon->directory.stage, .root = daemon->directory.root, .temporary = daemon->directory.temporary,
		.sockets = daemon->directory.sockets, .program = daemon->program, .init = daemon->init, .arguments = arguments.list,
		.hidden = config->hidden, .cgroup = daemon->cgroup.count ? &daemon->cgroup : NULL,
		.own_network = config->network != SPAWN_NETWORK_HOST, .output_fd = daemon->output[1],
		.resolv_conf = config->network == SPAWN_NETWORK_SLIRP ? SPAWN_NETWORK_RESOLV_CONF :
		               config->network == SPAWN_NETWORK_NONE ? "" : NULL,
	};
	int r;

	put_arguments(&arguments, config);
	r = spawn_namespace_start(&daemon->namespace, &namespace, daemon->why, sizeof(daemon->why));
	if (r)
		return r;
	r = spawn_cgroup_join(&daemon->cgroup, daemon->namespace.pid, daemon->why, sizeof(daemon->why));
	if (!r)
		r = spawn_network_start(&daemon->way_out, config->network, daemon->namespace.pid, daemon->output[1], daemon->why,
		                        sizeof(daemon->why));
	if (r) {
		spawn_namespace_abort(&daemon->namespace);
		return r;
	}
	return spawn_namespace_go(&daemon->namespace, daemon->why, sizeof(daemon->why));
}

/* From the root on: what it is started from is not in the namespace's working directory. */
static int find_programs(struct daemon_process *daemon)
{
	const struct spawn_config *config = daemon->keeper->config;
	const char *wanted = config->buildkitd ? config->buildkitd : "buildkitd";
	char program[PATH_MAX];

	if (tool_find(wanted, program, sizeof(program)) || !realpath(program, daemon->program)) {
		snprintf(daemon->why, sizeof(daemon->why), "no program %.200s: --buildkitd PATH names one", wanted);
		return ERR_RAISE(-ENOENT);
	}
	if (!realpath(config->init, daemon->init)) {
		snprintf(daemon->why, sizeof(daemon->why), "%.200s: %s", config->init, strerror(errno));
		return ERR_RAISE(-ENOENT);
	}
	return 0;
}

static int start(struct daemon_process *daemon)
{
	const struct spawn_keeper *keeper = daemon->keeper;
	const struct spawn_config *config = keeper->config;
	int r = spawn_directory_locate(&daemon->directory, config->path, keeper->tenant, keeper->number, daemon->why,
	                               sizeof(daemon->why));

	r = r ? r : find_programs(daemon);
	r = r ? r : make_cgroup(daemon);         /* this ends what is left of a former one */
	if (!r)
		r = spawn_directory_make(&daemon->directory, config->uid, config->gid, daemon->why, sizeof(daemon->why));
	if (r)
		return r;
	if (pipe2(daemon->output, O_CLOEXEC | O_NONBLOCK) || fcntl(daemon->output[1], F_SETFL, 0))
		return ERR_RAISE(-errno);
	r = start_namespace(daemon);
	close(daemon->output[1]);
	daemon->output[1] = -1;
	return r;
}

/* ---- watching ---- */

static bool listens(const struct daemon_process *daemon)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool connected;

	memcpy(address.sun_path, daemon->directory.socket, sizeof(daemon->directory.socket));
	connected = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	if (fd >= 0)
		close(fd);
	return connected;
}

static void terminate(struct daemon_process *daemon, const char *why)
{
	if (daemon->state == KEEPER_STOPPING)
		return;
	snprintf(daemon->why, sizeof(daemon->why), "%s", why);
	daemon->state = KEEPER_STOPPING;
	daemon->deadline_ns = clock_now_ns() + KEEPER_STOP_NS;
	kill(daemon->namespace.pid, SIGTERM);
}

/* Its first word, or its end. */
static void on_way_out(struct daemon_process *daemon)
{
	char byte;

	if (!daemon->has_way_out && read(daemon->way_out.ready_fd, &byte, 1) == 1)
		daemon->has_way_out = true;
	else
		terminate(daemon, "its way out of the network namespace (" NETWORK_PROGRAM ") ended");
}

static void on_time(struct daemon_process *daemon)
{
	if (daemon->state == KEEPER_STARTING && daemon->has_way_out && listens(daemon)) {
		daemon->state = KEEPER_READY;
		tell(daemon, SPAWN_READY);
	} else if (daemon->state == KEEPER_STARTING && clock_now_ns() >= daemon->deadline_ns) {
		terminate(daemon, daemon->has_way_out ? "it did not listen within 30 s" : "its network was not there within 30 s");
	} else if (daemon->state == KEEPER_STOPPING && clock_now_ns() >= daemon->deadline_ns) {
		kill(daemon->namespace.pid, SIGKILL);
		daemon->deadline_ns = UINT64_MAX;
	}
}

static int patience_ms(const struct daemon_process *daemon)
{
	uint64_t now = clock_now_ns();

	if (daemon->state == KEEPER_STARTING)
		return KEEPER_TRY_MS;
	if (daemon->state == KEEPER_READY || daemon->deadline_ns == UINT64_MAX)
		return -1;
	return daemon->deadline_ns <= now ? 0 : (int)((daemon->deadline_ns - now) / 1000000) + 1;
}

/* Until its first process has ended. */
static void watch(struct daemon_process *daemon)
{
	struct pollfd fds[] = {
		{ .fd = daemon->pid_fd, .events = POLLIN }, { .fd = daemon->output[0], .events = POLLIN },
		{ .fd = daemon->keeper->stop_fd, .events = POLLIN }, { .fd = daemon->way_out.ready_fd, .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), patience_ms(daemon)) < 0)
			continue;
		if (fds[1].revents && !take_output(daemon))
			fds[1].fd = -1;
		if (fds[0].revents)
			return;
		if (fds[2].revents) {
			terminate(daemon, "");
			fds[2].fd = -1;
		}
		if (fds[3].revents) {
			on_way_out(daemon);
			fds[3].fd = daemon->state == KEEPER_STOPPING ? -1 : daemon->way_out.pid_fd;
		}
		on_time(daemon);
	}
}

static void say_how_it_ended(struct daemon_process *daemon, int status)
{
	char how[64];

	if (daemon->state == KEEPER_STOPPING)
		return;
	if (WIFSIGNALED(status) || WEXITSTATUS(status) > 128)
		snprintf(how, sizeof(how), "was killed by signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) - 128);
	else
		snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
	snprintf(daemon->why, sizeof(daemon->why), "buildkitd %s%s%.400s", how, *daemon->last ? "; it said last: " : "",
	         daemon->last);
}

static void run(struct daemon_process *daemon)
{
	int status = 0;

	daemon->pid_fd = pidfd_open(daemon->namespace.pid, 0);
	daemon->deadline_ns = clock_now_ns() + KEEPER_START_NS;
	daemon->has_way_out = daemon->way_out.ready_fd < 0;
	watch(daemon);
	/* Reaped only now: the kernel has killed and reaped everything else in its pid namespace by then. */
	while (waitpid(daemon->namespace.pid, &status, 0) < 0 && errno == EINTR)
		;
	while (daemon->output[0] >= 0 && take_output(daemon) && poll(&(struct pollfd){ daemon->output[0], POLLIN, 0 }, 1, 0) > 0)
		;
	end_line(daemon);
	say_how_it_ended(daemon, status);
}

int spawn_keep(const struct spawn_keeper *keeper)
{
	struct daemon_process daemon = {
		.keeper = keeper, .pid_fd = -1, .output = { -1, -1 }, .way_out = { .pid_fd = -1, .ready_fd = -1 },
	};
	int r = start(&daemon);

	if (r == 0)
		run(&daemon);
	else if (!*daemon.why)
		snprintf(daemon.why, sizeof(daemon.why), "%s", err_text(r));
	spawn_network_stop(&daemon.way_out);
	if (r && daemon.namespace.pid > 0)
		waitpid(daemon.namespace.pid, NULL, 0);
	if (daemon.cgroup.count && spawn_cgroup_remove(&daemon.cgroup))
		log_event(LOG_WARNING, "a daemon's cgroup is left", LOG_TEXT("daemon", daemon.directory.name));
	tell(&daemon, SPAWN_ENDED);
	return 0;
}
