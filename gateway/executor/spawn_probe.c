/* spawn_probe: what would hold of a daemon here. */
#include "gateway/executor/spawn.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/executor/tool.h"

#define PROBE_TIMEOUT_NS 10000000000ull

/* "slirp4netns version 1.2.0": the first line of what it says, without a trailing commit id. */
static bool version_of(const char *program, char *text, size_t size)
{
	const char *argv[] = { program, "--version", NULL };
	int status = -1;

	if (tool_read(argv, PROBE_TIMEOUT_NS, text, size, &status) || status)
		return false;
	text[strcspn(text, "\n")] = 0;
	return *text;
}

/* In a child: it cannot be taken back. */
static bool try_namespaces(int flags, char *why, size_t why_size)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0)
		_exit(unshare(flags) == 0 ? 0 : errno & 127);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	snprintf(why, why_size, "the kernel refuses namespaces: %s; in a container it has to be privileged",
	         child > 0 && WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "could not be tried");
	return false;
}

static bool probe_programs(struct spawn_probe *probe, const char *wanted)
{
	char path[PATH_MAX], version[128];

	if (tool_find(wanted ? wanted : "buildkitd", path, sizeof(path))) {
		snprintf(probe->why, sizeof(probe->why), "no buildkitd: install BuildKit, and name the program with --buildkitd PATH");
		return false;
	}
	if (!version_of(path, version, sizeof(version))) {
		snprintf(probe->why, sizeof(probe->why), "%.200s does not say its version: is it a buildkitd?", path);
		return false;
	}
	snprintf(probe->buildkitd, sizeof(probe->buildkitd), "%.120s: %.120s", path, version);
	if (tool_find("buildkit-runc", path, sizeof(path)) && tool_find("runc", path, sizeof(path))) {
		snprintf(probe->why, sizeof(probe->why), "no runc, which buildkitd runs its steps with: apt-get install runc");
		return false;
	}
	return true;
}

static bool probe_network(struct spawn_probe *probe, enum spawn_network network, char *text, size_t size)
{
	char path[PATH_MAX];

	if (network == SPAWN_NETWORK_HOST) {
		snprintf(text, size, "but the host's network: steps reach whatever the host does, its loopback too");
		return true;
	}
	if (network == SPAWN_NETWORK_NONE) {
		snprintf(text, size, "no way out of its network");
		return true;
	}
	if (tool_find(SPAWN_NETWORK_PROGRAM, path, sizeof(path)) || !version_of(path, text, size)) {
		snprintf(probe->why, sizeof(probe->why), "no " SPAWN_NETWORK_PROGRAM ": apt-get install " SPAWN_NETWORK_PROGRAM
		         ", or take --spawn-network none");
		return false;
	}
	if (access("/dev/net/tun", R_OK | W_OK)) {
		snprintf(probe->why, sizeof(probe->why), "/dev/net/tun cannot be opened: modprobe tun, or take --spawn-network none");
		return false;
	}
	return true;
}

void spawn_probe(struct spawn_probe *probe, const char *buildkitd, enum spawn_network network)
{
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (network == SPAWN_NETWORK_HOST ? 0 : CLONE_NEWNET);
	struct spawn_cgroup cgroup;
	char way_out[128] = "", no_cgroup[200];

	*probe = (struct spawn_probe){ .works = false };
	if (geteuid() != 0) {
		snprintf(probe->why, sizeof(probe->why), "not root: start `sluice serve` as root to start buildkitd processes");
		return;
	}
	if (!probe_programs(probe, buildkitd) || !try_namespaces(flags, probe->why, sizeof(probe->why)) ||
	    !probe_network(probe, network, way_out, sizeof(way_out)))
		return;
	/* Without cgroups of its own a daemon still works; who reads this should know. */
	snprintf(probe->isolation, sizeof(probe->isolation), "own mount, pid, ipc%s uts%s namespaces; %s",
	         network == SPAWN_NETWORK_HOST ? " and" : ",",
	         network == SPAWN_NETWORK_HOST ? "" : " and network", way_out);
	if (spawn_cgroup_init(&cgroup, "probe", no_cgroup, sizeof(no_cgroup)) == 0 &&
	    try_namespaces(CLONE_NEWCGROUP, no_cgroup, sizeof(no_cgroup)))
		snprintf(probe->isolation + strlen(probe->isolation), sizeof(probe->isolation) - strlen(probe->isolation),
		         "; own cgroups");
	else
		snprintf(probe->isolation + strlen(probe->isolation), sizeof(probe->isolation) - strlen(probe->isolation),
		         "; no cgroups of its own, so no limits");
	probe->works = true;
}
