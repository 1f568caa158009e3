/*
 * Tables of stats, by trust key.
 *
 *	LOADING -> in use <-> idle -> dropped
 */
#include "gateway/broker/stat_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"

_Static_assert(STAT_KEY_BYTES == STAT_FILE_KEY_BYTES, "a file a key");

static void memory_on_turn(struct post *post);

void stat_key_field(struct sha256_stream *hash, struct span field)
{
	uint64_t size = field.size;

	sha256_stream_update(hash, (const uint8_t *)&size, sizeof(size));
	sha256_stream_update(hash, field.data, field.size);
}

/* ---- the memory ---- */

int stat_memory_create(struct stat_memory **out, struct ring *ring, const char *directory)
{
	struct stat_memory *memory = calloc(1, sizeof(*memory));
	int r = 0;

	if (!memory)
		return ERR_RAISE(-ENOMEM);
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		r = ERR_RAISE(-errno);
	memory->dir_fd = r ? -1 : open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (!r && memory->dir_fd < 0)
		r = ERR_RAISE(-errno);
	if (r) {
		free(memory);
		return r;
	}
	memory->ring = ring;
	memory->turn.fn = memory_on_turn;
	ring_random(ring, &memory->seed, sizeof(memory->seed));
	list_init(&memory->tables);
	for (size_t i = 0; i < STAT_TABLE_BUCKETS; i++)
		list_init(&memory->known[i]);
	list_init(&memory->idle);
	list_init(&memory->answers);
	list_init(&memory->tells);
	*out = memory;
	return 0;
}

static void memory_close_join(struct stat_memory *memory)
{
	if (!memory->closing || memory->posted || memory->running || !list_empty(&memory->tables))
		return;
	close(memory->dir_fd);
	memory->fn(memory->context);
	free(memory);
}

void stat_memory_schedule(struct stat_memory *memory)
{
	if (memory->posted)
		return;
	memory->posted = true;
	ring_post(memory->ring, &memory->turn);
}

void stat_memory_status(const struct stat_memory *memory, struct stat_memory_status *status)
{
	*status = memory->totals;
	list_for_each(link, &memory->tables) {
		const struct stat_table *table = container_of(link, struct stat_table, link);

		if (table->loading)
			continue;
		status->tables++;
		status->tables_used += table->users > 0;
		status->entries += table->count;
		status->memory_bytes += stat_table_bytes(table, false);
		status->mapped_bytes += stat_table_bytes(table, true);
	}
}

/* ---- a table's life ---- */

void stat_memory_log(const struct stat_table *table, enum log_level level, const char *event, int r)
{
	char name[STAT_FILE_NAME_BYTES];

	stat_file_name(table->key, name);
	log_event(level, event, LOG_TEXT("table", name), LOG_TEXT("error", err_report(r)));
}

static void table_drop(struct stat_table *table)
{
	CHECK(!op_in_flight(&table->work));
	CHECK(!op_in_flight(&table->grow));
	for (size_t i = 0; i < STAT_CLAIM_BUCKETS; i++)
		CHECK(list_empty(&table->claims[i]));
	list_remove(&table->link);
	list_remove(&table->known);
	stat_slots_fini(&table->now);
	stat_slots_fini(&table->old);
	free(table->slice);
	free(table);
}

static void idle_remove(struct stat_table *table)
{
	if (!list_linked(&table->idle))
		return;
	list_remove(&table->idle);
	table->memory->idle_count--;
	table->memory->idle_bytes -= stat_table_bytes(table, false);
}

static void idle_trim(struct stat_memory *memory, size_t tables_max, size_t bytes_max)
{
	while (memory->idle_count && (memory->idle_count > tables_max || memory->idle_bytes > bytes_max)) {
		struct stat_table *table = container_of(memory->idle.next, struct stat_table, idle);

		idle_remove(table);
		table_drop(table);
	}
}

void stat_memory_settle(struct stat_table *table)
{
	struct stat_memory *memory = table->memory;

	if (!table->users && !table->loading && !table->growing && !table->saving && !list_linked(&table->idle)) {
		list_append(&memory->idle, &table->idle);
		memory->idle_count++;
		memory->idle_bytes += stat_table_bytes(table, false);
		if (memory->closing)
			idle_trim(memory, 0, 0);
		else
			idle_trim(memory, STAT_MEMORY_IDLE_TABLES_MAX, STAT_MEMORY_IDLE_BYTES_MAX);
	}
	memory_close_join(memory);
}

void stat_memory_destroy(struct stat_memory *memory, void (*fn)(void *context), void *context)
{
	CHECK(!memory->closing);
	memory->closing = true;
	memory->fn = fn;
	memory->context = context;
	list_for_each(link, &memory->tables)
		CHECK(container_of(link, struct stat_table, link)->users == 0);
	idle_trim(memory, 0, 0);
	stat_memory_schedule(memory);
}

static void load_on_work(struct op *op, int32_t res)
{
	struct stat_table *table = container_of(op, struct stat_table, work);
	struct stat_memory *memory = table->memory;
	struct list *link;

	table->loading = false;
	table->count = table->now.live;
	if (res == 0 && table->load_result == 0)
		memory->totals.loads++;
	if (res == 0 && table->load_result && table->load_result != -ENOENT) {
		memory->totals.loads_refused++;
		stat_memory_log(table, LOG_WARNING, "directory memory begins anew", table->load_result);
	}
	while ((link = list_take(&table->requests))) {
		struct stat_request *request = container_of(link, struct stat_request, link);

		if (res < 0) {
			request->table = NULL;
			table->users--;
		}
		list_append(&memory->answers, link);
		stat_memory_schedule(memory);
	}
	if (res == 0) {
		stat_memory_settle(table);
		return;
	}
	table_drop(table);
	memory_close_join(memory);
}

static struct list *known_bucket(struct stat_memory *memory, const uint8_t *key)
{
	return &memory->known[(key[0] << 8 | key[1]) % STAT_TABLE_BUCKETS];
}

static struct stat_table *table_make(struct stat_memory *memory, const uint8_t *key)
{
	struct stat_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->memory = memory;
	memcpy(table->key, key, sizeof(table->key));
	list_init(&table->requests);
	for (size_t i = 0; i < STAT_CLAIM_BUCKETS; i++)
		list_init(&table->claims[i]);
	list_append(&memory->tables, &table->link);
	list_append(known_bucket(memory, key), &table->known);
	table->loading = true;
	table->work.fn = load_on_work;
	ring_work(memory->ring, &table->work, stat_table_load);
	return table;
}

static struct stat_table *table_known(struct stat_memory *memory, const uint8_t *key)
{
	list_for_each(link, known_bucket(memory, key)) {
		struct stat_table *table = container_of(link, struct stat_table, known);

		if (memcmp(table->key, key, sizeof(table->key)) == 0)
			return table;
	}
	return NULL;
}

void stat_memory_get(struct stat_memory *memory, struct stat_request *request, const uint8_t key[static STAT_KEY_BYTES])
{
	struct stat_table *table = table_known(memory, key);

	CHECK(!memory->closing);
	if (!table)
		table = table_make(memory, key);
	request->memory = memory;
	request->table = table;
	if (table) {
		idle_remove(table);
		table->users++;
	}
	if (table && table->loading) {
		list_append(&table->requests, &request->link);
		return;
	}
	list_append(&memory->answers, &request->link);
	stat_memory_schedule(memory);
}

void stat_request_cancel(struct stat_request *request)
{
	if (!list_linked(&request->link))
		return;
	list_remove(&request->link);
	stat_table_unref(request->table);
	request->table = NULL;
}

/* ---- the turn ---- */

static void memory_answer(struct stat_request *request)
{
	if (request->table && request->table->generation < UINT32_MAX)
		request->table->generation++;
	request->fn(request);
}

/* As many as there are now, however many the handlers make. */
static void memory_on_turn(struct post *post)
{
	struct stat_memory *memory = container_of(post, struct stat_memory, turn);
	struct list answers, tells, *link;

	memory->posted = false;
	memory->running = true;
	list_init(&answers);
	list_init(&tells);
	while ((link = list_take(&memory->answers)))
		list_append(&answers, link);
	while ((link = list_take(&memory->tells)))
		list_append(&tells, link);
	while ((link = list_take(&answers)))
		memory_answer(container_of(link, struct stat_request, link));
	while ((link = list_take(&tells)))
		stat_claim_event(container_of(link, struct stat_claim, tell));
	memory->running = false;
	memory_close_join(memory);
}
