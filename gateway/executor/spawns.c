/* spawns: see spawns.h. */
#include "gateway/executor/spawns.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/executor/spawn_keeper.h"

struct kept {
	uint64_t id;
	pid_t keeper;                    /* 0: unused */
	int stop_fd;                     /* -1: told to stop */
	bool lost;                       /* the keeper is gone, and its last word may be in the pipe, or was never said */
	char tenant[SPAWN_TENANT_DIR_MAX];
	uint32_t number;
};

struct spawns {
	const struct spawn_config *config;
	int events[2];
	struct kept kept[SPAWN_MAX];
};

int spawns_create(struct spawns **spawns, const struct spawn_config *config)
{
	struct spawns *made = calloc(1, sizeof(*made));

	if (!made)
		return ERR_RAISE(-ENOMEM);
	made->config = config;
	if (pipe2(made->events, O_CLOEXEC) || fcntl(made->events[0], F_SETFL, O_NONBLOCK)) {
		free(made);
		return ERR_RAISE(-errno);
	}
	*spawns = made;
	return 0;
}

static void stop(struct kept *kept)
{
	if (kept->stop_fd >= 0)
		close(kept->stop_fd);
	kept->stop_fd = -1;
}

void spawns_close(struct spawns *spawns)
{
	for (size_t i = 0; i < SPAWN_MAX; i++)
		if (spawns->kept[i].keeper)
			stop(&spawns->kept[i]);
}

void spawns_destroy(struct spawns *spawns)
{
	if (!spawns)
		return;
	spawns_close(spawns);
	close(spawns->events[0]);
	close(spawns->events[1]);
	free(spawns);
}

static struct kept *find(struct spawns *spawns, uint64_t id)
{
	for (size_t i = 0; i < SPAWN_MAX; i++)
		if (spawns->kept[i].keeper && spawns->kept[i].id == id)
			return &spawns->kept[i];
	return NULL;
}

static int choose(struct spawns *spawns, struct kept **free_one, uint64_t id, const char *tenant, uint32_t number)
{
	*free_one = NULL;
	for (size_t i = 0; i < SPAWN_MAX; i++) {
		struct kept *kept = &spawns->kept[i];

		if (!kept->keeper)
			*free_one = kept;
		else if (kept->id == id || (kept->number == number && strcmp(kept->tenant, tenant) == 0))
			return -EEXIST;
	}
	return *free_one ? 0 : -ENOSPC;
}

/* The keeper: keeps the two descriptors that it was given, and nothing else that the control process has open. */
_Noreturn static void keep(struct spawn_keeper *keeper, pid_t parent)
{
	int stop_fd = fcntl(keeper->stop_fd, F_DUPFD_CLOEXEC, 100), event_fd = fcntl(keeper->event_fd, F_DUPFD_CLOEXEC, 100);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	setsid();                        /* Ctrl-C is the gateway's business */
	close_range(3, 99, 0);
	keeper->stop_fd = dup3(stop_fd, 3, O_CLOEXEC);
	keeper->event_fd = dup3(event_fd, 4, O_CLOEXEC);
	close_range(5, ~0u, 0);
	_exit(spawn_keep(keeper));
}

int spawns_start(struct spawns *spawns, uint64_t id, struct span tenant, uint32_t number)
{
	struct spawn_keeper keeper = {
		.config = spawns->config, .id = id, .tenant = tenant, .number = number, .event_fd = spawns->events[1],
	};
	char tenant_dir[SPAWN_TENANT_DIR_MAX];
	pid_t parent = getpid(), pid;
	struct kept *kept;
	int fds[2], r;

	if (tenant.size == 0 || tenant.size > SPAWN_TENANT_MAX)
		return ERR_RAISE(-EINVAL);
	spawn_directory_of_tenant(tenant, tenant_dir);
	r = choose(spawns, &kept, id, tenant_dir, number);
	if (r)
		return r;
	if (pipe2(fds, O_CLOEXEC))
		return ERR_RAISE(-errno);
	keeper.stop_fd = fds[0];
	pid = fork();
	if (pid == 0)
		keep(&keeper, parent);
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		return ERR_RAISE(-EAGAIN);
	}
	*kept = (struct kept){ .id = id, .keeper = pid, .stop_fd = fds[1], .number = number };
	memcpy(kept->tenant, tenant_dir, sizeof(tenant_dir));
	log_event(LOG_INFO, "buildkitd is started", LOG_U64("id", id), LOG_SPAN("tenant", tenant), LOG_U64("number", number));
	return 0;
}

void spawns_stop(struct spawns *spawns, uint64_t id)
{
	struct kept *kept = find(spawns, id);

	if (kept)
		stop(kept);
}

int spawns_fd(const struct spawns *spawns)
{
	return spawns->events[0];
}

/* A keeper that cleaned up has nothing left to do: its place is free before it is reaped. */
static void release(struct spawns *spawns, struct kept *kept)
{
	stop(kept);
	*kept = (struct kept){ .keeper = 0, .stop_fd = -1 };
}

bool spawns_next(struct spawns *spawns, struct spawn_event *event)
{
	if (read(spawns->events[0], event, sizeof(*event)) == sizeof(*event)) {
		struct kept *kept = find(spawns, event->id);

		if (kept && event->state == SPAWN_ENDED)
			release(spawns, kept);
		return true;
	}
	for (size_t i = 0; i < SPAWN_MAX; i++) {
		struct kept *kept = &spawns->kept[i];

		if (!kept->keeper || !kept->lost)
			continue;
		*event = (struct spawn_event){ .id = kept->id, .state = SPAWN_ENDED, .why = "the process that kept it died" };
		release(spawns, kept);
		return true;
	}
	return false;
}

bool spawns_reaped(struct spawns *spawns, pid_t pid)
{
	for (size_t i = 0; i < SPAWN_MAX; i++)
		if (spawns->kept[i].keeper == pid) {
			spawns->kept[i].lost = true;
			return true;
		}
	return false;
}
