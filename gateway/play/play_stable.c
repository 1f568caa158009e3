/*
 * Entries under a stable key. One whose content is that of the last time has its mtime of the last time; of the others the
 * edge is asked what the client says, many in one question, and a claim is made of the answer; a STAT goes when all claims up
 * to it are on the disk.
 *
 *	walk -> scanned (waits for a time) -> claimed (waits for the disk) -> the daemon
 *	ahead of the root: entries ------------^        names make the claims that were made without a content whole
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
#define KIND_HARDLINK      0x80          /* a bit beside a tree_kind */

/* What waits, before the entry's Stat in two parts, between which the mtime goes. */
struct waiting {
	struct claim claim;              /* its mtime: the present one, unless `asks` */
	struct claim_hash first;         /* of a hardlink: the path of its first name */
	uint64_t made;                   /* claimed: of the lineage, when it was */
	uint32_t prefix_bytes;
	bool asks;                       /* a time comes for it */
	bool known, file, hardlink;      /* file: the first name of one */
};

/* ---- what an entry is ---- */

static struct claim_hash hash_of(const struct play *play, struct span bytes)
{
	return claims_content(lineage_claims(play->lineage), &bytes, 1);
}

/* `kind`: of the entry. */
static struct claim_hash file_content(const struct play *play, uint8_t kind, const struct content_name *name,
                                      const struct claim_hash *xattrs)
{
	const struct span parts[] = { span_make(&kind, 1), span_make(name->digest.hash, DIGEST_HASH_BYTES),
		                      span_make(&name->digest.size, sizeof(name->digest.size)),
		                      span_make(xattrs, sizeof(*xattrs)) };

	return claims_content(lineage_claims(play->lineage), parts, 4);
}

/* Pair by pair: the message around them is a tree's own, or the whole entry that an edge sent ahead of its root. */
static struct claim_hash entry_xattrs(const struct play *play)
{
	struct claim_hash hash = hash_of(play, (struct span){ 0 });
	struct message_cursor cursor = { 0 };
	struct message_pair pair;

	while (message_map_next(&play->entry.stat.xattrs, &cursor, &pair)) {
		const struct span parts[] = { span_make(&hash, sizeof(hash)), pair.key, pair.value };

		hash = claims_content(lineage_claims(play->lineage), parts, 3);
	}
	return hash;
}

static bool entry_is_hardlink(const struct walk_entry *entry)
{
	return entry->kind == TREE_FILE && entry->stat.linkname.size > 0;
}

/*
 * A hardlink's is its own: it has its file's mtime, which its path may have had with another content as a file. What was claimed of
 * the link must not be found for a file of the same content.
 */
static uint8_t entry_kind(const struct walk_entry *entry)
{
	return (uint8_t)entry->kind | (entry_is_hardlink(entry) ? KIND_HARDLINK : 0);
}

/* Not of files without a name. */
static struct claim_hash entry_content(const struct play *play)
{
	const struct walk_entry *entry = &play->entry;
	const struct claim_hash xattrs = entry_xattrs(play);
	const uint8_t kind = entry_kind(entry);
	const struct span parts[] = { span_make(&kind, 1), span_make(&xattrs, sizeof(xattrs)),
		                      entry->kind == TREE_SYMLINK ? entry->stat.linkname :
		                                                    span_make(&entry->stat.mode, sizeof(entry->stat.mode)) };

	if (entry->kind == TREE_FILE)
		return file_content(play, kind, &entry->name, &xattrs);
	return claims_content(lineage_claims(play->lineage), parts, 3);
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
		.claim = { .path = claims_path(claims, play->head.directory, stat->path), .size = (uint64_t)stat->size },
		.file = play->entry.kind == TREE_FILE && !entry_is_hardlink(&play->entry),
		.hardlink = entry_is_hardlink(&play->entry),
	};

	waiting.claim.content = entry_content(play);
	if (waiting.hardlink)
		waiting.first = claims_path(claims, play->head.directory, stat->linkname);
	else
		waiting.known = claims_find(claims, &waiting.claim.path, &waiting.claim.content, &waiting.claim.mtime_ns);
	waiting.asks = play->all_times || (!waiting.known && !waiting.hardlink);
	return waiting;
}

/* It is taken. */
static void entry_note(struct play *play, const struct waiting *waiting)
{
	if (waiting->asks && !play->all_times)
		entry_want(play);
	if (play->entry.kind == TREE_DIRECTORY) {
		play->directories++;
		play->directories_known += waiting->known;
	}
	if (play->state == PLAY_SAME)
		play_same_note(play, &waiting->claim.content);
}

/* ---- scanning ---- */

/* Behind `waiting`, without its mtime. False: the call has failed. */
static bool play_queue(struct play *play, struct packet_queue *queue, struct waiting *waiting)
{
	struct fsutil_stat before = play->entry.stat, behind = { .linkname = before.linkname, .xattrs = before.xattrs };
	struct span parts[2];

	before.linkname = (struct span){ 0 };
	before.xattrs.count = 0;
	before.mod_time_ns = before.device_major = before.device_minor = 0;
	buffer_clear(&play->stat);
	fsutil_stat_put(&play->stat, &before);
	waiting->prefix_bytes = (uint32_t)play->stat.size;
	fsutil_stat_put(&play->stat, &behind);
	parts[0] = span_make(waiting, sizeof(*waiting));
	parts[1] = buffer_span(&play->stat);
	if (!play->stat.failed && packet_queue_push(queue, parts, 2) == 0)
		return true;
	play_fail(play, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for the entries of the context");
	return false;
}

static bool play_scan_one(struct play *play)
{
	struct waiting waiting = entry_look(play);

	if (play->to_skip)
		return play_same_skip(play, &waiting.claim.content);
	if (play->state == PLAY_SAME && waiting.asks)
		return false;                    /* only behind the root are times told */
	entry_note(play, &waiting);
	if (!play->wanted.failed)
		return play_queue(play, &play->scanned, &waiting) && play_add_entry(play);
	play_fail(play, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	return false;
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
	if (play->wanted_count == 0 || play->state == PLAY_SAME)
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

/*
 * A further name has the mtime of the first, as they are one file at the executor. Told another one, the executor would
 * link anew at each build, and leave its temporary name behind, as rename(2) of a file over itself does nothing; and it would give the
 * file the mtime, which may be another content's. So it is what this play told: other builds go on claiming. A name of what was not
 * told is refused by the executor.
 */
static int waiting_follow(struct play *play, struct waiting *waiting)
{
	int r = firsts_find(&play->firsts, &waiting->first, &waiting->claim.mtime_ns);

	return r < 0 ? r : lineage_follow(play->lineage, &waiting->claim);
}

/* `mtime_ns`: the client's. 0, or -errno: nothing may be told of it. */
static int waiting_claim(struct play *play, struct waiting *waiting, int64_t mtime_ns)
{
	int r = 0;

	if (!waiting->known) {
		waiting->claim.mtime_ns = mtime_ns;
		r = waiting->hardlink ? waiting_follow(play, waiting) : lineage_claim(play->lineage, &waiting->claim);
	}
	waiting->made = lineage_made(play->lineage);
	if (r < 0 || r == CLAIMS_FULL)
		return -EIO;
	return waiting->file ? firsts_note(&play->firsts, &waiting->claim.path, waiting->claim.mtime_ns) : 0;
}

static void play_fail_claims(struct play *play)
{
	play_fail(play, GRPC_UNAVAILABLE, "the gateway cannot keep its claims on the context: start the build again");
}

static bool play_claim_one(struct play *play)
{
	struct waiting waiting;
	struct span packet, parts[2];
	int64_t mtime_ns = 0;

	if (!packet_queue_front(&play->scanned, &packet))
		return false;
	memcpy(&waiting, packet.data, sizeof(waiting));
	if (waiting.asks && !play_take_time(play, &mtime_ns))
		return false;
	if (waiting_claim(play, &waiting, mtime_ns) < 0) {
		play_fail_claims(play);
		return false;
	}
	parts[0] = span_make(&waiting, sizeof(waiting));
	parts[1] = span_make(packet.data + sizeof(waiting), packet.size - sizeof(waiting));
	if (packet_queue_push(&play->claimed, parts, 2) < 0) {
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for the entries of the context");
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
		play_fail_claims(play);
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

/* A claim on the directory itself, which is no entry: of this local name a whole context was told before. */
static struct claim marker(const struct play *play)
{
	const struct claims *claims = lineage_claims(play->lineage);
	const struct span nothing = { 0 };

	return (struct claim){ .path = claims_path(claims, play->head.directory, nothing),
		               .content = claims_content(claims, &nothing, 0) };
}

static void play_stable_end(struct play *play)
{
	struct claim told = marker(play);

	if (!play->head.always_sent)
		(void)lineage_claim(play->lineage, &told);
	/* Told by directories' paths: another project of the same name has others. */
	if (!play->head.always_sent && !play->all_times && play->directories >= STRANGE_MIN &&
	    2 * play->directories_known < play->directories)
		lineage_set_strange(play->lineage, play->session->identity);
	play_end_stats(play);
}

static bool play_told_all(const struct play *play)
{
	return (play->ahead ? play->entries_ended : play->scan_ended) && packet_queue_empty(&play->scanned) &&
	       packet_queue_empty(&play->claimed);
}

bool play_stable_stat(struct play *play)
{
	if (!play->ahead && play->state < PLAY_LEAVING) {
		play_scan(play);
		play_question(play);
	}
	while (play_goes_on(play) && play_claim_one(play))
		continue;
	if (!play_goes_on(play))
		return false;
	if (play_send_one(play))
		return true;
	if (!play_told_all(play))
		return false;
	play_stable_end(play);
	return true;
}

/* ---- ahead of contents ---- */

/* No other is like it: what it will be is not known, and no content was ever told by it. */
static struct claim_hash unnamed_content(struct play *play)
{
	uint8_t number[CLAIM_HASH_BYTES];

	ring_random(play->session->service->cas->ring, number, sizeof(number));
	return hash_of(play, span_make(number, sizeof(number)));
}

static bool unnamed_keep(struct play *play, const struct waiting *waiting)
{
	struct play_unnamed *unnamed;

	if (spill_grow(&play->unnamed, (play->entries_count + 1) * sizeof(*unnamed)) < 0)
		return false;
	unnamed = (struct play_unnamed *)(void *)play->unnamed.data + play->entries_count;
	*unnamed = (struct play_unnamed){
		.path = waiting->claim.path, .xattrs = entry_xattrs(play), .mtime_ns = waiting->claim.mtime_ns,
		.kind = entry_kind(&play->entry),
	};
	return true;
}

bool play_stable_take(struct play *play, int64_t mtime_ns)
{
	struct waiting waiting = entry_look(play);

	entry_note(play, &waiting);
	waiting.asks = false;
	if (play->entry.data) {
		waiting.claim.content = unnamed_content(play);
		waiting.known = false;
	}
	if (waiting_claim(play, &waiting, mtime_ns) < 0) {
		play_fail_claims(play);
		return false;
	}
	if (!unnamed_keep(play, &waiting)) {
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for the entries of the context");
		return false;
	}
	return play_queue(play, &play->claimed, &waiting) && play_add_entry(play);
}

void play_stable_name(struct play *play, uint32_t id, const struct content_name *name)
{
	const struct play_unnamed *unnamed = (const struct play_unnamed *)(const void *)play->unnamed.data + id;
	struct claim claim = { .path = unnamed->path, .size = name->size, .mtime_ns = unnamed->mtime_ns,
		               .content = file_content(play, unnamed->kind, name, &unnamed->xattrs) };

	if (name->size == play_entry_at(play, id)->size) {
		lineage_name(play->lineage, &claim);
		return;
	}
	/* That this mtime is the path's alone was seen for the size that was told. With this one it is of what nobody will ever have. */
	claim.content = unnamed_content(play);
	(void)lineage_follow(play->lineage, &claim);
}

/* ---- what nobody names ---- */

static bool restat_hardlink(struct play *play, struct fsutil_stat *stat)
{
	const struct claims *claims = lineage_claims(play->lineage);
	struct waiting waiting = {
		.claim = { .path = claims_path(claims, play->head.directory, stat->path), .content = unnamed_content(play),
		           .size = (uint64_t)stat->size, .mtime_ns = stat->mod_time_ns },
		.first = claims_path(claims, play->head.directory, stat->linkname),
	};
	int r = waiting_follow(play, &waiting);

	stat->mod_time_ns = waiting.claim.mtime_ns;
	return r == CLAIMS_KNOWN || r == CLAIMS_MADE;
}

bool play_stable_restat(struct play *play, struct fsutil_stat *stat)
{
	struct claim_hash path;

	if (fsutil_stat_is_regular(stat) && stat->linkname.size)
		return restat_hardlink(play, stat);
	if (!play->session->restat(play->session, play->head.directory, stat))
		return false;
	path = claims_path(lineage_claims(play->lineage), play->head.directory, stat->path);
	return !fsutil_stat_is_regular(stat) || firsts_note(&play->firsts, &path, stat->mod_time_ns) == 0;
}

/* ---- life ---- */

/* A look at the Dockerfile has so few entries that their times are no matter. */
static bool play_knows_nothing(const struct play *play)
{
	const struct claim told = marker(play);
	int64_t mtime_ns;

	return play->head.always_sent || !claims_latest(lineage_claims(play->lineage), &told.path, &mtime_ns);
}

void play_stable_init(struct play *play, struct lineage *lineage)
{
	play->lineage = lineage;
	play->all_times = !lineage || play_knows_nothing(play);
	play->wanted_last = ENTRY_NUMBER_BEFORE;
	play->wanted = buffer_heap(CONTEXT_MESSAGE_BYTES_MAX);
	firsts_init(&play->firsts, play->session->service->directory);
	play->scanned.spill = play->claimed.spill =
		(struct spill){ .directory = play->session->service->directory, .memory_bytes_max = 2 * STABLE_AHEAD_BYTES };
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
	firsts_fini(&play->firsts);
	packet_queue_fini(&play->scanned);
	packet_queue_fini(&play->claimed);
	buffer_fini(&play->wanted);
}
