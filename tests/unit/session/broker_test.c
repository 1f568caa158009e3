/*
 * Shows the DiffCopy broker between a client and daemons that behave as buildx and buildkitd do, over real nested sessions: every
 * byte reaches the daemon whatever way it took; what was seen once is not asked of the client again, on another daemon, by
 * another session, after a restart; builds side by side share one fetch; a slow daemon does not stop the client, a
 * lost store, client or daemon costs no more than its own part; what is not asked for, asked twice or malformed is refused.
 */
#include "tests/unit/session/session_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rig rig;
static struct rig_tree tree;

static uint64_t tree_bytes(const struct rig_tree *of)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < of->count; i++)
		bytes += of->files[i].size;
	return bytes;
}

/* One build's transfer: a session of its own at this daemon. Returns the content bytes that the client sent. */
static uint64_t build_at(struct rig_daemon *daemon, struct rig_tree *of, const char *shared_key)
{
	struct rig_client *client = rig_client_start(&rig, of, shared_key);
	struct rig_copy copy = { 0 };
	uint64_t bytes;

	rig_carry(client, daemon);
	assert_string_equal(daemon->shared_key, shared_key);
	rig_copy_start(&copy, daemon, of);
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_OK);
	assert_true(copy.fin_received);
	bytes = client->bytes_sent;
	rig_copy_fini(&copy);
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
	return bytes;
}

static void what_was_seen_is_not_asked_again(void **state)
{
	struct rig_daemon *one = rig_daemon_start(&rig), *two = rig_daemon_start(&rig);

	rig_tree_make(&tree, 300, 1);
	assert_int_equal(build_at(one, &tree, "app:1"), tree_bytes(&tree));
	assert_int_equal(build_at(two, &tree, "app:1"), 0);
	assert_int_equal(build_at(one, &tree, "app:2"), tree_bytes(&tree));      /* another key: nothing is known */
	rig_reopen_memory(&rig);
	assert_int_equal(build_at(two, &tree, "app:1"), 0);
	/* Another content has another mtime. */
	tree.files[5].seed += 77777;
	tree.files[5].mtime_ns++;
	assert_int_equal(build_at(one, &tree, "app:1"), tree.files[5].size);
	assert_int_equal(build_at(two, &tree, "app:1"), 0);
}

static void without_a_shared_key_nothing_is_kept(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	struct stat_memory_status status;

	rig_tree_make(&tree, 100, 2);
	assert_int_equal(build_at(daemon, &tree, ""), tree_bytes(&tree));
	assert_int_equal(build_at(daemon, &tree, ""), tree_bytes(&tree));
	stat_memory_status(rig.memory, &status);
	assert_int_equal(status.loads, 0);
	rig.service.mtime_trust = false;
	assert_int_equal(build_at(daemon, &tree, "app:1"), tree_bytes(&tree));
	assert_int_equal(build_at(daemon, &tree, "app:1"), tree_bytes(&tree));
}

/* Three builds at once: the client's bytes cross once, whichever of them asks first for which file. */
static void builds_side_by_side_share_a_fetch(void **state)
{
	struct rig_copy copies[3] = { 0 };
	struct rig_client *clients[3];
	uint64_t bytes = 0;

	rig_tree_make(&tree, 500, 3);
	for (int i = 0; i < 3; i++) {
		clients[i] = rig_client_start(&rig, &tree, "app:1");
		rig_carry(clients[i], rig_daemon_start(&rig));
	}
	for (int i = 0; i < 3; i++) {
		copies[i].late_requests = i == 1;
		rig_copy_start(&copies[i], &rig.daemons[i], &tree);
	}
	for (int i = 0; i < 3; i++) {
		rig_until(&rig, &copies[i].closed);
		assert_int_equal(copies[i].status, GRPC_OK);
		rig_copy_fini(&copies[i]);
	}
	for (int i = 0; i < 3; i++) {
		bytes += clients[i]->bytes_sent;
		rig_client_end(clients[i]);
	}
	assert_int_equal(bytes, tree_bytes(&tree));
	assert_true(rig.service.counters.files_joined > 0);
}

/* A daemon that takes nothing: the client is read to its end all the same, and memory is bounded. */
static void a_slow_daemon_does_not_stop_the_client(void **state)
{
	struct rig_client *client;
	struct rig_copy copy = { .late_requests = false };

	rig_tree_make(&tree, 3000, 4);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	/* It asks for what the first STATs tell, then sleeps. */
	rig_wait(&rig, copy.asked >= 120);
	copy.lazy = true;
	rig_wait(&rig, client->told_all && rig.service.counters.bytes_from_client == client->bytes_sent);
	rig_copy_go_on(&copy);
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_OK);
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* Content among entries, as the client sends it: a daemon that was behind has something to do with either. */
static void the_clients_order_is_the_daemons(void **state)
{
	static uint64_t sent[RIG_FILES_MAX], received[RIG_FILES_MAX];
	struct rig_client *client;
	struct rig_copy copy = { .bytes_before = received };
	uint64_t since = 0;

	tree.count = 0;
	for (uint32_t i = 0; i < 150; i++) {
		tree.files[tree.count] = (struct rig_file){ .size = 100000 + i, .mtime_ns = 1 + i, .seed = i };
		snprintf(tree.files[tree.count].path, sizeof(tree.files[0].path), "f%03u", (unsigned)i);
		tree.count++;
	}
	/* Nothing is stored, so nothing is deferred. */
	client = rig_client_start(&rig, &tree, "");
	client->stats_ahead = 64;
	client->bytes_before = sent;
	rig_carry(client, rig_daemon_start(&rig));
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	rig_wait(&rig, copy.asked >= 70);
	copy.lazy = true;
	/* More waits than its windows and the queues before them take: the client waits, too. */
	rig_wait(&rig, client->bytes_sent > DIFFCOPY_WAITING_BYTES + 2000000);
	for (int i = 0; i < 200; i++)
		rig_turn(&rig, &since);
	assert_true(client->bytes_sent < DIFFCOPY_WAITING_BYTES + 5000000);
	rig_copy_go_on(&copy);
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_OK);
	assert_memory_equal(received, sent, tree.count * sizeof(*sent));
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* Packets of any size, up to far more than may wait: each arrives whole, also when the daemon is slow and the client has to wait. */
static void packets_of_any_size(void **state)
{
	static const size_t sizes[] = { 1, 700, 16384, 100000, 2500000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_client *client;
		struct rig_copy copy = { 0 };

		rig_fini(&rig);
		rig_init(&rig);
		tree.count = sizes[i] < 1000 ? 3 : 8;
		for (uint32_t k = 0; k < tree.count; k++) {
			tree.files[k] = (struct rig_file){ .size = sizes[i] * 2 + k * 3, .mtime_ns = 1 + k, .seed = k };
			snprintf(tree.files[k].path, sizeof(tree.files[0].path), "f%03u", (unsigned)k);
		}
		client = rig_client_start(&rig, &tree, i % 2 ? "app:1" : "");
		client->piece_bytes = sizes[i];
		rig_carry(client, rig_daemon_start(&rig));
		rig_copy_start(&copy, &rig.daemons[0], &tree);
		rig_wait(&rig, copy.asked == tree.count);
		copy.lazy = true;
		if (sizes[i] > 1000000)
			rig_wait(&rig, client->bytes_sent > DIFFCOPY_WAITING_BYTES + 2000000);
		rig_copy_go_on(&copy);
		rig_until(&rig, &copy.closed);
		assert_int_equal(copy.status, GRPC_OK);
		rig_copy_fini(&copy);
		rig_client_end(client);
		/* What is stored is copied into a block; the rest of its way is the session's. */
		if (i % 2)
			assert_true(rig.service.counters.copied_bytes_broker >= tree_bytes(&tree));
		assert_true(rig.service.counters.copied_bytes_session >= tree_bytes(&tree));
	}
}

/* Beyond what may wait in memory, what the client sends lies in the store, and is read from there when the daemon wakes. */
static void what_a_slow_daemon_does_not_take_lies_in_the_store(void **state)
{
	struct rig_client *client;
	struct rig_copy copy = { .late_requests = true, .sleeps_then = true };

	tree.count = 0;
	for (uint32_t i = 0; i < 40; i++) {
		tree.files[tree.count] = (struct rig_file){ .size = 900000 + i, .mtime_ns = 1 + i, .seed = i };
		snprintf(tree.files[tree.count].path, sizeof(tree.files[0].path), "f%03u", (unsigned)i);
		tree.count++;
	}
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	rig_wait(&rig, client->files_sent == 40 && rig.service.counters.bytes_from_client == tree_bytes(&tree));
	assert_int_equal(client->bytes_sent, tree_bytes(&tree));
	assert_true(rig.service.counters.files_deferred > 20);
	assert_true(rig.service.counters.bytes_to_executor < 8u << 20);
	rig_copy_go_on(&copy);
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_OK);
	rig_copy_fini(&copy);
	assert_int_equal(client->bytes_sent, tree_bytes(&tree));
	rig_client_end(client);
}

static void a_store_that_lost_it_is_no_end(void **state)
{
	rig_tree_make(&tree, 200, 5);
	assert_int_equal(build_at(rig_daemon_start(&rig), &tree, "app:1"), tree_bytes(&tree));
	rig_lose_store(&rig);
	assert_int_equal(build_at(&rig.daemons[0], &tree, "app:1"), tree_bytes(&tree));
	assert_int_equal(build_at(&rig.daemons[0], &tree, "app:1"), 0);
}

/* Shorter or longer than its STAT said: it goes through as it is, and nobody else is given it. */
static void a_file_that_changed_meanwhile_is_not_remembered(void **state)
{
	struct rig_daemon *daemon = rig_daemon_start(&rig);
	uint64_t odd;

	rig_tree_make(&tree, 60, 6);
	tree.files[9].odd = tree.files[10].odd = tree.files[11].odd = true;
	tree.files[9].sent_size = tree.files[9].size + 100;
	tree.files[10].sent_size = tree.files[10].size / 2;
	tree.files[11].sent_size = 0;
	odd = tree.files[9].sent_size + tree.files[10].sent_size;
	build_at(daemon, &tree, "app:1");
	assert_int_equal(build_at(daemon, &tree, "app:1"), odd);
	for (int i = 9; i < 12; i++)
		tree.files[i].odd = false;
	assert_int_equal(build_at(daemon, &tree, "app:1"), tree.files[9].size + tree.files[10].size + tree.files[11].size);
	assert_int_equal(build_at(daemon, &tree, "app:1"), 0);
}

static bool wants_nothing(const struct rig_file *file)
{
	return false;
}

static void what_makes_no_sense_is_refused(void **state)
{
	struct rig_client *client;
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	rig_tree_make(&tree, 50, 7);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	for (int round = 0; round < 4; round++) {
		struct rig_copy copy = { .wants = wants_nothing, .stays = true };

		rig_copy_start(&copy, &rig.daemons[0], &tree);
		if (round == 0)
			rig_copy_send(&copy, span_make(packet, fsutil_write_req(packet, 4000000)));
		if (round == 1)
			rig_copy_send(&copy, span_text("\xff\xff\xff"));
		if (round >= 2) {
			/* The first entry is a directory, the second a file. */
			rig_wait(&rig, copy.stats >= 3);
			rig_copy_send(&copy, span_make(packet, fsutil_write_req(packet, round == 2 ? 0 : 2)));
		}
		if (round == 3)
			rig_copy_send(&copy, span_make(packet, fsutil_write_req(packet, 2)));
		rig_until(&rig, &copy.closed);
		assert_int_equal(copy.status, GRPC_INVALID_ARGUMENT);
		rig_wait(&rig, client->calls_open == 0);
		rig_copy_fini(&copy);
	}
	rig_client_end(client);
}

/* The one that fetches goes away in the middle: the sibling that waited for it asks its own client. */
static void a_lost_client_is_replaced_by_its_sibling(void **state)
{
	struct rig_copy copies[2] = { 0 };
	struct rig_client *first, *second;

	rig_tree_make(&tree, 200, 8);
	first = rig_client_start(&rig, &tree, "app:1");
	second = rig_client_start(&rig, &tree, "app:1");
	first->stop_after_bytes = tree_bytes(&tree) / 3;
	rig_carry(first, rig_daemon_start(&rig));
	rig_carry(second, rig_daemon_start(&rig));
	rig_copy_start(&copies[0], &rig.daemons[0], &tree);
	rig_wait(&rig, first->stopped && rig.service.counters.bytes_from_client == first->bytes_sent);
	rig_copy_start(&copies[1], &rig.daemons[1], &tree);
	rig_wait(&rig, rig.service.counters.files_joined > 0);
	assert_false(copies[1].closed);
	rig_client_vanish(first);
	rig_until(&rig, &copies[0].closed);
	assert_int_not_equal(copies[0].status, GRPC_OK);
	rig_until(&rig, &copies[1].closed);
	assert_int_equal(copies[1].status, GRPC_OK);
	assert_true(second->bytes_sent < tree_bytes(&tree) && second->bytes_sent > 0);
	rig_copy_fini(&copies[0]);
	rig_copy_fini(&copies[1]);
	rig_client_end(second);
}

/* The executor goes in the middle: the client's session is carried to another one, and only the rest is asked for. */
static void a_lost_daemon_is_replaced(void **state)
{
	struct rig_copy copies[2] = { 0 };
	struct rig_client *client;
	uint64_t before;

	rig_tree_make(&tree, 400, 9);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	client->stop_after_bytes = tree_bytes(&tree) / 2;
	rig_copy_start(&copies[0], &rig.daemons[0], &tree);
	rig_wait(&rig, client->stopped && rig.service.counters.bytes_from_client == client->bytes_sent);
	before = client->bytes_sent;
	assert_true(before > 0);
	rig_daemon_vanish(&rig.daemons[0]);
	rig_until(&rig, &copies[0].closed);
	rig_copy_fini(&copies[0]);
	rig_wait(&rig, rig.executor_closed == 1);
	assert_true(session_is_held(client->session));
	client->stop_after_bytes = 0;
	rig_carry(client, rig_daemon_start(&rig));
	rig_copy_start(&copies[1], &rig.daemons[1], &tree);
	rig_until(&rig, &copies[1].closed);
	assert_int_equal(copies[1].status, GRPC_OK);
	rig_copy_fini(&copies[1]);
	assert_true(client->bytes_sent < tree_bytes(&tree) + before / 2);
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
}

/* It is what the user reads: also when a packet of the client's is on its way in pieces, which then is made whole. */
static void a_status_comes_in_the_middle_of_a_packet(void **state)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];
	struct rig_copy copy = { .careless = true };
	struct rig_client *client;

	tree.count = 1;
	tree.files[0] = (struct rig_file){ .path = "large", .size = 3u << 20, .mtime_ns = 1, .seed = 1 };
	client = rig_client_start(&rig, &tree, "app:1");
	client->piece_bytes = 3u << 20;
	rig_carry(client, rig_daemon_start(&rig));
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	rig_wait(&rig, rig.service.counters.bytes_from_client > 0);
	assert_true(rig.service.counters.bytes_from_client < tree.files[0].size);
	assert_int_equal(copy.received, 0);
	rig_copy_send(&copy, span_make(packet, fsutil_write_req(packet, 77)));
	rig_until(&rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_INVALID_ARGUMENT);
	assert_string_equal(copy.message, "invalid file id 77");
	assert_int_equal(copy.ended, 0);
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* A client that half-closes while no executor is there has its answer; one whose executor is lost is told what it is told. */
static void a_held_session_ends(void **state)
{
	struct rig_client *client;

	rig_tree_make(&tree, 1, 10);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_client_vanish(client);
	rig.finish_on_loss = true;
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	rig_daemon_vanish(&rig.daemons[0]);
	rig_until(&rig, &client->closed);
	assert_int_equal(client->status, GRPC_UNAVAILABLE);
	assert_string_equal(client->message, "executor one was lost");
}

/* buildx's probe opens a session and closes it: what it would be told inside arrives too late, and makes it complain. */
static void nothing_is_said_before_there_is_something_to_say(void **state)
{
	struct rig_client *client;
	struct rig_copy copy = { 0 };
	uint64_t since = 0;

	rig_tree_make(&tree, 1, 11);
	client = rig_client_start(&rig, &tree, "app:1");
	for (int i = 0; i < 20; i++)
		rig_turn(&rig, &since);
	assert_int_equal(client->nest.call.bytes_received, 0);
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
	/* A call of the daemon's is something. */
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	assert_int_equal(client->nest.call.bytes_received, 0);
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	rig_until(&rig, &copy.closed);
	assert_true(client->nest.call.bytes_received > 0);
	rig_copy_fini(&copy);
	rig_client_end(client);
	/* One that only waits hears from us before its patience ends. */
	client = rig_client_start(&rig, &tree, "app:1");
	rig_wait(&rig, client->nest.call.bytes_received > 0);
	rig_client_end(client);
}

/* One behind a link may be away for as long as the link waits for it; it is asked in vain meanwhile. */
static void a_silent_client_has_the_time_it_was_given(void **state)
{
	struct rig_client *client;
	uint64_t since = 0, silent_ns;

	rig_tree_make(&tree, 1, 12);
	rig.probe_interval_ns = 2000000;
	rig.probe_timeout_ns = 5000000;
	client = rig_client_start(&rig, &tree, "app:1");
	client->hung = true;
	rig_until(&rig, &client->closed);
	assert_int_equal(client->status, GRPC_UNAVAILABLE);
	assert_string_equal(client->message, "the client did not answer for too long");
	rig.probe_timeout_ns = 3600000000000u;
	client = rig_client_start(&rig, &tree, "app:1");
	client->hung = true;
	rig_wait(&rig, client->health_checks);
	silent_ns = ring_now_ns(rig.fixture.ring);
	while (ring_now_ns(rig.fixture.ring) - silent_ns < 50000000u)
		rig_turn(&rig, &since);
	assert_false(client->closed);
	assert_int_equal(client->health_checks, 1);
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
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_seen_is_not_asked_again),
		TEST(without_a_shared_key_nothing_is_kept),
		TEST(builds_side_by_side_share_a_fetch),
		TEST(a_slow_daemon_does_not_stop_the_client),
		TEST(the_clients_order_is_the_daemons),
		TEST(packets_of_any_size),
		TEST(what_a_slow_daemon_does_not_take_lies_in_the_store),
		TEST(a_store_that_lost_it_is_no_end),
		TEST(a_file_that_changed_meanwhile_is_not_remembered),
		TEST(what_makes_no_sense_is_refused),
		TEST(a_lost_client_is_replaced_by_its_sibling),
		TEST(a_lost_daemon_is_replaced),
		TEST(a_status_comes_in_the_middle_of_a_packet),
		TEST(a_held_session_ends),
		TEST(nothing_is_said_before_there_is_something_to_say),
		TEST(a_silent_client_has_the_time_it_was_given),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
