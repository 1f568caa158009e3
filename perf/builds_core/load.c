/*
 * load: what do a thousand builds at once, or hundreds that begin each second, cost, and what do they wait for? Builds begin
 * at a steady rate, whatever became of those before (latencies count from when each was to begin), and while they run small
 * calls are made inside them at a rate of their own.
 *
 *	load --gateway grpc://HOST:PORT --builds N --rate PER-SECOND [--pings PER-SECOND] [--files N] [--file-bytes N]
 *	     [--directories N] [--node NAME] [--tls-ca FILE --tls-cert FILE --tls-key FILE]
 *
 * Prints `running N` when all N run at once, and one JSON object at the end. Exits with 1 when a build failed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "perf/builds_core/client.h"
#include "perf/builds_core/histogram.h"

#define TICK_NS       1000000u
#define BUILDS_MAX    1000000u
#define FAILURES_TOLD 5u

static struct {
	struct ring *ring;
	struct address address;
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX];
	struct tls_context *tls;
	const char *node;
	double rate, ping_rate;
	uint32_t builds, directories;
	struct context context;

	struct client **live;            /* by number */
	uint32_t begun, closed, failed, running, running_most, next_pinged;
	uint64_t pings, pings_skipped, begun_ns, pings_begun_ns;
	bool all_told;
	struct op tick;
	struct histogram opened, built, pinged;
} load;

static uint32_t number_of(struct client *client)
{
	return (uint32_t)((struct client **)client_config(client)->owner - load.live);
}

static void on_opened(struct client *client, uint64_t now_ns)
{
	histogram_add(&load.opened, now_ns - client_config(client)->due_ns);
}

static void on_running(struct client *client)
{
	if (!load.running)
		load.next_pinged = number_of(client);
	if (!load.pings_begun_ns)
		load.pings_begun_ns = clock_now_ns();
	load.running++;
	if (load.running > load.running_most)
		load.running_most = load.running;
	if (load.running == load.builds && !load.all_told) {
		load.all_told = true;
		printf("running %u\n", load.running);
	}
}

static void on_stopped(struct client *client)
{
	load.running--;
}

static void on_pinged(struct client *client, uint64_t took_ns)
{
	histogram_add(&load.pinged, took_ns);
}

static void on_closed(struct client *client, const char *failure)
{
	load.closed++;
	load.live[number_of(client)] = NULL;
	histogram_add(&load.built, clock_now_ns() - client_config(client)->due_ns);
	if (!failure)
		return;
	if (load.failed++ < FAILURES_TOLD)
		fprintf(stderr, "load: build %u of %s: %s\n", number_of(client), load.node, failure);
}

static const struct client_events events = { .on_opened = on_opened, .on_running = on_running, .on_stopped = on_stopped,
	                                     .on_pinged = on_pinged, .on_closed = on_closed };

static void begin(uint32_t number, uint64_t due_ns)
{
	uint32_t directory = number % load.directories;
	struct client_config config = {
		.ring = load.ring, .address = &load.address, .resolved = load.resolved, .tls = load.tls, .context = load.context,
		.events = &events, .owner = &load.live[number], .due_ns = due_ns,
	};
	int r;

	snprintf(config.shared_key, sizeof(config.shared_key), "d%u:%s", directory, load.node);
	config.context.seed += directory;
	r = client_start(&load.live[number], &config);
	if (r == 0)
		return;
	load.closed++;
	load.failed++;
	fprintf(stderr, "load: build %u: no connection: %s\n", number, strerror(-r));
}

static void begin_due(uint64_t now)
{
	for (; load.begun < load.builds; load.begun++) {
		uint64_t due = load.begun_ns + (uint64_t)((double)load.begun / load.rate * 1e9);

		if (due > now)
			return;
		begin(load.begun, due);
	}
}

/* The next one in turn that has none under way. */
static bool ping_one(void)
{
	for (uint32_t tried = 0; tried < load.builds; tried++) {
		struct client *client = load.live[load.next_pinged];

		load.next_pinged = (load.next_pinged + 1) % load.builds;
		if (client && client_ping(client))
			return true;
	}
	return false;
}

static void ping_due(uint64_t now)
{
	if (!load.pings_begun_ns || !load.running)
		return;
	while ((double)load.pings < (double)(now - load.pings_begun_ns) / 1e9 * load.ping_rate) {
		load.pings++;
		load.pings_skipped += !ping_one();
	}
}

static void on_tick(struct op *op, int32_t res)
{
	uint64_t now = clock_now_ns();

	begin_due(now);
	ping_due(now);
	if (load.closed < load.builds)
		ring_timer(load.ring, op, TICK_NS);
}

/* ---- the command line, and what is told ---- */

static void print_histogram(const char *name, const struct histogram *histogram)
{
	static const struct {
		const char *name;
		double share;
	} shares[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p999", 0.999 } };

	printf("\"%s\": {\"count\": %llu, \"min_ms\": %.3f", name, (unsigned long long)histogram->count, (double)histogram->least / 1e6);
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
		printf(", \"%s_ms\": %.3f", shares[i].name, (double)histogram_at(histogram, shares[i].share) / 1e6);
	printf(", \"max_ms\": %.3f}", (double)histogram->most / 1e6);
}

static void print_result(void)
{
	struct rusage usage;

	CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	printf("{\"builds\": %u, \"failed\": %u, \"running_most\": %u, \"seconds\": %.3f, \"cpu_seconds\": %.3f, \"pings_skipped\": %llu, ",
	       load.builds, load.failed, load.running_most, (double)(clock_now_ns() - load.begun_ns) / 1e9,
	       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
	       (unsigned long long)load.pings_skipped);
	print_histogram("opened", &load.opened);
	printf(", ");
	print_histogram("built", &load.built);
	printf(", ");
	print_histogram("pinged", &load.pinged);
	printf("}\n");
}

static const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	}
	return otherwise;
}

static void fail_with(const char *what)
{
	fprintf(stderr, "load: %s\n", what);
	exit(2);
}

static void read_options(int argc, char **argv)
{
	struct tls_config tls = { .ca_path = option(argc, argv, "--tls-ca", NULL), .certificate_path = option(argc, argv, "--tls-cert", NULL),
		                  .key_path = option(argc, argv, "--tls-key", NULL) };
	char why[512];

	if (!address_parse(&load.address, option(argc, argv, "--gateway", ""), why, sizeof(why)) ||
	    address_resolve_all(&load.address, false, load.resolved, why, sizeof(why)) < 0)
		fail_with(why);
	if (load.address.tls && tls_context_create(&load.tls, &tls, why, sizeof(why)) < 0)
		fail_with(why);
	load.node = option(argc, argv, "--node", "0123456789abcdef");
	load.rate = strtod(option(argc, argv, "--rate", "100"), NULL);
	load.ping_rate = strtod(option(argc, argv, "--pings", "0"), NULL);
	load.builds = (uint32_t)strtoul(option(argc, argv, "--builds", "1"), NULL, 10);
	load.directories = (uint32_t)strtoul(option(argc, argv, "--directories", "1000000"), NULL, 10);
	load.context.files = (uint32_t)strtoul(option(argc, argv, "--files", "20"), NULL, 10);
	load.context.file_bytes = (uint32_t)strtoul(option(argc, argv, "--file-bytes", "2000"), NULL, 10);
	load.context.seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 10) << 20;
	if (load.rate <= 0 || !load.builds || load.builds > BUILDS_MAX || !load.directories || load.context.files > CONTEXT_FILES_MAX)
		fail_with("--rate, --builds, --directories or --files makes no sense");
}

int main(int argc, char **argv)
{
	struct ring_config ring = { 0 };
	struct rlimit limit;

	log_setup(STDERR_FILENO, LOG_WARNING, false);
	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(ring_create(&load.ring, &ring) == 0);
	read_options(argc, argv);
	load.live = calloc(load.builds, sizeof(struct client *));
	CHECK(load.live);
	load.begun_ns = clock_now_ns();
	load.tick.fn = on_tick;
	ring_timer(load.ring, &load.tick, 0);
	while (load.closed < load.builds || op_in_flight(&load.tick))
		ring_run(load.ring, UINT64_MAX);
	print_result();
	return load.failed ? 1 : 0;
}
