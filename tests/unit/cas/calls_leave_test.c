/*
 * Shows that callers who go away at any moment of any request, with an index that answers late so that something is always in flight,
 * leave nothing behind, and lose nothing that was sent. calls_still_test.c has those who stay and do nothing.
 */
#include "calls_rig.h"

#include <stdio.h>

static void nothing(struct gateway_parts *parts, void *context)
{
}

/* Sends and goes away: at once, or with `wait` when the gateway has begun, which a late index takes a while to end. */
static void ask_and_leave(const char *path, struct buffer request, bool wait)
{
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, path, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	buffer_fini(&request);
	if (wait) {
		client_wait(client, NULL, 0, NULL, 200000);
		gateway_thread_call(gateway, nothing, NULL);
	}
	client_call_close(call);
}

static void callers_may_leave_at_any_moment(void **state)
{
	struct small_tree tree;

	small_tree_make(&tree, "leave a", "leave b");
	commit_whole(client, &tree);
	for (int i = 0; i < 60; i++) {
		bool wait = i % 2;

		switch (i / 2 % 6) {
		case 0:
			ask_and_leave(SLUICE_PUSH, request_list(1, &tree.digests[3], 1, true), wait);
			break;
		case 1:
			ask_and_leave(SLUICE_PUSH, request_list(2, tree.digests, 4, false), wait);
			break;
		case 2:
			ask_and_leave(SLUICE_PUSH, request_pack(tree.digests, tree.blobs, 4), wait);
			break;
		case 3:
			ask_and_leave(SLUICE_PUSH, request_list(4, &tree.digests[3], 1, false), wait);
			break;
		case 4:
			ask_and_leave(SLUICE_PIN, request_pin(&tree.digests[3]), wait);
			break;
		case 5:
			ask_and_leave(SLUICE_FETCH, request_pin(&tree.digests[3]), wait);
			break;
		}
	}
	gateway_thread_until(gateway, calls_are_idle, NULL);
	commit_whole(client, &tree);             /* and it still serves */
	small_tree_free(&tree);
}

/* A caller that ends its side without a commit: what it sent is kept and nothing is said to be whole. */
static void a_call_that_ends_halfway_loses_nothing(void **state)
{
	struct client_call *call = push_open(client);
	struct push_response response;
	struct small_tree tree;
	struct buffer request;
	struct span message;
	const char *text;

	small_tree_make(&tree, "half a", "half b");
	request = request_pack(tree.digests, tree.blobs, 4);
	assert_true(ask(call, &request, &response));
	client_send_end(call);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_OK);
	client_call_close(call);
	gateway_thread_until(gateway, calls_are_idle, NULL);
	call = push_open(client);
	request = request_list(2, tree.digests, 4, false);
	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < 4; i++)
		assert_true(answered_bit(&response, i));
	client_call_close(call);
	small_tree_free(&tree);
}

/* The connection goes, not the call; and the gateway stops at once afterwards. */
static void a_connection_may_break_under_everything(void **state)
{
	struct client *other = gateway_thread_client(gateway, NULL);
	struct client_call *calls[40];
	struct small_tree tree;

	small_tree_make(&tree, "break a", "break b");
	for (int i = 0; i < 40; i++) {
		struct buffer request = i % 2 ? request_pack(tree.digests, tree.blobs, 4) : request_list(4, &tree.digests[3], 1, false);

		assert_int_equal(client_call_open(&calls[i], other, SLUICE_PUSH, NULL, 0), 0);
		assert_int_equal(client_send(calls[i], buffer_span(&request), 0), CLIENT_OK);
		buffer_fini(&request);
	}
	client_wait(other, NULL, 0, NULL, 2000000);
	client_close(other);
	small_tree_free(&tree);
}

static void only_one_at_a_time(struct gateway_parts *parts, void *context)
{
	parts->cas.packs.max = parts->cas.closures.max = 1;
}

static void packs_wait_for_their_turn(void **state)
{
	enum { CALLS = 12 };
	struct client_call *calls[CALLS];
	struct small_tree trees[CALLS];
	char a[CALLS][16], b[CALLS][16];

	gateway_thread_call(gateway, only_one_at_a_time, NULL);
	for (int i = 0; i < CALLS; i++) {
		struct buffer pack, commit;

		snprintf(a[i], sizeof(a[i]), "turn a %d", i);
		snprintf(b[i], sizeof(b[i]), "turn b %d", i);
		small_tree_make(&trees[i], a[i], b[i]);
		pack = request_pack(trees[i].digests, trees[i].blobs, 4);
		commit = request_list(4, &trees[i].digests[3], 1, false);
		calls[i] = push_open(client);
		assert_int_equal(client_send(calls[i], buffer_span(&pack), 0), CLIENT_OK);
		assert_int_equal(client_send(calls[i], buffer_span(&commit), 0), CLIENT_OK);
		buffer_fini(&pack);
		buffer_fini(&commit);
	}
	for (int i = 0; i < CALLS; i += 2)       /* every second one gives up where it stands */
		client_call_close(calls[i]);
	for (int i = 1; i < CALLS; i += 2) {
		struct push_response response;
		struct span message;

		for (int answer = 0; answer < 2; answer++) {
			assert_int_equal(client_receive(calls[i], &message, UINT64_MAX), CLIENT_OK);
			assert_true(message_decode(&push_response_type, message, &response));
			assert_non_null(answer ? response.committed.data : response.stored.data);
		}
		client_call_close(calls[i]);
	}
	for (int i = 0; i < CALLS; i++)
		small_tree_free(&trees[i]);
	gateway_thread_until(gateway, calls_are_idle, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(callers_may_leave_at_any_moment, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_call_that_ends_halfway_loses_nothing, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_connection_may_break_under_everything, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(packs_wait_for_their_turn, calls_setup, calls_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
