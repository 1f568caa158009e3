/*
 * Entries and names that an edge sends before it has a root: the daemon hears of entries while the edge still reads contents, and
 * is given a content as soon as it is named, that is, stored here. The root comes last, and makes it whole: until then the
 * call does not end, and what an eviction took meanwhile waits for it.
 */
#include "gateway/play/play_private.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/pb.h"

#define ENTRIES_BYTES_MAX (2ull << 30)   /* of a context; an edge of ours holds half as much of names, targets and xattrs */
#define URGED_MAX       256              /* files that the edge is to hurry with at a time: it has better things to do than to sort */
#define URGE_GATHER_NS  2000000u         /* the daemon asks for many at a time, one by one */

static const char *ahead_begin(struct play *play)
{
	if (play->state != PLAY_ASKING)
		return NULL;
	play->ahead = true;
	play->state = PLAY_AHEAD;
	play->service->counters.plays_ahead++;
	return play_files_init(play) < 0 ? "the gateway is out of memory" : NULL;
}

static enum tree_kind stat_kind(const struct fsutil_stat *stat)
{
	if (stat->mode & FSUTIL_MODE_DIRECTORY)
		return TREE_DIRECTORY;
	if (stat->mode & FSUTIL_MODE_SYMLINK)
		return TREE_SYMLINK;
	return fsutil_stat_is_regular(stat) ? TREE_FILE : TREE_FIFO;
}

/* NULL, or what is wrong with it. The daemon checks order and names by itself, as it does with every client's. */
static const char *ahead_take(struct play *play, struct span bytes)
{
	struct fsutil_stat *stat = &play->entry.stat;
	int64_t mtime_ns;

	if (!fsutil_stat_decode(bytes, stat) || stat->size < 0)
		return "the edge sent a malformed entry";
	mtime_ns = stat->mod_time_ns;
	play->entry.kind = stat_kind(stat);
	play->entry.data = fsutil_stat_has_data(stat);
	play->entry.name = (struct content_name){ 0 };
	if (play->lineage) {
		(void)play_stable_take(play, mtime_ns);
		return NULL;
	}
	if (packet_queue_push(&play->scanned, &bytes, 1) < 0)
		return "no memory and no disk for the entries of the context";
	(void)play_add_entry(play);
	return NULL;
}

void play_ahead_entries(struct play *play, struct span list)
{
	const char *fault = ahead_begin(play);
	struct span stat;

	if (play->state != PLAY_AHEAD)
		return;
	if (play->entries_ended)
		fault = "the edge sent entries behind the last";
	play->entries_bytes += list.size;
	if (play->entries_bytes > ENTRIES_BYTES_MAX)
		fault = "the edge sent more than 2 GiB of entries";
	play->entries_ended |= list.size == 0;
	while (!fault && play->state == PLAY_AHEAD && entry_list_next(&list, &stat))
		fault = ahead_take(play, stat);
	if (!fault && play->state == PLAY_AHEAD && list.size)
		fault = "the edge sent malformed entries";
	if (fault)
		play_fail(play, GRPC_INTERNAL, fault);
	else
		play_pump(play);
}

bool play_ahead_stat(struct play *play)
{
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct span parts[2];

	if (packet_queue_front(&play->scanned, &parts[1])) {
		parts[0] = span_make(head, fsutil_write_stat_head(head, parts[1].size));
		call_send_parts(&play->daemon, parts, 2);
		packet_queue_pop(&play->scanned);
		return true;
	}
	if (play->entries_ended)
		play_end_stats(play);
	return play->entries_ended;
}

/* ---- what the daemon waits for ---- */

void play_ahead_await(struct play *play, uint32_t id)
{
	if (spill_grow(&play->waits, (play->waits_count + 1) * sizeof(id)) < 0) {
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "no memory and no disk for the entries of the context");
		return;
	}
	((uint32_t *)(void *)play->waits.data)[play->waits_count++] = id;
	play_entry_at(play, id)->state = PLAY_ENTRY_AWAITED;
	play->awaited++;
	if (!op_in_flight(&play->again))
		ring_timer(play->session->service->cas->ring, &play->again, URGE_GATHER_NS);
}

static int ascending(const void *a, const void *b)
{
	uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;

	return (one > other) - (one < other);
}

/* In the daemon's order, and so many at a time that what is told is soon needed. */
void play_ahead_urge(struct play *play)
{
	const uint32_t *waits = (const uint32_t *)(const void *)play->waits.data;
	uint8_t storage[URGED_MAX * PB_VARINT_BYTES_MAX];
	struct buffer list = buffer_over(storage, sizeof(storage));
	uint64_t previous = ENTRY_NUMBER_BEFORE;
	uint32_t told[URGED_MAX];
	size_t count = 0;

	if (play->state != PLAY_AHEAD || play->urged > URGED_MAX / 2)
		return;
	while (play->urged + count < URGED_MAX && play->waits_told < play->waits_count) {
		uint32_t id = waits[play->waits_told++];

		if (play_entry_at(play, id)->state == PLAY_ENTRY_AWAITED)
			told[count++] = id;
	}
	if (count == 0)
		return;
	qsort(told, count, sizeof(told[0]), ascending);
	for (size_t i = 0; i < count; i++) {
		play_entry_at(play, told[i])->state = PLAY_ENTRY_URGED;
		number_list_put(&list, &previous, told[i]);
	}
	play->urged += (uint32_t)count;
	asker_want_files(&play->asker, buffer_span(&list));
}

/* ---- names ---- */

/* NULL, or what is wrong with it. */
static const char *ahead_name(struct play *play, const struct named_entry *named)
{
	struct content_name name = { .digest = named->digest, .size = named->file_size, .recipe = named->recipe };
	const struct play_entry *entry = named->number < play->entries_count ? play_entry_at(play, (uint32_t)named->number) : NULL;

	if (!entry || entry->state < PLAY_ENTRY_UNNAMED)
		return "the edge named what is no file, or has a name";
	/* A file that changed while it was read has another size than its STAT: it goes as it is, as at fsutil's own sender. */
	if (named->recipe && named->digest.size > RECIPE_BYTES_MAX)
		return "the edge named a recipe that is too long";
	if (play->lineage)
		play_stable_name(play, (uint32_t)named->number, &name);
	play_files_name(play, (uint32_t)named->number, &name);
	return NULL;
}

void play_ahead_names(struct play *play, struct span list)
{
	const char *fault = play->ahead ? NULL : "the edge named what it has not told";
	uint64_t number = 0;
	struct named_entry named;

	if (play->state >= PLAY_ENDING)
		return;
	while (!fault && name_list_next(&list, &number, &named))
		fault = ahead_name(play, &named);
	if (!fault && list.size)
		fault = "the edge sent malformed names";
	if (fault) {
		play_fail(play, GRPC_INTERNAL, fault);
		return;
	}
	play_ahead_urge(play);
	play_pump(play);
}

bool play_ahead_complete(struct play *play)
{
	const char *fault = NULL;

	if (!play->entries_ended || play->entries_count != play->asker.told.entries)
		fault = "the edge counts the entries of the context otherwise";
	else if (play->awaited)
		fault = "the edge left a file of the context without a name";
	if (fault)
		play_fail(play, GRPC_INTERNAL, fault);
	return !fault;
}
