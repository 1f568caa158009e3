/* spawn_probe: what would hold of a daemon here. */
#include "gateway/executor/spawns.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/executor/tool.h"

#define PROBE_TIMEOUT_NS 10000000000ull

/* The first line of what it says: "slirp4netns version 1.2.0". */
static bool version_of(const char *program, char *text, size_t size)
{
	const char *argv[] = { program, "--version", NULL };
	int status = -1;

	if (tool_read(argv, PROBE_TIMEOUT_NS, text, size, &status) || status)
		return false;
	text[strcspn(text, "\n")] = 0;
	return *text;
}

static void probe_program(struct spawn_trait *trait, const char *const *names, const char *remedy)
{
	char path[PATH_MAX], version[100];

	trait->remedy = remedy;
	snprintf(trait->detail, sizeof(trait->detail), "%.150s: not found", names[0]);
	for (size_t i = 0; names[i] && !trait->holds; i++) {
		if (tool_find(names[i], path, sizeof(path)))
			continue;
		trait->holds = version_of(path, version, sizeof(version));
		if (trait->holds)
			snprintf(trait->detail, sizeof(trait->detail), "%.150s: %s", path, version);
		else
			snprintf(trait->detail, sizeof(trait->detail), "%.150s: does not tell its version", path);
	}
}

/* In a child: it cannot be taken back. 0 or -errno. */
static int try_unshare(int flags)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0)
		_exit(unshare(flags) == 0 ? 0 : errno & 127);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return child > 0 && WIFEXITED(status) ? -WEXITSTATUS(status) : -EAGAIN;
}

static void probe_namespaces(struct spawn_trait *trait, enum spawn_network network)
{
	bool own_network = network != SPAWN_NETWORK_HOST;
	int r = try_unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (own_network ? CLONE_NEWNET : 0));

	trait->holds = r == 0 && geteuid() == 0;
	trait->remedy = geteuid() ? "start `sluice serve` as root" : "in a container it has to be privileged (--privileged)";
	if (geteuid())
		snprintf(trait->detail, sizeof(trait->detail), "needs root");
	else if (r)
		snprintf(trait->detail, sizeof(trait->detail), "refused: %s", strerror(-r));
	else
		snprintf(trait->detail, sizeof(trait->detail), "mount, pid, ipc, uts%s", own_network ? ", network" : "; not network");
}

static void probe_way_out(struct spawn_trait *trait, enum spawn_network network)
{
	static const char *const names[] = { NETWORK_PROGRAM, NULL };

	switch (network) {
	case SPAWN_NETWORK_HOST:
		trait->holds = true;
		snprintf(trait->detail, sizeof(trait->detail), "the host's network: steps reach what the host does, its loopback too");
		return;
	case SPAWN_NETWORK_NONE:
		trait->holds = true;
		snprintf(trait->detail, sizeof(trait->detail), "none, as asked");
		return;
	case SPAWN_NETWORK_SLIRP:
		probe_program(trait, names, "apt-get install " NETWORK_PROGRAM ", or serve --spawn-network none");
		break;
	}
	if (!trait->holds || access("/dev/net/tun", R_OK | W_OK) == 0)
		return;
	trait->holds = false;
	snprintf(trait->detail, sizeof(trait->detail), "/dev/net/tun: %s", strerror(errno));
	trait->remedy = "modprobe tun, or serve --spawn-network none";
}

static void probe_cgroups(struct spawn_trait *trait)
{
	struct spawn_cgroup cgroup;
	int r = spawn_cgroup_init(&cgroup, "probe", trait->detail, sizeof(trait->detail));

	trait->remedy = "mount cgroups writable; without, a daemon has no limits and sees the host's cgroups";
	if (r == 0) {
		r = try_unshare(CLONE_NEWCGROUP);
		snprintf(trait->detail, sizeof(trait->detail), r ? "no cgroup namespace: %s" : "a cgroup of its own%s",
		         r ? strerror(-r) : "");
	}
	trait->holds = r == 0;
}

void spawn_probe(struct spawn_probe *probe, const char *buildkitd, enum spawn_network network)
{
	static const char *const names[SPAWN_TRAITS] = { "buildkitd", "runc", "namespaces", "way out", "cgroups" };
	const char *const daemons[] = { buildkitd ? buildkitd : "buildkitd", NULL };
	static const char *const runtimes[] = { "buildkit-runc", "runc", NULL };

	*probe = (struct spawn_probe){ .works = true };
	for (size_t i = 0; i < SPAWN_TRAITS; i++)
		probe->traits[i].name = names[i];
	probe_program(&probe->traits[SPAWN_BUILDKITD], daemons, "install BuildKit, or name its program with --buildkitd FILE");
	probe_program(&probe->traits[SPAWN_RUNC], runtimes, "apt-get install runc: buildkitd runs its steps with it");
	probe_namespaces(&probe->traits[SPAWN_NAMESPACES], network);
	probe_way_out(&probe->traits[SPAWN_WAY_OUT], network);
	probe_cgroups(&probe->traits[SPAWN_CGROUPS]);
	for (size_t i = 0; i < SPAWN_TRAITS && probe->works; i++) {
		const struct spawn_trait *trait = &probe->traits[i];

		if (trait->holds || i == SPAWN_CGROUPS)
			continue;
		probe->works = false;
		snprintf(probe->why, sizeof(probe->why), "%s: %s: %s", trait->name, trait->detail, trait->remedy);
	}
	snprintf(probe->isolation, sizeof(probe->isolation), "own namespaces: %.100s; way out: %.150s; cgroups: %.150s",
	         probe->traits[SPAWN_NAMESPACES].detail, probe->traits[SPAWN_WAY_OUT].detail, probe->traits[SPAWN_CGROUPS].detail);
}
