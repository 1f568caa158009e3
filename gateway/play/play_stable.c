/*
 * Entries under a stable key. One whose content is that of the last time has its mtime of the last time; of the others the
 * edge is asked what the client says, many in one question, and a claim is made of the answer; a STAT goes when all claims up
 * to it are on the disk.
 *
 *	walk -> scanned (waits for a time) -> claimed (waits for the disk) -> the daemon
 *
 * So the tree is walked ahead of the daemon, to find in one pass what is new, up to STABLE_AHEAD_BYTES.
 */
#include "gateway/play/play_private.h"

#include <errno.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/pb.h"

#define STABLE_AHEAD_BYTES (8u << 20)    /* of entries that wait */
#define STABLE_TURN        1024          /* entries that are looked at in a turn */
#define STABLE_QUESTION    16384         /* times asked for in one question */
#define STRANGE_MIN        8             /* directories; fewer say nothing about a tree */

/* What waits, before the entry's Stat in two parts, between which the mtime goes. */
struct waiting {
	struct claim claim;              /* its mtime: the present one, unless `asks` */
	struct claim_hash first;         /* of a hardlink: the path of its first name */
	uint64_t made;                   /* claimed: of the lineage, when it was */
	uint32_t prefix_bytes;
	bool asks;                       /* a time comes for it */
	bool known, hardlink;
};

/* ---- what an entry is ---- */

static struct claim_hash entry_content(const struct play *play)
{
	const struct walk_entry *entry = &play->entry;
	const uint8_t kind = (uint8_t)entry->kind;
	struct span parts[4] = { span_make(&kind, 1), { 0 }, { 0 }, entry->stat.xattrs.message };

	switch (entry->kind) {
	case TREE_FILE:
		parts[1] = span_make(entry->name.digest.hash, DIGEST_HASH_BYTES);
		parts[2] = span_make(&entry->name.digest.size, sizeof(entry->name.digest.size));
		break;
	case TREE_SYMLINK:
		parts[1] = entry->stat.linkname;
		break;
	default:
		parts[1] = span_make(&entry->stat.mode, sizeof(entry->stat.mode));
		break;
	}
	return claims_content(lineage_claims(play->lineage), parts, 4);
}

static void entry_want(struct play *play)
{
	number_list_put(&play->wanted, &play->wanted_last, play->entries_count);
	play->wanted_count++;
}

static struct waiting entry_look(struct play *play)
{
	const struct claims *claims = lineage_claims(play->lineage);
	const struct fsutil_stat *stat = &play->entry.stat;
	struct waiting waiting = {
		.claim = { .path = claims_path(claims, play->head.directory, stat->path), .content = entry_content(play),
		           .size = (uint64_t)stat->size },
		.hardlink = play->entry.kind == TREE_FILE && stat->linkname.size > 0,
	};

	if (waiting.hardlink)
		waiting.first = claims_path(claims, play->head.directory, stat->linkname);
	waiting.known = claims_find(claims, &waiting.claim.path, &waiting.claim.content, &waiting.claim.mtime_ns);
	waiting.asks = play->all_times || (!waiting.known && !waiting.hardlink);
	if (waiting.asks && !play->all_times)
		entry_want(play);
	if (play->entry.kind == TREE_DIRECTORY) {
		play->directories++;
		play->directories_known += waiting.known;
	}
	return waiting;
}

/* ---- scanning ---- */

static bool play_scan_one(struct play *play)
{
	struct waiting waiting = entry_look(play);
	struct fsutil_stat before = play->entry.stat, behind = { .linkname = before.linkname, .xattrs = before.xattrs };
	struct span parts[2];

	before.linkname = (struct span){ 0 };
	before.xattrs.count = 0;
	buffer_clear(&play->stat);
	fsutil_stat_put(&play->stat, &before);
	waiting.prefix_bytes = (uint32_t)play->stat.size;
	fsutil_stat_put(&play->stat, &behind);
	parts[0] = span_make(&waiting, sizeof(waiting));
	parts[1] = buffer_span(&play->stat);
	if (play->stat.failed || play->wanted.failed || packet_queue_push(&play->scanned, parts, 2) < 0) {
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for the entries of the context");
		return false;
	}
	return play_add_entry(play);
}

static void play_on_again(struct op *op, int32_t res)
{
	struct play *play = container_of(op, struct play, again);

	if (play->state == PLAY_OVER)
		play_join(play);
	else
		play_pump(play);
}

static void play_scan(struct play *play)
{
	for (unsigned i = 0; i < STABLE_TURN; i++) {
		if (play->scanned.bytes + play->claimed.bytes >= STABLE_AHEAD_BYTES || play->scan_ended)
			return;
		if (!play_next_entry(play) || !play_scan_one(play))
			return;
	}
	if (!op_in_flight(&play->again))
		ring_timer(play->session->service->cas->ring, &play->again, 0);
}

/* All that is known to be wanted, when no more comes at once. */
static void play_question(struct play *play)
{
	if (play->wanted_count == 0)
		return;
	if (!play->scan_ended && play->wanted_count < STABLE_QUESTION &&
	    play->scanned.bytes + play->claimed.bytes < STABLE_AHEAD_BYTES)
		return;
	asker_want_times(&play->asker, buffer_span(&play->wanted));
	buffer_clear(&play->wanted);
	play->wanted_last = ENTRY_NUMBER_BEFORE;
	play->wanted_count = 0;
}

/* ---- claiming ---- */

/* A second name has the mtime of the first, as they are one file at the executor. */
static void waiting_follow(const struct play *play, struct waiting *waiting)
{
	int64_t mtime_ns;

	if (!claims_latest(lineage_claims(play->lineage), &waiting->first, &mtime_ns))
		return;
	waiting->known = waiting->known && waiting->claim.mtime_ns == mtime_ns;
	waiting->claim.mtime_ns = mtime_ns;
}

static int waiting_claim(struct play *play, struct waiting *waiting)
{
	int64_t mtime_ns = 0;

	if (waiting->asks && !play_take_time(play, &mtime_ns))
		return -EAGAIN;
	if (!waiting->known)
		waiting->claim.mtime_ns = mtime_ns;
	if (waiting->hardlink)
		waiting_follow(play, waiting);
	if (!waiting->known) {
		int r = lineage_claim(play->lineage, &waiting->claim);

		if (r < 0 || r == CLAIMS_FULL)
			return -EIO;
	}
	waiting->made = lineage_made(play->lineage);
	return 0;
}

static bool play_claim_one(struct play *play)
{
	struct waiting waiting;
	struct span packet, parts[2];
	int r;

	if (!packet_queue_front(&play->scanned, &packet))
		return false;
	memcpy(&waiting, packet.data, sizeof(waiting));
	r = waiting_claim(play, &waiting);
	if (r == -EAGAIN)
		return false;
	parts[0] = span_make(&waiting, sizeof(waiting));
	parts[1] = span_make(packet.data + sizeof(waiting), packet.size - sizeof(waiting));
	if (r < 0 || packet_queue_push(&play->claimed, parts, 2) < 0) {
		play_fail(play, GRPC_UNAVAILABLE, r < 0 ? "the gateway cannot keep its claims on the context: start the build again" :
		                                          "no memory and no disk for the entries of the context");
		return false;
	}
	packet_queue_pop(&play->scanned);
	return true;
}

/* ---- sending ---- */

static void play_on_synced(struct lineage_sync *sync)
{
	struct play *play = container_of(sync, struct play, sync);

	play->syncing = false;
	if (sync->result < 0)
		play_fail(play, GRPC_UNAVAILABLE, "the gateway cannot keep its claims on the context: start the build again");
	else
		play_pump(play);
}

static void play_sync(struct play *play)
{
	if (play->syncing)
		return;
	play->syncing = true;
	play->sync.fn = play_on_synced;
	lineage_sync(play->lineage, &play->sync);
}

static bool play_send_one(struct play *play)
{
	uint8_t head[FSUTIL_HEAD_BYTES_MAX], time[16];
	struct buffer encoded = buffer_over(time, sizeof(time));
	struct waiting waiting;
	struct span packet, parts[4];

	if (!packet_queue_front(&play->claimed, &packet))
		return false;
	memcpy(&waiting, packet.data, sizeof(waiting));
	if (waiting.made > lineage_durable(play->lineage)) {
		play_sync(play);
		return false;
	}
	fsutil_stat_put(&encoded, &(struct fsutil_stat){ .mod_time_ns = waiting.claim.mtime_ns });
	parts[1] = span_make(packet.data + sizeof(waiting), waiting.prefix_bytes);
	parts[2] = buffer_span(&encoded);
	parts[3] = span_make(parts[1].data + parts[1].size, packet.size - sizeof(waiting) - waiting.prefix_bytes);
	parts[0] = span_make(head, fsutil_write_stat_head(head, parts[1].size + parts[2].size + parts[3].size));
	call_send_parts(&play->daemon, parts, 4);
	packet_queue_pop(&play->claimed);
	return true;
}

static void play_stable_end(struct play *play)
{
	/* Told by directories' paths: another project of the same name has others. */
	if (play->head.counted && !play->all_times && play->directories >= STRANGE_MIN &&
	    2 * play->directories_known < play->directories)
		lineage_set_strange(play->lineage);
	play_end_stats(play);
}

bool play_stable_stat(struct play *play)
{
	play_scan(play);
	play_question(play);
	while (play->state == PLAY_PLAYING && play_claim_one(play))
		continue;
	if (play->state != PLAY_PLAYING)
		return false;
	if (play_send_one(play))
		return true;
	if (!play->scan_ended || !packet_queue_empty(&play->scanned) || !packet_queue_empty(&play->claimed))
		return false;
	play_stable_end(play);
	return true;
}

/* ---- life ---- */

void play_stable_init(struct play *play, struct lineage *lineage)
{
	play->all_times = !lineage || lineage_claims(lineage)->count == 0;
	play->wanted_last = ENTRY_NUMBER_BEFORE;
	play->wanted = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX);
	play->again.fn = play_on_again;
	play->scanned.spill.memory_bytes_max = play->claimed.spill.memory_bytes_max = SIZE_MAX;
	play->lineage = lineage;
	if (lineage)
		lineage_ref(lineage);
}

void play_stable_close(struct play *play)
{
	lineage_sync_cancel(&play->sync);
	if (op_in_flight(&play->again))
		ring_cancel(play->session->service->cas->ring, &play->again);
}

void play_stable_fini(struct play *play)
{
	lineage_sync_cancel(&play->sync);
	lineage_unref(play->lineage);
	packet_queue_fini(&play->scanned);
	packet_queue_fini(&play->claimed);
	buffer_fini(&play->wanted);
}
