/* The client, as buildx is one: its directory, its stdin, and the health of its session. */
#include "tests/unit/session/rig_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/buildkit.h"
#include "proto/sluice_context.h"

#define PIECE_BYTES 32768u                       /* fsutil's, and io.Copy's into an Upload */
#define PIECE_BYTES_MAX (3u << 20)

/* ---- its directory ---- */

/* One DiffCopy call at the client, as fsutil's sender: STATs as they are taken, files as they are asked for. */
struct rig_sender {
	struct rig_client *client;
	struct rig_sender *next;
	struct call call;
	uint32_t next_stat;
	uint32_t queue[RIG_FILES_MAX], queue_first, queue_end;
	bool asked[RIG_FILES_MAX];
	uint64_t offset;
	bool stats_ended, closed;
};

static void put_stat(struct buffer *out, const struct rig_file *file)
{
	uint8_t storage[512], head[FSUTIL_HEAD_BYTES_MAX];
	struct buffer encoded = buffer_over(storage, sizeof(storage));
	struct fsutil_stat stat = {
		.path = span_text(file->path), .linkname = span_text(file->link), .size = (int64_t)file->size,
		.mod_time_ns = file->mtime_ns,
		.mode = file->directory ? FSUTIL_MODE_DIRECTORY | 0755 : 0644,
	};

	fsutil_stat_put(&encoded, &stat);
	buffer_put(out, head, fsutil_write_stat_head(head, encoded.size));
	buffer_put(out, encoded.data, encoded.size);
}

static bool sender_stat(struct rig_sender *sender)
{
	struct rig_client *client = sender->client;
	const struct rig_tree *tree = client->tree;
	uint8_t storage[600];
	struct buffer packet = buffer_over(storage, sizeof(storage));

	if (sender->stats_ended || (client->stats_ahead && sender->next_stat >= client->files_sent + client->stats_ahead))
		return false;
	if (client->bytes_before)
		client->bytes_before[sender->next_stat] = client->bytes_sent;
	if (sender->next_stat == tree->count)
		sender->stats_ended = client->told_all = true;
	else
		put_stat(&packet, &tree->files[sender->next_stat++]);
	assert_int_equal(call_send(&sender->call, buffer_span(&packet), 0), CALL_SENT);
	return true;
}

static bool sender_data(struct rig_sender *sender)
{
	struct rig_client *client = sender->client;
	static uint8_t piece[PIECE_BYTES_MAX];
	size_t piece_bytes = client->piece_bytes ? client->piece_bytes : PIECE_BYTES;
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	const struct rig_file *file;
	struct span parts[2];
	uint64_t size;
	uint32_t id;

	if (sender->queue_first == sender->queue_end)
		return false;
	id = sender->queue[sender->queue_first];
	file = &client->tree->files[id];
	size = (file->odd ? file->sent_size : file->size) - sender->offset;
	size = size < piece_bytes ? size : piece_bytes;
	client->stopped = client->stop_after_bytes && client->bytes_sent + size > client->stop_after_bytes;
	if (client->stopped)
		return false;
	if (size == 0) {
		parts[0] = span_make(head, fsutil_write_data_end(head, id));
		assert_int_equal(call_send_parts(&sender->call, parts, 1), CALL_SENT);
		sender->queue_first++;
		sender->offset = 0;
		client->files_sent++;
		return true;
	}
	rig_content(file->seed, sender->offset, piece, size);
	parts[0] = span_make(head, fsutil_write_data_head(head, id, size));
	parts[1] = span_make(piece, size);
	assert_int_equal(call_send_parts(&sender->call, parts, 2), CALL_SENT);
	sender->offset += size;
	client->bytes_sent += size;
	return true;
}

static void sender_step(struct rig_sender *sender)
{
	while (!sender->closed && !sender->client->deaf && call_has_room(&sender->call))
		if (!sender_stat(sender) && !sender_data(sender))
			return;
}

static void sender_on_message(struct call *call, struct span message)
{
	struct rig_sender *sender = call->owner;
	struct fsutil_packet packet;

	assert_true(fsutil_packet_decode(message, &packet));
	if (packet.type == FSUTIL_REQ) {
		assert_true(packet.id < sender->client->tree->count);
		assert_false(sender->asked[packet.id]);          /* fsutil: "invalid file id" */
		sender->asked[packet.id] = true;
		sender->queue[sender->queue_end++] = packet.id;
		sender_step(sender);
	} else if (packet.type == FSUTIL_FIN) {
		call_send(call, message, 0);
		call_finish(call, GRPC_OK, NULL);
	}
}

static void sender_on_writable(struct call *call)
{
	sender_step(call->owner);
}

static void sender_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct rig_sender *sender = call->owner;

	sender->closed = true;
	sender->client->calls_open--;
}

static const struct call_events sender_events = {
	.on_message = sender_on_message, .on_writable = sender_on_writable, .on_closed = sender_on_closed,
};

/* ---- its stdin ---- */

/* One Upload/Pull call at the client, as buildx's uploadprovider: what was said once is there no more. */
struct rig_upload {
	struct rig_client *client;
	struct rig_upload *next;
	struct call call;
	bool has_it, closed;
};

static void upload_step(struct rig_upload *upload)
{
	struct rig_client *client = upload->client;
	static uint8_t piece[PIECE_BYTES];

	while (upload->has_it && !upload->closed && !client->upload_pauses && call_has_room(&upload->call)) {
		uint64_t left = client->upload_bytes - client->uploaded_bytes;
		size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
		uint8_t head[BYTES_MESSAGE_HEAD_MAX];
		struct span parts[2] = { span_make(head, bytes_message_head(head, size)), span_make(piece, size) };

		if (size == 0) {
			upload->has_it = false;
			call_finish(&upload->call, GRPC_OK, NULL);
			return;
		}
		rig_content(1, client->uploaded_bytes, piece, size);
		assert_int_equal(call_send_parts(&upload->call, parts, 2), CALL_SENT);
		client->uploaded_bytes += size;
	}
}

/* A daemon says nothing in it. */
static void upload_on_message(struct call *call, struct span message)
{
	fail_msg("%zu bytes to the client", message.size);
}

static void upload_on_writable(struct call *call)
{
	upload_step(call->owner);
}

static void upload_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct rig_upload *upload = call->owner;

	upload->closed = true;
	upload->client->uploads_cancelled += status != GRPC_OK;
	upload->client->calls_open--;
}

static const struct call_events upload_events = {
	.on_message = upload_on_message, .on_writable = upload_on_writable, .on_closed = upload_on_closed,
};

static int upload_begin(struct rig_client *client, struct stream *stream, const struct grpc_request *head)
{
	struct rig_upload *upload = calloc(1, sizeof(*upload));

	upload->client = client;
	upload->next = client->uploads;
	client->uploads = upload;
	client->calls_open++;
	call_accept(&upload->call, stream, head, 1 << 20, &upload_events, upload);
	upload->has_it = client->uploads_asked++ == 0 && client->upload_bytes;
	if (upload->has_it)
		upload_step(upload);
	else
		call_finish(&upload->call, GRPC_UNKNOWN, "no http response from session for it");
	return 0;
}

void rig_upload_go_on(struct rig_client *client)
{
	client->upload_pauses = false;
	for (struct rig_upload *upload = client->uploads; upload; upload = upload->next)
		upload_step(upload);
}

/* ---- its health ---- */

struct rig_health {
	struct call call;
	struct rig_client *client;
};

static void health_on_message(struct call *call, struct span message)
{
	static const uint8_t serving[] = { 8, 1 };
	struct rig_health *health = container_of(call, struct rig_health, call);

	health->client->health_checks++;
	if (health->client->full)
		call_hold(call);
	if (health->client->hung || health->client->full)
		return;
	call_send(call, span_make(serving, 2), 0);
	call_finish(call, GRPC_OK, NULL);
}

static void health_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	call_fini(call);
	free(container_of(call, struct rig_health, call));
}

static const struct call_events health_events = { .on_message = health_on_message, .on_closed = health_on_closed };

/* ---- its session ---- */

static int client_on_stream(struct nest *nest, struct stream *stream, const struct h2_request *request)
{
	struct rig_client *client = nest->owner;
	struct grpc_request head;
	struct rig_sender *sender;

	assert_true(grpc_request_parse(&head, request));
	if (span_is(head.path, "/test.Echo/Never") ||
	    (client->streams_max && h2_streams_count(client->nest.h2) > client->streams_max))
		return -EAGAIN;
	if (span_is(head.path, SPOOL_PATH))
		return upload_begin(client, stream, &head);
	if (client->give && span_is(head.path, SLUICE_GIVE)) {
		client->give(client, stream, &head);
		return 0;
	}
	if (!span_is(head.path, DIFFCOPY_PATH)) {
		struct rig_health *health = calloc(1, sizeof(*health));

		health->client = client;
		call_accept(&health->call, stream, &head, 1 << 20, &health_events, health);
		return 0;
	}
	sender = calloc(1, sizeof(*sender));
	sender->client = client;
	sender->next = client->senders;
	client->senders = sender;
	client->calls_open++;
	call_accept(&sender->call, stream, &head, 4 << 20, &sender_events, sender);
	sender_step(sender);
	return 0;
}

static void client_on_nest_closed(struct nest *nest, enum grpc_status status, struct span message)
{
	struct rig_client *client = nest->owner;

	client->closed = true;
	client->status = status;
	snprintf(client->message, sizeof(client->message), "%.*s", (int)message.size, (const char *)message.data);
}

static const struct nest_events client_nest_events = { .on_stream = client_on_stream, .on_closed = client_on_nest_closed };

/* ---- its life ---- */

struct rig_client *rig_client_start(struct rig *rig, struct rig_tree *tree, const char *shared_key)
{
	struct rig_client *client = &rig->clients[rig->clients_count++];
	const struct h2_config near = { .events = &rig_plain_events }, far = { .server = true, .events = &rig_gateway_events, .owner = client };
	const struct header metadata[] = {
		{ span_text("x-docker-expose-session-uuid"), span_text("the-session"), false },
		{ span_text("x-docker-expose-session-sharedkey"), span_text(shared_key), false },
		{ span_text("x-docker-expose-session-grpc-method"), span_text(DIFFCOPY_PATH), false },
		{ span_text("x-docker-expose-session-grpc-method"), span_text(SLUICE_GIVE), false },
		{ span_text("sluice-edge-mtime"), span_text(rig->stable ? "stable" : "client"), false },
	};
	struct nest_config nest = { .ring = rig->fixture.ring, .events = &client_nest_events, .owner = client };

	assert_true(rig->clients_count <= RIG_SESSIONS_MAX);
	*client = (struct rig_client){ .rig = rig, .tree = tree, .shared_key = shared_key, .give = rig->give, .giver = rig->giver };
	assert_int_equal(h2_create(&client->wire.client, &near), 0);
	assert_int_equal(h2_create(&client->wire.server, &far), 0);
	assert_int_equal(nest_start(&client->nest, &nest, client->wire.client, SESSION_PATH, span_text("x"), metadata,
	                            client->give ? 5 : 3), 0);
	rig_wait(rig, client->session);
	return client;
}

void rig_client_end(struct rig_client *client)
{
	call_end(&client->nest.call);
	rig_wait(client->rig, client->closed && !client->session);
}

void rig_client_vanish(struct rig_client *client)
{
	rig_wire_cut(&client->wire);
	rig_wait(client->rig, client->closed && !client->session);
}

struct rig_sender *rig_sender_free(struct rig_sender *sender)
{
	struct rig_sender *next = sender->next;

	call_fini(&sender->call);
	free(sender);
	return next;
}

void rig_client_free(struct rig_client *client)
{
	struct rig_sender *sender = client->senders;
	struct rig_upload *upload = client->uploads;

	assert_false(nest_in_use(&client->nest));
	assert_int_equal(client->calls_open, 0);
	while (sender)
		sender = rig_sender_free(sender);
	while (upload) {
		struct rig_upload *next = upload->next;

		call_fini(&upload->call);
		free(upload);
		upload = next;
	}
	rig_wire_free(&client->wire);
}
