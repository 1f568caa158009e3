/* oci_probe: which runtime works here, found out by running a container with it. */
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"
#include "gateway/executor/oci.h"
#include "gateway/executor/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIAL_UID_BASE     1000000000u
#define TRIAL_UID_COUNT    65536u
#define TRIAL_TIMEOUT_NS   30000000000ull
#define TRIAL_OUTPUT       "works\n"

struct trial {
	char output[256];
	size_t size;
};

static int on_output(void *context, int stream, const uint8_t *data, size_t size)
{
	struct trial *trial = context;
	size_t room = sizeof(trial->output) - 1 - trial->size;

	size = size < room ? size : room;
	memcpy(trial->output + trial->size, data, size);
	trial->size += size;
	return 0;
}

/* A program's complaint begins with its name mostly: it is not said twice. */
static void add_why(struct oci_runtime *runtime, const char *name, const char *text)
{
	size_t used = strlen(runtime->why), size = strlen(name);

	if (strncmp(text, name, size) == 0 && strncmp(text + size, ": ", 2) == 0)
		text += size + 2;
	snprintf(runtime->why + used, sizeof(runtime->why) - used, "%s%s: %s", used ? "; " : "", name, text);
}

/* Everything on the way to a bundle must be searchable by the container's user, who is nobody to the host. */
static int check_searchable(const char *path, char *why, size_t why_size)
{
	char parent[PATH_MAX];

	snprintf(parent, sizeof(parent), "%s", path);
	for (char *end = parent + strlen(parent); end; end = strrchr(parent, '/')) {
		struct stat stat_buffer;

		*end = 0;
		if (stat(*parent ? parent : "/", &stat_buffer) == 0 && !(stat_buffer.st_mode & 0001)) {
			snprintf(why, why_size, "%s is closed to others: containers run as unprivileged users and must be able to pass "
			         "through it (chmod o+x, or another directory)", parent);
			return -EACCES;
		}
	}
	return 0;
}

/* One container, with limits, users, mounts and filters as real ones have them. */
static int trial_run(const struct oci_runtime *runtime, const char *bundle, char *why, size_t why_size)
{
	static const char *const argv[] = { "/bin/sh", "-c", "echo works", NULL };
	const struct oci_command command = {
		.id = "trial", .argv = argv, .uid_base = TRIAL_UID_BASE, .uid_count = TRIAL_UID_COUNT, .bundle_dir = bundle,
		.limits = { .memory_bytes = 256u << 20, .cpu_millis = 1000, .pids_max = 64 },
	};
	struct trial trial = { .size = 0 };
	const struct oci_run run = {
		.runtime = runtime, .command = &command, .timeout_ns = TRIAL_TIMEOUT_NS, .cancel_fd = -1,
		.output = on_output, .context = &trial,
	};
	struct oci_result result;
	int r = oci_run(&run, &result, why, why_size);

	trial.output[trial.size] = 0;
	if (r || (result.exit_status == 0 && strcmp(trial.output, TRIAL_OUTPUT) == 0))
		return r;
	if (!*why)
		snprintf(why, why_size, "its trial ended with status %d: %.100s", result.exit_status, trial.output);
	return -EIO;
}

/* One that is there keeps its mode: it may be more than ours. */
static int make_directory(const char *path, mode_t mode)
{
	if (mkdir(path, mode))
		return errno == EEXIST ? 0 : -errno;
	return chmod(path, mode) ? -errno : 0;
}

static int trial_in(const struct oci_runtime *runtime, const char *scratch_dir, char *why, size_t why_size)
{
	CLEANUP(fd_closep) int scratch_fd = open(scratch_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char bundle[PATH_MAX];
	int r;

	if (scratch_fd < 0)
		return -errno;
	if ((size_t)snprintf(bundle, sizeof(bundle), "%s/trial", scratch_dir) >= sizeof(bundle))
		return -ENAMETOOLONG;
	r = beneath_remove(scratch_fd, "trial");
	if (!r)
		r = make_directory(bundle, 0711);
	if (!r)
		r = trial_run(runtime, bundle, why, why_size);
	beneath_remove(scratch_fd, "trial");
	return r;
}

static int probe_one(struct oci_runtime *runtime, const char *name, const char *scratch_dir)
{
	const char *argv[] = { runtime->path, "--version", NULL };
	char why[400] = "";
	int status, r;

	if (tool_find(name, runtime->path, sizeof(runtime->path))) {
		add_why(runtime, name, "not installed");
		return -ENOENT;
	}
	r = tool_read(argv, TRIAL_TIMEOUT_NS, runtime->version, sizeof(runtime->version), &status);
	runtime->version[strcspn(runtime->version, "\n")] = 0;
	if (!r)
		r = trial_in(runtime, scratch_dir, why, sizeof(why));
	if (r)
		add_why(runtime, name, *why ? why : strerror(-r));
	return r;
}

int oci_probe(struct oci_runtime *runtime, const char *wanted, const char *scratch_dir)
{
	static const char *const names[] = { "crun", "runc" };
	char why[400];

	*runtime = (struct oci_runtime){ 0 };
	if (geteuid() != 0) {
		add_why(runtime, "executor", "needs to be root");
		return ERR_RAISE(-ENOENT);
	}
	if (scratch_dir[0] != '/' || make_directory(scratch_dir, 0711) ||
	    (size_t)snprintf(runtime->state_dir, sizeof(runtime->state_dir), "%s/state", scratch_dir) >= sizeof(runtime->state_dir)) {
		add_why(runtime, scratch_dir, "cannot make this directory");
		return ERR_RAISE(-ENOENT);
	}
	if (check_searchable(scratch_dir, why, sizeof(why))) {
		add_why(runtime, "executor", why);
		return ERR_RAISE(-ENOENT);
	}
	for (size_t i = 0; i < (wanted ? 1 : sizeof(names) / sizeof(names[0])); i++) {
		if (probe_one(runtime, wanted ? wanted : names[i], scratch_dir) == 0) {
			runtime->works = true;
			return 0;
		}
	}
	*runtime->path = *runtime->version = 0;
	return ERR_RAISE(-ENOENT);
}
