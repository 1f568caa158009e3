/*
 * A table is loaded by a worker in one go. A save goes over the slots in slices: each is copied by the loop and written by a
 * worker, while the table remains in use; it is a memory, in which each entry is true by itself.
 */
#include "gateway/broker/stat_private.h"

#include <stdlib.h>

#include "gateway/base/check.h"

#define SLICE_ENTRIES 4096              /* of a save, in one write */
#define SLICE_SLOTS   16384             /* looked at, a slice: about 100 us */
#define SAVES_A_PRUNE 512               /* each looks at every file */

/* ---- loading ---- */

int32_t stat_table_load(struct op *work)
{
	struct stat_table *table = container_of(work, struct stat_table, work);
	struct stat_file_mapping mapping = { 0 };
	int r;

	table->load_result = stat_file_open(&mapping, table->memory->dir_fd, table->key, STAT_TABLE_ENTRIES_MAX);
	r = stat_table_make_slots(table, mapping.file.count);
	if (r && mapping.file.count) {
		table->load_result = r;
		stat_file_close(&mapping);
		r = stat_table_make_slots(table, 0);
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
		stat_table_drain(table, SLICE_SLOTS);
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
		stat_memory_log(table, LOG_WARNING, "directory memory cannot be saved", res);
		table->dirty = table->users > 0;         /* its users' next save tries again */
	} else {
		memory->totals.saves++;
	}
	if (table->save_again || !table->users) {
		table->save_again = false;
		stat_table_save(table);
	}
	stat_memory_settle(table);
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
