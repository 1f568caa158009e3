/*
 * Shows that reads which were begun together bring what each would alone: next to each other on the disk and in memory, in any other
 * order, half in slots, missing, another tenant's, damaged, and behind a segment's end; more of them than may be under way.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/unit/store/bad_reads.h"

#define BLOBS  200
#define OTHERS 50                        /* not a multiple of 7 */

struct one {
	struct store_read read;
	unsigned told;
	struct several *several;
	size_t again;                    /* the next to be read, from the handler; 0: none */
};

struct several {
	struct fixture *fixture;
	struct one ones[BLOBS];
	size_t left;
	bool done;
	uint8_t *memory;
};

static void on_read(struct store_read *read)
{
	struct one *one = (struct one *)read;

	one->told++;
	if (one->again)
		store_read(one->several->fixture->store, &one->several->ones[one->again].read);
	one->several->done = --one->several->left == 0;
}

/* Places for all of them, one behind the other in the order of `order` (NULL: their own). */
static void prepare(struct several *several, struct fixture *fixture, const struct scope *scope, const struct blob *blobs,
                    const size_t *order)
{
	size_t bytes = 0;

	*several = (struct several){ .fixture = fixture, .left = BLOBS };
	for (size_t i = 0; i < BLOBS; i++)
		bytes += store_read_bytes((size_t)blobs[i].digest.size);
	several->memory = malloc(bytes);
	assert_non_null(several->memory);
	bytes = 0;
	for (size_t i = 0; i < BLOBS; i++) {
		size_t which = order ? order[i] : i;
		struct one *one = &several->ones[which];

		one->several = several;
		one->read = (struct store_read){
			.scope = *scope, .digest = blobs[which].digest, .buffer = several->memory + bytes, .fn = on_read,
		};
		bytes += store_read_bytes((size_t)blobs[which].digest.size);
	}
}

static uint64_t disk_reads(const struct several *several)
{
	struct store_status status;

	store_status(several->fixture->store, &status);
	return status.disk_reads;
}

static void run(struct several *several, size_t from)
{
	struct store *store = several->fixture->store;

	store_reads_gather(store);
	for (size_t i = from; i < BLOBS; i++)
		store_read(store, &several->ones[i].read);
	for (size_t i = from; i < BLOBS; i++)
		assert_int_equal(several->ones[i].told, several->ones[i].read.digest.size == 0);
	store_reads_start(store);
	run_until(several->fixture, &several->done);
}

/* Each was told once; each but `except` is as it was put. */
static void assert_read(struct several *several, const struct blob *blobs, size_t except, int result)
{
	for (size_t i = 0; i < BLOBS; i++) {
		const struct one *one = &several->ones[i];

		assert_int_equal(one->told, 1);
		assert_int_equal(one->read.result, i == except ? result : STORE_OK);
		if (i == except)
			continue;
		assert_int_equal(one->read.blob.size, blobs[i].digest.size);
		if (one->read.blob.size)
			assert_memory_equal(one->read.blob.data, blobs[i].data, one->read.blob.size);
	}
	free(several->memory);
}

/* Checks what was read, and ends. */
static void check_and_end(struct several *several, struct blob *blobs, size_t except, int result)
{
	assert_read(several, blobs, except, result);
	fixture_close(several->fixture);
	for (size_t i = 0; i < BLOBS; i++)
		blob_free(&blobs[i]);
	free(several);
}

static void make(struct blob blobs[BLOBS])
{
	for (size_t i = 0; i < BLOBS; i++)
		blobs[i] = blob_make(i + 1, i == 7 ? 0 : i % 10 == 0 ? 150000 + i : 100 + 97 * i);
}

/* In a store that was closed in between, so that nothing is in slots. */
static void open_with(struct fixture *fixture, struct blob blobs[BLOBS])
{
	make(blobs);
	fixture_open(fixture);
	assert_int_equal(put_blobs(fixture, &fixture->a, blobs, BLOBS), STORE_OK);
	fixture_close(fixture);
	fixture_open(fixture);
}

static void test_side_by_side(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));

	open_with(fixture, blobs);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	run(several, 0);
	assert_in_range(disk_reads(several), 1, 12);     /* 4 MB; and a lot ends a read, too */
	check_and_end(several, blobs, BLOBS, 0);
}

static void test_in_another_order(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));
	size_t order[BLOBS];

	open_with(fixture, blobs);
	for (size_t i = 0; i < BLOBS; i++)
		order[i] = i * 7 % BLOBS;        /* all of them, as 7 divides no 200 */
	prepare(several, fixture, &fixture->a, blobs, order);
	run(several, 0);
	assert_int_equal(disk_reads(several), BLOBS - 1);
	check_and_end(several, blobs, BLOBS, 0);
}

/* Put just now: some in slots, some on the disk, some on both sides of that. */
static void test_just_put(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));

	make(blobs);
	fixture_open(fixture);
	assert_int_equal(put_blobs(fixture, &fixture->a, blobs, BLOBS), STORE_OK);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	run(several, 0);
	check_and_end(several, blobs, BLOBS, 0);
}

/* A handler that reads on, as owners with few buffers do. */
static void test_one_after_the_other(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));

	open_with(fixture, blobs);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	for (size_t i = BLOBS / 2; i < BLOBS; i++)
		several->ones[i].again = i - BLOBS / 2;
	several->ones[BLOBS / 2].again = 0;
	store_read(fixture->store, &several->ones[0].read);
	run(several, BLOBS / 2);
	check_and_end(several, blobs, BLOBS, 0);
}

/* Those of one owner lie behind each other; another's, which end one by one in front of them, break them up no further. */
static void test_behind_others(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));
	size_t order[BLOBS];

	open_with(fixture, blobs);
	for (size_t i = 0; i < BLOBS; i++)
		order[i] = i < OTHERS ? i * 7 % OTHERS : i;
	prepare(several, fixture, &fixture->a, blobs, order);
	run(several, 0);
	assert_in_range(disk_reads(several), OTHERS, OTHERS + 8);
	check_and_end(several, blobs, BLOBS, 0);
}

static void test_of_another_tenant(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));

	open_with(fixture, blobs);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	several->ones[13].read.scope = fixture->b;
	run(several, 0);
	check_and_end(several, blobs, 13, STORE_MISSING);
}

static void test_one_is_missing(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));

	open_with(fixture, blobs);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	several->ones[55].read.digest.hash[3] ^= 1;
	run(several, 0);
	check_and_end(several, blobs, 55, STORE_MISSING);
}

/* It is found, and its neighbours in the same read of the disk are as they were. */
static void test_one_is_damaged(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));

	open_with(fixture, blobs);
	fixture_close(fixture);
	assert_int_equal(damage_blob(fixture, &blobs[42]), 1);
	fixture_open(fixture);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	run(several, 0);
	check_and_end(several, blobs, 42, STORE_CORRUPT);
}

/* A bad sector: it is out of sight, and can be put again; its neighbours in the same read are as they were. */
static void test_one_cannot_be_read(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));
	struct store_status status;

	fixture->config.bad_read_ns = 300000000;
	open_with(fixture, blobs);
	bad_reads_begin(fixture, &blobs[42], UINT_MAX);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	run(several, 0);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[42]), -EIO);
	store_status(fixture->store, &status);
	assert_true(status.read_errors == 2 && status.corrupt == 0);     /* the disk may be away for a moment */
	usleep(400000);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[42]), STORE_CORRUPT);
	store_status(fixture->store, &status);
	assert_true(status.read_errors == 3 && status.corrupt == 1);
	assert_int_equal(lookup_blob(fixture, &fixture->a, &blobs[42].digest), 0);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[42]), STORE_MISSING);
	assert_int_equal(put_blob(fixture, &fixture->a, &blobs[42]), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[42]), STORE_OK);
	check_and_end(several, blobs, 42, -EIO);
	bad_reads_end();
}

/* An error that comes once is no bad sector. */
static void test_a_read_fails_once(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];

	open_with(fixture, blobs);
	bad_reads_begin(fixture, &blobs[42], 1);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[42]), STORE_OK);
	bad_reads_end();
	fixture_close(fixture);
	for (size_t i = 0; i < BLOBS; i++)
		blob_free(&blobs[i]);
}

/* A segment that ends before its last record does: the others of that read are asked for by themselves. */
static void test_a_segment_is_cut(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[BLOBS];
	struct several *several = malloc(sizeof(*several));
	char path[128];
	uint64_t bytes = 4096;

	open_with(fixture, blobs);
	for (size_t i = 0; i < BLOBS - 1; i++)
		bytes += blobs[i].digest.size ? store_read_bytes((size_t)blobs[i].digest.size) : 0;
	snprintf(path, sizeof(path), "%s/segments/00000000", fixture->path);
	/* All lie in the first segment, one behind the other from its second block on. */
	assert_int_equal(truncate(path, (off_t)(bytes + 200)), 0);
	prepare(several, fixture, &fixture->a, blobs, NULL);
	run(several, 0);
	check_and_end(several, blobs, BLOBS - 1, STORE_CORRUPT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_side_by_side, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_in_another_order, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_just_put, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_one_after_the_other, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_behind_others, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_of_another_tenant, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_one_is_missing, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_one_is_damaged, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_one_cannot_be_read, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_a_read_fails_once, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_a_segment_is_cut, fixture_setup, fixture_teardown),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	return cmocka_run_group_tests_name("read", tests, NULL, NULL);
}
