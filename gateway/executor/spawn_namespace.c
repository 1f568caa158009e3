/* spawn_namespace: see spawn_namespace.h. */
#include "gateway/executor/spawn_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/why.h"

#define COUNT(array)    (sizeof(array) / sizeof((array)[0]))
#define ARGUMENTS_MAX   32
#define STATUS_FAILED   125
#define HOST_NAME       "buildkitd"
#define TMPFS_OPTIONS   "mode=755,size=64m"

/* Programs of the host and what they load; a symlink that a merged /usr has in such a place is made again. */
static const char *const programs[] = { "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
/* Nothing of /etc that could hold a key or a setting. */
static const char *const settings[] = {
	"etc/alternatives", "etc/ca-certificates", "etc/group", "etc/ld.so.cache", "etc/ld.so.conf", "etc/ld.so.conf.d",
	"etc/localtime", "etc/nsswitch.conf", "etc/passwd", "etc/ssl/certs",
};
static const char *const devices[] = { "null", "zero", "full", "random", "urandom", "tty", "fuse" };
static const char *const directories[] = {
	"dev", "dev/pts", "dev/shm", "etc", "etc/ssl", "proc", "root", "run", "sluice", "sys", "tmp", "var", "var/lib", "var/tmp",
};

/* What neither a builder nor a container of it needs: a daemon that was taken over should not have them at hand. */
static const int dropped[] = {
	CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT, CAP_SYS_TIME, CAP_SYSLOG, CAP_WAKE_ALARM, CAP_MAC_ADMIN, CAP_MAC_OVERRIDE,
	CAP_BLOCK_SUSPEND,
};

/* The child, until it executes init. Paths below are relative to the new root, which is its working directory. */
struct inside {
	const struct spawn_namespace_config *config;
	struct why why;
};

static int fail(const struct inside *inside, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(inside->why, r, path, "%s: %s", what, strerror(-r));
}

static int put_directory(const struct inside *inside, const char *path)
{
	return mkdir(path, 0755) && errno != EEXIST ? fail(inside, path, "cannot create directory") : 0;
}

static int put_file(const struct inside *inside, const char *path, const char *text)
{
	CLEANUP(fd_closep) int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
	size_t size = strlen(text);

	if (fd < 0 || write(fd, text, size) != (ssize_t)size)
		return fail(inside, path, "cannot write");
	return 0;
}

static int show(const struct inside *inside, const char *source, const char *path, uint64_t attributes)
{
	struct mount_attr attr = { .attr_set = attributes };

	if (mount(source, path, NULL, MS_BIND | MS_REC, NULL))
		return fail(inside, source, "cannot bind it into the daemon's namespace");
	if (attributes && mount_setattr(AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof(attr)))
		return fail(inside, source, "cannot make its mount read-only");
	return 0;
}

/* A path of the host at the same place, read-only. What the host does not have is left out. */
static int put_host_path(const struct inside *inside, const char *name)
{
	char path[64], target[PATH_MAX];
	struct stat stat;
	ssize_t size;
	int r;

	snprintf(path, sizeof(path), "/%s", name);
	if (lstat(path, &stat))
		return 0;
	if (S_ISLNK(stat.st_mode)) {
		size = readlink(path, target, sizeof(target) - 1);
		if (size < 0)
			return fail(inside, path, "cannot read link");
		target[size] = 0;
		return symlink(target, name) ? fail(inside, path, "cannot create symlink") : 0;
	}
	r = S_ISDIR(stat.st_mode) ? put_directory(inside, name) : put_file(inside, name, "");
	return r ? r : show(inside, path, name, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV);
}

static int put_devices(const struct inside *inside)
{
	int r = 0;

	for (size_t i = 0; i < COUNT(devices) && !r; i++) {
		char host[32];

		snprintf(host, sizeof(host), "/dev/%s", devices[i]);
		if (access(host, F_OK))
			continue;
		r = put_file(inside, host + 1, "");
		if (!r)
			r = show(inside, host, host + 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	}
	if (!r && mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"))
		return fail(inside, "/dev/pts", "cannot mount");
	if (!r && mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m"))
		return fail(inside, "/dev/shm", "cannot mount");
	if (!r && (symlink("pts/ptmx", "dev/ptmx") || symlink("/proc/self/fd", "dev/fd")))
		return fail(inside, "/dev/ptmx", "cannot create symlink");
	return r;
}

static int put_kernel(const struct inside *inside)
{
	const struct spawn_cgroup *cgroup = inside->config->cgroup;

	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return fail(inside, "/proc", "cannot mount");
	if (mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL))
		return fail(inside, "/sys", "cannot mount");
	if (!cgroup)
		return access("/sys/fs/cgroup", F_OK) ? 0 : show(inside, "/sys/fs/cgroup", "sys/fs/cgroup", 0);
	if (mount("cgroup", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m"))
		return fail(inside, "/sys/fs/cgroup", "cannot mount");
	return spawn_cgroup_enter(cgroup, "sys/fs/cgroup", inside->why.text, inside->why.size);
}

static int put_settings(const struct inside *inside)
{
	const char *resolv_conf = inside->config->resolv_conf;
	int r = 0;

	for (size_t i = 0; i < COUNT(settings) && !r; i++)
		r = put_host_path(inside, settings[i]);
	if (!r && symlink("/run", "var/run"))
		r = fail(inside, "/var/run", "cannot create symlink");
	r = r ? r : put_file(inside, "etc/hosts", "127.0.0.1 localhost " HOST_NAME "\n::1 localhost\n");
	r = r ? r : put_file(inside, "etc/resolv.conf", resolv_conf ? resolv_conf : "");
	if (!r && !resolv_conf && access("/etc/resolv.conf", F_OK) == 0)
		r = show(inside, "/etc/resolv.conf", "etc/resolv.conf", MOUNT_ATTR_RDONLY);
	return r;
}

static int put_own(const struct inside *inside)
{
	const struct spawn_namespace_config *config = inside->config;
	const struct {
		const char *source, *path;
		bool file;
	} own[] = {
		{ config->root, SPAWN_INSIDE_ROOT, false }, { config->sockets, SPAWN_INSIDE_SOCKETS, false },
		{ config->temporary, "/tmp", false }, { config->program, SPAWN_INSIDE_PROGRAM, true },
		{ config->init, SPAWN_INSIDE_INIT, true },
	};
	int r = 0;

	for (size_t i = 0; i < COUNT(own) && !r; i++) {
		const char *path = own[i].path + 1;

		r = own[i].file ? put_file(inside, path, "") : put_directory(inside, path);
		if (!r)
			r = show(inside, own[i].source, path, own[i].file ? MOUNT_ATTR_RDONLY : 0);
	}
	return r;
}

/* What must not be seen may lie below /usr or another directory that is: it is covered, where it shows. */
static int cover(const struct inside *inside, const char *hidden)
{
	char real[PATH_MAX], path[PATH_MAX + 1];
	struct stat stat;

	if (!realpath(hidden, real))
		return 0;
	snprintf(path, sizeof(path), ".%s", real);
	if (lstat(path, &stat))
		return 0;
	if (S_ISDIR(stat.st_mode) ? mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "mode=000,size=4k") :
	    mount("/dev/null", path, NULL, MS_BIND, NULL))
		return fail(inside, real, "cannot cover it");
	return 0;
}

static int make_root(const struct inside *inside)
{
	const struct spawn_namespace_config *config = inside->config;
	int r = 0;

	/* Nothing that is mounted here may show on the host, nor anything that the host unmounts linger here. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return fail(inside, "/", "cannot make its mounts private");
	if (mount("root", config->stage, "tmpfs", MS_NOSUID, TMPFS_OPTIONS) || chdir(config->stage))
		return fail(inside, config->stage, "cannot mount");
	for (size_t i = 0; i < COUNT(directories) && !r; i++)
		r = put_directory(inside, directories[i]);
	for (size_t i = 0; i < COUNT(programs) && !r; i++)
		r = put_host_path(inside, programs[i]);
	r = r ? r : put_settings(inside);
	r = r ? r : put_devices(inside);
	r = r ? r : put_kernel(inside);
	r = r ? r : put_own(inside);
	for (const char *const *hidden = config->hidden; hidden && *hidden && !r; hidden++)
		r = cover(inside, *hidden);
	return r;
}

/* The new root is mounted over the old one, which is then let go of, with all below it. */
static int enter_root(const struct inside *inside)
{
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return fail(inside, "/", "cannot change the root");
	return 0;
}

static void raise_loopback(void)
{
	CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	if (fd >= 0)
		ioctl(fd, SIOCSIFFLAGS, &request);
}

static void drop_capabilities(void)
{
	for (size_t i = 0; i < COUNT(dropped); i++)
		prctl(PR_CAPBSET_DROP, dropped[i]);
}

static int execute(const struct inside *inside)
{
	const struct spawn_namespace_config *config = inside->config;
	const char *argv[ARGUMENTS_MAX + 3] = { SPAWN_INSIDE_INIT, SPAWN_INSIDE_PROGRAM };
	char *const environment[] = {
		(char[]){ "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }, (char[]){ "HOME=/root" },
		(char[]){ "TMPDIR=/tmp" }, NULL,
	};
	sigset_t none;

	for (size_t i = 0; config->arguments[i]; i++) {
		CHECK(i < ARGUMENTS_MAX);
		argv[i + 2] = config->arguments[i];
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	execve(argv[0], (char *const *)argv, environment);
	return fail(inside, argv[0], "cannot execute");
}

/* Moves what it needs to the lowest numbers, so that all else can be closed. */
static void keep_descriptors(int output_fd, int *go_fd, int *error_fd)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	dup2(null_fd, STDIN_FILENO);
	dup2(output_fd, STDOUT_FILENO);
	dup2(output_fd, STDERR_FILENO);
	*go_fd = fcntl(*go_fd, F_DUPFD_CLOEXEC, 100);
	*error_fd = fcntl(*error_fd, F_DUPFD_CLOEXEC, 100);
	close_range(STDERR_FILENO + 1, 99, 0);
	dup3(*go_fd, 3, O_CLOEXEC);
	dup3(*error_fd, 4, O_CLOEXEC);
	*go_fd = 3;
	*error_fd = 4;
	close_range(5, ~0u, 0);
}

_Noreturn static void inside_run(const struct spawn_namespace_config *config, int go_fd, int error_fd)
{
	char text[512] = "", byte;
	const struct inside inside = { .config = config, .why = { text, sizeof(text) } };
	int r = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsid();
	keep_descriptors(config->output_fd, &go_fd, &error_fd);
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (config->own_network ? CLONE_NEWNET : 0)))
		r = fail(&inside, "namespaces", "refused");
	/* The first byte says that they are there. A starter that is gone already sends no byte back, and no signal. */
	if (!r && (write(error_fd, "", 1) != 1 || read(go_fd, &byte, 1) != 1))
		_exit(STATUS_FAILED);
	if (!r && config->own_network)
		raise_loopback();
	sethostname(HOST_NAME, strlen(HOST_NAME));
	umask(022);
	r = r ? r : make_root(&inside);
	r = r ? r : enter_root(&inside);
	if (!r) {
		drop_capabilities();
		execute(&inside);
	}
	if (write(error_fd, text, strlen(text)) < 0)
		_exit(STATUS_FAILED);
	_exit(STATUS_FAILED);
}

/* ---- the caller's side ---- */

/* fork(), with the child the first of a new pid namespace; the caller's later children are in its own again. */
static pid_t fork_first(void)
{
	CLEANUP(fd_closep) int own_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	pid_t pid;

	if (own_fd < 0 || unshare(CLONE_NEWPID))
		return -1;
	pid = fork();
	if (pid != 0 && setns(own_fd, CLONE_NEWPID) && pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return -1;
	}
	return pid;
}

/* What the child says until it executes init. */
static void read_error(int fd, char *why, size_t why_size)
{
	size_t size = 0;
	ssize_t more;

	while (size + 1 < why_size && (more = read(fd, why + size, why_size - 1 - size)) > 0)
		size += (size_t)more;
	why[size] = 0;
}

int spawn_namespace_start(struct spawn_namespace *namespace, const struct spawn_namespace_config *config, char *why,
                          size_t why_size)
{
	int go[2], error[2];
	pid_t pid;

	CHECK(why_size > 1);
	*why = 0;
	if (pipe2(go, O_CLOEXEC))
		return ERR_RAISE(-errno);
	if (pipe2(error, O_CLOEXEC)) {
		close(go[0]);
		close(go[1]);
		return ERR_RAISE(-EMFILE);
	}
	pid = fork_first();
	if (pid == 0) {
		close(go[1]);
		close(error[0]);
		inside_run(config, go[0], error[1]);
	}
	close(go[0]);
	close(error[1]);
	*namespace = (struct spawn_namespace){ .pid = pid, .go_fd = go[1], .error_fd = error[0] };
	if (pid < 0)
		snprintf(why, why_size, "no pid namespace: %s", strerror(errno));
	else if (read(error[0], why, 1) == 1 && !*why)
		return 0;                /* else it was the first byte of its sentence, or nothing */
	else
		read_error(error[0], why + 1, why_size - 1);
	spawn_namespace_abort(namespace);
	return ERR_RAISE(-EIO);
}

int spawn_namespace_go(struct spawn_namespace *namespace, char *why, size_t why_size)
{
	bool told = write(namespace->go_fd, "", 1) == 1;

	close(namespace->go_fd);
	read_error(namespace->error_fd, why, why_size);
	close(namespace->error_fd);
	namespace->go_fd = namespace->error_fd = -1;
	if (told && !*why)
		return 0;
	if (!*why)
		snprintf(why, why_size, "the daemon's first process is gone");
	return ERR_RAISE(-EIO);
}

void spawn_namespace_abort(struct spawn_namespace *namespace)
{
	close(namespace->go_fd);
	close(namespace->error_fd);
	if (namespace->pid > 0) {
		kill(namespace->pid, SIGKILL);
		while (waitpid(namespace->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	namespace->pid = 0;
}
