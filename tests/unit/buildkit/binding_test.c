/*
 * Shows how a build gets its executor: the capability probe is answered here; what belongs to a build is held until one is
 * lent, and goes there in order; the client sees its place in the queue; cancelled, refused and lost builds end; leases go
 * back; nothing is left whenever the client vanishes. Stand-in daemons in threads, both ring engines.
 */
#include "tests/unit/cas/gateway_thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "proto/pb.h"
#include "tests/unit/buildkit/builder.h"

#define MS      1000000ull
#define CONTROL "/moby.buildkit.v1.Control/"
#define BRIDGE  "/moby.buildkit.v1.frontend.LLBBridge/"

struct fixture {
	struct builder builders[2];
	const char *executors[3];
	struct gateway_thread *gateway;
	struct client *clients[4];
	struct buildkit *buildkit;       /* for the gateway's thread alone */
	struct builder *lost, *other;    /* of a build that was begun to be replayed */
	/* Of the last build that ended. */
	struct build ended;
	unsigned ended_count;
};

static void on_summary(void *context, struct build *build)
{
	struct fixture *fixture = context;

	buildkit_say(fixture->buildkit, build, "summary", "[sluice] context: 3 files");
}

static void take_buildkit(struct gateway_parts *parts, void *context)
{
	((struct fixture *)context)->buildkit = parts->buildkit;
}

static void on_ended(void *context, const struct build *build)
{
	struct fixture *fixture = context;

	fixture->ended = *build;
	__atomic_add_fetch(&fixture->ended_count, 1, __ATOMIC_SEQ_CST);
}

static bool all_slots_are_busy(struct gateway_parts *parts, void *context)
{
	struct executors_status status;

	(void)context;
	executors_status(parts->executors, &status);
	return status.slots_busy == status.slots;
}

static bool all_are_ready(struct gateway_parts *parts, void *context)
{
	struct executors_status status;

	executors_status(parts->executors, &status);
	return status.executors_ready == *(unsigned *)context;
}

static struct fixture *begin_as(void **state, unsigned builders, uint32_t slots, uint64_t queue_timeout_ns, bool sick,
                                enum replay_policy replay)
{
	/* As long as references, which their answers to LLBBridge/Solve then are. */
	static const char *const names[] = { "one-reference-of-an-answe", "two-reference-of-an-answe" };
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct gateway_thread_options options = {
		.buildkit = fixture->executors, .slots = slots, .queue_timeout_ns = queue_timeout_ns,
		.build_events = { .on_summary = on_summary, .on_ended = on_ended, .context = fixture }, .replay = replay,
	};

	for (unsigned i = 0; i < builders; i++) {
		fixture->builders[i].name = names[i];
		fixture->builders[i].sick = sick;
		fixture->builders[i].engine = *(const enum ring_engine *)*state;
		builder_start(&fixture->builders[i]);
		fixture->executors[i] = fixture->builders[i].address;
	}
	fixture->gateway = gateway_thread_start(&options);
	gateway_thread_call(fixture->gateway, take_buildkit, fixture);
	if (!sick)
		gateway_thread_until(fixture->gateway, all_are_ready, &builders);
	return fixture;
}

static struct fixture *begin_with(void **state, unsigned builders, uint32_t slots, uint64_t queue_timeout_ns, bool sick)
{
	return begin_as(state, builders, slots, queue_timeout_ns, sick, REPLAY_OFF);
}

static struct fixture *begin(void **state)
{
	return begin_with(state, 1, 1, 0, false);
}

static struct client *client_of(struct fixture *fixture, unsigned number)
{
	if (!fixture->clients[number])
		fixture->clients[number] = gateway_thread_client(fixture->gateway, NULL);
	return fixture->clients[number];
}

static void leave(struct fixture *fixture, unsigned number)
{
	client_close(fixture->clients[number]);
	fixture->clients[number] = NULL;
}

static bool nothing_is_left(struct gateway_parts *parts, void *context)
{
	struct executors_status executors;
	struct buildkit_status status;

	(void)context;
	buildkit_status(parts->buildkit, &status);
	executors_status(parts->executors, &executors);
	return buildkit_idle(parts->buildkit) && status.bindings == 0 && status.calls == 0 && status.builds == 0 &&
	       executors.slots_busy == 0 && executors.waiting == 0;
}

static void end(struct fixture *fixture)
{
	for (unsigned i = 0; i < 4; i++)
		leave(fixture, i);
	gateway_thread_until(fixture->gateway, nothing_is_left, NULL);
	gateway_thread_stop(fixture->gateway, true);
	for (unsigned i = 0; i < 2; i++)
		if (fixture->builders[i].name)
			builder_stop(&fixture->builders[i]);
	free(fixture);
}

/* ---- a client's calls ---- */

static struct client_call *call_with(struct client *client, const char *path, const char *name, const char *value,
                                     const char *name2, const char *value2)
{
	struct header metadata[2] = { { .name = span_text(name ? name : ""), .value = span_text(value ? value : "") },
	                              { .name = span_text(name2 ? name2 : ""), .value = span_text(value2 ? value2 : "") } };
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, path, metadata, !name ? 0 : !name2 ? 1 : 2), 0);
	return call;
}

/* Nothing goes out before the client waits for something. */
static void turn(struct client *client)
{
	assert_int_equal(client_wait(client, NULL, 0, NULL, 1 * MS) >= 0, 1);
}

static struct client_call *session(struct client *client, const char *uuid, const char *shared_key)
{
	return call_with(client, CONTROL "Session", "x-docker-expose-session-uuid", uuid, "x-docker-expose-session-sharedkey",
	                 shared_key);
}

static struct client_call *solve_of_size(struct client *client, const char *ref, const char *session, bool internal, bool work,
                                         size_t size)
{
	struct client_call *call = call_with(client, CONTROL "Solve", NULL, NULL, NULL, NULL);
	struct buffer out = buffer_heap(20u << 20);

	pb_put_text(&out, 1, ref);
	if (size) {
		uint8_t *definition = calloc(1, size);

		pb_put_bytes(&out, 2, span_make(definition, size));
		free(definition);
	}
	pb_put_text(&out, 5, session);
	if (work)
		pb_put_text(&out, 6, "dockerfile.v0");
	pb_put_bool(&out, 11, internal);
	assert_false(out.failed);
	assert_int_equal(client_send(call, buffer_span(&out), 0), CLIENT_OK);
	client_send_end(call);
	buffer_fini(&out);
	return call;
}

static struct client_call *solve(struct client *client, const char *ref, const char *session)
{
	return solve_of_size(client, ref, session, false, false, 0);
}

static struct client_call *status(struct client *client, const char *ref)
{
	struct client_call *call = call_with(client, CONTROL "Status", NULL, NULL, NULL, NULL);
	uint8_t storage[128];
	struct buffer out = buffer_over(storage, sizeof(storage));

	pb_put_text(&out, 1, ref);
	assert_int_equal(client_send(call, buffer_span(&out), 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

static struct client_call *bridge(struct client *client, const char *method, const char *ref, struct span message)
{
	struct client_call *call;
	char path[128];

	snprintf(path, sizeof(path), BRIDGE "%s", method);
	call = call_with(client, path, "buildkit-controlapi-buildid", ref, NULL, NULL);
	assert_int_equal(client_send(call, message, 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

static const struct span nothing = { .data = (const uint8_t *)"\x0a\x02\x1a\x00", .size = 4 };

static struct client_call *return_nothing(struct client *client, const char *ref)
{
	return bridge(client, "Return", ref, nothing);
}

/* A Return that carries an error, as buildx sends when its build failed. */
static struct client_call *return_failure(struct client *client, const char *ref)
{
	static const uint8_t error[] = { 0x12, 0x02, 0x08, 0x02 };       /* error: google.rpc.Status of code 2 */

	return bridge(client, "Return", ref, span_make(error, sizeof(error)));
}

static void ends(struct client_call *call, enum grpc_status wanted, const char *text)
{
	struct span message;
	const char *said;
	int r;

	do
		r = client_receive(call, &message, 20000 * MS);
	while (r == CLIENT_OK);
	assert_int_equal(r, CLIENT_END);
	assert_int_equal(client_call_status(call, &said), wanted);
	if (text && !strstr(said, text))
		fail_msg("\"%s\" does not have \"%s\"", said, text);
	client_call_close(call);
}

/* The next message has it. */
static void says(struct client_call *call, const char *text)
{
	struct span message;

	assert_int_equal(client_receive(call, &message, 20000 * MS), CLIENT_OK);
	if (!memmem(message.data, message.size, text, strlen(text)))
		fail_msg("a message of %zu bytes without \"%s\"", message.size, text);
}

/* ---- tests ---- */

static void what_is_asked_first_is_answered_here(void **state)
{
	struct fixture *fixture = begin(state);
	static const char *const paths[] = { CONTROL "ListWorkers", CONTROL "Info", BRIDGE "Ping" };
	static const char *const answers[] = { "worker", "buildkit", "frontend.return" };
	struct client_call *call;

	for (unsigned i = 0; i < 3; i++) {
		struct span answer;

		assert_int_equal(client_unary(client_of(fixture, 0), paths[i], (struct span){ 0 }, &call, &answer), CLIENT_OK);
		assert_non_null(memmem(answer.data, answer.size, answers[i], strlen(answers[i])));
		client_call_close(call);
	}
	/* buildx asks after each build whether there is a history: of a Ref that nobody has. */
	call = call_with(client_of(fixture, 0), CONTROL "ListenBuildHistory", NULL, NULL, NULL, NULL);
	assert_int_equal(client_send(call, span_text("\x08\x01\x12\x1f" "buildx-test-history-api-feature\x18\x01"), 0), CLIENT_OK);
	client_send_end(call);
	ends(call, GRPC_OK, NULL);
	/* Nothing was opened for it. */
	builder_until_connections(&fixture->builders[0], 1);
	end(fixture);
}

/* In any order, and what comes late as well. */
static void the_probe_is_answered_here(void **state)
{
	struct fixture *fixture = begin(state);
	struct client *client = client_of(fixture, 0);
	struct client_call *sessions[2], *solves[2], *statuses[2], *returns[2];
	struct span answer;

	sessions[0] = session(client, "s0", "");
	solves[0] = solve_of_size(client, "r0", "s0", true, false, 0);
	statuses[0] = status(client, "r0");
	ends(bridge(client, "Ping", "r0", (struct span){ 0 }), GRPC_OK, NULL);
	returns[0] = return_nothing(client, "r0");
	returns[1] = return_nothing(client, "r1");
	statuses[1] = status(client, "r1");
	sessions[1] = session(client, "s1", "");
	ends(returns[0], GRPC_OK, NULL);
	ends(solves[0], GRPC_OK, NULL);
	assert_int_equal(client_receive(statuses[0], &answer, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(statuses[0], NULL), GRPC_OK);
	client_call_close(statuses[0]);
	solves[1] = solve_of_size(client, "r1", "s1", true, false, 0);
	ends(solves[1], GRPC_OK, NULL);
	ends(returns[1], GRPC_OK, NULL);
	ends(statuses[1], GRPC_OK, NULL);
	ends(status(client, "r1"), GRPC_OK, NULL);
	for (unsigned i = 0; i < 2; i++) {
		client_send_end(sessions[i]);
		ends(sessions[i], GRPC_OK, NULL);
	}
	assert_int_equal(builder_count(&fixture->builders[0], "Solve"), 0);
	assert_int_equal(builder_count(&fixture->builders[0], "Session"), 0);
	assert_int_equal(fixture->ended_count, 0);
	end(fixture);
}

static void build_begin(struct fixture *fixture, unsigned number, const char *ref, struct client_call **running)
{
	struct client *client = client_of(fixture, number);
	char uuid[32];

	snprintf(uuid, sizeof(uuid), "session-%s", ref);
	session(client, uuid, "app:node");
	*running = solve(client, ref, uuid);
}

static void wait_open(struct fixture *fixture, unsigned number, unsigned builder, const char *method, unsigned count)
{
	while (builder_open(&fixture->builders[builder], method) != count)
		turn(client_of(fixture, number));
}

static void a_build_goes_through(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *progress, *running, *held;
	struct client *client = client_of(fixture, 0);

	progress = status(client, "r");
	turn(client);
	held = session(client, "s", "app:node");
	running = solve(client, "r", "s");
	ends(bridge(client, "Solve", "r", span_text("x")), GRPC_OK, NULL);
	says(progress, "sha256:aa");
	ends(return_nothing(client, "r"), GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	/* The gateway's own last word, before the executor's end of it. */
	says(progress, "[sluice] context: 3 files");
	ends(progress, GRPC_OK, NULL);
	client_send_end(held);
	ends(held, GRPC_OK, NULL);
	while (__atomic_load_n(&fixture->ended_count, __ATOMIC_SEQ_CST) == 0)
		turn(client);
	assert_int_equal(fixture->ended.result, BUILD_DONE);
	assert_int_equal(fixture->ended.steps, 2);
	assert_int_equal(fixture->ended.steps_cached, 1);
	assert_string_equal(fixture->ended.directory, "app");
	assert_string_equal(fixture->ended.executor, fixture->executors[0]);
	/* Two seconds later the client has nothing there any more, though it stays. */
	builder_until_connections(&fixture->builders[0], 1);
	/* And builds again. */
	build_begin(fixture, 0, "again", &running);
	wait_open(fixture, 0, 0, "Solve", 1);
	builder_finish(&fixture->builders[0], "again", GRPC_UNKNOWN, "exit code: 7");
	ends(running, GRPC_UNKNOWN, "exit code: 7");
	end(fixture);
}

static void what_waits_goes_in_order(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *first, *running, *progress, *asked;
	struct client *client = client_of(fixture, 1);
	char order[256];

	build_begin(fixture, 0, "first", &first);
	wait_open(fixture, 0, 0, "Solve", 1);
	/* The other way round. */
	asked = bridge(client, "Solve", "second", span_text("x"));
	progress = status(client, "second");
	turn(client);
	running = solve(client, "second", "s");
	turn(client);
	session(client, "shared", "");
	session(client, "s", "app:node");
	says(progress, "[sluice] waiting for an executor, 1st in queue");
	ends(bridge(client, "Ping", "second", (struct span){ 0 }), GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[0], "Solve"), 1);
	leave(fixture, 0);
	says(progress, "[sluice] waiting for an executor, 1st in queue");
	says(progress, "sha256:aa");
	ends(asked, GRPC_OK, NULL);
	builder_order(&fixture->builders[0], order, sizeof(order));
	assert_non_null(strstr(order, "Session Solve Session Session Solve "));
	builder_finish(&fixture->builders[0], "second", GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	ends(progress, GRPC_OK, NULL);
	end(fixture);
}

/* A client that would wait for Status for ever. */
static void who_cancels_in_the_queue_is_let_go(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *first, *running, *progress;
	struct client *client = client_of(fixture, 1);

	build_begin(fixture, 0, "first", &first);
	wait_open(fixture, 0, 0, "Solve", 1);
	build_begin(fixture, 1, "second", &running);
	progress = status(client, "second");
	says(progress, "1st in queue");
	client_call_close(running);
	says(progress, "cancelled");
	ends(progress, GRPC_OK, NULL);
	while (__atomic_load_n(&fixture->ended_count, __ATOMIC_SEQ_CST) == 0)
		turn(client);
	assert_int_equal(fixture->ended.result, BUILD_CANCELLED);
	assert_string_equal(fixture->ended.executor, "");
	builder_finish(&fixture->builders[0], "first", GRPC_OK, NULL);
	ends(first, GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[0], "Solve"), 1);
	end(fixture);
}

static void who_waits_too_long_is_told(void **state)
{
	struct fixture *fixture = begin_with(state, 1, 1, 300 * MS, false);
	struct client_call *first, *running, *progress, *asked;

	build_begin(fixture, 0, "first", &first);
	wait_open(fixture, 0, 0, "Solve", 1);
	build_begin(fixture, 1, "second", &running);
	progress = status(client_of(fixture, 1), "second");
	asked = bridge(client_of(fixture, 1), "Solve", "second", span_text("x"));
	says(progress, "1st in queue");
	ends(running, GRPC_UNAVAILABLE, NULL);
	ends(progress, GRPC_OK, NULL);
	ends(asked, GRPC_UNAVAILABLE, NULL);
	assert_int_equal(fixture->ended.result, BUILD_REFUSED);
	/* buildx returns what it was told. That waits for no executor again, nor does what else is late. */
	ends(return_failure(client_of(fixture, 1), "second"), GRPC_NOT_FOUND, "no such job second");
	ends(bridge(client_of(fixture, 1), "Solve", "second", span_text("x")), GRPC_NOT_FOUND, "no such job second");
	end(fixture);
}

/* What comes before its Solve waits for that, not for ever; and what is held when the Solve goes ends with it. */
static void who_returns_to_no_build_is_told(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *first, *running, *stray, *early, *late;

	build_begin(fixture, 0, "first", &first);
	wait_open(fixture, 0, 0, "Solve", 1);
	stray = return_failure(client_of(fixture, 1), "nobody's");
	early = return_failure(client_of(fixture, 1), "second");
	build_begin(fixture, 1, "second", &running);
	late = bridge(client_of(fixture, 1), "Solve", "second", span_text("x"));
	turn(client_of(fixture, 1));
	client_call_close(running);
	ends(early, GRPC_NOT_FOUND, "no such job second");
	ends(late, GRPC_NOT_FOUND, "no such job second");
	ends(stray, GRPC_NOT_FOUND, "no such job nobody's");
	assert_int_equal(builder_count(&fixture->builders[0], "Bridge/Return"), 0);
	builder_finish(&fixture->builders[0], "first", GRPC_OK, NULL);
	ends(first, GRPC_OK, NULL);
	end(fixture);
}

static void a_lost_executor_ends_its_builds(void **state)
{
	struct fixture *fixture = begin_with(state, 2, 4, 0, false);
	struct client_call *running[2], *progress;
	unsigned at;

	build_begin(fixture, 0, "r", &running[0]);
	progress = status(client_of(fixture, 0), "r");
	says(progress, "sha256:aa");
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	builder_stop(&fixture->builders[at]);
	ends(running[0], GRPC_UNAVAILABLE, fixture->executors[at]);
	ends(progress, GRPC_UNAVAILABLE, fixture->executors[at]);
	/* The next one goes to the other. */
	build_begin(fixture, 0, "again", &running[1]);
	wait_open(fixture, 0, 1 - at, "Solve", 1);
	assert_int_equal(fixture->ended.result, BUILD_LOST);
	builder_finish(&fixture->builders[1 - at], "again", GRPC_OK, NULL);
	ends(running[1], GRPC_OK, NULL);
	end(fixture);
}

/* ---- twins ---- */

/* A daemon takes a Ref once, and keeps it for a while after: the next build of it, by whomever, goes to another. */
static void a_twin_goes_elsewhere(void **state)
{
	struct fixture *fixture = begin_with(state, 2, 4, 0, false);
	struct client_call *running[3], *progress;
	unsigned at;

	build_begin(fixture, 0, "r", &running[0]);
	progress = status(client_of(fixture, 0), "r");
	says(progress, "sha256:aa");
	client_call_close(progress);
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	/* A Status that comes first waits for its own build. */
	progress = status(client_of(fixture, 1), "r");
	turn(client_of(fixture, 1));
	build_begin(fixture, 1, "r", &running[1]);
	wait_open(fixture, 1, 1 - at, "Solve", 1);
	wait_open(fixture, 1, 1 - at, "Status", 1);
	builder_finish(&fixture->builders[1 - at], "r", GRPC_OK, NULL);
	ends(running[1], GRPC_OK, NULL);
	says(progress, "sha256:aa");
	builder_finish(&fixture->builders[at], "r", GRPC_OK, NULL);
	ends(running[0], GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[at], "Session"), 1);
	assert_int_equal(builder_count(&fixture->builders[1 - at], "Session"), 1);
	assert_int_equal(builder_count(&fixture->builders[at], "Status"), 1);
	end(fixture);
}

/* On the connection of the first one, which is still bound to its daemon. */
static void who_tries_again_goes_elsewhere(void **state)
{
	struct fixture *fixture = begin_with(state, 2, 4, 0, false);
	struct client_call *running, *held;
	struct client *client = client_of(fixture, 0);
	unsigned at;

	held = session(client, "s", "app:node");
	running = solve(client, "r", "s");
	while (builder_open(&fixture->builders[0], "Solve") + builder_open(&fixture->builders[1], "Solve") != 1)
		turn(client);
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	builder_finish(&fixture->builders[at], "r", GRPC_UNKNOWN, "exit code: 1");
	ends(running, GRPC_UNKNOWN, NULL);
	running = solve(client, "r", "t");
	session(client, "t", "app:node");
	turn(client);
	client_send_end(held);
	ends(held, GRPC_OK, NULL);
	wait_open(fixture, 0, 1 - at, "Solve", 1);
	builder_finish(&fixture->builders[1 - at], "r", GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	assert_int_equal(builder_count(&fixture->builders[at], "Solve"), 1);
	end(fixture);
}

/* What has no room when the twin comes may have some later; until then it waits where its Ref will be free. */
static void a_twin_waits_for_room_elsewhere(void **state)
{
	struct fixture *fixture = begin_with(state, 2, 2, 0, false);
	struct client_call *running[4], *progress;
	unsigned at;

	build_begin(fixture, 0, "r", &running[0]);
	progress = status(client_of(fixture, 0), "r");
	says(progress, "sha256:aa");
	at = builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1;
	for (unsigned i = 0; i < 2; i++) {
		/* Of no directory: where there is least. One connection takes both slots. */
		running[2 + i] = solve(client_of(fixture, 2), i ? "b" : "a", "");
		wait_open(fixture, 2, 1 - at, "Solve", i + 1);
	}
	build_begin(fixture, 1, "r", &running[1]);
	gateway_thread_until(fixture->gateway, all_slots_are_busy, NULL);
	assert_int_equal(builder_count(&fixture->builders[at], "Solve"), 1);
	builder_finish(&fixture->builders[1 - at], "a", GRPC_OK, NULL);
	ends(running[2], GRPC_OK, NULL);
	while (builder_count(&fixture->builders[1 - at], "Solve") != 3)
		turn(client_of(fixture, 1));
	assert_int_equal(builder_count(&fixture->builders[at], "Session"), 1);
	builder_finish(&fixture->builders[1 - at], "r", GRPC_OK, NULL);
	ends(running[1], GRPC_OK, NULL);
	end(fixture);
}

/* ---- replay ---- */

static bool counts_replays(struct gateway_parts *parts, void *context)
{
	struct buildkit_status status;

	buildkit_status(parts->buildkit, &status);
	return status.replays_total == *(unsigned *)context;
}

/* A build with its first LLBBridge call answered, on `fixture->lost`. `push` NULL: it exports nothing. */
static struct client_call *replay_begin_build(struct fixture *fixture, const char *push, struct client_call **progress)
{
	struct client *client = client_of(fixture, 0);
	struct client_call *call;
	uint8_t storage[256];
	struct buffer out = buffer_over(storage, sizeof(storage));

	session(client, "s", "app:node");
	call = call_with(client, CONTROL "Solve", NULL, NULL, NULL, NULL);
	pb_put_text(&out, 1, "r");
	pb_put_text(&out, 5, "s");
	if (push) {
		size_t mark = pb_begin(&out, 13), pair;

		pb_put_text(&out, 1, "image");
		pair = pb_begin(&out, 2);
		pb_put_text(&out, 1, "push");
		pb_put_text(&out, 2, push);
		pb_end(&out, pair);
		pb_end(&out, mark);
	}
	assert_int_equal(client_send(call, buffer_span(&out), 0), CLIENT_OK);
	client_send_end(call);
	*progress = status(client, "r");
	says(*progress, "sha256:aa");
	fixture->lost = &fixture->builders[builder_open(&fixture->builders[0], "Solve") == 1 ? 0 : 1];
	fixture->other = &fixture->builders[fixture->lost == &fixture->builders[0]];
	ends(bridge(client, "Solve", "r", span_text("x")), GRPC_OK, NULL);
	return call;
}

static struct client_call *return_of(struct fixture *fixture, const char *reference)
{
	uint8_t storage[64];
	struct buffer out = buffer_over(storage, sizeof(storage));
	size_t mark = pb_begin(&out, 1), inner = pb_begin(&out, 3);

	pb_put_text(&out, 1, reference);
	pb_end(&out, inner);
	pb_end(&out, mark);
	return bridge(client_of(fixture, 0), "Return", "r", buffer_span(&out));
}

/* The client goes on with the reference that it was told, and sees one vertex more. */
static void a_lost_build_goes_on_elsewhere(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;
	char order[256], named[64], vertex[2 * ADDRESS_TEXT_MAX + 64];
	unsigned one = 1;

	running = replay_begin_build(fixture, NULL, &progress);
	builder_stop(fixture->lost);
	snprintf(vertex, sizeof(vertex), "[sluice] executor %s lost, replaying on %s", fixture->lost->address,
	         fixture->other->address);
	says(progress, vertex);
	says(progress, "sha256:aa");
	ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
	assert_non_null(strstr(builder_named(fixture->other, named, sizeof(named)), fixture->other->name));
	assert_null(strstr(named, fixture->lost->name));
	assert_non_null(strstr(builder_order(fixture->other, order, sizeof(order)), "Session Solve Status Bridge/Solve Bridge/Return"));
	ends(running, GRPC_OK, NULL);
	says(progress, "[sluice] context: 3 files");
	ends(progress, GRPC_OK, NULL);
	gateway_thread_until(fixture->gateway, counts_replays, &one);
	while (__atomic_load_n(&fixture->ended_count, __ATOMIC_SEQ_CST) == 0)
		turn(client_of(fixture, 0));
	assert_int_equal(fixture->ended.result, BUILD_DONE);
	assert_int_equal(fixture->ended.replays, 1);
	assert_string_equal(fixture->ended.executor, fixture->other->address);
	end(fixture);
}

/* A call that was under way, as one that comes while the build is between two executors, has its answer from the second. */
static void what_was_under_way_is_asked_again(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress, *returned;

	for (unsigned i = 0; i < 2; i++)
		fixture->builders[i].exports = true;
	running = replay_begin_build(fixture, NULL, &progress);
	ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
	builder_stop(fixture->lost);
	returned = bridge(client_of(fixture, 0), "ReadFile", "r", span_text("x"));
	ends(returned, GRPC_OK, NULL);
	builder_until_count(fixture->other, "Bridge/Return", 1);
	builder_finish(fixture->other, "r", GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	client_call_close(progress);
	end(fixture);
}

static void a_replay_that_fails_ends_its_build(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	fixture->other->refuses = "Bridge/Solve";
	builder_stop(fixture->lost);
	ends(running, GRPC_INTERNAL, "the frontend stumbled");
	ends(progress, GRPC_OK, NULL);
	builder_until_open(fixture->other, "Solve", 0);
	while (__atomic_load_n(&fixture->ended_count, __ATOMIC_SEQ_CST) == 0)
		turn(client_of(fixture, 0));
	assert_int_equal(fixture->ended.result, BUILD_FAILED);
	end(fixture);
}

/* Before Return nothing was pushed; after it something may have been. */
static void a_push_is_not_done_twice(void **state)
{
	for (unsigned returned = 0; returned < 2; returned++) {
		struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
		struct client_call *running, *progress;

		for (unsigned i = 0; i < 2; i++)
			fixture->builders[i].exports = true;
		running = replay_begin_build(fixture, "true", &progress);
		if (returned)
			ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
		builder_stop(fixture->lost);
		if (!returned) {
			ends(return_of(fixture, fixture->lost->name), GRPC_OK, NULL);
			builder_finish(fixture->other, "r", GRPC_OK, NULL);
		}
		ends(running, returned ? GRPC_UNAVAILABLE : GRPC_OK, returned ? fixture->lost->address : NULL);
		assert_int_equal(builder_count(fixture->other, "Solve"), !returned);
		client_call_close(progress);
		end(fixture);
	}
}

/* The client has talked to its processes. */
static void a_build_with_containers_is_not_done_again(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	ends(bridge(client_of(fixture, 0), "NewContainer", "r", span_text("x")), GRPC_OK, NULL);
	builder_stop(fixture->lost);
	ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	assert_int_equal(builder_count(fixture->other, "Solve"), 0);
	client_call_close(progress);
	end(fixture);
}

/* More than is kept of a build. */
static void a_build_of_large_requests_is_not_done_again(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;
	struct span large = span_make(calloc(1, REPLAY_BYTES_MAX / 2), REPLAY_BYTES_MAX / 2);

	running = replay_begin_build(fixture, NULL, &progress);
	for (unsigned i = 0; i < 2; i++)
		ends(bridge(client_of(fixture, 0), "Evaluate", "r", large), GRPC_OK, NULL);
	free((void *)large.data);
	builder_stop(fixture->lost);
	ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	client_call_close(progress);
	end(fixture);
}

/* While its build waits for the other executor, and while a call is being repeated there. */
static void a_client_may_vanish_in_a_replay(void **state)
{
	for (unsigned repeating = 0; repeating < 2; repeating++) {
		struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
		struct client_call *progress;

		(void)replay_begin_build(fixture, NULL, &progress);
		fixture->other->hangs = "Bridge/Solve";
		builder_stop(fixture->lost);
		if (repeating)
			builder_until_open(fixture->other, "Bridge/Solve", 1);
		leave(fixture, 0);
		builder_until_open(fixture->other, "Solve", 0);
		end(fixture);
	}
}

/* The other one is lost as well, in the middle of it, before a third is there. */
static void a_replay_may_be_lost_itself(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	fixture->other->hangs = "Bridge/Solve";
	builder_stop(fixture->lost);
	builder_until_open(fixture->other, "Bridge/Solve", 1);
	builder_stop(fixture->other);
	ends(running, GRPC_UNAVAILABLE, fixture->other->address);
	client_call_close(progress);
	end(fixture);
}

static void who_finds_no_other_in_time_is_told(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 1, 300 * MS, false, REPLAY_SAFE);
	struct client_call *running, *progress, *second;

	running = replay_begin_build(fixture, NULL, &progress);
	build_begin(fixture, 1, "second", &second);
	while (builder_open(fixture->other, "Solve") != 1)
		turn(client_of(fixture, 1));
	builder_stop(fixture->lost);
	ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	ends(progress, GRPC_OK, NULL);
	builder_finish(fixture->other, "second", GRPC_OK, NULL);
	ends(second, GRPC_OK, NULL);
	end(fixture);
}

static void without_another_executor_it_is_told_at_once(void **state)
{
	struct fixture *fixture = begin_as(state, 1, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;

	running = replay_begin_build(fixture, NULL, &progress);
	builder_stop(fixture->lost);
	ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	ends(progress, GRPC_UNAVAILABLE, fixture->lost->address);
	end(fixture);
}

/* Each executor is lost in its turn; the build stops to be done again after REPLAYS_MAX times. */
static void a_build_is_lost_so_many_times(void **state)
{
	struct fixture *fixture = begin_as(state, 2, 4, 0, false, REPLAY_SAFE);
	struct client_call *running, *progress;
	unsigned two = 2;

	running = replay_begin_build(fixture, NULL, &progress);
	for (unsigned i = 0; i < REPLAYS_MAX; i++) {
		struct builder *lost = fixture->lost;

		builder_stop(lost);
		builder_until_open(fixture->other, "Solve", 1);
		says(progress, "lost, replaying on");
		says(progress, "sha256:aa");
		builder_start(lost);
		gateway_thread_until(fixture->gateway, all_are_ready, &two);
		fixture->lost = fixture->other;
		fixture->other = lost;
	}
	builder_stop(fixture->lost);
	ends(running, GRPC_UNAVAILABLE, fixture->lost->address);
	client_call_close(progress);
	end(fixture);
}

/* One health check that fails ends no build whose own connection stands. */
static void a_doubted_executor_keeps_its_builds(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *running;
	unsigned none = 0, one = 1;

	build_begin(fixture, 0, "r", &running);
	wait_open(fixture, 0, 0, "Solve", 1);
	builder_set_sick(&fixture->builders[0], true);
	gateway_thread_until(fixture->gateway, all_are_ready, &none);
	builder_set_sick(&fixture->builders[0], false);
	gateway_thread_until(fixture->gateway, all_are_ready, &one);
	builder_finish(&fixture->builders[0], "r", GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	end(fixture);
}

/* `Internal` is the client's word. */
static void an_internal_build_counts(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *running;

	running = solve_of_size(client_of(fixture, 0), "r", "s", true, false, 0);
	session(client_of(fixture, 0), "s", "");
	ends(bridge(client_of(fixture, 0), "Solve", "r", span_text("x")), GRPC_OK, NULL);
	assert_int_equal(builder_open(&fixture->builders[0], "Solve"), 1);
	assert_int_equal(builder_open(&fixture->builders[0], "Session"), 1);
	ends(return_nothing(client_of(fixture, 0), "r"), GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	end(fixture);
}

/* Its definition is longer than the client's window. */
static void a_large_request_is_held_whole(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *first, *running;

	build_begin(fixture, 0, "first", &first);
	wait_open(fixture, 0, 0, "Solve", 1);
	running = solve_of_size(client_of(fixture, 1), "second", "", false, true, 5000000);
	for (unsigned i = 0; i < 20; i++)
		turn(client_of(fixture, 1));
	leave(fixture, 0);
	wait_open(fixture, 1, 0, "Solve", 1);
	while (builder_count(&fixture->builders[0], "Solve") != 2)
		turn(client_of(fixture, 1));
	builder_finish(&fixture->builders[0], "second", GRPC_OK, NULL);
	for (;;) {
		struct span message;
		int r = client_receive(running, &message, 100 * MS);

		if (r == CLIENT_END)
			break;
		builder_finish(&fixture->builders[0], "second", GRPC_OK, NULL);
	}
	assert_int_equal(client_call_status(running, NULL), GRPC_OK);
	client_call_close(running);
	end(fixture);
}

/* Several builds of one connection share its executor, each in a slot of its own, and never wait for each other. */
static void builds_of_one_connection_go_together(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *running[3];
	char ref[16];

	for (unsigned i = 0; i < 3; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		build_begin(fixture, 0, ref, &running[i]);
	}
	wait_open(fixture, 0, 0, "Solve", 3);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		builder_finish(&fixture->builders[0], ref, GRPC_OK, NULL);
		ends(running[i], GRPC_OK, NULL);
	}
	end(fixture);
}

static void before_any_executor_is_ready(void **state)
{
	struct fixture *fixture = begin_with(state, 1, 1, 0, true);
	struct client *client = client_of(fixture, 0);
	struct client_call *call = call_with(client, CONTROL "ListWorkers", NULL, NULL, NULL, NULL), *running;
	struct span answer;

	assert_int_equal(client_send(call, (struct span){ 0 }, 0), CLIENT_OK);
	client_send_end(call);
	assert_int_equal(client_receive(call, &answer, 50 * MS), CLIENT_AGAIN);
	builder_set_sick(&fixture->builders[0], false);
	says(call, "worker");
	ends(call, GRPC_OK, NULL);
	build_begin(fixture, 0, "r", &running);
	wait_open(fixture, 0, 0, "Solve", 1);
	builder_finish(&fixture->builders[0], "r", GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	end(fixture);
}

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
	call = call_with(client, path, NULL, NULL, NULL, NULL);
	assert_int_equal(client_send(call, request, 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

static struct client_call *asks(struct client *client, const char *path)
{
	struct client_call *call = call_with(client, path, NULL, NULL, NULL, NULL);

	assert_int_equal(client_send(call, (struct span){ 0 }, 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

/* And when none ever is: what is asked first is answered within the time that a build may wait, so that its user reads why. */
static void when_no_executor_is_ever_ready(void **state)
{
	struct fixture *fixture = begin_with(state, 1, 1, 300 * MS, true);
	struct client *client = client_of(fixture, 0);
	struct client_call *call = asks(client, CONTROL "ListWorkers");
	struct span answer;

	assert_int_equal(client_receive(call, &answer, 50 * MS), CLIENT_AGAIN);
	ends(call, GRPC_UNAVAILABLE, "no executor is ready: tcp://127.0.0.1:");
	ends(asks(client, CONTROL "Info"), GRPC_FAILED_PRECONDITION, "its health check says that it is not serving");
	end(fixture);
}

static void what_concerns_all_is_asked_of_all(void **state)
{
	static const char *const methods[] = { "DiskUsage", "Prune", "ListenBuildHistory" };
	struct fixture *fixture = begin_with(state, 2, 4, 0, false);
	struct client *client = client_of(fixture, 0);
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
	build_begin(fixture, 0, "r", &running);
	while (builder_open(&fixture->builders[0], "Solve") + builder_open(&fixture->builders[1], "Solve") == 0)
		turn(client);
	at = builder_open(&fixture->builders[0], "Solve") ? 0 : 1;
	other = 1 - at;
	builder_finish(&fixture->builders[at], "r", GRPC_OK, NULL);
	ends(running, GRPC_OK, NULL);
	for (unsigned k = 0; k < 3; k++) {
		client = client_of(fixture, 1 + k % 2);
		call = ask(client, "ListenBuildHistory", span_text("\x12\x01r"));
		assert_true(tells(call, at ? "two" : "one"));
		client_call_close(call);
		ends(ask(client, "UpdateBuildHistory", span_text("\x0a\x01r")), GRPC_OK, NULL);
		call = call_with(client, "/containerd.services.content.v1.Content/Read", NULL, NULL, NULL, NULL);
		assert_int_equal(client_send(call, span_text("digest"), 0), CLIENT_OK);
		client_send_end(call);
		assert_true(tells(call, "digest"));
		client_call_close(call);
	}
	assert_int_equal(builder_count(&fixture->builders[at], "ListenBuildHistory"), 5);
	assert_int_equal(builder_count(&fixture->builders[at], "UpdateBuildHistory"), 3);
	assert_int_equal(builder_count(&fixture->builders[at], "Read"), 3);
	assert_int_equal(builder_count(&fixture->builders[other], "ListenBuildHistory"), 2);
	assert_int_equal(builder_count(&fixture->builders[other], "Read"), 0);
	end(fixture);
}

/* Two bulky streams into one, to a client that rests. */
static void merging_waits_for_the_client(void **state)
{
	struct fixture *fixture = begin_with(state, 2, 4, 0, false);
	struct client_call *call;
	struct span message;
	uint64_t bytes = 0;

	fixture->builders[0].prune_bytes = fixture->builders[1].prune_bytes = 8000000;
	call = ask(client_of(fixture, 0), "Prune", (struct span){ 0 });
	while (client_receive(call, &message, 20000 * MS) == CLIENT_OK) {
		if (bytes / 1000000 != (bytes + message.size) / 1000000)
			usleep(10000);
		bytes += message.size;
	}
	assert_int_equal(client_call_status(call, NULL), GRPC_OK);
	assert_int_equal(bytes, 16000000);
	client_call_close(call);
	/* And one that goes in the middle. */
	call = ask(client_of(fixture, 0), "Prune", (struct span){ 0 });
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	leave(fixture, 0);
	end(fixture);
}

/* At each step of a build, held and under way. */
static void a_client_may_vanish_at_any_moment(void **state)
{
	struct fixture *fixture = begin(state);
	struct client_call *first = NULL;

	for (unsigned held = 0; held < 2; held++) {
		if (held) {
			build_begin(fixture, 0, "first", &first);
			wait_open(fixture, 0, 0, "Solve", 1);
		}
		for (unsigned steps = 0; steps < 12; steps++) {
			struct client *client = client_of(fixture, 1);

			if (steps > 0)
				session(client, "s", "app:node");
			if (steps > 2)
				solve(client, "r", "s");
			if (steps > 4)
				status(client, "r");
			if (steps > 6)
				bridge(client, "Solve", "r", span_text("x"));
			if (steps > 8)
				return_nothing(client, "r");
			if (steps > 10)
				status(client, "nobody's");
			for (unsigned i = 0; i < steps % 3; i++)
				turn(client);
			leave(fixture, 1);
		}
	}
	end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(what_is_asked_first_is_answered_here),
		BOTH(the_probe_is_answered_here),
		BOTH(a_build_goes_through),
		BOTH(what_waits_goes_in_order),
		BOTH(who_cancels_in_the_queue_is_let_go),
		BOTH(who_waits_too_long_is_told),
		BOTH(who_returns_to_no_build_is_told),
		BOTH(a_lost_executor_ends_its_builds),
		BOTH(a_twin_goes_elsewhere),
		BOTH(who_tries_again_goes_elsewhere),
		BOTH(a_twin_waits_for_room_elsewhere),
		BOTH(a_lost_build_goes_on_elsewhere),
		BOTH(what_was_under_way_is_asked_again),
		BOTH(a_replay_that_fails_ends_its_build),
		BOTH(a_push_is_not_done_twice),
		BOTH(a_build_with_containers_is_not_done_again),
		BOTH(a_build_of_large_requests_is_not_done_again),
		BOTH(a_client_may_vanish_in_a_replay),
		BOTH(a_replay_may_be_lost_itself),
		BOTH(who_finds_no_other_in_time_is_told),
		BOTH(without_another_executor_it_is_told_at_once),
		BOTH(a_build_is_lost_so_many_times),
		BOTH(a_doubted_executor_keeps_its_builds),
		BOTH(an_internal_build_counts),
		BOTH(a_large_request_is_held_whole),
		BOTH(builds_of_one_connection_go_together),
		BOTH(before_any_executor_is_ready),
		BOTH(when_no_executor_is_ever_ready),
		BOTH(what_concerns_all_is_asked_of_all),
		BOTH(merging_waits_for_the_client),
		BOTH(a_client_may_vanish_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
