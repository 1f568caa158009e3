/* The order of things is that of research on the wire: buildx v0.36 with buildkitd v0.32. */
#include "perf/builds_core/client.h"

#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/session/nest.h"
#include "gateway/session/session_health.h"
#include "proto/buildkit.h"
#include "proto/buildkit_solve.h"
#include "proto/pb.h"

#define ID_BYTES       25u               /* of a session, of a build */
#define MESSAGE_MAX    (16u << 20)
#define REQUEST_MAX    8192u
#define PING_TIMEOUT_NS   15000000000u
#define EXPORT_TIMEOUT_NS 30000000000u
#define EXPORT_BYTES   5400u             /* of spans, which nobody here reads */
#define SESSION_METHODS_MAX 12u

#define EXPORT_PATH "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

/* The calls of a client, each made once, but for the last. */
enum request_kind {
	WORKERS_FIRST, WORKERS_SECOND, PROBE_STATUS, PROBE_SOLVE, PROBE_PING, PROBE_RETURN, WORKERS_THIRD,
	STATUS, SOLVE, PING, LLB_SOLVE, RETURN, HISTORY, EXPORT, SMALL,
	REQUEST_KINDS,
};

static const struct request_type {
	const char *path;
	bool in_build;                   /* names it in a header field */
	uint64_t timeout_ns;
} request_types[REQUEST_KINDS] = {
	[WORKERS_FIRST] = { BUILDKIT_LIST_WORKERS },
	[WORKERS_SECOND] = { BUILDKIT_LIST_WORKERS },
	[PROBE_STATUS] = { BUILDKIT_STATUS },
	[PROBE_SOLVE] = { BUILDKIT_SOLVE },
	[PROBE_PING] = { BUILDKIT_LLB_PING, true, PING_TIMEOUT_NS },
	[PROBE_RETURN] = { BUILDKIT_LLB_RETURN, true },
	[WORKERS_THIRD] = { BUILDKIT_LIST_WORKERS },
	[STATUS] = { BUILDKIT_STATUS },
	[SOLVE] = { BUILDKIT_SOLVE },
	[PING] = { BUILDKIT_LLB_PING, true, PING_TIMEOUT_NS },
	[LLB_SOLVE] = { BUILDKIT_LLB_SOLVE, true },
	[RETURN] = { BUILDKIT_LLB_RETURN, true },
	[HISTORY] = { BUILDKIT_LISTEN_BUILD_HISTORY },
	[EXPORT] = { EXPORT_PATH, false, EXPORT_TIMEOUT_NS },
	[SMALL] = { BUILDKIT_LLB_PING, true, PING_TIMEOUT_NS },
};

/* What an answer sets off is done by client_step(): each phase waits for its calls to end. */
enum client_phase {
	CLIENT_LOOKING,                  /* ListWorkers, twice */
	CLIENT_PROBING,
	CLIENT_PROBED,                   /* the probe's session ends */
	CLIENT_LOOKING_AGAIN,
	CLIENT_BUILDING,
	CLIENT_BUILT,                    /* the session ends */
	CLIENT_LEAVING,                  /* history, traces */
	CLIENT_CLOSING,
};

struct request {
	struct client *client;
	enum request_kind kind;
	struct call call;
	bool open, ended;
	uint64_t asked_ns;
};

struct client {
	struct client_config config;
	enum client_phase phase;
	struct conn *conn;
	struct nest session;
	char probe_ref[ID_BYTES + 1], ref[ID_BYTES + 1], session_id[ID_BYTES + 1];
	struct request requests[REQUEST_KINDS];
	unsigned sending, health_answers;        /* calls inside the session */
	bool opened, ran, running;       /* ran: it was running at some time */
	struct buffer result;                    /* of LLBBridge/Solve, which Return says again */
	char failure[2 * CLIENT_WHY_MAX];
};

static void client_step(struct client *client);
static void client_join(struct client *client);

static void client_fail(struct client *client, const char *what, const char *why)
{
	if (client->failure[0] || !client->conn)
		return;
	snprintf(client->failure, sizeof(client->failure), "%s: %s", what, why);
	conn_close(client->conn, "failed");
}

/* As moby's identity.NewID(): base 36. */
static void make_id(struct client *client, char id[static ID_BYTES + 1])
{
	uint8_t random[ID_BYTES];

	ring_random(client->config.ring, random, sizeof(random));
	for (size_t i = 0; i < ID_BYTES; i++)
		id[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[random[i] % 36];
	id[ID_BYTES] = '\0';
}

/* ---- requests ---- */

static void put_attribute(struct buffer *out, uint32_t number, const char *key, const char *value)
{
	struct message_pair pair = { span_text(key), span_text(value) };

	message_put_pair(out, number, &pair);
}

static void put_request(struct client *client, enum request_kind kind, struct buffer *out)
{
	uint8_t *spans;
	size_t mark;

	switch (kind) {
	case PROBE_STATUS:
	case STATUS:
		pb_put_text(out, 1, kind == STATUS ? client->ref : client->probe_ref);
		break;
	case PROBE_SOLVE:
		pb_put_text(out, 1, client->probe_ref);
		pb_put_text(out, 5, client->session_id);
		pb_put_bytes_always(out, 8, (struct span){ 0 });
		pb_put_bool(out, 11, true);
		break;
	case SOLVE:
		pb_put_text(out, 1, client->ref);
		pb_put_text(out, 5, client->session_id);
		put_attribute(out, 7, "filename", "Dockerfile");
		pb_put_bytes_always(out, 8, (struct span){ 0 });
		break;
	case PROBE_RETURN:
		mark = pb_begin(out, 1);
		pb_end(out, pb_begin(out, 3));   /* a reference to nothing */
		pb_end(out, mark);
		break;
	case LLB_SOLVE:
		pb_put_text(out, 2, "dockerfile.v0");
		put_attribute(out, 3, "filename", "Dockerfile");
		pb_put_bool(out, 5, true);
		pb_put_bool(out, 6, true);
		break;
	case RETURN:
		pb_put_bytes_always(out, 1, buffer_span(&client->result));
		break;
	case HISTORY:
		pb_put_bool(out, 1, true);
		pb_put_text(out, 2, "buildx-test-history-api-feature");
		pb_put_bool(out, 3, true);
		break;
	case EXPORT:
		spans = buffer_reserve(out, EXPORT_BYTES);
		memset(spans, 0, EXPORT_BYTES);
		spans[0] = 1 << 3 | PB_BYTES;
		CHECK(pb_varint_write(spans + 1, EXPORT_BYTES - 3) == spans + 3);
		out->size += EXPORT_BYTES;
		break;
	default:
		break;
	}
}

static void request_on_message(struct call *call, struct span message)
{
	struct request *request = call->owner;
	struct buildkit_llb_solve_response solved;

	if (request->kind == LLB_SOLVE && message_decode(&buildkit_llb_solve_response_type, message, &solved))
		buffer_put(&request->client->result, solved.result.data, solved.result.size);
}

static void request_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct request *request = call->owner;
	struct client *client = request->client;
	char why[CLIENT_WHY_MAX];

	request->open = false;
	request->ended = true;
	call_fini(call);
	if (status != GRPC_OK) {
		snprintf(why, sizeof(why), "%s: %.*s", grpc_status_name(status), (int)message.size, (const char *)message.data);
		client_fail(client, request_types[request->kind].path, why);
		return;
	}
	if (request->kind == SMALL)
		client->config.events->on_pinged(client, clock_now_ns() - request->asked_ns);
	client_step(client);
}

static void request_on_end(struct call *call)
{
}

static const struct call_events request_events = { .on_message = request_on_message, .on_end = request_on_end,
	                                           .on_closed = request_on_closed };

static void ask(struct client *client, enum request_kind kind)
{
	const struct request_type *type = &request_types[kind];
	struct request *request = &client->requests[kind];
	bool probe = kind == PROBE_PING || kind == PROBE_RETURN;
	uint8_t storage[REQUEST_MAX];
	struct buffer message = buffer_over(storage, sizeof(storage));
	struct header fields[2] = {
		{ .name = span_text("traceparent"), .value = span_text("00-74c33c4a0afe8e2863821275377a8d28-f0c94f0bba0b29d9-01") },
		{ .name = span_text("buildkit-controlapi-buildid"), .value = span_text(probe ? client->probe_ref : client->ref) },
	};
	size_t skip = kind == EXPORT;

	put_request(client, kind, &message);
	CHECK(!message.failed && !request->open);
	*request = (struct request){ .client = client, .kind = kind, .asked_ns = clock_now_ns() };
	if (call_start(&request->call, conn_h2(client->conn), type->path, span_text(client->config.address->host), type->timeout_ns,
	               fields + skip, 1u + type->in_build - skip, MESSAGE_MAX, &request_events, request) < 0) {
		client_fail(client, type->path, "no stream could be opened");
		return;
	}
	request->open = true;
	call_send(&request->call, span_make(message.data, message.size), 0);
	call_end(&request->call);
}

static bool ended(const struct client *client, enum request_kind kind)
{
	return client->requests[kind].ended;
}

static bool asked(const struct client *client, enum request_kind kind)
{
	return client->requests[kind].open || client->requests[kind].ended;
}

/* ---- the session ---- */

static int session_on_stream(struct nest *nest, struct stream *stream, const struct h2_request *head)
{
	struct client *client = nest->owner;
	struct grpc_request request;

	if (!grpc_request_parse(&request, head))
		return -1;
	if (!client->opened) {
		client->opened = true;
		client->config.events->on_opened(client, clock_now_ns());
	}
	if (span_is(request.path, CONTEXT_DIFFCOPY_PATH))
		return context_send(&client->config.context, stream, &request, &client->sending);
	if (span_is(request.path, HEALTH_CHECK_PATH))
		return health_answer(stream, &request, &client->health_answers);
	return -1;
}

static void session_on_closed(struct nest *nest, enum grpc_status status, struct span message)
{
	struct client *client = nest->owner;

	if (client->phase != CLIENT_PROBED && client->phase != CLIENT_BUILT)
		client_fail(client, "Session", "it ended early");
	client_step(client);
	client_join(client);
}

static const struct nest_events session_events = { .on_stream = session_on_stream, .on_closed = session_on_closed };

static void open_session(struct client *client, bool with_files)
{
	static const char *const methods[SESSION_METHODS_MAX] = {
		"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch",
		"/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.FileSync/TarStream", "/moby.sshforward.v1.SSH/CheckAgent",
		"/moby.filesync.v1.Auth/Credentials", "/moby.filesync.v1.Auth/FetchToken",
		"/moby.filesync.v1.Auth/GetTokenAuthority", "/moby.filesync.v1.Auth/VerifyTokenAuthority",
		"/moby.buildkit.secrets.v1.Secrets/GetSecret", "/moby.sshforward.v1.SSH/ForwardAgent",
	};
	struct nest_config config = { .ring = client->config.ring, .events = &session_events, .owner = client };
	struct header fields[SESSION_METHODS_MAX + 3];
	size_t count = 0, exposed = with_files ? SESSION_METHODS_MAX : 3;

	make_id(client, client->session_id);
	fields[count++] = (struct header){ .name = span_text("x-docker-expose-session-uuid"),
		                           .value = span_text(client->session_id) };
	fields[count++] = (struct header){ .name = span_text("x-docker-expose-session-sharedkey"),
		                           .value = span_text(with_files ? client->config.shared_key : "") };
	for (size_t i = 0; i < exposed; i++)
		fields[count++] = (struct header){ .name = span_text("x-docker-expose-session-grpc-method"),
			                           .value = span_text(methods[i]) };
	fields[count++] = (struct header){ .name = span_text("traceparent"),
		                           .value = span_text("00-74c33c4a0afe8e2863821275377a8d28-f0c94f0bba0b29d9-01") };
	if (nest_start(&client->session, &config, conn_h2(client->conn), BUILDKIT_SESSION, span_text(client->config.address->host),
	               fields, count) < 0)
		client_fail(client, "Session", "no stream could be opened");
}

/* ---- one thing after the other ---- */

static void client_stop(struct client *client)
{
	if (client->running)
		client->config.events->on_stopped(client);
	client->running = false;
}

static void step_probe(struct client *client)
{
	if (ended(client, PROBE_PING) && !asked(client, PROBE_RETURN))
		ask(client, PROBE_RETURN);
	if (ended(client, PROBE_SOLVE) && ended(client, PROBE_STATUS) && ended(client, PROBE_RETURN)) {
		client->phase = CLIENT_PROBED;
		call_end(&client->session.call);
	}
}

static void step_build(struct client *client)
{
	if (ended(client, PING) && !asked(client, LLB_SOLVE))
		ask(client, LLB_SOLVE);
	if (ended(client, LLB_SOLVE) && !asked(client, RETURN))
		ask(client, RETURN);
	if (ended(client, RETURN) && !client->ran) {
		client->ran = true;
		client->running = true;
		client->config.events->on_running(client);
	}
	if (ended(client, SOLVE) && ended(client, STATUS) && ended(client, RETURN) && !client->requests[SMALL].open) {
		client->phase = CLIENT_BUILT;
		client_stop(client);
		call_end(&client->session.call);
	}
}

static void begin(struct client *client, enum client_phase phase)
{
	bool build = phase == CLIENT_BUILDING;

	client->phase = phase;
	make_id(client, build ? client->ref : client->probe_ref);
	ask(client, build ? STATUS : PROBE_STATUS);
	open_session(client, build);
	ask(client, build ? SOLVE : PROBE_SOLVE);
	ask(client, build ? PING : PROBE_PING);
}

static void client_step(struct client *client)
{
	if (client->failure[0] || !client->conn)
		return;
	switch (client->phase) {
	case CLIENT_LOOKING:
		if (!asked(client, WORKERS_SECOND))
			ask(client, WORKERS_SECOND);
		else if (ended(client, WORKERS_SECOND))
			begin(client, CLIENT_PROBING);
		break;
	case CLIENT_PROBING:
		step_probe(client);
		break;
	case CLIENT_PROBED:
		if (nest_in_use(&client->session))
			break;
		client->phase = CLIENT_LOOKING_AGAIN;
		ask(client, WORKERS_THIRD);
		break;
	case CLIENT_LOOKING_AGAIN:
		begin(client, CLIENT_BUILDING);
		break;
	case CLIENT_BUILDING:
		step_build(client);
		break;
	case CLIENT_BUILT:
		if (nest_in_use(&client->session))
			break;
		client->phase = CLIENT_LEAVING;
		ask(client, HISTORY);
		break;
	case CLIENT_LEAVING:
		if (!asked(client, EXPORT)) {
			ask(client, EXPORT);
		} else if (ended(client, EXPORT)) {
			client->phase = CLIENT_CLOSING;
			conn_close(client->conn, "done");
		}
		break;
	case CLIENT_CLOSING:
		break;
	}
}

/* ---- life ---- */

/* The session's last turn may come after the connection has gone. */
static void client_join(struct client *client)
{
	if (client->conn || nest_in_use(&client->session))
		return;
	CHECK(!client->sending && !client->health_answers);
	client_stop(client);
	client->config.events->on_closed(client, client->failure[0] ? client->failure : NULL);
	buffer_fini(&client->result);
	free(client);
}

static void client_on_ready(struct conn *conn)
{
	ask(conn_owner(conn), WORKERS_FIRST);
}

static void client_on_conn_closed(struct conn *conn, const char *reason)
{
	struct client *client = conn_owner(conn);

	if (client->phase != CLIENT_CLOSING && !client->failure[0])
		snprintf(client->failure, sizeof(client->failure), "the connection: %s", reason);
	client->conn = NULL;
	client_join(client);
}

int client_start(struct client **out, const struct client_config *config)
{
	static const struct conn_events events = { .on_ready = client_on_ready, .on_closed = client_on_conn_closed };
	static const struct h2_events no_streams = { 0 };
	struct conn_config conn = { .h2.events = &no_streams, .events = &events, .resolved = config->resolved, .resolved_count = 1 };
	struct client *client = calloc(1, sizeof(*client));
	char why[CLIENT_WHY_MAX];
	int r;

	CHECK(client);
	client->config = *config;
	client->result = buffer_heap(MESSAGE_MAX);
	conn.owner = client;
	r = conn_connect(&client->conn, config->ring, config->address, config->tls, &conn, why, sizeof(why));
	if (r < 0) {
		free(client);
		return r;
	}
	*out = client;
	return 0;
}

const struct client_config *client_config(const struct client *client)
{
	return &client->config;
}

bool client_ping(struct client *client)
{
	if (!client->running || client->requests[SMALL].open || client->failure[0])
		return false;
	ask(client, SMALL);
	return true;
}

void client_kill(struct client *client)
{
	client_fail(client, "the build", "interrupted");
}
