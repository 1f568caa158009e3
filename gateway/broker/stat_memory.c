/*
 * Tables of stats, by trust key.
 *
 *	LOADING -> in use <-> idle -> dropped
 *
 * A table that fills moves to larger slots a few entries at a time, with each one that is learned; until then both are
 * looked into, the newer first. Beyond its bound the new slots are of the same size, and what no build saw lately stays
 * behind. A save goes over the slots in slices: each is copied by the loop and written by a worker, while the table
 * remains in use; it is a memory, in which each entry is true by itself.
 */
#include "gateway/broker/stat_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/broker/stat_file.h"

#define CAPACITY_FIRST 256
#define CAPACITY_MAX   ((size_t)STAT_TABLE_ENTRIES_MAX / 7 * 8 + 8)
#define DRAIN_STEP     16                /* slots moved, an entry learned */
#define SLICE_ENTRIES  4096              /* of a save, in one write */
#define SLICE_SLOTS    16384             /* looked at, a slice: about 100 us */
#define CLAIM_BUCKETS  256
#define SAVES_A_PRUNE  512              /* each looks at every file */
#define TABLE_BUCKETS  1024

enum claim_state { CLAIM_NONE, CLAIM_FETCHER, CLAIM_WAITER, CLAIM_NAMED };

struct stat_table {
	struct stat_memory *memory;
	uint8_t key[STAT_KEY_BYTES];
	struct list link, idle, known;
	struct list requests;            /* while it is being loaded */
	unsigned users;
	bool loading, growing, saving, dirty, save_again, forgetful;
	uint32_t generation;
	uint32_t grow_from;              /* not before this generation again */
	size_t count;                    /* of keys in both */
	struct stat_slots now, old;
	size_t drained;                  /* of old's slots */
	struct op work;                  /* loads, and later saves */
	int load_result;
	struct op grow;
	struct stat_slots grown;
	struct stat_writer writer;
	struct stat_entry *slice;
	size_t slice_count, slice_room, save_at;
	bool save_last, save_from_start, save_begun, save_prunes;
	bool save_anew;                  /* the slots are others: from the beginning */
	uint32_t save_generation;
	struct list claims[CLAIM_BUCKETS];       /* fetchers */
};

struct stat_memory {
	struct ring *ring;
	int dir_fd;
	uint64_t seed;
	struct list tables, idle;
	struct list known[TABLE_BUCKETS];        /* the tables by their keys, which are digests */
	size_t idle_count, idle_bytes;
	struct list answers, tells;      /* requests and claims whose events are due */
	struct post turn;
	bool posted, running, closing;
	void (*fn)(void *context);
	void *context;
	struct stat_memory_status totals;
};

_Static_assert(STAT_KEY_BYTES == STAT_FILE_KEY_BYTES, "a file a key");

static void memory_on_turn(struct post *post);

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
	for (size_t i = 0; i < TABLE_BUCKETS; i++)
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

static void memory_schedule(struct stat_memory *memory)
{
	if (memory->posted)
		return;
	memory->posted = true;
	ring_post(memory->ring, &memory->turn);
}

static size_t table_bytes(const struct stat_table *table, bool mapped)
{
	size_t slots = (table->now.mapped == mapped ? table->now.capacity : 0) +
	               (table->old.mapped == mapped ? table->old.capacity : 0);

	return slots * STAT_ENTRY_BYTES + (mapped ? 0 : sizeof(*table));
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
		status->memory_bytes += table_bytes(table, false);
		status->mapped_bytes += table_bytes(table, true);
	}
}

/* ---- a table's life ---- */

static void table_log(const struct stat_table *table, enum log_level level, const char *event, int r)
{
	char name[STAT_FILE_NAME_BYTES];

	stat_file_name(table->key, name);
	log_event(level, event, LOG_TEXT("table", name), LOG_TEXT("error", err_text(r)));
}

static void table_drop(struct stat_table *table)
{
	CHECK(!op_in_flight(&table->work));
	CHECK(!op_in_flight(&table->grow));
	for (size_t i = 0; i < CLAIM_BUCKETS; i++)
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
	table->memory->idle_bytes -= table_bytes(table, false);
}

static void idle_trim(struct stat_memory *memory, size_t tables_max, size_t bytes_max)
{
	while (memory->idle_count && (memory->idle_count > tables_max || memory->idle_bytes > bytes_max)) {
		struct stat_table *table = container_of(memory->idle.next, struct stat_table, idle);

		idle_remove(table);
		table_drop(table);
	}
}

/* Something of it has ended: is it idle now? */
static void table_settle(struct stat_table *table)
{
	struct stat_memory *memory = table->memory;

	if (!table->users && !table->loading && !table->growing && !table->saving && !list_linked(&table->idle)) {
		list_append(&memory->idle, &table->idle);
		memory->idle_count++;
		memory->idle_bytes += table_bytes(table, false);
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
	memory_schedule(memory);
}

void stat_table_unref(struct stat_table *table)
{
	if (!table)
		return;
	CHECK(table->users > 0);
	if (--table->users)
		return;
	stat_table_save(table);
	table_settle(table);
}

/* ---- slots ---- */

static size_t capacity_for(size_t count)
{
	size_t capacity = count + count / 3 + CAPACITY_FIRST;

	return capacity < CAPACITY_MAX ? capacity : CAPACITY_MAX;
}

static bool capacity_mapped(size_t capacity)
{
	return capacity / 8 * 7 > STAT_TABLE_MAPPED_ENTRIES;
}

/* Seen by none of the last builds. */
static bool entry_stale(const struct stat_table *table, const struct stat_entry *entry)
{
	return (uint64_t)entry->generation + STAT_TABLE_BUILDS_KEPT < table->generation;
}

static void table_drain_one(struct stat_table *table, const struct stat_entry *entry)
{
	struct stat_entry *place = NULL;

	if (!(table->forgetful && entry_stale(table, entry))) {
		if (stat_slots_find(&table->now, &entry->key))
			return;                  /* learned anew meanwhile */
		place = stat_slots_add(&table->now, &entry->key);
	}
	if (place) {
		*place = *entry;
	} else {
		table->count--;
		table->memory->totals.dropped++;
	}
}

static void table_drain(struct stat_table *table, size_t slots)
{
	if (!table->old.capacity)
		return;
	for (; slots && table->drained < table->old.capacity; slots--, table->drained++)
		if (stat_slots_has(&table->old, table->drained)) {
			table_drain_one(table, &table->old.entries[table->drained]);
			stat_slots_remove(&table->old, &table->old.entries[table->drained]);
		}
	if (table->drained == table->old.capacity)
		stat_slots_fini(&table->old);
}

static void table_install(struct stat_table *table, const struct stat_slots *grown)
{
	table->old = table->now;
	table->now = *grown;
	table->drained = 0;
	table->save_anew = table->saving;
}

static int32_t grow_work(struct op *op)
{
	struct stat_table *table = container_of(op, struct stat_table, grow);

	return stat_slots_init(&table->grown, table->grown.capacity, table->memory->seed, true, table->memory->dir_fd);
}

static void grow_on_work(struct op *op, int32_t res)
{
	struct stat_table *table = container_of(op, struct stat_table, grow);

	table->growing = false;
	if (res < 0) {
		table_log(table, LOG_WARNING, "directory memory cannot grow", res);
		table->grow_from = table->generation + 1;
	} else {
		table_install(table, &table->grown);
	}
	table->grown = (struct stat_slots){ 0 };
	table_settle(table);
}

/* When the slots fill: larger ones; at the bound ones of the same size, for what was seen lately. */
static void table_grow(struct stat_table *table)
{
	size_t capacity = capacity_for(table->count + table->count / 2);
	struct stat_slots grown;

	if ((table->now.used < table->now.capacity / 8 * 7 && table->count < STAT_TABLE_ENTRIES_MAX) ||
	    table->old.capacity || table->growing || table->generation < table->grow_from)
		return;
	table->forgetful = table->count >= STAT_TABLE_ENTRIES_MAX;
	if (table->forgetful)
		table->grow_from = table->generation + 1;
	if (capacity_mapped(capacity)) {
		table->growing = true;
		table->grown.capacity = capacity;
		table->grow.fn = grow_on_work;
		ring_work(table->memory->ring, &table->grow, grow_work);
	} else if (stat_slots_init(&grown, capacity, table->memory->seed, false, -1) == 0) {
		table_install(table, &grown);
	}
}

/* In the newer or the older slots. */
static struct stat_entry *table_entry(const struct stat_table *table, const struct stat_entry_key *key)
{
	struct stat_entry *entry = stat_slots_find(&table->now, key);

	return entry || !table->old.capacity ? entry : stat_slots_find(&table->old, key);
}

/* ---- entries ---- */

void stat_key_field(struct sha256_stream *hash, struct span field)
{
	uint64_t size = field.size;

	sha256_stream_update(hash, (const uint8_t *)&size, sizeof(size));
	sha256_stream_update(hash, field.data, field.size);
}

struct stat_entry_key stat_entry_key(struct span path, uint64_t size, int64_t mtime_ns)
{
	uint64_t numbers[2] = { size, (uint64_t)mtime_ns };
	struct sha256_stream stream;
	uint8_t digest[SHA256_BYTES];
	struct stat_entry_key key;

	sha256_stream_init(&stream);
	sha256_stream_update(&stream, (const uint8_t *)numbers, sizeof(numbers));
	sha256_stream_update(&stream, path.data, path.size);
	sha256_stream_final(&stream, digest);
	memcpy(key.bytes, digest, sizeof(key.bytes));
	return key;
}

bool stat_table_find(struct stat_table *table, const struct stat_entry_key *key, struct content_name *name)
{
	struct stat_entry *entry = table_entry(table, key);

	if (!entry)
		return false;
	entry->generation = table->generation;
	*name = stat_entry_name(entry);
	return true;
}

bool stat_table_touch(struct stat_table *table, const struct stat_entry_key *key)
{
	struct stat_entry *entry = table_entry(table, key);

	if (entry)
		entry->generation = table->generation;
	return entry != NULL;
}

void stat_table_learn(struct stat_table *table, const struct stat_entry_key *key, const struct content_name *name)
{
	struct stat_entry made = { .key = *key }, *place, *known;

	table_drain(table, DRAIN_STEP);
	if (!stat_entry_set(&made, name, table->generation))
		return;
	known = table_entry(table, key);
	place = stat_slots_find(&table->now, key);
	if (!place && (known || table->count < STAT_TABLE_ENTRIES_MAX) && table->now.used < table->now.capacity / 16 * 15)
		place = stat_slots_add(&table->now, key);
	if (place) {
		table->count += !known;
		*place = made;
		table->dirty = true;
	} else {
		table->memory->totals.dropped++;
	}
	table_grow(table);
}

void stat_table_forget(struct stat_table *table, const struct stat_entry_key *key)
{
	struct stat_entry *newer = stat_slots_find(&table->now, key), *older = stat_slots_find(&table->old, key);

	if (newer)
		stat_slots_remove(&table->now, newer);
	if (older)
		stat_slots_remove(&table->old, older);
	if (newer || older) {
		table->count--;
		table->dirty = true;
	}
}

size_t stat_table_count(const struct stat_table *table)
{
	return table->count;
}

/* ---- loading ---- */

static int32_t load_work(struct op *op)
{
	struct stat_table *table = container_of(op, struct stat_table, work);
	int dir_fd = table->memory->dir_fd, r;
	struct stat_file_mapping mapping = { 0 };
	size_t capacity;

	table->load_result = stat_file_open(&mapping, dir_fd, table->key, STAT_TABLE_ENTRIES_MAX);
	capacity = capacity_for(mapping.file.count);
	r = stat_slots_init(&table->now, capacity, table->memory->seed, capacity_mapped(capacity), dir_fd);
	if (r && mapping.file.count) {
		table->load_result = r;
		stat_file_close(&mapping);
		r = stat_slots_init(&table->now, CAPACITY_FIRST, table->memory->seed, false, -1);
	}
	for (size_t i = 0; !r && i < mapping.file.count; i++) {
		struct stat_entry *entry = stat_slots_add(&table->now, &mapping.file.entries[i].key);

		CHECK(entry);
		*entry = mapping.file.entries[i];
	}
	table->generation = mapping.file.generation;
	stat_file_close(&mapping);
	return r;
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
		table_log(table, LOG_WARNING, "directory memory begins anew", table->load_result);
	}
	while ((link = list_take(&table->requests))) {
		struct stat_request *request = container_of(link, struct stat_request, link);

		if (res < 0) {
			request->table = NULL;
			table->users--;
		}
		list_append(&memory->answers, link);
		memory_schedule(memory);
	}
	if (res == 0) {
		table_settle(table);
		return;
	}
	table_drop(table);
	memory_close_join(memory);
}

static struct list *known_bucket(struct stat_memory *memory, const uint8_t *key)
{
	return &memory->known[(key[0] << 8 | key[1]) % TABLE_BUCKETS];
}

static struct stat_table *table_make(struct stat_memory *memory, const uint8_t *key)
{
	struct stat_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->memory = memory;
	memcpy(table->key, key, sizeof(table->key));
	list_init(&table->requests);
	for (size_t i = 0; i < CLAIM_BUCKETS; i++)
		list_init(&table->claims[i]);
	list_append(&memory->tables, &table->link);
	list_append(known_bucket(memory, key), &table->known);
	table->loading = true;
	table->work.fn = load_on_work;
	ring_work(memory->ring, &table->work, load_work);
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
	memory_schedule(memory);
}

void stat_request_cancel(struct stat_request *request)
{
	if (!list_linked(&request->link))
		return;
	list_remove(&request->link);
	stat_table_unref(request->table);
	request->table = NULL;
}

/* ---- saving ---- */

static int32_t save_work(struct op *op)
{
	struct stat_table *table = container_of(op, struct stat_table, work);
	int r = 0;

	if (table->save_begun && table->save_from_start)
		stat_writer_end(&table->writer);
	if (table->save_from_start)
		r = stat_writer_begin(&table->writer, table->memory->dir_fd, table->key);
	table->save_begun = true;
	table->save_from_start = false;
	if (!r)
		r = stat_writer_put(&table->writer, table->slice, table->slice_count);
	if (!r && table->save_last)
		r = stat_writer_finish(&table->writer, table->save_generation);
	if (r || table->save_last)
		stat_writer_end(&table->writer);
	if (!r && table->save_last && table->save_prunes)
		(void)stat_files_prune(table->memory->dir_fd, STAT_MEMORY_FILES_MAX, STAT_MEMORY_DISK_BYTES_MAX);
	return r;
}

static void save_on_work(struct op *op, int32_t res);

/* The next slice; while entries are moving only that goes on. */
static void save_step(struct stat_table *table)
{
	size_t end;

	table->slice_count = 0;
	if (table->save_anew) {
		table->save_anew = false;
		table->save_from_start = true;
		table->save_at = 0;
	}
	if (table->old.capacity)
		table_drain(table, SLICE_SLOTS);
	end = table->now.capacity - table->save_at < SLICE_SLOTS ? table->now.capacity : table->save_at + SLICE_SLOTS;
	for (; !table->old.capacity && table->save_at < end && table->slice_count < table->slice_room; table->save_at++)
		if (stat_slots_has(&table->now, table->save_at))
			table->slice[table->slice_count++] = table->now.entries[table->save_at];
	table->save_last = table->save_at == table->now.capacity;
	/* Now, and not at the start: a build that began meanwhile has touched some. */
	table->save_generation = table->generation;
	table->work.fn = save_on_work;
	ring_work(table->memory->ring, &table->work, save_work);
}

static void save_on_work(struct op *op, int32_t res)
{
	struct stat_table *table = container_of(op, struct stat_table, work);
	struct stat_memory *memory = table->memory;

	if (res == 0 && !table->save_last) {
		save_step(table);
		return;
	}
	table->saving = false;
	free(table->slice);
	table->slice = NULL;
	if (res < 0) {
		memory->totals.saves_failed++;
		table_log(table, LOG_WARNING, "directory memory cannot be saved", res);
		table->dirty = table->users > 0;         /* its users' next save tries again */
	} else {
		memory->totals.saves++;
	}
	if (table->save_again || !table->users) {
		table->save_again = false;
		stat_table_save(table);
	}
	table_settle(table);
}

static void save_start(struct stat_table *table)
{
	table->slice_room = table->count < SLICE_ENTRIES ? table->count + 1 : SLICE_ENTRIES;
	table->slice = malloc(table->slice_room * sizeof(*table->slice));
	if (!table->slice) {
		table->memory->totals.saves_failed++;
		return;
	}
	table->saving = true;
	table->dirty = table->save_begun = false;
	table->save_prunes = table->memory->totals.saves % SAVES_A_PRUNE == 0;
	table->save_anew = true;
	save_step(table);
}

void stat_table_save(struct stat_table *table)
{
	if (!table->dirty)
		return;
	if (op_in_flight(&table->work))
		table->save_again = true;
	else
		save_start(table);
}

/* ---- claims ---- */

static struct list *claim_bucket(const struct stat_claim *claim)
{
	uint64_t hash = XXH3_64bits_withSeed(claim->key.bytes, sizeof(claim->key.bytes), claim->table->memory->seed);

	return &claim->table->claims[hash % CLAIM_BUCKETS];
}

static void claim_become_fetcher(struct stat_claim *claim)
{
	claim->state = CLAIM_FETCHER;
	list_init(&claim->waiters);
	list_append(claim_bucket(claim), &claim->link);
	claim->table->memory->totals.claims++;
}

int stat_table_claim(struct stat_claim *claim)
{
	CHECK(claim->state == CLAIM_NONE);
	list_for_each(link, claim_bucket(claim)) {
		struct stat_claim *fetcher = container_of(link, struct stat_claim, link);

		if (memcmp(&fetcher->key, &claim->key, sizeof(claim->key)) != 0)
			continue;
		claim->state = CLAIM_WAITER;
		list_append(&fetcher->waiters, &claim->link);
		claim->table->memory->totals.claims_waiting++;
		return STAT_CLAIM_WAIT;
	}
	claim_become_fetcher(claim);
	return STAT_CLAIM_FETCH;
}

static void claim_tell(struct stat_claim *claim)
{
	list_append(&claim->table->memory->tells, &claim->tell);
	memory_schedule(claim->table->memory);
}

/* Out of every list. A fetcher's waiters are the caller's. */
static void claim_leave(struct stat_claim *claim)
{
	struct stat_memory_status *totals = &claim->table->memory->totals;

	totals->claims -= claim->state == CLAIM_FETCHER;
	totals->claims_waiting -= claim->state == CLAIM_WAITER;
	list_remove(&claim->link);
	list_remove(&claim->tell);
	claim->state = CLAIM_NONE;
}

void stat_claim_named(struct stat_claim *claim, const struct content_name *name)
{
	struct list *link;

	CHECK(claim->state == CLAIM_FETCHER);
	stat_table_learn(claim->table, &claim->key, name);
	claim_leave(claim);
	while (!list_empty(&claim->waiters)) {
		struct stat_claim *waiter = container_of(link = claim->waiters.next, struct stat_claim, link);

		claim_leave(waiter);
		waiter->state = CLAIM_NAMED;
		waiter->name = *name;
		claim_tell(waiter);
	}
}

/* Hands the others' wait over to the one who waited longest. */
static void claim_hand_over(struct stat_claim *claim)
{
	struct stat_claim *next;
	struct list *link;

	if (list_empty(&claim->waiters))
		return;
	next = container_of(claim->waiters.next, struct stat_claim, link);
	claim_leave(next);
	claim_become_fetcher(next);
	while ((link = list_take(&claim->waiters)))
		list_append(&next->waiters, link);
	claim_tell(next);
}

void stat_claim_end(struct stat_claim *claim)
{
	bool fetcher = claim->state == CLAIM_FETCHER;

	if (claim->state == CLAIM_NONE)
		return;
	claim_leave(claim);
	if (fetcher)
		claim_hand_over(claim);
}

/* ---- the turn ---- */

static void memory_answer(struct stat_request *request)
{
	if (request->table && request->table->generation < UINT32_MAX)
		request->table->generation++;
	request->fn(request);
}

static void claim_event(struct stat_claim *claim)
{
	struct content_name name = claim->name;

	if (claim->state == CLAIM_FETCHER) {
		claim->on_lost(claim);
		return;
	}
	CHECK(claim->state == CLAIM_NAMED);
	claim->state = CLAIM_NONE;
	claim->on_named(claim, &name);
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
		claim_event(container_of(link, struct stat_claim, tell));
	memory->running = false;
	memory_close_join(memory);
}
