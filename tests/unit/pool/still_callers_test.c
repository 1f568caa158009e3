/*
 * Shows that callers who stand still leave room for others: of calls that wait, and of those that look at an operation, a tenant has
 * so many; who does not say what he asks for loses the call, and who does not take what he asked for about an operation as well.
 */
#include "gateway/cas/open_call.h"
#include "gateway/executor/outputs.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"
#include "tests/unit/pool/execute_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- calls that are open ---- */

static struct client_call *call_silently(struct client *from, const char *path)
{
	struct client_call *call;

	assert_int_equal(client_call_open(&call, from, path, NULL, 0), 0);
	return call;
}

/* Its status, which is there at once. */
static enum grpc_status refused(struct client_call *call)
{
	struct span message;
	enum grpc_status status;

	assert_int_equal(client_receive(call, &message, 20000000000u), CLIENT_END);
	status = client_call_status(call, NULL);
	client_call_close(call);
	return status;
}

static void count_calls(struct gateway_parts *parts, void *context)
{
	*(unsigned *)context = parts->execute.calls + parts->execute.looks;
}

/* Of a connection's calls only so many go out before the gateway has said how many it takes: clients have to run. */
static void until_calls(struct client *const *clients, size_t count, unsigned calls)
{
	unsigned seen = calls + 1;

	for (unsigned tries = 0; seen != calls; tries++) {
		assert_true(tries < 20000);
		for (size_t i = 0; i < count; i++)
			flush(clients[i]);
		gateway_thread_call(gateway, count_calls, &seen);
	}
}

/* Whoever only waits leaves room for other tenants, and for himself again once one of his has gone. */
static void a_tenant_does_not_wait_for_all(void **state)
{
	enum { EACH = 256, CLIENTS = EXECUTE_TENANT_CALLS_MAX / EACH };
	struct client *clients[CLIENTS + 2];
	struct client_call *last = NULL;

	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i] = gateway_thread_client(gateway, NULL);
		for (unsigned j = 0; j < EACH; j++)
			last = call_silently(clients[i], REAPI_EXECUTE);
	}
	clients[CLIENTS] = client;
	clients[CLIENTS + 1] = gateway_thread_client(gateway, "token-a");
	until_calls(clients, CLIENTS, EXECUTE_TENANT_CALLS_MAX);
	assert_int_equal(refused(call_silently(client, REAPI_EXECUTE)), GRPC_RESOURCE_EXHAUSTED);
	call_silently(clients[CLIENTS + 1], REAPI_EXECUTE);
	until_calls(clients, CLIENTS + 2, EXECUTE_TENANT_CALLS_MAX + 1);
	client_call_close(last);
	until_calls(clients, CLIENTS + 2, EXECUTE_TENANT_CALLS_MAX);
	call_silently(client, REAPI_EXECUTE);
	until_calls(clients, CLIENTS + 2, EXECUTE_TENANT_CALLS_MAX + 1);
	for (unsigned i = 0; i < CLIENTS; i++)
		client_close(clients[i]);
	client_close(clients[CLIENTS + 1]);
}

/* ---- requests that do not come whole ---- */

struct half {
	struct call call;
	bool closed;
	enum grpc_status status;
};

static void half_on_message(struct call *call, struct span message)
{
}

static void half_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct half *half = container_of(call, struct half, call);

	half->closed = true;
	half->status = status;
	call_fini(call);
}

static const struct call_events half_events = { .on_message = half_on_message, .on_closed = half_on_closed };

static void half_start(struct half *half, struct client *from, const char *path)
{
	*half = (struct half){ 0 };
	assert_int_equal(client_call_start(from, &half->call, path, 4u << 20, &half_events, NULL), 0);
}

/* The first byte of a request. */
static void half_ask(struct half *half, struct client *from, const char *path)
{
	half_start(half, from, path);
	assert_int_equal(call_send_begin(&half->call, 100), CALL_SENT);
	call_send_more(&half->call, span_text("\n"));
}

static void until_closed(struct client *from, const struct half *halves, size_t count)
{
	for (size_t i = 0, tries = 0; i < count; i += halves[i].closed) {
		assert_true(tries++ < 20000);
		flush(from);
	}
}

/* What has come until now is seen by the first look. */
static void time_passes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	open_calls_sweep(&parts->cas, now);
	open_calls_sweep(&parts->cas, now + *(const uint64_t *)context);
}

static uint64_t ask_ns = EXECUTE_ASK_NS, take_ns = EXECUTE_TAKE_NS;
/* The time of what nothing came of began a little before the first look. */
static uint64_t ask_almost_ns = EXECUTE_ASK_NS - 10000000000u, take_almost_ns = EXECUTE_TAKE_NS - 10000000000u;

/* Each of many tenants' calls would else be one of all that may be open, for as long as the connection lasts. */
static void who_looks_takes_no_room_from_who_waits(void **state)
{
	static const char *const paths[] = { REAPI_GET_OPERATION, REAPI_CANCEL_OPERATION };
	static struct half halves[EXECUTE_TENANT_LOOKS_MAX];
	struct client *clients[] = { client, gateway_thread_client(gateway, "token-a") };
	struct digest action = action_upload(clients[1], "another's", NULL);
	struct caller caller;

	for (unsigned i = 0; i < EXECUTE_TENANT_LOOKS_MAX; i++)
		half_ask(&halves[i], client, paths[i % 2]);
	until_calls(clients, 2, EXECUTE_TENANT_LOOKS_MAX);
	assert_int_equal(refused(call_silently(client, REAPI_GET_OPERATION)), GRPC_RESOURCE_EXHAUSTED);
	rig_run(clients[1], &action, 1, NULL, 0);
	caller = rig_hit(clients[1], &action, 1);
	assert_true(caller_look(clients[1], &caller).done);
	/* He himself still runs what he likes. */
	action = action_upload(client, "his own", NULL);
	rig_run(client, &action, 1, NULL, 0);
	gateway_thread_call(gateway, time_passes, &ask_almost_ns);
	until_calls(clients, 2, EXECUTE_TENANT_LOOKS_MAX);
	gateway_thread_call(gateway, time_passes, &ask_ns);
	until_closed(client, halves, EXECUTE_TENANT_LOOKS_MAX);
	for (unsigned i = 0; i < EXECUTE_TENANT_LOOKS_MAX; i++)
		assert_int_equal(halves[i].status, GRPC_DEADLINE_EXCEEDED);
	until_calls(clients, 2, 0);
	client_close(clients[1]);
}

/* Who has asked waits as long as it takes, beside those who have not. */
static void who_does_not_ask_does_not_wait(void **state)
{
	static struct half halves[3];
	struct digest action = action_upload(client, "long", NULL);
	struct caller caller = caller_ask(client, &action);
	struct assignment job;

	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	caller_until_started(&caller);
	half_ask(&halves[0], client, REAPI_EXECUTE);
	half_ask(&halves[1], client, REAPI_WAIT_EXECUTION);
	half_start(&halves[2], client, REAPI_EXECUTE);
	until_calls(&client, 1, 4);
	gateway_thread_call(gateway, time_passes, &ask_almost_ns);
	until_calls(&client, 1, 4);
	gateway_thread_call(gateway, time_passes, &ask_ns);
	until_closed(client, halves, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(halves[i].status, GRPC_DEADLINE_EXCEEDED);
	until_calls(&client, 1, 1);
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
}

/* ---- answers that are not taken ---- */

/* An operation whose end is long. */
static struct caller run_with_long_outputs(void)
{
	struct buffer outputs = buffer_heap(OUTPUTS_FIELDS_BYTES_MAX);
	struct digest action = action_upload(client, "long outputs", NULL);
	struct caller caller = caller_ask(client, &action);
	char path[4096];
	struct reapi_output_file file = { .path = span_make(path, sizeof(path)), .digest.size = 1 };

	memset(path, 'p', sizeof(path));
	while (outputs.size + sizeof(path) + 64 < OUTPUTS_FIELDS_BYTES_MAX)
		message_nest(&reapi_output_file_type, &outputs, 2, &file);
	stand_in_resolve(control, 1, NULL);
	stand_in_finish_outputs(slot, stand_in_take(slot).id, 1, buffer_span(&outputs));
	caller_finish(&caller);
	assert_int_equal(caller.exit_code, 1);
	buffer_fini(&outputs);
	return caller;
}

#define UNTAKEN 32                       /* more than the client's window takes: 16 MiB */

/* Each has its answer, or has it before him and no room for it. */
static bool all_are_answered(const struct half *halves)
{
	unsigned count;

	gateway_thread_call(gateway, count_calls, &count);
	for (unsigned i = 0; i < UNTAKEN; i++)
		count += halves[i].closed;
	return count == UNTAKEN;
}

static void an_answer_that_is_not_taken_is_reset(void **state)
{
	static struct half halves[UNTAKEN];
	struct client *lazy = gateway_thread_client(gateway, NULL);
	struct caller caller = run_with_long_outputs();
	struct reapi_operation_request request = { .name = span_text(caller.name) };
	struct buffer bytes = buffer_heap(512);
	unsigned taken = 0;

	message_encode(&reapi_operation_request_type, &bytes, &request);
	for (unsigned i = 0; i < UNTAKEN; i++) {
		half_start(&halves[i], lazy, REAPI_GET_OPERATION);
		call_shut(&halves[i].call);
		assert_int_equal(call_send(&halves[i].call, buffer_span(&bytes), 0), CALL_SENT);
		call_end(&halves[i].call);
	}
	for (unsigned tries = 0; !all_are_answered(halves); tries++) {
		assert_true(tries < 20000);
		flush(lazy);
	}
	gateway_thread_call(gateway, time_passes, &take_almost_ns);
	assert_true(all_are_answered(halves));
	gateway_thread_call(gateway, time_passes, &take_ns);
	until_closed(lazy, halves, UNTAKEN);
	for (unsigned i = 0; i < UNTAKEN; i++)
		taken += halves[i].status == GRPC_OK;
	assert_true(taken < UNTAKEN);
	until_calls(&lazy, 1, 0);
	buffer_fini(&bytes);
	client_close(lazy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_tenant_does_not_wait_for_all, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(who_looks_takes_no_room_from_who_waits, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(who_does_not_ask_does_not_wait, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_answer_that_is_not_taken_is_reset, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
