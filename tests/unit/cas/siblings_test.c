/*
 * Shows what pushes of one tenant that send the same at the same time cost: ten pushers of one tree (the real uploader, each
 * on a connection of its own) send it about once together, and so do ten with different roots over the same content; when
 * the one who had promised most is killed in its middle, or stalls, the others finish; another tenant, and another
 * instance, sends in full and is told nothing.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway_thread.h"
#include "proto/pb.h"
#include "requests.h"
#include "tests/unit/upload/shelf.h"

#define PUSHERS 10

/* SHA-256 of "token-a". */
static const char tokens[] = "a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme all\n";

static struct gateway_thread *gateway;

/* ---- pushers ---- */

struct pusher {
	const char *instance;
	struct client *client;           /* of its own thread */
	struct shelf shelf;
	pthread_t thread;
	pthread_barrier_t *start;
	bool done, closed;
	int outcome;
	char why[256];
	struct uploader_totals totals;
};

static void on_done(struct uploader *uploader, int outcome, enum grpc_status status, const char *why)
{
	struct pusher *pusher = uploader_owner(uploader);

	pusher->done = true;
	pusher->outcome = outcome;
	snprintf(pusher->why, sizeof(pusher->why), "%s", why);
}

static void on_closed(void *owner)
{
	((struct pusher *)owner)->closed = true;
}

static const struct uploader_events events = { .on_done = on_done, .on_closed = on_closed };

static int open_call(void *owner, struct call *call, const char *path, size_t message_bytes_max,
                     const struct call_events *call_events, void *call_owner)
{
	return client_call_start(((struct pusher *)owner)->client, call, path, message_bytes_max, call_events, call_owner);
}

static void pusher_push(struct pusher *pusher)
{
	struct uploader *uploader = NULL;
	struct uploader_config config = {
		.ring = client_ring(pusher->client), .source = &pusher->shelf.source, .events = &events, .owner = pusher,
		.open = open_call,
	};

	if (uploader_create(&uploader, &config) < 0)
		return;
	uploader_commit(uploader, &pusher->shelf.digests[pusher->shelf.root]);
	while (!pusher->done)
		client_run(pusher->client);
	pusher->totals = *uploader_totals(uploader);
	uploader_close(uploader);
	while (!pusher->closed)
		client_run(pusher->client);
}

static void *pusher_run(void *context)
{
	struct pusher *pusher = context;

	pusher->client = gateway_thread_client_of(gateway, NULL, pusher->instance);
	if (pusher->start)
		pthread_barrier_wait(pusher->start);
	pusher_push(pusher);
	client_close(pusher->client);
	return NULL;
}

static struct pusher *pusher_create(uint32_t seed, uint32_t mark)
{
	struct pusher *pusher = calloc(1, sizeof(*pusher));

	shelf_make_marked(&pusher->shelf, NULL, seed, mark);
	return pusher;
}

static void pusher_destroy(struct pusher *pusher)
{
	shelf_fini(&pusher->shelf);
	free(pusher);
}

static void expect_done(struct pusher *pusher)
{
	if (!pusher->done || pusher->outcome != UPLOADER_OK)
		fail_msg("a pusher: %d %s", pusher->outcome, pusher->why);
}

static void start(const char *with_tokens)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .tokens = with_tokens });
}

static int teardown(void **state)
{
	gateway_thread_stop(gateway, true);
	return 0;
}

/* ---- the gateway's side ---- */

static void read_bytes(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->cas.counters.bytes_received;
}

static uint64_t bytes_received(void)
{
	uint64_t bytes;

	gateway_thread_call(gateway, read_bytes, &bytes);
	return bytes;
}

static void have_patience(struct gateway_parts *parts, void *context)
{
	parts->cas.promises.stall_ns = *(const uint64_t *)context;
}

static bool nothing_promised(struct gateway_parts *parts, void *context)
{
	return parts->cas.promises.count == 0 && parts->cas.promises.awaited == 0 && cas_idle(&parts->cas);
}

static void run_together(struct pusher **pushers, size_t count)
{
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, (unsigned)count);
	for (size_t i = 0; i < count; i++) {
		pushers[i]->start = &barrier;
		assert_int_equal(pthread_create(&pushers[i]->thread, NULL, pusher_run, pushers[i]), 0);
	}
	for (size_t i = 0; i < count; i++)
		pthread_join(pushers[i]->thread, NULL);
	pthread_barrier_destroy(&barrier);
}

/* All ten bytes of them received, against those of one. */
static void ten_cost_as_much_as_one(bool same_root)
{
	struct pusher *pushers[PUSHERS];
	uint64_t bytes;

	start(NULL);
	for (uint32_t i = 0; i < PUSHERS; i++)
		pushers[i] = pusher_create(5, same_root ? 0 : i);
	run_together(pushers, PUSHERS);
	for (size_t i = 0; i < PUSHERS; i++)
		expect_done(pushers[i]);
	bytes = bytes_received();
	print_message("ten pushers: %llu of %llu bytes\n", (unsigned long long)bytes, (unsigned long long)pushers[0]->shelf.bytes);
	assert_true(bytes >= pushers[0]->shelf.bytes);
	assert_true(bytes < pushers[0]->shelf.bytes * 110 / 100);
	gateway_thread_until(gateway, nothing_promised, NULL);
	for (size_t i = 0; i < PUSHERS; i++)
		pusher_destroy(pushers[i]);
}

static void ten_pushers_of_one_tree_send_it_once(void **state)
{
	ten_cost_as_much_as_one(true);
}

/* Only a small file in the root differs, so nobody waits for anybody's root. */
static void ten_trees_with_the_same_content_cost_one(void **state)
{
	ten_cost_as_much_as_one(false);
}

/* ---- those who promise and do not keep it ---- */

/* Asks about everything, is told to send it, and does not: the first `sent` contents alone. */
static struct client_call *promise_all(struct client *client, const struct shelf *shelf, size_t sent)
{
	struct client_call *call = push_open(client);
	struct push_response response;
	struct buffer request = request_list(2, shelf->digests, shelf->count, false);

	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < shelf->count; i++)
		assert_false(answered_bit(&response, i));
	for (size_t i = 0; i < sent; i++) {
		struct span blob = buffer_span(&shelf->blobs[i]);

		request = request_pack(&shelf->digests[i], &blob, 1);
		assert_true(ask(call, &request, &response));
		assert_non_null(response.stored.data);
	}
	return call;
}

static bool someone_waits(struct gateway_parts *parts, void *context)
{
	return parts->cas.promises.awaited >= *(size_t *)context;
}

static void a_promiser_that_is_killed_holds_nobody(void **state)
{
	struct client *client;
	struct client_call *call;
	struct pusher *pushers[3];
	size_t awaited;

	start(NULL);
	client = gateway_thread_client(gateway, NULL);
	for (uint32_t i = 0; i < 3; i++)
		pushers[i] = pusher_create(6, i);
	call = promise_all(client, &pushers[0]->shelf, 20);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&pushers[i]->thread, NULL, pusher_run, pushers[i]), 0);
	/* All of them, and of almost all blobs. */
	awaited = 3 * (pushers[0]->shelf.count - 20 - SHELF_DIRECTORIES);
	gateway_thread_until(gateway, someone_waits, &awaited);
	client_call_close(call);
	for (size_t i = 0; i < 3; i++) {
		pthread_join(pushers[i]->thread, NULL);
		expect_done(pushers[i]);
	}
	/* Once more, and what the three have of their own; not three times. */
	assert_true(bytes_received() < pushers[0]->shelf.bytes * 115 / 100);
	gateway_thread_until(gateway, nothing_promised, NULL);
	for (size_t i = 0; i < 3; i++)
		pusher_destroy(pushers[i]);
	client_close(client);
}

static void a_promiser_that_stalls_holds_nobody_for_long(void **state)
{
	struct client *client;
	struct client_call *call;
	struct pusher *pusher;
	uint64_t patience_ns = 1000000000;       /* from the first of its questions on; in that time it has to ask them all */

	start(NULL);
	gateway_thread_call(gateway, have_patience, &patience_ns);
	client = gateway_thread_client(gateway, NULL);
	pusher = pusher_create(7, 0);
	call = promise_all(client, &pusher->shelf, 5);
	pusher_run(pusher);                      /* it would not return */
	expect_done(pusher);
	assert_int_equal(pusher->totals.blobs_promised, pusher->shelf.count - 5);
	assert_int_equal(pusher->totals.blobs_sent, pusher->shelf.count - 5);
	assert_int_equal(pusher->totals.commits, 2);
	client_call_close(call);
	pusher_destroy(pusher);
	client_close(client);
}

static bool one_waits_for_a_root(struct gateway_parts *parts, void *context)
{
	return parts->cas.counters.pushes_joined == 1;
}

/* The same root: who waits for it with its first question goes on by itself when the other is gone. */
static void a_root_that_is_given_up_is_taken_over(void **state)
{
	struct push_response response;
	struct client_call *call;
	struct client *client;
	struct pusher *pusher;
	struct buffer request;

	start(NULL);
	client = gateway_thread_client(gateway, NULL);
	pusher = pusher_create(8, 0);
	call = push_open(client);
	request = request_list(1, &pusher->shelf.digests[pusher->shelf.root], 1, true);
	assert_true(ask(call, &request, &response));
	assert_false(answered_bit(&response, 0));
	assert_int_equal(pthread_create(&pusher->thread, NULL, pusher_run, pusher), 0);
	gateway_thread_until(gateway, one_waits_for_a_root, NULL);
	assert_int_equal(bytes_received(), 0);
	client_call_close(call);
	pthread_join(pusher->thread, NULL);
	expect_done(pusher);
	assert_int_equal(pusher->totals.blobs_sent, pusher->shelf.count);
	pusher_destroy(pusher);
	client_close(client);
}

/* ---- others ---- */

static void others_are_told_nothing(void **state)
{
	struct client *client;
	struct client_call *call;
	struct push_response response;
	struct pusher *pushers[2];
	struct buffer request;

	start(tokens);
	client = gateway_thread_client(gateway, "token-a");
	for (size_t i = 0; i < 2; i++)
		pushers[i] = pusher_create(9, 0);
	pushers[1]->instance = "elsewhere";
	call = promise_all(client, &pushers[0]->shelf, 5);
	request = request_list(1, &pushers[0]->shelf.digests[pushers[0]->shelf.root], 1, true);
	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < 2; i++) {
		pusher_run(pushers[i]);          /* of tenant `default`, and with nobody to wait for */
		expect_done(pushers[i]);
		assert_int_equal(pushers[i]->totals.blobs_promised, 0);
		assert_int_equal(pushers[i]->totals.blobs_sent, pushers[i]->shelf.count);
		assert_int_equal(pushers[i]->totals.commits, 1);
		pusher_destroy(pushers[i]);
	}
	client_call_close(call);
	client_close(client);
}

/* ---- the wire ---- */

static void a_promise_is_told_as_one(void **state)
{
	struct client *clients[2];
	struct client_call *calls[2];
	struct push_response response;
	struct push_answer answer;
	struct small_tree tree;
	struct buffer request;
	uint64_t patience_ns = 50000000;

	start(NULL);
	gateway_thread_call(gateway, have_patience, &patience_ns);
	small_tree_make(&tree, "promised a", "promised b");
	for (size_t i = 0; i < 2; i++) {
		clients[i] = gateway_thread_client(gateway, NULL);
		calls[i] = push_open(clients[i]);
	}
	request = request_list(2, tree.digests, 2, false);
	assert_true(ask(calls[0], &request, &response));
	assert_false(answered_bit(&response, 0) || answered_bit(&response, 1));
	request = request_pack(tree.digests, tree.blobs, 1);
	assert_true(ask(calls[0], &request, &response));
	/* The first is there, the second is to come, the others are this one's own. */
	request = request_list(2, tree.digests, 4, false);
	assert_true(ask(calls[1], &request, &response));
	assert_true(message_decode(&push_answer_type, response.answer, &answer));
	assert_int_equal(answer.present.size, 1);
	assert_int_equal(answer.present.data[0], 3);
	assert_int_equal(answer.promised.size, 1);
	assert_int_equal(answer.promised.data[0], 2);
	/* The promiser asks for a commit without having sent it. It waits for the root, which the other does not send. */
	request = request_list(4, &tree.digests[3], 1, false);
	assert_true(ask(calls[0], &request, &response));
	assert_non_null(response.missing.data);
	/* The second blob was let go of with that, and is missing for the other. */
	request = request_pack(tree.digests + 2, tree.blobs + 2, 2);
	assert_true(ask(calls[1], &request, &response));
	request = request_list(4, &tree.digests[3], 1, false);
	assert_true(ask(calls[1], &request, &response));
	assert_non_null(response.missing.data);
	for (size_t i = 0; i < 2; i++) {
		client_call_close(calls[i]);
		client_close(clients[i]);
	}
	small_tree_free(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(ten_pushers_of_one_tree_send_it_once, teardown),
		cmocka_unit_test_teardown(ten_trees_with_the_same_content_cost_one, teardown),
		cmocka_unit_test_teardown(a_promiser_that_is_killed_holds_nobody, teardown),
		cmocka_unit_test_teardown(a_promiser_that_stalls_holds_nobody_for_long, teardown),
		cmocka_unit_test_teardown(a_root_that_is_given_up_is_taken_over, teardown),
		cmocka_unit_test_teardown(others_are_told_nothing, teardown),
		cmocka_unit_test_teardown(a_promise_is_told_as_one, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
