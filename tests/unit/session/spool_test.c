/*
 * Shows what becomes of a stream that a client says once (Upload/Pull), over real nested sessions: a second executor gets all of
 * it without the client being asked, whether the first was lost after it, in the middle of it, or before it read a byte; what is
 * longer than a spool goes through whole, no faster than its executor reads, and then cannot be repeated; an executor that
 * gives it up gives it up for the client; the client's own refusal arrives as it is, no tenant takes all the room, and nothing
 * stays behind.
 */
#include "tests/unit/session/session_rig.h"

#include <string.h>

static struct rig rig;
static struct rig_tree tree;

#define STDIN_PATH "/stdin-of-the-client"

static struct rig_client *client_with(uint64_t bytes)
{
	struct rig_client *client = rig_client_start(&rig, &tree, "");

	client->upload_bytes = bytes;
	return client;
}

/* The whole of it, at this daemon. */
static void pull_all(struct rig_client *client, struct rig_daemon *daemon)
{
	struct rig_pull pull = { 0 };

	rig_pull_start(&pull, daemon, STDIN_PATH);
	rig_until(&rig, &pull.closed);
	assert_int_equal(pull.status, GRPC_OK);
	assert_int_equal(pull.received, client->upload_bytes);
	rig_pull_fini(&pull);
}

static void lose(struct rig_client *client, struct rig_daemon *daemon)
{
	rig_daemon_vanish(daemon);
	rig_wait(&rig, session_is_held(client->session));
}

/* Sizes around what lies in memory, in a file, in one of the second length, and nothing at all but a message's end. */
static void another_executor_gets_the_same(void **state)
{
	static const uint64_t sizes[] = { 1, 70000, 3u << 20, 17u << 20 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_client *client = client_with(sizes[i]);
		struct rig_daemon *first = rig_daemon_start(&rig), *second = rig_daemon_start(&rig);

		rig_carry(client, first);
		pull_all(client, first);
		assert_true(session_can_repeat(client->session));
		lose(client, first);
		rig_carry(client, second);
		pull_all(client, second);
		assert_int_equal(client->uploads_asked, 1);
		assert_true(rig.spools.bytes > 0);
		rig_client_end(client);
		assert_int_equal(rig.spools.bytes, 0);
	}
}

/* The first sleeps, and is lost with most of it unread: the client was read on all the same. */
static void an_executor_lost_in_the_middle_costs_nothing(void **state)
{
	struct rig_client *client = client_with(9u << 20);
	struct rig_pull pull = { .lazy = true };

	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_wait(&rig, client->uploaded_bytes == client->upload_bytes && client->calls_open == 0);
	assert_true(pull.received < client->upload_bytes);
	lose(client, &rig.daemons[0]);
	rig_until(&rig, &pull.closed);
	assert_int_equal(pull.status, GRPC_UNAVAILABLE);
	rig_pull_fini(&pull);
	assert_true(session_can_repeat(client->session));
	rig_carry(client, rig_daemon_start(&rig));
	pull_all(client, &rig.daemons[1]);
	assert_int_equal(client->uploads_asked, 1);
	rig_client_end(client);
}

/* The client has said a part when its executor is lost, and says the rest while there is none, and to the next. */
static void the_client_goes_on_while_there_is_no_executor(void **state)
{
	struct rig_client *client = client_with(5u << 20);
	struct rig_pull pull = { 0 };

	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_wait(&rig, pull.received > 0);
	client->upload_pauses = true;
	lose(client, &rig.daemons[0]);
	rig_pull_fini(&pull);
	assert_int_equal(client->uploads_cancelled, 0);
	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pull, &rig.daemons[1], STDIN_PATH);
	rig_upload_go_on(client);
	rig_until(&rig, &pull.closed);
	assert_int_equal(pull.status, GRPC_OK);
	assert_int_equal(pull.received, client->upload_bytes);
	rig_pull_fini(&pull);
	assert_int_equal(client->uploads_asked, 1);
	rig_client_end(client);
}

/* Longer than a spool: nothing is lost, the client waits for its reader, and there is no second time. */
static void what_is_too_long_goes_through(void **state)
{
	const uint64_t slack = NEST_STREAM_WINDOW_BYTES + (1u << 20);    /* its window, and what lies in queues on the way */
	struct rig_client *client = client_with(48u << 20);
	struct rig_pull pull = { .lazy = true };
	uint64_t before = 0;

	rig.spools.spool_bytes_max = 17u << 20;
	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_wait(&rig, !session_can_repeat(client->session));
	for (uint64_t since = 0, still = 0; still < 20; still = before == client->uploaded_bytes ? still + 1 : 0) {
		before = client->uploaded_bytes;
		rig_turn(&rig, &since);
	}
	assert_true(client->uploaded_bytes < rig.spools.spool_bytes_max + slack);
	rig_pull_go_on(&pull);
	rig_until(&rig, &pull.closed);
	assert_int_equal(pull.status, GRPC_OK);
	assert_int_equal(pull.received, client->upload_bytes);
	rig_pull_fini(&pull);
	assert_false(session_can_repeat(client->session));
	/* Asked for again, the client says that it came already. */
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_until(&rig, &pull.closed);
	assert_int_equal(pull.status, GRPC_UNKNOWN);
	assert_string_equal(pull.message, "no http response from session for it");
	rig_pull_fini(&pull);
	rig_client_end(client);
}

/* The executor goes while the rest passes: the client is not left waiting for a reader. */
static void what_passes_ends_with_its_executor(void **state)
{
	struct rig_client *client = client_with(32u << 20);
	struct rig_pull pull = { .lazy = true };

	rig.spools.spool_bytes_max = 1u << 20;
	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_wait(&rig, !session_can_repeat(client->session));
	lose(client, &rig.daemons[0]);
	rig_pull_fini(&pull);
	rig_wait(&rig, client->uploads_cancelled == 1 && client->calls_open == 0);
	assert_false(session_can_repeat(client->session));
	rig_client_end(client);
}

/* No room in all: it is carried like any other call. */
static void without_room_it_is_carried(void **state)
{
	struct rig_client *client = client_with(6u << 20);

	rig.spools.bytes_max = 0;
	rig_carry(client, rig_daemon_start(&rig));
	pull_all(client, &rig.daemons[0]);
	assert_false(session_can_repeat(client->session));
	rig_client_end(client);
}

static bool is_kept(uint64_t bytes)
{
	struct rig_client *client = client_with(bytes);
	struct rig_daemon *daemon = rig_daemon_start(&rig);

	rig_carry(client, daemon);
	pull_all(client, daemon);
	return session_can_repeat(client->session);
}

/* What one tenant's clients have said stays until their sessions end, which may be never: half of the room is others'. */
static void a_tenant_leaves_room_to_others(void **state)
{
	rig.spools.bytes_max = 40u << 20;        /* of 16 MiB each, as these grow */
	assert_true(is_kept(6u << 20));
	assert_false(is_kept(6u << 20));
	rig.other = true;
	assert_true(is_kept(6u << 20));
}

static void who_gives_it_up_gives_it_up_for_the_client(void **state)
{
	struct rig_client *client = client_with(9u << 20);
	struct rig_pull pull = { 0 };

	client->upload_pauses = true;
	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_wait(&rig, client->calls_open == 1);
	call_cancel(&pull.call);
	rig_wait(&rig, pull.closed && client->uploads_cancelled == 1);
	assert_false(session_can_repeat(client->session));
	rig_pull_fini(&pull);
	rig_client_end(client);
}

/* Two builds of one session ask for the same, one of them late. */
static void two_readers_get_the_same(void **state)
{
	struct rig_client *client = client_with(3u << 20);
	struct rig_pull pulls[2] = { { .lazy = true } };

	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pulls[0], &rig.daemons[0], STDIN_PATH);
	rig_wait(&rig, pulls[0].received > 0);
	rig_pull_start(&pulls[1], &rig.daemons[0], STDIN_PATH);
	rig_until(&rig, &pulls[1].closed);
	rig_pull_go_on(&pulls[0]);
	rig_until(&rig, &pulls[0].closed);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pulls[i].status, GRPC_OK);
		assert_int_equal(pulls[i].received, client->upload_bytes);
		rig_pull_fini(&pulls[i]);
	}
	assert_int_equal(client->uploads_asked, 1);
	rig_client_end(client);
}

static void a_refusal_arrives_as_it_is(void **state)
{
	struct rig_client *client = client_with(0);
	struct rig_pull pull = { 0 };

	rig_carry(client, rig_daemon_start(&rig));
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_until(&rig, &pull.closed);
	assert_int_equal(pull.status, GRPC_UNKNOWN);
	assert_string_equal(pull.message, "no http response from session for it");
	rig_pull_fini(&pull);
	assert_true(session_can_repeat(client->session));
	rig_client_end(client);
}

static void a_client_that_goes_takes_it_along(void **state)
{
	struct rig_client *client = client_with(9u << 20);
	struct rig_pull pull = { 0 };

	rig_carry(client, rig_daemon_start(&rig));
	client->upload_pauses = true;
	rig_pull_start(&pull, &rig.daemons[0], STDIN_PATH);
	rig_wait(&rig, client->calls_open == 1);
	rig_client_vanish(client);
	rig_until(&rig, &pull.closed);
	assert_int_not_equal(pull.status, GRPC_OK);
	rig_pull_fini(&pull);
}

static int setup(void **state)
{
	rig_init(&rig);
	rig_tree_make(&tree, 1, 1);
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
		TEST(another_executor_gets_the_same),
		TEST(an_executor_lost_in_the_middle_costs_nothing),
		TEST(the_client_goes_on_while_there_is_no_executor),
		TEST(what_is_too_long_goes_through),
		TEST(what_passes_ends_with_its_executor),
		TEST(without_room_it_is_carried),
		TEST(a_tenant_leaves_room_to_others),
		TEST(who_gives_it_up_gives_it_up_for_the_client),
		TEST(two_readers_get_the_same),
		TEST(a_refusal_arrives_as_it_is),
		TEST(a_client_that_goes_takes_it_along),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
