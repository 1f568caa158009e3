/*
 * A context that turns out to be unfit when entries of the root that was known have gone to the daemon already. They are what the
 * client has, too; so the rest of them comes from the client, as by any DiffCopy, and the files that the daemon asks for from
 * where their entries came. Its stable key is given up before: nobody else will be told anything under it; and as nobody names
 * what the client sends now, it goes by mtimes that its paths never had, and is all asked for. Only a further name of a file has this
 * one's, also of a file that was told before.
 *
 *	LEAVING: what was taken goes out -> the key is given up -> PLAIN: the client lists anew, and what was taken is skipped
 *
 * On the client's side this is the second DiffCopy call of the build, which it answers like the first.
 */
#include "gateway/play/play_private.h"

#include <stdio.h>

#include "gateway/base/log.h"

#define CLIENT_BYTES_MAX  (4u << 20)     /* a packet: fsutil's DATA has 32 KiB, a STAT's xattrs a few */
#define QUEUE_BYTES_MAX   (1u << 20)     /* beyond, the client waits */

void play_plain_leave(struct play *play, const char *why)
{
	log_event(LOG_INFO, "context not played to its end", LOG_TEXT("cause", why));
	snprintf(play->why, sizeof(play->why), "%s", why);
	play->service->counters.unfit++;
	play->state = PLAY_LEAVING;
	play->entry_waits = false;
	recent_forget(&play->service->roots, play->key);
	if (!list_empty(&play->lost))
		play_repair(play);               /* no root comes that would bring it */
	play_pump(play);
}

void play_plain_step(struct play *play)
{
	if (play->state != PLAY_LEAVING || play->giving_up || play->syncing || !packet_queue_empty(&play->scanned) ||
	    !packet_queue_empty(&play->claimed))
		return;
	play->giving_up = true;
	play_give_up(play);
}

/* ---- to the client ---- */

static void client_flush(struct play *play)
{
	struct span packet;

	while (play->client_open && packet_queue_front(&play->to_client, &packet)) {
		if (call_send(&play->client, packet, 0) == CALL_FULL)
			return;
		packet_queue_pop(&play->to_client);
	}
}

void play_plain_forward(struct play *play, struct span packet)
{
	if (packet_queue_push(&play->to_client, &packet, 1) < 0)
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	client_flush(play);
}

/* Each is asked for once, if at all: so what waits for the client is bounded by its entries. */
bool play_plain_ask(struct play *play, uint32_t id, struct span packet)
{
	if (play->state != PLAY_PLAIN || id < play->entries_count || id >= play->plain_seen ||
	    play->plain_asked == play->plain_seen - play->entries_count)
		return false;
	play->plain_asked++;
	play_plain_forward(play, packet);
	return true;
}

/* ---- from the client ---- */

static void client_queue(struct play *play, const struct span *parts, size_t count)
{
	if (packet_queue_push(&play->from_client, parts, count) < 0)
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for what the client sends");
	else if (play->from_client.bytes > QUEUE_BYTES_MAX)
		call_hold(&play->client);
}

/* One that the daemon has heard nothing of. */
static void client_queue_stat(struct play *play, struct fsutil_stat *stat)
{
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct span parts[2];

	if (!play_stable_restat(play, stat)) {
		play_fail(play, GRPC_UNAVAILABLE, "the gateway cannot keep its claims on the context: start the build again");
		return;
	}
	if (!play->head.always_sent) {
		play->session->totals.entries++;
		play->session->totals.files += fsutil_stat_is_regular(stat);
	}
	buffer_clear(&play->stat);
	fsutil_stat_put(&play->stat, stat);
	parts[0] = span_make(head, fsutil_write_stat_head(head, play->stat.size));
	parts[1] = buffer_span(&play->stat);
	if (play->stat.failed)
		play_fail(play, GRPC_INTERNAL, "an entry of the context is too long");
	else
		client_queue(play, parts, 2);
}

/* NULL, or what is wrong. */
static const char *client_take_stat(struct play *play, const struct fsutil_packet *packet, struct span message)
{
	static const char changed[] = "the context changed while it was sent: start the build again";
	struct fsutil_stat stat;

	if (!packet->has_stat) {
		if (play->plain_seen < play->entries_count)
			return changed;
		client_queue(play, &message, 1);
		return NULL;
	}
	if (!fsutil_stat_decode(packet->stat, &stat))
		return "malformed STAT from the client";
	if (play->plain_seen == DIFFCOPY_ENTRIES_MAX)
		return "the context has more than 33554432 entries";
	if (play->plain_seen++ >= play->entries_count) {
		client_queue_stat(play, &stat);
		return NULL;
	}
	play_told_path(&play->seen, &stat);
	return play->plain_seen == play->entries_count && !play_told_same_paths(play) ? changed : NULL;
}

static void client_on_message(struct call *call, struct span message)
{
	struct play *play = container_of(call, struct play, client);
	struct fsutil_packet packet;
	const char *fault;
	char text[400];

	if (play->state != PLAY_PLAIN)
		return;
	if (!fsutil_packet_decode(message, &packet)) {
		play_fail(play, GRPC_INTERNAL, "malformed packet from the client");
	} else if (packet.type == FSUTIL_STAT) {
		fault = client_take_stat(play, &packet, message);
		if (fault)
			play_fail(play, GRPC_UNAVAILABLE, fault);
	} else if (packet.type == FSUTIL_ERR) {
		snprintf(text, sizeof(text), "error from sender: %.*s", (int)(packet.data.size < 300 ? packet.data.size : 300),
		         (const char *)packet.data.data);
		play_fail(play, GRPC_UNKNOWN, text);
	} else {
		play->session->totals.bytes_from_client += packet.type == FSUTIL_DATA ? packet.data.size : 0;
		play->session->totals.bytes_to_executor += packet.type == FSUTIL_DATA ? packet.data.size : 0;
		client_queue(play, &message, 1);
	}
	play_pump(play);
}

static void client_on_writable(struct call *call)
{
	client_flush(container_of(call, struct play, client));
}

static void client_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct play *play = container_of(call, struct play, client);
	char text[CALL_STATUS_TEXT_MAX + 1];

	play->client_open = false;
	if (status != GRPC_OK && play->state == PLAY_PLAIN) {
		snprintf(text, sizeof(text), "%.*s", (int)(message.size < 400 ? message.size : 400), (const char *)message.data);
		play_fail(play, status, text);
	}
	play_pump(play);
	play_join(play);
}

static const struct call_events client_events = {
	.on_message = client_on_message, .on_writable = client_on_writable, .on_closed = client_on_closed,
};

void play_plain_open(struct play *play)
{
	struct h2 *client = play->session->client(play->session);

	if (!client || call_start(&play->client, client, DIFFCOPY_PATH, span_text("localhost"), 0, play->head.metadata,
	                          play->head.metadata_count, CLIENT_BYTES_MAX, &client_events, play) < 0) {
		play_fail(play, GRPC_UNAVAILABLE, play->why);
		return;
	}
	play->client_open = true;
	play->state = PLAY_PLAIN;
}

/* ---- to the daemon ---- */

/* fsutil's sender answers FIN with FIN, and that is all. */
bool play_plain_send(struct play *play)
{
	struct fsutil_packet packet;
	struct span message;
	bool last;

	if (play->state != PLAY_PLAIN || !packet_queue_front(&play->from_client, &message))
		return false;
	last = fsutil_packet_decode(message, &packet) && packet.type == FSUTIL_FIN;
	call_send(&play->daemon, message, 0);
	packet_queue_pop(&play->from_client);
	if (last) {
		play->state = PLAY_ENDING;
		call_finish(&play->daemon, GRPC_OK, NULL);
	} else if (play->client_open && play->client.held && play->from_client.bytes <= QUEUE_BYTES_MAX / 2) {
		call_release(&play->client);
	}
	return true;
}

void play_plain_close(struct play *play)
{
	if (play->client_open)
		call_cancel(&play->client);
}

void play_plain_fini(struct play *play)
{
	call_fini(&play->client);
	packet_queue_fini(&play->from_client);
	packet_queue_fini(&play->to_client);
}
