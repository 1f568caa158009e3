/* A DiffCopy call: the daemon's and the client's side of it, and the packets between them. */
#include "gateway/broker/diffcopy_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/broker/diffcopy_head.h"

#define MESSAGE_BYTES_MAX (4u << 20)             /* fsutil's DATA has 32 KiB, a STAT's xattrs a few */
#define NAME_BYTES_MAX    (1u << 20)             /* of a dir-name: more does not come in a head (session/nest.h) */
/* What waits when the client is told to wait, and what is on its way then: an inner stream's window (session/nest.h). */
#define WAITING_CONTENT_BYTES (DIFFCOPY_WAITING_BYTES + (2u << 20))
/* Of STATs that wait, about as many entries, with the content between them. */
#define WAITING_MEMORY_BYTES (DIFFCOPY_MEMORY_ENTRIES * 96ull + 2 * DIFFCOPY_WAITING_BYTES)

/* ---- towards the daemon ---- */

/*
 * A status comes behind whole messages only, else the call is reset, which says nothing of why. What a packet lacks whose
 * beginning is out goes as zeros: it is a packet of a file that never gets its end, and of a call that fails.
 */
static void diffcopy_end_daemon(struct diffcopy *diffcopy, enum grpc_status status, const char *text)
{
	static const uint8_t zeros[16u << 10];
	size_t lacks = diffcopy->passing_to == PASS_TO_DAEMON ? diffcopy->passing_left : 0;

	for (size_t size; lacks; lacks -= size) {
		size = lacks < sizeof(zeros) ? lacks : sizeof(zeros);
		call_send_more(&diffcopy->daemon, span_make(zeros, size));
	}
	diffcopy->passing_to = PASS_NOWHERE;
	call_finish(&diffcopy->daemon, status, text);
}

void diffcopy_fail(struct diffcopy *diffcopy, enum grpc_status status, const char *text)
{
	if (!diffcopy->daemon_closed)
		diffcopy_end_daemon(diffcopy, status, text);
	if (!diffcopy->client_closed)
		call_cancel(&diffcopy->client);
}

/* Behind what waits; directly when nothing does. */
static void diffcopy_tell_daemon(struct diffcopy *diffcopy, struct span packet)
{
	struct packet_queue *waiting = &diffcopy->waiting;

	if (diffcopy->daemon_closed)
		return;
	if (packet_queue_empty(waiting) && call_send(&diffcopy->daemon, packet, 0) != CALL_FULL)
		return;
	if (packet_queue_push(waiting, &packet, 1) < 0)
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for the entries of the context");
}

/* The client is done: its status is the daemon's, behind all that was to be sent. */
static void diffcopy_finish_daemon(struct diffcopy *diffcopy)
{
	bool waits = !packet_queue_empty(&diffcopy->waiting);

	if (!diffcopy->client_closed || diffcopy->daemon_closed || (waits && diffcopy->client_status == GRPC_OK))
		return;
	diffcopy_end_daemon(diffcopy, diffcopy->client_status, diffcopy->client_message);
}

static bool diffcopy_send_front(struct diffcopy *diffcopy)
{
	struct packet_queue *waiting = &diffcopy->waiting;
	size_t content = waiting->content;
	struct span packet;

	if (!packet_queue_front(waiting, &packet))
		return false;
	call_send(&diffcopy->daemon, packet, 0);
	packet_queue_pop(waiting);
	diffcopy->entries_taken += waiting->content == content;
	return true;
}

/* What came from the client and what the store has, in turns: a daemon works on entries and on content side by side. */
static bool diffcopy_send_next(struct diffcopy *diffcopy)
{
	bool again = diffcopy->played;

	diffcopy->played = !again && transfers_play(diffcopy);
	if (diffcopy->played || diffcopy_send_front(diffcopy))
		return true;
	diffcopy->played = again && transfers_play(diffcopy);
	return diffcopy->played;
}

void diffcopy_pump(struct diffcopy *diffcopy)
{
	while (!diffcopy->daemon_closed && call_has_room(&diffcopy->daemon))
		if (!diffcopy_send_next(diffcopy))
			break;
	transfers_resume(diffcopy);
	diffcopy_finish_daemon(diffcopy);
}

/* ---- towards the client ---- */

static void diffcopy_flush_questions(struct diffcopy *diffcopy)
{
	struct span packet;

	while (!diffcopy->client_closed && packet_queue_front(&diffcopy->questions, &packet)) {
		if (call_send(&diffcopy->client, packet, 0) == CALL_FULL)
			return;
		packet_queue_pop(&diffcopy->questions);
	}
	if (diffcopy->daemon_ended && !diffcopy->client_closed)
		call_end(&diffcopy->client);
}

void diffcopy_ask_client(struct diffcopy *diffcopy, struct span packet)
{
	if (diffcopy->client_closed)
		return;
	if (packet_queue_empty(&diffcopy->questions) && call_send(&diffcopy->client, packet, 0) != CALL_FULL)
		return;
	if (packet_queue_push(&diffcopy->questions, &packet, 1) < 0)
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
}

/* ---- entries ---- */

/* A full table forgets what builds no longer see, and most files of a context are seen without being asked for. */
static void diffcopy_see(struct diffcopy *diffcopy, const struct entry *entry)
{
	if (diffcopy->table && entry->state != ENTRY_OTHER)
		stat_table_touch(diffcopy->table, &entry->key);
}

static void diffcopy_count(struct diffcopy *diffcopy, const struct entry *entry)
{
	struct diffcopy_totals *totals = &diffcopy->session->totals;

	if (!diffcopy->counted)
		return;
	totals->entries++;
	totals->files += entry->state == ENTRY_FILE;
}

/* NULL, or what is wrong with it. */
static const char *diffcopy_add_entry(struct diffcopy *diffcopy, struct span bytes)
{
	struct fsutil_stat stat;
	struct entry *entry;

	if (!fsutil_stat_decode(bytes, &stat))
		return "malformed STAT from the client";
	if (diffcopy->entries_count == DIFFCOPY_ENTRIES_MAX)
		return "the context has more than 33554432 entries";
	if (spill_grow(&diffcopy->entries, (diffcopy->entries_count + 1) * sizeof(*entry)) < 0)
		return "no memory and no disk for the entries of the context";
	entry = diffcopy_entry(diffcopy, diffcopy->entries_count++);
	*entry = (struct entry){ .state = ENTRY_OTHER, .next = ENTRY_NONE };
	if (fsutil_stat_is_regular(&stat)) {
		entry->state = ENTRY_FILE;
		entry->size = stat.size < 0 ? 0 : (uint64_t)stat.size;
		entry->key = stat_entry_key(stat.path, entry->size, stat.mod_time_ns);
	}
	diffcopy_see(diffcopy, entry);
	diffcopy_count(diffcopy, entry);
	return NULL;
}

/* As diffcopy_tell_daemon(), with another mtime. */
static void diffcopy_tell_restat(struct diffcopy *diffcopy, struct span bytes)
{
	struct buffer packet = buffer_heap(MESSAGE_BYTES_MAX), encoded = buffer_heap(MESSAGE_BYTES_MAX);
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct fsutil_stat stat;

	if (!fsutil_stat_decode(bytes, &stat) ||
	    !diffcopy->session->restat(diffcopy->session, buffer_span(&diffcopy->directory), &stat)) {
		diffcopy_fail(diffcopy, GRPC_UNAVAILABLE, "the gateway cannot keep its claims on the context: start the build again");
		return;
	}
	fsutil_stat_put(&encoded, &stat);
	buffer_put(&packet, head, fsutil_write_stat_head(head, encoded.size));
	buffer_put(&packet, encoded.data, encoded.size);
	if (packet.failed || encoded.failed)
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	else
		diffcopy_tell_daemon(diffcopy, buffer_span(&packet));
	buffer_fini(&packet);
	buffer_fini(&encoded);
}

/* ---- packets ---- */

static void client_on_message(struct call *call, struct span message)
{
	struct diffcopy *diffcopy = container_of(call, struct diffcopy, client);
	struct fsutil_packet packet;
	const char *fault = NULL;

	if (!fsutil_packet_decode(message, &packet)) {
		diffcopy_fail(diffcopy, GRPC_INTERNAL, "malformed packet from the client");
		return;
	}
	switch (packet.type) {
	case FSUTIL_STAT:
		if (packet.has_stat)
			fault = diffcopy_add_entry(diffcopy, packet.stat);
		if (!fault && packet.has_stat && diffcopy->session->restat)
			diffcopy_tell_restat(diffcopy, packet.stat);
		else if (!fault)
			diffcopy_tell_daemon(diffcopy, message);
		break;
	case FSUTIL_DATA:
		if (!transfer_take(diffcopy, packet.id, packet.data))
			fault = "the client sent a file that it was not asked for";
		break;
	default:                                 /* FIN, ERR, and what may come to be: behind the files */
		diffcopy_tell_daemon(diffcopy, message);
		break;
	}
	if (fault)
		diffcopy_fail(diffcopy, GRPC_INTERNAL, fault);
}

/* Content is passed on as it comes, the rest is put together first. */
static void client_on_part(struct call *call, struct span part, size_t left)
{
	struct diffcopy *diffcopy = container_of(call, struct diffcopy, client);
	struct buffer *collected = &diffcopy->collected;
	struct span data;
	uint32_t id;

	if (diffcopy->passing) {
		transfer_take_part(diffcopy, part, left);
	} else if (collected->size == 0 && left == 0) {
		client_on_message(call, part);
	} else if (collected->size == 0 && fsutil_data_begins(part, left, &id, &data) &&
	           transfer_take_begin(diffcopy, id, data.size + left)) {
		transfer_take_part(diffcopy, data, left);
	} else {
		buffer_put(collected, part.data, part.size);
		diffcopy->service->counters.copied_bytes_broker += part.size;
		if (collected->failed)
			diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		else if (left == 0)
			client_on_message(call, buffer_span(collected));
		if (left == 0)
			buffer_clear(collected);
	}
}

static void diffcopy_ask(struct diffcopy *diffcopy, uint32_t id)
{
	struct entry *entry = id < diffcopy->entries_count ? diffcopy_entry(diffcopy, id) : NULL;
	char text[64];

	if (!entry || entry->state != ENTRY_FILE) {
		snprintf(text, sizeof(text), "invalid file id %u", (unsigned)id);
		diffcopy_fail(diffcopy, GRPC_INVALID_ARGUMENT, text);
		return;
	}
	entry->state = ENTRY_ASKED;
	entry->next = ENTRY_NONE;
	if (diffcopy->asked_first == ENTRY_NONE)
		diffcopy->asked_first = id;
	else
		diffcopy_entry(diffcopy, diffcopy->asked_last)->next = id;
	diffcopy->asked_last = id;
	transfers_start(diffcopy);
}

static void daemon_on_message(struct call *call, struct span message)
{
	struct diffcopy *diffcopy = container_of(call, struct diffcopy, daemon);
	struct fsutil_packet packet;

	if (!fsutil_packet_decode(message, &packet))
		diffcopy_fail(diffcopy, GRPC_INVALID_ARGUMENT, "malformed packet");
	else if (packet.type == FSUTIL_REQ)
		diffcopy_ask(diffcopy, packet.id);
	else
		diffcopy_ask_client(diffcopy, message);
}

/* ---- ends ---- */

static void diffcopy_on_reap(struct op *op, int32_t res)
{
	struct diffcopy *diffcopy = container_of(op, struct diffcopy, reap);
	struct diffcopy_session *session = diffcopy->session;

	transfers_fini(diffcopy);
	diffcopy->service->counters.copied_bytes_broker +=
		diffcopy->content_queued + call_bytes_copied(&diffcopy->daemon) + call_bytes_copied(&diffcopy->client);
	call_fini(&diffcopy->daemon);
	call_fini(&diffcopy->client);
	packet_queue_fini(&diffcopy->waiting);
	packet_queue_fini(&diffcopy->questions);
	spill_fini(&diffcopy->entries);
	buffer_fini(&diffcopy->directory);
	buffer_fini(&diffcopy->collected);
	free(diffcopy);
	session->open--;
	if (session->on_idle && session->open == 0)
		session->on_idle(session);
}

void diffcopy_join(struct diffcopy *diffcopy)
{
	if (diffcopy->daemon_closed && diffcopy->client_closed && diffcopy->naming == 0 && !op_in_flight(&diffcopy->patience) &&
	    !op_in_flight(&diffcopy->reap))
		ring_timer(diffcopy->service->cas->ring, &diffcopy->reap, 0);
}

static void client_on_writable(struct call *call)
{
	diffcopy_flush_questions(container_of(call, struct diffcopy, client));
}

static void client_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct diffcopy *diffcopy = container_of(call, struct diffcopy, client);

	diffcopy->client_closed = true;
	diffcopy->client_status = status;
	snprintf(diffcopy->client_message, sizeof(diffcopy->client_message), "%.*s", (int)message.size,
	         (const char *)message.data);
	diffcopy_finish_daemon(diffcopy);
	diffcopy_join(diffcopy);
}

static void daemon_on_end(struct call *call)
{
	struct diffcopy *diffcopy = container_of(call, struct diffcopy, daemon);

	diffcopy->daemon_ended = true;
	if (packet_queue_empty(&diffcopy->questions))
		diffcopy_flush_questions(diffcopy);
}

static void daemon_on_writable(struct call *call)
{
	diffcopy_pump(container_of(call, struct diffcopy, daemon));
}

static void daemon_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct diffcopy *diffcopy = container_of(call, struct diffcopy, daemon);

	diffcopy->daemon_closed = true;
	transfers_close(diffcopy);
	if (!diffcopy->client_closed)
		call_cancel(&diffcopy->client);
	diffcopy_join(diffcopy);
}

static const struct call_events client_events = {
	.on_message = client_on_message, .on_part = client_on_part, .on_writable = client_on_writable, .on_closed = client_on_closed,
};

static const struct call_events daemon_events = {
	.on_message = daemon_on_message, .on_end = daemon_on_end, .on_writable = daemon_on_writable,
	.on_closed = daemon_on_closed,
};

/* ---- the beginning ---- */

static void diffcopy_on_table(struct stat_request *request)
{
	struct diffcopy *diffcopy = container_of(request, struct diffcopy, request);

	diffcopy->table_pending = false;
	diffcopy->table = request->table;
	for (uint32_t id = 0; id < diffcopy->entries_count; id++)
		diffcopy_see(diffcopy, diffcopy_entry(diffcopy, id));
	if (transfers_open(diffcopy) < 0)
		diffcopy_fail(diffcopy, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	else
		transfers_start(diffcopy);
}

/* A table a directory of a client: what was seen under another name is no evidence here. */
static void diffcopy_remember(struct diffcopy *diffcopy, struct span directory)
{
	uint8_t key[STAT_KEY_BYTES];
	struct sha256_stream hash;

	sha256_stream_init(&hash);
	sha256_stream_update(&hash, diffcopy->session->identity, sizeof(diffcopy->session->identity));
	sha256_stream_update(&hash, directory.data, directory.size);
	sha256_stream_final(&hash, key);
	diffcopy->table_pending = true;
	diffcopy->request.fn = diffcopy_on_table;
	stat_memory_get(diffcopy->service->memory, &diffcopy->request, key);
}

static bool diffcopy_may_know(struct diffcopy_session *session, const struct diffcopy_head *head)
{
	if (!session->trusted || !session->service->memory || !session->service->mtime_trust || head->always_sent)
		return false;
	return !session->takes || session->takes(session, head->directory);
}

static struct diffcopy *diffcopy_make(struct diffcopy_session *session)
{
	struct diffcopy *diffcopy = calloc(1, sizeof(*diffcopy));
	const char *directory = session->service->directory;

	if (!diffcopy)
		return NULL;
	diffcopy->session = session;
	diffcopy->service = session->service;
	diffcopy->reap.fn = diffcopy_on_reap;
	diffcopy->asked_first = ENTRY_NONE;
	diffcopy->entries = (struct spill){ .directory = directory,
		                            .memory_bytes_max = DIFFCOPY_MEMORY_ENTRIES * sizeof(struct entry) };
	diffcopy->waiting.kept_bytes = WAITING_CONTENT_BYTES + WAITING_CONTENT_BYTES / 2; /* a spill grows by half */
	diffcopy->waiting.spill = (struct spill){ .directory = directory, .memory_bytes_max = WAITING_MEMORY_BYTES };
	list_init(&diffcopy->free);
	list_init(&diffcopy->plays);
	return diffcopy;
}

int diffcopy_open(struct diffcopy_session *session, struct stream *stream, const struct grpc_request *head, struct h2 *client)
{
	struct diffcopy *diffcopy = diffcopy_make(session);
	struct diffcopy_head read;
	int r;

	if (!diffcopy)
		return ERR_RAISE(-ENOMEM);
	r = diffcopy_head_read(&read, head);
	diffcopy->directory = buffer_heap(NAME_BYTES_MAX);
	buffer_put(&diffcopy->directory, read.directory.data, read.directory.size);
	if (diffcopy->directory.failed)
		r = -ENOMEM;
	if (r == 0)
		r = call_start(&diffcopy->client, client, DIFFCOPY_PATH, span_text("localhost"), 0, read.metadata,
		               read.metadata_count, MESSAGE_BYTES_MAX, &client_events, diffcopy);
	diffcopy_head_fini(&read);
	if (r < 0) {
		buffer_fini(&diffcopy->directory);
		free(diffcopy);
		return ERR_RAISE(r);
	}
	diffcopy->counted = !read.always_sent;
	diffcopy->collected = buffer_heap(MESSAGE_BYTES_MAX);
	call_accept(&diffcopy->daemon, stream, head, MESSAGE_BYTES_MAX, &daemon_events, diffcopy);
	session->open++;
	session->service->counters.calls++;
	if (diffcopy_may_know(session, &read))
		diffcopy_remember(diffcopy, read.directory);
	return 0;
}

/* ---- a session's part ---- */

void diffcopy_session_init(struct diffcopy_session *session, struct diffcopy_service *service, const struct scope *scope,
                           struct span tenant, struct span subject, struct span shared_key)
{
	struct sha256_stream hash;

	*session = (struct diffcopy_session){ .service = service, .scope = *scope, .trusted = shared_key.size > 0 };
	sha256_stream_init(&hash);
	stat_key_field(&hash, tenant);
	stat_key_field(&hash, subject);
	stat_key_field(&hash, shared_key);
	sha256_stream_final(&hash, session->identity);
}
