/* Calls between two engines, and ends that write down what they hear. */
#include "call_fixture.h"

#include <errno.h>
#include <stdlib.h>

struct h2_pair pair;
bool keep_call;
struct end server_end;
end_event server_behaviour;
size_t server_message_max;
struct grpc_request server_request;
char server_path[64];

const struct header zstd_metadata[1] = { HEADER("grpc-encoding", "zstd") };

static void heard(struct end *end, char event, struct span message)
{
	size_t used = strlen(end->log);

	if (used + 1 < sizeof(end->log))
		end->log[used] = event;
	if (end->on_event)
		end->on_event(end, event, message);
}

static void end_on_message(struct call *call, struct span message)
{
	struct end *end = call->owner;
	/* A copy of just that size: a sanitizer sees a message that is not all there. */
	uint8_t *copy = malloc(message.size + 1);

	if (message.size)
		memcpy(copy, message.data, message.size);
	end->count++;
	end->bytes += message.size;
	if (message.size < 64) {
		buffer_put(&end->messages, copy, message.size);
		buffer_put_text(&end->messages, "|");
	}
	heard(end, 'M', span_make(copy, message.size));
	free(copy);
}

static void end_on_end(struct call *call)
{
	heard(call->owner, 'E', span_make(NULL, 0));
}

static void end_on_writable(struct call *call)
{
	heard(call->owner, 'W', span_make(NULL, 0));
}

static void end_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct end *end = call->owner;

	assert_false(end->closed);
	assert_null(call->stream);
	end->closed = true;
	end->status = status;
	snprintf(end->status_text, sizeof(end->status_text), "%.*s", (int)message.size, (const char *)message.data);
	heard(end, 'C', message);
	if (!keep_call)
		call_fini(call);
}

const struct call_events end_events = {
	.on_message = end_on_message, .on_end = end_on_end, .on_writable = end_on_writable, .on_closed = end_on_closed,
};

void end_init(struct end *end, end_event on_event)
{
	*end = (struct end){ .messages = buffer_heap(1 << 20), .on_event = on_event };
}

static int accept_call(void *owner, struct stream *stream, const struct h2_request *request)
{
	if (!grpc_request_parse(&server_request, request))
		return -EINVAL;
	snprintf(server_path, sizeof(server_path), "%.*s", (int)request->path.size, (const char *)request->path.data);
	end_init(&server_end, server_behaviour);
	assert_null(call_of(stream));
	call_accept(&server_end.call, stream, &server_request, server_message_max, &end_events, &server_end);
	assert_ptr_equal(call_of(stream), &server_end.call);
	return 0;
}

const struct h2_events call_server_events = { .on_stream = accept_call };

void start_with(struct end *end, end_event server, end_event client, const struct header *metadata, size_t count,
                const struct h2_config *client_config, const struct h2_config *server_config)
{
	struct h2_config config = server_config ? *server_config : (struct h2_config){ 0 };

	config.events = &call_server_events;
	server_behaviour = server;
	if (!server_message_max)
		server_message_max = MESSAGE_MAX;
	h2_pair_init(&pair, client_config, &config);
	h2_pair_pump(&pair);
	end_init(end, client);
	assert_int_equal(call_start(&end->call, pair.client, "/test.Test/Do", span_text("host"), 0, metadata, count,
	                            MESSAGE_MAX, &end_events, end), 0);
}

void start(struct end *end, end_event server, end_event client)
{
	start_with(end, server, client, NULL, 0, NULL, NULL);
}

void finish(struct end *end)
{
	h2_pair_fini(&pair);
	assert_true(end->closed);
	buffer_fini(&end->messages);
	buffer_fini(&server_end.messages);
	end_init(&server_end, NULL);
	server_message_max = 0;
}

void assert_messages(const struct end *end, const char *text)
{
	assert_int_equal(end->messages.size, strlen(text));
	assert_memory_equal(end->messages.data, text, strlen(text));
}

void send_text(struct call *call, const char *text)
{
	assert_int_equal(call_send(call, span_text(text), 0), CALL_SENT);
}

void server_echo(struct end *end, char event, struct span message)
{
	if (event == 'M')
		assert_int_equal(call_send(&end->call, message, 3), CALL_SENT);
	if (event == 'E')
		call_finish(&end->call, GRPC_OK, NULL);
}

void hold_first(struct end *end, char event, struct span message)
{
	if (event == 'M' && end->count == 1)
		call_hold(&end->call);
}
