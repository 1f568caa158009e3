/*
 * Shows of whom it is known which process an executor is, and that its end is told only once it has ended and was
 * waited for.
 */
#include "gateway/buildkitd/executor_process.h"

#include "gateway/base/check.h"
#include "gateway/net/conn.h"
#include "gateway/net/socket.h"
#include "tests/unit/buildkitd/impostor.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* Whom a connection to it meets. */
static struct conn_peer peer_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct conn_peer peer;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	socket_peer(fd, &peer);
	close(fd);
	return peer;
}

static const char *path_of(char path[static 64], int number)
{
	snprintf(path, 64, "/tmp/sluice-process-%d-%d", getpid(), number);
	return path;
}

static void a_daemon_is_known_until_it_ends(void **state)
{
	struct impostor impostor;
	struct conn_peer peer;
	siginfo_t info;
	char path[64];
	uint32_t process;

	(void)state;
	impostor_begin(&impostor, "buildkitd", path_of(path, 1));
	impostor_serve(&impostor, 1);
	peer = peer_at(path);
	process = executor_process_of(&peer);
	assert_int_equal(process, impostor.pid);
	assert_false(executor_process_ended(process));
	/* Not waited for, it keeps its id. */
	kill(impostor.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)impostor.pid, &info, WEXITED | WNOWAIT), 0);
	assert_false(executor_process_ended(process));
	impostor_kill(&impostor);
	assert_true(executor_process_ended(process));
}

/* What listens for a daemon, as a proxy does, may end while that goes on. */
static void others_are_not_known(void **state)
{
	struct impostor impostor;
	struct conn_peer peer, tcp = { .local = false, .pid = 1 };
	char path[64];

	(void)state;
	impostor_begin(&impostor, "buildkitd-proxy", path_of(path, 2));
	impostor_serve(&impostor, 1);
	peer = peer_at(path);
	assert_int_equal(peer.pid, impostor.pid);
	assert_int_equal(executor_process_of(&peer), 0);
	impostor_kill(&impostor);
	peer.pid = 0;
	assert_int_equal(executor_process_of(&peer), 0);
	assert_int_equal(executor_process_of(&tcp), 0);
	assert_false(executor_process_ended(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_daemon_is_known_until_it_ends),
		cmocka_unit_test(others_are_not_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
