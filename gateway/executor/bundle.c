/* bundle: config.json by jansson, the skeleton by hand. */
#include "gateway/executor/bundle.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/executor/network.h"
#include "gateway/executor/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_DEFAULT        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define HOME_DEFAULT        "HOME=/tmp"
#define CPU_PERIOD_US       100000
#define CPU_MILLIS_MIN      10               /* the kernel refuses a quota under 1 ms */
#define FILES_MAX_DEFAULT   65536
#define TMP_BYTES_DEFAULT   (4ull << 30)
#define OOM_SCORE_ADJUST    500              /* an action goes before the daemon that runs it */
#define RESOLVER            "nameserver " NETWORK_NAMESERVER "\n"

/* What programs of the host need: directories, or the symlinks that a merged /usr has in their place. */
static const char *const host_directories[] = { "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
/* Of /etc only what the dynamic linker and Debian's alternatives need. */
static const char *const host_etc[] = { "etc/ld.so.cache", "etc/ld.so.conf", "etc/ld.so.conf.d", "etc/alternatives" };

static const char *const capabilities[] = {
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID",
	"CAP_SETUID", "CAP_SYS_CHROOT",
};

static const char *const masked[] = {
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/modules", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
};

static const char *const read_only[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct bundle {
	const struct oci_command *command;
	const char *network_path;        /* NULL: a namespace of its own, with nothing but its loopback */
	struct why why;
	int dir_fd, root_fd;
	char root[PATH_MAX];             /* of the skeleton, or the image */
	json_t *mounts;
};

static int fail(const struct bundle *bundle, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(bundle->why, r, path, "%s: %s", what, strerror(-r));
}

static json_t *strings(const char *const *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

/* `options` is a comma-separated list, as in fstab. */
static void add_mount(struct bundle *bundle, const char *destination, const char *type, const char *source, const char *options)
{
	json_t *list = json_array();

	while (*options) {
		size_t size = strcspn(options, ",");

		json_array_append_new(list, json_stringn(options, size));
		options += size + (options[size] == ',');
	}
	json_array_append_new(bundle->mounts, json_pack("{s:s,s:s,s:s,s:o}", "destination", destination, "type", type, "source",
	                                                source, "options", list));
}

static int put_file(const struct bundle *bundle, const char *path, const char *text)
{
	CLEANUP(fd_closep) int fd = openat(bundle->root_fd, path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
	size_t size = strlen(text);

	if (fd < 0 || write(fd, text, size) != (ssize_t)size || fchmod(fd, 0644))
		return fail(bundle, path, "cannot write");
	return 0;
}

static int put_directory(const struct bundle *bundle, const char *path)
{
	if (mkdirat(bundle->root_fd, path, 0755) || fchmodat(bundle->root_fd, path, 0755, 0))
		return fail(bundle, path, "cannot create directory");
	return 0;
}

static int put_accounts(const struct bundle *bundle)
{
	const struct oci_command *command = bundle->command;
	char text[512];
	int r;

	snprintf(text, sizeof(text), "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
	if (command->uid && command->uid != 65534)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "user:x:%u:%u:user:/tmp:/bin/sh\n", command->uid, command->gid);
	r = put_file(bundle, "etc/passwd", text);
	if (r)
		return r;
	snprintf(text, sizeof(text), "root:x:0:\nnogroup:x:65534:\n");
	if (command->gid && command->gid != 65534)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "user:x:%u:\n", command->gid);
	return put_file(bundle, "etc/group", text);
}

static int put_etc(const struct bundle *bundle)
{
	int r = put_directory(bundle, "etc");

	r = r ? r : put_accounts(bundle);
	r = r ? r : put_file(bundle, "etc/hosts", "127.0.0.1 localhost sluice\n::1 localhost\n");
	r = r ? r : put_file(bundle, "etc/hostname", "sluice\n");
	r = r ? r : put_file(bundle, "etc/resolv.conf", bundle->network_path ? RESOLVER : "");
	return r ? r : put_file(bundle, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
}

/* Mounts what the host has at `name` at the same place, read-only; a symlink is made again. */
static int put_host_path(struct bundle *bundle, const char *name)
{
	char path[64], target[PATH_MAX];
	struct stat stat;
	ssize_t size;
	int r;

	snprintf(path, sizeof(path), "/%s", name);
	if (lstat(path, &stat))
		return 0;                /* not on this host */
	if (S_ISLNK(stat.st_mode)) {
		size = readlink(path, target, sizeof(target) - 1);
		if (size < 0)
			return fail(bundle, path, "cannot read link");
		target[size] = 0;
		return symlinkat(target, bundle->root_fd, name) ? fail(bundle, path, "cannot create symlink") : 0;
	}
	r = S_ISDIR(stat.st_mode) ? put_directory(bundle, name) : put_file(bundle, name, "");
	if (!r)
		add_mount(bundle, path, "bind", path, "bind,ro,nosuid,nodev,private");
	return r;
}

/* Whom to trust on the network: the host's choice of authorities. */
static int put_certificates(struct bundle *bundle)
{
	int r = put_directory(bundle, "etc/ssl");

	return r ? r : put_host_path(bundle, "etc/ssl/certs");
}

static int put_skeleton(struct bundle *bundle)
{
	static const char *const directories[] = { "proc", "dev", "tmp", "run", "var", "var/tmp", "work" };
	int r = 0;

	if (mkdirat(bundle->dir_fd, "rootfs", 0755) || fchmodat(bundle->dir_fd, "rootfs", 0755, 0))
		return fail(bundle, "rootfs", "cannot create directory");
	bundle->root_fd = openat(bundle->dir_fd, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (bundle->root_fd < 0)
		return fail(bundle, "rootfs", "cannot open");
	for (size_t i = 0; i < COUNT(directories) && !r; i++)
		r = put_directory(bundle, directories[i]);
	r = r ? r : put_etc(bundle);
	for (size_t i = 0; i < COUNT(host_directories) && !r; i++)
		r = put_host_path(bundle, host_directories[i]);
	for (size_t i = 0; i < COUNT(host_etc) && !r; i++)
		r = put_host_path(bundle, host_etc[i]);
	if (bundle->network_path && !r)
		r = put_certificates(bundle);
	return r;
}

static void add_mounts(struct bundle *bundle)
{
	const struct oci_command *command = bundle->command;
	uint64_t tmp_bytes = command->limits.memory_bytes ? command->limits.memory_bytes : TMP_BYTES_DEFAULT;
	char tmp[128];

	snprintf(tmp, sizeof(tmp), "nosuid,nodev,mode=1777,size=%llu", (unsigned long long)tmp_bytes);
	add_mount(bundle, "/proc", "proc", "proc", "nosuid,noexec,nodev");
	add_mount(bundle, "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
	add_mount(bundle, "/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620");
	add_mount(bundle, "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k");
	add_mount(bundle, "/tmp", "tmpfs", "tmpfs", tmp);
	add_mount(bundle, "/var/tmp", "tmpfs", "tmpfs", tmp);
	add_mount(bundle, "/run", "tmpfs", "tmpfs", "nosuid,nodev,mode=755,size=65536k");
	if (command->init_path)
		add_mount(bundle, BUNDLE_INIT_PATH, "bind", command->init_path, "bind,ro,nosuid,nodev,private");
	if (command->work_dir)
		add_mount(bundle, "/work", "bind", command->work_dir, "bind,rw,nosuid,nodev,private");
}

/* Over an image's own, which says whom its maker's machine asked. An image without one has no use for it. */
static int add_resolver(struct bundle *bundle)
{
	CLEANUP(fd_closep) int fd = -1;
	char path[2 * PATH_MAX];
	struct stat stat;

	snprintf(path, sizeof(path), "%s/etc/resolv.conf", bundle->root);
	if (lstat(path, &stat) || !S_ISREG(stat.st_mode))
		return 0;
	fd = openat(bundle->dir_fd, "resolv.conf", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || write(fd, RESOLVER, strlen(RESOLVER)) != (ssize_t)strlen(RESOLVER) || fchmod(fd, 0644))
		return fail(bundle, "resolv.conf", "cannot write");
	snprintf(path, sizeof(path), "%s/resolv.conf", bundle->command->bundle_dir);
	add_mount(bundle, "/etc/resolv.conf", "bind", path, "bind,ro,nosuid,nodev,private");
	return 0;
}

static bool has_variable(const struct oci_command *command, const char *default_value)
{
	size_t size = strcspn(default_value, "=") + 1;

	for (const char *const *variable = command->env; variable && *variable; variable++) {
		if (strncmp(*variable, default_value, size) == 0)
			return true;
	}
	return false;
}

/* NULL when one of them is not UTF-8 text: JSON cannot carry it, and dropping it silently would be another command. */
static json_t *append_all(json_t *list, const char *const *texts)
{
	for (; texts && *texts; texts++) {
		if (json_array_append_new(list, json_string(*texts))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *environment(const struct oci_command *command)
{
	json_t *list = append_all(json_array(), command->env);

	if (!list)
		return NULL;
	if (!has_variable(command, PATH_DEFAULT))
		json_array_append_new(list, json_string(PATH_DEFAULT));
	if (!has_variable(command, HOME_DEFAULT))
		json_array_append_new(list, json_string(HOME_DEFAULT));
	return list;
}

static json_t *arguments(const struct oci_command *command)
{
	json_t *list = json_array();

	if (command->init_path)
		json_array_append_new(list, json_string(BUNDLE_INIT_PATH));
	return append_all(list, command->argv);
}

static json_t *limit(const char *type, uint64_t value)
{
	return json_pack("{s:s,s:I,s:I}", "type", type, "hard", (json_int_t)value, "soft", (json_int_t)value);
}

/* In a user namespace nobody may raise a limit above the one that the runtime inherits from us. */
static uint64_t files_max(const struct oci_limits *limits)
{
	uint64_t wanted = limits->files_max ? limits->files_max : FILES_MAX_DEFAULT;
	struct rlimit own;

	if (getrlimit(RLIMIT_NOFILE, &own) == 0 && own.rlim_max < wanted)
		return own.rlim_max;
	return wanted;
}

static json_t *process(const struct oci_command *command)
{
	json_t *sets = json_object();
	uint64_t files = files_max(&command->limits);

	json_object_set_new(sets, "bounding", strings(capabilities, COUNT(capabilities)));
	json_object_set_new(sets, "effective", strings(capabilities, COUNT(capabilities)));
	json_object_set_new(sets, "permitted", strings(capabilities, COUNT(capabilities)));
	return json_pack("{s:b,s:{s:I,s:I},s:o,s:o,s:s,s:o,s:[o,o],s:b,s:i}", "terminal", 0, "user", "uid", (json_int_t)command->uid,
	                 "gid", (json_int_t)command->gid, "args", arguments(command), "env", environment(command), "cwd",
	                 command->cwd ? command->cwd : command->work_dir ? "/work" : "/", "capabilities", sets, "rlimits",
	                 limit("RLIMIT_NOFILE", files), limit("RLIMIT_CORE", 0), "noNewPrivileges", 1, "oomScoreAdj",
	                 OOM_SCORE_ADJUST);
}

/* A memory limit that swap cannot stretch, where the kernel accounts swap. */
static bool swap_is_accounted(void)
{
	return access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0 ||
	       access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
}

static json_t *resources(const struct oci_limits *limits)
{
	json_t *object = json_pack("{s:[{s:b,s:s}]}", "devices", "allow", 0, "access", "rwm");

	if (limits->memory_bytes) {
		json_t *memory = json_pack("{s:I}", "limit", (json_int_t)limits->memory_bytes);

		if (swap_is_accounted())
			json_object_set_new(memory, "swap", json_integer((json_int_t)limits->memory_bytes));
		json_object_set_new(object, "memory", memory);
	}
	if (limits->cpu_millis) {
		uint64_t millis = limits->cpu_millis < CPU_MILLIS_MIN ? CPU_MILLIS_MIN : limits->cpu_millis;

		json_object_set_new(object, "cpu", json_pack("{s:I,s:I}", "quota", (json_int_t)(millis * (CPU_PERIOD_US / 1000)),
		                                             "period", (json_int_t)CPU_PERIOD_US));
	}
	if (limits->pids_max)
		json_object_set_new(object, "pids", json_pack("{s:I}", "limit", (json_int_t)limits->pids_max));
	return object;
}

static json_t *namespaces(const struct bundle *bundle)
{
	static const char *const types[] = { "user", "pid", "mount", "ipc", "uts", "cgroup" };
	json_t *list = json_array();

	for (size_t i = 0; i < COUNT(types); i++)
		json_array_append_new(list, json_pack("{s:s}", "type", types[i]));
	if (bundle->network_path)
		json_array_append_new(list, json_pack("{s:s,s:s}", "type", "network", "path", bundle->network_path));
	else
		json_array_append_new(list, json_pack("{s:s}", "type", "network"));
	return list;
}

static json_t *id_mapping(const struct oci_command *command)
{
	return json_pack("[{s:i,s:I,s:I}]", "containerID", 0, "hostID", (json_int_t)command->uid_base, "size",
	                 (json_int_t)command->uid_count);
}

static bool is_below(const char *path, const char *name)
{
	size_t size = strlen(name);

	return path[0] == '/' && strncmp(path + 1, name, size) == 0 && (path[size + 1] == '/' || !path[size + 1]);
}

/* Only what a host mount would show: elsewhere the same path means something of the container's own. */
static json_t *masked_paths(const struct oci_command *command)
{
	json_t *list = strings(masked, COUNT(masked));

	for (const char *const *path = command->hidden; path && *path && !command->image_rootfs; path++) {
		for (size_t i = 0; i < COUNT(host_directories); i++) {
			if (is_below(*path, host_directories[i]))
				json_array_append_new(list, json_string(*path));
		}
	}
	return list;
}

static json_t *linux_part(const struct bundle *bundle)
{
	const struct oci_command *command = bundle->command;
	char cgroup[16 + OCI_ID_MAX];

	snprintf(cgroup, sizeof(cgroup), "/sluice/%s", command->id);
	return json_pack("{s:o,s:o,s:o,s:o,s:s,s:o,s:o,s:o,s:s}", "namespaces", namespaces(bundle), "uidMappings",
	                 id_mapping(command), "gidMappings", id_mapping(command), "resources", resources(&command->limits),
	                 "cgroupsPath", cgroup, "maskedPaths", masked_paths(command), "readonlyPaths",
	                 strings(read_only, COUNT(read_only)), "seccomp", seccomp_profile(), "rootfsPropagation", "private");
}

static int write_config(struct bundle *bundle)
{
	const struct oci_command *command = bundle->command;
	CLEANUP(fd_closep) int fd = openat(bundle->dir_fd, "config.json", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	json_t *config;
	int r = 0;

	if (fd < 0)
		return fail(bundle, "config.json", "cannot create");
	config = json_pack("{s:s,s:o,s:{s:s,s:b},s:s,s:O,s:o}", "ociVersion", "1.0.2", "process", process(command), "root", "path",
	                   bundle->root, "readonly", 1, "hostname", "sluice", "mounts", bundle->mounts, "linux", linux_part(bundle));
	if (!config)
		return WHY_RAISE(bundle->why, -EINVAL, "command", "an argument or variable is not UTF-8 text");
	if (json_dumpfd(config, fd, JSON_COMPACT)) {
		errno = EIO;
		r = fail(bundle, "config.json", "cannot write");
	}
	json_decref(config);
	return r;
}

static int write_id(struct bundle *bundle)
{
	const char *id = bundle->command->id;
	CLEANUP(fd_closep) int fd = openat(bundle->dir_fd, BUNDLE_ID_FILE, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 || write(fd, id, strlen(id)) < 0 ? fail(bundle, BUNDLE_ID_FILE, "cannot write") : 0;
}

static int write_all(struct bundle *bundle)
{
	const struct oci_command *command = bundle->command;
	int r = 0;

	bundle->dir_fd = open(command->bundle_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (bundle->dir_fd < 0)
		return fail(bundle, command->bundle_dir, "cannot open");
	if (command->image_rootfs)
		snprintf(bundle->root, sizeof(bundle->root), "%s", command->image_rootfs);
	else
		snprintf(bundle->root, sizeof(bundle->root), "%s/rootfs", command->bundle_dir);
	if (!command->image_rootfs)
		r = put_skeleton(bundle);
	if (r)
		return r;
	r = write_id(bundle);
	if (r)
		return r;
	add_mounts(bundle);
	if (command->image_rootfs && bundle->network_path)
		r = add_resolver(bundle);
	return r ? r : write_config(bundle);
}

int bundle_write(const struct oci_command *command, const char *network_path, struct why why)
{
	struct bundle bundle = { .command = command, .network_path = network_path, .why = why, .dir_fd = -1, .root_fd = -1 };
	int r;

	bundle.mounts = json_array();
	r = write_all(&bundle);
	json_decref(bundle.mounts);
	if (bundle.dir_fd >= 0)
		close(bundle.dir_fd);
	if (bundle.root_fd >= 0)
		close(bundle.root_fd);
	return r;
}

size_t bundle_host_mounts(char *text, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < COUNT(host_directories) + COUNT(host_etc); i++) {
		const char *name = i < COUNT(host_directories) ? host_directories[i] : host_etc[i - COUNT(host_directories)];
		char path[64], line[80];
		struct stat stat;
		int length;

		snprintf(path, sizeof(path), "/%s", name);
		if (lstat(path, &stat))
			continue;
		length = snprintf(line, sizeof(line), "%s %s", path, S_ISLNK(stat.st_mode) ? "link" : "ro") + 1;
		if (used + (size_t)length > size)
			break;
		memcpy(text + used, line, (size_t)length);
		used += (size_t)length;
	}
	return used;
}
