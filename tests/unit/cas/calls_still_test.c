/*
 * Shows that callers who stand still are left, whatever they were to send or to take, but not those who wait for the gateway.
 * calls_leave_test.c has those who go away, calls_test.c the bounds of requests.
 */
#include "calls_rig.h"

#include "gateway/cas/open_call.h"
#include "proto/pb.h"

/* ---- time, as the sweep sees it ---- */

/* The gateway's own timer may have seen what has moved since the last time, and then a little before now: the same, here. */
static void look_until(struct gateway_parts *parts, uint64_t now)
{
	static uint64_t last_ns;

	list_for_each(link, &parts->cas.watched) {
		struct open_call *open = container_of(link, struct open_call, watched);

		if (open->moved_ns >= last_ns && open->moved_ns < now)
			open->moved_ns = now;
	}
	last_ns = now;
	open_calls_sweep(&parts->cas, now);
}

/* What has moved until now is seen by the first look. */
static void time_passes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	look_until(parts, now);
	open_calls_sweep(&parts->cas, now + *(const uint64_t *)context - 1);
}

/* And then one nanosecond more. */
static void time_is_up(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	look_until(parts, now);
	open_calls_sweep(&parts->cas, now + *(const uint64_t *)context);
}

static uint64_t push_idle = CAS_PUSH_IDLE_NS, fetch_idle = CAS_FETCH_IDLE_NS, fetch_silent = CAS_FETCH_SILENT_NS,
                pin_idle = CAS_PIN_IDLE_NS;
/* For a call in which nothing ever came: its time began a little before the first look. */
static uint64_t fetch_silent_almost = CAS_FETCH_SILENT_NS - 60000000000u, pin_idle_almost = CAS_PIN_IDLE_NS - 60000000000u;

static void get_counters(struct gateway_parts *parts, void *context)
{
	*(struct cas_counters *)context = parts->cas.counters;
}

static void expect_present(struct client_call *call, const struct small_tree *tree)
{
	struct buffer request = request_list(2, tree->digests, 4, false);
	struct push_response response;

	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < 4; i++)
		assert_true(answered_bit(&response, i));
}

static bool is_looked_at(struct gateway_parts *parts, void *context)
{
	return op_in_flight(&parts->cas.sweep);
}

static void expect_reset(struct client_call *call)
{
	const char *text;

	assert_int_equal(client_call_status(call, &text), GRPC_CANCELLED);
	client_call_close(call);
}

static void expect_expired(struct client_call *call, const char *says)
{
	struct span message;
	const char *text;

	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_DEADLINE_EXCEEDED);
	assert_non_null(strstr(text, says));
	client_call_close(call);
}

/* As a client that was stopped: it neither sends nor reads, and its hold is gone all the same. */
static void a_push_in_which_nothing_comes_ends(void **state)
{
	struct client_call *call = push_open(client), *other;
	struct push_response response;
	struct cas_counters counters;
	struct small_tree tree;
	struct buffer request;

	small_tree_make(&tree, "silent a", "silent b");
	request = request_pack(tree.digests, tree.blobs, 4);
	assert_true(ask(call, &request, &response));
	gateway_thread_call(gateway, time_passes, &push_idle);
	expect_present(call, &tree);             /* it goes on, and that counts from now */
	gateway_thread_call(gateway, time_passes, &push_idle);
	expect_present(call, &tree);
	gateway_thread_until(gateway, is_looked_at, NULL);
	other = push_open(client);               /* nothing ever came of this one */
	expect_present(call, &tree);
	gateway_thread_call(gateway, time_is_up, &push_idle);
	gateway_thread_until(gateway, calls_are_idle, NULL);
	gateway_thread_call(gateway, get_counters, &counters);
	assert_int_equal(counters.pushes_expired, 2);
	expect_expired(call, "nothing came for too long");
	expect_expired(other, "nothing came for too long");
	small_tree_free(&tree);
}

static void packs_are_taken(struct gateway_parts *parts, void *context)
{
	parts->cas.packs.busy += parts->cas.packs.max;
}

static void packs_go_on(struct gateway_parts *parts, void *context)
{
	for (unsigned left = parts->cas.packs.max; left > 0; left--)
		gate_leave(&parts->cas.packs);
}

static bool a_pack_waits(struct gateway_parts *parts, void *context)
{
	return !list_empty(&parts->cas.packs.waiting);
}

/* However long the gateway takes, that is not the client's silence; nor is what comes after it any shorter. */
static void a_push_that_waits_for_the_gateway_does_not_end(void **state)
{
	struct client_call *call = push_open(client);
	struct push_response response;
	struct small_tree tree;
	struct buffer request;
	struct span message;

	small_tree_make(&tree, "slow a", "slow b");
	request = request_pack(tree.digests, tree.blobs, 4);
	gateway_thread_call(gateway, packs_are_taken, NULL);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	buffer_fini(&request);
	while (client_wait(client, NULL, 0, NULL, 1000000) == CLIENT_OK)
		;
	gateway_thread_until(gateway, a_pack_waits, NULL);
	for (int i = 0; i < 3; i++)
		gateway_thread_call(gateway, time_is_up, &push_idle);
	gateway_thread_call(gateway, packs_go_on, NULL);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	assert_true(message_decode(&push_response_type, message, &response));
	assert_non_null(response.stored.data);
	expect_present(call, &tree);
	client_call_close(call);
	small_tree_free(&tree);
}

#define TAKEN_BLOBS 8
#define TAKEN_BYTES (1u << 20)

/* Pushes blobs that zstd halves; a request for all of them. */
static struct buffer request_much(size_t count)
{
	static uint8_t bytes[TAKEN_BYTES];
	struct buffer list = buffer_heap(4096), request = buffer_heap(4096);
	struct client_call *call = push_open(client);
	struct push_response response;
	uint32_t seed = 1;

	for (size_t i = 0; i < count; i++) {
		struct span blob = span_make(bytes, TAKEN_BYTES);
		struct digest digest;
		struct buffer pack;

		for (size_t at = 0; at < TAKEN_BYTES; at++)
			bytes[at] = (uint8_t)('a' + ((seed = seed * 1664525u + 1013904223u) >> 28));
		digest = digest_of(blob);
		digest_list_put(&list, &digest);
		pack = request_pack(&digest, &blob, 1);
		assert_true(ask(call, &pack, &response));
	}
	client_call_close(call);
	pb_put_bytes(&request, 1, buffer_span(&list));
	buffer_fini(&list);
	return request;
}

static struct client_call *fetch_open(const char *path, const struct buffer *request)
{
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, path, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(request), 0), CLIENT_OK);
	return call;
}

static struct client_call *fetch_much(void)
{
	struct buffer request = request_much(TAKEN_BLOBS);
	struct client_call *call = fetch_open(SLUICE_FETCH, &request);

	buffer_fini(&request);
	return call;
}

static bool is_sending(struct gateway_parts *parts, void *context)
{
	struct open_call *open = container_of(parts->cas.calls.prev, struct open_call, link);

	return parts->cas.fetches_open == 1 && call_untaken(open->call) > 0;
}

static bool has_no_push(struct gateway_parts *parts, void *context)
{
	return parts->cas.pushes_open == 0;
}

static bool has_no_fetch(struct gateway_parts *parts, void *context)
{
	return parts->cas.fetches_open == 0;
}

static size_t take(struct client_call *call, size_t bytes)
{
	size_t taken = 0;
	struct span message;

	while (taken < bytes && client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		taken += message.size;
	return taken;
}

static void a_fetch_of_which_nothing_is_taken_ends(void **state)
{
	struct client_call *call = fetch_much();
	struct cas_counters counters;

	client_run_until(client, gateway, is_sending, NULL);
	gateway_thread_call(gateway, time_passes, &fetch_idle);
	assert_true(take(call, 2 * TAKEN_BYTES) >= 2 * TAKEN_BYTES);     /* slow, but it goes on */
	client_run_until(client, gateway, is_sending, NULL);
	gateway_thread_call(gateway, time_passes, &fetch_idle);
	assert_false(take(call, TAKEN_BYTES) < TAKEN_BYTES);
	client_run_until(client, gateway, is_sending, NULL);
	gateway_thread_call(gateway, time_is_up, &fetch_idle);
	client_run_until(client, gateway, has_no_fetch, NULL);
	assert_true(take(call, TAKEN_BLOBS * TAKEN_BYTES) < 5 * TAKEN_BYTES);
	expect_reset(call);
	gateway_thread_call(gateway, get_counters, &counters);
	assert_int_equal(counters.fetches_expired, 1);
}

/* As if it came from another machine, where zstd pays. */
static int far_fetch_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct conn_peer *peer = (struct conn_peer *)(uintptr_t)conn_peer(request->conn), near = *peer;
	int r;

	peer->local = peer->loopback = false;
	r = cas_fetch_start(&((struct gateway_parts *)context)->cas, request, why, why_size);
	*peer = near;
	return r;
}

#define FAR_FETCH "/test/Fetch"

static int setup_far(void **state)
{
	static const struct server_method more[] = { { FAR_FETCH, far_fetch_start }, { NULL, NULL } };

	gateway = gateway_thread_start(&(struct gateway_thread_options){ .tokens = ACME, .more = more });
	client = gateway_thread_client(gateway, "token-a");
	return 0;
}

/* An answer waits in the call, and the next one, with the blobs that it was made of, for that to go. */
static bool waits_for_the_call(struct gateway_parts *parts, void *context)
{
	return parts->cas.fetches_open == 1 && container_of(parts->cas.calls.prev, struct open_call, link)->call->full_told;
}

/* What is compressed is not lent, but kept in messages of 4 MiB. */
static void a_fetch_of_messages_that_are_not_taken_ends(void **state)
{
	struct buffer request = request_much(3 * TAKEN_BLOBS);
	struct client_call *call = fetch_open(FAR_FETCH, &request);
	struct cas_counters counters;
	uint64_t received, sent;
	size_t taken;

	client_run_until(client, gateway, waits_for_the_call, NULL);
	gateway_thread_call(gateway, time_passes, &fetch_idle);
	taken = take(call, TAKEN_BYTES);         /* slow, but it goes on */
	assert_true(taken > 3 * TAKEN_BYTES);
	client_run_until(client, gateway, waits_for_the_call, NULL);
	gateway_thread_call(gateway, time_passes, &fetch_idle);
	taken += take(call, TAKEN_BYTES);
	client_run_until(client, gateway, waits_for_the_call, NULL);
	gateway_thread_call(gateway, time_is_up, &fetch_idle);
	client_run_until(client, gateway, has_no_fetch, NULL);                 /* nor its memory */
	taken += take(call, 3 * TAKEN_BLOBS * TAKEN_BYTES);
	assert_true(taken < 3 * TAKEN_BLOBS * TAKEN_BYTES);
	client_call_bytes(call, &received, &sent);
	assert_true(received < taken * 3 / 4);
	expect_reset(call);
	gateway_thread_call(gateway, get_counters, &counters);
	assert_int_equal(counters.fetches_expired, 1);
	buffer_fini(&request);
}

#define STREAM_WINDOW_BYTES (4u << 20)   /* the client's */
#define WINDOW_FETCHES      4            /* that fill its connection's */

static void window_on_message(struct call *call, struct span message)
{
}

static void window_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	call_fini(call);
}

/* Until nothing more comes to the client, whichever call it is of: a new one, of whose window all is there to be filled. */
static void shut_the_window(void)
{
	static const struct call_events events = { .on_message = window_on_message, .on_closed = window_on_closed };
	static struct call fetches[WINDOW_FETCHES];
	struct buffer request = request_much(TAKEN_BLOBS);
	uint64_t received = 0;

	client_close(client);
	client = gateway_thread_client(gateway, NULL);
	for (int i = 0; i < WINDOW_FETCHES; i++) {
		fetches[i] = (struct call){ 0 };
		assert_int_equal(client_call_start(client, &fetches[i], SLUICE_FETCH, SLUICE_MESSAGE_BYTES_MAX, &events, NULL), 0);
		call_shut(&fetches[i]);
		call_send(&fetches[i], buffer_span(&request), 0);
	}
	for (int tries = 0; received < WINDOW_FETCHES * STREAM_WINDOW_BYTES; tries++) {
		assert_true(tries < 20000);
		ring_run(client_ring(client), 1000000);
		received = 0;
		for (int i = 0; i < WINDOW_FETCHES; i++)
			received += fetches[i].bytes_received;
	}
	buffer_fini(&request);
}

/* Both have their first answer before them, and the second one was refused behind that. */
static bool two_pushes_answered(struct gateway_parts *parts, void *context)
{
	const struct list *last = parts->cas.calls.prev;

	return parts->cas.pushes_open == 2 && call_untaken(container_of(last->prev, struct open_call, link)->call) &&
	       container_of(last, struct open_call, link)->call->finishing;
}

static void send_request(struct client_call *call, struct buffer request)
{
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	buffer_fini(&request);
}

/* No status would get to its client; and of a push that was refused, so that it has one already, nobody need hear again. */
static void a_push_whose_answers_are_not_taken_is_reset(void **state)
{
	struct digest digest = digest_of(span_text("x")), two[2] = { digest, digest };
	struct client_call *pushes[2];
	struct cas_counters counters;
	struct span message;

	shut_the_window();
	for (int i = 0; i < 2; i++)
		send_request(pushes[i] = push_open(client), request_list(2, &digest, 1, false));
	send_request(pushes[1], request_list(4, two, 2, false));
	client_run_until(client, gateway, two_pushes_answered, NULL);
	gateway_thread_call(gateway, time_is_up, &push_idle);
	client_run_until(client, gateway, has_no_push, NULL);
	gateway_thread_call(gateway, get_counters, &counters);
	assert_int_equal(counters.pushes_expired, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(client_receive(pushes[i], &message, UINT64_MAX), CLIENT_END);
		expect_reset(pushes[i]);
	}
}

/* Who asks may have much to do with what he got, and before he asks; but not for ever. */
static void a_fetch_that_is_asked_nothing_stays_for_a_while(void **state)
{
	struct client_call *call = fetch_much(), *other;
	struct digest nowhere = { .size = 100 };
	struct buffer request = request_pin(&nowhere);
	struct cas_counters counters;

	assert_true(take(call, TAKEN_BLOBS * TAKEN_BYTES) > TAKEN_BLOBS * TAKEN_BYTES);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
		assert_true(take(call, 1) > 0);
		gateway_thread_call(gateway, time_passes, &fetch_silent);
	}
	assert_int_equal(client_call_open(&other, client, SLUICE_FETCH, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	assert_true(take(call, 1) > 0);
	gateway_thread_call(gateway, time_passes, &fetch_silent_almost);
	assert_int_equal(client_send(other, buffer_span(&request), 0), CLIENT_OK);
	assert_true(take(other, 1) > 0);
	client_call_close(other);
	gateway_thread_call(gateway, get_counters, &counters);
	assert_int_equal(counters.fetches_expired, 0);
	assert_int_equal(client_call_open(&other, client, SLUICE_FETCH, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	assert_true(take(call, 1) > 0);
	gateway_thread_call(gateway, time_is_up, &fetch_silent);
	gateway_thread_until(gateway, calls_are_idle, NULL);
	expect_expired(call, "nothing was asked for too long");
	expect_expired(other, "nothing was asked for too long");
	gateway_thread_call(gateway, get_counters, &counters);
	assert_int_equal(counters.fetches_expired, 2);
	buffer_fini(&request);
}

static bool has_a_pin(struct gateway_parts *parts, void *context)
{
	return parts->cas.pins_open == 1;
}

static void a_pin_whose_request_does_not_come_ends(void **state)
{
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, SLUICE_PIN, NULL, 0), 0);
	client_run_until(client, gateway, has_a_pin, NULL);
	gateway_thread_call(gateway, time_passes, &pin_idle_almost);
	gateway_thread_until(gateway, has_a_pin, NULL);
	gateway_thread_call(gateway, time_is_up, &pin_idle);
	gateway_thread_until(gateway, calls_are_idle, NULL);
	expect_expired(call, "the request did not come");
}

/* Two that move only as the test has them, a link's and another. */
struct pair_watched {
	struct open_call plain, linked;
	struct call call;
	uint64_t link_timeout_ns;
	unsigned plain_expired, linked_expired;
	unsigned expired[5];             /* of both, after each step */
};

static uint64_t pair_patience_ns(const struct open_call *open)
{
	return 1000;
}

static void plain_on_expired(struct open_call *open)
{
	container_of(open, struct pair_watched, plain)->plain_expired++;
}

static void linked_on_expired(struct open_call *open)
{
	container_of(open, struct pair_watched, linked)->linked_expired++;
}

static void watch_both(struct gateway_parts *parts, void *context)
{
	static const struct open_call_events plain = { .patience_ns = pair_patience_ns, .on_expired = plain_on_expired },
	                                     linked = { .patience_ns = pair_patience_ns, .on_expired = linked_on_expired };
	struct pair_watched *pair = context;
	struct cas *cas = &parts->cas;
	uint64_t began, more = pair->link_timeout_ns ? pair->link_timeout_ns : 60000000000u;

	cas->link_timeout_ns = pair->link_timeout_ns;
	list_append(&cas->calls, &pair->plain.link);
	list_append(&cas->calls, &pair->linked.link);
	open_call_watch(&pair->plain, cas, &pair->call, &(struct conn_peer){ 0 }, &plain);
	open_call_watch(&pair->linked, cas, &pair->call, &(struct conn_peer){ .linked = true }, &linked);
	began = pair->linked.moved_ns = pair->plain.moved_ns;
	open_calls_sweep(cas, began + 999);
	pair->expired[0] = pair->plain_expired + pair->linked_expired;
	pair->call.bytes_received++;             /* a little of a pack that comes slowly */
	open_calls_sweep(cas, began += 1000);
	pair->expired[1] = pair->plain_expired + pair->linked_expired;
	open_calls_sweep(cas, began + 1000);
	pair->expired[2] = pair->plain_expired;
	open_calls_sweep(cas, began + more + 999);
	pair->expired[3] = pair->linked_expired;
	open_calls_sweep(cas, began + more + 1000);
	pair->expired[4] = pair->linked_expired;
	open_call_unwatch(&pair->plain);
	open_call_unwatch(&pair->linked);
	open_call_end(&pair->plain);
	open_call_end(&pair->linked);
}

/* By its timeout: a minute when nothing is said. */
static void a_link_may_be_away_for_longer(void **state)
{
	for (uint64_t timeout = 0; timeout <= 3600000000000u; timeout += 3600000000000u) {
		struct pair_watched pair = { .link_timeout_ns = timeout };

		gateway_thread_call(gateway, watch_both, &pair);
		assert_int_equal(pair.expired[0], 0);
		assert_int_equal(pair.expired[1], 0);
		assert_int_equal(pair.expired[2], 1);
		assert_int_equal(pair.expired[3], 0);
		assert_int_equal(pair.expired[4], 1);
	}
	gateway_thread_until(gateway, calls_are_idle, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_push_in_which_nothing_comes_ends, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_push_that_waits_for_the_gateway_does_not_end, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_fetch_of_which_nothing_is_taken_ends, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_fetch_of_messages_that_are_not_taken_ends, setup_far, calls_teardown),
		cmocka_unit_test_setup_teardown(a_push_whose_answers_are_not_taken_is_reset, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_fetch_that_is_asked_nothing_stays_for_a_while, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_pin_whose_request_does_not_come_ends, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_link_may_be_away_for_longer, calls_setup, calls_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
