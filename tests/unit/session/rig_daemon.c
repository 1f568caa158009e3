/* The daemon, as buildkitd is one, and its calls inside a session. */
#include "tests/unit/session/rig_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buildkit.h"

/* ---- its sessions ---- */

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

static const struct h2_events daemon_events = { .on_stream = daemon_on_stream, .on_output = rig_ignore_output };

struct rig_daemon *rig_daemon_start(struct rig *rig)
{
	struct rig_daemon *daemon = &rig->daemons[rig->daemons_count++];
	const struct h2_config near = { .events = &rig_plain_events }, far = { .server = true, .events = &daemon_events, .owner = daemon };

	assert_true(rig->daemons_count <= RIG_SESSIONS_MAX);
	*daemon = (struct rig_daemon){ .rig = rig };
	assert_int_equal(h2_create(&daemon->wire.client, &near), 0);
	assert_int_equal(h2_create(&daemon->wire.server, &far), 0);
	return daemon;
}

void rig_daemon_vanish(struct rig_daemon *daemon)
{
	rig_wire_cut(&daemon->wire);
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

/* ---- its DiffCopy ---- */

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

	return !file->directory && !file->link[0] && (!copy->wants || copy->wants(file));
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
	assert_true(span_is(stat.path, file->path) && span_is(stat.linkname, file->link));
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
	for (size_t i = 0; i < packet->data.size && !copy->careless; i++)
		if (packet->data.data[i] != rig_byte(file->seed, copy->files[packet->id].received + i))
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
	const struct header metadata[] = { { span_text("dir-name"), span_text(copy->directory ? copy->directory : "context"), false },
		                           { span_text("exclude-patterns"), span_text("*.tmp"), false },
		                           { span_text("exclude-patterns"), span_text("*.log"), false },
		                           { span_text("followpaths"), span_text(copy->followed ? copy->followed : ""), false } };

	copy->rig = daemon->rig;
	copy->expected = expected;
	copy->files = calloc(RIG_FILES_MAX, sizeof(*copy->files));
	assert_int_equal(call_start(&copy->call, daemon->nest.h2, DIFFCOPY_PATH, span_text("localhost"), 0, metadata,
	                            copy->followed ? 4 : 3, 4 << 20, &copy_events, copy), 0);
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

/* ---- its Upload/Pull ---- */

static void pull_on_message(struct call *call, struct span message)
{
	struct rig_pull *pull = call->owner;
	struct span data;

	assert_true(bytes_message_decode(message, &data));
	for (size_t i = 0; i < data.size; i++)
		if (data.data[i] != rig_byte(1, pull->received + i))
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
