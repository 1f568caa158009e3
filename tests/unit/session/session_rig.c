/* The client, the daemon and the wires between. */
#include "tests/unit/session/session_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "gateway/cas/references.h"
#include "proto/buildkit.h"
#include "proto/sluice_context.h"

#define PIECE_BYTES 32768u                       /* fsutil's, and io.Copy's into an Upload */
#define PIECE_BYTES_MAX (3u << 20)

/* ---- content ---- */

static uint8_t content_at(uint32_t seed, uint64_t offset)
{
	uint64_t x = (offset >> 3) * 0x9e3779b97f4a7c15ull + seed * 0xc2b2ae3d27d4eb4full;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return (uint8_t)(x >> (8 * (offset & 7)));
}

#define RIG_EDITED_AT 70

void rig_content(uint32_t seed, uint64_t offset, uint8_t *out, size_t size)
{
	for (size_t i = 0; i < size; i++)
		out[i] = content_at(seed & ~RIG_EDITED, offset + i);
	if (seed & RIG_EDITED && offset <= RIG_EDITED_AT && RIG_EDITED_AT < offset + size)
		out[RIG_EDITED_AT - offset] ^= 1;
}

void rig_tree_make(struct rig_tree *tree, uint32_t files, uint32_t seed)
{
	static const uint64_t sizes[] = { 0, 1, 100, 4000, 32768, 32769, 65535, 65536, 65537, 70000, 300000, 20, 7, 900 };

	tree->count = 0;
	for (uint32_t i = 0; i < files; i++) {
		struct rig_file *file;

		if (i % 100 == 0) {
			file = &tree->files[tree->count++];
			*file = (struct rig_file){ .directory = true, .mtime_ns = 5 };
			snprintf(file->path, sizeof(file->path), "d%04u", (unsigned)(i / 100));
		}
		file = &tree->files[tree->count++];
		*file = (struct rig_file){ .size = sizes[i % (sizeof(sizes) / sizeof(sizes[0]))], .mtime_ns = 1000 + i,
			                   .seed = seed + i };
		snprintf(file->path, sizeof(file->path), "d%04u/f%06u", (unsigned)(i / 100), (unsigned)i);
	}
}

/* ---- wires ---- */

static void ignore_output(void *owner)
{
}

static bool carry(struct h2 *from, struct h2 *to)
{
	struct span data;
	bool moved = false;

	while ((data = h2_output(from)).size) {
		moved = true;
		if (h2_feed(to, data) < 0)
			break;
	}
	return moved;
}

static bool wire_pump(struct rig_wire *wire)
{
	bool moved = false, more = true;

	if (!wire->client || wire->cut)
		return false;
	for (; more; moved |= more) {
		more = carry(wire->client, wire->server);
		more |= carry(wire->server, wire->client);
	}
	return moved;
}

static void wire_cut(struct rig_wire *wire)
{
	wire->cut = true;
	h2_carrier_closed(wire->client);
	h2_carrier_closed(wire->server);
}

static void wire_free(struct rig_wire *wire)
{
	h2_destroy(wire->client);
	h2_destroy(wire->server);
	*wire = (struct rig_wire){ .cut = true };
}

static bool turn(struct rig *rig)
{
	bool moved = false;

	for (unsigned i = 0; i < rig->clients_count; i++)
		moved |= wire_pump(&rig->clients[i].wire);
	for (unsigned i = 0; i < rig->daemons_count; i++)
		moved |= wire_pump(&rig->daemons[i].wire);
	return moved | (ring_run(rig->fixture.ring, moved ? 0 : 1000000) > 0);
}

static uint64_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

void rig_turn(struct rig *rig, uint64_t *since)
{
	uint64_t now = seconds_now();

	if (!*since)
		*since = now;
	if (now - *since > 60)
		fail_msg("what was waited for never came");
	turn(rig);
}

void rig_until(struct rig *rig, const bool *done)
{
	rig_wait(rig, *done);
}

/* ---- the client: buildx ---- */

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
		.path = span_text(file->path), .size = (int64_t)file->size, .mod_time_ns = file->mtime_ns,
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

/* ---- the client's stdin ---- */

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

struct rig_health {
	struct call call;
	struct rig_client *client;
};

static void health_on_message(struct call *call, struct span message)
{
	static const uint8_t serving[] = { 8, 1 };
	struct rig_health *health = container_of(call, struct rig_health, call);

	health->client->health_checks++;
	if (health->client->hung)
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

static int client_on_stream(struct nest *nest, struct stream *stream, const struct h2_request *request)
{
	struct rig_client *client = nest->owner;
	struct grpc_request head;
	struct rig_sender *sender;

	assert_true(grpc_request_parse(&head, request));
	if (span_is(head.path, "/test.Echo/Never"))
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

/* ---- the gateway ---- */

static void rig_on_executor_closed(struct session *session, enum grpc_status status, struct span message)
{
	struct rig_client *client = session_owner(session);

	client->rig->executor_closed++;
	if (client->rig->finish_on_loss)
		session_finish(session, GRPC_UNAVAILABLE, "executor one was lost");
}

static void rig_on_session_closed(struct session *session)
{
	struct rig_client *client = session_owner(session);

	client->session = NULL;
}

static int rig_on_call(struct session *session, struct stream *stream, const struct grpc_request *head)
{
	struct rig *rig = ((struct rig_client *)session_owner(session))->rig;

	return rig->on_call ? rig->on_call(rig, session, stream, head) : SESSION_PASS;
}

static const struct session_events rig_session_events = {
	.on_call = rig_on_call, .on_executor_closed = rig_on_executor_closed, .on_closed = rig_on_session_closed,
};

static int gateway_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct rig_client *client = owner;
	struct session_config config = {
		.ring = client->rig->fixture.ring, .broker = &client->rig->service, .play = &client->rig->play, .scope = client->rig->fixture.a,
		.tenant = span_text("a"), .subject = span_text("someone"), .events = &rig_session_events, .owner = client,
		.spools = &client->rig->spools,
	};
	struct grpc_request head;

	assert_true(grpc_request_parse(&head, request));
	return session_accept(&client->session, &config, stream, &head);
}

static const struct h2_events gateway_events = { .on_stream = gateway_on_stream, .on_output = ignore_output };
static const struct h2_events plain_events = { .on_output = ignore_output };

struct rig_client *rig_client_start(struct rig *rig, struct rig_tree *tree, const char *shared_key)
{
	struct rig_client *client = &rig->clients[rig->clients_count++];
	const struct h2_config near = { .events = &plain_events }, far = { .server = true, .events = &gateway_events, .owner = client };
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
	wire_cut(&client->wire);
	rig_wait(client->rig, client->closed && !client->session);
}

/* ---- the daemon: buildkitd ---- */

static void daemon_on_nest_closed(struct nest *nest, enum grpc_status status, struct span message)
{
	((struct rig_daemon *)nest->owner)->closed = true;
}

/* The client of the session goes: buildkitd ends the stream with OK. */
static void daemon_on_nest_end(struct nest *nest)
{
	call_finish(&nest->call, GRPC_OK, NULL);
}

static const struct nest_events daemon_nest_events = { .on_end = daemon_on_nest_end, .on_closed = daemon_on_nest_closed };

static int daemon_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct rig_daemon *daemon = owner;
	struct nest_config nest = { .ring = daemon->rig->fixture.ring, .events = &daemon_nest_events, .owner = daemon };
	struct grpc_request head;

	assert_true(grpc_request_parse(&head, request));
	assert_true(span_is(head.path, SESSION_PATH));
	for (size_t i = 0; i < head.headers_count; i++) {
		struct span value = head.headers[i].value;

		if (span_is(head.headers[i].name, "x-docker-expose-session-uuid"))
			snprintf(daemon->id, sizeof(daemon->id), "%.*s", (int)value.size, (const char *)value.data);
		if (span_is(head.headers[i].name, "x-docker-expose-session-sharedkey"))
			snprintf(daemon->shared_key, sizeof(daemon->shared_key), "%.*s", (int)value.size, (const char *)value.data);
	}
	daemon->session_open = true;
	daemon->closed = false;
	return nest_accept(&daemon->nest, &nest, stream, &head);
}

static const struct h2_events daemon_events = { .on_stream = daemon_on_stream, .on_output = ignore_output };

struct rig_daemon *rig_daemon_start(struct rig *rig)
{
	struct rig_daemon *daemon = &rig->daemons[rig->daemons_count++];
	const struct h2_config near = { .events = &plain_events }, far = { .server = true, .events = &daemon_events, .owner = daemon };

	assert_true(rig->daemons_count <= RIG_SESSIONS_MAX);
	*daemon = (struct rig_daemon){ .rig = rig };
	assert_int_equal(h2_create(&daemon->wire.client, &near), 0);
	assert_int_equal(h2_create(&daemon->wire.server, &far), 0);
	return daemon;
}

void rig_daemon_vanish(struct rig_daemon *daemon)
{
	wire_cut(&daemon->wire);
	rig_wait(daemon->rig, !nest_in_use(&daemon->nest));
}

void rig_carry(struct rig_client *client, struct rig_daemon *daemon)
{
	daemon->session_open = false;
	rig_wait(client->rig, session_is_ready(client->session));
	assert_true(session_is_held(client->session));
	assert_int_equal(session_carry(client->session, daemon->wire.client), 0);
	rig_until(client->rig, &daemon->session_open);
}

/* ---- a daemon's DiffCopy ---- */

static void copy_ask(struct rig_copy *copy, uint32_t id)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	copy->files[id].asked = true;
	copy->asked++;
	assert_int_not_equal(call_send(&copy->call, span_make(packet, fsutil_write_req(packet, id)), 0), CALL_FULL);
}

static bool copy_wants(const struct rig_copy *copy, uint32_t id)
{
	const struct rig_file *file = &copy->expected->files[id];

	return !file->directory && (!copy->wants || copy->wants(file));
}

static void copy_finish(struct rig_copy *copy)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	if (!copy->stats_ended || copy->ended < copy->asked || copy->fin_sent || copy->stays)
		return;
	copy->fin_sent = true;
	call_send(&copy->call, span_make(packet, fsutil_write_fin(packet)), 0);
}

static void copy_take_stat(struct rig_copy *copy, const struct fsutil_packet *packet)
{
	const struct rig_file *file = &copy->expected->files[copy->stats];
	struct fsutil_stat stat;

	if (!packet->has_stat) {
		assert_int_equal(copy->stats, copy->expected->count);
		copy->stats_ended = true;
		for (uint32_t id = 0; copy->late_requests && id < copy->stats; id++)
			if (copy_wants(copy, id))
				copy_ask(copy, id);
		copy->lazy = copy->sleeps_then;
		return;
	}
	assert_true(fsutil_stat_decode(packet->stat, &stat));
	assert_true(span_is(stat.path, file->path));
	assert_int_equal(stat.size, file->size);
	if (copy->bytes_before)
		copy->bytes_before[copy->stats] = copy->received;
	if (copy->mtimes)
		copy->mtimes[copy->stats] = stat.mod_time_ns;
	else
		assert_int_equal(stat.mod_time_ns, file->mtime_ns);
	if (!copy->late_requests && copy_wants(copy, copy->stats))
		copy_ask(copy, copy->stats);
	copy->stats++;
}

static void copy_take_data(struct rig_copy *copy, const struct fsutil_packet *packet)
{
	const struct rig_file *file = &copy->expected->files[packet->id];

	assert_true(packet->id < copy->expected->count && copy->files[packet->id].asked && !copy->files[packet->id].ended);
	for (size_t i = 0; i < packet->data.size; i++)
		if (packet->data.data[i] != content_at(file->seed, copy->files[packet->id].received + i))
			fail_msg("%s: another byte at %llu", file->path, (unsigned long long)(copy->files[packet->id].received + i));
	copy->files[packet->id].received += packet->data.size;
	copy->received += packet->data.size;
	if (packet->data.size)
		return;
	assert_int_equal(copy->files[packet->id].received, file->odd ? file->sent_size : file->size);
	copy->files[packet->id].ended = true;
	copy->ended++;
}

static void copy_on_message(struct call *call, struct span message)
{
	struct rig_copy *copy = call->owner;
	struct fsutil_packet packet;

	assert_true(fsutil_packet_decode(message, &packet));
	if (packet.type == FSUTIL_STAT)
		copy_take_stat(copy, &packet);
	else if (packet.type == FSUTIL_DATA)
		copy_take_data(copy, &packet);
	else if (packet.type == FSUTIL_FIN)
		copy->fin_received = true;
	copy_finish(copy);
	if (copy->lazy)
		call_hold(call);
}

static void copy_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct rig_copy *copy = call->owner;

	copy->closed = true;
	copy->status = status;
	snprintf(copy->message, sizeof(copy->message), "%.*s", (int)message.size, (const char *)message.data);
}

static const struct call_events copy_events = { .on_message = copy_on_message, .on_closed = copy_on_closed };

void rig_copy_start(struct rig_copy *copy, struct rig_daemon *daemon, const struct rig_tree *expected)
{
	const struct header metadata[] = { { span_text("dir-name"), span_text("context"), false },
		                           { span_text("exclude-patterns"), span_text("*.tmp"), false },
		                           { span_text("exclude-patterns"), span_text("*.log"), false } };

	copy->rig = daemon->rig;
	copy->expected = expected;
	copy->files = calloc(RIG_FILES_MAX, sizeof(*copy->files));
	assert_int_equal(call_start(&copy->call, daemon->nest.h2, DIFFCOPY_PATH, span_text("localhost"), 0, metadata, 3, 4 << 20,
	                            &copy_events, copy), 0);
}

void rig_copy_go_on(struct rig_copy *copy)
{
	copy->lazy = false;
	call_release(&copy->call);
}

void rig_copy_send(struct rig_copy *copy, struct span packet)
{
	assert_int_equal(call_send(&copy->call, packet, 0), CALL_SENT);
}

void rig_copy_fini(struct rig_copy *copy)
{
	assert_true(copy->closed);
	call_fini(&copy->call);
	free(copy->files);
	memset(copy, 0, sizeof(*copy));
}

/* ---- a daemon's Upload/Pull ---- */

static void pull_on_message(struct call *call, struct span message)
{
	struct rig_pull *pull = call->owner;
	struct span data;

	assert_true(bytes_message_decode(message, &data));
	for (size_t i = 0; i < data.size; i++)
		if (data.data[i] != content_at(1, pull->received + i))
			fail_msg("another byte at %llu", (unsigned long long)(pull->received + i));
	pull->received += data.size;
	if (pull->lazy)
		call_hold(call);
}

static void pull_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct rig_pull *pull = call->owner;

	pull->closed = true;
	pull->status = status;
	snprintf(pull->message, sizeof(pull->message), "%.*s", (int)message.size, (const char *)message.data);
}

static const struct call_events pull_events = { .on_message = pull_on_message, .on_closed = pull_on_closed };

void rig_pull_start(struct rig_pull *pull, struct rig_daemon *daemon, const char *path)
{
	const struct header metadata[] = { { span_text("urlpath"), span_text(path), false },
		                           { span_text("urlhost"), span_text("buildkit-session"), false } };

	pull->rig = daemon->rig;
	assert_int_equal(call_start(&pull->call, daemon->nest.h2, SPOOL_PATH, span_text("localhost"), 0, metadata, 2, 4 << 20,
	                            &pull_events, pull), 0);
}

void rig_pull_go_on(struct rig_pull *pull)
{
	pull->lazy = false;
	call_release(&pull->call);
}

void rig_pull_fini(struct rig_pull *pull)
{
	assert_true(pull->closed);
	call_fini(&pull->call);
	memset(pull, 0, sizeof(*pull));
}

/* ---- life ---- */

static void memory_open(struct rig *rig)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/snapshots", rig->fixture.path);
	assert_int_equal(stat_memory_create(&rig->memory, rig->fixture.ring, path), 0);
	rig->service.memory = rig->memory;
}

static void on_destroyed(void *context)
{
	*(bool *)context = true;
}

static void memory_close(struct rig *rig)
{
	bool destroyed = false;

	stat_memory_destroy(rig->memory, on_destroyed, &destroyed);
	rig_until(rig, &destroyed);
}

static void cas_open(struct rig *rig)
{
	rig->cas = (struct cas){ .ring = rig->fixture.ring, .store = rig->fixture.store, .hasher = &rig->hasher };
	cas_init(&rig->cas);
}

static void stable_open(struct rig *rig)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/claims", rig->fixture.path);
	assert_int_equal(stable_create(&rig->play.stable, rig->fixture.ring, path), 0);
}

static void stable_close(struct rig *rig)
{
	bool destroyed = false;

	stable_destroy(rig->play.stable, on_destroyed, &destroyed);
	rig_until(rig, &destroyed);
}

void rig_reopen_stable(struct rig *rig, const char *command)
{
	char line[512];

	stable_close(rig);
	snprintf(line, sizeof(line), "cd %s/claims && %s", rig->fixture.path, command);
	assert_int_equal(system(line), 0);
	stable_open(rig);
}

void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	fixture_init(&rig->fixture);
	rig->fixture.config.references = closure_references;
	rig->fixture.config.ceiling_bytes = 256u << 20;
	fixture_open(&rig->fixture);
	sha256_init(&rig->hasher, SHA256_AUTO);
	cas_open(rig);
	rig->service = (struct diffcopy_service){ .cas = &rig->cas, .mtime_trust = true, .directory = rig->fixture.path };
	rig->spools = (struct spool_room){ .directory = rig->fixture.path, .bytes_max = SPOOL_ALL_BYTES_MAX,
	                                   .spool_bytes_max = SPOOL_BYTES_MAX };
	memory_open(rig);
	stable_open(rig);
}

void rig_reopen_memory(struct rig *rig)
{
	memory_close(rig);
	memory_open(rig);
}

static void wait_for_cas(struct rig *rig)
{
	rig_wait(rig, cas_idle(&rig->cas));
}

void rig_lose_store(struct rig *rig)
{
	char command[256];

	wait_for_cas(rig);
	memory_close(rig);
	stable_close(rig);
	fixture_close(&rig->fixture);
	snprintf(command, sizeof(command), "cp -a %s/snapshots %s.kept && rm -rf %s/* && mv %s.kept %s/snapshots", rig->fixture.path,
	         rig->fixture.path, rig->fixture.path, rig->fixture.path, rig->fixture.path);
	assert_int_equal(system(command), 0);
	fixture_open(&rig->fixture);
	cas_open(rig);
	memory_open(rig);
	stable_open(rig);
}

struct rig_sender *rig_sender_free(struct rig_sender *sender)
{
	struct rig_sender *next = sender->next;

	call_fini(&sender->call);
	free(sender);
	return next;
}

static void client_free(struct rig_client *client)
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
	wire_free(&client->wire);
}

void rig_fini(struct rig *rig)
{
	for (unsigned i = 0; i < rig->clients_count; i++)
		if (!rig->clients[i].closed)
			wire_cut(&rig->clients[i].wire);
	for (unsigned i = 0; i < rig->daemons_count; i++)
		if (!rig->daemons[i].wire.cut)
			wire_cut(&rig->daemons[i].wire);
	for (unsigned i = 0; i < rig->clients_count; i++) {
		rig_wait(rig, !rig->clients[i].session && !nest_in_use(&rig->clients[i].nest));
		client_free(&rig->clients[i]);
	}
	for (unsigned i = 0; i < rig->daemons_count; i++) {
		rig_wait(rig, !nest_in_use(&rig->daemons[i].nest));
		wire_free(&rig->daemons[i].wire);
	}
	assert_int_equal(rig->spools.bytes, 0);
	wait_for_cas(rig);
	memory_close(rig);
	stable_close(rig);
	play_service_fini(&rig->play);
	fixture_close(&rig->fixture);
	fixture_fini(&rig->fixture);
}
