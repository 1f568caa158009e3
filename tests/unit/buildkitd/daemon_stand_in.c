/* A buildkitd as far as it is asked. */
#include "tests/unit/buildkitd/daemon_stand_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "gateway/base/check.h"
#include "proto/pb.h"

#define REF_MAX 64

enum stand_in_kind { HEALTH, WORKERS, INFO, SOLVE, PING, RETURN };

struct stand_in_call {
	struct daemon_stand_in *stand_in;
	enum stand_in_kind kind;
	struct call call;
	struct list link;
	char ref[REF_MAX];               /* Solve: its build. Ping, Return: the one that they belong to */
	bool internal;
};

static struct stand_in_call *build_of(struct daemon_stand_in *stand_in, const char *ref)
{
	list_for_each(link, &stand_in->calls) {
		struct stand_in_call *each = container_of(link, struct stand_in_call, link);

		if (each->kind == SOLVE && strcmp(each->ref, ref) == 0)
			return each;
	}
	return NULL;
}

/* ---- answers ---- */

static void put_capability(struct buffer *out, uint32_t number, const char *id, bool enabled)
{
	size_t mark = pb_begin(out, number);

	pb_put_text(out, 1, id);
	pb_put_bool(out, 2, enabled);
	pb_end(out, mark);
}

static void put_pong(struct daemon_stand_in *stand_in, struct buffer *out)
{
	put_capability(out, 1, "frontend.base", true);
	put_capability(out, 2, "llb.base", true);
	put_capability(out, 2, "llb.disabled", false);
	if (stand_in->capability)
		put_capability(out, 2, stand_in->capability, true);
	if (stand_in->malformed)
		buffer_put(out, "\xff\xff", 2);
}

static void put_platform(struct buffer *out, const char *architecture)
{
	size_t mark = pb_begin(out, 3);

	pb_put_text(out, 1, architecture);
	pb_put_text(out, 2, "linux");
	pb_end(out, mark);
}

static void put_workers(struct daemon_stand_in *stand_in, struct buffer *out)
{
	size_t mark = pb_begin(out, 1);

	pb_put_text(out, 1, "worker");
	put_platform(out, "amd64");
	if (stand_in->platform)
		put_platform(out, stand_in->platform);
	pb_end(out, mark);
}

static void put_info(struct buffer *out)
{
	size_t mark = pb_begin(out, 1);

	pb_put_text(out, 2, "v0.0.0-stand-in");
	pb_end(out, mark);
}

static void give(struct call *call, struct buffer *answer)
{
	CHECK(!answer->failed);
	call_send(call, buffer_span(answer), 0);
	call_finish(call, GRPC_OK, NULL);
}

static void answer_in_build(struct stand_in_call *each, struct buffer *answer)
{
	struct daemon_stand_in *stand_in = each->stand_in;
	struct stand_in_call *build = build_of(stand_in, each->ref);

	if (!build) {
		call_finishf(&each->call, GRPC_NOT_FOUND, "no such job %s", each->ref);
		return;
	}
	if (each->kind == PING) {
		put_pong(stand_in, answer);
		give(&each->call, answer);
		return;
	}
	stand_in->returns++;
	give(&each->call, answer);
	call_finish(&build->call, GRPC_OK, NULL);
}

static void on_end(struct call *call)
{
	struct stand_in_call *each = call->owner;
	struct daemon_stand_in *stand_in = each->stand_in;
	uint8_t storage[1024];
	struct buffer answer = buffer_over(storage, sizeof(storage));

	switch (each->kind) {
	case HEALTH:
		stand_in->checks++;
		if (stand_in->silent)
			return;
		if (stand_in->no_health) {
			call_finish(call, GRPC_UNIMPLEMENTED, "unknown service grpc.health.v1.Health");
			return;
		}
		pb_put_varint(&answer, 1, stand_in->not_serving ? 2 : 1);
		give(call, &answer);
		break;
	case WORKERS:
		stand_in->asked++;
		put_workers(stand_in, &answer);
		if (stand_in->no_workers)
			call_finish(call, GRPC_INTERNAL, "the workers are ill");
		else
			give(call, &answer);
		break;
	case INFO:
		put_info(&answer);
		if (stand_in->no_info)
			call_finish(call, GRPC_UNIMPLEMENTED, "unknown method Info");
		else
			give(call, &answer);
		break;
	case SOLVE:
		CHECK(each->internal);
		stand_in->builds++;
		break;
	case PING:
	case RETURN:
		answer_in_build(each, &answer);
		break;
	}
}

static void on_message(struct call *call, struct span message)
{
	struct stand_in_call *each = call->owner;
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (each->kind == SOLVE && pb_next(&reader, &field)) {
		if (field.number == 1)
			snprintf(each->ref, sizeof(each->ref), "%.*s", (int)field.bytes.size, (const char *)field.bytes.data);
		else if (field.number == 11)
			each->internal = field.value != 0;
	}
	CHECK(!reader.failed);
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct stand_in_call *each = call->owner;

	(void)status;
	(void)message;
	if (each->kind == SOLVE)
		each->stand_in->open_builds--;
	list_remove(&each->link);
	call_fini(&each->call);
	free(each);
}

static const struct call_events events = { .on_message = on_message, .on_end = on_end, .on_closed = on_closed };

/* ---- methods ---- */

static int start(void *context, const struct server_request *request, enum stand_in_kind kind)
{
	struct daemon_stand_in *stand_in = context;
	struct stand_in_call *each = calloc(1, sizeof(*each));

	each->stand_in = stand_in;
	each->kind = kind;
	for (size_t i = 0; i < request->head->headers_count; i++) {
		const struct header *header = &request->head->headers[i];

		if (span_is(header->name, "buildkit-controlapi-buildid"))
			snprintf(each->ref, sizeof(each->ref), "%.*s", (int)header->value.size, (const char *)header->value.data);
	}
	if (kind == SOLVE)
		stand_in->open_builds++;
	list_append(&stand_in->calls, &each->link);
	call_accept(&each->call, request->stream, request->head, 65536, &events, each);
	return 0;
}

#define START(name, kind)                                                                                              \
	static int name(void *context, const struct server_request *request, char *why, size_t why_size)               \
	{                                                                                                              \
		return start(context, request, kind);                                                                  \
	}
START(start_health, HEALTH)
START(start_workers, WORKERS)
START(start_info, INFO)
START(start_solve, SOLVE)
START(start_ping, PING)
START(start_return, RETURN)

static const struct server_method methods[] = {
	{ "/grpc.health.v1.Health/Check", start_health },
	{ "/moby.buildkit.v1.Control/ListWorkers", start_workers },
	{ "/moby.buildkit.v1.Control/Info", start_info },
	{ "/moby.buildkit.v1.Control/Solve", start_solve },
	{ "/moby.buildkit.v1.frontend.LLBBridge/Ping", start_ping },
	{ "/moby.buildkit.v1.frontend.LLBBridge/Return", start_return },
	{ 0 },
};

/* ---- life ---- */

static void on_drained(void *context)
{
	((struct daemon_stand_in *)context)->drained = true;
}

struct address daemon_stand_in_address(const struct daemon_stand_in *stand_in)
{
	struct address address;
	char why[256];

	if (!address_parse(&address, stand_in->bound, why, sizeof(why)))
		fail_msg("%s", why);
	return address;
}

void daemon_stand_in_start(struct daemon_stand_in *stand_in, struct ring *ring)
{
	struct server_config config = { .methods = methods, .context = stand_in, .on_drained = on_drained };
	static unsigned sockets;
	struct address address;
	char why[512] = "";

	if (!stand_in->bound[0] && stand_in->tcp)
		snprintf(stand_in->bound, sizeof(stand_in->bound), "grpc://127.0.0.1:0");
	else if (!stand_in->bound[0])
		snprintf(stand_in->bound, sizeof(stand_in->bound), "unix:///tmp/sluice-stand-in-%d-%u", (int)getpid(), sockets++);
	address = daemon_stand_in_address(stand_in);

	stand_in->ring = ring;
	stand_in->drained = false;
	list_init(&stand_in->calls);
	assert_int_equal(server_create(&stand_in->server, ring, &config), 0);
	address.tls = stand_in->tls != NULL;
	if (server_listen(stand_in->server, &address, stand_in->tls, stand_in->bound, sizeof(stand_in->bound), why,
	                  sizeof(why)) < 0)
		fail_msg("%s", why);
}

void daemon_stand_in_stop(struct daemon_stand_in *stand_in)
{
	if (!stand_in->server)
		return;
	server_drain(stand_in->server, 0);
	while (!stand_in->drained)
		ring_run(stand_in->ring, UINT64_MAX);
	server_destroy(stand_in->server);
	if (!stand_in->tcp)
		unlink(daemon_stand_in_address(stand_in).host);
	stand_in->server = NULL;
}
