/*
 * Shows, of an uploader on a client's ring against a gateway in a thread, over both ring engines: a tree goes up whole;
 * what is fed ahead of the root is told as stored and not asked about or sent again; of it what is hurried goes first; a pack is read while others are; what
 * is stale is told, waits for a retry, and is then sent; what the source cannot read ends the upload with its error; what
 * was assumed to be there and is not is found; one call takes several roots; a call that the gateway ends is told with its
 * status; and an uploader may be closed at any moment.
 */
#include "tests/unit/upload/uploader_rig.h"

#include <errno.h>
#include <string.h>

/* ---- whole trees ---- */

static void a_tree_goes_up_whole(void **state)
{
	for (int level = 0; level < 2; level++) {
		struct uploader *uploader;
		const struct uploader_totals *totals;

		shelf_fini(shelf);
		shelf_make(shelf, client_ring(client), 10 + (uint32_t)level);
		uploader = uploader_begin(level);
		totals = uploader_totals(uploader);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		uploader_expect_ok(1);
		assert_false(totals->unchanged);
		assert_int_equal(totals->blobs_sent, shelf->count);
		assert_int_equal(totals->bytes_packed, shelf->bytes);
		assert_int_equal(totals->commits, 1);
		assert_int_equal(seen.bytes_done, shelf->bytes);
		/* Half of it repeats: with zstd much less goes over the wire. */
		if (level)
			assert_true(totals->bytes_sent < shelf->bytes * 8 / 10);
		else
			assert_true(totals->bytes_sent > shelf->bytes);
		/* On the same call: it is there now. */
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		uploader_expect_ok(2);
		assert_true(totals->unchanged);
		assert_int_equal(totals->blobs_sent, shelf->count);
		uploader_end();
	}
}

/* What is under way is not overtaken: a few packs. */
static void what_is_hurried_goes_first(void **state)
{
	size_t places[2];

	for (int hurry = 0; hurry < 2; hurry++) {
		struct uploader *uploader;

		shelf_fini(shelf);
		shelf_make(shelf, client_ring(client), 30 + (uint32_t)hurry);
		uploader = uploader_begin(0);
		seen.hurried = &shelf->digests[shelf->contents - 1];
		seen.hurry = hurry;
		assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
		uploader_finish(uploader);
		uploader_expect_ok(1);
		assert_int_equal(seen.sent, shelf->contents);
		places[hurry] = seen.hurried_at;
		uploader_end();
	}
	assert_int_equal(places[0], shelf->contents - 1);
	assert_true(places[1] < shelf->contents - 1);
}

static void packs_are_read_side_by_side(void **state)
{
	shelf->later = true;
	uploader_commit(uploader_begin(1), &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(shelf->reading_max, UPLOADER_PACKS_MAX);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	uploader_end();
}

static void a_hole_in_what_was_assumed_is_found(void **state)
{
	struct uploader *uploader = uploader_begin(1);

	/* Of all that is not there it is only known that the root changed. */
	shelf->known = shelf->source.assume = true;
	shelf->unknown = &shelf->digests[shelf->root];
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->commits, 2);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	uploader_end();
}

/* ---- ahead of the root ---- */

static void what_is_fed_is_sent_once(void **state)
{
	struct uploader *uploader = uploader_begin(1);

	/* In small portions, some twice, while the loop turns; the recipe and the directories come by the walk alone. */
	for (size_t i = 0; i < shelf->contents; i += 7) {
		size_t count = shelf->contents - i < 11 ? shelf->contents - i : 11;

		assert_int_equal(uploader_feed(uploader, &shelf->digests[i], count), 0);
		if (i % 5 == 0)
			assert_int_equal(client_run(client), CLIENT_OK);
	}
	while (digest_set_count(&seen.stored) < shelf->contents)
		assert_int_equal(client_run(client), CLIENT_OK);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->contents);
	assert_int_equal(uploader_totals(uploader)->blobs_asked, shelf->contents);
	assert_int_equal(seen.done, 0);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	/* Besides those: the root and each directory twice (whole? there?), the recipe once. */
	assert_int_equal(uploader_totals(uploader)->blobs_asked, shelf->contents + 2 + 2 * SHELF_DIRECTORIES + 1);
	uploader_end();
}

/* The root comes while all of it is still to be asked, read and sent. */
static void a_root_may_overtake_what_was_fed(void **state)
{
	struct uploader *uploader = uploader_begin(1);

	shelf->later = true;
	assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	assert_int_equal(uploader_totals(uploader)->commits, 1);
	/* And when the gateway has the root all along, nothing is waited for. */
	assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(2);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	uploader_end();
}

static void a_feed_may_end_without_a_root(void **state)
{
	struct uploader *uploader = uploader_begin(1);

	assert_int_equal(uploader_feed(uploader, shelf->digests, 100), 0);
	uploader_finish(uploader);
	uploader_expect_ok(1);
	assert_int_equal(digest_set_count(&seen.stored), 100);
	uploader_finish(uploader);               /* nothing to wait for */
	uploader_expect_ok(2);
	uploader_end();
}

/* ---- what goes wrong ---- */

static void what_is_stale_waits_for_a_retry(void **state)
{
	struct uploader *uploader = uploader_begin(1);

	shelf->stale = &shelf->digests[30];
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_run_until(&seen.stale, 1);
	assert_true(digest_equal(&seen.stale_digest, shelf->stale));
	uploader_retry(uploader);                /* still gone */
	uploader_run_until(&seen.stale, 2);
	/* All else goes on: of 15 MB one pack is held back. */
	while (seen.bytes_total - seen.bytes_done > SLUICE_PACK_BYTES || seen.bytes_total < shelf->bytes)
		assert_int_equal(client_run(client), CLIENT_OK);
	assert_int_equal(seen.done, 0);
	shelf->stale = NULL;
	uploader_retry(uploader);
	uploader_expect_ok(1);
	assert_int_equal(seen.stale, 2);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	uploader_end();
}

static void a_source_that_fails_ends_it(void **state)
{
	for (int later = 0; later < 2; later++) {
		struct uploader *uploader = uploader_begin(1);

		shelf->later = later;
		shelf->error = -EIO;
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		uploader_run_until(&seen.done, 1);
		assert_int_equal(seen.outcome, -EIO);
		assert_non_null(strstr(seen.why, "EIO"));
		/* Harmless from now on. */
		assert_int_equal(uploader_feed(uploader, shelf->digests, 3), 0);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		uploader_retry(uploader);
		uploader_end();
		assert_int_equal(seen.done, 1);
	}
}

static void what_the_gateway_says_is_told(void **state)
{
	/* SHA-256 of "token-a", who may only read. */
	struct gateway_thread *strict = gateway_thread_start(&(struct gateway_thread_options){
		.tokens = "a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme read\n" });
	struct client *usual = client;

	client = uploader_connect(strict, "token-a");
	uploader_begin(1);
	seen.close_on_done = true;
	assert_int_equal(uploader_feed(seen.uploader, shelf->digests, 3), 0);
	uploader_run_until(&seen.closed, 1);
	assert_int_equal(seen.outcome, UPLOADER_REFUSED);
	assert_int_equal(seen.status, GRPC_PERMISSION_DENIED);
	assert_non_null(strstr(seen.why, "right to write"));
	client_close(client);
	gateway_thread_stop(strict, true);
	client = usual;
}

/* ---- closing ---- */

/* The timer ends before its time. With something said since it was set it says nothing, and is set again. */
static void silence_is_broken_now_and_then(void **state)
{
	struct uploader *uploader = uploader_begin(1);
	struct call *call = &uploader->call;
	uint64_t sent, received;

	for (int i = 0; i < 2; i++) {
		received = call->bytes_received;
		ring_cancel(client_ring(client), &uploader->word);
		while (call->bytes_received == received || uploader->flights_count)
			assert_int_equal(client_run(client), CLIENT_OK);
	}
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	sent = call->bytes_sent;
	assert_int_not_equal(uploader->word_bytes, sent);
	ring_cancel(client_ring(client), &uploader->word);
	while (uploader->word_bytes != sent)
		assert_int_equal(client_run(client), CLIENT_OK);
	assert_int_equal(call->bytes_sent, sent);
	ring_cancel(client_ring(client), &uploader->word);
	while (call->bytes_sent == sent)
		assert_int_equal(client_run(client), CLIENT_OK);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	uploader_expect_ok(2);
	assert_true(uploader_totals(uploader)->unchanged);
	uploader_end();
}

static void it_may_be_closed_at_any_moment(void **state)
{
	for (unsigned turns = 0; turns < 60; turns += 2) {
		struct uploader *uploader;

		shelf_fini(shelf);
		shelf_make(shelf, client_ring(client), 1000 + turns);
		uploader = uploader_begin(1);
		shelf->later = turns % 4 == 0;
		if (turns % 6 == 0)
			assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		for (unsigned turn = 0; turn < turns && !seen.done; turn++)
			assert_int_equal(client_run(client), CLIENT_OK);
		uploader_close(uploader);
		uploader_run_until(&seen.closed, 1);
		assert_int_equal(shelf->reading, 0);
	}
	uploader_close(NULL);
}

static void it_may_be_closed_by_an_event(void **state)
{
	uploader_begin(1);
	seen.close_on_stored = true;
	assert_int_equal(uploader_feed(seen.uploader, shelf->digests, shelf->contents), 0);
	uploader_run_until(&seen.closed, 1);
	assert_int_equal(seen.done, 0);
	uploader_begin(1);
	seen.close_on_done = true;
	uploader_commit(seen.uploader, &shelf->digests[shelf->root]);
	uploader_run_until(&seen.closed, 1);
	assert_int_equal(seen.done, 1);
	assert_int_equal(seen.outcome, UPLOADER_OK);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_tree_goes_up_whole, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(what_is_hurried_goes_first, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(packs_are_read_side_by_side, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(a_hole_in_what_was_assumed_is_found, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(what_is_fed_is_sent_once, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(a_root_may_overtake_what_was_fed, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(a_feed_may_end_without_a_root, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(what_is_stale_waits_for_a_retry, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(a_source_that_fails_ends_it, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(what_the_gateway_says_is_told, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(silence_is_broken_now_and_then, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(it_may_be_closed_at_any_moment, uploader_setup, uploader_teardown),
		cmocka_unit_test_setup_teardown(it_may_be_closed_by_an_event, uploader_setup, uploader_teardown),
	};

	return uploader_tests(argc, argv, tests);
}
