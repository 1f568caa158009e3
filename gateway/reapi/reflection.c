/*
 * Reflection, v1 and v1alpha, which differ in name alone: which services there are, and the descriptors of what they speak, a file
 * an answer. What a file imports is asked for by its name.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/reapi/asking.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/services.h"
#include "proto/descriptors.h"
#include "proto/pb.h"

#define REQUEST_BYTES_MAX 4096
#define OUT_BYTES_MAX     65536  /* the longest file has 13 KB */

struct reflection {
	struct call call;
	struct reapi *reapi;
	struct asking asking;            /* the whole call: of its next question */
};

/* One of them is there, perhaps empty; the others' `data` is NULL. */
struct reflection_request {
	struct span host, file, symbol, extensions_of, services;
};
static const struct message_field reflection_request_fields[] = {
	MESSAGE_FIELD(struct reflection_request, host, 1, MESSAGE_BYTES),
	MESSAGE_FIELD(struct reflection_request, file, 3, MESSAGE_PRESENT),
	MESSAGE_FIELD(struct reflection_request, symbol, 4, MESSAGE_PRESENT),
	MESSAGE_FIELD(struct reflection_request, extensions_of, 6, MESSAGE_PRESENT),
	MESSAGE_FIELD(struct reflection_request, services, 7, MESSAGE_PRESENT),
};
static const struct message_type reflection_request_type = {
	reflection_request_fields, sizeof(reflection_request_fields) / sizeof(reflection_request_fields[0]),
	sizeof(struct reflection_request),
};

static void put_services(struct buffer *out)
{
	const char *name;
	size_t list = pb_begin(out, 6);

	for (size_t i = 0; (name = service_name(i)); i++) {
		size_t service = pb_begin(out, 1);

		pb_put_text(out, 1, name);
		pb_end(out, service);
	}
	pb_end(out, list);
}

static void put_error(struct buffer *out, const char *text)
{
	size_t error = pb_begin(out, 7);

	pb_put_varint(out, 1, GRPC_NOT_FOUND);
	pb_put_text(out, 2, text);
	pb_end(out, error);
}

static void put_file(struct buffer *out, struct span file, const char *text)
{
	size_t response;

	if (!file.data) {
		put_error(out, text);
		return;
	}
	response = pb_begin(out, 4);
	pb_put_bytes(out, 1, file);
	pb_end(out, response);
}

/* Nothing extends anything here. */
static void put_extensions(struct buffer *out, struct span message)
{
	size_t response;

	if (!descriptors_file_of(message).data) {
		put_error(out, "no such message is known here");
		return;
	}
	response = pb_begin(out, 5);
	pb_put_bytes(out, 1, message);
	pb_end(out, response);
}

static void put_answer(struct buffer *out, const struct reflection_request *request)
{
	if (request->services.data)
		put_services(out);
	else if (request->symbol.data)
		put_file(out, descriptors_file_of(request->symbol), "no such symbol is known here");
	else if (request->file.data)
		put_file(out, descriptors_file(request->file), "no such file is known here");
	else if (request->extensions_of.data)
		put_extensions(out, request->extensions_of);
	else
		put_error(out, "there are no extensions here");
}

static void reflection_on_message(struct call *call, struct span message)
{
	struct buffer out = buffer_heap(OUT_BYTES_MAX);
	struct reflection_request request;

	if (!message_decode(&reflection_request_type, message, &request)) {
		call_finish(call, GRPC_INVALID_ARGUMENT, "malformed ServerReflectionRequest");
		buffer_fini(&out);
		return;
	}
	pb_put_bytes(&out, 1, request.host);
	pb_put_bytes_always(&out, 2, message);
	put_answer(&out, &request);
	call_send(call, buffer_span(&out), 0);
	buffer_fini(&out);
	if (!call_has_room(call))
		call_hold(call);                 /* the next question waits until this answer is taken */
}

static void reflection_on_end(struct call *call)
{
	call_finish(call, GRPC_OK, NULL);
}

static void reflection_on_writable(struct call *call)
{
	call_release(call);
}

static void reflection_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct reflection *reflection = container_of(call, struct reflection, call);

	reflection->reapi->open--;
	asking_end(&reflection->asking);
	call_fini(call);
	free(reflection);
}

static const struct call_events reflection_events = {
	.on_message = reflection_on_message,
	.on_end = reflection_on_end,
	.on_writable = reflection_on_writable,
	.on_closed = reflection_on_closed,
};

int reapi_reflection(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	struct access_caller caller;
	enum grpc_status status = access_caller(&reapi->cas->access, request, 0, &caller, why, why_size);
	struct reflection *reflection;

	if (status != GRPC_OK)
		return status;
	reflection = calloc(1, sizeof(*reflection));
	if (!reflection) {
		snprintf(why, why_size, RPC_TEXT_MEMORY);
		return GRPC_RESOURCE_EXHAUSTED;
	}
	reflection->reapi = reapi;
	reapi->open++;
	call_accept(&reflection->call, request->stream, request->head, REQUEST_BYTES_MAX, &reflection_events, reflection);
	asking_begin(&reflection->asking, reapi, &reflection->call);
	return 0;
}
