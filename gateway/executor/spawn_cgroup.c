/* spawn_cgroup: see spawn_cgroup.h. */
#include "gateway/executor/spawn_cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/why.h"

#define PARENT         "sluice-buildkit"
#define HOST_MOUNT     "/sys/fs/cgroup"
#define SELF           "daemon"         /* version 2: where the daemon itself is */
#define CPU_PERIOD_US  100000
#define REMOVE_TRIES   250
#define REMOVE_TRY_NS  20000000u
#define DEPTH_MAX      16               /* containers may make cgroups of their own */

static int fail(struct why why, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(why, r, path, "%s: %s", what, strerror(-r));
}

static void path_of(const struct spawn_cgroup *cgroup, const struct spawn_hierarchy *hierarchy, const char *file,
                    char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s/%s%s%s", hierarchy->mount, PARENT, cgroup->name, *file ? "/" : "", file);
}

static int write_file(const char *path, const char *text)
{
	CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t size = (ssize_t)strlen(text);

	if (fd < 0)
		return -errno;
	return write(fd, text, (size_t)size) == size ? 0 : -errno;
}

/* Says of the hierarchy how it was mounted, not which one it is. Only the host may name a release agent again. */
static bool is_aside(const char *option)
{
	static const char *const words[] = { "rw", "ro", "xattr", "clone_children" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(option, words[i]) == 0)
			return true;
	return strncmp(option, "release_agent=", 14) == 0;
}

/* The mount options of a version 1 hierarchy that name it. */
static void keep_controllers(char options[static SPAWN_CGROUP_OPTIONS_MAX])
{
	char kept[SPAWN_CGROUP_OPTIONS_MAX] = "";
	char *save = NULL;

	for (char *word = strtok_r(options, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		size_t used = strlen(kept);

		if (!is_aside(word))
			snprintf(kept + used, sizeof(kept) - used, "%s%s", used ? "," : "", word);
	}
	memcpy(options, kept, sizeof(kept));
}

/* The word that begins at `text`. False: it is empty, or too long, and would be another one when cut. */
static bool take_word(const char *text, char *word, size_t size)
{
	size_t length = strcspn(text, " \n");

	if (length == 0 || length >= size)
		return false;
	memcpy(word, text, length);
	word[length] = 0;
	return true;
}

/* The one after `count` others. */
static const char *skip_words(const char *text, unsigned count)
{
	for (; count; count--) {
		text = strchr(text, ' ');
		if (!text)
			return NULL;
		text++;
	}
	return text;
}

bool spawn_hierarchy_read(struct spawn_hierarchy *hierarchy, const char *line)
{
	const char *mount = skip_words(line, 4), *rest = strstr(line, " - "), *options;
	struct spawn_hierarchy read = { .unified = false };
	char type[16];

	options = rest ? skip_words(rest + 3, 2) : NULL;
	if (!mount || !options || !take_word(mount, read.mount, sizeof(read.mount)) || !take_word(rest + 3, type, sizeof(type)))
		return false;
	if (strncmp(read.mount, HOST_MOUNT, strlen(HOST_MOUNT)) != 0 || strncmp(type, "cgroup", 6) != 0)
		return false;
	read.unified = strcmp(type, "cgroup2") == 0;
	if (!read.unified && !take_word(options, read.options, sizeof(read.options)))
		return false;
	keep_controllers(read.options);
	*hierarchy = read;
	return true;
}

int spawn_cgroup_init(struct spawn_cgroup *cgroup, const char *name, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;

	*cgroup = (struct spawn_cgroup){ .count = 0 };
	snprintf(cgroup->name, sizeof(cgroup->name), "%s", name);
	while (file && cgroup->count < SPAWN_CGROUP_HIERARCHIES_MAX && getline(&line, &size, file) > 0) {
		struct spawn_hierarchy *hierarchy = &cgroup->hierarchies[cgroup->count];

		if (spawn_hierarchy_read(hierarchy, line) && access(hierarchy->mount, W_OK) == 0)
			cgroup->count++;
	}
	free(line);
	if (file)
		fclose(file);
	if (cgroup->count == 0)
		return WHY_RAISE(why, -ENOENT, HOST_MOUNT, "no cgroup hierarchy is mounted there that can be written to");
	return 0;
}

/* ---- making ---- */

/* Version 1: a new cpuset is empty, and nobody may enter an empty one. */
static void copy_cpuset(const char *parent, const char *child)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (size_t i = 0; i < 2; i++) {
		char path[PATH_MAX], text[1024];
		CLEANUP(fd_closep) int fd = -1;
		ssize_t size;

		snprintf(path, sizeof(path), "%s/%s", parent, files[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (size <= 0)
			continue;
		text[size] = 0;
		snprintf(path, sizeof(path), "%s/%s", child, files[i]);
		write_file(path, text);
	}
}

/* Version 2: each controller by itself, since one that is not there refuses the whole line. */
static void enable_controllers(const char *directory)
{
	static const char *const controllers[] = { "+cpu", "+cpuset", "+io", "+memory", "+pids", "+hugetlb" };
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", directory);
	for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
		write_file(path, controllers[i]);
}

static int make_in(const struct spawn_cgroup *cgroup, const struct spawn_hierarchy *hierarchy, struct why why)
{
	char parent[PATH_MAX], path[PATH_MAX];

	snprintf(parent, sizeof(parent), "%s/%s", hierarchy->mount, PARENT);
	path_of(cgroup, hierarchy, "", path);
	if (hierarchy->unified)
		enable_controllers(hierarchy->mount);
	if (mkdir(parent, 0755) && errno != EEXIST)
		return fail(why, parent, "cannot make this cgroup");
	if (hierarchy->unified)
		enable_controllers(parent);
	else if (strstr(hierarchy->options, "cpuset"))
		copy_cpuset(hierarchy->mount, parent);
	if (mkdir(path, 0755) && errno != EEXIST)
		return fail(why, path, "cannot make this cgroup");
	if (!hierarchy->unified && strstr(hierarchy->options, "cpuset"))
		copy_cpuset(parent, path);
	return 0;
}

/* The first hierarchy that has the file. A limit that nobody can set is an error: it was asked for. */
static int set_limit(const struct spawn_cgroup *cgroup, const char *old_file, const char *new_file, const char *text,
                     struct why why)
{
	for (size_t i = 0; i < cgroup->count; i++) {
		const struct spawn_hierarchy *hierarchy = &cgroup->hierarchies[i];
		char path[PATH_MAX];

		path_of(cgroup, hierarchy, hierarchy->unified ? new_file : old_file, path);
		if (access(path, F_OK))
			continue;
		errno = -write_file(path, text);
		return errno ? fail(why, path, "cannot set this limit") : 0;
	}
	return WHY_RAISE(why, -ENOENT, new_file, "no cgroup hierarchy has the controller of this limit");
}

static int set_limits(const struct spawn_cgroup *cgroup, const struct spawn_limits *limits, struct why why)
{
	char text[64];
	int r = 0;

	if (limits->memory_bytes) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)limits->memory_bytes);
		r = set_limit(cgroup, "memory.limit_in_bytes", "memory.max", text, why);
	}
	if (limits->cpu_millis && !r) {
		uint64_t quota_us = (uint64_t)limits->cpu_millis * CPU_PERIOD_US / 1000;

		/* The old file takes the quota alone; the period that it starts with is the same. */
		snprintf(text, sizeof(text), "%llu", (unsigned long long)quota_us);
		r = set_limit(cgroup, "cpu.cfs_quota_us", "cpu.max", text, why);
	}
	if (limits->pids_max && !r) {
		snprintf(text, sizeof(text), "%u", limits->pids_max);
		r = set_limit(cgroup, "pids.max", "pids.max", text, why);
	}
	return r;
}

int spawn_cgroup_make(const struct spawn_cgroup *cgroup, const struct spawn_limits *limits, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	int r = spawn_cgroup_remove(cgroup);

	if (r)
		return WHY_RAISE(why, r, cgroup->name, "its former cgroup cannot be removed: %s", strerror(-r));
	for (size_t i = 0; i < cgroup->count && !r; i++)
		r = make_in(cgroup, &cgroup->hierarchies[i], why);
	return r ? r : set_limits(cgroup, limits, why);
}

int spawn_cgroup_join(const struct spawn_cgroup *cgroup, pid_t pid, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	char path[PATH_MAX], text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (size_t i = 0; i < cgroup->count; i++) {
		path_of(cgroup, &cgroup->hierarchies[i], "cgroup.procs", path);
		errno = -write_file(path, text);
		if (errno)
			return fail(why, path, "cannot enter this cgroup");
	}
	return 0;
}

/* ---- inside ---- */

static int mount_hierarchy(const struct spawn_hierarchy *hierarchy, const char *directory, struct why why)
{
	char path[PATH_MAX];
	const char *below = hierarchy->mount + strlen(HOST_MOUNT);       /* "" when version 2 has the place to itself */

	snprintf(path, sizeof(path), "%s%s", directory, below);
	if (mkdir(path, 0755) && errno != EEXIST)
		return fail(why, path, "cannot create directory");
	if (mount("cgroup", path, hierarchy->unified ? "cgroup2" : "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC,
	          hierarchy->unified ? NULL : hierarchy->options))
		return fail(why, path, "cannot mount cgroup");
	return 0;
}

static int settle_unified(const struct spawn_hierarchy *hierarchy, const char *directory, struct why why)
{
	char root[PATH_MAX], path[PATH_MAX + 32];

	snprintf(root, sizeof(root), "%s%s", directory, hierarchy->mount + strlen(HOST_MOUNT));
	snprintf(path, sizeof(path), "%s/" SELF, root);
	if (mkdir(path, 0755) && errno != EEXIST)
		return fail(why, path, "cannot make this cgroup");
	snprintf(path, sizeof(path), "%s/" SELF "/cgroup.procs", root);
	errno = -write_file(path, "0");
	if (errno)
		return fail(why, path, "cannot enter this cgroup");
	enable_controllers(root);
	return 0;
}

int spawn_cgroup_enter(const struct spawn_cgroup *cgroup, const char *directory, char *why_text, size_t why_size)
{
	struct why why = { why_text, why_size };
	int r = 0;

	if (unshare(CLONE_NEWCGROUP))
		return fail(why, directory, "no cgroup namespace");
	for (size_t i = 0; i < cgroup->count && !r; i++) {
		r = mount_hierarchy(&cgroup->hierarchies[i], directory, why);
		if (!r && cgroup->hierarchies[i].unified)
			r = settle_unified(&cgroup->hierarchies[i], directory, why);
	}
	return r;
}

/* ---- removing ---- */

static void kill_members(const char *directory)
{
	char path[PATH_MAX + 32];
	FILE *file;
	int pid;

	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	file = fopen(path, "re");
	while (file && fscanf(file, "%d", &pid) == 1)
		if (pid > 0)             /* 0: of another pid namespace than ours */
			kill((pid_t)pid, SIGKILL);
	if (file)
		fclose(file);
}

/* Depth first; what has members is left for the next try, its members killed. */
static void remove_directory(const char *directory, unsigned depth)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;

	kill_members(directory);
	while (entries && depth < DEPTH_MAX && (entry = readdir(entries))) {
		char path[PATH_MAX];

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) < sizeof(path))
			remove_directory(path, depth + 1);
	}
	if (entries)
		closedir(entries);
	rmdir(directory);
}

int spawn_cgroup_remove(const struct spawn_cgroup *cgroup)
{
	struct timespec pause = { .tv_nsec = REMOVE_TRY_NS };

	for (unsigned i = 0; i < REMOVE_TRIES; i++) {
		bool left = false;

		for (size_t h = 0; h < cgroup->count; h++) {
			char path[PATH_MAX];

			path_of(cgroup, &cgroup->hierarchies[h], "", path);
			if (access(path, F_OK) == 0)
				remove_directory(path, 0);
			left = left || access(path, F_OK) == 0;
		}
		if (!left)
			return 0;
		nanosleep(&pause, NULL);
	}
	return ERR_RAISE(-EBUSY);
}
