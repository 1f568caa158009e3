/* Shows that what concerns all daemons is asked of all, and what names a build of the one that has it; both ring engines. */
#include "tests/unit/buildkit/binding_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/buildkitd/executor_address.h"
#include "gateway/client/client_private.h"

/* A message of that call has it, before its end; the rest is thrown away. */
static bool tells(struct client_call *call, const char *text)
{
	struct span message;
	bool told = false;

	while (client_receive(call, &message, 20000 * MS) == CLIENT_OK)
		told |= memmem(message.data, message.size, text, strlen(text)) != NULL;
	assert_int_equal(client_call_status(call, NULL), GRPC_OK);
	return told;
}

static struct client_call *ask(struct client *client, const char *method, struct span request)
{
	struct client_call *call;
	char path[128];

	snprintf(path, sizeof(path), CONTROL "%s", method);
	call = rig_call(client, path, NULL, NULL, NULL, NULL);
	assert_int_equal(client_send(call, request, 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

static struct client_call *read_content(struct client *client)
{
	struct client_call *call = rig_call(client, "/containerd.services.content.v1.Content/Read", NULL, NULL, NULL, NULL);

	assert_int_equal(client_send(call, span_text("digest"), 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

static void what_concerns_all_is_asked_of_all(void **state)
{
	static const char *const methods[] = { "DiskUsage", "Prune", "ListenBuildHistory" };
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client *client = rig_client_of(fixture, 0);
	struct client_call *call, *running;
	unsigned at, other;

	for (unsigned i = 0; i < 3; i++) {
		for (unsigned k = 0; k < 2; k++) {
			call = ask(client, methods[i], (struct span){ 0 });
			assert_true(tells(call, k ? "one" : "two"));
			client_call_close(call);
		}
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(builder_count(&fixture->builders[k], methods[i]), 2);
	}
	/* What names a build goes where that ran. */
	rig_build(fixture, 0, "r", &running);
	while (builder_open(&fixture->builders[0], "Solve") + builder_open(&fixture->builders[1], "Solve") == 0)
		rig_turn(client);
	at = builder_open(&fixture->builders[0], "Solve") ? 0 : 1;
	other = 1 - at;
	builder_finish(&fixture->builders[at], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	for (unsigned k = 0; k < 3; k++) {
		client = rig_client_of(fixture, 1 + k % 2);
		call = ask(client, "ListenBuildHistory", span_text("\x12\x01r"));
		assert_true(tells(call, at ? "two" : "one"));
		client_call_close(call);
		rig_ends(ask(client, "UpdateBuildHistory", span_text("\x0a\x01r")), GRPC_OK, NULL);
		call = read_content(client);
		assert_true(tells(call, "digest"));
		client_call_close(call);
	}
	assert_int_equal(builder_count(&fixture->builders[at], "ListenBuildHistory"), 5);
	assert_int_equal(builder_count(&fixture->builders[at], "UpdateBuildHistory"), 3);
	assert_int_equal(builder_count(&fixture->builders[at], "Read"), 3);
	assert_int_equal(builder_count(&fixture->builders[other], "ListenBuildHistory"), 2);
	assert_int_equal(builder_count(&fixture->builders[other], "Read"), 0);
	rig_end(fixture);
}

static void drain_executor(struct gateway_parts *parts, void *context)
{
	executor_drain(executors_find(parts->executors, "default", context), NULL, NULL);
}

static void suspect_executor(struct gateway_parts *parts, void *context)
{
	executor_suspect(executors_find(parts->executors, "default", context), "another connection to it broke");
}

/* Its address has gone, or it is doubted, while it builds: it alone has the record. As buildx asks, the session has ended. */
static void what_a_build_left_is_asked_of_its_own(void **state)
{
	for (unsigned k = 0; k < 4; k++) {
		struct fixture *fixture = rig_begin_with(state, 1 + k % 2, 4, 0, false);
		struct client *client = rig_client_of(fixture, 0);
		struct client_call *session = rig_session(client, "s", ""), *running = rig_solve(client, "r", "s"), *call;
		unsigned at;

		while (builder_open(&fixture->builders[0], "Solve") + (k % 2 ? builder_open(&fixture->builders[1], "Solve") : 0) == 0)
			rig_turn(client);
		at = builder_open(&fixture->builders[0], "Solve") ? 0 : 1;
		builder_set_sick(&fixture->builders[at], k >= 2);
		gateway_thread_call(fixture->gateway, k < 2 ? drain_executor : suspect_executor, (void *)fixture->executors[at]);
		builder_finish(&fixture->builders[at], "r", GRPC_OK, NULL);
		rig_ends(running, GRPC_OK, NULL);
		client_send_end(session);
		rig_ends(session, GRPC_OK, NULL);
		call = ask(client, "ListenBuildHistory", span_text("\x12\x01r"));
		assert_true(tells(call, at ? "two" : "one"));
		client_call_close(call);
		call = read_content(client);
		assert_true(tells(call, "digest"));
		client_call_close(call);
		rig_ends(ask(client, "UpdateBuildHistory", span_text("\x0a\x01r")), GRPC_OK, NULL);
		assert_int_equal(builder_count(&fixture->builders[at], "UpdateBuildHistory"), 1);
		assert_int_equal(builder_count(&fixture->builders[at], "Read"), 1);
		rig_end(fixture);
	}
}

static bool none_is_there(struct gateway_parts *parts, void *context)
{
	return !executors_find(parts->executors, "default", context);
}

static void add_again(struct gateway_parts *parts, void *context)
{
	struct executor_config config = { .name = "again", .tenant = "default" };
	struct executor_address address;
	char why[512];

	assert_true(executor_address_parse(&address, context, why, sizeof(why)));
	config.address = address.address;
	assert_int_equal(executors_add(parts->executors, NULL, &config), 0);
}

/* Of a build before the gateway's time, or of a daemon that has another name now: all are asked, and whoever has it does it. */
static void whose_build_is_not_known_all_are_asked(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client *client = rig_client_of(fixture, 0);
	struct client_call *running, *call;
	unsigned at, both = 2;

	fixture->builders[0].lacks = "UpdateBuildHistory";
	rig_ends(ask(client, "UpdateBuildHistory", span_text("\x0a\x03old")), GRPC_OK, NULL);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(builder_count(&fixture->builders[k], "UpdateBuildHistory"), 1);
	fixture->builders[1].lacks = "UpdateBuildHistory";
	rig_ends(ask(client, "UpdateBuildHistory", span_text("\x0a\x03old")), GRPC_UNKNOWN, "not found");
	running = rig_solve(client, "r", "");
	while (builder_open(&fixture->builders[0], "Solve") + builder_open(&fixture->builders[1], "Solve") == 0)
		rig_turn(client);
	at = builder_open(&fixture->builders[0], "Solve") ? 0 : 1;
	builder_finish(&fixture->builders[at], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	gateway_thread_call(fixture->gateway, drain_executor, (void *)fixture->executors[at]);
	gateway_thread_until(fixture->gateway, none_is_there, (void *)fixture->executors[at]);
	gateway_thread_call(fixture->gateway, add_again, (void *)fixture->executors[at]);
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &both);
	call = ask(client, "ListenBuildHistory", span_text("\x12\x01r"));
	assert_true(tells(call, at ? "two" : "one"));
	client_call_close(call);
	rig_end(fixture);
}

/* Its digest does not say where it is: first whose Ref was named is asked, then the others. */
static void content_is_found_wherever_it_is(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client *client = rig_client_of(fixture, 0);
	struct client_call *call = ask(client, "ListenBuildHistory", (struct span){ 0 }), *running;
	unsigned at, reads;

	fixture->builders[0].lacks = "Read";
	assert_true(tells(call, "one"));
	client_call_close(call);
	call = read_content(client);
	assert_true(tells(call, "digest"));
	client_call_close(call);
	running = rig_solve(client, "r", "");
	while (builder_open(&fixture->builders[0], "Solve") + builder_open(&fixture->builders[1], "Solve") == 0)
		rig_turn(client);
	at = builder_open(&fixture->builders[0], "Solve") ? 0 : 1;
	builder_finish(&fixture->builders[at], "r", GRPC_OK, NULL);
	rig_ends(running, GRPC_OK, NULL);
	fixture->builders[at].lacks = "Read";
	fixture->builders[1 - at].lacks = NULL;
	call = read_content(client);
	assert_true(tells(call, "digest"));
	client_call_close(call);
	fixture->builders[1 - at].lacks = "Read";
	rig_ends(read_content(client), GRPC_NOT_FOUND, "not found");
	fixture->builders[at].lacks = NULL;
	reads = builder_count(&fixture->builders[1 - at], "Read");
	call = read_content(client);
	assert_true(tells(call, "digest"));
	client_call_close(call);
	assert_int_equal(builder_count(&fixture->builders[1 - at], "Read"), reads);
	rig_end(fixture);
}

static const struct stream_events *events_before;
static char told_time[64];

static void note_time(struct stream *stream, const struct header *headers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (span_is(headers[i].name, "buildkit-current-timestamp"))
			snprintf(told_time, sizeof(told_time), "%.*s", (int)headers[i].value.size, (const char *)headers[i].value.data);
	events_before->on_headers(stream, headers, count);
}

/* buildx reckons with it how long a build is under way. */
static void a_merged_history_tells_the_time(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client_call *call = ask(rig_client_of(fixture, 0), "ListenBuildHistory", (struct span){ 0 });
	struct stream_events events = *call->call.stream->events;
	struct tm utc = { 0 };
	time_t told;

	told_time[0] = '\0';
	events_before = call->call.stream->events;
	events.on_headers = note_time;
	call->call.stream->events = &events;
	assert_true(tells(call, "one"));
	assert_int_equal(strlen(told_time), 30);
	assert_string_equal(strptime(told_time, "%Y-%m-%dT%H:%M:%S", &utc) + strspn(told_time + 19, ".0123456789"), "Z");
	told = timegm(&utc);
	assert_true(told <= time(NULL) + 1 && told > time(NULL) - 60);     /* that of time() is coarse */
	client_call_close(call);
	rig_end(fixture);
}

/* A client that listens on hears of a daemon that went: from then on it would miss what that tells. */
static void who_follows_all_hears_of_one_that_went(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client_call *call;
	struct span message;

	fixture->builders[0].follows = fixture->builders[1].follows = true;
	call = ask(rig_client_of(fixture, 0), "ListenBuildHistory", (struct span){ 0 });
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(client_receive(call, &message, 20000 * MS), CLIENT_OK);
	assert_int_equal(client_receive(call, &message, 50 * MS), CLIENT_AGAIN);
	builder_stop(&fixture->builders[1]);
	rig_ends(call, GRPC_UNAVAILABLE, fixture->executors[1]);
	rig_wait_open(fixture, 0, 0, "ListenBuildHistory", 0);
	rig_end(fixture);
}

/* Two bulky streams into one, to a client that rests. */
static void merging_waits_for_the_client(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	struct client_call *call;
	struct span message;
	uint64_t bytes = 0;

	fixture->builders[0].prune_bytes = fixture->builders[1].prune_bytes = 8000000;
	call = ask(rig_client_of(fixture, 0), "Prune", (struct span){ 0 });
	while (client_receive(call, &message, 20000 * MS) == CLIENT_OK) {
		if (bytes / 1000000 != (bytes + message.size) / 1000000)
			usleep(10000);
		bytes += message.size;
	}
	assert_int_equal(client_call_status(call, NULL), GRPC_OK);
	assert_int_equal(bytes, 16000000);
	client_call_close(call);
	/* And one that goes in the middle. */
	call = ask(rig_client_of(fixture, 0), "Prune", (struct span){ 0 });
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	rig_leave(fixture, 0);
	rig_end(fixture);
}

/* The daemon's limit of streams is told as that, and no longer when it has room. */
static void a_daemon_takes_so_many_at_a_time(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 2, 4, 0, false);
	unsigned none = 0, both = 2;
	struct client_call *calls[4];

	for (unsigned k = 0; k < 2; k++)
		builder_stop(&fixture->builders[k]);
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &none);
	for (unsigned k = 0; k < 2; k++) {
		fixture->builders[k].streams_max = 4;
		fixture->builders[k].prune_bytes = 8000000;
		builder_start(&fixture->builders[k]);
	}
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &both);
	for (unsigned i = 0; i < 4; i++) {
		calls[i] = ask(rig_client_of(fixture, 0), "Prune", (struct span){ 0 });
		for (unsigned k = 0; k < 2; k++)
			rig_wait_open(fixture, 0, k, "Prune", i + 1);
	}
	rig_ends(ask(rig_client_of(fixture, 0), "Prune", (struct span){ 0 }), GRPC_RESOURCE_EXHAUSTED, "as many calls as it takes");
	for (unsigned i = 0; i < 4; i++)
		client_call_close(calls[i]);
	for (unsigned k = 0; k < 2; k++)
		rig_wait_open(fixture, 0, k, "Prune", 0);
	rig_ends(ask(rig_client_of(fixture, 0), "Prune", (struct span){ 0 }), GRPC_OK, NULL);
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(what_concerns_all_is_asked_of_all),
		BOTH(what_a_build_left_is_asked_of_its_own),
		BOTH(whose_build_is_not_known_all_are_asked),
		BOTH(content_is_found_wherever_it_is),
		BOTH(a_merged_history_tells_the_time),
		BOTH(who_follows_all_hears_of_one_that_went),
		BOTH(merging_waits_for_the_client),
		BOTH(a_daemon_takes_so_many_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
