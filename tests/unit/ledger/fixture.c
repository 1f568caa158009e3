/* Blocking helpers around a ledger. */
#include "tests/unit/ledger/fixture.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include "tests/unit/ledger/ledger_slow.h"

#define RUN_SECONDS_MAX 20

void fixture_init(struct fixture *fixture, const char *engine, const char *ring)
{
	*fixture = (struct fixture){ .ring_engine = strcmp(ring, "epoll") == 0 ? RING_ENGINE_EPOLL : RING_ENGINE_AUTO };
	snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/sluice-ledger-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	fixture->config = (struct ledger_config){
		.directory = fixture->directory, .engine = strcmp(engine, "slow") == 0 ? &ledger_slow : NULL,
	};
	ledger_slow_refusals = 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void fixture_fini(struct fixture *fixture)
{
	if (fixture->ledger)
		fixture_close(fixture);
	nftw(fixture->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static int open_ledger(struct fixture *fixture, char why[static 1024])
{
	struct ring_config ring = { .engine = fixture->ring_engine };

	assert_int_equal(ring_create(&fixture->ring, &ring), 0);
	fixture->config.ring = fixture->ring;
	why[0] = '\0';
	return ledger_open(&fixture->ledger, &fixture->config, why, 1024);
}

void fixture_open(struct fixture *fixture)
{
	char why[1024];

	if (open_ledger(fixture, why))
		fail_msg("ledger_open: %s", why);
}

int fixture_open_fails(struct fixture *fixture, char why[static 1024])
{
	int r = open_ledger(fixture, why);

	assert_true(r < 0);
	assert_null(fixture->ledger);
	ring_destroy(fixture->ring);
	return r;
}

static void set_true(void *context)
{
	*(bool *)context = true;
}

void fixture_close(struct fixture *fixture)
{
	bool closed = false;

	ledger_close(fixture->ledger, set_true, &closed);
	fixture->ledger = NULL;
	run_until(fixture, &closed);
	ring_destroy(fixture->ring);
}

const char *fixture_path(const struct fixture *fixture)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/ledger.db", fixture->directory);
	return path;
}

void run_until(struct fixture *fixture, const bool *done)
{
	uint64_t end_ns = ring_now_ns(fixture->ring) + RUN_SECONDS_MAX * 1000000000ull;

	while (!*done) {
		ring_run(fixture->ring, 100000000);
		if (ring_now_ns(fixture->ring) > end_ns)
			fail_msg("the ledger did not answer in %d s", RUN_SECONDS_MAX);
	}
}

struct ledger_build line_make(const char *tenant, uint32_t number)
{
	struct ledger_build build = {
		.queued_wall_ns = number * 1000000000ull + 1, .started_wall_ns = number * 1000000000ull + 2,
		.ended_wall_ns = number * 1000000000ull, .queue_ns = number + 3, .files = number + 4, .files_changed = number + 5,
		.bytes_from_client = number + 6, .bytes_from_store = (uint64_t)number << 33, .bytes_to_executor = number + 7,
		.steps_cached = number + 8, .steps_executed = number + 9, .replays = number + 10, .status = number + 11,
		.result = number % LEDGER_RESULTS, .fault = (number + 1) % LEDGER_FAULTS,
	};

	ledger_text(build.tenant, sizeof(build.tenant), span_text(tenant));
	snprintf(build.subject, sizeof(build.subject), "subject %u", number);
	snprintf(build.ref, sizeof(build.ref), "ref %u", number);
	snprintf(build.directory, sizeof(build.directory), "directory \xff %u", number);
	snprintf(build.executor, sizeof(build.executor), "tcp://executor:%u", number);
	snprintf(build.error, sizeof(build.error), "it's \"%u\"; DROP TABLE builds", number);
	return build;
}

struct wait_append {
	struct ledger_append append;
	bool done;
};

static void on_append(struct ledger_append *append)
{
	container_of(append, struct wait_append, append)->done = true;
}

int append_line(struct fixture *fixture, const struct ledger_build *build)
{
	struct wait_append wait = { .append = { .build = *build, .fn = on_append } };

	ledger_append(fixture->ledger, &wait.append);
	run_until(fixture, &wait.done);
	return wait.append.result;
}

struct wait_list {
	struct ledger_list list;
	bool done;
};

static void on_list(struct ledger_list *list)
{
	container_of(list, struct wait_list, list)->done = true;
}

int list_lines(struct fixture *fixture, struct ledger_list *list)
{
	struct wait_list wait = { .list = *list };

	wait.list.fn = on_list;
	ledger_list(fixture->ledger, &wait.list);
	run_until(fixture, &wait.done);
	list->count = wait.list.count;
	return wait.list.result;
}

size_t count_lines(struct fixture *fixture, const char *tenant)
{
	struct ledger_list list = { .limit = LEDGER_LIST_MAX };

	ledger_text(list.tenant, sizeof(list.tenant), span_text(tenant));
	list.builds = calloc(list.limit, sizeof(*list.builds));
	assert_non_null(list.builds);
	assert_int_equal(list_lines(fixture, &list), LEDGER_OK);
	for (size_t i = 0; i < list.count; i++)
		assert_string_equal(list.builds[i].tenant, tenant);
	free(list.builds);
	return list.count;
}

struct ledger_status status_of(const struct fixture *fixture)
{
	struct ledger_status status;

	ledger_status(fixture->ledger, &status);
	return status;
}
