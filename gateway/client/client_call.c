/* Calls that look blocking: each waits by running the client's ring. */
#include "gateway/client/client_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"

/* ---- events ---- */

/* One message at a time is kept; the next waits in the call, and the peer's window stays shut for it. */
static void call_on_message(struct call *base, struct span message)
{
	struct client_call *call = base->owner;

	if (call->discarding)
		return;
	CHECK(!call->waiting);
	buffer_clear(&call->next);
	buffer_put(&call->next, message.data, message.size);
	if (call->next.failed) {
		call_cancel(base);
		return;
	}
	call->waiting = true;
	call_hold(base);
}

static void call_on_closed(struct call *base, enum grpc_status status, struct span message)
{
	struct client_call *call = base->owner;
	struct client *client = call->client;

	call->ended = true;
	call->status = status;
	client_note_end(client);
	if (status == GRPC_UNAVAILABLE && client->error)
		snprintf(call->text, sizeof(call->text), "%s", client->why);
	else if (message.size)
		snprintf(call->text, sizeof(call->text), "%.*s", (int)message.size, (const char *)message.data);
	else if (status == GRPC_OK)
		snprintf(call->text, sizeof(call->text), "the gateway ended the call without an answer");
	else
		snprintf(call->text, sizeof(call->text), "the gateway refused the call (%s) without saying why",
		         grpc_status_name(status));
	if (!call->abandoned)
		return;
	list_remove(&call->link);
	list_append(&client->dead, &call->link);
}

static const struct call_events client_call_events = { .on_message = call_on_message, .on_closed = call_on_closed };

/* ---- life ---- */

static void call_free(struct client_call *call)
{
	list_remove(&call->link);
	call_fini(&call->call);
	buffer_fini(&call->fetched);
	buffer_fini(&call->next);
	free(call);
}

void client_calls_free(struct client *client)
{
	while (!list_empty(&client->dead))
		call_free(container_of(client->dead.next, struct client_call, link));
}

static struct header field(const char *name, const char *value, bool sensitive)
{
	return (struct header){ .name = span_text(name), .value = span_text(value), .sensitive = sensitive };
}

static int call_begin(struct client *client, struct call *call, const char *path, const struct header *metadata,
                      size_t count, size_t message_bytes_max, const struct call_events *events, void *owner)
{
	struct header headers[STREAM_HEADERS_MAX];
	size_t all = 0;

	CHECK(count + 3 <= STREAM_HEADERS_MAX);
	headers[all++] = field("grpc-encoding", "zstd", false);
	if (client->authorization)
		headers[all++] = field("authorization", client->authorization, true);
	if (client->instance)
		headers[all++] = field("sluice-instance", client->instance, false);
	for (size_t i = 0; i < count; i++)
		headers[all++] = metadata[i];
	return call_start(call, conn_h2(client->conn), path, span_text(client->authority), 0, headers, all,
	                  message_bytes_max, events, owner);
}

static int open_failure(struct client *client, int r)
{
	if (client->error)
		return ERR_RAISE(client->error);
	if (r == -EPIPE)
		snprintf(client->why, sizeof(client->why), "the gateway takes no more calls (GOAWAY): it shuts down or "
		                                           "restarts; try again");
	else if (r == -EAGAIN)
		snprintf(client->why, sizeof(client->why), "more calls at once than the gateway allows on one connection");
	else
		snprintf(client->why, sizeof(client->why), "cannot open a call: %s", strerror(-r));
	return ERR_RAISE(r);
}

int client_call_open(struct client_call **out, struct client *client, const char *path,
                     const struct header *metadata, size_t metadata_count)
{
	struct client_call *call;
	char why[8];
	int r = client_open_finish(client, why, sizeof(why));

	if (r < 0)
		return open_failure(client, r);
	call = calloc(1, sizeof(*call));
	if (!call)
		return open_failure(client, -ENOMEM);
	call->client = client;
	call->fetched = buffer_heap(client->message_bytes_max);
	call->next = buffer_heap(client->message_bytes_max);
	r = call_begin(client, &call->call, path, metadata, metadata_count, client->message_bytes_max, &client_call_events,
	               call);
	if (r < 0) {
		free(call);
		return open_failure(client, r);
	}
	list_append(&client->calls, &call->link);
	*out = call;
	return 0;
}

int client_call_start(struct client *client, struct call *call, const char *path, size_t message_bytes_max,
                      const struct call_events *events, void *owner)
{
	char why[8];
	int r = client_open_finish(client, why, sizeof(why));

	if (r == 0)
		r = call_begin(client, call, path, NULL, 0, message_bytes_max, events, owner);
	return r < 0 ? open_failure(client, r) : 0;
}

int client_run(struct client *client)
{
	return client_turn(client, UINT64_MAX) ? CLIENT_INTERRUPTED : CLIENT_OK;
}

/* The call may be gone after this. */
static void call_abandon(struct client_call *call)
{
	call->abandoned = true;
	call->waiting = false;
	if (call->ended) {
		list_remove(&call->link);
		list_append(&call->client->dead, &call->link);
	} else {
		call_cancel(&call->call);
	}
}

void client_calls_abandon(struct client *client)
{
	list_for_each_safe(link, after, &client->calls)
		call_abandon(container_of(link, struct client_call, link));
}

void client_call_bytes(const struct client_call *call, uint64_t *received, uint64_t *sent)
{
	*received = call->call.bytes_received;
	*sent = call->call.bytes_sent;
}

void client_call_close(struct client_call *call)
{
	struct client *client;
	bool ended;

	if (!call)
		return;
	client = call->client;
	ended = call->ended;
	call_abandon(call);
	if (ended)
		client_calls_free(client);
	else
		client_flush(client);            /* the cancellation goes out */
}

/* ---- messages ---- */

/* Waits for the status; messages that still come are thrown away. CLIENT_END or CLIENT_INTERRUPTED. */
static int await_status(struct client_call *call)
{
	call->discarding = true;
	call->waiting = false;
	if (!call->ended && call->call.held)
		call_release(&call->call);
	while (!call->ended)
		if (client_turn(call->client, UINT64_MAX))
			return CLIENT_INTERRUPTED;
	return CLIENT_END;
}

int client_send(struct client_call *call, struct span message, int level)
{
	struct client *client = call->client;

	while (!call->ended) {
		switch (call_send(&call->call, message, level)) {
		case CALL_SENT:
			/* On its way now, not when the caller waits next: it may have a long file to read before. */
			client_flush(client);
			return CLIENT_OK;
		case CALL_CLOSED:
			return await_status(call);
		case CALL_FULL:
			if (client_turn(client, UINT64_MAX))
				return CLIENT_INTERRUPTED;
			break;
		}
	}
	return CLIENT_END;
}

void client_send_end(struct client_call *call)
{
	if (call->ended)
		return;
	call_end(&call->call);
	client_flush(call->client);
}

/* The one that waits becomes the user's, and the next may come. */
static struct span take_message(struct client_call *call)
{
	struct buffer old = call->fetched;

	call->fetched = call->next;
	call->next = old;
	call->waiting = false;
	if (!call->ended)
		call_release(&call->call);
	return buffer_span(&call->fetched);
}

int client_receive(struct client_call *call, struct span *message, uint64_t timeout_ns)
{
	uint64_t deadline = client_deadline(call->client, timeout_ns);

	for (bool first = true; !call->waiting && !call->ended; first = false) {
		if (!first && ring_now_ns(call->client->ring) >= deadline)
			return CLIENT_AGAIN;
		if (client_turn(call->client, deadline))
			return CLIENT_INTERRUPTED;
	}
	if (call->waiting) {
		*message = take_message(call);
		return CLIENT_OK;
	}
	call->end_fetched = true;
	return CLIENT_END;
}

enum grpc_status client_call_status(const struct client_call *call, const char **text)
{
	CHECK(call->ended);
	if (text)
		*text = call->text;
	return call->status;
}

int client_unary(struct client *client, const char *path, struct span request, struct client_call **out,
                 struct span *response)
{
	struct client_call *call;
	int r = client_call_open(&call, client, path, NULL, 0);

	if (r < 0)
		return ERR_RAISE(r);
	*out = call;
	r = client_send(call, request, 0);
	if (r == CLIENT_OK) {
		client_send_end(call);
		r = client_receive(call, response, UINT64_MAX);
	}
	if (r != CLIENT_OK)
		return r;
	r = await_status(call);
	if (r != CLIENT_END)
		return r;
	return call->status == GRPC_OK ? CLIENT_OK : CLIENT_END;
}
