/*
 * oci: what a command in a container gets (its tree, its streams, its exit status, the host's programs), what it does
 * not get (anything else of the host, a network, more than its limits), and that nothing of it is left afterwards: no
 * process, no mount, no cgroup. Needs root and a runtime that works: skipped loudly without. argv[1]: the init program; argv[2]: forbidden.c, built.
 */
#include "gateway/base/check.h"
#include "gateway/context/beneath.h"
#include "gateway/executor/network.h"
#include "gateway/executor/oci.h"
#include "gateway/executor/workspace.h"
#include "tests/unit/context/tree_model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECOND       1000000000ull
#define OUTPUT_MAX   65536

/* Nothing else on the machine has these ids. */
#define UID_BASE     1900000000u

static char top[64], slots[80], scratch[80];
static const char *init_path, *forbidden_path;
static struct oci_runtime runtime;
static struct model model;
static struct workspace *workspaces[2];

struct outcome {
	struct oci_result result;
	char out[OUTPUT_MAX], err[OUTPUT_MAX];
	size_t out_size, err_size;
	int cancel_fd;                   /* written to as soon as "ready" was put out; -1: never */
	char why[512];
};

static const struct model_entry tree[] = {
	{ .path = "", .type = S_IFDIR },
	{ .path = "hello.c", .text = "#include <stdio.h>\nint main(void) { puts(\"hello from C\"); return 3; }\n" },
	{ .path = "data/one", .text = "1" },
	{ .path = "data/two", .text = "2" },
	{ .path = "script", .text = "#!/bin/sh\necho from a script\n", .mode = 0755 },
};

static int on_output(void *context, int stream, const uint8_t *data, size_t size)
{
	struct outcome *outcome = context;
	char *text = stream == 1 ? outcome->out : outcome->err;
	size_t *used = stream == 1 ? &outcome->out_size : &outcome->err_size;
	size_t room = OUTPUT_MAX - 1 - *used;

	size = size < room ? size : room;
	memcpy(text + *used, data, size);
	*used += size;
	text[*used] = 0;
	if (outcome->cancel_fd >= 0 && strstr(outcome->out, "ready"))
		assert_int_equal(eventfd_write(outcome->cancel_fd, 1), 0);
	return 0;
}

static struct oci_command command_for(unsigned slot, const char *const *argv)
{
	return (struct oci_command){
		.id = slot ? "oci-test-1" : "oci-test-0",
		.argv = argv,
		.limits = { .memory_bytes = 256u << 20, .cpu_millis = 2000, .pids_max = 64 },
		.uid_base = workspace_uid_base(workspaces[slot]),
		.uid_count = workspace_uid_count(workspaces[slot]),
		.work_dir = workspace_merged_path(workspaces[slot]),
		.bundle_dir = workspace_bundle_path(workspaces[slot]),
		.init_path = init_path,
	};
}

static int run_command(unsigned slot, const struct oci_command *command, uint64_t timeout_ns, struct outcome *outcome)
{
	const struct oci_run run = {
		.runtime = &runtime, .command = command, .timeout_ns = timeout_ns, .cancel_fd = outcome->cancel_fd,
		.output = on_output, .context = outcome,
	};
	int r;

	CHECK(workspace_mount(workspaces[slot], outcome->why, sizeof(outcome->why)) == 0);
	r = oci_run(&run, &outcome->result, outcome->why, sizeof(outcome->why));
	CHECK(workspace_unmount(workspaces[slot], outcome->why, sizeof(outcome->why)) == 0);
	return r;
}

static struct outcome *run_argv(const char *const *argv)
{
	static struct outcome outcome;
	struct oci_command command = command_for(0, argv);

	outcome = (struct outcome){ .cancel_fd = -1 };
	if (run_command(0, &command, 60 * SECOND, &outcome))
		fail_msg("%s", outcome.why);
	return &outcome;
}

static struct outcome *run_shell(const char *script)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };

	return run_argv(argv);
}

static void expect(const struct outcome *outcome, int status, const char *out)
{
	if (outcome->result.exit_status != status || strcmp(outcome->out, out) != 0)
		fail_msg("status %d, output: %s%s", outcome->result.exit_status, outcome->out, outcome->err);
}

/* Of processes: owned by one of our ranges of ids. */
static size_t count_processes(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t count = 0;

	while ((entry = readdir(dir))) {
		char path[300];
		struct stat stat_buffer;

		snprintf(path, sizeof(path), "/proc/%s", entry->d_name);
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && stat(path, &stat_buffer) == 0 && stat_buffer.st_uid >= UID_BASE &&
		    stat_buffer.st_uid < UID_BASE + 2 * WORKSPACE_UID_COUNT)
			count++;
	}
	closedir(dir);
	return count;
}

static void expect_nothing_left(void)
{
	static const char *const hierarchies[] = { "", "memory/", "pids/", "cpu/", "devices/", "systemd/", "unified/" };
	FILE *file = fopen("/proc/self/mountinfo", "r");
	char line[4096];
	DIR *dir;
	struct dirent *entry;

	while (fgets(line, sizeof(line), file))
		assert_null(strstr(line, top));
	fclose(file);
	assert_int_equal(count_processes(), 0);
	for (size_t i = 0; i < 2 * COUNT(hierarchies); i++) {
		snprintf(line, sizeof(line), "/sys/fs/cgroup/%ssluice/oci-test-%zu", hierarchies[i / 2], i % 2);
		assert_int_equal(access(line, F_OK), -1);
	}
	dir = opendir(runtime.state_dir);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "oci-test", 8) == 0)
			fail_msg("container %s is left", entry->d_name);
	}
	if (dir)
		closedir(dir);
}

static void remove_slots(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	assert_int_equal(beneath_remove(fd, "slots"), 0);
	close(fd);
}

static void open_workspaces(void)
{
	struct digest root = model_tree(&model, tree, COUNT(tree), 0);
	char why[512];

	if (workspace_recover(slots, why, sizeof(why)))
		fail_msg("%s", why);
	for (unsigned slot = 0; slot < COUNT(workspaces); slot++) {
		const struct workspace_options options = {
			.root = slots, .slot = slot, .uid_base = UID_BASE + slot * WORKSPACE_UID_COUNT, .uid_count = WORKSPACE_UID_COUNT,
		};

		if (workspace_open(&workspaces[slot], &options, why, sizeof(why)) ||
		    workspace_materialise(workspaces[slot], &root, &model.source, NULL, why, sizeof(why)))
			fail_msg("%s", why);
	}
}

static int setup(void **state)
{
	model_init(&model);
	remove_slots();                  /* a test may have put things into a tree */
	open_workspaces();
	return 0;
}

static int teardown(void **state)
{
	expect_nothing_left();
	for (unsigned slot = 0; slot < COUNT(workspaces); slot++)
		workspace_close(workspaces[slot]);
	model_fini(&model);
	return 0;
}

static void streams_and_statuses(void **state)
{
	static const char *const missing[] = { "no-such-program", NULL }, *const not_executable[] = { "/etc/passwd", NULL };
	struct outcome *outcome = run_shell("echo to stdout; echo to stderr >&2; exit 7");

	expect(outcome, 7, "to stdout\n");
	assert_string_equal(outcome->err, "to stderr\n");
	assert_false(outcome->result.out_of_memory || outcome->result.timed_out || outcome->result.cancelled);
	expect(run_shell("cat; echo end"), 0, "end\n");         /* stdin is at its end */
	expect(run_shell("kill -9 $$"), 137, "");
	expect(run_shell("kill -ABRT $$"), 134, "");
	expect(run_shell("echo a > /dev/stdout; echo b > /dev/stderr"), 0, "a\n");
	outcome = run_argv(missing);
	assert_int_equal(outcome->result.exit_status, 127);
	assert_non_null(strstr(outcome->err, "no-such-program"));
	assert_int_equal(run_argv(not_executable)->result.exit_status, 126);
	expect(run_shell("head -c 60000 /dev/zero | tr '\\0' x | wc -c"), 0, "60000\n");
	expect(run_shell("(sleep 1000 &) ; echo over"), 0, "over\n");   /* what it leaves running ends with it */
}

/* Without the init program the runtime itself says why it cannot start. */
static void without_init(void **state)
{
	static const char *const good[] = { "/bin/echo", "as PID 1", NULL }, *const missing[] = { "no-such-program", NULL };
	const char *kept = init_path;

	init_path = NULL;
	expect(run_argv(good), 0, "as PID 1\n");
	assert_int_equal(run_argv(missing)->result.exit_status, 127);
	init_path = kept;
}

static void it_builds(void **state)
{
	if (access("/usr/bin/cc", X_OK))
		skip();
	expect(run_shell("./script && cc -o hello hello.c && ./hello"), 3, "from a script\nhello from C\n");
}

static int on_deleted(void *context, enum collect_kind kind, const char *path)
{
	strcat(strcat(context, path), " ");
	return 0;
}

static void changes_are_collected(void **state)
{
	static const struct model_entry changed[] = {
		{ .path = "", .type = S_IFDIR },
		{ .path = "out/result", .text = "made\n" },
		{ .path = "data", .type = S_IFDIR },
		{ .path = "link", .type = S_IFLNK, .text = "out/result" },
	};
	char deleted[256] = "", why[256];
	int fd;

	expect(run_shell("umask 022; mkdir out && echo made > out/result && rm data/one && ln -s out/result link && pwd"), 0, "/work\n");
	assert_int_equal(workspace_collect(workspaces[0], on_deleted, deleted, why, sizeof(why)), 0);
	assert_string_equal(deleted, "data/one ");
	fd = open(workspace_upper_path(workspaces[0]), O_RDONLY | O_DIRECTORY);
	model_compare(fd, changed, COUNT(changed));
	close(fd);
	expect(run_shell("cat data/one; ls"), 0, "1data\nhello.c\nscript\n");    /* the next action starts from the tree */
}

/* Each of these must fail; the first word of what is left of the output names one that did not. */
static void the_host_is_out_of_reach(void **state)
{
	static char script[4096];
	struct outcome *outcome;

	snprintf(script, sizeof(script),
	         "for path in %s /root /home /etc/shadow /etc/ssh /var/lib /var/log /opt /srv /mnt /boot /sys/fs /proc/1/root/home; do"
	         " ls -d $path >/dev/null 2>&1 && echo visible $path; done;"
	         "for path in /usr/x /bin/x /etc/x /x /lib/x /dev/full/x /proc/sys/kernel/hostname /etc/passwd; do"
	         " (echo x > $path) 2>/dev/null && echo writable $path; done;"
	         "mount -t tmpfs x /tmp 2>/dev/null && echo mount; umount /proc 2>/dev/null && echo umount;"
	         "unshare -U true 2>/dev/null && echo user namespace; unshare -m true 2>/dev/null && echo mount namespace;"
	         "mknod /tmp/null c 1 3 2>/dev/null && echo mknod; chown 12345678 /work/script 2>/dev/null && echo chown;"
	         "hostname other 2>/dev/null && echo hostname; dmesg >/dev/null 2>&1 && echo dmesg;"
	         "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | head -c 1 | grep -q . && echo masked;"
	         "chmod 0 /dev/null 2>/dev/null && echo /dev/null;"
	         "for dir in /proc/[0-9]*; do read name < $dir/comm && case $name in sh|ls|.init|sluice-init) ;; *) echo process $name;; esac; done;"
	         "hostname", top);
	outcome = run_shell(script);
	expect(outcome, 0, "sluice\n");
}

static void the_environment_is_named(void **state)
{
	static const char *const env[] = { "GREETING=hello", "PATH=/usr/bin:/bin", NULL }, *const argv[] = { "env", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	outcome = (struct outcome){ .cancel_fd = -1 };
	command.env = env;
	command.cwd = "/work/data";
	assert_int_equal(setenv("SLUICE_TEST_SECRET", "secret", 1), 0);
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), 0);
	expect(&outcome, 0, "GREETING=hello\nPATH=/usr/bin:/bin\nHOME=/tmp\n");
}

static void hidden_paths_are_empty(void **state)
{
	static const char *const hidden[] = { "/usr/share/doc", "/work/data", NULL };
	static const char *const argv[] = { "sh", "-c", "ls /usr/share/doc | wc -l; ls /work/data | wc -l", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	outcome = (struct outcome){ .cancel_fd = -1 };
	command.hidden = hidden;
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), 0);
	expect(&outcome, 0, "0\n2\n");                          /* /work is the container's own: not the host's path */
}

static void there_is_no_network(void **state)
{
	expect(run_shell("tail -n +3 /proc/net/dev | cut -d: -f1; tail -n +2 /proc/net/route; cat /proc/net/unix | wc -l"), 0, "    lo\n1\n");
}

/* ---- a network that was asked for ---- */

#define OUTSIDE "192.0.2.1"              /* of this test's own namespace: nobody else's machine is asked */

/* This thread steps into a network of its own, with one address besides the loopback's. Returns the way back. */
static int step_outside(void)
{
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), fd;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201) };
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	assert_true(own >= 0 && unshare(CLONE_NEWNET) == 0);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "lo:1");
	memcpy(&request.ifr_addr, &address, sizeof(address));
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
	close(fd);
	return own;
}

static void step_back(int own)
{
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	close(own);
}

/* On every address. What comes is left in its queue: that is enough to be connected. */
static int listen_anywhere(uint16_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

/* Of this process, by that name, ended or not. */
static size_t count_children(const char *name)
{
	char path[64], text[64];
	FILE *children = fopen("/proc/thread-self/children", "r"), *file;
	size_t count = 0;
	int pid;

	while (fscanf(children, "%d", &pid) == 1) {
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		file = fopen(path, "r");
		count += file && fgets(text, sizeof(text), file) && strncmp(text, name, strlen(name)) == 0;
		if (file)
			fclose(file);
	}
	fclose(children);
	return count;
}

/* It reaches this machine's addresses, but none of its loopback; and the way out goes with the container. */
static void a_network_when_asked(void **state)
{
	char script[512], why[512];
	const char *const argv[] = { "/bin/bash", "-c", script, NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;
	struct network network;
	uint16_t port;
	int own, fd, r = network_open(&network, why, sizeof(why));

	if (r < 0)
		fail_msg("%s", why);
	assert_int_equal(count_children(NETWORK_PROGRAM), 1);
	network_close(&network);
	network_close(&network);
	assert_int_equal(count_children(NETWORK_PROGRAM), 0);
	own = step_outside();
	fd = listen_anywhere(&port);
	snprintf(script, sizeof(script), "tail -n +3 /proc/net/dev | cut -d: -f1 | sort | tr -d ' '; cat /etc/resolv.conf; "
	         "try() { (exec 3<>/dev/tcp/$1/%u) 2>/dev/null && echo $1 || echo not $1; }; "
	         "try " OUTSIDE "; try 10.0.2.2; try 127.0.0.1", port);
	outcome = (struct outcome){ .cancel_fd = -1 };
	command.network = true;
	if (run_command(0, &command, 60 * SECOND, &outcome))
		fail_msg("%s", outcome.why);
	close(fd);
	step_back(own);
	expect(&outcome, 0, "lo\ntap0\nnameserver " NETWORK_NAMESERVER "\n" OUTSIDE "\nnot 10.0.2.2\nnot 127.0.0.1\n");
	assert_int_equal(count_children(NETWORK_PROGRAM), 0);
}

static void put_into_tree(const char *from, const char *name, const char *mode)
{
	char script[2 * PATH_MAX];

	snprintf(script, sizeof(script), "cd %s/slot-0/tree && cp %s %s && chown %u %s && chmod %s %s", slots, from, name, UID_BASE, name,
	         mode, name);
	assert_int_equal(system(script), 0);
}

static void dangerous_calls_are_refused(void **state)
{
	put_into_tree(forbidden_path, "forbidden", "755");
	expect(run_shell("./forbidden"), 0, "refused\n");
}

/* A setuid program in the tree, run by an ordinary user of the container, gives it nothing. */
static void setuid_has_no_effect(void **state)
{
	static const char *const argv[] = { "sh", "-c", "id -u; ./setuid -u; grep NoNewPrivs /proc/self/status", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	put_into_tree("/usr/bin/id", "setuid", "4755");
	outcome = (struct outcome){ .cancel_fd = -1 };
	command.uid = command.gid = 1000;
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), 0);
	expect(&outcome, 0, "1000\n1000\nNoNewPrivs:\t1\n");
}

static void processes_are_limited(void **state)
{
	struct outcome *outcome = run_shell("i=0; while [ $i -lt 500 ]; do sleep 100 & i=$((i+1)); done 2>/dev/null; echo all");

	assert_true(outcome->result.exit_status != 0);
	assert_null(strstr(outcome->out, "all"));
}

static void memory_is_limited(void **state)
{
	struct outcome *outcome = run_shell("head -c 1G /dev/zero | tail > /dev/null; true");

	assert_true(outcome->result.out_of_memory);
	outcome = run_shell("head -c 1G /dev/zero > /tmp/file");        /* its /tmp is memory, too */
	assert_int_not_equal(outcome->result.exit_status, 0);
}

static void time_is_limited(void **state)
{
	static const char *const argv[] = { "sh", "-c", "trap '' TERM INT HUP; (setsid sleep 1000 &); while :; do sleep 1000; done", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	outcome = (struct outcome){ .cancel_fd = -1 };
	assert_int_equal(run_command(0, &command, SECOND / 2, &outcome), 0);
	assert_true(outcome.result.timed_out);
	assert_false(outcome.result.cancelled);
	assert_int_equal(outcome.result.exit_status, 137);
	expect_nothing_left();
}

static void cancel_leaves_nothing(void **state)
{
	static const char *const argv[] = { "sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait", NULL };
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	outcome = (struct outcome){ .cancel_fd = eventfd(0, EFD_CLOEXEC) };
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), 0);
	assert_true(outcome.result.cancelled);
	assert_false(outcome.result.timed_out);
	close(outcome.cancel_fd);
	expect_nothing_left();
}

struct parallel {
	unsigned slot;
	int r;
	struct outcome outcome;
};

static pthread_barrier_t both_run;

/* Once both run, each is told to go on, by a file that only it can see. */
static int on_parallel_output(void *context, int stream, const uint8_t *data, size_t size)
{
	struct parallel *parallel = context;
	bool was_ready = strstr(parallel->outcome.out, "ready");

	on_output(&parallel->outcome, stream, data, size);
	if (!was_ready && strstr(parallel->outcome.out, "ready")) {
		char path[PATH_MAX];

		pthread_barrier_wait(&both_run);
		snprintf(path, sizeof(path), "%s/go", workspace_merged_path(workspaces[parallel->slot]));
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
	return 0;
}

static void *run_parallel(void *argument)
{
	struct parallel *parallel = argument;
	const char *const argv[] = {
		"sh", "-c", "echo $0 > mine; echo ready; until [ -e go ]; do sleep 0.02; done; cat mine; ls; set -- /proc/[0-9]*; echo $#",
		parallel->slot ? "one" : "zero", NULL,
	};
	struct oci_command command = command_for(parallel->slot, argv);
	const struct oci_run run = {
		.runtime = &runtime, .command = &command, .timeout_ns = 60 * SECOND, .cancel_fd = -1,
		.output = on_parallel_output, .context = parallel,
	};
	char *why = parallel->outcome.why;

	CHECK(workspace_mount(workspaces[parallel->slot], why, sizeof(parallel->outcome.why)) == 0);
	parallel->r = oci_run(&run, &parallel->outcome.result, why, sizeof(parallel->outcome.why));
	CHECK(workspace_unmount(workspaces[parallel->slot], why, sizeof(parallel->outcome.why)) == 0);
	return NULL;
}

static void slots_do_not_see_each_other(void **state)
{
	static struct parallel parallel[2];
	pthread_t threads[2];

	assert_int_equal(pthread_barrier_init(&both_run, NULL, 2), 0);
	for (unsigned i = 0; i < 2; i++) {
		parallel[i] = (struct parallel){ .slot = i, .outcome.cancel_fd = -1 };
		assert_int_equal(pthread_create(&threads[i], NULL, run_parallel, &parallel[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(parallel[0].r | parallel[1].r, 0);
	expect(&parallel[0].outcome, 0, "ready\nzero\ndata\ngo\nhello.c\nmine\nscript\n2\n");
	expect(&parallel[1].outcome, 0, "ready\none\ndata\ngo\nhello.c\nmine\nscript\n2\n");
}

/* The root of an image: nothing of the host is there at all. */
static void an_image_is_the_root(void **state)
{
	static const char *const argv[] = {
		"busybox", "sh", "-c", "/bin/busybox ls /; /bin/busybox cat data/one; (echo > /bin/x) 2>/dev/null || echo read-only", NULL,
	};
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;
	char rootfs[96], script[512];

	if (access("/bin/busybox", X_OK))
		skip();
	snprintf(rootfs, sizeof(rootfs), "%s/rootfs", top);
	snprintf(script, sizeof(script), "cd %s && mkdir -m 755 rootfs && cd rootfs && mkdir -p bin proc dev tmp run var/tmp work etc && "
	         "cp /bin/busybox bin && chown -R %u:%u . && touch marker", top, UID_BASE, UID_BASE);
	assert_int_equal(system(script), 0);
	outcome = (struct outcome){ .cancel_fd = -1 };
	command.image_rootfs = rootfs;
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), 0);
	expect(&outcome, 0, "bin\ndev\netc\nmarker\nproc\nrun\ntmp\nvar\nwork\n1read-only\n");
}

/* A host that was killed leaves its containers running: the next one ends them. */
static void stale_containers_are_deleted(void **state)
{
	static const char *const argv[] = { "sleep", "1000", NULL };
	struct oci_command command = command_for(0, argv);
	struct oci_process *process;
	char why[512];
	int out, err, status;
	bool out_of_memory;

	assert_int_equal(workspace_mount(workspaces[0], why, sizeof(why)), 0);
	if (oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)))
		fail_msg("%s", why);
	assert_true(count_processes() > 0);
	oci_cleanup_bundle(&runtime, workspace_bundle_path(workspaces[1]));     /* another slot's: nothing is there */
	assert_true(count_processes() > 0);
	if (*state)
		oci_cleanup_bundle(&runtime, workspace_bundle_path(workspaces[0]));
	else
		oci_cleanup_stale(&runtime);
	assert_int_equal(oci_finish(process, &status, &out_of_memory), 0);
	assert_int_equal(status, 137);
	close(out);
	close(err);
	assert_int_equal(workspace_unmount(workspaces[0], why, sizeof(why)), 0);
}

/* Likewise one slot's process. */
static void a_stale_container_of_a_slot_is_deleted(void **state)
{
	void *by_bundle = state;

	stale_containers_are_deleted(&by_bundle);
}

static void bad_commands_are_refused(void **state)
{
	static const char *const argv[] = { "true", NULL }, *const bytes[] = { "echo", "\xff", NULL }, *const empty[] = { NULL };
	static const char *const ids[] = { "", "../x", "a b", ".hidden", "-x", "a/b" };
	struct oci_command command = command_for(0, argv);
	struct oci_process *process;
	char why[512];
	int out, err;

	for (size_t i = 0; i < COUNT(ids); i++) {
		command.id = ids[i];
		assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	}
	command = command_for(0, argv);
	command = command_for(0, empty);
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	command = command_for(0, argv);
	command.cwd = "relative";
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	command = command_for(0, argv);
	command.bundle_dir = "/nonexistent/bundle";             /* our own fault is no missing program */
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EIO);
	command = command_for(0, bytes);
	assert_int_equal(oci_start(&process, &runtime, &command, &out, &err, why, sizeof(why)), -EINVAL);
	assert_string_equal(why, "command: an argument or variable is not UTF-8 text");
}

/* A runtime may give its standard streams to the container's user: the host's /dev/null must not be among them. */
static void the_probe_says_why(void **state)
{
	struct oci_runtime other;
	struct stat stat_buffer;

	assert_int_equal(oci_probe(&other, "no-such-runtime", scratch), -ENOENT);
	assert_false(other.works);
	assert_string_equal(other.why, "no-such-runtime: not installed");
	assert_int_equal(oci_probe(&other, "/bin/false", scratch), -ENOENT);
	assert_int_equal(chmod(top, 0700), 0);
	assert_int_equal(oci_probe(&other, NULL, scratch), -ENOENT);
	assert_non_null(strstr(other.why, "closed to others"));
	assert_int_equal(chmod(top, 0711), 0);
	assert_int_equal(stat("/dev/null", &stat_buffer), 0);
	assert_int_equal(stat_buffer.st_uid, 0);
	assert_int_equal(stat_buffer.st_mode & 07777, 0666);
}

static int run_group(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(streams_and_statuses, setup, teardown),
		cmocka_unit_test_setup_teardown(without_init, setup, teardown),
		cmocka_unit_test_setup_teardown(it_builds, setup, teardown),
		cmocka_unit_test_setup_teardown(changes_are_collected, setup, teardown),
		cmocka_unit_test_setup_teardown(the_host_is_out_of_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(the_environment_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(hidden_paths_are_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(there_is_no_network, setup, teardown),
		cmocka_unit_test_setup_teardown(a_network_when_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(dangerous_calls_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(setuid_has_no_effect, setup, teardown),
		cmocka_unit_test_setup_teardown(processes_are_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_is_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(time_is_limited, setup, teardown),
		cmocka_unit_test_setup_teardown(cancel_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(slots_do_not_see_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(an_image_is_the_root, setup, teardown),
		cmocka_unit_test_setup_teardown(stale_containers_are_deleted, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stale_container_of_a_slot_is_deleted, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_commands_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(the_probe_says_why, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

static void remove_top(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY);

	beneath_clear(fd);
	close(fd);
	rmdir(top);
}

int main(int argc, char **argv)
{
	int r = 77;

	if (argc < 3) {
		fprintf(stderr, "oci_test INIT FORBIDDEN\n");
		return 1;
	}
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		fprintf(stderr, "SKIPPED: oci_test needs root: %s\n", strerror(errno));
		return 77;
	}
	init_path = realpath(argv[1], NULL);      /* the runtime looks from the bundle's directory */
	forbidden_path = realpath(argv[2], NULL);
	strcpy(top, "/var/tmp/oci-test-XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0711))
		return 1;
	snprintf(slots, sizeof(slots), "%s/slots", top);
	snprintf(scratch, sizeof(scratch), "%s/scratch", top);
	if (oci_probe(&runtime, NULL, scratch))
		fprintf(stderr, "SKIPPED: no OCI runtime works here: %s\n", runtime.why);
	else
		r = run_group();
	remove_top();
	return r;
}
