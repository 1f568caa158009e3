/*
 * Shows how many lineages are kept, that one which comes in costs no more than one of the others, and that of a tenant with many it
 * costs one of his own. Both ring engines.
 */
#include "gateway/play/stable_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/play/claims_file.h"

static struct ring *ring;
static struct stable *stable;
static char directory[64];

static int setup(void **state)
{
	struct ring_config config = { .engine = *(const enum ring_engine *)*state };

	snprintf(directory, sizeof(directory), "/tmp/sluice-stable-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(ring_create(&ring, &config), 0);
	assert_int_equal(stable_create(&stable, ring, directory), 0);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	ring_destroy(ring);
	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	return system(command);
}

struct asked {
	struct stable_request request;
	bool answered;
};

static void on_lineage(struct stable_request *request)
{
	container_of(request, struct asked, request)->answered = true;
}

static void ask_for(struct asked *asked, const char *tenant, unsigned number)
{
	static const uint8_t client[STABLE_CLIENT_BYTES];
	char name[32];

	*asked = (struct asked){ .request.fn = on_lineage };
	snprintf(name, sizeof(name), "directory %u", number);
	assert_int_equal(stable_get(stable, &asked->request, span_text(tenant), span_text(name), client), 0);
}

static void ask(struct asked *asked, unsigned number)
{
	ask_for(asked, "tenant", number);
}

static void let_go(struct asked *asked)
{
	while (!asked->answered)
		ring_run(ring, UINT64_MAX);
	assert_non_null(asked->request.lineage);
	lineage_unref(asked->request.lineage);
}

static void on_destroyed(void *context)
{
	*(bool *)context = true;
}

/* With nothing under way any more. */
static unsigned files_in_the_end(void)
{
	struct dirent *entry;
	bool destroyed = false;
	unsigned count = 0;
	DIR *dir;

	stable_destroy(stable, on_destroyed, &destroyed);
	while (!destroyed)
		ring_run(ring, UINT64_MAX);
	dir = opendir(directory);
	while ((entry = readdir(dir)))
		count += strlen(entry->d_name) == CLAIMS_FILE_NAME_BYTES - 1;
	closedir(dir);
	return count;
}

/* The next ones come while the file of the one that had to go is still being removed. */
static void each_that_comes_costs_one(void **state)
{
	struct asked asked[4];

	for (unsigned i = 0; i < STABLE_LINEAGES_MAX; i++) {
		ask(&asked[0], i);
		let_go(&asked[0]);
	}
	for (unsigned i = 0; i < 4; i++)
		ask(&asked[i], STABLE_LINEAGES_MAX + i);
	for (unsigned i = 0; i < 4; i++)
		let_go(&asked[i]);
	assert_int_equal(files_in_the_end(), STABLE_LINEAGES_MAX);
}

/* One tenant's directory is where it was after another one has built in more directories than there is room for. */
static void a_tenant_has_its_share(void **state)
{
	struct asked asked;
	char key[STABLE_KEY_BYTES];

	ask_for(&asked, "quiet", 0);
	while (!asked.answered)
		ring_run(ring, UINT64_MAX);
	snprintf(key, sizeof(key), "%s", lineage_key(asked.request.lineage));
	let_go(&asked);
	for (unsigned i = 0; i < STABLE_LINEAGES_MAX + 10; i++) {
		ask_for(&asked, "busy", i);
		let_go(&asked);
	}
	ask_for(&asked, "quiet", 0);
	while (!asked.answered)
		ring_run(ring, UINT64_MAX);
	assert_string_equal(lineage_key(asked.request.lineage), key);
	let_go(&asked);
	assert_int_equal(files_in_the_end(), STABLE_LINEAGES_MAX);
}

static void on_sync(struct lineage_sync *sync)
{
	sync->made = UINT64_MAX;
}

/* Whether the next build of a directory goes by the key of the one before it. */
static bool goes_on(unsigned claims, unsigned others)
{
	static unsigned number;
	struct lineage_sync sync = { .fn = on_sync };
	char key[STABLE_KEY_BYTES];
	struct asked asked;
	bool same;

	ask(&asked, 0);
	while (!asked.answered)
		ring_run(ring, UINT64_MAX);
	snprintf(key, sizeof(key), "%s", lineage_key(asked.request.lineage));
	for (unsigned i = 0; i < claims; i++, number++) {
		struct claim claim = { .path.bytes = { 1 }, .content.bytes = { 1 }, .mtime_ns = i };

		memcpy(claim.path.bytes + 1, &number, sizeof(number));
		assert_int_equal(lineage_claim(asked.request.lineage, &claim), CLAIMS_MADE);
	}
	lineage_sync(asked.request.lineage, &sync);
	while (sync.made != UINT64_MAX)
		ring_run(ring, UINT64_MAX);
	assert_int_equal(sync.result, 0);
	let_go(&asked);
	for (unsigned i = 1; i <= others; i++) {
		ask(&asked, i);
		let_go(&asked);
	}
	ask(&asked, 0);
	while (!asked.answered)
		ring_run(ring, UINT64_MAX);
	same = strcmp(lineage_key(asked.request.lineage), key) == 0;
	let_go(&asked);
	return same;
}

/* Neither from memory nor from its file; and the file goes. */
static void what_is_full_is_not_gone_on_with(void **state)
{
	stable->full_enough = 100;
	assert_true(goes_on(99, 0));
	assert_false(goes_on(1 + 100, 0));
	assert_false(goes_on(100, STABLE_IDLE_MAX + 2));
	assert_int_equal(files_in_the_end(), 1 + STABLE_IDLE_MAX + 2);
}

static void ask_in_passing(struct op *op, int32_t res)
{
	struct asked asked;

	ask(&asked, 0);
	stable_request_cancel(&asked.request);
}

/* A build comes in each turn while the file of the key before is being removed, so also in the one that hears that it is gone. */
static void one_that_goes_is_left_alone(void **state)
{
	struct op timer = { .fn = ask_in_passing };
	struct asked asked;

	ask(&asked, 0);
	let_go(&asked);
	stable->full_enough = 0;
	ask(&asked, 0);
	stable->full_enough = 100;
	while (!asked.answered || stable->count > 1 || op_in_flight(&timer)) {
		if (!op_in_flight(&timer))
			ring_timer(ring, &timer, 0);
		ring_run(ring, UINT64_MAX);
	}
	let_go(&asked);
	assert_int_equal(files_in_the_end(), 1);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test)                                                                                                             \
	cmocka_unit_test_prestate_setup_teardown(test, setup, teardown, (void *)&uring),                                       \
	        cmocka_unit_test_prestate_setup_teardown(test, setup, teardown, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(each_that_comes_costs_one),
		BOTH(a_tenant_has_its_share),
		BOTH(what_is_full_is_not_gone_on_with),
		BOTH(one_that_goes_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
