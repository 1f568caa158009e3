/* The files that a daemon asked for, from the store. */
#include "gateway/play/play_private.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/err.h"

/* Larger packets than fsutil's own 32 KiB: each costs the daemon a turn of its one receiving loop. */
#define PLAY_BYTES (128u << 10)

static struct content_name entry_name(const struct play_entry *entry)
{
	struct content_name name = { .size = entry->size, .recipe = entry->recipe_bytes > 0 };

	name.digest.size = name.recipe ? entry->recipe_bytes : entry->size;
	memcpy(name.digest.hash, entry->hash, sizeof(entry->hash));
	return name;
}

static void file_start(struct play_file *file, uint64_t offset)
{
	struct content_name name = entry_name(play_entry_at(file->play, file->id));

	playback_start(file->play->playbacks, &file->playback, &name, offset);
}

static void files_start(struct play *play)
{
	while (play->asked_first != PLAY_NONE && !list_empty(&play->idle)) {
		struct play_file *file = container_of(list_take(&play->idle), struct play_file, link);

		file->id = play->asked_first;
		play->asked_first = play_entry_at(play, file->id)->next;
		file_start(file, 0);
	}
}

static void files_queue(struct play *play, uint32_t id)
{
	struct play_entry *entry = play_entry_at(play, id);

	entry->state = PLAY_ENTRY_ASKED;
	entry->next = PLAY_NONE;
	if (play->asked_first == PLAY_NONE)
		play->asked_first = id;
	else
		play_entry_at(play, play->asked_last)->next = id;
	play->asked_last = id;
	play->session->service->counters.files_played++;
	files_start(play);
}

bool play_files_ask(struct play *play, uint32_t id)
{
	struct play_entry *entry = id < play->entries_count ? play_entry_at(play, id) : NULL;

	if (entry && entry->state == PLAY_ENTRY_UNNAMED && play->state == PLAY_AHEAD) {
		play_ahead_await(play, id);
		return true;
	}
	if (!entry || entry->state != PLAY_ENTRY_FILE)
		return false;
	files_queue(play, id);
	return true;
}

void play_files_name(struct play *play, uint32_t id, const struct content_name *name)
{
	struct play_entry *entry = play_entry_at(play, id);
	bool urged = entry->state == PLAY_ENTRY_URGED, awaited = urged || entry->state == PLAY_ENTRY_AWAITED;

	memcpy(entry->hash, name->digest.hash, sizeof(entry->hash));
	entry->size = name->size;
	entry->recipe_bytes = name->recipe ? (uint32_t)name->digest.size & 0xffffffu : 0;
	entry->state = PLAY_ENTRY_FILE;
	play->awaited -= awaited;
	play->urged -= urged;
	if (awaited)
		files_queue(play, id);
}

/* ---- to the daemon ---- */

static void file_send(struct play_file *file, struct span data)
{
	struct play *play = file->play;
	uint8_t head[FSUTIL_HEAD_BYTES_MAX];
	struct span parts[2] = { span_make(head, fsutil_write_data_head(head, file->id, data.size)), data };
	size_t size = data.size;

	call_send_parts(&play->daemon, parts, 2);
	playback_taken(&file->playback, size);
	play->session->service->counters.bytes_from_store += size;
	play->session->service->counters.bytes_to_executor += size;
	play->session->totals.bytes_from_store += size;
	play->session->totals.bytes_to_executor += size;
}

static void file_end(struct play_file *file)
{
	struct play *play = file->play;
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];
	struct span part = span_make(packet, fsutil_write_data_end(packet, file->id));

	call_send_parts(&play->daemon, &part, 1);
	play->service->counters.files_ahead += play->state == PLAY_AHEAD;
	playback_stop(&file->playback);
	list_remove(&file->link);
	list_append(&play->idle, &file->link);
	files_start(play);
}

/* In the order in which they became ready, each as far as it has data. */
bool play_files_send(struct play *play)
{
	struct play_file *file;
	struct span data;

	if (list_empty(&play->ready))
		return false;
	file = container_of(play->ready.next, struct play_file, link);
	data = playback_data(&file->playback);
	if (data.size)
		file_send(file, span_make(data.data, data.size < PLAY_BYTES ? data.size : PLAY_BYTES));
	else if (playback_ended(&file->playback))
		file_end(file);
	else
		list_remove(&file->link);        /* until on_data */
	return true;
}

/* ---- from the store ---- */

static void file_on_data(struct playback *playback)
{
	struct play_file *file = container_of(playback, struct play_file, playback);

	list_append(&file->play->ready, &file->link);
	play_pump(file->play);
}

static void file_on_failed(struct playback *playback, int result)
{
	struct play_file *file = container_of(playback, struct play_file, playback);

	if (result < 0) {
		play_fail(file->play, GRPC_INTERNAL, "the gateway's store failed");
		return;
	}
	list_remove(&file->link);
	list_append(&file->play->lost, &file->link);
	play_repair(file->play);
}

static void file_on_ready(struct playback *playback, int result)
{
	if (result == STORE_OK)
		file_on_data(playback);
	else
		file_on_failed(playback, result);
}

static const struct playback_events file_events = {
	.on_ready = file_on_ready, .on_data = file_on_data, .on_failed = file_on_failed,
};

void play_files_retry(struct play *play)
{
	struct list *link;

	while ((link = list_take(&play->lost))) {
		struct play_file *file = container_of(link, struct play_file, link);
		uint64_t offset = file->playback.offset;

		playback_stop(&file->playback);
		file_start(file, offset);
	}
}

/* ---- life ---- */

int play_files_init(struct play *play)
{
	play->playbacks = playbacks_create(play->session->service->cas, &play->session->scope, &file_events, play);
	play->files = calloc(PLAY_FILES_MAX, sizeof(*play->files));
	if (!play->playbacks || !play->files)
		return ERR_RAISE(-ENOMEM);
	for (size_t i = 0; i < PLAY_FILES_MAX; i++) {
		play->files[i].play = play;
		list_append(&play->idle, &play->files[i].link);
	}
	return 0;
}

void play_files_fini(struct play *play)
{
	for (size_t i = 0; play->files && i < PLAY_FILES_MAX; i++)
		playback_stop(&play->files[i].playback);
	playbacks_destroy(play->playbacks);
	free(play->files);
	play->playbacks = NULL;
	play->files = NULL;
}
