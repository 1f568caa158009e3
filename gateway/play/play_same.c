/*
 * Ahead of the root, when one of this context was played before: the client lists what is in its directory, the edge says how far
 * that is as it was, and as far the known root is played meanwhile. So a daemon compares while a client still lists. When the
 * context's own root comes and is that one, the play goes on; when it is another, what was taken is skipped in it.
 *
 * The edge is believed no further than that: in the root that came, what was taken is looked at again, and the call fails when it
 * is not the same.
 */
#include "gateway/play/play_private.h"

static void told_init(struct play_told *told)
{
	sha256_stream_init(&told->paths);
	sha256_stream_init(&told->contents);
}

void play_told_path(struct play_told *told, const struct fsutil_stat *stat)
{
	const uint64_t numbers[] = { stat->path.size, stat->linkname.size, stat->mode,
		                     fsutil_stat_has_data(stat) ? (uint64_t)stat->size : 0 };

	sha256_stream_update(&told->paths, (const uint8_t *)numbers, sizeof(numbers));
	sha256_stream_update(&told->paths, stat->path.data, stat->path.size);
	sha256_stream_update(&told->paths, stat->linkname.data, stat->linkname.size);
}

static void told_entry(struct play_told *told, const struct fsutil_stat *stat, const struct claim_hash *content)
{
	play_told_path(told, stat);
	sha256_stream_update(&told->contents, content->bytes, sizeof(content->bytes));
}

static bool stream_equal(const struct sha256_stream *one, const struct sha256_stream *other)
{
	struct sha256_stream copies[2] = { *one, *other };
	uint8_t digests[2][SHA256_BYTES];

	for (int i = 0; i < 2; i++)
		sha256_stream_final(&copies[i], digests[i]);
	return memcmp(digests[0], digests[1], SHA256_BYTES) == 0;
}

bool play_told_same_paths(const struct play *play)
{
	return stream_equal(&play->told.paths, &play->seen.paths);
}

static bool same_walk(struct play *play, const struct digest *root)
{
	walk_destroy(play->walk);
	play->walk = NULL;
	return walk_create(&play->walk, play->session->service->cas, &play->session->scope, root, play_on_more, play) == 0;
}

static bool same_begin(struct play *play)
{
	play->state = PLAY_SAME;
	play->service->counters.plays_same++;
	told_init(&play->told);
	told_init(&play->seen);
	return same_walk(play, &play->known) && play_files_init(play) == 0;
}

void play_same_take(struct play *play)
{
	if (play->state == PLAY_ASKING && !same_begin(play)) {
		play_fail(play, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		return;
	}
	if (play->state == PLAY_SAME)
		play_pump(play);
}

void play_same_note(struct play *play, const struct claim_hash *content)
{
	told_entry(&play->told, &play->entry.stat, content);
}

bool play_same_complete(struct play *play)
{
	if (digest_equal(&play->asker.root, &play->known))
		return true;
	play->entry_waits = play->walk_missing = false;
	play->to_skip = play->entries_count;
	if (same_walk(play, &play->asker.root))
		return true;
	play_fail(play, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	return false;
}

bool play_same_skip(struct play *play, const struct claim_hash *content)
{
	told_entry(&play->seen, &play->entry.stat, content);
	play->entry_waits = false;
	if (--play->to_skip || (play_told_same_paths(play) && stream_equal(&play->told.contents, &play->seen.contents)))
		return true;
	play_fail(play, GRPC_INTERNAL, "the edge said that entries are as they were, and they are not");
	return false;
}
