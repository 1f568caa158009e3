/* The control process: keeps slots and daemons alive, answers what environment an action would meet, and ends with the gateway. */
#include "gateway/executor/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/executor/attach.h"
#include "gateway/executor/rootfs.h"
#include "gateway/executor/slot.h"
#include "gateway/executor/spawns.h"
#include "gateway/executor/workspace.h"

#define HOST_TICK_NS         1000000000u         /* between looks at the slots */
#define HOST_RESPAWN_NS      2000000000u         /* a slot that dies is started again no sooner */
#define HOST_END_SECONDS     15                  /* for slots to end once the gateway is gone */

struct host {
	const struct host_config *config;
	char path[PATH_MAX];             /* config->path as the kernel's list of mounts has it */
	char socket_path[256];
	const char *hidden[HOST_HIDDEN_MAX + 2];
	struct oci_runtime runtime;
	struct spawn_config spawn_config;
	struct spawns *spawns;           /* NULL: none are started here */
	struct spawn_probe probe;
	struct attach control;
	pid_t slots[HOST_SLOTS_MAX + 1];         /* by number; 0: not running */
	uint64_t started_ns[HOST_SLOTS_MAX + 1];
};

static bool host_read_socket_path(struct host *host)
{
	size_t size = 0;
	ssize_t more;

	while ((more = read(host->config->socket_fd, host->socket_path + size, sizeof(host->socket_path) - 1 - size)) > 0)
		size += (size_t)more;
	return size > 0;
}

/*
 * HOST_RUNTIME_WORKS, or why not. False: who named a runtime is not to get a gateway that only looks as if it had executors.
 */
static bool host_answer(const struct host *host)
{
	bool missing = host->config->runtime && host->config->slots && !host->runtime.works;
	const char *answer = missing ? host->runtime.why : HOST_RUNTIME_WORKS;

	send(host->config->socket_fd, answer, strlen(answer), MSG_NOSIGNAL);
	close(host->config->socket_fd);
	return !missing;
}

static int host_slot(struct host *host, uint32_t number)
{
	struct slot_config config = {
		.number = number, .path = host->path, .images = host->config->images, .socket_path = host->socket_path, .runtime = &host->runtime,
		.hidden = host->hidden, .allow_network = host->config->allow_network, .engine = host->config->engine,
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* What the control process has open (its ring, its connection) is none of a slot's business. */
	close_range(3, ~0u, 0);
	return slot_run(&config);
}

static void host_start_slot(struct host *host, uint32_t number)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(host_slot(host, number));
	host->slots[number] = pid > 0 ? pid : 0;
	host->started_ns[number] = clock_now_ns();
}

/* Slots that died are cleaned up after and started again. */
static void host_tend(struct host *host)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (host->spawns && spawns_reaped(host->spawns, pid))
			log_event(LOG_WARNING, "keeper of a buildkitd died", LOG_I64("status", status));
		for (uint32_t number = 1; number <= host->config->slots; number++)
			if (host->slots[number] == pid) {
				log_event(LOG_WARNING, "slot died", LOG_U64("slot", number), LOG_I64("status", status));
				host->slots[number] = 0;
			}
	}
	for (uint32_t number = 1; host->runtime.works && number <= host->config->slots; number++)
		if (!host->slots[number] && clock_now_ns() >= host->started_ns[number] + HOST_RESPAWN_NS)
			host_start_slot(host, number);
}

static void host_resolve(struct host *host, struct span bytes)
{
	struct executor_resolve resolve;
	struct executor_resolved resolved = { 0 };
	struct digest key;
	char image[PATH_MAX], why[512];
	int r;

	if (!message_decode(&executor_resolve_type, bytes, &resolve))
		return;
	resolved.id = resolve.id;
	snprintf(image, sizeof(image), "%.*s", (int)resolve.image.size, (const char *)resolve.image.data);
	r = rootfs_environment(&host->runtime, host->config->images, *image ? image : NULL, &key, why, sizeof(why));
	if (r == 0)
		resolved.environment = span_make(key.hash, sizeof(key.hash));
	else
		resolved.fault = span_text(why);
	attach_send(&host->control, ATTACH_RESOLVED, &executor_resolved_type, &resolved);
}

/* ---- buildkitd processes ---- */

static void host_tell(struct host *host, uint64_t id, enum spawn_state state, const char *socket, const char *why)
{
	struct executor_spawn_event event = {
		.id = id, .state = state, .socket = span_text(socket), .why = span_text(why),
	};

	attach_send(&host->control, ATTACH_SPAWN_EVENT, &executor_spawn_event_type, &event);
}

static void host_spawn_start(struct host *host, struct span bytes)
{
	struct executor_spawn_start start;
	char why[128];
	int r;

	if (!message_decode(&executor_spawn_start_type, bytes, &start))
		return;
	if (!host->spawns) {
		host_tell(host, start.id, SPAWN_ENDED, "", host->config->spawn.enabled ? host->probe.why : "this host starts none");
		return;
	}
	r = spawns_start(host->spawns, start.id, start.tenant, start.number);
	if (r == 0)
		return;
	snprintf(why, sizeof(why), "it cannot be started: %s", err_text(r));
	host_tell(host, start.id, SPAWN_ENDED, "", why);
}

static void host_spawn_stop(struct host *host, struct span bytes)
{
	struct executor_spawn_stop stop;

	if (host->spawns && message_decode(&executor_spawn_stop_type, bytes, &stop))
		spawns_stop(host->spawns, stop.id);
}

static void host_spawn_events(struct host *host)
{
	struct spawn_event event;

	while (host->spawns && spawns_next(host->spawns, &event))
		host_tell(host, event.id, event.state, event.socket, event.why);
}

static void host_prepare_spawn(struct host *host)
{
	const struct host_spawn *spawn = &host->config->spawn;

	if (!spawn->enabled)
		return;
	spawn_probe(&host->probe, spawn->buildkitd, spawn->network);
	host->spawn_config = (struct spawn_config){
		.path = host->path, .buildkitd = spawn->buildkitd, .init = rootfs_init_path(), .network = spawn->network,
		.uid = host->config->uid, .gid = host->config->gid, .hidden = host->hidden, .limits = spawn->limits,
		.keep_bytes = spawn->keep_bytes,
	};
	if (host->probe.works && !host->spawn_config.init) {
		host->probe.works = false;
		snprintf(host->probe.why, sizeof(host->probe.why), "sluice-init is missing: it is installed in libexec/sluice");
	}
	if (host->probe.works && spawns_create(&host->spawns, &host->spawn_config) < 0)
		snprintf(host->probe.why, sizeof(host->probe.why), "out of memory or descriptors");
	if (!host->spawns)
		log_event(LOG_ERROR, "no buildkitd can be started", LOG_TEXT("why", host->probe.why));
}

/* ---- the loop ---- */

static void host_on_message(struct host *host, const struct attach_response *response)
{
	if (response->resolve.data)
		host_resolve(host, response->resolve);
	if (response->spawn_start.data)
		host_spawn_start(host, response->spawn_start);
	if (response->spawn_stop.data)
		host_spawn_stop(host, response->spawn_stop);
}

static void host_loop(struct host *host)
{
	struct attach_response response;
	bool ready;
	int r;

	do {
		int fd = host->spawns ? spawns_fd(host->spawns) : -1;

		client_wait(host->control.client, &fd, 1, &ready, HOST_TICK_NS);
		while ((r = attach_receive(&host->control, &response, 0)) == 0)
			host_on_message(host, &response);
		host_tend(host);
		host_spawn_events(host);
	} while (r == -EAGAIN);
}

/* The gateway is gone: slots see that themselves, kill what they run and end; one that does not is killed. */
static void host_end(struct host *host)
{
	if (host->spawns)
		spawns_close(host->spawns);
	for (int i = 0; i < HOST_END_SECONDS * 10; i++) {
		struct timespec pause = { .tv_nsec = 100000000 };

		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return;
		nanosleep(&pause, NULL);
	}
	for (uint32_t number = 1; number <= host->config->slots; number++)
		if (host->slots[number])
			kill(host->slots[number], SIGKILL);
	if (host->runtime.works)
		oci_cleanup_stale(&host->runtime);
}

static void host_hide(struct host *host)
{
	size_t count = 0;

	for (size_t i = 0; i < HOST_HIDDEN_MAX; i++)
		if (host->config->hidden[i])
			host->hidden[count++] = host->config->hidden[i];
	host->hidden[count] = host->path;
}

static void host_prepare_runtime(struct host *host)
{
	if (host->config->slots == 0)
		snprintf(host->runtime.why, sizeof(host->runtime.why), "serve was started with --slots 0");
	else if (oci_probe(&host->runtime, host->config->runtime, host->path) < 0)
		log_event(LOG_ERROR, "no OCI runtime works", LOG_TEXT("why", host->runtime.why));
	else
		oci_cleanup_stale(&host->runtime);
}

static bool host_prepare(struct host *host)
{
	char why[1024];

	if ((mkdir(host->config->path, 0711) < 0 && errno != EEXIST) || !realpath(host->config->path, host->path)) {
		log_event(LOG_ERROR, "no executor directory", LOG_TEXT("path", host->config->path), LOG_TEXT("why", strerror(errno)));
		return false;
	}
	host_hide(host);
	if (workspace_recover(host->path, why, sizeof(why)) < 0)
		log_event(LOG_WARNING, "what a former host left could not be cleaned up", LOG_TEXT("why", why));
	host_prepare_runtime(host);
	host_prepare_spawn(host);
	return true;
}

int host_run(const struct host_config *config)
{
	struct host host = { .config = config };
	struct executor_hello hello = { .slots = config->slots };

	/* Ctrl-C and a service manager's SIGTERM reach the whole group; we end when the gateway has drained. */
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (!host_prepare(&host) || !host_read_socket_path(&host) || !host_answer(&host))
		return 1;
	for (uint32_t number = 1; host.runtime.works && number <= config->slots; number++)
		host_start_slot(&host, number);
	hello.runtime = span_text(host.runtime.works ? host.runtime.version : "");
	hello.why = span_text(host.runtime.why);
	hello.spawn = span_text(host.spawns ? host.probe.isolation : "");
	hello.spawn_why = span_text(host.probe.why);
	if (attach_open(&host.control, host.socket_path, config->engine, &hello) == 0) {
		host_loop(&host);
		attach_close(&host.control);
	}
	host_end(&host);
	spawns_destroy(host.spawns);
	return 0;
}
