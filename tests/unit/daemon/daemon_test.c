/*
 * Shows how a daemon comes and goes, each in a process of its own: every start that cannot succeed says why and leaves
 * nothing behind (LeakSanitizer looks, where it is built in); one that runs answers, ends on SIGTERM when its calls have
 * ended, and at once on the second one; one store has one daemon; an ordinary user's has as many connections as root's. And
 * of its parts: a signal reaches the loop once, and never after the end; privileges once dropped do not come back. What needs
 * root is left out for others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/base/clock.h"
#include "gateway/client/client.h"
#include "gateway/daemon/daemon.h"
#include "gateway/daemon/privileges.h"
#include "gateway/daemon/signals.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"
#include "tests/unit/net/keys.h"

#define USER         "nobody"
#define CHILD_FAILED 17
#define PREFACE      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"

static char directory[64], store_path[80], executor_path[80], socket_address[112];

static int setup(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/sluice-daemon-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chmod(directory, 0755), 0);
	snprintf(store_path, sizeof(store_path), "%s/store", directory);
	snprintf(executor_path, sizeof(executor_path), "%s/executor", directory);
	snprintf(socket_address, sizeof(socket_address), "unix://%s/store/s", directory);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static struct daemon_config config_make(const char *const *listen)
{
	return (struct daemon_config){
		.listen = listen, .listen_count = 1, .store_path = store_path, .ceiling = "100MB", .user = USER,
		.drain_timeout_ns = 60000000000u, .executor_path = executor_path,
	};
}

struct child {
	pid_t pid;
	int why_fd;
};

/* daemon_run() in a process, after `first`: its exit status is 0 or 1, and what it says comes by a pipe. */
static struct child child_start_after(const struct daemon_config *config, void (*first)(void))
{
	struct child child;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0) {
		char why[1024] = "";
		int r;

		close(fds[0]);
		alarm(100);
		if (first)
			first();
		r = daemon_run(config, why, sizeof(why));
		if (write(fds[1], why, strlen(why)) < 0)
			_exit(CHILD_FAILED);
		/* Who has changed its ids cannot be looked at, not by LeakSanitizer either. */
		prctl(PR_SET_DUMPABLE, 1);
		exit(r == 0 ? 0 : 1);
	}
	close(fds[1]);
	child.why_fd = fds[0];
	return child;
}

static struct child child_start(const struct daemon_config *config)
{
	return child_start_after(config, NULL);
}

static int child_end(struct child child, char why[static 1024])
{
	size_t size = 0;
	ssize_t more;
	int status;

	while ((more = read(child.why_fd, why + size, 1023 - size)) > 0)
		size += (size_t)more;
	why[size] = 0;
	close(child.why_fd);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect_failure(const struct daemon_config *config, const char *says)
{
	char why[1024];

	assert_int_equal(child_end(child_start(config), why), 1);
	if (!strstr(why, says))
		fail_msg("\"%s\" does not say \"%s\"", why, says);
}

static void what_cannot_start_says_why(void **state)
{
	static const char *const nonsense[] = { "nonsense" }, *const tls[] = { "grpcs://127.0.0.1:0" };
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);

	config.ceiling = "much";
	expect_failure(&config, "--ceiling much");
	config = config_make(listen);
	config.ceiling = "1MB";
	expect_failure(&config, "the ceiling, 1 MB, is too low for the store ");
	expect_failure(&config, "the least is 49MiB, for an index and 4 segments of 8MiB");
	config = config_make(nonsense);
	expect_failure(&config, "nonsense");
	config = config_make(tls);
	expect_failure(&config, "--tls-cert");
	config = config_make(listen);
	config.tls_certificate = config.tls_key = "/nonexistent.pem";
	expect_failure(&config, "/nonexistent.pem");
	config = config_make(listen);
	config.tokens_path = "/nonexistent.tokens";
	expect_failure(&config, "/nonexistent.tokens");
	config = config_make(listen);
	config.admin = "nowhere";
	expect_failure(&config, "nowhere");
	config = config_make(listen);
	config.store_path = "/nonexistent/store";
	expect_failure(&config, "/nonexistent/store");
}

/* Of the server's set, where its user may look. */
static const char *copy_of(char *path, size_t path_size, const char *file, mode_t mode)
{
	char command[600];

	snprintf(path, path_size, "%s/%s", directory, file);
	snprintf(command, sizeof(command), "cp %s %s", keys_path("server", file), path);
	assert_int_equal(system(command), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static void what_root_cannot_start_says_why(void **state)
{
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	char certificate[160], key[160];

	if (geteuid() != 0)
		skip();
	config.user = "no-such-user";
	expect_failure(&config, "useradd");
	config.user = "root";
	expect_failure(&config, "must not be");
	config = config_make(listen);
	assert_int_equal(mkdir(store_path, 0755), 0);
	expect_failure(&config, "`chown -R " USER ": ");
	/* Somebody's files are not to be given away. */
	snprintf(key, sizeof(key), "%s/precious", store_path);
	assert_int_equal(mkdir(key, 0755), 0);
	expect_failure(&config, "is no store, nor an empty directory");
	assert_int_equal(rmdir(key) | rmdir(store_path), 0);
	config = config_make(listen);
	config.tokens_path = copy_of(key, sizeof(key), "key.pem", 0600);
	expect_failure(&config, "to the user " USER ", as whom this runs");
	/* Made by root for root, as `sluice cert` does. */
	config = config_make(listen);
	config.tls_certificate = copy_of(certificate, sizeof(certificate), "cert.pem", 0644);
	config.tls_key = copy_of(key, sizeof(key), "key.pem", 0600);
	expect_failure(&config, "the user " USER ", as whom this runs, may not read it: `chown " USER " ");
	expect_failure(&config, config.tls_key);
	config = config_make(listen);
	/* With an executor host already forked: it ends, too, or this would wait for ever. */
	config.slots = 1;
	config.runtime = "/nonexistent-runtime";
	config.ceiling = "much";
	expect_failure(&config, "--ceiling much");
}

/* ---- running ---- */

static struct client *connect_to(void)
{
	struct client_config config = { .fd = -1, .address.local = true };
	struct client *client;
	char why[512];
	int r = -1;

	snprintf(config.address.host, sizeof(config.address.host), "%s/s", store_path);
	/* There is no event to wait for: another process has to open its socket first. */
	for (int i = 0; i < 10000 && r < 0; i++) {
		r = client_open(&client, &config, why, sizeof(why));
		if (r < 0)
			usleep(2000);
	}
	assert_int_equal(r, 0);
	return client;
}

static void it_answers_and_ends(void **state)
{
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	struct status_response status;
	struct client_call *call;
	struct client *client;
	struct span response;
	struct child child;
	char why[1024];

	config.ceiling = "10%";                  /* of the disk of a directory that is not there yet */
	child = child_start(&config);
	client = connect_to();
	assert_int_equal(client_unary(client, SLUICE_STATUS, (struct span){ 0 }, &call, &response), CLIENT_OK);
	assert_true(message_decode(&status_response_type, response, &status));
	assert_true(span_is(status.tenant, "default"));
	assert_true(status.ceiling_bytes > 0);
	assert_int_equal(status.slots, 0);
	client_call_close(call);
	client_close(client);
	kill(child.pid, SIGTERM);
	assert_int_equal(child_end(child, why), 0);
	assert_string_equal(why, "");
}

/* An answer may be long, and is kept until it is taken. */
static void a_tenant_asks_for_its_status_a_few_times_at_a_time(void **state)
{
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	struct child child = child_start(&config);
	struct client *client = connect_to();
	struct client_call *calls[8], *more;
	struct span response;
	const char *text;
	char why[1024];

	for (int i = 0; i < 8; i++)
		assert_int_equal(client_call_open(&calls[i], client, SLUICE_STATUS, NULL, 0), 0);
	assert_int_equal(client_unary(client, SLUICE_STATUS, (struct span){ 0 }, &more, &response), CLIENT_END);
	assert_int_equal(client_call_status(more, &text), GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(text, "this tenant asks for too much at a time"));
	client_call_close(more);
	client_call_close(calls[0]);
	/* The end of that one comes before the next. */
	assert_int_equal(client_unary(client, SLUICE_STATUS, (struct span){ 0 }, &more, &response), CLIENT_OK);
	client_close(client);
	kill(child.pid, SIGTERM);
	assert_int_equal(child_end(child, why), 0);
}

static void one_store_has_one_daemon(void **state)
{
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	struct child child = child_start(&config);
	struct client *client = connect_to();
	char why[1024];

	expect_failure(&config, store_path);
	client_close(client);
	kill(child.pid, SIGTERM);
	assert_int_equal(child_end(child, why), 0);
}

static bool connection_refused(void)
{
	struct client_config config = { .fd = -1, .address.local = true };
	struct client *client;
	char why[512];

	snprintf(config.address.host, sizeof(config.address.host), "%s/s", store_path);
	if (client_open(&client, &config, why, sizeof(why)) < 0)
		return true;
	client_close(client);
	return false;
}

/* In place of the process that it is called in: an ordinary user, whose soft limit is for programs that know no better. */
static void become_ordinary(void)
{
	struct rlimit few;

	if (getrlimit(RLIMIT_NOFILE, &few) < 0)
		_exit(CHILD_FAILED);
	few.rlim_cur = 256;
	if (setrlimit(RLIMIT_NOFILE, &few) < 0 || (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
		_exit(CHILD_FAILED);
}

static int connect_raw(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s/s", store_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	return fd;
}

/* Without direct descriptors, as epoll is, each connection takes one of the process's. */
static void an_ordinary_user_has_as_many_connections(void **state)
{
	enum { CONNECTIONS = 400 };
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	struct pollfd answer = { .events = POLLIN };
	struct rlimit limit;
	struct client *client;
	struct child child;
	int fds[CONNECTIONS];
	char why[1024];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < 2 * CONNECTIONS)
		skip();
	config.engine = RING_ENGINE_EPOLL;
	config.connections_max = 2 * CONNECTIONS;
	if (geteuid() == 0)
		assert_int_equal(chown(directory, 65534, 65534), 0);
	child = child_start_after(&config, become_ordinary);
	client = connect_to();
	for (int i = 0; i < CONNECTIONS; i++)
		fds[i] = connect_raw();
	answer.fd = fds[CONNECTIONS - 1];
	assert_int_equal(write(answer.fd, PREFACE, sizeof(PREFACE) - 1), sizeof(PREFACE) - 1);
	/* In less than the 10 s after which those that do not shake hands are closed, and make room. */
	assert_int_equal(poll(&answer, 1, 8000), 1);
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
	client_close(client);
	kill(child.pid, SIGTERM);
	assert_int_equal(child_end(child, why), 0);
}

/* Its call keeps it from ending, until it is told a second time. */
static void the_second_signal_ends_it_at_once(void **state)
{
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	struct child child = child_start(&config);
	struct client *client = connect_to();
	struct client_call *call, *status;
	struct span message;
	const char *text;
	char why[1024];
	uint64_t second;

	assert_int_equal(client_call_open(&call, client, SLUICE_PUSH, NULL, 0), 0);
	/* Once a later one has its answer, that call is there. */
	assert_int_equal(client_unary(client, SLUICE_STATUS, (struct span){ 0 }, &status, &message), CLIENT_OK);
	client_call_close(status);
	kill(child.pid, SIGTERM);
	for (int i = 0; i < 10000 && !connection_refused(); i++)
		usleep(1000);
	assert_int_equal(waitpid(child.pid, NULL, WNOHANG), 0);
	second = clock_now_ns();
	kill(child.pid, SIGTERM);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_UNAVAILABLE);
	client_call_close(call);
	client_close(client);
	assert_int_equal(child_end(child, why), 0);
	/* The drain's own time is a minute. */
	assert_true(clock_now_ns() - second < 20000000000u);
}

/* No executor host can be in a directory that is nowhere: it ends without a word, and no build waits for it. */
static void a_host_that_dies_at_once_lets_nobody_wait(void **state)
{
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	struct client_call *call;
	struct client *client;
	struct span message;
	struct buffer solve;
	struct child child;
	uint8_t storage[64];
	char path[96], why[1024];
	const char *text;

	if (geteuid() != 0)
		skip();
	snprintf(path, sizeof(path), "%s/nowhere/executor", directory);
	config.executor_path = path;
	config.spawning = (struct spawning_config){ .host.enabled = true, .max = 1 };
	config.buildkit_queue_timeout_ns = 30000000000u;
	child = child_start(&config);
	client = connect_to();
	solve = buffer_over(storage, sizeof(storage));
	pb_put_text(&solve, 1, "ref");
	pb_put_text(&solve, 6, "dockerfile.v0");
	assert_int_equal(client_unary(client, "/moby.buildkit.v1.Control/Solve", buffer_span(&solve), &call, &message), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_FAILED_PRECONDITION);
	client_call_close(call);
	client_close(client);
	kill(child.pid, SIGTERM);
	assert_int_equal(child_end(child, why), 0);
}

/* Neither does a gateway serve that was to run actions by a runtime it names. */
static void a_host_that_dies_at_once_has_no_runtime(void **state)
{
	const char *listen[] = { socket_address };
	struct daemon_config config = config_make(listen);
	char path[96];

	if (geteuid() != 0)
		skip();
	snprintf(path, sizeof(path), "%s/nowhere/executor", directory);
	config.executor_path = path;
	config.slots = 1;
	config.runtime = "runc";
	expect_failure(&config, "--runtime: no action can run by it: the executor host has ended");
}

/* ---- parts ---- */

static void expect_child(void (*run)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(60);
		run();
		prctl(PR_SET_DUMPABLE, 1);
		exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define MUST(expr) ((expr) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #expr), _exit(CHILD_FAILED)))

static unsigned terms, ints;

static void count_signal(void *context, int number)
{
	terms += number == SIGTERM;
	ints += number == SIGINT;
}

static void signals_child(void)
{
	struct signals *signals;
	struct ring *ring;

	signals_block();
	MUST(ring_create(&ring, &(struct ring_config){ 0 }) == 0);
	MUST(signals_create(&signals, ring, count_signal, NULL) == 0);
	kill(getpid(), SIGTERM);
	while (!terms)
		ring_run(ring, UINT64_MAX);
	kill(getpid(), SIGINT);
	while (!ints)
		ring_run(ring, UINT64_MAX);
	MUST(terms == 1 && ints == 1);
	/* One that is on its way when it ends is not told, and its post does not outlive it. */
	kill(getpid(), SIGTERM);
	usleep(20000);
	signals_destroy(signals);
	while (ring_run(ring, 0))
		;
	MUST(terms == 1);
	signals_destroy(NULL);
	ring_destroy(ring);
}

static void signals_reach_the_loop_once(void **state)
{
	expect_child(signals_child);
}

static bool status_says(const char *name, const char *value)
{
	char line[256], wanted[64];
	bool found = false;
	FILE *file = fopen("/proc/self/status", "r");

	snprintf(wanted, sizeof(wanted), "%s:\t%s", name, value);
	while (file && fgets(line, sizeof(line), file))
		found |= strncmp(line, wanted, strlen(wanted)) == 0;
	if (file)
		fclose(file);
	return found;
}

static void privileges_child(void)
{
	char why[512], link_path[128];
	struct stat st;
	uid_t uid;
	gid_t gid;

	MUST(privileges_user(USER, &uid, &gid, why, sizeof(why)) == 0);
	MUST(privileges_own_directory(store_path, uid, gid, why, sizeof(why)) == 0);
	MUST(stat(store_path, &st) == 0 && st.st_uid == uid && (st.st_mode & 07777) == 0700);
	MUST(privileges_own_directory(store_path, uid, gid, why, sizeof(why)) == 0);
	snprintf(link_path, sizeof(link_path), "%s/link", directory);
	MUST(symlink(store_path, link_path) == 0);
	MUST(privileges_own_directory(link_path, uid, gid, why, sizeof(why)) == -EPERM);
	MUST(privileges_drop(uid, gid, why, sizeof(why)) == 0);
	MUST(getuid() == uid && geteuid() == uid && getgid() == gid && getgroups(0, NULL) == 0);
	MUST(setuid(0) < 0 && setgid(0) < 0);
	MUST(status_says("CapEff", "0000000000000000") && status_says("CapPrm", "0000000000000000"));
	MUST(status_says("NoNewPrivs", "1"));
}

static void privileges_do_not_come_back(void **state)
{
	if (geteuid() != 0)
		skip();
	expect_child(privileges_child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_cannot_start_says_why, setup, teardown),
		cmocka_unit_test_setup_teardown(what_root_cannot_start_says_why, setup, teardown),
		cmocka_unit_test_setup_teardown(it_answers_and_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tenant_asks_for_its_status_a_few_times_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(one_store_has_one_daemon, setup, teardown),
		cmocka_unit_test_setup_teardown(an_ordinary_user_has_as_many_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(the_second_signal_ends_it_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_host_that_dies_at_once_lets_nobody_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(a_host_that_dies_at_once_has_no_runtime, setup, teardown),
		cmocka_unit_test_setup_teardown(signals_reach_the_loop_once, setup, teardown),
		cmocka_unit_test_setup_teardown(privileges_do_not_come_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, keys_make, keys_remove);
}
