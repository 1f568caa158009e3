/*
 * executor: stands in for buildkitd where a thousand builds are to run on a small machine: it speaks as one, keeps nothing
 * and runs nothing. A build takes the Dockerfile, looks for a .dockerignore, takes the context, then lasts for `--hold-ms`,
 * with progress each second and, as buildkitd has it, a health check of each session each five.
 *
 *	executor --listen grpc://127.0.0.1:0 [--listen ...] [--hold-ms N] [--result-bytes N]
 *
 * Prints each address that it listens on, and ends with SIGTERM.
 */
#include "perf/builds_core/served.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <sys/signalfd.h>
#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/net/server.h"

#define LISTENERS_MAX   64u
#define CONNECTIONS_MAX 16384u

static struct {
	struct ring *ring;
	struct server *server;
	struct served served;
	struct op asked;
	int signals;
	bool drained;
} executor;

static void on_asked(struct op *op, int32_t res)
{
	server_drain(executor.server, 0);
}

static void on_drained(void *context)
{
	executor.drained = true;
}

static void watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	executor.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	CHECK(executor.signals >= 0);
	executor.asked.fn = on_asked;
	ring_poll(executor.ring, &executor.asked, executor.signals);
}

static void listen_on(const char *text)
{
	char bound[ADDRESS_TEXT_MAX], why[256] = "";
	struct address address;

	if (!address_parse(&address, text, why, sizeof(why)) ||
	    server_listen(executor.server, &address, NULL, bound, sizeof(bound), why, sizeof(why)) < 0) {
		fprintf(stderr, "executor: %s: %s\n", text, why);
		exit(1);
	}
	printf("%s\n", bound);
}

int main(int argc, char **argv)
{
	struct ring_config ring = { .sockets_max = CONNECTIONS_MAX };
	struct server_config config = { .methods = served_methods, .context = &executor.served, .connections_max = CONNECTIONS_MAX,
		                        .on_drained = on_drained };
	struct rlimit limit;

	log_setup(STDERR_FILENO, LOG_WARNING, false);
	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(ring_create(&executor.ring, &ring) == 0);
	watch_signals();
	executor.served.ring = executor.ring;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--hold-ms") == 0)
			executor.served.hold_ns = strtoull(argv[i + 1], NULL, 10) * 1000000;
	}
	served_init(&executor.served);
	CHECK(server_create(&executor.server, executor.ring, &config) == 0);
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--listen") == 0)
			listen_on(argv[i + 1]);
	}
	while (!executor.drained)
		ring_run(executor.ring, UINT64_MAX);
	return 0;
}
