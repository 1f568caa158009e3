/* Which method answers a request, and what those get that none answers. */
#include "gateway/net/dispatch.h"

#include <stdio.h>
#include "gateway/base/check.h"
#include "gateway/net/deadline.h"

#define WHY_MAX 512

/* Bodies of refused requests are dropped as they come; the engine does that for a stream without on_data. */
static const struct stream_events refused_events = { 0 };

static struct header field(const char *name, struct span value)
{
	return (struct header){ .name = span_text(name), .value = value };
}

/* PROTOCOL-HTTP2.md "Trailers-Only": the status in the first and only header block. */
static void answer_status(struct stream *stream, enum grpc_status status, const char *text)
{
	uint8_t storage[3 * WHY_MAX];
	struct buffer message = buffer_over(storage, sizeof(storage));
	struct header headers[5];
	char number[12];
	size_t count = 0;

	snprintf(number, sizeof(number), "%d", (int)status);
	grpc_message_encode(&message, span_text(text));
	headers[count++] = field(":status", span_text("200"));
	headers[count++] = field("content-type", span_text("application/grpc"));
	headers[count++] = field("grpc-accept-encoding", span_text("identity,zstd"));
	headers[count++] = field("grpc-status", span_text(number));
	headers[count++] = field("grpc-message", buffer_span(&message));
	(void)stream_headers(stream, headers, count, true);
}

static void answer_http(struct stream *stream, const char *status)
{
	struct header headers[] = { field(":status", span_text(status)) };

	(void)stream_headers(stream, headers, 1, true);
}

static const struct server_method *find(const struct server_method *methods, struct span path)
{
	for (const struct server_method *method = methods; method->path; method++)
		if (span_is(path, method->path))
			return method;
	return NULL;
}

/* Hands the request to its method. The answer to it, with `why`, when there is none of the method's own. */
static enum grpc_status start(const struct server_config *config, struct ring *ring, const struct server_method *method,
                              const struct server_request *request, char *why, size_t why_size)
{
	struct deadline *deadline = NULL;
	struct call *call = NULL;
	int status;

	if (request->head->timeout_ns) {
		deadline = deadline_create(ring, request->head->timeout_ns);
		if (!deadline) {
			snprintf(why, why_size, "no memory for a call with a deadline");
			return GRPC_RESOURCE_EXHAUSTED;
		}
	}
	status = method->start(config->context, request, why, why_size);
	CHECK(status >= 0);
	if (status == 0)
		call = call_of(request->stream);
	if (deadline && call)
		deadline_start(deadline, call);
	else
		deadline_destroy(deadline);
	return (enum grpc_status)status;
}

int dispatch_request(const struct server_config *config, struct ring *ring, struct conn *conn, struct stream *stream,
                     const struct h2_request *head)
{
	struct grpc_request grpc;
	struct server_request request = { .conn = conn, .stream = stream, .head = &grpc };
	const struct server_method *method;
	enum grpc_status status;
	char why[WHY_MAX] = "";

	stream->events = &refused_events;
	stream->owner = NULL;
	if (conn_is_http1(conn) || !grpc_request_parse(&grpc, head)) {
		if (config->web)
			config->web(config->context, conn, stream, head);
		else
			answer_http(stream, "415");
		return 0;
	}
	method = find(config->methods, grpc.path);
	if (!method && config->unknown) {
		status = (enum grpc_status)config->unknown(config->context, &request, why, sizeof(why));
		if (status != GRPC_OK)
			answer_status(stream, status, why);
		return 0;
	}
	if (!method) {
		snprintf(why, sizeof(why), "unknown method %.*s", (int)(grpc.path.size < 200 ? grpc.path.size : 200),
		         (const char *)grpc.path.data);
		answer_status(stream, GRPC_UNIMPLEMENTED, why);
		return 0;
	}
	if (grpc.unknown_compressor) {
		answer_status(stream, GRPC_UNIMPLEMENTED, "unknown grpc-encoding: identity,zstd are accepted");
		return 0;
	}
	status = start(config, ring, method, &request, why, sizeof(why));
	if (status != GRPC_OK)
		answer_status(stream, status, why);
	return 0;
}
