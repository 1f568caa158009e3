/*
 * Shows what becomes of a daemon's calls when there are many of them in one session: that a client which takes none of what they
 * bring does not stop the answers to health checks, and that no more can be opened than the client takes.
 */
#include "tests/unit/session/session_rig.h"

#define FILE_SEND_PATH "/moby.filesync.v1.FileSend/DiffCopy"
#define CALLS_MAX      300
#define QUIET_TURNS    50                /* in which nothing moves any more */

struct daemon_call {
	struct call call;
	bool closed;
	enum grpc_status status;
	unsigned messages;               /* that it was sent */
};

static struct rig rig;
static struct rig_tree tree;
static struct daemon_call calls[CALLS_MAX];

static void daemon_on_message(struct call *call, struct span message)
{
	((struct daemon_call *)call->owner)->messages++;
}

static void daemon_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct daemon_call *of = call->owner;

	of->closed = true;
	of->status = status;
	call_fini(call);
}

static const struct call_events daemon_events = { .on_message = daemon_on_message, .on_closed = daemon_on_closed };

static int daemon_call(struct daemon_call *call, struct rig_daemon *daemon, const char *path)
{
	*call = (struct daemon_call){ 0 };
	return call_start(&call->call, daemon->nest.h2, path, span_text("localhost"), 0, NULL, 0, 1 << 20, &daemon_events, call);
}

static struct rig_client *begin(void)
{
	struct rig_client *client;
	uint64_t since = 0;

	rig_tree_make(&tree, 1, 1);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig_daemon_start(&rig));
	for (int i = 0; i < QUIET_TURNS; i++)
		rig_turn(&rig, &since);          /* it has heard what may be opened */
	return client;
}

/* As a build for twelve platforms whose results go to one slow disk. */
static void health_is_answered_whatever_waits(void **state)
{
	static const uint8_t piece[65536];
	struct rig_client *client = begin();
	uint64_t since = 0;
	struct daemon_call check;

	client->full = true;
	for (int i = 0; i < 12; i++)
		assert_int_equal(daemon_call(&calls[i], &rig.daemons[0], FILE_SEND_PATH), 0);
	for (int quiet = 0; quiet < QUIET_TURNS; quiet++) {
		for (int i = 0; i < 12; i++)
			while (call_send(&calls[i].call, span_make(piece, sizeof(piece)), 0) == CALL_SENT)
				quiet = 0;
		rig_turn(&rig, &since);
	}
	assert_int_equal(daemon_call(&check, &rig.daemons[0], HEALTH_CHECK_PATH), 0);
	call_send(&check.call, span_make(piece, 0), 0);
	call_end(&check.call);
	rig_until(&rig, &check.closed);
	assert_int_equal(check.status, GRPC_OK);
	assert_int_equal(check.messages, 1);
	for (int i = 0; i < 12; i++) {
		assert_false(calls[i].closed);
		call_cancel(&calls[i].call);
		rig_until(&rig, &calls[i].closed);
	}
	rig_client_end(client);
}

/* A client that takes as many as buildx: the daemon's own end waits with the others, so none is refused; ours find room. */
static void more_than_the_client_takes_wait(void **state)
{
	enum { BUILDX_STREAMS_MAX = 250 };
	struct rig_client *client = begin();
	struct daemon_call more;
	int opened = 0;

	client->full = true;
	client->streams_max = BUILDX_STREAMS_MAX;
	while (opened < CALLS_MAX && daemon_call(&calls[opened], &rig.daemons[0], "/test.Echo/Wait") == 0)
		opened++;
	rig_wait(&rig, h2_streams_count(client->nest.h2) >= (size_t)opened || calls[opened - 1].closed);
	for (int i = 0; i < opened; i++)
		assert_false(calls[i].closed);
	assert_true(opened < BUILDX_STREAMS_MAX);
	call_cancel(&calls[0].call);
	rig_until(&rig, &calls[0].closed);
	assert_int_equal(daemon_call(&more, &rig.daemons[0], "/test.Echo/Wait"), 0);
	call_cancel(&more.call);
	rig_until(&rig, &more.closed);
	for (int i = 1; i < opened; i++) {
		call_cancel(&calls[i].call);
		rig_until(&rig, &calls[i].closed);
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
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(health_is_answered_whatever_waits),
		TEST(more_than_the_client_takes_wait),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
