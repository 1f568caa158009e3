/* Calls, and what each of them means to the build or session that it names. */
#include "perf/builds_core/served.h"

#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/session/nest.h"
#include "gateway/session/session_health.h"
#include "perf/builds_core/receiving.h"
#include "proto/buildkit.h"
#include "proto/buildkit_solve.h"
#include "proto/buildkit_status.h"
#include "proto/pb.h"

#define NAME_BYTES     64u               /* ids of builds and of sessions */
#define MESSAGE_MAX    (16u << 20)
#define ANSWER_MAX     8192u
#define TICK_NS        1000000000u       /* between two lines of progress */
#define CHECK_NS       5000000000u       /* between two health checks of a session: session/grpc.go */
#define CHECK_TIMEOUT_NS 15000000000u
#define DEFINITION_BYTES 3400u           /* of a result's, as an ordinary Dockerfile has it */
#define CAPABILITIES   90u               /* that a Pong lists */

#define VERTEX "sha256:10adcafe00000000000000000000000000000000000000000000000000000000"

enum served_kind { WORKERS, INFO, HEALTH, HISTORY, EXPORT, SOLVE, STATUS, PING, LLB_SOLVE, RETURN };

struct session {
	struct served *served;
	char id[NAME_BYTES];
	struct nest nest;
	struct health_probe probe;
	bool ended, probe_stopped;
	struct list link;
};

enum build_phase {
	BUILD_WAITING,                   /* for LLBBridge/Solve, or for the Return of a probe; and for its session */
	BUILD_RECIPE,                    /* the Dockerfile comes */
	BUILD_IGNORES,                   /* the .dockerignore comes */
	BUILD_SOLVED,                    /* the client is to Return */
	BUILD_CONTEXT,                   /* the context comes */
	BUILD_HELD,
	BUILD_ENDED,
};

struct build {
	struct served *served;
	char ref[NAME_BYTES], session[NAME_BYTES];
	enum build_phase phase;
	struct asked *solve, *status, *llb;      /* their calls; NULL: not there, or gone */
	unsigned calls;                          /* all that name it */
	struct receiving receiving;
	struct op tick;
	uint64_t held_until_ns;
	struct list link, waits;                 /* waits: for its session, which has not come */
};

struct asked {
	struct served *served;
	enum served_kind kind;
	struct call call;
	char ref[NAME_BYTES];                 /* from the header field */
	struct build *build;                     /* NULL: none is named, or not yet */
};

static void build_step(struct build *build);

/* ---- names ---- */

static void take_name(char name[static NAME_BYTES], struct span text)
{
	snprintf(name, NAME_BYTES, "%.*s", (int)text.size, (const char *)text.data);
}

static size_t bucket_of(const char *name)
{
	uint64_t hash = 14695981039346656037u;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 1099511628211u;
	return hash % SERVED_BUCKETS;
}

static struct session *session_find(struct served *served, const char *id)
{
	list_for_each(link, &served->sessions[bucket_of(id)]) {
		struct session *session = container_of(link, struct session, link);

		if (strcmp(session->id, id) == 0)
			return session;
	}
	return NULL;
}

static struct build *build_find(struct served *served, const char *ref)
{
	list_for_each(link, &served->builds[bucket_of(ref)]) {
		struct build *build = container_of(link, struct build, link);

		if (strcmp(build->ref, ref) == 0)
			return build;
	}
	return NULL;
}

/* ---- answers ---- */

static void put_version(struct buffer *out, uint32_t number)
{
	size_t mark = pb_begin(out, number);

	pb_put_text(out, 1, "github.com/moby/buildkit");
	pb_put_text(out, 2, "v0.32.2");
	pb_put_text(out, 3, "0000000000000000000000000000000000000000");
	pb_end(out, mark);
}

static void put_worker(struct buffer *out, uint32_t number)
{
	static const char *const labels[][2] = {
		{ "org.mobyproject.buildkit.worker.executor", "oci" }, { "org.mobyproject.buildkit.worker.hostname", "stand-in" },
		{ "org.mobyproject.buildkit.worker.network", "host" }, { "org.mobyproject.buildkit.worker.snapshotter", "overlayfs" },
		{ "org.mobyproject.buildkit.worker.selinux.enabled", "false" },
		{ "org.mobyproject.buildkit.worker.oci.process-mode", "sandbox" },
	};
	size_t mark = pb_begin(out, number), platform;

	pb_put_text(out, 1, "standinworker000000000000");
	for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++)
		message_put_pair(out, 2, &(struct message_pair){ span_text(labels[i][0]), span_text(labels[i][1]) });
	platform = pb_begin(out, 3);
	pb_put_text(out, 1, "amd64");
	pb_put_text(out, 2, "linux");
	pb_end(out, platform);
	put_version(out, 5);
	pb_end(out, mark);
}

static void put_pong(struct buffer *out)
{
	char name[64];

	for (unsigned i = 0; i < CAPABILITIES; i++) {
		size_t mark = pb_begin(out, i % 3 ? 2 : 1);

		snprintf(name, sizeof(name), "stand.in.capability.%u", i);
		pb_put_text(out, 1, name);
		pb_put_bool(out, 2, true);
		pb_end(out, mark);
	}
	put_worker(out, 3);
}

static void put_result(struct buffer *out, const struct build *build)
{
	size_t result = pb_begin(out, 3), ref = pb_begin(out, 3), definition;
	uint8_t *bytes;

	pb_put_text(out, 1, build->ref);
	definition = pb_begin(out, 2);
	bytes = buffer_reserve(out, DEFINITION_BYTES);
	CHECK(bytes);
	memset(bytes, 0x5a, DEFINITION_BYTES);
	bytes[0] = 1 << 3 | PB_BYTES;
	CHECK(pb_varint_write(bytes + 1, DEFINITION_BYTES - 3) == bytes + 3);
	out->size += DEFINITION_BYTES;
	pb_end(out, definition);
	pb_end(out, ref);
	pb_end(out, result);
}

static void answer(struct asked *asked, void (*put)(struct buffer *out))
{
	uint8_t storage[ANSWER_MAX];
	struct buffer out = buffer_over(storage, sizeof(storage));

	if (put)
		put(&out);
	CHECK(!out.failed);
	call_send(&asked->call, buffer_span(&out), 0);
	call_finish(&asked->call, GRPC_OK, NULL);
}

static void put_workers(struct buffer *out) { put_worker(out, 1); }
static void put_info(struct buffer *out) { put_version(out, 1); }
static void put_serving(struct buffer *out) { pb_put_varint(out, 1, 1); }

/* ---- progress ---- */

static void tell(struct build *build, const char *name, bool started, bool completed)
{
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));
	int64_t now = (int64_t)ring_wall_ns(build->served->ring);
	struct buildkit_vertex vertex = { .digest = span_text(VERTEX), .name = span_text(name), .started = started,
		                          .started_ns = now, .completed = completed, .completed_ns = now };

	if (!build->status)
		return;
	buildkit_status_put_vertex(&out, &vertex);
	call_send(&build->status->call, buffer_span(&out), 0);
}

static void tell_line(struct build *build)
{
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct buildkit_vertex_log log = { .vertex = span_text(VERTEX), .timestamp_ns = (int64_t)ring_wall_ns(build->served->ring),
		                           .stream = BUILDKIT_LOG_STDERR, .message = span_text("still at work\n") };

	if (!build->status)
		return;
	buildkit_status_put_log(&out, &log);
	call_send(&build->status->call, buffer_span(&out), 0);
}

/* ---- a build ---- */

static void build_join(struct build *build)
{
	if (build->calls || build->receiving.open || op_in_flight(&build->tick))
		return;
	list_remove(&build->waits);
	list_remove(&build->link);
	free(build);
}

static void build_end(struct build *build, const char *failure)
{
	if (build->phase == BUILD_ENDED)
		return;
	build->phase = BUILD_ENDED;
	if (op_in_flight(&build->tick))
		ring_cancel(build->served->ring, &build->tick);
	if (build->llb)
		call_finish(&build->llb->call, GRPC_CANCELLED, "the build has ended");
	if (build->status)
		call_finish(&build->status->call, GRPC_OK, NULL);
	if (build->solve && failure)
		call_finish(&build->solve->call, GRPC_UNKNOWN, failure);
	else if (build->solve)
		answer(build->solve, NULL);
}

static void build_on_tick(struct op *op, int32_t res)
{
	struct build *build = container_of(op, struct build, tick);
	uint64_t now = ring_now_ns(build->served->ring);

	if (build->phase == BUILD_HELD && now >= build->held_until_ns) {
		tell(build, "[1/1] COPY . /ctx", true, true);
		build_end(build, NULL);
	} else if (build->phase == BUILD_HELD) {
		uint64_t left = build->held_until_ns - now;

		tell_line(build);
		ring_timer(build->served->ring, op, left < TICK_NS ? left : TICK_NS);
		return;
	}
	build_join(build);
}

static void build_on_received(struct receiving *receiving, const char *failure)
{
	struct build *build = container_of(receiving, struct build, receiving);

	if (failure) {
		build_end(build, failure);
		build_join(build);
		return;
	}
	if (build->phase == BUILD_RECIPE) {
		build->phase = BUILD_IGNORES;
	} else if (build->phase == BUILD_IGNORES) {
		build->phase = BUILD_SOLVED;
	} else if (build->phase == BUILD_CONTEXT) {
		build->phase = BUILD_HELD;
		build->held_until_ns = ring_now_ns(build->served->ring) + build->served->hold_ns;
		tell(build, "[internal] load build context", true, true);
		ring_timer(build->served->ring, &build->tick, 0);
		return;
	}
	build_step(build);
	build_join(build);
}

static void receive(struct build *build, const struct receiving_request *request)
{
	struct session *session = session_find(build->served, build->session);

	if (!session || !nest_is_open(&session->nest) || receiving_start(&build->receiving, session->nest.h2, request) < 0)
		build_end(build, "no active session");
}

static void solve_answer(struct build *build)
{
	uint8_t storage[ANSWER_MAX];
	struct buffer out = buffer_over(storage, sizeof(storage));

	put_result(&out, build);
	CHECK(!out.failed);
	if (!build->llb)
		return;
	call_send(&build->llb->call, buffer_span(&out), 0);
	call_finish(&build->llb->call, GRPC_OK, NULL);
}

/* What comes next, after one thing has ended or come. */
static void build_step(struct build *build)
{
	static const struct receiving_request recipe = { "dockerfile", { "Dockerfile", "Dockerfile.dockerignore", "dockerfile" } },
	                                      ignores = { "context", { ".dockerignore" } };

	if (build->receiving.open)
		return;
	switch (build->phase) {
	case BUILD_WAITING:
		if (!build->llb || !build->solve)
			return;
		if (!session_find(build->served, build->session)) {
			if (!list_linked(&build->waits))
				list_append(&build->served->waiting, &build->waits);
			return;
		}
		list_remove(&build->waits);
		build->phase = BUILD_RECIPE;
		tell(build, "[internal] load build definition from Dockerfile", true, false);
		receive(build, &recipe);
		break;
	case BUILD_IGNORES:
		tell(build, "[internal] load .dockerignore", true, false);
		receive(build, &ignores);
		break;
	case BUILD_SOLVED:
		solve_answer(build);
		break;
	default:
		break;
	}
}

static void build_return(struct build *build)
{
	static const struct receiving_request context = { "context", { NULL } };

	if (build->phase == BUILD_WAITING) {     /* a probe: nothing was solved */
		build_end(build, NULL);
	} else if (build->phase == BUILD_SOLVED) {
		build->phase = BUILD_CONTEXT;
		tell(build, "[internal] load build context", true, false);
		receive(build, &context);
	}
}

/* Calls come in any order: whichever names a build first makes it. */
static struct build *build_of(struct served *served, const char *ref)
{
	struct build *build = build_find(served, ref);

	if (build)
		return build;
	build = calloc(1, sizeof(*build));
	CHECK(build);
	build->served = served;
	build->receiving.on_done = build_on_received;
	build->tick.fn = build_on_tick;
	snprintf(build->ref, sizeof(build->ref), "%s", ref);
	list_append(&served->builds[bucket_of(ref)], &build->link);
	return build;
}

/* ---- calls ---- */

static void asked_attach(struct asked *asked, const char *ref)
{
	asked->build = build_of(asked->served, ref);
	asked->build->calls++;
}

static void asked_on_message(struct call *call, struct span message)
{
	struct asked *asked = call->owner;
	struct buildkit_solve_request solve;
	struct buildkit_status_request status;

	if (asked->kind == SOLVE && buildkit_solve_request_decode(message, &solve)) {
		char ref[NAME_BYTES];

		take_name(ref, solve.ref);
		asked_attach(asked, ref);
		take_name(asked->build->session, solve.session);
		asked->build->solve = asked;
	} else if (asked->kind == STATUS && message_decode(&buildkit_status_request_type, message, &status)) {
		char ref[NAME_BYTES];

		take_name(ref, status.ref);
		asked_attach(asked, ref);
		asked->build->status = asked;
	} else if (asked->kind == PING || asked->kind == LLB_SOLVE || asked->kind == RETURN) {
		asked_attach(asked, asked->ref);
		if (asked->kind == LLB_SOLVE)
			asked->build->llb = asked;
	}
}

static void asked_on_end(struct call *call)
{
	struct asked *asked = call->owner;
	struct build *build = asked->build;
	const bool in_build = asked->kind >= SOLVE;

	if (in_build && !build) {
		call_finish(call, GRPC_INVALID_ARGUMENT, "no build is named");
		return;
	}
	switch (asked->kind) {
	case WORKERS:
		answer(asked, put_workers);
		break;
	case INFO:
		answer(asked, put_info);
		break;
	case HEALTH:
		answer(asked, put_serving);
		break;
	case HISTORY:
		call_finish(call, GRPC_OK, NULL);
		break;
	case EXPORT:
		answer(asked, NULL);
		break;
	case PING:
		answer(asked, put_pong);
		break;
	case RETURN:
		answer(asked, NULL);
		build_return(build);
		break;
	case SOLVE:
	case STATUS:
	case LLB_SOLVE:
		build_step(build);
		break;
	}
}

static void asked_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct asked *asked = call->owner;
	struct build *build = asked->build;

	if (build) {
		if (build->solve == asked)
			build->solve = NULL;
		if (build->status == asked)
			build->status = NULL;
		if (build->llb == asked)
			build->llb = NULL;
		build->calls--;
		if (asked->kind == SOLVE)
			build_end(build, NULL);          /* also when the client went before the end */
		build_join(build);
	}
	call_fini(call);
	free(asked);
}

static const struct call_events asked_events = { .on_message = asked_on_message, .on_end = asked_on_end, .on_closed = asked_on_closed };

static int take(void *context, const struct server_request *request, enum served_kind kind)
{
	struct asked *asked = calloc(1, sizeof(*asked));

	CHECK(asked);
	asked->served = context;
	asked->kind = kind;
	for (size_t i = 0; i < request->head->headers_count; i++) {
		const struct header *header = &request->head->headers[i];

		if (span_is(header->name, "buildkit-controlapi-buildid"))
			take_name(asked->ref, header->value);
	}
	call_accept(&asked->call, request->stream, request->head, MESSAGE_MAX, &asked_events, asked);
	return 0;
}

/* ---- sessions ---- */

static int session_on_stream(struct nest *nest, struct stream *stream, const struct h2_request *request)
{
	return -1;                               /* the client opens none */
}

static void session_join(struct session *session)
{
	if (!session->ended || !session->probe_stopped)
		return;
	list_remove(&session->link);
	free(session);
}

static void session_on_probe_stopped(struct health_probe *probe)
{
	struct session *session = container_of(probe, struct session, probe);

	session->probe_stopped = true;
	session_join(session);
}

static void session_on_silent(struct health_probe *probe)
{
	call_finish(&container_of(probe, struct session, probe)->nest.call, GRPC_UNAVAILABLE, "healthcheck failed");
}

static void session_on_end(struct nest *nest)
{
	call_finish(&nest->call, GRPC_OK, NULL);
}

static void session_on_closed(struct nest *nest, enum grpc_status status, struct span message)
{
	struct session *session = nest->owner;

	session->ended = true;
	health_probe_stop(&session->probe, session_on_probe_stopped);
}

static const struct nest_events session_events = { .on_stream = session_on_stream, .on_end = session_on_end,
	                                           .on_closed = session_on_closed };

static int start_session(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct session *session = calloc(1, sizeof(*session));
	struct served *served = context;
	struct nest_config config = { .ring = served->ring, .events = &session_events, .owner = session };

	CHECK(session);
	session->served = served;
	for (size_t i = 0; i < request->head->headers_count; i++) {
		const struct header *header = &request->head->headers[i];

		if (span_is(header->name, "x-docker-expose-session-uuid"))
			take_name(session->id, header->value);
	}
	if (nest_accept(&session->nest, &config, request->stream, request->head) < 0) {
		free(session);
		return GRPC_RESOURCE_EXHAUSTED;
	}
	list_append(&served->sessions[bucket_of(session->id)], &session->link);
	session->probe = (struct health_probe){ .ring = served->ring, .on_silent = session_on_silent, .interval_ns = CHECK_NS,
		                                .timeout_ns = CHECK_TIMEOUT_NS };
	health_probe_start(&session->probe, session->nest.h2);
	list_for_each_safe(link, after, &served->waiting) {
		struct build *build = container_of(link, struct build, waits);

		if (strcmp(build->session, session->id) == 0)
			build_step(build);
	}
	return 0;
}

/* ---- methods ---- */

void served_init(struct served *served)
{
	for (size_t i = 0; i < SERVED_BUCKETS; i++) {
		list_init(&served->builds[i]);
		list_init(&served->sessions[i]);
	}
	list_init(&served->waiting);
}

#define START(name, kind)                                                                                              \
	static int name(void *context, const struct server_request *request, char *why, size_t why_size)               \
	{                                                                                                              \
		return take(context, request, kind);                                                                   \
	}
START(start_workers, WORKERS)
START(start_info, INFO)
START(start_health, HEALTH)
START(start_history, HISTORY)
START(start_export, EXPORT)
START(start_solve, SOLVE)
START(start_status, STATUS)
START(start_ping, PING)
START(start_llb_solve, LLB_SOLVE)
START(start_return, RETURN)

const struct server_method served_methods[] = {
	{ BUILDKIT_LIST_WORKERS, start_workers },
	{ BUILDKIT_INFO, start_info },
	{ BUILDKIT_SOLVE, start_solve },
	{ BUILDKIT_STATUS, start_status },
	{ BUILDKIT_SESSION, start_session },
	{ BUILDKIT_LISTEN_BUILD_HISTORY, start_history },
	{ BUILDKIT_LLB_PING, start_ping },
	{ BUILDKIT_LLB_SOLVE, start_llb_solve },
	{ BUILDKIT_LLB_RETURN, start_return },
	{ "/opentelemetry.proto.collector.trace.v1.TraceService/Export", start_export },
	{ HEALTH_CHECK_PATH, start_health },
	{ 0 },
};
