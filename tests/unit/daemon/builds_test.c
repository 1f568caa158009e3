/*
 * Shows Builds over a real connection to a small gateway: a tenant's lines with every member, newest first, filtered and
 * bounded; nobody else's, whatever is asked; the right to read is needed; malformed requests are refused; callers that go
 * away are waited out; a tenant has a few calls at a time, and those end that ask nothing, or do not take their answer. With an
 * engine that answers late, so that something is always in flight.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway/daemon/builds.h"
#include "proto/sluice_v1.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/ledger/fixture.h"
#include "tests/unit/ledger/ledger_slow.h"

#define HOUR 3600000000000u

/* SHA-256 of token-r, token-w and token-a. */
static const char tokens[] =
	"818c62b7e9a857d7a81a474c0b025f6b20d3f44bb9c4d7a704ddedfe9ed16652 acme read\n"
	"4a536c72c1a37be0f574587baf2b486d5edcd3168e25913f4806b4f4e870bdba acme write\n"
	"a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 other all\n";

static struct gateway_thread *gateway;
static struct questions questions;       /* of the gateway's thread */
static struct builds_service service;    /* likewise */
static bool ledger_closed;

static int start_builds(void *context, const struct server_request *request, char *why, size_t why_size)
{
	return builds_start(&service, request, why, why_size);
}

static void open_ledger(struct gateway_parts *parts, void *context)
{
	struct ledger_config config = { .ring = parts->ring, .directory = context, .engine = &ledger_slow };
	char why[512];

	questions_init(&questions, &parts->cas);
	service = (struct builds_service){ .questions = &questions };
	if (ledger_open(&service.ledger, &config, why, sizeof(why)))
		fail_msg("%s", why);
}

static void on_closed(void *context)
{
	ledger_closed = true;
}

static void close_ledger(struct gateway_parts *parts, void *context)
{
	ledger_close(service.ledger, on_closed, NULL);
}

static bool no_call_is_open(struct gateway_parts *parts, void *context)
{
	return questions.open == 0;
}

static bool is_closed(struct gateway_parts *parts, void *context)
{
	return ledger_closed;
}

static int setup(void **state)
{
	static const struct server_method more[] = { { SLUICE_BUILDS, start_builds }, { NULL, NULL } };

	gateway = gateway_thread_start(&(struct gateway_thread_options){ .tokens = tokens, .more = more });
	ledger_closed = false;
	gateway_thread_call(gateway, open_ledger, (void *)gateway_thread_path(gateway));
	return 0;
}

static int teardown(void **state)
{
	gateway_thread_until(gateway, no_call_is_open, NULL);
	gateway_thread_call(gateway, close_ledger, NULL);
	gateway_thread_until(gateway, is_closed, NULL);
	gateway_thread_stop(gateway, true);
	return 0;
}

/* Lines that nobody waits for: a list sees them all the same. */
static void free_append(struct ledger_append *append)
{
	assert_int_equal(append->result, LEDGER_OK);
	free(append);
}

struct lines {
	const char *tenant;
	uint32_t count;
};

static void append_lines(struct gateway_parts *parts, void *context)
{
	const struct lines *lines = context;
	uint64_t now = ring_wall_ns(parts->ring);

	for (uint32_t i = 0; i < lines->count; i++) {
		struct ledger_append *append = calloc(1, sizeof(*append));

		append->build = line_make(lines->tenant, i);
		append->build.ended_wall_ns = now - i * (uint64_t)HOUR;
		append->fn = free_append;
		ledger_append(service.ledger, append);
	}
}

static void append(const char *tenant, uint32_t count)
{
	struct lines lines = { .tenant = tenant, .count = count };

	gateway_thread_call(gateway, append_lines, &lines);
}

/* ---- asking ---- */

static struct client_call *call;
static struct builds_response response;
static struct build_line line;

static void hang_up(void)
{
	client_call_close(call);
	call = NULL;
}

static int ask(struct client *client, const struct builds_request *request)
{
	uint8_t storage[64];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct span bytes;
	int r;

	hang_up();
	message_encode(&builds_request_type, &out, request);
	r = client_unary(client, SLUICE_BUILDS, buffer_span(&out), &call, &bytes);
	if (r == CLIENT_OK)
		assert_true(message_decode(&builds_response_type, bytes, &response));
	return r;
}

static uint32_t count(struct client *client, struct builds_request request)
{
	assert_int_equal(ask(client, &request), CLIENT_OK);
	return response.builds.count;
}

static void next(struct message_cursor *cursor)
{
	struct span element;

	assert_true(message_list_next(&response.builds, cursor, &element));
	assert_true(message_decode(&build_line_type, element, &line));
}

static void expect_refused(int r, enum grpc_status status, const char *says)
{
	const char *text;

	assert_int_equal(r, CLIENT_END);
	assert_int_equal(client_call_status(call, &text), status);
	if (!strstr(text, says))
		fail_msg("\"%s\" does not say \"%s\"", text, says);
}

static void lines_are_told_whole(void **state)
{
	struct client *client = gateway_thread_client(gateway, "token-r");
	struct message_cursor cursor = { 0 };
	struct ledger_build wanted;

	assert_int_equal(count(client, (struct builds_request){ 0 }), 0);
	append("acme", 3);
	assert_int_equal(count(client, (struct builds_request){ 0 }), 3);
	for (uint32_t i = 0; i < 3; i++) {
		wanted = line_make("acme", i);
		next(&cursor);
		assert_true(span_is(line.subject, wanted.subject));
		assert_true(span_is(line.ref, wanted.ref));
		assert_true(span_is(line.directory, wanted.directory));
		assert_true(span_is(line.executor, wanted.executor));
		assert_int_equal(line.queued_unix_ns, wanted.queued_wall_ns);
		assert_int_equal(line.started_unix_ns, wanted.started_wall_ns);
		assert_in_range(response.now_unix_ns - line.ended_unix_ns, i * HOUR, i * HOUR + HOUR / 2);
		assert_int_equal(line.queue_ns, wanted.queue_ns);
		assert_int_equal(line.files, wanted.files);
		assert_int_equal(line.files_changed, wanted.files_changed);
		assert_int_equal(line.bytes_from_client, wanted.bytes_from_client);
		assert_int_equal(line.bytes_from_store, wanted.bytes_from_store);
		assert_int_equal(line.bytes_to_executor, wanted.bytes_to_executor);
		assert_int_equal(line.steps_cached, wanted.steps_cached);
		assert_int_equal(line.steps_executed, wanted.steps_executed);
		assert_int_equal(line.replays, wanted.replays);
		assert_int_equal(line.result, wanted.result);
		assert_int_equal(line.fault, wanted.fault);
		assert_int_equal(line.status, wanted.status);
		assert_true(span_is(line.error, wanted.error));
	}
	hang_up();
	client_close(client);
}

static void lists_are_filtered_and_bounded(void **state)
{
	struct client *client = gateway_thread_client(gateway, "token-r");

	append("acme", 900);
	append("acme", 120);                     /* more than may wait; this list begins to write them */
	assert_int_equal(count(client, (struct builds_request){ .limit = SLUICE_BUILDS_MAX }), SLUICE_BUILDS_MAX);
	assert_int_equal(count(client, (struct builds_request){ 0 }), SLUICE_BUILDS_DEFAULT);
	assert_int_equal(count(client, (struct builds_request){ .limit = 7 }), 7);
	/* Two of each number of hours, and so the bound lies between two of them. */
	assert_int_equal(count(client, (struct builds_request){ .limit = 100, .within_ns = 10 * HOUR + HOUR / 2 }), 22);
	assert_int_equal(count(client, (struct builds_request){ .limit = 100, .within_ns = 10 * HOUR + HOUR / 2, .failed_only = true }),
	                 10);
	assert_int_equal(count(client, (struct builds_request){ .limit = 10, .within_ns = UINT64_MAX }), 10);
	expect_refused(ask(client, &(struct builds_request){ .limit = SLUICE_BUILDS_MAX + 1 }), GRPC_INVALID_ARGUMENT,
	               "at most 1000");
	hang_up();
	client_close(client);
}

static void tenants_hear_of_their_own_builds(void **state)
{
	struct client *acme = gateway_thread_client(gateway, "token-r"), *other = gateway_thread_client(gateway, "token-a");
	struct client *local = gateway_thread_client(gateway, NULL), *writer = gateway_thread_client(gateway, "token-w");

	append("acme", 2);
	append("other", 3);
	append("default", 4);
	assert_int_equal(count(acme, (struct builds_request){ 0 }), 2);
	assert_int_equal(count(other, (struct builds_request){ 0 }), 3);
	hang_up();
	assert_int_equal(count(local, (struct builds_request){ 0 }), 4);
	hang_up();
	expect_refused(ask(writer, &(struct builds_request){ 0 }), GRPC_PERMISSION_DENIED, "right to read");
	hang_up();
	client_close(acme);
	client_close(other);
	client_close(local);
	client_close(writer);
}

static void malformed_requests_are_refused(void **state)
{
	struct client *client = gateway_thread_client(gateway, "token-r");
	struct span bytes;
	uint8_t large[100] = { 0 };

	hang_up();
	expect_refused(client_unary(client, SLUICE_BUILDS, span_text("\x0a\x01x"), &call, &bytes), GRPC_INVALID_ARGUMENT,
	               "malformed BuildsRequest");
	hang_up();
	expect_refused(client_unary(client, SLUICE_BUILDS, span_make(large, sizeof(large)), &call, &bytes),
	               GRPC_RESOURCE_EXHAUSTED, "64");
	hang_up();
	client_close(client);
}

static void callers_may_go_away(void **state)
{
	struct client *client = gateway_thread_client(gateway, "token-r");

	append("acme", 5);
	for (int i = 0; i < 40; i++) {
		struct client_call *left;

		assert_int_equal(client_call_open(&left, client, SLUICE_BUILDS, NULL, 0), 0);
		assert_int_equal(client_send(left, span_text(""), 0), CLIENT_OK);
		if (i % 2)
			client_wait(client, NULL, 0, NULL, 200000);
		client_call_close(left);
	}
	client_run_until(client, gateway, no_call_is_open, NULL);      /* the lists that nobody reads make others busy, too */
	assert_int_equal(count(client, (struct builds_request){ 0 }), 5);
	hang_up();
	/* And with its connection, in the middle of many. */
	for (int i = 0; i < 10; i++) {
		struct client_call *left;

		assert_int_equal(client_call_open(&left, client, SLUICE_BUILDS, NULL, 0), 0);
		assert_int_equal(client_send(left, span_text(""), 0), CLIENT_OK);
	}
	client_wait(client, NULL, 0, NULL, 200000);
	client_close(client);
}

static bool all_are_open(struct gateway_parts *parts, void *context)
{
	return questions.open == QUESTIONS_TENANT_MAX;
}

static void open_all(struct client *client, struct client_call *calls[static QUESTIONS_TENANT_MAX])
{
	for (int i = 0; i < QUESTIONS_TENANT_MAX; i++)
		assert_int_equal(client_call_open(&calls[i], client, SLUICE_BUILDS, NULL, 0), 0);
	client_run_until(client, gateway, all_are_open, NULL);
}

/* Also of calls that ask nothing: an answer is kept until it is taken, and nobody says when that is. */
static void a_tenant_leaves_room_to_others(void **state)
{
	struct client *acme = gateway_thread_client(gateway, "token-r"), *other = gateway_thread_client(gateway, "token-a");
	struct client_call *calls[QUESTIONS_TENANT_MAX];

	append("other", 3);
	open_all(acme, calls);
	expect_refused(ask(acme, &(struct builds_request){ 0 }), GRPC_RESOURCE_EXHAUSTED, "this tenant asks for too much at a time");
	hang_up();
	assert_int_equal(count(other, (struct builds_request){ 0 }), 3);
	hang_up();
	for (int i = 0; i < QUESTIONS_TENANT_MAX; i++)
		client_call_close(calls[i]);
	client_run_until(acme, gateway, no_call_is_open, NULL);
	assert_int_equal(count(acme, (struct builds_request){ 0 }), 0);
	hang_up();
	client_close(acme);
	client_close(other);
}

static void time_goes_by(struct gateway_parts *parts, void *context)
{
	open_calls_sweep(&parts->cas, ring_now_ns(parts->ring) + QUESTION_IDLE_NS);
}

static void calls_that_ask_nothing_end(void **state)
{
	struct client *client = gateway_thread_client(gateway, "token-r");
	struct client_call *calls[QUESTIONS_TENANT_MAX];
	struct span message;

	open_all(client, calls);
	gateway_thread_call(gateway, time_goes_by, NULL);
	for (int i = 0; i < QUESTIONS_TENANT_MAX; i++) {
		call = calls[i];
		expect_refused(client_receive(call, &message, UINT64_MAX), GRPC_DEADLINE_EXCEEDED, "did not come for too long");
		hang_up();
	}
	client_run_until(client, gateway, no_call_is_open, NULL);
	client_close(client);
}

static void append_long_lines(struct gateway_parts *parts, void *context)
{
	for (int i = 0; i < SLUICE_BUILDS_MAX; i++) {
		struct ledger_append *append = calloc(1, sizeof(*append));

		append->build = line_make("acme", 1);
		append->build.ended_wall_ns = ring_wall_ns(parts->ring);
		memset(append->build.error, 'e', sizeof(append->build.error) - 1);
		memset(append->build.executor, 'x', sizeof(append->build.executor) - 1);
		append->fn = free_append;
		ledger_append(service.ledger, append);
	}
}

static bool is_answered(struct gateway_parts *parts, void *context)
{
	const struct list *first = parts->cas.calls.next;

	return first != &parts->cas.calls && container_of(first, struct question, open.link)->unary.answered;
}

static void time_goes_by_without_moving(struct gateway_parts *parts, void *context)
{
	open_calls_sweep(&parts->cas, ring_now_ns(parts->ring));
	time_goes_by(parts, context);
}

/* A client that was stopped: what waits for it is more than sockets take. */
static void an_answer_that_nobody_takes_is_dropped(void **state)
{
	struct client *client = gateway_thread_client(gateway, "token-r");
	struct builds_request request = { .limit = SLUICE_BUILDS_MAX };
	uint8_t storage[64];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct span message;

	gateway_thread_call(gateway, append_long_lines, NULL);
	message_encode(&builds_request_type, &out, &request);
	assert_int_equal(client_call_open(&call, client, SLUICE_BUILDS, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&out), 0), CLIENT_OK);
	gateway_thread_until(gateway, is_answered, NULL);
	gateway_thread_call(gateway, time_goes_by_without_moving, NULL);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_CANCELLED);
	hang_up();
	client_close(client);
}

static void find_name(struct gateway_parts *parts, void *context)
{
	struct scope scope;

	*(int *)context = store_scope_find(parts->store, span_text("acme"), span_text("asked/only"), SCOPE_ALL, &scope);
}

/* An account is its tenant's, whatever instance is named; and who reads it makes none of the name. */
static void a_list_makes_no_instance(void **state)
{
	struct client *client = gateway_thread_client_of(gateway, "token-r", "asked/only");
	int found;

	append("acme", 2);
	assert_int_equal(count(client, (struct builds_request){ 0 }), 2);
	gateway_thread_call(gateway, find_name, &found);
	assert_int_equal(found, -ENOENT);
	hang_up();
	client_close(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lines_are_told_whole),
		TEST(lists_are_filtered_and_bounded),
		TEST(tenants_hear_of_their_own_builds),
		TEST(a_list_makes_no_instance),
		TEST(malformed_requests_are_refused),
		TEST(callers_may_go_away),
		TEST(a_tenant_leaves_room_to_others),
		TEST(calls_that_ask_nothing_end),
		TEST(an_answer_that_nobody_takes_is_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
