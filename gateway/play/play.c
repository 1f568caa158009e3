/* A DiffCopy call that is played from the store: the daemon's side of it, and the entries. */
#include "gateway/play/play_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "proto/pb.h"

#define MESSAGE_BYTES_MAX  (1u << 20)    /* the daemon's: REQ, FIN, ERR */
#define TIMES_MEMORY_BYTES (1u << 20)    /* of lists that wait; beyond, they are the page cache's */
#define STAT_BYTES_MAX     (8u << 20)    /* an entry's path, target and xattrs */
#define TIMES_EXTRA_BYTES  8u             /* what a list costs in the queue besides its bytes */
#define TIME_BYTES_MAX     (2 * PB_VARINT_BYTES_MAX + TIMES_EXTRA_BYTES) /* a list of one */

/* ---- the end ---- */

static void play_on_reap(struct op *op, int32_t res)
{
	struct play *play = container_of(op, struct play, reap);
	struct diffcopy_session *session = play->session;

	play_files_fini(play);
	play_stable_fini(play);
	walk_destroy(play->walk);
	asker_fini(&play->asker);
	call_fini(&play->daemon);
	diffcopy_head_fini(&play->head);
	free(play->headers);
	buffer_fini(&play->stat);
	packet_queue_fini(&play->times);
	play_plain_fini(play);
	spill_fini(&play->entries);
	spill_fini(&play->unnamed);
	spill_fini(&play->waits);
	free(play);
	session->open--;
	if (session->on_idle && session->open == 0)
		session->on_idle(session);
}

void play_join(struct play *play)
{
	if (play->state == PLAY_OVER && play->asker_closed && !play->client_open && !op_in_flight(&play->again) &&
	    !op_in_flight(&play->reap))
		ring_timer(play->session->service->cas->ring, &play->reap, 0);
}

void play_fail(struct play *play, enum grpc_status status, const char *text)
{
	if (play->state >= PLAY_ENDING)
		return;
	play->state = PLAY_ENDING;
	call_finish(&play->daemon, status, text);
	asker_cancel(&play->asker);
	play_plain_close(play);
}

/* ---- entries ---- */

static void play_count(struct play *play)
{
	struct diffcopy_totals *totals = &play->session->totals;

	if (play->head.always_sent)
		return;
	totals->entries++;
	totals->files += fsutil_stat_is_regular(&play->entry.stat);
}

bool play_add_entry(struct play *play)
{
	const struct content_name *name = &play->entry.name;
	struct play_entry *entry;

	if (play->entries_count == DIFFCOPY_ENTRIES_MAX ||
	    spill_grow(&play->entries, (play->entries_count + 1) * sizeof(*entry)) < 0) {
		play_fail(play, GRPC_INTERNAL, play->entries_count == DIFFCOPY_ENTRIES_MAX ?
		          "the context has more than 33554432 entries" : "no memory and no disk for the entries of the context");
		return false;
	}
	entry = play_entry_at(play, play->entries_count++);
	*entry = (struct play_entry){ .next = PLAY_NONE, .state = PLAY_ENTRY_OTHER };
	play->entry_waits = false;
	play_count(play);
	if (!fsutil_stat_is_regular(&play->entry.stat))
		return true;
	/* A second name is never asked for, but may be, as at fsutil's own sender. */
	entry->state = play->ahead ? PLAY_ENTRY_UNNAMED : PLAY_ENTRY_FILE;
	entry->size = (uint64_t)play->entry.stat.size;
	if (play->ahead)
		return true;
	entry->recipe_bytes = name->recipe ? (uint32_t)name->digest.size & 0xffffffu : 0;
	memcpy(entry->hash, name->digest.hash, sizeof(entry->hash));
	return true;
}

bool play_take_time(struct play *play, int64_t *time)
{
	struct span list, rest;

	while (packet_queue_front(&play->times, &list)) {
		rest = span_make(list.data + play->times_taken, list.size - play->times_taken);
		if (time_list_next(&rest, &play->time_list, time)) {
			play->times_taken = list.size - rest.size;
			return true;
		}
		if (rest.size) {
			play_fail(play, GRPC_INTERNAL, "the edge sent malformed times");
			return false;
		}
		packet_queue_pop(&play->times);
		play->times_taken = 0;
		play->time_list = (struct time_list){ 0 };
	}
	if (play->asker.state == ASKER_FAILED)
		play_fail(play, GRPC_UNAVAILABLE, "the edge was lost before it had told all times: start the build again");
	return false;
}

static void play_send_stat(struct play *play, int64_t time)
{
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct span parts[2];

	if (!play_add_entry(play))
		return;
	play->entry.stat.mod_time_ns = time;
	buffer_clear(&play->stat);
	fsutil_stat_put(&play->stat, &play->entry.stat);
	if (play->stat.failed) {
		play_fail(play, GRPC_INTERNAL, "an entry of the context is too long");
		return;
	}
	parts[0] = span_make(head, fsutil_write_stat_head(head, play->stat.size));
	parts[1] = buffer_span(&play->stat);
	call_send_parts(&play->daemon, parts, 2);
}

/* fsutil's end of the entries is the empty message. */
void play_end_stats(struct play *play)
{
	if (!play->ahead && play->entries_count != play->asker.told.entries) {
		play_fail(play, GRPC_INTERNAL, "the edge counts the entries of the context otherwise");
		return;
	}
	play->stats_ended = true;
	call_send(&play->daemon, (struct span){ 0 }, 0);
}

/* It waits in play->entry until play_add_entry(). */
bool play_next_entry(struct play *play)
{
	int r = play->entry_waits ? WALK_ENTRY : WALK_END;

	if (play->state == PLAY_SAME && play->entries_count == play->asker.same)
		return false;
	if (!play->entry_waits && !play->scan_ended)
		r = walk_next(play->walk, &play->entry);
	switch (r) {
	case WALK_ENTRY:
		play->entry_waits = true;
		return true;
	case WALK_WAIT:
		break;
	case WALK_END:
		play->scan_ended = true;
		break;
	case WALK_MISSING:
		play->walk_missing = true;
		play_repair(play);
		break;
	case WALK_MALFORMED:
		play_fail(play, GRPC_INTERNAL, "the context's tree is malformed");
		break;
	default:
		play_fail(play, GRPC_INTERNAL, "the gateway's store failed");
	}
	return false;
}

/* One STAT, if one is at hand. */
static bool play_stat(struct play *play)
{
	int64_t time;

	if (play->stats_ended)
		return false;
	if (play->lineage)
		return play_stable_stat(play);
	if (play->ahead)
		return play_ahead_stat(play);
	if (play_next_entry(play) && play_take_time(play, &time)) {
		play_send_stat(play, time);
		return true;
	}
	if (play->scan_ended)
		play_end_stats(play);
	return play->scan_ended;
}

static void play_finish(struct play *play)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	/* Ahead of the root it waits for that: what was given is whole only then. */
	if (!play->finishing || (play->state != PLAY_PLAYING && play->state != PLAY_REPAIRING) || !call_has_room(&play->daemon))
		return;
	play->state = PLAY_ENDING;
	call_send(&play->daemon, span_make(packet, fsutil_write_fin(packet)), 0);
	call_finish(&play->daemon, GRPC_OK, NULL);
	asker_end(&play->asker);
}

void play_pump(struct play *play)
{
	while (play_goes_on(play) && call_has_room(&play->daemon))
		if (!play_stat(play) && !play_files_send(play) && !play_plain_send(play))
			break;
	play_plain_step(play);
	play_finish(play);
}

void play_on_more(void *owner)
{
	play_pump(owner);
}

/* ---- the edge ---- */

void play_repair(struct play *play)
{
	if (play->state == PLAY_PLAYING && play->asker.state == ASKER_READY) {
		play->state = PLAY_REPAIRING;
		play->service->counters.repairs++;
		asker_repair(&play->asker);
	} else if (play->state == PLAY_PLAYING || play->state == PLAY_LEAVING || play->state == PLAY_PLAIN) {
		/* Nothing comes any more that would bring it; in other states a root does, or all is over. */
		play_fail(play, GRPC_UNAVAILABLE, "the gateway's store lost a part of the context: start the build again");
	}
}

/* Told again with each root, and growing: the difference counts. */
static void play_count_edge(struct play *play)
{
	const struct context_root *told = &play->asker.told, *before = &play->counted;
	struct diffcopy_totals *totals = &play->session->totals;

	if (!play->head.always_sent && told->files_read > before->files_read)
		totals->files_changed += told->files_read - before->files_read;
	if (told->bytes_sent > before->bytes_sent)
		totals->bytes_from_client += told->bytes_sent - before->bytes_sent;
	play->counted = *told;
}

static void play_begin(struct play *play, enum play_state before)
{
	struct diffcopy_session *session = play->session;
	int r;

	recent_remember(&play->service->roots, session->scope.tenant, play->key, &play->asker.root, sizeof(play->asker.root));
	if (before != PLAY_ASKING)
		return;
	r = walk_create(&play->walk, session->service->cas, &session->scope, &play->asker.root, play_on_more, play);
	if (r == 0)
		r = play_files_init(play);
	if (r < 0)
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
}

static void asker_on_root(struct asker *asker)
{
	struct play *play = container_of(asker, struct play, asker);
	enum play_state before = play->state;

	if (before >= PLAY_ENDING)
		return;
	play_count_edge(play);
	if ((before == PLAY_AHEAD && !play_ahead_complete(play)) || (before == PLAY_SAME && !play_same_complete(play)))
		return;
	play->state = PLAY_PLAYING;
	if (before != PLAY_REPAIRING)
		play_begin(play, before);
	if (play->walk_missing)
		walk_retry(play->walk);
	play->walk_missing = false;
	play_files_retry(play);
	play_pump(play);
}

static void asker_on_entries(struct asker *asker, struct span entries)
{
	play_ahead_entries(container_of(asker, struct play, asker), entries);
}

static void asker_on_named(struct asker *asker, struct span names)
{
	play_ahead_names(container_of(asker, struct play, asker), names);
}

static void asker_on_same(struct asker *asker)
{
	play_same_take(container_of(asker, struct play, asker));
}

/* Whether they were asked for is not looked at: of each entry there is one time, and nobody waits for more. */
static bool times_are_too_many(struct play *play, struct span times)
{
	const uint64_t entries = play->asker.told.entries < DIFFCOPY_ENTRIES_MAX ? play->asker.told.entries : DIFFCOPY_ENTRIES_MAX;

	play->times_bytes += times.size + TIMES_EXTRA_BYTES;
	return play->times_bytes > entries * TIME_BYTES_MAX;
}

static void asker_on_times(struct asker *asker, struct span times)
{
	struct play *play = container_of(asker, struct play, asker);

	if (play->state >= PLAY_ENDING)
		return;
	if (times_are_too_many(play, times))
		play_fail(play, GRPC_INTERNAL, "the edge sent more times than there are entries");
	else if (packet_queue_push(&play->times, &times, 1) < 0)
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for the times of the context");
	else
		play_pump(play);
}

static const struct call_events daemon_events;

static void play_fall_back(struct play *play)
{
	struct h2 *client = play->session->client(play->session);
	struct stream *stream = client ? call_give_back(&play->daemon) : NULL;

	if (!stream) {
		play_fail(play, GRPC_UNAVAILABLE, play->why);
		return;
	}
	if (diffcopy_open(play->session, stream, &play->request, client) < 0) {
		call_accept(&play->daemon, stream, &play->request, MESSAGE_BYTES_MAX, &daemon_events, play);
		play_fail(play, GRPC_UNAVAILABLE, play->why);
		return;
	}
	play->state = PLAY_OVER;
	play_stable_close(play);
	play_join(play);
}

/* The key is gone, from the disk too: what a plain call tells under it is no matter to any later build. */
static void play_on_given_up(struct lineage_sync *sync)
{
	struct play *play = container_of(sync, struct play, sync);

	if (play->state >= PLAY_ENDING)
		return;
	if (sync->result < 0)
		play_fail(play, GRPC_UNAVAILABLE, play->why);
	else if (play->state == PLAY_LEAVING)
		play_plain_open(play);
	else
		play_fall_back(play);
}

void play_give_up(struct play *play)
{
	play->sync.fn = play_on_given_up;
	lineage_give_up(play->lineage, &play->sync, !play->asker.unfit);
}

/* The daemon has heard nothing yet: its call becomes a plain one. */
static void play_leave(struct play *play, const char *why)
{
	log_event(LOG_INFO, "context not played", LOG_TEXT("cause", why));
	play->service->counters.unfit++;
	snprintf(play->why, sizeof(play->why), "%s", why);
	if (!play->lineage) {
		play_fall_back(play);
		return;
	}
	play_give_up(play);
}

static void asker_on_failed(struct asker *asker, const char *why)
{
	struct play *play = container_of(asker, struct play, asker);

	if (asker->left && (play->state == PLAY_ASKING || play->state == PLAY_SAME))
		play_fail(play, GRPC_UNAVAILABLE, why);          /* who goes says nothing of the context: its key stays */
	else if (play->state == PLAY_ASKING)
		play_leave(play, why);
	else if (play->state == PLAY_SAME)
		play_plain_leave(play, why);
	else if (play->state == PLAY_REPAIRING || play->state == PLAY_AHEAD)
		play_fail(play, GRPC_UNAVAILABLE, why);
	else
		play_pump(play);                 /* what has come may be all that is needed */
}

static void asker_on_closed(struct asker *asker)
{
	struct play *play = container_of(asker, struct play, asker);

	play->asker_closed = true;
	play_join(play);
}

static const struct asker_events asker_events = {
	.on_root = asker_on_root, .on_entries = asker_on_entries, .on_named = asker_on_named,
	.on_same = asker_on_same, .on_times = asker_on_times, .on_failed = asker_on_failed, .on_closed = asker_on_closed,
};

/* ---- the daemon ---- */

static void daemon_on_message(struct call *call, struct span message)
{
	struct play *play = container_of(call, struct play, daemon);
	struct fsutil_packet packet;
	char text[400];

	if (!fsutil_packet_decode(message, &packet)) {
		play_fail(play, GRPC_INVALID_ARGUMENT, "malformed packet");
		return;
	}
	switch (packet.type) {
	case FSUTIL_REQ:
		if (play_files_ask(play, packet.id))
			break;
		if (play_plain_ask(play, packet.id, message))
			break;
		snprintf(text, sizeof(text), "invalid file id %u", (unsigned)packet.id);
		play_fail(play, GRPC_INVALID_ARGUMENT, text);
		break;
	case FSUTIL_FIN:
		play->finishing = true;
		if (play->state == PLAY_PLAIN)
			play_plain_forward(play, message);
		play_pump(play);
		break;
	case FSUTIL_ERR:
		snprintf(text, sizeof(text), "error from receiver: %.*s", (int)(packet.data.size < 300 ? packet.data.size : 300),
		         (const char *)packet.data.data);
		play_fail(play, GRPC_UNKNOWN, text);
		break;
	default:
		break;
	}
}

static void daemon_on_end(struct call *call)
{
	struct play *play = container_of(call, struct play, daemon);

	if (!play->finishing)
		play_fail(play, GRPC_CANCELLED, "the executor ended the call in the middle");
}

static void daemon_on_writable(struct call *call)
{
	play_pump(container_of(call, struct play, daemon));
}

static void daemon_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct play *play = container_of(call, struct play, daemon);

	play->state = PLAY_OVER;
	play_files_fini(play);
	play_stable_close(play);
	play_plain_close(play);
	if (status != GRPC_OK)
		asker_cancel(&play->asker);
	play_join(play);
}

static const struct call_events daemon_events = {
	.on_message = daemon_on_message, .on_end = daemon_on_end, .on_writable = daemon_on_writable,
	.on_closed = daemon_on_closed,
};

/* ---- the beginning ---- */

/* Of one client's context, or of all that go by one stable key: the directory, and which of it. */
static void play_make_key(struct play *play)
{
	struct sha256_stream hash;

	sha256_stream_init(&hash);
	if (play->lineage)
		sha256_stream_update(&hash, (const uint8_t *)lineage_key(play->lineage), strlen(lineage_key(play->lineage)));
	else
		sha256_stream_update(&hash, play->session->identity, sizeof(play->session->identity));
	for (size_t i = 0; i < play->head.metadata_count; i++) {
		const struct header *header = &play->head.metadata[i];
		uint64_t sizes[2] = { header->name.size, header->value.size };

		if (!diffcopy_header_selects(header->name))
			continue;
		sha256_stream_update(&hash, (const uint8_t *)sizes, sizeof(sizes));
		sha256_stream_update(&hash, header->name.data, header->name.size);
		sha256_stream_update(&hash, header->value.data, header->value.size);
	}
	sha256_stream_final(&hash, play->key);
}

static struct span keep(uint8_t **place, struct span from)
{
	struct span kept = span_make(*place, from.size);

	if (from.size)
		memcpy(*place, from.data, from.size);
	*place += from.size;
	return kept;
}

/* The header fields outlive the event: for the call to the edge, and for a plain one in its place. */
static int play_keep_request(struct play *play, const struct grpc_request *head)
{
	size_t bytes = 0;
	uint8_t *place;

	for (size_t i = 0; i < head->headers_count; i++)
		bytes += head->headers[i].name.size + head->headers[i].value.size;
	play->headers = malloc((head->headers_count + 1) * sizeof(*play->headers) + bytes);
	if (!play->headers)
		return ERR_RAISE(-ENOMEM);
	place = (uint8_t *)(play->headers + head->headers_count + 1);
	for (size_t i = 0; i < head->headers_count; i++)
		play->headers[i] = (struct header){ .name = keep(&place, head->headers[i].name),
			                            .value = keep(&place, head->headers[i].value),
			                            .sensitive = head->headers[i].sensitive };
	play->request = (struct grpc_request){
		.accepts_zstd = head->accepts_zstd, .sends_zstd = head->sends_zstd, .unknown_compressor = head->unknown_compressor,
		.headers = play->headers, .headers_count = head->headers_count,
	};
	return diffcopy_head_read(&play->head, &play->request);
}

static void play_on_again(struct op *op, int32_t res)
{
	struct play *play = container_of(op, struct play, again);

	if (play->state == PLAY_OVER) {
		play_join(play);
		return;
	}
	play_ahead_urge(play);
	play_pump(play);
}

static struct play *play_make(struct play_service *service, struct diffcopy_session *session)
{
	struct play *play = calloc(1, sizeof(*play));
	const char *directory = session->service->directory;

	if (!play)
		return NULL;
	play->service = service;
	play->session = session;
	play->reap.fn = play_on_reap;
	play->asked_first = PLAY_NONE;
	play->stat = buffer_heap(STAT_BYTES_MAX);
	play->times.spill = (struct spill){ .directory = directory, .memory_bytes_max = TIMES_MEMORY_BYTES };
	play->entries = (struct spill){ .directory = directory,
		                        .memory_bytes_max = DIFFCOPY_MEMORY_ENTRIES * sizeof(struct play_entry) };
	play->unnamed = (struct spill){ .directory = directory,
		                        .memory_bytes_max = DIFFCOPY_MEMORY_ENTRIES * sizeof(struct play_unnamed) };
	play->from_client.spill = play->to_client.spill = play->times.spill;
	play->waits = (struct spill){ .directory = directory, .memory_bytes_max = DIFFCOPY_MEMORY_ENTRIES * sizeof(uint32_t) };
	play->again.fn = play_on_again;
	list_init(&play->idle);
	list_init(&play->ready);
	list_init(&play->lost);
	return play;
}

static void play_free(struct play *play)
{
	play_stable_fini(play);
	diffcopy_head_fini(&play->head);
	free(play->headers);
	free(play);
}

static int play_ask(struct play *play, struct h2 *edge)
{
	struct asker_config config = {
		.cas = play->session->service->cas, .scope = play->session->scope, .events = &asker_events, .edge = edge,
		.metadata = play->head.metadata, .metadata_count = play->head.metadata_count, .times = play->all_times,
		/* Nothing is known that contents would have to be compared with; and it is worth the while. */
		.ahead = play->all_times && !play->head.always_sent,
		/* Nothing but what was told before is told again. */
		.same = play->lineage && !play->all_times,
	};
	const struct digest *known;

	play_make_key(play);
	known = recent_find(&play->service->roots, play->key);
	if (known) {
		play->known = *known;
		config.known = &play->known;
	}
	return asker_start(&play->asker, &config);
}

int play_open(struct play_service *service, struct diffcopy_session *session, struct stream *stream,
              const struct grpc_request *head, struct h2 *edge, struct lineage *lineage)
{
	struct play *play = play_make(service, session);
	int r;

	if (!play)
		return ERR_RAISE(-ENOMEM);
	r = play_keep_request(play, head);
	play_stable_init(play, lineage);
	if (r == 0)
		r = play_ask(play, edge);
	if (r < 0) {
		play_free(play);
		return ERR_RAISE(r);
	}
	call_accept(&play->daemon, stream, head, MESSAGE_BYTES_MAX, &daemon_events, play);
	session->open++;
	session->service->counters.calls++;
	service->counters.plays++;
	return 0;
}

void play_service_fini(struct play_service *service)
{
	recent_fini(&service->roots);
}
