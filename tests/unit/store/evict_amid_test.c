/*
 * Shows what may happen in the middle of an eviction: commits; holds that come and go; a directory that was looked for in vain and
 * comes; and that no segment is left for what is copied.
 */
#include "gateway/store/state.h"
#include "tests/unit/store/evict_rig.h"

#include <sys/resource.h>

/*
 * The few that are held lie in front of a segment of many rows: what is copied of it is committed before the last of them has been
 * looked at, and the eviction must not wait for a commit of nothing behind that.
 */
static void test_commits_while_evicting(void **state)
{
	enum { HELD = 50, SMALL = 2000, ROUNDS = 200, OF_ROUND = 500 };
	struct fixture *fixture = *state;
	struct blob held[HELD];
	struct digest digests[HELD];
	struct store_hold *hold;

	fixture_close(fixture);
	fixture->config.commit_interval_ns = 1;
	fixture_open(fixture);
	hold = store_hold_create(fixture->store, &fixture->a);
	for (size_t i = 0; i < HELD; i++) {
		held[i] = blob_make(i, SMALL);
		digests[i] = held[i].digest;
	}
	assert_int_equal(put_blobs(fixture, &fixture->a, held, HELD), STORE_OK);
	assert_int_equal(store_hold_blobs(hold, digests, HELD), 0);
	for (size_t round = 0; round < ROUNDS; round++) {
		struct blob blobs[OF_ROUND];

		for (size_t i = 0; i < OF_ROUND; i++)
			blobs[i] = blob_make(HELD + round * OF_ROUND + i, SMALL);
		assert_int_equal(put_blobs(fixture, &fixture->a, blobs, OF_ROUND), STORE_OK);
		for (size_t i = 0; i < OF_ROUND; i++)
			blob_free(&blobs[i]);
	}
	for (size_t i = 0; i < HELD; i++) {
		assert_int_equal(read_blob(fixture, &fixture->a, &held[i]), STORE_OK);
		blob_free(&held[i]);
	}
	store_hold_release(hold);
}

/* Holds that come and go, over and over, on what is about to be evicted. */
static void test_holds_while_evicting(void **state)
{
	struct fixture *fixture = *state;
	struct store_hold *hold = NULL;
	struct blob kept[40];

	for (size_t i = 0; i < 40; i++)
		kept[i] = blob_make(8000000 + i, BLOB_BYTES);
	for (uint64_t number = 0; number < 200; number++) {
		if (number % 10 == 0) {
			store_hold_release(hold);
			hold = store_hold_create(fixture->store, &fixture->a);
			for (size_t i = 0; i < 40; i++)
				assert_int_equal(store_hold_blobs(hold, &kept[i].digest, 1), 0);
			assert_int_equal(put_blobs(fixture, &fixture->a, kept, 40), STORE_OK);
		}
		assert_int_equal(put_round(fixture, number), STORE_OK);
		assert_int_equal(read_blob(fixture, &fixture->a, &kept[number % 40]), STORE_OK);
	}
	store_hold_release(hold);
	for (size_t i = 0; i < 40; i++)
		blob_free(&kept[i]);
}

/* An eviction of the oldest segment, under way: it has copied some of what is held there. */
static void evict_some(struct fixture *fixture)
{
	const struct evict *evict = &fixture->store->evict;

	assert_true(evict_start(fixture->store));
	store_step(fixture->store);
	while (evict->state != EVICT_COPYING || evict->copied == 0)
		ring_run(fixture->ring, 1000000);
	assert_int_equal(evict->victim->number, 0);
}

/*
 * Something is held while a directory that it needs is not there, and an eviction looks for that in vain; then it comes, before what
 * it names is gone. That must stay, whether or not it is held once more. Directories come from below, as they are pushed.
 */
static void directory_comes(struct fixture *fixture, bool with_root)
{
	const struct evict *evict = &fixture->store->evict;
	struct store_hold *hold = store_hold_create(fixture->store, &fixture->a);
	struct blob held[ROUND];
	struct store_status status;
	struct tree tree;

	tree_make(&tree, 5000000);
	assert_int_equal(put_blobs(fixture, &fixture->a, tree.files, 8), STORE_OK);
	for (size_t i = 0; i < ROUND; i++) {
		held[i] = blob_make(7000000 + i, BLOB_BYTES);
		assert_int_equal(store_hold_blobs(hold, &held[i].digest, 1), 0);
	}
	assert_int_equal(put_blobs(fixture, &fixture->a, held, ROUND), STORE_OK);
	if (!with_root)
		assert_int_equal(put_blob(fixture, &fixture->a, &tree.root), STORE_OK);
	churn(fixture, 0, 4 * ROUND * BLOB_BYTES);       /* in all just over a segment */
	assert_int_equal(store_hold_root(hold, &tree.root.digest), 0);
	evict_some(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &tree.below), STORE_OK);
	if (with_root)
		assert_int_equal(put_blob(fixture, &fixture->a, &tree.root), STORE_OK);
	assert_true(evict->state == EVICT_COPYING || evict->state == EVICT_COMMITTING);
	if (with_root)
		assert_int_equal(pin_root(fixture, &fixture->a, &tree.root.digest, UINT64_MAX), 0);
	while (evict->state != EVICT_IDLE)
		ring_run(fixture->ring, 1000000);
	store_status(fixture->store, &status);
	assert_int_equal(status.evicted_segments, 1);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(read_blob(fixture, &fixture->a, &tree.files[i]), STORE_OK);
	store_hold_release(hold);
	for (size_t i = 0; i < ROUND; i++)
		blob_free(&held[i]);
	tree_free(&tree);
}

static void test_directory_comes_while_evicting(void **state)
{
	directory_comes(*state, false);
}

static void test_pinned_root_comes_while_evicting(void **state)
{
	directory_comes(*state, true);
}

/*
 * One that has copied some of what is held, into what is left of the open segment, finds no other. Returns what marks began with that
 * were begun between two copies.
 */
static uint64_t evict_in_vain(struct fixture *fixture)
{
	const struct evict *evict = &fixture->store->evict;
	uint64_t amid = 0, sequence, copied;
	struct rlimit before, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_true(evict_start(fixture->store));
	store_step(fixture->store);
	while (evict->state != EVICT_IDLE) {
		copied = evict->state == EVICT_COPYING ? evict->copied : 0;
		sequence = store_marks_begin(fixture->store);
		ring_run(fixture->ring, 1000000);
		if (copied > 0 && evict->copied > copied)
			amid = sequence;
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(evict->copied > 0);
	return amid;
}

/* What was copied is gone with the segment that it came to, while the one that it was copied from is still there. */
static void test_gives_up_after_copies(void **state)
{
	struct fixture *fixture = *state;
	struct blob used = blob_make(6000000, BLOB_BYTES), held[ROUND];
	struct store_hold *hold = store_hold_create(fixture->store, &fixture->a);
	struct store_status status;
	uint32_t place;
	uint64_t end_ns, amid;

	for (size_t i = 0; i < ROUND; i++) {
		held[i] = blob_make(7000000 + i, BLOB_BYTES);
		assert_int_equal(store_hold_blobs(hold, &held[i].digest, 1), 0);
	}
	assert_int_equal(put_blobs(fixture, &fixture->a, held, ROUND), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &used), STORE_OK);
	place = lookup_blob(fixture, &fixture->a, &used.digest);
	assert_true(mark_write(fixture, &fixture->a, &held[0].digest, store_marks_begin(fixture->store), &place, 1));
	churn(fixture, 0, 7 * ROUND * BLOB_BYTES);       /* in all just under two segments */
	assert_true(mark_fresh(fixture, &fixture->a, &held[0].digest));
	amid = evict_in_vain(fixture);
	assert_true(mark_write(fixture, &fixture->a, &held[1].digest, amid, &place, 1));       /* and with it the last copies */
	store_status(fixture->store, &status);
	assert_int_equal(status.evicted_segments, 0);
	assert_true(status.moved_blobs > 0 && status.moved_blobs < ROUND);
	assert_false(mark_fresh(fixture, &fixture->a, &held[0].digest));
	assert_false(mark_fresh(fixture, &fixture->a, &held[1].digest));
	end_ns = ring_now_ns(fixture->ring) + 1500000000;        /* segments are not made for so long */
	while (ring_now_ns(fixture->ring) < end_ns)
		ring_run(fixture->ring, 100000000);
	store_hold_release(hold);
	for (uint64_t number = 1000; number < 1000 + 2 * CEILING / (ROUND * BLOB_BYTES); number++) {
		assert_int_equal(put_round(fixture, number), STORE_OK);
		assert_int_equal(read_blob(fixture, &fixture->a, &used), STORE_OK);
	}
	assert_int_equal(read_blob(fixture, &fixture->a, &held[0]), STORE_MISSING);
	assert_int_equal(read_blob(fixture, &fixture->a, &held[ROUND - 1]), STORE_OK);
	for (size_t i = 0; i < ROUND; i++)
		blob_free(&held[i]);
	blob_free(&used);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, evict_setup, evict_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_commits_while_evicting),
		TEST(test_holds_while_evicting),
		TEST(test_directory_comes_while_evicting),
		TEST(test_pinned_root_comes_while_evicting),
		TEST(test_gives_up_after_copies),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	return cmocka_run_group_tests_name("evict amid", tests, NULL, NULL);
}
