/*
 * Shows that the table of counters is whole and well formed: every number of every status struct is in it once, names
 * follow Prometheus' rules, and values come through in the right unit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "gateway/admin/counters.h"
#include "gateway/buildkit/buildkit.h"
#include "gateway/broker/diffcopy.h"
#include "gateway/buildkitd/executors.h"
#include "gateway/buildkitd/spawner.h"
#include "gateway/cas/cas.h"
#include "gateway/edge/channel.h"
#include "gateway/edge/giver.h"
#include "gateway/ledger/ledger.h"
#include "gateway/link/link_service.h"
#include "gateway/net/server.h"
#include "gateway/play/play.h"
#include "gateway/pool/execute.h"
#include "gateway/reapi/reapi.h"
#include "gateway/ring/ring.h"
#include "gateway/store/store.h"

/* Each 4 bytes of the first `bytes` of the struct belong to exactly one counter: whoever adds a member adds a counter. */
static void assert_covers(enum counter_source source, size_t bytes)
{
	unsigned char covered[1024] = { 0 };

	assert_true(bytes <= sizeof(covered));
	for (size_t i = 0; i < counter_count; i++) {
		const struct counter *counter = &counter_table[i];

		if (counter->source != source)
			continue;
		assert_true(counter->offset + counter->size <= bytes);
		for (size_t b = 0; b < counter->size; b++)
			covered[counter->offset + b]++;
	}
	for (size_t b = 0; b < bytes; b += 4)
		if (covered[b] != 1)
			fail_msg("source %d: the member at offset %zu is in %d counters", source, b, covered[b]);
}

static void leaves_no_number_out(void **state)
{
	assert_covers(COUNTERS_SERVER, sizeof(struct server_status));
	assert_covers(COUNTERS_RING, sizeof(struct ring_counters));
	assert_covers(COUNTERS_STORE, sizeof(struct store_status));
	assert_covers(COUNTERS_CAS, sizeof(struct cas_counters));
	assert_covers(COUNTERS_EXECUTE, sizeof(struct execute_counters));
	assert_covers(COUNTERS_REAPI, sizeof(struct reapi_counters));
	assert_covers(COUNTERS_LEDGER, sizeof(struct ledger_status));
	assert_covers(COUNTERS_BUILDKIT, sizeof(struct buildkit_status));
	assert_covers(COUNTERS_LINKS, sizeof(struct link_service_status));
	assert_covers(COUNTERS_BROKER, sizeof(struct diffcopy_counters));
	assert_covers(COUNTERS_PLAY, sizeof(struct play_counters));
	assert_covers(COUNTERS_STABLE, sizeof(struct stable_status));
	assert_covers(COUNTERS_STATS, sizeof(struct stat_memory_status));
	assert_covers(COUNTERS_EXECUTORS, sizeof(struct executors_status));
	assert_covers(COUNTERS_SPAWNER, sizeof(struct spawner_status));
	assert_covers(COUNTERS_CHANNELS, sizeof(struct channels_counters));
	assert_covers(COUNTERS_GIVER, sizeof(struct giver_counters));
	assert_covers(COUNTERS_PROCESS, sizeof(struct counters_process));
}

static int ends_with(const char *text, const char *end)
{
	return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void names_follow_the_rules(void **state)
{
	for (size_t i = 0; i < counter_count; i++) {
		const struct counter *counter = &counter_table[i];

		assert_int_equal(strspn(counter->name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(counter->name));
		assert_int_equal(strncmp(counter->name, "sluice_", 7), 0);
		assert_int_equal(ends_with(counter->name, "_total"), counter->type == COUNTER_TOTAL);
		assert_int_equal(strstr(counter->name, "_bytes") != NULL, strcmp(counter->unit, "bytes") == 0);
		assert_int_equal(strstr(counter->name, "_seconds") != NULL, counter->nanoseconds);
		assert_null(strpbrk(counter->meaning, "\n\\."));
		assert_null(counter->advice ? strpbrk(counter->advice, "\n\\") : NULL);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(counter->name, counter_table[j].name);
	}
}

static void reads_members(void **state)
{
	struct counter_values values = { 0 };
	struct ring_counters ring = { .turns = 1, .direct_accepts = UINT64_MAX };
	struct pool_status pool = { .slots = 7, .queued = 3, .jobs_lost = 9 };

	counters_read(&values, COUNTERS_RING, &ring);
	counters_read(&values, COUNTERS_POOL, &pool);
	assert_int_equal(counters_value(&values, "sluice_ring_turns_total"), 1);
	assert_true(counters_value(&values, "sluice_ring_direct_accepts_total") == UINT64_MAX);
	assert_int_equal(counters_value(&values, "sluice_slots"), 7);
	assert_int_equal(counters_value(&values, "sluice_slots_busy"), 0);
	assert_int_equal(counters_value(&values, "sluice_queue"), 3);
	assert_int_equal(counters_value(&values, "sluice_jobs_lost_total"), 9);
	assert_int_equal(counters_value(&values, "sluice_connections"), 0);
	assert_true(counters_value(&values, "sluice_nonsense") == UINT64_MAX);
}

static void writes_each_unit(void **state)
{
	struct counter_values values = { 0 };
	struct store_status store = { .commit_ns_max = 1002000003, .corrupt = 2, .bytes_live = 5 };
	char *text;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	assert_non_null(file);
	counters_read(&values, COUNTERS_STORE, &store);
	counters_write(&values, file);
	fclose(file);
	assert_non_null(strstr(text, "\nsluice_store_commit_seconds_max 1.002000003\n"));
	assert_non_null(strstr(text, "\n# TYPE sluice_store_corrupt_total counter\nsluice_store_corrupt_total 2\n"));
	assert_non_null(strstr(text, "\n# TYPE sluice_store_live_bytes gauge\nsluice_store_live_bytes 5\n"));
	free(text);
}

static void knows_the_process(void **state)
{
	struct counters_process process = { 0 };

	counters_process(&process);
	assert_true(process.resident_bytes > 100000);
	assert_true(process.open_files >= 3 && process.open_files < 1000);
	assert_true(process.cpu_ns > 0);
}

/* When it matters most. */
static void knows_the_process_without_descriptors(void **state)
{
	struct counters_process process = { 0 };
	struct rlimit before, few;
	int fds[64], count = 0;
	uint64_t resident_bytes;

	counters_process(&process);
	resident_bytes = process.resident_bytes;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ .rlim_cur = 64, .rlim_max = before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (count < 64 && (fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		count++;
	counters_process(&process);
	while (count)
		close(fds[--count]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(process.open_files, 64);
	assert_int_equal(process.resident_bytes, resident_bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves_no_number_out),
		cmocka_unit_test(names_follow_the_rules),
		cmocka_unit_test(reads_members),
		cmocka_unit_test(writes_each_unit),
		cmocka_unit_test(knows_the_process),
		cmocka_unit_test(knows_the_process_without_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
