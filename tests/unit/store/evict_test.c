/*
 * Shows what a full store does: the ceiling holds on the disk while ten times as much is written; the least recently
 * used goes first; what a hold or a pin names stays, with all below it, and what they no longer name may go; when they
 * fill everything, puts are refused and reads go on; and fsck finds nothing wrong after any of it.
 */
#include "gateway/store/record.h"
#include "gateway/store/rows.h"
#include "gateway/store/state.h"
#include "tests/unit/store/bad_reads.h"
#include "tests/unit/store/evict_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

static void test_ceiling_holds(void **state)
{
	struct fixture *fixture = *state;
	struct store_status status;
	uint64_t most = 0, times = fixture->config.index ? 3 : 10;

	for (uint64_t done = 0, number = 0; done < times * CEILING; done += ROUND * BLOB_BYTES) {
		uint64_t usage;

		assert_int_equal(put_round(fixture, number++), STORE_OK);
		usage = disk_usage(fixture);
		most = usage > most ? usage : most;
	}
	store_status(fixture->store, &status);
	assert_true(most <= CEILING);
	assert_true(status.evicted_segments > 5 * times);
	assert_int_equal(status.moved_blobs, 0);
	print_message("most on disk: %lu of %llu bytes, %lu segments evicted\n", most, CEILING, status.evicted_segments);
}

/* A row that says no blob goes with its segment. */
static void put_damaged_row(const struct fixture *fixture)
{
	uint8_t key[ROW_RECORD_KEY_BYTES], value[4] = { 0 };

	row_record_key(key, 0, 4);
	put_row(fixture, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(value, sizeof(value)));
}

static void test_damaged_row(void **state)
{
	struct fixture *fixture = *state;

	churn(fixture, 0, CEILING / 4);
	fixture_close(fixture);
	put_damaged_row(fixture);
	fixture_open(fixture);
	churn(fixture, 1000, 2 * CEILING);
}

/* The same where a start ends the eviction. */
static void test_damaged_row_at_start(void **state)
{
	struct fixture *fixture = *state;
	struct row_segment row = { .state = SEGMENT_EVICTING, .generation = 1, .durable = RECORD_BLOCK_BYTES };
	uint8_t key[ROW_SEGMENT_KEY_BYTES] = { 0 }, value[ROW_SEGMENT_BYTES];

	churn(fixture, 0, CEILING / 4);
	fixture_close(fixture);
	put_damaged_row(fixture);
	row_segment_encode(value, &row);
	put_row(fixture, INDEX_SEGMENTS, span_make(key, sizeof(key)), span_make(value, sizeof(value)));
	alarm(30);                       /* what does not go would be tried for ever */
	fixture_open(fixture);
	alarm(0);
}

static void test_order_of_use(void **state)
{
	struct fixture *fixture = *state;
	struct blob used = blob_make(1000001, BLOB_BYTES), unused = blob_make(1000002, BLOB_BYTES);
	uint64_t number = 0;

	/* Each in a segment of its own: 8 MiB between them. */
	assert_int_equal(put_blob(fixture, &fixture->a, &used), STORE_OK);
	churn(fixture, number, 9 << 20);
	assert_int_equal(put_blob(fixture, &fixture->a, &unused), STORE_OK);
	for (number = 100; lookup_blob(fixture, &fixture->b, &unused.digest) == 0 && number < 140; number++) {
		struct store_status status;

		assert_int_equal(put_round(fixture, number), STORE_OK);
		assert_int_equal(read_blob(fixture, &fixture->a, &used), STORE_OK);
		store_status(fixture->store, &status);
		if (status.evicted_segments >= 3)
			break;
	}
	assert_int_equal(read_blob(fixture, &fixture->a, &used), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &unused), STORE_MISSING);
	blob_free(&used);
	blob_free(&unused);
}

static void test_pin_survives(void **state)
{
	struct fixture *fixture = *state;
	struct tree tree;
	struct store_status status;
	uint64_t hour_ns = 3600ull * 1000000000;

	tree_put(fixture, &tree, 5000000);
	assert_int_equal(pin_root(fixture, &fixture->a, &tree.root.digest, ring_wall_ns(fixture->ring) + hour_ns), 0);
	churn(fixture, 0, CEILING);
	assert_whole(fixture, &tree);
	fixture_close(fixture);
	fixture_open(fixture);
	churn(fixture, 100000, CEILING);
	assert_whole(fixture, &tree);
	store_status(fixture->store, &status);
	assert_true(status.moved_blobs > 0);
	assert_int_equal(pin_root(fixture, &fixture->a, &tree.root.digest, 0), 0);
	churn(fixture, 200000, CEILING);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree.root), STORE_MISSING);
	assert_int_equal(read_blob(fixture, &fixture->b, &tree.files[0]), STORE_MISSING);
	tree_free(&tree);
}

static struct blob with_size(struct blob blob, uint64_t size)
{
	blob.digest.size = size;
	return blob;
}

/* A file with a directory's bytes, or a name of it with a wrong size, before that directory: what is below it stays as well. */
static void test_pin_of_twofold_names(void **state)
{
	struct fixture *fixture = *state;
	struct blob files[4], below[2], directories[3], root;

	for (size_t i = 0; i < 4; i++)
		files[i] = blob_make(5000000 + i, BLOB_BYTES);
	assert_int_equal(put_blobs(fixture, &fixture->a, files, 4), STORE_OK);
	below[0] = directory_make(files, 2, NULL, 0);
	below[1] = directory_make(files + 2, 2, NULL, 0);
	assert_int_equal(put_blobs(fixture, &fixture->a, below, 2), STORE_OK);
	directories[0] = below[0];
	directories[1] = with_size(below[1], 1);
	directories[2] = below[1];
	root = directory_make(&below[0], 1, directories, 3);
	assert_int_equal(put_blob(fixture, &fixture->a, &root), STORE_OK);
	assert_int_equal(pin_root(fixture, &fixture->a, &root.digest, UINT64_MAX), 0);
	churn(fixture, 0, 2 * CEILING);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(read_blob(fixture, &fixture->a, &files[i]), STORE_OK);
		blob_free(&files[i]);
	}
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(read_blob(fixture, &fixture->a, &below[i]), STORE_OK);
		blob_free(&below[i]);
	}
	blob_free(&root);
}

/* A pinned directory on a bad sector is lost with what only it names: no reason to keep all else. */
static void test_pin_cannot_be_read(void **state)
{
	struct fixture *fixture = *state;
	struct store_status status;
	struct tree tree;

	tree_put(fixture, &tree, 5000000);
	assert_int_equal(sync_store(fixture), STORE_OK);
	assert_int_equal(pin_root(fixture, &fixture->a, &tree.root.digest, UINT64_MAX), 0);
	fixture_close(fixture);
	fixture->config.bad_read_ns = 1;
	fixture_open(fixture);
	bad_reads_begin(fixture, &tree.below, UINT_MAX);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree.below), -EIO);
	churn(fixture, 0, 2 * CEILING);
	store_status(fixture->store, &status);
	assert_true(status.evicted_segments > 0);
	assert_int_equal(status.corrupt, 1);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree.root), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree.files[7]), STORE_OK);
	bad_reads_end();
	assert_int_equal(put_blob(fixture, &fixture->a, &tree.below), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree.below), STORE_OK);
	tree_free(&tree);
}

static void test_pin_expires(void **state)
{
	struct fixture *fixture = *state;
	struct tree tree;

	tree_put(fixture, &tree, 5000000);
	assert_int_equal(pin_root(fixture, &fixture->a, &tree.root.digest, ring_wall_ns(fixture->ring) + 1), 0);
	churn(fixture, 0, CEILING);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree.root), STORE_MISSING);
	tree_free(&tree);
}

static void test_hold_survives(void **state)
{
	struct fixture *fixture = *state;
	struct blob loose = blob_make(6000000, BLOB_BYTES);
	struct store_hold *hold = store_hold_create(fixture->store, &fixture->a);
	struct tree tree;

	tree_put(fixture, &tree, 5000000);
	assert_int_equal(put_blob(fixture, &fixture->a, &loose), STORE_OK);
	assert_int_equal(store_hold_blobs(hold, &loose.digest, 1), 0);
	assert_int_equal(store_hold_root(hold, &tree.root.digest), 0);
	assert_int_equal(store_hold_root(hold, &tree.root.digest), 0);
	churn(fixture, 0, CEILING);
	assert_whole(fixture, &tree);
	assert_int_equal(read_blob(fixture, &fixture->a, &loose), STORE_OK);
	store_hold_release(hold);
	churn(fixture, 100000, CEILING);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree.root), STORE_MISSING);
	assert_int_equal(read_blob(fixture, &fixture->a, &loose), STORE_MISSING);
	tree_free(&tree);
	blob_free(&loose);
}

/* Marks: what eviction took makes stale just the marks that rest on it. */
static void test_marks_and_eviction(void **state)
{
	struct fixture *fixture = *state;
	struct blob early = blob_make(6000000, BLOB_BYTES), late = blob_make(6000001, BLOB_BYTES);
	uint32_t place;

	assert_int_equal(put_blob(fixture, &fixture->a, &early), STORE_OK);
	place = lookup_blob(fixture, &fixture->a, &early.digest);
	assert_true(mark_write(fixture, &fixture->a, &early.digest, store_marks_begin(fixture->store), &place, 1));
	churn(fixture, 0, CEILING);
	assert_int_equal(put_blob(fixture, &fixture->a, &late), STORE_OK);
	place = lookup_blob(fixture, &fixture->a, &late.digest);
	assert_true(mark_write(fixture, &fixture->a, &late.digest, store_marks_begin(fixture->store), &place, 1));
	churn(fixture, 100000, 20 << 20);
	assert_false(mark_fresh(fixture, &fixture->a, &early.digest));
	assert_true(mark_fresh(fixture, &fixture->a, &late.digest));
	fixture_close(fixture);
	fixture_open(fixture);
	assert_false(mark_fresh(fixture, &fixture->a, &early.digest));
	assert_true(mark_fresh(fixture, &fixture->a, &late.digest));
	blob_free(&early);
	blob_free(&late);
}

static void test_pins_fill_the_ceiling(void **state)
{
	struct fixture *fixture = *state;
	struct store_hold *hold = store_hold_create(fixture->store, &fixture->a);
	struct blob held[700];
	size_t count = 0;
	int r = STORE_OK;

	while (count < 700) {
		held[count] = blob_make(7000000 + count, BLOB_BYTES);
		assert_int_equal(store_hold_blobs(hold, &held[count].digest, 1), 0);
		r = put_blob(fixture, &fixture->a, &held[count]);
		count++;
		if (r != STORE_OK)
			break;
	}
	assert_int_equal(r, STORE_FULL);
	/* Most of what segments can hold is there: nothing but the last segments is kept back. */
	print_message("refused after %zu of %d bytes a blob, %llu in all\n", count, BLOB_BYTES,
	              (unsigned long long)count * BLOB_BYTES);
	assert_true((count - 1) * BLOB_BYTES > 4 * (8 << 20) * 9 / 10);
	assert_true(disk_usage(fixture) <= CEILING);
	for (size_t i = 0; i + 1 < count; i++)
		assert_int_equal(read_blob(fixture, &fixture->a, &held[i]), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &held[count - 1]), STORE_FULL);
	assert_int_equal(sync_store(fixture), STORE_OK);
	store_hold_release(hold);
	assert_int_equal(put_blob(fixture, &fixture->a, &held[count - 1]), STORE_OK);
	for (size_t i = 0; i < count; i++)
		blob_free(&held[i]);
}

/* Many small blobs fill the index before they fill the segments. */
static void test_index_fills_first(void **state)
{
	struct fixture *fixture = *state;
	struct blob *blobs = calloc(2000, sizeof(*blobs));
	struct store_status status;

	for (uint64_t number = 0; number < 40; number++) {
		for (size_t i = 0; i < 2000; i++)
			blobs[i] = blob_make(number * 2000 + i, 40);
		assert_int_equal(put_blobs(fixture, &fixture->a, blobs, 2000), STORE_OK);
		assert_int_equal(read_blob(fixture, &fixture->a, &blobs[1999]), STORE_OK);
		for (size_t i = 0; i < 2000; i++)
			blob_free(&blobs[i]);
	}
	assert_int_equal(sync_store(fixture), STORE_OK);
	store_status(fixture->store, &status);
	print_message("%lu blobs, index %lu bytes, %lu blobs evicted\n", status.blobs, status.index_bytes,
	              status.evicted_blobs);
	assert_true(status.evicted_blobs > 0);
	assert_true(disk_usage(fixture) <= CEILING);
	free(blobs);
}

/* Small blobs that are all held: the index is full, no eviction would free any of it, and so they are refused. */
static void test_index_full_of_what_is_held(void **state)
{
	struct fixture *fixture = *state;
	struct store_hold *hold = store_hold_create(fixture->store, &fixture->a);
	struct blob blobs[500];
	struct store_status status;
	uint64_t number = 0;
	int r = STORE_OK;

	while (r == STORE_OK && number < 200000) {
		for (size_t i = 0; i < 500; i++) {
			blobs[i] = blob_make(9000000 + number + i, 40);
			assert_int_equal(store_hold_blobs(hold, &blobs[i].digest, 1), 0);
		}
		r = put_blobs(fixture, &fixture->a, blobs, 500);
		number += 500;
		for (size_t i = 0; i < 500; i++)
			blob_free(&blobs[i]);
	}
	store_status(fixture->store, &status);
	print_message("refused after %lu blobs, index %lu bytes\n", number, status.index_bytes);
	assert_int_equal(r, STORE_FULL);
	assert_int_equal(status.evicted_blobs, 0);
	assert_true(disk_usage(fixture) <= CEILING);
	blobs[0] = blob_make(9000000, 40);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[0]), STORE_OK);
	store_hold_release(hold);
	blobs[1] = blob_make(1, 40);
	assert_int_equal(put_blob(fixture, &fixture->a, &blobs[1]), STORE_OK);
	blob_free(&blobs[0]);
	blob_free(&blobs[1]);
}

/*
 * The disk is full before the ceiling is reached: segments that are there are used again and again; when all in them is
 * held, puts are refused and reads go on. On a small tmpfs of its own.
 */
static void test_disk_full(void **state)
{
	struct fixture *fixture = *state;
	struct store_hold *hold;
	struct blob blobs[400];
	size_t count = 0;
	int r = STORE_OK;

	fixture_close(fixture);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", fixture->path, "tmpfs", 0, "size=45m") < 0)
		skip();
	fixture_open(fixture);
	churn(fixture, 0, 100 << 20);
	hold = store_hold_create(fixture->store, &fixture->a);
	while (count < 400 && r == STORE_OK) {
		blobs[count] = blob_make(7000000 + count, BLOB_BYTES);
		assert_int_equal(store_hold_blobs(hold, &blobs[count].digest, 1), 0);
		r = put_blob(fixture, &fixture->a, &blobs[count]);
		count += r == STORE_OK;
	}
	assert_int_equal(r, STORE_FULL);
	assert_true(count > 50);
	blob_free(&blobs[count]);
	assert_int_equal(sync_store(fixture), STORE_OK);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(read_blob(fixture, &fixture->a, &blobs[i]), STORE_OK);
		blob_free(&blobs[i]);
	}
	store_hold_release(hold);
	churn(fixture, 1000, 50 << 20);
	fixture_close(fixture);
	assert_int_equal(umount(fixture->path), 0);
}

/* Puts rounds until one is refused, for want of a segment. */
static int put_until_refused(struct fixture *fixture, uint64_t number)
{
	int r = STORE_OK;

	for (unsigned rounds = 0; r == STORE_OK && rounds < 20; rounds++)
		r = put_round(fixture, number++);
	return r;
}

/* No descriptors for the next segment, a new one or one that was emptied: puts are refused, none is evicted, and all passes. */
static void test_descriptors_run_out(void **state)
{
	struct fixture *fixture = *state;
	struct rlimit before, none;
	struct store_status full, after;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (int again = 0; again < 2; again++) {
		uint64_t end_ns;

		churn(fixture, 10000 * (uint64_t)again, again ? 2 * CEILING : 6 << 20);
		none = before;
		none.rlim_cur = 3;
		store_status(fixture->store, &full);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
		assert_int_equal(put_until_refused(fixture, 100000), -EMFILE);
		store_status(fixture->store, &after);
		assert_true(after.evicted_segments <= full.evicted_segments + 1);        /* which was to be the next */
		assert_int_equal(put_round(fixture, 200000), -EMFILE);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		end_ns = ring_now_ns(fixture->ring) + 1500000000;
		while (ring_now_ns(fixture->ring) < end_ns)
			ring_run(fixture->ring, 100000000);
		churn(fixture, 300000, 20 << 20);
		assert_int_equal(sync_store(fixture), STORE_OK);
		store_status(fixture->store, &after);
		assert_false(after.failed);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, evict_setup, evict_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ceiling_holds),
		TEST(test_order_of_use),
		TEST(test_damaged_row),
		TEST(test_damaged_row_at_start),
		TEST(test_pin_survives),
		TEST(test_pin_of_twofold_names),
		TEST(test_pin_cannot_be_read),
		TEST(test_pin_expires),
		TEST(test_hold_survives),
		TEST(test_marks_and_eviction),
		TEST(test_pins_fill_the_ceiling),
		TEST(test_index_fills_first),
		TEST(test_index_full_of_what_is_held),
		TEST(test_disk_full),
		TEST(test_descriptors_run_out),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	return cmocka_run_group_tests_name("evict", tests, NULL, NULL);
}
