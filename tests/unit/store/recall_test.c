/*
 * Shows that an index which recalls rows, and asks a filter first, still tells the truth: of every name that it had when it is opened
 * anew, while its filter fills, and after names came, changed and went; in one commit or beside another, in any number, and also
 * when a commit fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/ring/ring.h"
#include "gateway/store/recall.h"
#include "tests/unit/store/blobs.h"

#define NAMES 5000u                      /* more than the filter takes in at a time */
#define ASKED 700u
#define GONE  UINT8_MAX

static char directory[64];
static struct index_config config;
static struct index *opened;

static int set_up(void **state)
{
	snprintf(directory, sizeof(directory), "/var/tmp/sluice-recall-XXXXXX");
	assert_non_null(mkdtemp(directory));
	config = (struct index_config){ .map_bytes = 32 << 20, .create = true, .sparse = true };
	config.dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(config.dir_fd >= 0);
	assert_int_equal(ring_create(&config.ring, &(struct ring_config){ .engine = RING_ENGINE_EPOLL }), 0);
	assert_int_equal(index_lmdb.open(&opened, &config), 0);
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	index_lmdb.close(opened);
	ring_destroy(config.ring);
	close(config.dir_fd);
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

static void open_anew(void)
{
	index_lmdb.close(opened);
	assert_int_equal(index_lmdb.open(&opened, &config), 0);
}

/* ---- changing ---- */

struct changes {
	struct index_apply apply;
	uint64_t next, end;
	enum index_change_kind kind;
	uint8_t value;                   /* INDEX_PUT: all of the row; else what it has to be */
	bool fails, done;
};

static bool changes_next(struct index_apply *apply, struct index_change *change)
{
	struct changes *changes = container_of(apply, struct changes, apply);

	if (changes->next == changes->end && !changes->fails)
		return false;
	*change = (struct index_change){ .kind = changes->kind, .table = INDEX_BLOBS, .key_size = DIGEST_HASH_BYTES };
	if (changes->next == changes->end)
		change->key_size = 0;    /* LMDB refuses this one, and all that was before it */
	else
		blob_name(change->key, changes->next++);
	memset(change->storage, changes->value, ROW_BLOB_BYTES);
	change->value = span_make(change->storage, ROW_BLOB_BYTES);
	return true;
}

static struct changes changes_make(enum index_change_kind kind, uint64_t from, uint64_t to, uint8_t value)
{
	return (struct changes){ .apply.next = changes_next, .next = from, .end = to, .kind = kind, .value = value };
}

static void change_now(enum index_change_kind kind, uint64_t from, uint64_t to, uint8_t value)
{
	struct changes changes = changes_make(kind, from, to, value);

	assert_int_equal(index_lmdb.apply_now(opened, &changes.apply), 0);
}

static void on_apply(struct index_apply *apply)
{
	container_of(apply, struct changes, apply)->done = true;
}

static void begin(struct changes *changes)
{
	changes->apply.fn = on_apply;
	index_lmdb.apply(opened, &changes->apply);
}

static void end(struct changes *changes)
{
	while (!changes->done)
		ring_run(config.ring, UINT64_MAX);
}

static void change(enum index_change_kind kind, uint64_t from, uint64_t to, uint8_t value)
{
	struct changes changes = changes_make(kind, from, to, value);

	begin(&changes);
	end(&changes);
	assert_int_equal(changes.apply.result, 0);
}

/* ---- asking ---- */

static void on_get(struct index_get *get)
{
}

/* Names are asked for together, or one at a time. */
static void ask(struct index_get *get, bool together)
{
	size_t count = get->count;

	if (together) {
		index_lmdb.get(opened, get);
		assert_int_equal(get->result, 0);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		struct index_get one = *get;

		one.keys += i * one.key_stride;
		one.values += i * one.value_stride;
		one.sizes += i;
		one.count = 1;
		index_lmdb.get(opened, &one);
		assert_int_equal(one.result, 0);
	}
}

/* Every second name asked for is one that there never was. */
static void expect_asked(uint64_t from, uint8_t value, bool together)
{
	static uint8_t keys[ASKED * DIGEST_HASH_BYTES], values[ASKED * ROW_BLOB_BYTES];
	static int32_t sizes[ASKED];
	uint8_t row[ROW_BLOB_BYTES];
	struct index_get get = {
		.table = INDEX_BLOBS, .keys = keys, .key_size = DIGEST_HASH_BYTES, .key_stride = DIGEST_HASH_BYTES, .count = ASKED,
		.values = values, .value_stride = ROW_BLOB_BYTES, .sizes = sizes, .fn = on_get,
	};

	for (uint64_t i = 0; i < ASKED; i++)
		blob_name(keys + i * DIGEST_HASH_BYTES, i % 2 ? 1000000 + from + i : from + i);
	memset(values, GONE, sizeof(values));
	memset(sizes, 0, sizeof(sizes));
	memset(row, value, sizeof(row));
	ask(&get, together);
	for (uint64_t i = 0; i < ASKED; i++) {
		assert_int_equal(sizes[i], i % 2 == 0 && value != GONE ? ROW_BLOB_BYTES : -1);
		if (sizes[i] >= 0)
			assert_memory_equal(values + i * ROW_BLOB_BYTES, row, ROW_BLOB_BYTES);
	}
}

/* Twice each: by what the first time has left behind, too. */
static void expect(uint64_t from, uint8_t value)
{
	for (int turn = 0; turn < 2; turn++) {
		expect_asked(from, value, true);
		expect_asked(from, value, false);
	}
}

/* ---- the tests ---- */

static void an_index_finds_what_it_had(void **state)
{
	expect(0, GONE);
	change_now(INDEX_PUT, 0, NAMES, 1);
	expect(0, 1);
	expect(NAMES - ASKED, 1);
	/* The first look-ups come before the filter has seen all rows, and between them rows come and go. */
	open_anew();
	for (uint64_t round = 0; round < 8; round++) {
		expect(round * 500, 1);
		change(INDEX_PUT, NAMES + round * 1000, NAMES + (round + 1) * 1000, 1);
		expect(NAMES + round * 1000, 1);
	}
	change(INDEX_DELETE, 0, ASKED, 0);
	expect(0, GONE);
	expect(ASKED, 1);
	expect(NAMES + 7000, 1);
}

static void rows_that_change_are_told_as_they_are(void **state)
{
	for (uint8_t value = 1; value < 10; value++) {
		(value % 2 ? change : change_now)(INDEX_PUT, 0, NAMES, value);
		expect(0, value);
		expect(NAMES - ASKED, value);
	}
	change(INDEX_DELETE_SAME, 0, NAMES, 4);
	expect(0, 9);
	change(INDEX_DELETE_SAME, 0, ASKED, 9);
	expect(0, GONE);
	change(INDEX_DELETE_GROUP, ASKED, 2 * ASKED, 4);
	expect(ASKED, 9);
	change(INDEX_DELETE_GROUP, ASKED, 2 * ASKED, 9);
	expect(ASKED, GONE);
	expect(2 * ASKED, 9);
	change_now(INDEX_DELETE, 2 * ASKED, 3 * ASKED, 0);
	expect(2 * ASKED, GONE);
}

static void a_commit_of_more_than_can_be_noted_is_seen(void **state)
{
	change(INDEX_PUT, 0, RECALL_CHANGES_MAX + ASKED, 1);
	expect(0, 1);
	expect(RECALL_CHANGES_MAX, 1);
	change(INDEX_PUT, 0, RECALL_CHANGES_MAX + ASKED, 2);
	expect(0, 2);
	expect(RECALL_CHANGES_MAX, 2);
	change(INDEX_DELETE, 0, RECALL_CHANGES_MAX + ASKED, 0);
	expect(0, GONE);
	expect(RECALL_CHANGES_MAX, GONE);
}

static void a_commit_that_fails_changes_nothing(void **state)
{
	struct changes changes = changes_make(INDEX_PUT, 0, ASKED, 2);

	change(INDEX_PUT, 0, ASKED, 1);
	expect(0, 1);
	changes.fails = true;
	begin(&changes);
	end(&changes);
	assert_int_not_equal(changes.apply.result, 0);
	expect(0, 1);
	changes = changes_make(INDEX_DELETE, 0, ASKED, 0);
	changes.fails = true;
	assert_int_not_equal(index_lmdb.apply_now(opened, &changes.apply), 0);
	expect(0, 1);
}

/* Whatever a question beside a commit is answered with, behind the commit's end it is the new. */
static void questions_beside_a_commit_leave_nothing_old(void **state)
{
	change(INDEX_PUT, 0, NAMES, 1);
	for (uint8_t value = 2; value < 40; value++) {
		struct changes changes = changes_make(INDEX_PUT, 0, NAMES, value);
		uint8_t hash[DIGEST_HASH_BYTES], row[ROW_BLOB_BYTES];
		int32_t size;
		struct index_get get = {
			.table = INDEX_BLOBS, .keys = hash, .key_size = sizeof(hash), .count = 1, .values = row, .value_stride = sizeof(row),
			.sizes = &size, .fn = on_get,
		};

		begin(&changes);
		for (uint64_t i = 0; !changes.done; i++) {
			blob_name(hash, i * 7 % NAMES);
			index_lmdb.get(opened, &get);
			assert_int_equal(get.result, 0);
			assert_int_equal(size, ROW_BLOB_BYTES);
			assert_true(row[0] == value || row[0] == value - 1);
			if (i % 64 == 0)
				ring_run(config.ring, 0);
		}
		assert_int_equal(changes.apply.result, 0);
		expect(0, value);
		expect(NAMES / 2, value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_index_finds_what_it_had, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rows_that_change_are_told_as_they_are, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_commit_of_more_than_can_be_noted_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_commit_that_fails_changes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(questions_beside_a_commit_leave_nothing_old, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
