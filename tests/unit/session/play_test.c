/*
 * Shows a daemon's DiffCopy call that is played from the store for an edge's context, over real nested sessions and a real store: the
 * daemon gets what buildx itself would have sent, without a byte of the client's; an unfit context, an edge that fails and one that never
 * pushes become a plain call; what the store lacks or loses in the middle is pushed again; a root is believed only when
 * it is whole for this tenant.
 */
#include "tests/unit/session/edge_stand_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rig rig;
static struct rig_tree tree;
static struct stand_in edge;

static uint64_t tree_bytes(const struct rig_tree *of)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < of->count; i++)
		bytes += of->files[i].size;
	return bytes;
}

static void edge_start(uint32_t files, uint32_t seed)
{
	rig_tree_make(&tree, files, seed);
	stand_in_init(&edge, &rig, &tree);
	rig.give = stand_in_give;
	rig.giver = &edge;
}

static struct rig_client *client_at(struct rig_daemon *daemon)
{
	struct rig_client *client = rig_client_start(&rig, &tree, "app:1");

	rig_carry(client, daemon);
	return client;
}

/* To its end: everything has arrived, byte for byte. */
static void copy_end(struct rig_copy *copy)
{
	rig_until(&rig, &copy->closed);
	if (copy->status != GRPC_OK)
		print_message("%s\n", copy->message);
	assert_int_equal(copy->status, GRPC_OK);
	assert_true(copy->fin_received);
	rig_copy_fini(copy);
}

static void a_context_is_played_without_its_client(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct diffcopy_totals totals;
	struct rig_client *client;

	edge_start(700, 1);
	edge.bytes_sent = 12345;
	edge.files_read = 17;
	stand_in_push(&edge, NULL);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	copy_end(&copy);
	assert_int_equal(client->bytes_sent, 0);
	assert_false(client->told_all);          /* not even its STATs were asked for */
	assert_string_equal(edge.directory, "context");
	assert_string_equal(edge.pattern, "*.log");
	assert_true(edge.asked_times);
	assert_int_equal(edge.known.size, 0);
	rig_wait(&rig, edge.ended && !edge.open);
	totals = session_take_totals(client->session);
	assert_int_equal(totals.entries, tree.count);
	assert_int_equal(totals.files, 700);
	assert_int_equal(totals.files_changed, 17);
	assert_int_equal(totals.bytes_from_client, 12345);
	assert_int_equal(totals.bytes_from_store, tree_bytes(&tree));
	assert_int_equal(totals.bytes_to_executor, tree_bytes(&tree));
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
}

/* The root of the last time is told, so that the edge need only look at what is different. */
static void the_last_root_is_told(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_client *client;

	edge_start(50, 2);
	stand_in_push(&edge, NULL);
	for (int round = 0; round < 2; round++) {
		struct rig_copy copy = { 0 };

		client = client_at(daemon);
		rig_copy_start(&copy, daemon, &tree);
		copy_end(&copy);
		assert_int_equal(digest_equal(&edge.known, &edge.root), round);
		rig_client_end(client);
	}
}

static void an_unfit_context_comes_by_the_plain_call(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;

	edge_start(60, 3);
	edge.unfit = "a device";
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	copy_end(&copy);
	assert_int_equal(client->bytes_sent, tree_bytes(&tree));
	assert_int_equal(rig.play.counters.unfit, 1);
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
}

/* It says a root and ends the call, or ends it at once. */
static void an_edge_that_fails_is_no_end(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_client *client;

	edge_start(60, 4);
	edge.silent = true;
	for (int round = 0; round < 2; round++) {
		struct rig_copy copy = { 0 };

		client = client_at(daemon);
		rig_copy_start(&copy, daemon, &tree);
		rig_wait(&rig, edge.open && edge.asks == (unsigned)round + 1);
		if (round == 1)
			stand_in_say_root(&edge);        /* of which nothing is here */
		call_finish(&edge.call, GRPC_INTERNAL, "it broke");
		copy_end(&copy);
		/* By the plain call; which remembers the files. */
		assert_int_equal(client->bytes_sent, round == 0 ? tree_bytes(&tree) : 0);
		assert_int_equal(rig.play.counters.unfit, round + 1);
		rig_client_end(client);
	}
}

static bool all_but_some(const struct stand_in *of, uint32_t blob)
{
	return blob % 10 != 3 && blob + 1 != of->blobs_count;
}

/* What it said to have pushed was evicted since. */
static void what_is_not_here_is_asked_for_again(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;
	unsigned rounds = 0;

	edge_start(300, 5);
	stand_in_push(&edge, all_but_some);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	while (!copy.closed) {
		rig_wait(&rig, copy.closed || edge.missing.size);
		if (copy.closed)
			break;
		assert_int_equal(copy.stats, 0);
		stand_in_push_missing(&edge);
		stand_in_say_root(&edge);
		rounds++;
	}
	assert_true(rounds >= 2);                /* the root's own hole hides the others */
	copy_end(&copy);
	assert_int_equal(client->bytes_sent, 0);
	rig_client_end(client);
}

/* An edge that never pushes what is missing does not hold the build up for ever. */
static void an_edge_that_never_pushes_is_left(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;

	edge_start(30, 6);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	while (!copy.closed) {
		rig_wait(&rig, copy.closed || edge.missing.size);
		buffer_clear(&edge.missing);
		if (!copy.closed && edge.open)
			stand_in_say_root(&edge);
	}
	copy_end(&copy);
	assert_int_equal(client->bytes_sent, tree_bytes(&tree));
	rig_client_end(client);
}

/* Of another tenant's tree a root is no proof: it is asked for as if nobody had it. */
static void a_root_of_another_tenant_is_not_believed(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct scope own = rig.fixture.a;
	struct rig_copy copy = { 0 };
	struct rig_client *client;

	edge_start(40, 7);
	rig.fixture.a = rig.fixture.b;
	stand_in_push(&edge, NULL);
	rig.fixture.a = own;
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, edge.missing.size);
	assert_int_equal(copy.stats, 0);
	call_finish(&edge.call, GRPC_OK, NULL);
	copy_end(&copy);
	assert_int_equal(client->bytes_sent, tree_bytes(&tree));
	rig_client_end(client);
}

/* A blob that is damaged on the disk, found when it is read for the daemon. */
static void what_is_lost_in_the_middle_is_pushed_again(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { .late_requests = true, .sleeps_then = true };
	struct rig_client *client;
	unsigned repaired = 0;

	edge_start(400, 8);
	stand_in_push(&edge, NULL);
	sync_store(&rig.fixture);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, copy.lazy);
	for (uint32_t i = edge.blobs_count / 2; i < edge.blobs_count / 2 + 5; i++)
		if (edge.blobs[i].digest.size > 1000)
			assert_true(damage_blob(&rig.fixture, &edge.blobs[i]) > 0);
	rig_copy_go_on(&copy);
	while (!copy.closed) {
		rig_wait(&rig, copy.closed || edge.missing.size);
		if (copy.closed)
			break;
		stand_in_push_missing(&edge);
		stand_in_say_root(&edge);
		repaired++;
	}
	assert_true(repaired > 0);
	assert_int_equal(rig.play.counters.repairs, repaired);
	copy_end(&copy);
	assert_int_equal(client->bytes_sent, 0);
	rig_client_end(client);
}

/* STATs wait for their times. */
static void entries_wait_for_their_times(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;

	edge_start(900, 9);
	edge.slow_times = true;
	stand_in_push(&edge, NULL);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, rig.play.roots.count == 1);
	for (uint64_t since = 0, i = 0; i < 20; i++)
		rig_turn(&rig, &since);
	assert_int_equal(copy.stats, 0);
	stand_in_say_times(&edge);
	copy_end(&copy);
	rig_client_end(client);
}

static void an_edge_lost_before_its_times_ends_the_call(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;

	edge_start(30, 10);
	edge.slow_times = true;
	stand_in_push(&edge, NULL);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, rig.play.roots.count == 1);
	call_finish(&edge.call, GRPC_OK, NULL);
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_UNAVAILABLE);
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* After the times nothing more is wanted of it. */
static void an_edge_lost_after_its_times_is_not_missed(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { .late_requests = true, .sleeps_then = true };
	struct rig_client *client;

	edge_start(300, 11);
	stand_in_push(&edge, NULL);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, copy.lazy);
	call_finish(&edge.call, GRPC_INTERNAL, "it broke");
	rig_wait(&rig, !edge.open);
	rig_copy_go_on(&copy);
	copy_end(&copy);
	rig_client_end(client);
}

static void a_wrong_count_of_entries_ends_the_call(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;

	edge_start(30, 12);
	edge.lies = true;
	stand_in_push(&edge, NULL);
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_INTERNAL);
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* What an edge may send unasked fills no disk: each list would wait for entries that never come. */
static void times_that_nobody_asked_for_end_the_call(void **state)
{
	static uint8_t times[1u << 20];
	struct rig_copy copy = { 0 };
	struct rig_client *client;
	unsigned sent = 0;
	uint64_t since = 0;

	edge_start(50, 18);
	edge.slow_times = true;
	client = client_at(rig_daemon_start(&rig));
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	rig_wait(&rig, edge.open && edge.missing.size);          /* of the root nothing is here, so nothing takes them */
	while (sent < 64 && edge.open)
		if (stand_in_try_times(&edge, span_make(times, sizeof(times))))
			sent++;
		else
			rig_wait(&rig, !edge.open || call_has_room(&edge.call));
	for (unsigned turns = 0; turns < 100 && !copy.closed; turns++)
		rig_turn(&rig, &since);
	assert_true(copy.closed);
	assert_int_equal(copy.status, GRPC_INTERNAL);
	assert_string_equal(copy.message, "the edge sent more times than there are entries");
	buffer_clear(&edge.missing);
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* Either side goes in the middle. */
static void who_leaves_takes_nobody_along(void **state)
{
	for (int round = 0; round < 2; round++) {
		struct rig_daemon *daemon = rig_daemon_start(&rig);
		struct rig_copy copy = { .late_requests = true, .sleeps_then = true };
		struct rig_client *client;

		edge_start(500, 13);
		stand_in_push(&edge, NULL);
		client = client_at(daemon);
		rig_copy_start(&copy, daemon, &tree);
		rig_wait(&rig, copy.lazy);
		if (round == 0) {
			call_cancel(&copy.call);
			call_release(&copy.call);
			rig_until(&rig, &copy.closed);
			rig_wait(&rig, !edge.open);
			rig_client_end(client);
		} else {
			rig_client_vanish(client);
			call_release(&copy.call);
			rig_until(&rig, &copy.closed);
		}
		rig_copy_fini(&copy);
		stand_in_fini(&edge);
	}
	stand_in_init(&edge, &rig, &tree);       /* for the teardown */
}

/* Entries are told before any content is known, and each content is given once it is named. */
static void what_comes_ahead_is_told_ahead(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;
	struct diffcopy_totals totals;

	edge_start(450, 15);
	edge.ahead = true;
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, copy.stats_ended && copy.asked == 450);
	assert_true(edge.asked_ahead && edge.asked_times);
	assert_int_equal(copy.ended, 0);
	/* The edge hears of the first that the daemon waits for; of more when those are nearly through. */
	rig_wait(&rig, edge.urged == 256);
	assert_true(edge.urged_last < 300);
	stand_in_push(&edge, NULL);
	/* The second half first. */
	stand_in_name(&edge, 200, RIG_FILES_MAX);
	rig_wait(&rig, copy.ended > 200);
	stand_in_name(&edge, 0, 180);
	rig_wait(&rig, copy.ended > 400);
	stand_in_name(&edge, 180, 20);
	rig_wait(&rig, copy.ended == 450 && copy.fin_sent);
	for (uint64_t since = 0, i = 0; i < 20; i++)
		rig_turn(&rig, &since);
	assert_false(copy.fin_received);         /* until the root is there */
	stand_in_say_root(&edge);
	copy_end(&copy);
	totals = session_take_totals(client->session);
	assert_int_equal(totals.entries, tree.count);
	assert_int_equal(totals.files, 450);
	rig_wait(&rig, !edge.open);
	rig_client_end(client);
	/* The next time its root is known: nothing has to come ahead. */
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	copy_end(&copy);
	assert_false(edge.asked_ahead);
	rig_client_end(client);
}

/* What was named and is gone waits for the root, with which it is pushed again. */
static void what_is_lost_ahead_waits_for_the_root(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_copy copy = { 0 };
	struct rig_client *client;

	edge_start(200, 16);
	edge.ahead = true;
	client = client_at(daemon);
	rig_copy_start(&copy, daemon, &tree);
	rig_wait(&rig, copy.stats_ended);
	stand_in_push(&edge, all_but_some);
	stand_in_name(&edge, 0, RIG_FILES_MAX);
	rig_wait(&rig, copy.ended > 20);
	stand_in_say_root(&edge);
	while (!copy.closed) {
		rig_wait(&rig, copy.closed || edge.missing.size);
		if (copy.closed)
			break;
		stand_in_push_missing(&edge);
		stand_in_say_root(&edge);
	}
	copy_end(&copy);
	rig_client_end(client);
}

/* Once entries were told there is no way back. */
static void what_came_ahead_binds(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct rig_client *client;

	edge_start(60, 17);
	edge.ahead = true;
	for (int round = 0; round < 5; round++) {
		struct rig_copy copy = { 0 };

		client = client_at(daemon);
		rig_copy_start(&copy, daemon, &tree);
		rig_wait(&rig, copy.stats_ended);
		if (round == 0)
			call_finish(&edge.call, GRPC_OK, NULL);
		if (round == 1)
			stand_in_say_root(&edge);        /* of which nothing is here */
		if (round == 2)
			stand_in_name(&edge, 0, 5);      /* nor of this */
		if (round == 3)
			for (int twice = 0; twice < 2; twice++)
				stand_in_name(&edge, 1, 2);
		if (round == 4) {
			stand_in_push(&edge, NULL);
			stand_in_name(&edge, 0, 30);
			stand_in_say_root(&edge);        /* with which all must be named */
		}
		if (round == 1)
			rig_wait(&rig, edge.missing.size);
		if (round == 1 || round == 2)
			call_finish(&edge.call, GRPC_OK, NULL);
		rig_until(&rig, &copy.closed);
		assert_int_not_equal(copy.status, GRPC_OK);
		assert_int_equal(client->bytes_sent, 0);
		buffer_clear(&edge.missing);
		rig_copy_fini(&copy);
		rig_client_end(client);
	}
}

static bool wants_nothing(const struct rig_file *file)
{
	return false;
}

static void what_makes_no_sense_is_refused(void **state)
{
	struct rig_client *client;
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	edge_start(50, 14);
	stand_in_push(&edge, NULL);
	client = client_at(rig_daemon_start(&rig));
	for (int round = 0; round < 4; round++) {
		struct rig_copy copy = { .wants = wants_nothing, .stays = true };

		rig_copy_start(&copy, &rig.daemons[0], &tree);
		if (round == 0)
			rig_copy_send(&copy, span_make(packet, fsutil_write_req(packet, 4000000)));
		if (round == 1)
			rig_copy_send(&copy, span_text("\xff\xff\xff"));
		if (round >= 2) {
			rig_wait(&rig, copy.stats >= 3);
			rig_copy_send(&copy, span_make(packet, fsutil_write_req(packet, round == 2 ? 0 : 2)));
		}
		if (round == 3)
			rig_copy_send(&copy, span_make(packet, fsutil_write_req(packet, 2)));
		rig_until(&rig, &copy.closed);
		assert_int_equal(copy.status, GRPC_INVALID_ARGUMENT);
		rig_wait(&rig, !edge.open);
		rig_copy_fini(&copy);
	}
	rig_client_end(client);
}

static int setup(void **state)
{
	rig_init(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_fini(&rig);
	stand_in_fini(&edge);
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_context_is_played_without_its_client),
		TEST(the_last_root_is_told),
		TEST(an_unfit_context_comes_by_the_plain_call),
		TEST(an_edge_that_fails_is_no_end),
		TEST(what_is_not_here_is_asked_for_again),
		TEST(an_edge_that_never_pushes_is_left),
		TEST(a_root_of_another_tenant_is_not_believed),
		TEST(what_is_lost_in_the_middle_is_pushed_again),
		TEST(entries_wait_for_their_times),
		TEST(an_edge_lost_before_its_times_ends_the_call),
		TEST(an_edge_lost_after_its_times_is_not_missed),
		TEST(a_wrong_count_of_entries_ends_the_call),
		TEST(times_that_nobody_asked_for_end_the_call),
		TEST(who_leaves_takes_nobody_along),
		TEST(what_comes_ahead_is_told_ahead),
		TEST(what_is_lost_ahead_waits_for_the_root),
		TEST(what_came_ahead_binds),
		TEST(what_makes_no_sense_is_refused),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
