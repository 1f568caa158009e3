/*
 * Shows, of an uploader on a client's ring against a gateway in a thread, over both ring engines: a tree goes up whole;
 * what is fed ahead of the root is told as stored and not asked about or sent again; of it what is hurried goes first; a pack is read while others are; what
 * is stale is told, waits for a retry, and is then sent; what the source cannot read ends the upload with its error; what
 * was assumed to be there and is not is found; one call takes several roots; a call that the gateway ends is told with its
 * status; and an uploader may be closed at any moment.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/base/digest_set.h"
#include "gateway/upload/uploader_private.h"
#include "shelf.h"
#include "tests/unit/cas/gateway_thread.h"

static int engine;
static struct gateway_thread *gateway;
static struct client *client;
static struct shelf *shelf;

/* What the events said. */
static struct seen {
	struct uploader *uploader;
	struct digest_set stored;
	unsigned done, closed, stale;
	int outcome;
	enum grpc_status status;
	char why[UPLOADER_WHY_MAX];
	struct digest stale_digest;
	bool close_on_done, close_on_stored;
	const struct digest *hurried;    /* when the first pack goes out */
	bool hurry;
	size_t sent, hurried_at;         /* blobs; before it */
	uint64_t bytes_done, bytes_total;
} seen;

static void on_stored(struct uploader *uploader, const struct digest *digests, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_true(digest_set_add(&seen.stored, &digests[i]) >= 0);
	if (seen.close_on_stored)
		uploader_close(uploader);
}

static void on_pack(struct uploader *uploader, const struct uploader_piece *pieces, size_t count, uint64_t wire_bytes)
{
	for (size_t i = 0; i < count; i++)
		if (seen.hurried && digest_equal(&pieces[i].digest, seen.hurried))
			seen.hurried_at = seen.sent + i;
	seen.sent += count;
	if (seen.hurry)
		uploader_hurry(uploader, seen.hurried, 1);
}

static void on_progress(struct uploader *uploader, enum uploader_phase phase, uint64_t bytes_done, uint64_t bytes_total)
{
	assert_true(bytes_done >= seen.bytes_done && bytes_done <= bytes_total);
	seen.bytes_done = bytes_done;
	seen.bytes_total = bytes_total;
}

static void on_stale(struct uploader *uploader, const struct digest *digests, size_t count, const char *why)
{
	assert_int_equal(count, 1);
	assert_string_equal(why, "it has gone");
	seen.stale_digest = digests[0];
	seen.stale++;
}

static void on_done(struct uploader *uploader, int outcome, enum grpc_status status, const char *why)
{
	seen.done++;
	seen.outcome = outcome;
	seen.status = status;
	snprintf(seen.why, sizeof(seen.why), "%s", why);
	if (seen.close_on_done)
		uploader_close(uploader);
}

static void on_closed(void *owner)
{
	((struct seen *)owner)->closed++;
}

static const struct uploader_events events = {
	.on_stored = on_stored, .on_pack = on_pack, .on_progress = on_progress, .on_stale = on_stale, .on_done = on_done, .on_closed = on_closed,
};

static int open_call(void *owner, struct call *call, const char *path, size_t message_bytes_max,
                     const struct call_events *call_events, void *call_owner)
{
	return client_call_start(client, call, path, message_bytes_max, call_events, call_owner);
}

static struct client *connect_to(struct gateway_thread *to, const char *token)
{
	struct client_config config = { .fd = -1, .address.local = true, .token = token, .engine = engine };
	struct client *connected = NULL;
	char why[512] = "";

	snprintf(config.address.host, sizeof(config.address.host), "%s/sock", gateway_thread_path(to));
	if (client_open(&connected, &config, why, sizeof(why)))
		fail_msg("client: %s", why);
	return connected;
}

static struct uploader *begin(int level)
{
	struct uploader_config config = {
		.ring = client_ring(client), .source = &shelf->source, .events = &events, .owner = &seen, .level = level,
		.open = open_call,
	};

	digest_set_fini(&seen.stored);
	seen = (struct seen){ 0 };
	assert_int_equal(uploader_create(&seen.uploader, &config), 0);
	assert_ptr_equal(uploader_owner(seen.uploader), &seen);
	return seen.uploader;
}

static void run_until(unsigned *counter, unsigned wanted)
{
	while (*counter < wanted)
		assert_int_equal(client_run(client), CLIENT_OK);
	assert_int_equal(*counter, wanted);
}

static void expect_ok(unsigned times)
{
	run_until(&seen.done, times);
	if (seen.outcome != UPLOADER_OK)
		fail_msg("outcome %d: %s", seen.outcome, seen.why);
}

static void close_it(void)
{
	uploader_close(seen.uploader);
	run_until(&seen.closed, 1);
}

static int setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	client = connect_to(gateway, NULL);
	shelf = calloc(1, sizeof(*shelf));
	shelf_make(shelf, client_ring(client), 1);
	return 0;
}

static int teardown(void **state)
{
	shelf_fini(shelf);
	free(shelf);
	client_close(client);
	gateway_thread_stop(gateway, true);
	digest_set_fini(&seen.stored);
	return 0;
}

/* ---- whole trees ---- */

static void a_tree_goes_up_whole(void **state)
{
	for (int level = 0; level < 2; level++) {
		struct uploader *uploader;
		const struct uploader_totals *totals;

		shelf_fini(shelf);
		shelf_make(shelf, client_ring(client), 10 + (uint32_t)level);
		uploader = begin(level);
		totals = uploader_totals(uploader);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		expect_ok(1);
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
		expect_ok(2);
		assert_true(totals->unchanged);
		assert_int_equal(totals->blobs_sent, shelf->count);
		close_it();
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
		uploader = begin(0);
		seen.hurried = &shelf->digests[shelf->contents - 1];
		seen.hurry = hurry;
		assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
		uploader_finish(uploader);
		expect_ok(1);
		assert_int_equal(seen.sent, shelf->contents);
		places[hurry] = seen.hurried_at;
		close_it();
	}
	assert_int_equal(places[0], shelf->contents - 1);
	assert_true(places[1] < shelf->contents - 1);
}

static void packs_are_read_side_by_side(void **state)
{
	shelf->later = true;
	uploader_commit(begin(1), &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(shelf->reading_max, UPLOADER_PACKS_MAX);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	close_it();
}

static void a_hole_in_what_was_assumed_is_found(void **state)
{
	struct uploader *uploader = begin(1);

	/* Of all that is not there it is only known that the root changed. */
	shelf->known = shelf->source.assume = true;
	shelf->unknown = &shelf->digests[shelf->root];
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->commits, 2);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	close_it();
}

/* ---- ahead of the root ---- */

static void what_is_fed_is_sent_once(void **state)
{
	struct uploader *uploader = begin(1);

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
	expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	/* Besides those: the root and each directory twice (whole? there?), the recipe once. */
	assert_int_equal(uploader_totals(uploader)->blobs_asked, shelf->contents + 2 + 2 * SHELF_DIRECTORIES + 1);
	close_it();
}

/* The root comes while all of it is still to be asked, read and sent. */
static void a_root_may_overtake_what_was_fed(void **state)
{
	struct uploader *uploader = begin(1);

	shelf->later = true;
	assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	assert_int_equal(uploader_totals(uploader)->commits, 1);
	/* And when the gateway has the root all along, nothing is waited for. */
	assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	expect_ok(2);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	close_it();
}

static void a_feed_may_end_without_a_root(void **state)
{
	struct uploader *uploader = begin(1);

	assert_int_equal(uploader_feed(uploader, shelf->digests, 100), 0);
	uploader_finish(uploader);
	expect_ok(1);
	assert_int_equal(digest_set_count(&seen.stored), 100);
	uploader_finish(uploader);               /* nothing to wait for */
	expect_ok(2);
	close_it();
}

/* ---- told by bases ---- */

static struct shelf *former;

static int setup_former(void **state)
{
	setup(state);
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
	return teardown(state);
}

static void push_former(void)
{
	struct shelf *edited = shelf;

	shelf = former;
	uploader_commit(begin(1), &shelf->digests[shelf->root]);
	expect_ok(1);
	close_it();
	shelf = edited;
}

/* A byte of each of some hundred contents: what is told is a hundredth of what there is. */
static void what_is_like_another_is_told_by_it(void **state)
{
	push_former();
	for (int level = 0; level < 2; level++) {
		struct uploader *uploader = begin(level);
		const struct uploader_totals *totals = uploader_totals(uploader);

		shelf->later = level;
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		expect_ok(1);
		assert_int_equal(totals->blobs_sent, shelf->count);
		assert_int_equal(totals->bytes_packed, shelf->bytes);
		assert_int_equal(totals->blobs_delta, SHELF_DIRECTORIES * SHELF_FILES + SHELF_CHUNKS);
		assert_int_equal(totals->blobs_again, 0);
		assert_int_equal(totals->commits, 1);
		assert_true(totals->bytes_sent < shelf->bytes / 100);
		assert_int_equal(seen.bytes_done, shelf->bytes);
		close_it();
		shelf_fini(shelf);
		shelf_make_edited(shelf, client_ring(client), 1, 2);
		shelf->former = former;
	}
}

/* The gateway never had the bases: each is tried once. */
static void what_cannot_be_made_is_sent_whole(void **state)
{
	struct uploader *uploader = begin(1);
	const struct uploader_totals *totals = uploader_totals(uploader);

	uploader_commit(uploader, &shelf->digests[shelf->root]);
	expect_ok(1);
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
	expect_ok(2);
	for (size_t i = 0; i < shelf->contents; i++)
		assert_true(digest_set_has(&seen.stored, &shelf->digests[i]));
	close_it();
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
		uploader = begin(1);
		totals = uploader_totals(uploader);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		expect_ok(1);
		assert_true(totals->blobs_delta > SHELF_CHUNKS);
		assert_int_equal(totals->blobs_again, 0);
		assert_int_equal(totals->blobs_sent, shelf->count);
		assert_true(totals->bytes_sent < shelf->bytes / 10);
		close_it();
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
	totals = uploader_totals(begin(1));
	uploader_commit(seen.uploader, &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(totals->commits, 1);
	assert_int_equal(totals->blobs_sent, 3);
	assert_int_equal(totals->blobs_delta, 1);
	assert_int_equal(totals->blobs_again, 0);
	/* The root twice, the directory, the file, and what lies in a block with one of these. */
	assert_in_range(totals->blobs_asked, 4, 20);
	/* The next one in the same call, from the one before. */
	shelf->source.base = shelf->digests[shelf->root];
	uploader_commit(seen.uploader, &shelf->digests[shelf->root]);
	expect_ok(2);
	assert_true(totals->unchanged);
	close_it();
}

/* Directories in which each file is another one. */
static void a_base_that_is_quite_different_does_no_harm(void **state)
{
	push_former();
	shelf->source.base = former->digests[former->root];
	uploader_commit(begin(1), &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	assert_int_equal(uploader_totals(seen.uploader)->commits, 1);
	close_it();
}

static void a_base_that_is_not_there_does_no_harm(void **state)
{
	touch_the_former();
	uploader_commit(begin(1), &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	close_it();
}

/* The gateway has the base's directories and nothing of their files: the commit tells, and all is asked about. */
static void a_base_with_holes_is_found_out(void **state)
{
	struct shelf *touched = shelf;
	struct uploader *uploader;

	shelf = former;
	assert_int_equal(uploader_feed(begin(1), former->digests + former->contents, former->count - former->contents), 0);
	uploader_finish(seen.uploader);
	expect_ok(1);
	close_it();
	shelf = touched;
	touch_the_former();
	uploader = begin(1);
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(uploader_totals(uploader)->commits, 2);
	assert_true(uploader_totals(uploader)->blobs_sent >= shelf->contents);
	close_it();
}

/* A gateway that has none of them is not told anything by them. */
static void without_either_all_is_whole(void **state)
{
	shelf->former_lost = true;
	uploader_commit(begin(1), &shelf->digests[shelf->root]);
	expect_ok(1);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_delta, 0);
	assert_int_equal(uploader_totals(seen.uploader)->blobs_sent, shelf->count);
	close_it();
}

static void it_may_be_closed_while_it_asks(void **state)
{
	push_former();
	for (unsigned turns = 0; turns < 40; turns++) {
		shelf->former_lost = turns % 2;
		uploader_commit(begin(1), &shelf->digests[shelf->root]);
		for (unsigned turn = 0; turn < turns && !seen.done; turn++)
			assert_int_equal(client_run(client), CLIENT_OK);
		close_it();
	}
}

/* ---- what goes wrong ---- */

static void what_is_stale_waits_for_a_retry(void **state)
{
	struct uploader *uploader = begin(1);

	shelf->stale = &shelf->digests[30];
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	run_until(&seen.stale, 1);
	assert_true(digest_equal(&seen.stale_digest, shelf->stale));
	uploader_retry(uploader);                /* still gone */
	run_until(&seen.stale, 2);
	/* All else goes on: of 15 MB one pack is held back. */
	while (seen.bytes_total - seen.bytes_done > SLUICE_PACK_BYTES || seen.bytes_total < shelf->bytes)
		assert_int_equal(client_run(client), CLIENT_OK);
	assert_int_equal(seen.done, 0);
	shelf->stale = NULL;
	uploader_retry(uploader);
	expect_ok(1);
	assert_int_equal(seen.stale, 2);
	assert_int_equal(uploader_totals(uploader)->blobs_sent, shelf->count);
	close_it();
}

static void a_source_that_fails_ends_it(void **state)
{
	for (int later = 0; later < 2; later++) {
		struct uploader *uploader = begin(1);

		shelf->later = later;
		shelf->error = -EIO;
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		run_until(&seen.done, 1);
		assert_int_equal(seen.outcome, -EIO);
		assert_non_null(strstr(seen.why, "EIO"));
		/* Harmless from now on. */
		assert_int_equal(uploader_feed(uploader, shelf->digests, 3), 0);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		uploader_retry(uploader);
		close_it();
		assert_int_equal(seen.done, 1);
	}
}

static void what_the_gateway_says_is_told(void **state)
{
	/* SHA-256 of "token-a", who may only read. */
	struct gateway_thread *strict = gateway_thread_start(&(struct gateway_thread_options){
		.tokens = "a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme read\n" });
	struct client *usual = client;

	client = connect_to(strict, "token-a");
	begin(1);
	seen.close_on_done = true;
	assert_int_equal(uploader_feed(seen.uploader, shelf->digests, 3), 0);
	run_until(&seen.closed, 1);
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
	struct uploader *uploader = begin(1);
	struct call *call = &uploader->call;
	uint64_t sent, received;

	for (int i = 0; i < 2; i++) {
		received = call->bytes_received;
		ring_cancel(client_ring(client), &uploader->word);
		while (call->bytes_received == received || uploader->flights_count)
			assert_int_equal(client_run(client), CLIENT_OK);
	}
	uploader_commit(uploader, &shelf->digests[shelf->root]);
	expect_ok(1);
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
	expect_ok(2);
	assert_true(uploader_totals(uploader)->unchanged);
	close_it();
}

static void it_may_be_closed_at_any_moment(void **state)
{
	for (unsigned turns = 0; turns < 60; turns += 2) {
		struct uploader *uploader;

		shelf_fini(shelf);
		shelf_make(shelf, client_ring(client), 1000 + turns);
		uploader = begin(1);
		shelf->later = turns % 4 == 0;
		if (turns % 6 == 0)
			assert_int_equal(uploader_feed(uploader, shelf->digests, shelf->contents), 0);
		uploader_commit(uploader, &shelf->digests[shelf->root]);
		for (unsigned turn = 0; turn < turns && !seen.done; turn++)
			assert_int_equal(client_run(client), CLIENT_OK);
		uploader_close(uploader);
		run_until(&seen.closed, 1);
		assert_int_equal(shelf->reading, 0);
	}
	uploader_close(NULL);
}

static void it_may_be_closed_by_an_event(void **state)
{
	begin(1);
	seen.close_on_stored = true;
	assert_int_equal(uploader_feed(seen.uploader, shelf->digests, shelf->contents), 0);
	run_until(&seen.closed, 1);
	assert_int_equal(seen.done, 0);
	begin(1);
	seen.close_on_done = true;
	uploader_commit(seen.uploader, &shelf->digests[shelf->root]);
	run_until(&seen.closed, 1);
	assert_int_equal(seen.done, 1);
	assert_int_equal(seen.outcome, UPLOADER_OK);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_tree_goes_up_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_hurried_goes_first, setup, teardown),
		cmocka_unit_test_setup_teardown(packs_are_read_side_by_side, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hole_in_what_was_assumed_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_fed_is_sent_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_root_may_overtake_what_was_fed, setup, teardown),
		cmocka_unit_test_setup_teardown(a_feed_may_end_without_a_root, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_like_another_is_told_by_it, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(what_cannot_be_made_is_sent_whole, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(without_the_bases_bytes_their_signatures_do, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(without_either_all_is_whole, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_says_what_is_there, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_that_is_quite_different_does_no_harm, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_that_is_not_there_does_no_harm, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(a_base_with_holes_is_found_out, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(it_may_be_closed_while_it_asks, setup_former, teardown_former),
		cmocka_unit_test_setup_teardown(what_is_stale_waits_for_a_retry, setup, teardown),
		cmocka_unit_test_setup_teardown(a_source_that_fails_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(what_the_gateway_says_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(silence_is_broken_now_and_then, setup, teardown),
		cmocka_unit_test_setup_teardown(it_may_be_closed_at_any_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(it_may_be_closed_by_an_event, setup, teardown),
	};

	engine = argc > 1 && strcmp(argv[1], "epoll") == 0 ? RING_ENGINE_EPOLL : RING_ENGINE_AUTO;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
