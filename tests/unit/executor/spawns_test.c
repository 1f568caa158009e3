/*
 * spawns: what a daemon in its namespaces sees and reaches, and what it does not: other daemons' roots and sockets, the
 * store, processes, mounts and cgroups of the host, and whatever listens on the host's loopback; who can connect to it;
 * and that nothing of it is left, however it, its keeper or the host ends: no process, mount or cgroup, while its root
 * is kept. A stand-in is the daemon. Needs root, and slirp4netns for the way out: skipped loudly without.
 * argv[1]: the init program; argv[3]: spawn_stand_in.c, built.
 *
 * All of it runs in a network namespace of its own, so "the host's loopback" is nobody's but the test's.
 */
#include "gateway/executor/spawns.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/executor/tool.h"

#define GATEWAY     1900000000u          /* nothing else on the machine has this id */
#define STRANGER    1900000001u
#define ANSWER_MAX  65536
#define ROUTABLE    "10.99.0.1"          /* an address of the host that is not its loopback */

static const char *init_path, *stand_in_path;
static char top[32], host_path[64], secret_path[64];
static const char *hidden[3];
static bool has_slirp;

static struct spawn_config config_for(enum spawn_network network)
{
	return (struct spawn_config){
		.path = host_path, .buildkitd = stand_in_path, .init = init_path, .network = network, .uid = GATEWAY, .gid = GATEWAY,
		.hidden = hidden,
	};
}

/* ---- talking to a daemon ---- */

static int dial(const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static const char *read_answer(int fd)
{
	static char text[ANSWER_MAX];
	size_t size = 0;
	ssize_t more;

	while (size + 1 < sizeof(text) && (more = read(fd, text + size, sizeof(text) - 1 - size)) > 0)
		size += (size_t)more;
	text[size] = 0;
	return text;
}

/* Borrowed until the next. */
__attribute__((format(printf, 2, 3))) static const char *ask(const char *socket_path, const char *format, ...)
{
	char line[512];
	const char *text;
	va_list arguments;
	int fd = dial(socket_path);

	assert_true(fd >= 0);
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	text = read_answer(fd);
	close(fd);
	return text;
}

/* ---- daemons ---- */

static struct spawn_event wait_event(struct spawns *spawns)
{
	struct pollfd poll_fd = { .fd = spawns_fd(spawns), .events = POLLIN };
	struct spawn_event event;

	while (!spawns_next(spawns, &event))
		assert_true(poll(&poll_fd, 1, 60000) == 1);
	return event;
}

static struct spawn_event start_ready(struct spawns *spawns, uint64_t id, const char *tenant, uint32_t number)
{
	struct spawn_event event;

	assert_int_equal(spawns_start(spawns, id, span_text(tenant), number), 0);
	event = wait_event(spawns);
	if (event.state != SPAWN_READY)
		print_error("%s\n", event.why);
	assert_int_equal(event.state, SPAWN_READY);
	assert_int_equal(event.id, id);
	return event;
}

static struct spawn_event stop(struct spawns *spawns, uint64_t id)
{
	struct spawn_event event;

	spawns_stop(spawns, id);
	event = wait_event(spawns);
	assert_int_equal(event.id, id);
	assert_int_equal(event.state, SPAWN_ENDED);
	return event;
}

static void reap_all(void)
{
	while (wait(NULL) > 0)
		;
}

/* No mount, no cgroup of any daemon. */
static void assert_nothing_left(void)
{
	char text[ANSWER_MAX], why[256];
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	struct spawn_directory directory;
	struct spawn_cgroup cgroup;

	assert_true(fd >= 0);
	snprintf(text, sizeof(text), "%s", read_answer(fd));
	close(fd);
	assert_null(strstr(text, host_path));
	assert_int_equal(spawn_directory_locate(&directory, host_path, span_text("alpha"), 0, why, sizeof(why)), 0);
	if (spawn_cgroup_init(&cgroup, directory.name, why, sizeof(why)))
		return;
	for (size_t i = 0; i < cgroup.count; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/sluice-buildkit/%s", cgroup.hierarchies[i].mount, directory.name);
		assert_int_equal(access(path, F_OK), -1);
	}
}

/* ---- tests ---- */

static void test_sees_its_own_and_nothing_else(void **state)
{
	struct spawn_config config = config_for(SPAWN_NETWORK_NONE);
	struct spawn_event alpha, beta;
	struct spawns *spawns;
	unsigned parent, processes;
	char text[ANSWER_MAX];

	assert_int_equal(spawns_create(&spawns, &config), 0);
	alpha = start_ready(spawns, 1, "alpha", 0);
	beta = start_ready(spawns, 2, "beta", 0);
	assert_string_not_equal(alpha.socket, beta.socket);

	assert_string_equal(ask(alpha.socket, "write /var/lib/buildkit/mine"), "yes");
	assert_string_equal(ask(beta.socket, "look /var/lib/buildkit/mine"), "no");
	assert_string_equal(ask(alpha.socket, "write /tmp/mine"), "yes");
	assert_string_equal(ask(beta.socket, "look /tmp/mine"), "no");
	assert_string_equal(access("/tmp/mine", F_OK) ? "no" : "yes", "no");
	/* Its programs, but not to be changed. */
	assert_string_equal(ask(beta.socket, "look /usr/bin/env"), "yes");
	assert_string_equal(ask(beta.socket, "write /usr/mine"), "Read-only file system");
	/* The host's directories: the daemons', the secret in the store's place, what else there is. */
	assert_string_equal(ask(beta.socket, "look %s", alpha.socket), "no");
	assert_string_equal(ask(beta.socket, "look %s", host_path), "no");
	assert_string_equal(ask(beta.socket, "look %s", secret_path), "no");
	assert_string_equal(ask(beta.socket, "look /etc/shadow"), "no");
	assert_string_equal(ask(beta.socket, "look /proc/1/root%s", secret_path), "no");
	assert_string_equal(ask(beta.socket, "look /home"), "no");
	/* What is hidden and lies below what is shown is covered. */
	assert_string_equal(ask(beta.socket, "list /usr/share/doc"), ".\n..\n");
	/* Of the host's processes none, of its mounts none but those that were given. */
	assert_int_equal(sscanf(ask(beta.socket, "whoami"), "%u %u", &parent, &processes), 2);
	assert_int_equal(parent, 1);
	assert_int_equal(processes, 2);
	snprintf(text, sizeof(text), "%s", ask(beta.socket, "file /proc/self/mountinfo"));
	assert_non_null(strstr(text, " /var/lib/buildkit "));
	assert_null(strstr(text, "alpha"));
	/* cgroups begin at its own. */
	snprintf(text, sizeof(text), "%s", ask(beta.socket, "file /proc/self/cgroup"));
	assert_null(strstr(text, "sluice-buildkit"));
	assert_null(strstr(ask(beta.socket, "list /sys/fs/cgroup/memory"), "sluice-buildkit"));

	stop(spawns, 1);
	stop(spawns, 2);
	reap_all();
	assert_nothing_left();
	spawns_destroy(spawns);
}

static void test_only_the_gateway_connects(void **state)
{
	static const unsigned ids[] = { GATEWAY, STRANGER };
	struct spawn_config config = config_for(SPAWN_NETWORK_NONE);
	struct spawn_event event;
	struct spawns *spawns;

	assert_int_equal(spawns_create(&spawns, &config), 0);
	event = start_ready(spawns, 1, "alpha", 0);
	for (size_t i = 0; i < 2; i++) {
		int status;
		pid_t child = fork();

		if (child == 0) {
			if (setresgid(ids[i], ids[i], ids[i]) || setresuid(ids[i], ids[i], ids[i]))
				_exit(99);
			_exit(dial(event.socket) >= 0 ? 0 : errno);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(WEXITSTATUS(status), ids[i] == GATEWAY ? 0 : EACCES);
	}
	stop(spawns, 1);
	reap_all();
	spawns_destroy(spawns);
}

/* Says a byte to whoever connects. */
static void *serve_bytes(void *context)
{
	int fd = *(int *)context, client;

	while ((client = accept(fd, NULL, NULL)) >= 0) {
		if (write(client, "x", 1) < 0)
			break;
		close(client);
	}
	return NULL;
}

static int listen_on(const char *ip, int *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, ip, &address.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

static void ask_network(struct spawns *spawns, int routable_port, int loopback_port)
{
	struct spawn_event event = start_ready(spawns, 1, "alpha", 0);

	/* It reaches what the host reaches, which also shows that the noes below are none for want of a network. */
	assert_string_equal(ask(event.socket, "connect " ROUTABLE " %d", routable_port), "yes");
	assert_string_not_equal(ask(event.socket, "connect 127.0.0.1 %d", loopback_port), "yes");
	/* The addresses that slirp4netns has for the host and for its name server, and one that it has for nothing. */
	assert_string_not_equal(ask(event.socket, "connect 10.0.2.2 %d", loopback_port), "yes");
	assert_string_not_equal(ask(event.socket, "connect 10.0.2.3 %d", loopback_port), "yes");
	assert_string_not_equal(ask(event.socket, "connect 10.0.2.77 %d", loopback_port), "yes");
	stop(spawns, 1);
}

static void test_network_has_a_way_out_but_not_to_the_loopback(void **state)
{
	struct spawn_config config = config_for(SPAWN_NETWORK_SLIRP);
	int routable_port, loopback_port, routable = listen_on(ROUTABLE, &routable_port),
	    loopback = listen_on("127.0.0.1", &loopback_port);
	pthread_t threads[2];
	struct spawns *spawns;

	if (!has_slirp) {
		close(routable);
		close(loopback);
		print_message("SKIPPED: no " NETWORK_PROGRAM ": apt-get install " NETWORK_PROGRAM "\n");
		skip();
	}
	assert_int_equal(spawns_create(&spawns, &config), 0);
	assert_int_equal(pthread_create(&threads[0], NULL, serve_bytes, &routable), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, serve_bytes, &loopback), 0);
	ask_network(spawns, routable_port, loopback_port);
	shutdown(routable, SHUT_RDWR);
	shutdown(loopback, SHUT_RDWR);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	close(routable);
	close(loopback);
	reap_all();
	assert_nothing_left();
	spawns_destroy(spawns);
}

/* As after kill -9 of buildkitd: its mounts and children go, its root stays, and is the next one's of this tenant. */
static void test_killed_daemon_leaves_only_its_root(void **state)
{
	struct spawn_config config = config_for(SPAWN_NETWORK_NONE);
	struct spawn_event event;
	struct spawns *spawns;
	char byte;
	int child;

	assert_int_equal(spawns_create(&spawns, &config), 0);
	event = start_ready(spawns, 1, "alpha", 0);
	assert_string_equal(ask(event.socket, "write /var/lib/buildkit/kept"), "yes");
	assert_string_equal(ask(event.socket, "write /tmp/left"), "yes");
	assert_string_equal(ask(event.socket, "mount /var/lib/buildkit/mounted"), "yes");
	assert_string_equal(ask(event.socket, "mount /tmp/mounted"), "yes");
	child = dial(event.socket);
	assert_int_equal(write(child, "fork", 4), 4);
	assert_int_equal(read(child, &byte, 1), 1);

	ask(event.socket, "die");
	event = wait_event(spawns);
	assert_int_equal(event.state, SPAWN_ENDED);
	assert_non_null(strstr(event.why, "killed by signal 9"));
	assert_non_null(strstr(event.why, "stand-in listens"));  /* what it said last */
	read_answer(child);              /* returns when the child, which holds the other end, is gone */
	close(child);
	reap_all();
	assert_nothing_left();

	event = start_ready(spawns, 2, "alpha", 0);
	assert_string_equal(ask(event.socket, "look /var/lib/buildkit/kept"), "yes");
	assert_string_equal(ask(event.socket, "look /tmp/left"), "no");
	assert_null(strstr(ask(event.socket, "file /proc/self/mountinfo"), "mounted"));
	/* Another root of the same tenant is another. */
	event = start_ready(spawns, 3, "alpha", 1);
	assert_string_equal(ask(event.socket, "look /var/lib/buildkit/kept"), "no");
	stop(spawns, 2);
	stop(spawns, 3);
	reap_all();
	spawns_destroy(spawns);
}

/* The host is killed: so are its keepers, and their daemons with all that they started. */
static void test_dies_with_the_host(void **state)
{
	struct spawn_config config = config_for(SPAWN_NETWORK_NONE);
	struct spawn_event event;
	struct spawns *spawns;
	int pipe_fds[2], child;
	char byte;
	pid_t host, parent = getpid();

	assert_int_equal(pipe(pipe_fds), 0);
	host = fork();
	if (host == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || spawns_create(&spawns, &config) || spawns_start(spawns, 1, span_text("alpha"), 0))
			_exit(1);
		event = wait_event(spawns);
		if (write(pipe_fds[1], &event, sizeof(event)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(pipe_fds[0], &event, sizeof(event)), sizeof(event));
	assert_int_equal(event.state, SPAWN_READY);
	child = dial(event.socket);
	assert_int_equal(write(child, "fork", 4), 4);
	assert_int_equal(read(child, &byte, 1), 1);
	kill(host, SIGKILL);
	assert_int_equal(waitpid(host, NULL, 0), host);
	read_answer(child);              /* returns at their end */
	close(child);
	close(pipe_fds[0]);
	close(pipe_fds[1]);

	/* The next host finds the cgroup that was left, and starts on the same root. */
	assert_int_equal(spawns_create(&spawns, &config), 0);
	start_ready(spawns, 1, "alpha", 0);
	stop(spawns, 1);
	reap_all();
	assert_nothing_left();
	spawns_destroy(spawns);
}

static void test_what_cannot_be_started_says_why(void **state)
{
	struct spawn_config config = config_for(SPAWN_NETWORK_NONE);
	struct spawn_event event;
	struct spawns *spawns;

	config.buildkitd = "/nowhere/buildkitd";
	assert_int_equal(spawns_create(&spawns, &config), 0);
	assert_int_equal(spawns_start(spawns, 1, span_text(""), 0), -EINVAL);
	assert_int_equal(spawns_start(spawns, 1, span_text("alpha"), 0), 0);
	assert_int_equal(spawns_start(spawns, 1, span_text("beta"), 0), -EEXIST);        /* the id */
	assert_int_equal(spawns_start(spawns, 2, span_text("alpha"), 0), -EEXIST);       /* the root */
	event = wait_event(spawns);
	assert_int_equal(event.state, SPAWN_ENDED);
	assert_non_null(strstr(event.why, "--buildkitd"));
	reap_all();

	config.buildkitd = "/bin/false";
	assert_int_equal(spawns_start(spawns, 2, span_text("alpha"), 0), 0);
	event = wait_event(spawns);
	assert_int_equal(event.state, SPAWN_ENDED);
	assert_non_null(strstr(event.why, "ended with status 1"));
	reap_all();
	assert_nothing_left();
	spawns_destroy(spawns);
}

/* The keeper itself is killed: the daemon goes with it, and its end is told all the same. */
static void test_a_lost_keeper_is_told(void **state)
{
	struct spawn_config config = config_for(SPAWN_NETWORK_NONE);
	struct spawn_event event;
	struct spawns *spawns;
	char path[64], text[32] = "";
	pid_t keeper;
	int fd;

	assert_int_equal(spawns_create(&spawns, &config), 0);
	start_ready(spawns, 1, "alpha", 0);
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	keeper = (pid_t)atoi(text);
	assert_true(keeper > 1);
	kill(keeper, SIGKILL);
	assert_int_equal(waitpid(keeper, NULL, 0), keeper);
	assert_false(spawns_next(spawns, &event));
	assert_true(spawns_reaped(spawns, keeper));
	assert_true(spawns_next(spawns, &event));
	assert_int_equal(event.id, 1);
	assert_int_equal(event.state, SPAWN_ENDED);
	assert_false(spawns_next(spawns, &event));
	start_ready(spawns, 2, "alpha", 0);
	stop(spawns, 2);
	reap_all();
	assert_nothing_left();
	spawns_destroy(spawns);
}

static void test_limits_hold(void **state)
{
	struct spawn_config config = config_for(SPAWN_NETWORK_NONE);
	struct spawn_cgroup cgroup;
	struct spawn_event event;
	struct spawns *spawns;
	char why[256], text[64];

	if (spawn_cgroup_init(&cgroup, "x", why, sizeof(why))) {
		print_message("SKIPPED: %s\n", why);
		skip();
	}
	config.limits = (struct spawn_limits){ .memory_bytes = 64u << 20, .cpu_millis = 500, .pids_max = 7 };
	assert_int_equal(spawns_create(&spawns, &config), 0);
	event = start_ready(spawns, 1, "alpha", 0);
	snprintf(text, sizeof(text), "%s", ask(event.socket, "file /sys/fs/cgroup/memory/memory.limit_in_bytes"));
	if (!*text)
		snprintf(text, sizeof(text), "%s", ask(event.socket, "file /sys/fs/cgroup/memory.max"));
	assert_string_equal(text, "67108864\n");
	snprintf(text, sizeof(text), "%s", ask(event.socket, "file /sys/fs/cgroup/pids/pids.max"));
	if (!*text)
		snprintf(text, sizeof(text), "%s", ask(event.socket, "file /sys/fs/cgroup/pids.max"));
	assert_string_equal(text, "7\n");
	stop(spawns, 1);
	reap_all();
	spawns_destroy(spawns);
}

/* Whatever a tenant is called, its directory is one below ours, and no other tenant's. */
static void test_a_tenant_has_a_directory_of_its_own(void **state)
{
	static const char *const names[] = {
		"alpha", "alphA", "al/pha", "../../etc", "", "a very long name of a tenant that goes on and on", "\n", "alpha-", "..",
	};
	char made[sizeof(names) / sizeof(names[0])][SPAWN_TENANT_DIR_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		spawn_directory_of_tenant(span_text(names[i]), made[i]);
		assert_null(strpbrk(made[i], "/.\n "));
		assert_true(strlen(made[i]) >= 17);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(made[i], made[j]);
	}
}

/* ---- the surroundings ---- */

static void put_address(const char *name, const char *ip)
{
	struct ifreq request = { .ifr_flags = IFF_UP };
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request) && ip == NULL, 0);
	if (ip) {
		inet_pton(AF_INET, ip, &address.sin_addr);
		memcpy(&request.ifr_addr, &address, sizeof(address));
		assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
	}
	close(fd);
}

static int set_up(void **state)
{
	char path[PATH_MAX];
	int fd;

	snprintf(top, sizeof(top), "/var/tmp/sluice-sp-XXXXXX");
	assert_non_null(mkdtemp(top));
	assert_int_equal(chmod(top, 0755), 0);
	snprintf(host_path, sizeof(host_path), "%s/host", top);
	snprintf(secret_path, sizeof(secret_path), "%s/secret", top);
	assert_int_equal(mkdir(host_path, 0711), 0);
	fd = open(secret_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	close(fd);
	hidden[0] = secret_path;
	hidden[1] = "/usr/share/doc";
	has_slirp = tool_find(NETWORK_PROGRAM, path, sizeof(path)) == 0;
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	put_address("lo", NULL);
	put_address("lo:1", ROUTABLE);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	return remove(path);
}

static int tear_down(void **state)
{
	nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sees_its_own_and_nothing_else),
		cmocka_unit_test(test_only_the_gateway_connects),
		cmocka_unit_test(test_network_has_a_way_out_but_not_to_the_loopback),
		cmocka_unit_test(test_killed_daemon_leaves_only_its_root),
		cmocka_unit_test(test_dies_with_the_host),
		cmocka_unit_test(test_what_cannot_be_started_says_why),
		cmocka_unit_test(test_a_lost_keeper_is_told),
		cmocka_unit_test(test_limits_hold),
		cmocka_unit_test(test_a_tenant_has_a_directory_of_its_own),
	};

	if (argc < 4)
		return 1;
	if (geteuid() != 0 || unshare(0)) {
		fprintf(stderr, "SKIPPED: spawn needs root\n");
		return 77;
	}
	init_path = argv[1];
	stand_in_path = argv[3];
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
