/*
 * Shows where a server listens and whom it says that it hears there: the log's peers, unix sockets, addresses that are refused
 * or let go a little later; over both ring engines.
 */
#include "tests/unit/net/server_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/net/socket.h"
#include "gateway/ring/selftest.h"

/* ---- who it is ---- */

/* What was logged, as text; the log goes to the usual place again. */
static void read_log(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	assert_true(n > 0);
	text[n] = '\0';
	log_setup(STDERR_FILENO, LOG_INFO, false);
	close(fd);
}

static void the_log_says_who(void **state, const char *address, const char *host)
{
	struct sockaddr_storage own = { 0 };
	socklen_t size = sizeof(own);
	char text[4096], opened[128], closed[128];
	int fd, log = memfd_create("log", MFD_CLOEXEC);
	struct echo echo;
	uint16_t port;

	rig_start(&echo, state, (struct echo_config){ .address = address });
	log_setup(log, LOG_DEBUG, false);
	fd = wire_connect(echo.bound);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &size), 0);
	port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port :
	                                         ((struct sockaddr_in *)&own)->sin_port);
	wire_open_call(fd, "/test.Echo/Hang");
	while (echo_hanging(&echo) == 0)         /* before that it is not there, or not open */
		echo_status(&echo);
	close(fd);
	echo_until(&echo, rig_connections_are, 0);
	echo_stop(&echo);
	read_log(log, text, sizeof(text));
	snprintf(opened, sizeof(opened), "peer=%s:%u\n", host, port);
	snprintf(closed, sizeof(closed), "peer=%s:%u reason=", host, port);
	if (!strstr(text, opened) || !strstr(text, closed))
		fail_msg("neither %s nor %s in: %s", opened, closed, text);
}

static void the_log_says_who_connected(void **state)
{
	if (*(const enum ring_engine *)*state == RING_ENGINE_URING && selftest_direct() == 0 && selftest_peer() < 0)
		skip();
	the_log_says_who(state, "grpc://127.0.0.1:0", "127.0.0.1");
	if (access("/proc/net/if_inet6", F_OK) == 0)
		the_log_says_who(state, "grpc://[::1]:0", "[::1]");
}

/* ---- unix sockets ---- */

static char socket_path[64], socket_address[80];         /* this process's own */

static void name_socket(void)
{
	snprintf(socket_path, sizeof(socket_path), "/tmp/sluice-server-test-%d.sock", (int)getpid());
	snprintf(socket_address, sizeof(socket_address), "unix://%s", socket_path);
}

static void make_stale_socket(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", socket_path);
	unlink(socket_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	close(fd);
}

static void a_unix_socket_knows_its_peer(void **state)
{
	struct client_call *call;
	struct client *client;
	struct span answer;
	struct stat stat;
	struct echo echo, second;
	char expected[64];

	make_stale_socket();
	rig_start(&echo, state, (struct echo_config){ .address = socket_address });
	assert_int_equal(lstat(socket_path, &stat), 0);
	assert_true(S_ISSOCK(stat.st_mode));
	assert_int_equal(stat.st_mode & 0777, 0660);
	client = rig_client(&echo);
	snprintf(expected, sizeof(expected), "-|-|%d|1", (int)getuid());
	assert_int_equal(client_unary(client, "/test.Echo/Peer", span_text(""), &call, &answer), CLIENT_OK);
	assert_true(span_is(answer, expected));
	client_call_close(call);
	/* A living one is not replaced. */
	assert_false(echo_start(&second, &echo.config));
	assert_non_null(strstr(second.why, "another process listens"));
	echo_stop(&second);
	client_close(client);
	echo_stop(&echo);
	assert_int_equal(lstat(socket_path, &stat), -1);
}

/* Who may not connect cannot see if somebody listens, as an ordinary user's gateway after one that was root's. */
static void a_socket_of_another_user_is_named_so(void **state)
{
	char bound[ADDRESS_TEXT_MAX], why[512] = "";
	struct address address;
	int r;

	if (geteuid() != 0)
		skip();
	make_stale_socket();
	assert_int_equal(chmod(socket_path, 0600), 0);
	assert_true(address_parse(&address, socket_address, why, sizeof(why)));
	assert_int_equal(seteuid(65534), 0);
	r = socket_listen(&address, 0600, bound, sizeof(bound), why, sizeof(why));
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(r, -EACCES);
	assert_non_null(strstr(why, "is a socket of the user root that may not be tried"));
	unlink(socket_path);
}

static void bad_addresses_are_refused(void **state)
{
	struct echo_config config = { .engine = *(const enum ring_engine *)*state };
	struct echo echo, second;
	int fd;

	config.address = "unix:///nonexistent/x.sock";
	assert_false(echo_start(&echo, &config));
	assert_non_null(strstr(echo.why, "the directory does not exist"));
	echo_stop(&echo);
	config.address = socket_address;
	fd = open(socket_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_false(echo_start(&echo, &config));
	assert_non_null(strstr(echo.why, "is no socket"));
	echo_stop(&echo);
	unlink(socket_path);
	config.address = "grpcs://127.0.0.1:0";
	assert_false(echo_start(&echo, &config));
	assert_non_null(strstr(echo.why, "certificate"));
	echo_stop(&echo);
	config.address = NULL;
	assert_true(echo_start(&echo, &config));
	config.address = echo.bound;
	assert_false(echo_start(&second, &config));
	assert_non_null(strstr(second.why, "another process does already"));
	echo_stop(&second);
	echo_stop(&echo);
}

static void *let_go(void *argument)
{
	usleep(300000);                  /* nothing tells when the other one begins to try */
	close(*(int *)argument);
	return NULL;
}

/* What a server that was killed leaves behind for a moment is no reason not to start again. */
static void a_port_that_is_let_go_is_had(void **state)
{
	struct echo_config config = { .engine = *(const enum ring_engine *)*state };
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(name);
	struct echo echo;
	char address[64];
	pthread_t thread;

	assert_int_equal(bind(fd, (struct sockaddr *)&name, size), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &size), 0);
	snprintf(address, sizeof(address), "grpc://127.0.0.1:%u", ntohs(name.sin_port));
	config.address = address;
	assert_int_equal(pthread_create(&thread, NULL, let_go, &fd), 0);
	assert_true(echo_start(&echo, &config));
	assert_int_equal(pthread_join(thread, NULL), 0);
	echo_stop(&echo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_BOTH(the_log_says_who_connected),
		RIG_BOTH(a_unix_socket_knows_its_peer),
		cmocka_unit_test(a_socket_of_another_user_is_named_so),
		RIG_BOTH(bad_addresses_are_refused),
		RIG_BOTH(a_port_that_is_let_go_is_had),
	};

	name_socket();
	return cmocka_run_group_tests(tests, rig_quiet, NULL);
}
