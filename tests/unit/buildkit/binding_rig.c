#include "tests/unit/buildkit/binding_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/pb.h"

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

bool rig_all_are_ready(struct gateway_parts *parts, void *context)
{
	struct executors_status status;

	executors_status(parts->executors, &status);
	return status.executors_ready == *(unsigned *)context;
}

static struct fixture *begin_builders(void **state, unsigned builders, bool sick)
{
	/* As long as references, which their answers to LLBBridge/Solve then are. */
	static const char *const names[] = { "one-reference-of-an-answe", "two-reference-of-an-answe" };
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	for (unsigned i = 0; i < builders; i++) {
		fixture->builders[i].name = names[i];
		fixture->builders[i].sick = sick;
		fixture->builders[i].engine = *(const enum ring_engine *)*state;
		builder_start(&fixture->builders[i]);
		fixture->executors[i] = fixture->builders[i].address;
	}
	return fixture;
}

static void begin_gateway(struct fixture *fixture, struct gateway_thread_options options)
{
	options.buildkit = fixture->executors;
	options.build_events = (struct build_events){ .on_summary = on_summary, .on_ended = on_ended, .context = fixture };
	fixture->gateway = gateway_thread_start(&options);
	gateway_thread_call(fixture->gateway, take_buildkit, fixture);
}

struct fixture *rig_begin_as(void **state, unsigned builders, uint32_t slots, uint64_t queue_timeout_ns, bool sick,
                             enum replay_policy replay)
{
	struct fixture *fixture = begin_builders(state, builders, sick);

	begin_gateway(fixture, (struct gateway_thread_options){
		.slots = slots, .queue_timeout_ns = queue_timeout_ns, .replay = replay,
	});
	if (!sick)
		gateway_thread_until(fixture->gateway, rig_all_are_ready, &builders);
	return fixture;
}

static bool is_spawnable(void *context, const char *tenant, bool waiting)
{
	return !__atomic_load_n(&((struct fixture *)context)->barren, __ATOMIC_SEQ_CST);
}

struct fixture *rig_begin_spawnable(void **state, unsigned builders, uint64_t queue_timeout_ns)
{
	struct fixture *fixture = begin_builders(state, builders, false);

	begin_gateway(fixture, (struct gateway_thread_options){
		.spawnable = is_spawnable, .spawnable_context = fixture, .queue_timeout_ns = queue_timeout_ns,
	});
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &builders);
	return fixture;
}

uint16_t rig_port(const struct fixture *fixture, unsigned builder)
{
	return (uint16_t)atoi(strrchr(fixture->builders[builder].address, ':') + 1);
}

struct fixture *rig_begin_behind_impostor(void **state, struct impostor *impostor)
{
	struct fixture *fixture = begin_builders(state, 2, false);
	unsigned one = 1;

	builder_set_sick(&fixture->builders[1], true);
	impostor_serve(impostor, rig_port(fixture, 0));
	snprintf(fixture->behind, sizeof(fixture->behind), "unix://%s", impostor->path);
	fixture->executors[0] = fixture->behind;
	begin_gateway(fixture, (struct gateway_thread_options){ .slots = 4, .replay = REPLAY_SAFE });
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &one);
	return fixture;
}

struct fixture *rig_begin_behind(void **state, struct proxy *proxy)
{
	struct fixture *fixture = begin_builders(state, 1, false);
	unsigned one = 1;

	proxy_start(proxy, rig_port(fixture, 0), 1);
	snprintf(fixture->behind, sizeof(fixture->behind), "tcp://127.0.0.1:%u", proxy->port);
	fixture->executors[0] = fixture->behind;
	begin_gateway(fixture, (struct gateway_thread_options){ .slots = 1, .replay = REPLAY_OFF });
	gateway_thread_until(fixture->gateway, rig_all_are_ready, &one);
	return fixture;
}

struct fixture *rig_begin_with(void **state, unsigned builders, uint32_t slots, uint64_t queue_timeout_ns, bool sick)
{
	return rig_begin_as(state, builders, slots, queue_timeout_ns, sick, REPLAY_OFF);
}

struct fixture *rig_begin(void **state)
{
	return rig_begin_with(state, 1, 1, 0, false);
}

struct client *rig_client_of(struct fixture *fixture, unsigned number)
{
	if (!fixture->clients[number])
		fixture->clients[number] = gateway_thread_client(fixture->gateway, NULL);
	return fixture->clients[number];
}

void rig_leave(struct fixture *fixture, unsigned number)
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

void rig_end(struct fixture *fixture)
{
	for (unsigned i = 0; i < 4; i++)
		rig_leave(fixture, i);
	gateway_thread_until(fixture->gateway, nothing_is_left, NULL);
	gateway_thread_stop(fixture->gateway, true);
	for (unsigned i = 0; i < 2; i++)
		if (fixture->builders[i].name)
			builder_stop(&fixture->builders[i]);
	free(fixture);
}

/* ---- a client's calls ---- */

struct client_call *rig_call(struct client *client, const char *path, const char *name, const char *value,
                             const char *name2, const char *value2)
{
	struct header metadata[2] = { { .name = span_text(name ? name : ""), .value = span_text(value ? value : "") },
	                              { .name = span_text(name2 ? name2 : ""), .value = span_text(value2 ? value2 : "") } };
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, path, metadata, !name ? 0 : !name2 ? 1 : 2), 0);
	return call;
}

void rig_turn(struct client *client)
{
	assert_int_equal(client_wait(client, NULL, 0, NULL, 1 * MS) >= 0, 1);
}

void rig_until_ended(struct fixture *fixture, unsigned number)
{
	while (__atomic_load_n(&fixture->ended_count, __ATOMIC_SEQ_CST) == 0)
		rig_turn(rig_client_of(fixture, number));
}

struct client_call *rig_session(struct client *client, const char *uuid, const char *shared_key)
{
	return rig_call(client, CONTROL "Session", "x-docker-expose-session-uuid", uuid, "x-docker-expose-session-sharedkey",
	                shared_key);
}

struct client_call *rig_solve_of_size(struct client *client, const char *ref, const char *session, bool internal, bool work,
                                      size_t size)
{
	struct client_call *call = rig_call(client, CONTROL "Solve", NULL, NULL, NULL, NULL);
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

struct client_call *rig_solve(struct client *client, const char *ref, const char *session)
{
	return rig_solve_of_size(client, ref, session, false, false, 0);
}

struct client_call *rig_status(struct client *client, const char *ref)
{
	struct client_call *call = rig_call(client, CONTROL "Status", NULL, NULL, NULL, NULL);
	uint8_t storage[128];
	struct buffer out = buffer_over(storage, sizeof(storage));

	pb_put_text(&out, 1, ref);
	assert_int_equal(client_send(call, buffer_span(&out), 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

struct client_call *rig_bridge(struct client *client, const char *method, const char *ref, struct span message)
{
	struct client_call *call;
	char path[128];

	snprintf(path, sizeof(path), BRIDGE "%s", method);
	call = rig_call(client, path, "buildkit-controlapi-buildid", ref, NULL, NULL);
	assert_int_equal(client_send(call, message, 0), CLIENT_OK);
	client_send_end(call);
	return call;
}

static const struct span nothing = { .data = (const uint8_t *)"\x0a\x02\x1a\x00", .size = 4 };

struct client_call *rig_return_nothing(struct client *client, const char *ref)
{
	return rig_bridge(client, "Return", ref, nothing);
}

struct client_call *rig_return_failure(struct client *client, const char *ref)
{
	static const uint8_t error[] = { 0x12, 0x02, 0x08, 0x02 };       /* error: google.rpc.Status of code 2 */

	return rig_bridge(client, "Return", ref, span_make(error, sizeof(error)));
}

void rig_ends(struct client_call *call, enum grpc_status wanted, const char *text)
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

void rig_says(struct client_call *call, const char *text)
{
	struct span message;

	assert_int_equal(client_receive(call, &message, 20000 * MS), CLIENT_OK);
	if (!memmem(message.data, message.size, text, strlen(text)))
		fail_msg("a message of %zu bytes without \"%s\"", message.size, text);
}

/* ---- tests ---- */

void rig_build(struct fixture *fixture, unsigned number, const char *ref, struct client_call **running)
{
	struct client *client = rig_client_of(fixture, number);
	char uuid[32];

	snprintf(uuid, sizeof(uuid), "session-%s", ref);
	rig_session(client, uuid, "app:node");
	*running = rig_solve(client, ref, uuid);
}

void rig_wait_open(struct fixture *fixture, unsigned number, unsigned builder, const char *method, unsigned count)
{
	while (builder_open(&fixture->builders[builder], method) != count)
		rig_turn(rig_client_of(fixture, number));
}
