/*
 * A table's entries. One that fills moves to larger slots a few entries at a time, with each one that is learned; until then both are
 * looked into, the newer first. Beyond its bound the new slots are of the same size, and what no build saw lately stays behind.
 */
#include "gateway/broker/stat_private.h"

#include <string.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"

#define CAPACITY_FIRST 256
#define CAPACITY_MAX   ((size_t)STAT_TABLE_ENTRIES_MAX / 7 * 8 + 8)
#define DRAIN_STEP     16                /* slots moved, an entry learned */
#define NS_PER_SECOND  1000000000

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

int stat_table_make_slots(struct stat_table *table, size_t count)
{
	size_t capacity = capacity_for(count);

	return stat_slots_init(&table->now, capacity, table->memory->seed, capacity_mapped(capacity), table->memory->dir_fd);
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

void stat_table_drain(struct stat_table *table, size_t slots)
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
		stat_memory_log(table, LOG_WARNING, "directory memory cannot grow", res);
		table->grow_from = table->generation + 1;
	} else {
		table_install(table, &table->grown);
	}
	table->grown = (struct stat_slots){ 0 };
	stat_memory_settle(table);
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

/* Of the key's place, in the newer or the older slots. */
static struct stat_entry *table_entry(const struct stat_table *table, const struct stat_entry_key *key)
{
	struct stat_entry *entry = stat_slots_find(&table->now, key);

	return entry || !table->old.capacity ? entry : stat_slots_find(&table->old, key);
}

static bool entry_is(const struct stat_entry *entry, const struct stat_entry_key *key)
{
	return memcmp(&entry->key, key, sizeof(*key)) == 0;
}

static void table_remove(struct stat_table *table, const struct stat_entry_key *key)
{
	struct stat_entry *newer = stat_slots_find(&table->now, key), *older = stat_slots_find(&table->old, key);

	if (newer)
		stat_slots_remove(&table->now, newer);
	if (older)
		stat_slots_remove(&table->old, older);
	table->count--;
	table->dirty = true;
}

/* A build sees the key: it is the last one of its place from now on. */
static struct stat_entry *table_see(struct stat_table *table, const struct stat_entry_key *key)
{
	struct stat_entry *entry = table_entry(table, key);

	if (entry && !entry_is(entry, key)) {
		table_remove(table, key);
		entry = NULL;
	}
	if (entry)
		entry->generation = table->generation;
	return entry;
}

size_t stat_table_bytes(const struct stat_table *table, bool mapped)
{
	size_t slots = (table->now.mapped == mapped ? table->now.capacity : 0) +
	               (table->old.mapped == mapped ? table->old.capacity : 0);

	return slots * STAT_ENTRY_BYTES + (mapped ? 0 : sizeof(*table));
}

/* ---- entries ---- */

static struct stat_entry_key key_of(struct span path, uint64_t size, int64_t mtime_ns)
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

struct stat_entry_key stat_entry_key(struct span path, uint64_t size, int64_t mtime_ns)
{
	struct stat_entry_key key = key_of(path, size, mtime_ns), place;

	if (mtime_ns % NS_PER_SECOND == 0) {
		place = key_of(path, 0, 0);
		memcpy(key.bytes, place.bytes, STAT_ENTRY_PLACE_BYTES);
	}
	return key;
}

bool stat_table_find(struct stat_table *table, const struct stat_entry_key *key, struct content_name *name)
{
	struct stat_entry *entry = table_see(table, key);

	if (entry)
		*name = stat_entry_name(entry);
	return entry != NULL;
}

bool stat_table_touch(struct stat_table *table, const struct stat_entry_key *key)
{
	return table_see(table, key) != NULL;
}

void stat_table_learn(struct stat_table *table, const struct stat_entry_key *key, const struct content_name *name)
{
	struct stat_entry made = { .key = *key }, *place, *known;

	stat_table_drain(table, DRAIN_STEP);
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
	const struct stat_entry *entry = table_entry(table, key);

	if (entry && entry_is(entry, key))
		table_remove(table, key);
}

size_t stat_table_count(const struct stat_table *table)
{
	return table->count;
}

void stat_table_unref(struct stat_table *table)
{
	if (!table)
		return;
	CHECK(table->users > 0);
	if (--table->users)
		return;
	stat_table_save(table);
	stat_memory_settle(table);
}
