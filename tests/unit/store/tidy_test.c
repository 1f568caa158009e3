/*
 * Shows that what tidies up leaves alone what was written anew since it looked: with an index in which each second row of the marks
 * and notes is, between a scan and its answer, all notes of that kind outlive a store that has too many of them, and all marks an
 * eviction that made them stale; that notes which go are no newer than others; and that it leaves the loop to others, however often
 * it looks in vain; and that an index full of stale marks is tidied before anything is evicted or refused for it, however many of
 * them are written.
 */
#include "tests/unit/store/fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/list.h"
#include "gateway/store/state.h"

#define CEILING (64u << 20)

/* ---- the index ---- */

static struct index *opened;
static unsigned scans;                   /* of notes */

/* Rows that a scan has found, with other values of the same length. */
struct rewrite {
	struct index_apply apply;
	const struct index_scan *scan;
	size_t at;
};

static bool is_rewritten(struct span key)
{
	return key.data[key.size - 1] % 2;
}

static bool rewrite_next(struct index_apply *apply, struct index_change *change)
{
	struct rewrite *rewrite = container_of(apply, struct rewrite, apply);
	struct index_row row;

	do {
		if (!index_scan_next(rewrite->scan, &rewrite->at, &row))
			return false;
	} while (!is_rewritten(row.key));
	change->kind = INDEX_PUT;
	change->table = rewrite->scan->table;
	change->key_size = row.key.size;
	memcpy(change->key, row.key.data, row.key.size);
	memcpy(change->storage, row.value.data, row.value.size);
	change->storage[0] ^= 1;
	change->value = span_make(change->storage, row.value.size);
	return true;
}

static void rewriting_scan(struct index *index, struct index_scan *scan)
{
	struct rewrite rewrite = { .apply.next = rewrite_next, .scan = scan };

	scans += scan->table == INDEX_NOTES;
	scan->result = index_lmdb.scan_now(index, scan);
	if (scan->table == INDEX_MARKS || scan->table == INDEX_NOTES)
		assert_int_equal(index_lmdb.apply_now(index, &rewrite.apply), 0);
	scan->fn(scan);
}

static int rewriting_open(struct index **index, const struct index_config *config)
{
	int r = index_lmdb.open(index, config);

	opened = *index;
	return r;
}

static int setup(void **state)
{
	static struct index_engine rewriting;
	struct fixture *fixture;

	fixture_setup(state);
	fixture = *state;
	rewriting = index_lmdb;
	rewriting.open = rewriting_open;
	rewriting.scan = rewriting_scan;
	fixture->config.index = &rewriting;
	fixture->config.ceiling_bytes = CEILING;
	fixture_open(fixture);
	return 0;
}

static void count_rows(enum index_table table, size_t *rewritten, size_t *others)
{
	static uint8_t rows[64 * INDEX_SCAN_ROW_MAX];
	struct index_scan scan = { .table = table, .rows = rows, .rows_capacity = sizeof(rows), .rows_max = 64 };
	struct index_row row;

	*rewritten = *others = 0;
	do {
		size_t at = 0;

		assert_int_equal(index_lmdb.scan_now(opened, &scan), 0);
		while (index_scan_next(&scan, &at, &row))
			++*(is_rewritten(row.key) ? rewritten : others);
	} while (scan.more);
}

/* ---- tests ---- */

struct given {
	struct store_note note;
	bool done;
};

static void on_note(struct store_note *note)
{
	container_of(note, struct given, note)->done = true;
}

static void notes_that_were_written_anew_stay(void **state)
{
	struct fixture *fixture = *state;
	size_t max = fixture->store->map_bytes / 8 / (2 * STORE_NOTE_VALUE_MAX), count = max + max / 4, rewritten, others;
	struct given *notes = calloc(count, sizeof(*notes));

	for (size_t i = 0; i < count; i++) {
		uint32_t key = (uint32_t)i * 2654435761u;        /* spread, as those that are picked are; odd for odd ones */

		notes[i].note = (struct store_note){
			.scope = fixture->a, .key_size = 4, .value = "said", .value_size = 4, .fn = on_note,
			.key = { (uint8_t)(key >> 24), (uint8_t)(key >> 16), (uint8_t)(key >> 8), (uint8_t)key },
		};
		store_note_put(fixture->store, &notes[i].note);
	}
	for (size_t i = 0; i < count; i++)
		run_until(fixture, &notes[i].done);
	while (fixture->store->usage.notes > max)
		ring_run(fixture->ring, 1000000);
	count_rows(INDEX_NOTES, &rewritten, &others);
	assert_int_equal(rewritten, count / 2);
	assert_true(rewritten + others <= max);
	free(notes);
}

#define KEY_BYTES 14                     /* as of results: a tag, a hash, and behind it the number; even, so that nothing is written anew */

static void write_notes(struct fixture *fixture, const struct scope *scope, uint32_t first, uint32_t count)
{
	struct given *notes = calloc(count, sizeof(*notes));

	for (uint32_t i = 0; i < count; i++) {
		uint64_t hash = (first + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
		struct store_note *note = &notes[i].note;

		*note = (struct store_note){ .scope = *scope, .key_size = KEY_BYTES, .value_size = 4, .fn = on_note, .key = { 'a' } };
		hash = (hash ^ hash >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
		memcpy(note->key + 1, &hash, sizeof(hash));
		memcpy(note->key + 9, &(uint32_t){ first + i }, 4);
		store_note_put(fixture->store, note);
	}
	for (uint32_t i = 0; i < count; i++)
		run_until(fixture, &notes[i].done);
	free(notes);
}

static uint32_t count_notes_from(uint32_t first)
{
	static uint8_t rows[64 * INDEX_SCAN_ROW_MAX];
	struct index_scan scan = { .table = INDEX_NOTES, .rows = rows, .rows_capacity = sizeof(rows), .rows_max = 64 };
	struct index_row row;
	uint32_t count = 0, number;

	do {
		size_t at = 0;

		assert_int_equal(index_lmdb.scan_now(opened, &scan), 0);
		while (index_scan_next(&scan, &at, &row)) {
			memcpy(&number, row.key.data + row.key.size - KEY_BYTES + 9, sizeof(number));
			count += number >= first;
		}
	} while (scan.more);
	return count;
}

/* However many were written since: most of the last ones are there. Of another instance than the first. */
static void new_notes_are_as_good_as_old_ones(void **state)
{
	struct fixture *fixture = *state;
	uint32_t max = (uint32_t)(fixture->store->map_bytes / 8 / (2 * STORE_NOTE_VALUE_MAX)), kept;
	struct scope scope;

	assert_int_equal(store_scope(fixture->store, span_text("a"), span_text("other"), SCOPE_ALL, &scope), 0);
	for (uint32_t i = 0; i < 6 * max; i += 64) {
		write_notes(fixture, &scope, i, 64);
		while (fixture->store->usage.notes > max)
			ring_run(fixture->ring, 1000000);
	}
	kept = count_notes_from(6 * max - max / 2);
	if (kept < max / 2 * 6 / 10)
		fail_msg("%u of the last %u notes are left", kept, max / 2);
}

#define TENANTS    200                   /* of which one has notes: so often they are looked for in vain */
#define SCANS_MOST 3                     /* a turn */

static void looking_in_vain_takes_turns(void **state)
{
	struct fixture *fixture = *state;
	size_t max = fixture->store->map_bytes / 8 / (2 * STORE_NOTE_VALUE_MAX), count = max + 200;
	struct given *notes = calloc(count, sizeof(*notes));
	unsigned before, most = 0;
	struct scope scope;
	char name[16];

	for (int i = 0; i < TENANTS; i++) {
		snprintf(name, sizeof(name), "tenant%d", i);
		assert_int_equal(store_scope(fixture->store, span_text(name), span_text(""), SCOPE_ALL, &scope), 0);
	}
	for (size_t i = 0; i < count; i++) {
		notes[i].note = (struct store_note){ .scope = fixture->a, .key_size = 4, .value_size = 4, .fn = on_note };
		memcpy(notes[i].note.key, &(uint32_t){ (uint32_t)i * 2 * 2654435761u }, 4);
		store_note_put(fixture->store, &notes[i].note);
	}
	while (!notes[count - 1].done || fixture->store->usage.notes > max) {
		before = scans;
		ring_run(fixture->ring, 1000000);
		if (scans - before > most)
			most = scans - before;
	}
	assert_true(most <= SCANS_MOST);
	free(notes);
}

#define MARKS 40

static void marks_that_were_written_anew_stay(void **state)
{
	struct fixture *fixture = *state;
	struct blob early = blob_make(1, 60000), blob;
	size_t before, others;
	uint32_t place;

	assert_int_equal(put_blob(fixture, &fixture->a, &early), STORE_OK);
	place = lookup_blob(fixture, &fixture->a, &early.digest);
	for (uint64_t i = 0; i < MARKS; i++) {
		blob = blob_make(1000 + i, 100);
		assert_true(mark_write(fixture, &fixture->a, &blob.digest, store_marks_begin(fixture->store), &place, 1));
		blob_free(&blob);
	}
	count_rows(INDEX_MARKS, &before, &others);
	assert_int_equal(before + others, MARKS);
	assert_true(before && others);
	for (uint64_t i = 0; others; i++) {
		size_t rewritten;

		assert_true(i < 256);            /* four times the ceiling */
		blob = blob_make(100000 + i, 1 << 20);
		assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
		blob_free(&blob);
		count_rows(INDEX_MARKS, &rewritten, &others);
		assert_int_equal(rewritten, before);
	}
	blob_free(&early);
}

struct marking {
	struct store_marks marks;
	bool done;
};

static void on_marks(struct store_marks *marks)
{
	container_of(marks, struct marking, marks)->done = true;
}

#define MARKS_PART 512

/* Marks of directories from `first` on, that rest on the segment of `place`. */
static void write_marks(struct fixture *fixture, uint64_t first, uint64_t count, uint32_t place, uint64_t sequence)
{
	static struct digest directories[MARKS_PART];
	size_t rest_bytes = store_rest_bytes(fixture->store);
	uint8_t *rests = calloc(MARKS_PART, rest_bytes);

	for (size_t i = 0; i < MARKS_PART; i++)
		store_rest_add(rests + i * rest_bytes, place);
	for (uint64_t at = 0; at < count; at += MARKS_PART) {
		struct marking marking = {
			.marks = {
				.scope = fixture->a, .directories = directories, .count = MARKS_PART, .rests = rests,
				.fn = on_marks, .sequence = sequence,
			},
		};

		for (size_t i = 0; i < MARKS_PART; i++)
			blob_name(directories[i].hash, first + at + i);
		store_marks_write(fixture->store, &marking.marks);
		run_until(fixture, &marking.done);
	}
	free(rests);
}

#define BIG (1u << 20)

/* The segment that it lies in. */
static uint32_t put_big(struct fixture *fixture, uint64_t number)
{
	struct blob blob = blob_make(number, BIG);
	uint32_t place;

	assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
	place = lookup_blob(fixture, &fixture->a, &blob.digest);
	blob_free(&blob);
	return place;
}

/* In this run of the daemon and, as far as it was not tidied by then, in the next one. */
static void stale_marks_go_before_blobs(void **state)
{
	struct fixture *fixture = *state;
	struct store_status status;
	uint64_t number = 0;
	uint32_t place;

	fixture_open(fixture);
	for (int run = 0; run < 2; run++) {
		place = put_big(fixture, number++);
		fixture->store->segments[place - 1].row.disturbed = ++fixture->store->sequence;
		fixture->store->segments[place - 1].row_changed = true;
		for (uint64_t first = 0; !store_index_tight(fixture->store); first += 4096)
			write_marks(fixture, 1000000 + first, 4096, place, 0);
		if (run == 1) {
			fixture_close(fixture);
			fixture_open(fixture);
		}
		for (int i = 0; i < 10; i++)
			put_big(fixture, number++);
		store_status(fixture->store, &status);
		assert_int_equal(status.evicted_segments, 0);
		assert_false(store_index_tight(fixture->store));
	}
}

/* More of them for each segment than are looked through for one if there are few. */
static void many_marks_are_tidied(void **state)
{
	enum { ROUNDS = 8, OF_ROUND = 32768, BLOBS = 5 };
	struct fixture *fixture = *state;
	uint64_t number = 0;

	fixture_open(fixture);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		uint32_t place = 0;

		for (int i = 0; i < BLOBS; i++)
			place = put_big(fixture, number++);
		write_marks(fixture, 1000000 + round * OF_ROUND, OF_ROUND, place, store_marks_begin(fixture->store));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(notes_that_were_written_anew_stay, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(new_notes_are_as_good_as_old_ones, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(looking_in_vain_takes_turns, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(marks_that_were_written_anew_stay, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(stale_marks_go_before_blobs, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(many_marks_are_tidied, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
