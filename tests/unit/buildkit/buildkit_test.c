/*
 * Shows that calls which nothing here answers reach the executor and come back as they were: messages, ends, refusals,
 * cancellation, a reader that is slow; what the client reads when the executor is lost or away; and that nothing is left.
 * A small gateway in one thread, a stand-in daemon in another, both ring engines.
 */
#include "tests/unit/cas/gateway_thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/buildkit/builder.h"

#define MS 1000000ull

struct fixture {
	struct builder builder;
	const char *executors[2];
	struct gateway_thread *gateway;
	struct client *client;
};

static bool is_ready(struct gateway_parts *parts, void *context)
{
	struct executors_status status;

	(void)context;
	executors_status(parts->executors, &status);
	return status.executors_ready == 1;
}

static struct fixture *begin_with(void **state, const char *tokens)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct gateway_thread_options options = { .buildkit = fixture->executors, .tokens = tokens };

	fixture->builder.name = "one";
	fixture->builder.engine = *(const enum ring_engine *)*state;
	builder_start(&fixture->builder);
	fixture->executors[0] = fixture->builder.address;
	fixture->gateway = gateway_thread_start(&options);
	gateway_thread_until(fixture->gateway, is_ready, NULL);
	return fixture;
}

static struct fixture *begin(void **state)
{
	struct fixture *fixture = begin_with(state, NULL);

	fixture->client = gateway_thread_client(fixture->gateway, NULL);
	return fixture;
}

static bool nothing_is_left(struct gateway_parts *parts, void *context)
{
	struct buildkit_status status;

	(void)context;
	buildkit_status(parts->buildkit, &status);
	return buildkit_idle(parts->buildkit) && status.bindings == 0 && status.calls == 0;
}

static void end(struct fixture *fixture)
{
	if (fixture->client)
		client_close(fixture->client);
	gateway_thread_until(fixture->gateway, nothing_is_left, NULL);
	gateway_thread_stop(fixture->gateway, true);
	builder_stop(&fixture->builder);
	free(fixture);
}

static struct client_call *open_call(struct fixture *fixture, const char *path)
{
	struct client_call *call;

	assert_int_equal(client_call_open(&call, fixture->client, path, NULL, 0), 0);
	return call;
}

static void messages_come_back(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *call;
	struct span answer;
	char text[32];

	for (unsigned i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "message %u", i);
		assert_int_equal(client_unary(fixture->client, "/test.Echo/Unary", span_text(text), &call, &answer), CLIENT_OK);
		assert_true(span_is(answer, text));
		assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_END);
		assert_int_equal(client_call_status(call, NULL), GRPC_OK);
		client_call_close(call);
	}
	/* All over one connection of the client's own; the other is the pool's. */
	builder_until_connections(&fixture->builder, 2);
	call = open_call(fixture, "/test.Echo/Stream");
	for (unsigned i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "piece %u", i);
		assert_int_equal(client_send(call, span_text(text), 0), CLIENT_OK);
		assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_OK);
		assert_true(span_is(answer, text));
	}
	client_send_end(call);
	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_OK);
	client_call_close(call);
	end(fixture);
}

static void refusals_come_back(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *call;
	struct span answer;
	const char *text;

	assert_int_equal(client_unary(fixture->client, "/test.Echo/Refuse", span_text("x"), &call, &answer), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_PERMISSION_DENIED);
	assert_string_equal(text, "not you, 100 % sure");
	client_call_close(call);
	assert_int_equal(client_unary(fixture->client, "/test.Echo/No", span_text("x"), &call, &answer), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_UNIMPLEMENTED);
	client_call_close(call);
	end(fixture);
}

/* 40 MB down to a client that rests now and then, and 40 MB up: more than all the windows and queues on the way hold. */
static void bulk_goes_through_whole(void **state)
{
	enum { BYTES = 40000000 };
	static uint8_t piece[100000];
	struct fixture *fixture = begin(state);
	struct client_call *call = open_call(fixture, "/test.Echo/Source");
	uint64_t wanted = BYTES, got = 0;
	struct span message;

	assert_int_equal(client_send(call, span_make(&wanted, sizeof(wanted)), 0), CLIENT_OK);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK) {
		for (size_t i = 0; i < message.size; i += 997)
			assert_int_equal(message.data[i], (uint8_t)((got + i) * 7));
		if (got / 4000000 != (got + message.size) / 4000000)
			usleep(20000);
		got += message.size;
	}
	assert_int_equal(got, BYTES);
	assert_int_equal(client_call_status(call, NULL), GRPC_OK);
	client_call_close(call);
	call = open_call(fixture, "/test.Echo/Sink");
	for (unsigned i = 0; i < BYTES / sizeof(piece); i++)
		assert_int_equal(client_send(call, span_make(piece, sizeof(piece)), 0), CLIENT_OK);
	client_send_end(call);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	assert_int_equal(message.size, sizeof(wanted));
	assert_memory_equal(message.data, &wanted, sizeof(wanted));
	client_call_close(call);
	end(fixture);
}

static void who_cancels_is_heard_there(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *call = open_call(fixture, "/test.Echo/Hang");
	struct span message;

	assert_int_equal(client_send(call, span_text("x"), 0), CLIENT_OK);
	while (builder_open(&fixture->builder, "Hang") == 0)
		assert_int_equal(client_receive(call, &message, 1 * MS), CLIENT_AGAIN);
	client_call_close(call);
	/* One more call takes the reset along. */
	assert_int_equal(client_unary(fixture->client, "/test.Echo/Unary", span_text("x"), &call, &message), CLIENT_OK);
	client_call_close(call);
	builder_until_open(&fixture->builder, "Hang", 0);
	/* And who just goes. */
	call = open_call(fixture, "/test.Echo/Hang");
	assert_int_equal(client_send(call, span_text("x"), 0), CLIENT_OK);
	while (builder_open(&fixture->builder, "Hang") == 0)
		assert_int_equal(client_receive(call, &message, 1 * MS), CLIENT_AGAIN);
	client_close(fixture->client);
	fixture->client = NULL;
	builder_until_open(&fixture->builder, "Hang", 0);
	end(fixture);
}

static void a_lost_executor_is_named(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *hanging = open_call(fixture, "/test.Echo/Hang"), *streaming = open_call(fixture, "/test.Echo/Stream");
	struct client_call *calls[2] = { hanging, streaming };
	struct span message;
	const char *text;

	assert_int_equal(client_send(streaming, span_text("x"), 0), CLIENT_OK);
	assert_int_equal(client_receive(streaming, &message, UINT64_MAX), CLIENT_OK);
	assert_int_equal(client_send(hanging, span_text("x"), 0), CLIENT_OK);
	while (builder_open(&fixture->builder, "Hang") == 0)
		assert_int_equal(client_receive(hanging, &message, 1 * MS), CLIENT_AGAIN);
	builder_stop(&fixture->builder);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(client_receive(calls[i], &message, UINT64_MAX), CLIENT_END);
		assert_int_equal(client_call_status(calls[i], &text), GRPC_UNAVAILABLE);
		assert_non_null(strstr(text, fixture->executors[0]));
		client_call_close(calls[i]);
	}
	/* It is not there any more: said so, and the connection to the gateway is as good as before. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(client_unary(fixture->client, "/test.Echo/Unary", span_text("x"), &hanging, &message), CLIENT_END);
		assert_int_equal(client_call_status(hanging, &text), GRPC_UNAVAILABLE);
		assert_non_null(strstr(text, fixture->executors[0]));
		client_call_close(hanging);
	}
	assert_string_equal(client_error(fixture->client), "");
	end(fixture);
}

/* SHA-256 of "reader". */
#define READER "3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 acme read\n"

static void the_right_to_execute_is_needed(void **state)
{
	struct fixture *fixture = begin_with(state, READER);
	struct client_call *call;
	struct span answer;

	fixture->client = gateway_thread_client(fixture->gateway, "reader");
	assert_int_equal(client_unary(fixture->client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_END);
	assert_int_equal(client_call_status(call, NULL), GRPC_PERMISSION_DENIED);
	client_call_close(call);
	assert_int_equal(builder_count(&fixture->builder, "Unary"), 0);
	end(fixture);
}

/* SHA-256 of "stranger": another tenant, with all rights. */
#define STRANGER "8aca4f36774f82a67c507cb9c96679482e2cc767f2d38502269557a566b092fb acme all\n"

static void another_tenant_is_refused(void **state)
{
	struct fixture *fixture = begin_with(state, STRANGER);
	struct client_call *call;
	struct span answer;
	const char *text;

	fixture->client = gateway_thread_client(fixture->gateway, "stranger");
	assert_int_equal(client_unary(fixture->client, "/test.Echo/Unary", span_text("x"), &call, &answer), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_FAILED_PRECONDITION);
	assert_null(strstr(text, fixture->executors[0]));
	client_call_close(call);
	assert_int_equal(builder_count(&fixture->builder, "Unary"), 0);
	end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(messages_come_back),
		BOTH(refusals_come_back),
		BOTH(bulk_goes_through_whole),
		BOTH(who_cancels_is_heard_there),
		BOTH(a_lost_executor_is_named),
		BOTH(the_right_to_execute_is_needed),
		BOTH(another_tenant_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
