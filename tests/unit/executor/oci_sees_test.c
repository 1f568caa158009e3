/*
 * Shows what a command in a container gets: its tree, which is its user's, the host's programs, its environment, a network when it
 * asks; and what it does not get: anything else of the host, of another slot, calls that could lead out.
 */
#include "tests/unit/executor/oci_rig.h"

#include "gateway/base/check.h"
#include "gateway/executor/network.h"
#include "gateway/executor/outputs.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* As of a linker: they are bounded by the kernel, in bytes. What it would refuse is said before it is tried. */
static void many_arguments_arrive(void **state)
{
	enum { MANY = 5000, LONG_BYTES = 128 << 10 };
	const char *argv[MANY + 5] = { "sh", "-c", "echo $# ${5000}", "sh" }, *env[MANY + 1] = { NULL };
	char *text = malloc(LONG_BYTES + 1);
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;

	for (size_t i = 0; i < MANY; i++) {
		argv[4 + i] = "objects/one.o";
		env[i] = "NAME=value";
	}
	command.env = env;
	outcome = (struct outcome){ .cancel_fd = -1 };
	if (run_command(0, &command, 60 * SECOND, &outcome))
		fail_msg("%s", outcome.why);
	expect(&outcome, 0, "5000 objects/one.o\n");
	memset(text, 'x', LONG_BYTES);
	text[LONG_BYTES] = 0;
	argv[4] = text;
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), -EINVAL);
	assert_string_equal(outcome.why, "command: an argument or variable is longer than 131071 bytes");
	text[LONG_BYTES - 1] = 0;
	for (size_t i = 0; i < MANY; i++)
		argv[4 + i] = text;
	assert_int_equal(run_command(0, &command, 60 * SECOND, &outcome), -EINVAL);
	assert_non_null(strstr(outcome.why, " bytes of arguments and variables; the kernel takes "));
	free(text);
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

static void prepare_output(const char *path, uint32_t id)
{
	const char *const nothing[] = { NULL }, *const paths[] = { path, NULL };
	struct outputs outputs = {
		.root_fd = open(workspace_merged_path(workspaces[0]), O_RDONLY | O_DIRECTORY), .working_directory = "", .files = nothing,
		.directories = nothing, .paths = paths, .uid = id, .gid = id,
	};
	char why[256];

	if (outputs_prepare(&outputs, why, sizeof(why)))
		fail_msg("%s", why);
	close(outputs.root_fd);
}

/* An image may name one. No capability helps him: the tree and the directories that lead to outputs are his. */
static void a_user_who_is_not_root_writes(void **state)
{
	static const char *const argv[] = {
		"sh", "-c", "id -u && umask 022 && echo 1 >top && echo 2 >made/here/out && echo 3 >>data/two && rm data/one && "
		"chmod 700 script", NULL,
	};
	static const struct model_entry changed[] = {
		{ .path = "", .type = S_IFDIR },
		{ .path = "data/two", .text = "23\n" },
		{ .path = "made/here/out", .text = "2\n" },
		{ .path = "script", .text = "#!/bin/sh\necho from a script\n", .mode = 0700 },
		{ .path = "top", .text = "1\n" },
	};
	struct oci_command command = command_for(0, argv);
	static struct outcome outcome;
	const struct oci_run run = {
		.runtime = &runtime, .command = &command, .timeout_ns = 60 * SECOND, .cancel_fd = -1, .output = on_output,
		.context = &outcome,
	};
	char deleted[256] = "", why[256];
	int fd;

	outcome = (struct outcome){ .cancel_fd = -1 };
	command.uid = command.gid = 1000;
	give_tree(0, 1000, 1000);
	assert_int_equal(workspace_mount(workspaces[0], why, sizeof(why)), 0);
	prepare_output("made/here/out", UID_BASE + 1000);
	assert_int_equal(oci_run(&run, &outcome.result, outcome.why, sizeof(outcome.why)), 0);
	assert_int_equal(workspace_unmount(workspaces[0], why, sizeof(why)), 0);
	expect(&outcome, 0, "1000\n");
	assert_int_equal(workspace_collect(workspaces[0], on_deleted, deleted, why, sizeof(why)), 0);
	assert_string_equal(deleted, "data/one ");
	fd = open(workspace_upper_path(workspaces[0]), O_RDONLY | O_DIRECTORY);
	model_compare(fd, changed, COUNT(changed));
	close(fd);
}

/* Shared by the two processes, as each slot is one. */
struct parallel {
	pthread_barrier_t *both_run;
	unsigned slot;
	int r;
	struct outcome outcome;
};

/* Once both run, each is told to go on, by a file that only it can see. */
static int on_parallel_output(void *context, int stream, const uint8_t *data, size_t size)
{
	struct parallel *parallel = context;
	bool was_ready = strstr(parallel->outcome.out, "ready");

	on_output(&parallel->outcome, stream, data, size);
	if (!was_ready && strstr(parallel->outcome.out, "ready")) {
		char path[PATH_MAX];

		pthread_barrier_wait(parallel->both_run);
		snprintf(path, sizeof(path), "%s/go", workspace_merged_path(workspaces[parallel->slot]));
		close(open(path, O_CREAT | O_WRONLY, 0644));
	}
	return 0;
}

static void run_parallel(struct parallel *parallel)
{
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
}

static void *shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void slots_do_not_see_each_other(void **state)
{
	struct parallel *parallel = shared(2 * sizeof(*parallel));
	pthread_barrier_t *both_run = shared(sizeof(*both_run));
	pthread_barrierattr_t attributes;
	pid_t slot[2];
	int status;

	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	assert_int_equal(pthread_barrier_init(both_run, &attributes, 2), 0);
	for (unsigned i = 0; i < 2; i++) {
		parallel[i] = (struct parallel){ .both_run = both_run, .slot = i, .outcome.cancel_fd = -1 };
		slot[i] = fork();
		if (slot[i] == 0) {
			run_parallel(&parallel[i]);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(waitpid(slot[i], &status, 0), slot[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(parallel[0].r | parallel[1].r, 0);
	expect(&parallel[0].outcome, 0, "ready\nzero\ndata\ngo\nhello.c\nmine\nscript\n2\n");
	expect(&parallel[1].outcome, 0, "ready\none\ndata\ngo\nhello.c\nmine\nscript\n2\n");
	munmap(both_run, sizeof(*both_run));
	munmap(parallel, 2 * sizeof(*parallel));
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

static int run_group(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_builds, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(changes_are_collected, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(the_host_is_out_of_reach, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(the_environment_is_named, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(many_arguments_arrive, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(hidden_paths_are_empty, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(there_is_no_network, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_network_when_asked, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(dangerous_calls_are_refused, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(setuid_has_no_effect, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_user_who_is_not_root_writes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(slots_do_not_see_each_other, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_image_is_the_root, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	return rig_main(argc, argv, run_group);
}
