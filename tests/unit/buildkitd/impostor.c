/* A daemon as far as the kernel sees it. */
#include "tests/unit/buildkitd/impostor.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/base/check.h"

#define PAIRS_MAX 32

/* ---- the process: what fails ends it, and then the test ---- */

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(fd, PAIRS_MAX) == 0);
	return fd;
}

static int connect_to(uint16_t target)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(target), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* False: one side has ended, and so both do. What a test says fits into the sockets' buffers. */
static bool carry(int from, int to)
{
	char data[65536];
	ssize_t got = recv(from, data, sizeof(data), 0);

	return got > 0 && send(to, data, (size_t)got, MSG_NOSIGNAL) == got;
}

static void take(int listener, uint16_t target, struct pollfd *ends)
{
	int client = accept(listener, NULL, NULL), server = connect_to(target);

	for (unsigned i = 0; i < 2 * PAIRS_MAX && server >= 0; i += 2) {
		if (ends[i].fd >= 0)
			continue;
		ends[i] = (struct pollfd){ .fd = client, .events = POLLIN };
		ends[i + 1] = (struct pollfd){ .fd = server, .events = POLLIN };
		return;
	}
	close(client);
	if (server >= 0)
		close(server);
}

static void serve(int listener, uint16_t target)
{
	struct pollfd all[2 * PAIRS_MAX + 1] = { 0 }, *ends = all + 1;

	all[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
	for (unsigned i = 0; i < 2 * PAIRS_MAX; i++)
		ends[i].fd = -1;
	for (;;) {
		CHECK(poll(all, 2 * PAIRS_MAX + 1, -1) > 0);
		for (unsigned i = 0; i < 2 * PAIRS_MAX; i += 2) {
			if (ends[i].fd < 0 || ((!ends[i].revents || carry(ends[i].fd, ends[i + 1].fd)) &&
			                       (!ends[i + 1].revents || carry(ends[i + 1].fd, ends[i].fd))))
				continue;
			close(ends[i].fd);
			close(ends[i + 1].fd);
			ends[i].fd = ends[i + 1].fd = -1;
		}
		if (all[0].revents)
			take(listener, target, ends);
	}
}

static void run(const char *name, const char *path, int orders, int reports)
{
	uint16_t target;
	int listener;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	CHECK(read(orders, &target, sizeof(target)) == sizeof(target));
	listener = listen_at(path);
	CHECK(write(reports, "", 1) == 1);
	serve(listener, target);
}

/* ---- the test ---- */

void impostor_begin(struct impostor *impostor, const char *name, const char *path)
{
	int orders[2], reports[2];

	CHECK(pipe(orders) == 0);
	CHECK(pipe(reports) == 0);
	snprintf(impostor->path, sizeof(impostor->path), "%s", path);
	impostor->pid = fork();
	CHECK(impostor->pid >= 0);
	if (impostor->pid == 0) {
		run(name, path, orders[0], reports[1]);
		_exit(1);
	}
	close(orders[0]);
	close(reports[1]);
	impostor->orders = orders[1];
	impostor->reports = reports[0];
}

void impostor_serve(struct impostor *impostor, uint16_t target)
{
	char word;

	CHECK(write(impostor->orders, &target, sizeof(target)) == sizeof(target));
	CHECK(read(impostor->reports, &word, 1) == 1);
}

void impostor_kill(struct impostor *impostor)
{
	kill(impostor->pid, SIGKILL);
	CHECK(waitpid(impostor->pid, NULL, 0) == impostor->pid);
	close(impostor->orders);
	close(impostor->reports);
	unlink(impostor->path);
}
