/*
 * Shows what an uploader makes of what the gateway had before, over both ring engines: contents are told by what they resemble, or
 * by what the gateway says that looks like; where it has none of that they go whole; of a tree that a base resembles little is asked
 * about, and a base that is another, or not there, or has holes, does no harm.
 */
#include "tests/unit/upload/uploader_rig.h"

#include <stdlib.h>

static struct shelf *former;

static int setup_former(void **state)
{
	uploader_setup(state);
	former = shelf;
	shelf = calloc(1, sizeof(*shelf));
	shelf_make_edited(shelf, client_ring(client), 1, 1);
	shelf->former = former;
	return 0;
}

static int teardown_former(void **state)
{
	shelf_fini(former);
	free(former);
	return uploader_teardown(state);
}

static void push_former(void)
{
	struct shelf *edited = shelf;

	shelf = former;
	uploader_commit(uploader_begin(1), &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	uploader_end();
	shelf = edited;
}

/* A byte of each of some hundred contents: what is told is a hundredth of what there is. */
static void what_is_like_another_is_told_by_it(void **state)
{
	push_former();
	for (int level = 0; level < 2; level++) {
		struct uploader *uploader = uploader_begin(level);
		const struct uploader_totals *totals = uploader_totals(uploader);

		shelf->later = level;
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		uploader_expect_ok(1);
		assert_int_equal(totals->blobs_sent, shelf->count);
		assert_int_equal(totals->bytes_packed, shelf->bytes);
		assert_int_equal(totals->blobs_delta, SHELF_DIRECTORIES * SHELF_FILES + SHELF_CHUNKS);
		assert_int_equal(totals->blobs_again, 0);
		assert_int_equal(totals->commits, 1);
		assert_true(totals->bytes_sent < shelf->bytes / 100);
		assert_int_equal(seen.bytes_done, shelf->bytes);
		uploader_end();
		shelf_fini(shelf);
		shelf_make_edited(shelf, client_ring(client), 1, 2);
		shelf->former = former;
	}
}

/* The gateway never had the bases: each is tried once. */
static void what_cannot_be_made_is_sent_whole(void **state)
{
	struct uploader *uploader = uploader_begin(1);
	const struct uploader_totals *totals = uploader_totals(uploader);

	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_true(totals->blobs_again > 0);
	assert_int_equal(totals->blobs_again, totals->blobs_delta);
	assert_int_equal(totals->blobs_sent, shelf->count + totals->blobs_again);
	assert_int_equal(totals->commits, 1);
	/* What is fed is told as stored when it is, not when it was tried. */
	shelf_fini(shelf);
	shelf_make_edited(shelf, client_ring(client), 2, 1);
	shelf->former = former;
	assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
	uploader_finish(uploader);
	uploader_expect_ok(2);
	for (size_t i = 0; i < shelf->contents; i++)
		assert_true(digest_set_has(&seen.stored, &shelf->digests[i]));
	uploader_end();
}

/* The gateway says what they look like: of each content a few blocks go, or what is shorter than that. */
static void without_the_bases_bytes_their_signatures_do(void **state)
{
	struct uploader *uploader;
	const struct uploader_totals *totals;

	push_former();
	for (int round = 0; round < 2; round++) {
		shelf->former_lost = true;
		shelf->later = round;
		uploader = uploader_begin(1);
		totals = uploader_totals(uploader);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		uploader_expect_ok(1);
		assert_true(totals->blobs_delta > SHELF_CHUNKS);
		assert_int_equal(totals->blobs_again, 0);
		assert_int_equal(totals->blobs_sent, shelf->count);
		assert_true(totals->bytes_sent < shelf->bytes / 10);
		uploader_end();
		shelf_fini(shelf);
		shelf_make_edited(shelf, client_ring(client), 1, 2);
		shelf->former = former;
	}
}

/* ---- a base ---- */

/* The same tree but for one small file in a directory of forty, and nothing is known of it but the root. */
static void touch_the_former(void)
{
	shelf_fini(shelf);
	shelf_make_touched(shelf, client_ring(client), 1, SHELF_FILES + SHELF_FILES / 2);
	shelf->source.base = former->digests[former->root];
}

/* Of some hundred blobs a handful is asked about and three are sent, the directory by its base. */
static void a_base_says_what_is_there(void **state)
{
	const struct uploader_totals *totals;

	push_former();
	touch_the_former();
	totals = uploader_totals(uploader_begin(1));
	uploader_commit(seen.uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(totals->commits, 1);
	assert_int_equal(totals->blobs_sent, 3);
	assert_int_equal(totals->blobs_delta, 1);
	assert_int_equal(totals->blobs_again, 0);
	/* The root twice, the directory, the file, and what lies in a block with one of these. */
	assert_in_range(totals->blobs_asked, 4, 20);
	/* The next one in the same call, from the one before. */
	shelf->source.base = shelf->digests[shelf->root];
	uploader_commit(seen.uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(2);
	assert_true(totals->unchanged);
	uploader_end();
}

/* Directories in which each file is another one. */
static void a_base_that_is_quite_different_does_no_harm(void **state)
{
	push_former();
	shelf->source.base = former->digests[former->root];
	uploader_commit(uploader_begin(1), &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	assert_int_equal(uploader_totals(seen.uploader)->commits, 1);
	uploader_end();
}

static void a_base_that_is_not_there_does_no_harm(void **state)
{
	touch_the_former();
	uploader_commit(uploader_begin(1), &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	uploader_end();
}

/* The gateway has the base's directories and nothing of their files: the commit tells, and all is asked about. */
static void a_base_with_holes_is_found_out(void **state)
{
	struct shelf *touched = shelf;
	struct uploader *uploader;

	shelf = former;
	assert_int_equal(uploader_feed(uploader_begin(1), former->digests + former->contents, former->count - former->contents), 0);
	uploader_finish(seen.uploader);
	uploader_expect_ok(1);
	uploader_end();
	shelf = touched;
	touch_the_former();
	uploader = uploader_begin(1);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->commits, 2);
	assert_true(uploader_totals(uploader)->blobs_sent >= shelf->contents);
	uploader_end();
}

/* A gateway that has none of them is not told anything by them. */
static void without_either_all_is_whole(void **state)
{
	shelf->former_lost = true;
	uploader_commit(uploader_begin(1), &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_delta, 0);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	uploader_end();
}

static void it_may_be_closed_while_it_asks(void **state)
{
	push_former();
	for (unsigned turns = 0; turns < 40; turns++) {
		shelf->former_lost = turns % 2;
		uploader_commit(uploader_begin(1), &shelf->digests[shelf->root]);
		for (unsigned turn = 0; turn < turns && !seen.done; turn++)
			assert_int_equal(client_run(client), CLIENT_OK);
		uploader_end();
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_like_another_is_told_by_it, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(what_cannot_be_made_is_sent_whole, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(without_the_bases_bytes_their_signatures_do, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_says_what_is_there, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_that_is_quite_different_does_no_harm, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_that_is_not_there_does_no_harm, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_with_holes_is_found_out, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(without_either_all_is_whole, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(it_may_be_closed_while_it_asks, setup_former, teardown_former),
	};

	return uploader_tests(argc, argv, tests);
}
