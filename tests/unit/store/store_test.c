/*
 * Shows what a store promises to the services above it: what was put is read back whole, before and after a sync, a
 * reopening and a crash; tenants see only what they brought while bytes are kept once; damage is found and mended by
 * bringing the blob again; one daemon has a store; and all of it with a single write slot, too.
 */
#include "gateway/store/state.h"
#include "tests/unit/store/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOBS 40

/* Sizes around every boundary that the code knows: blocks, slots, the largest record. */
static void make_blobs(struct blob blobs[BLOBS])
{
	static const size_t sizes[] = {
		1, 7, 8, 9, 95, 4000, 4096, 4097, 65536, 100000, (1 << 20) - 96, 1 << 20, (1 << 20) + 1, 3 << 20, 4 << 20,
	};

	for (size_t i = 0; i < BLOBS; i++) {
		size_t size = i < sizeof(sizes) / sizeof(*sizes) ? sizes[i] : 500 * i;

		blobs[i] = blob_make(i, size);
	}
}

static void free_blobs(struct blob *blobs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		blob_free(&blobs[i]);
}

static void assert_all_read(struct fixture *fixture, const struct blob *blobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(read_blob(fixture, &fixture->a, &blobs[i]), STORE_OK);
		assert_true(lookup_blob(fixture, &fixture->a, &blobs[i].digest) > 0);
	}
}

static void run_round_trip(struct fixture *fixture)
{
	struct blob blobs[BLOBS];

	make_blobs(blobs);
	fixture_open(fixture);
	assert_int_equal(lookup_blob(fixture, &fixture->a, &blobs[0].digest), 0);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[0]), STORE_MISSING);
	assert_int_equal(put_blobs(fixture, &fixture->a, blobs, BLOBS), STORE_OK);
	assert_all_read(fixture, blobs, BLOBS);
	assert_int_equal(sync_store(fixture), STORE_OK);
	assert_all_read(fixture, blobs, BLOBS);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_all_read(fixture, blobs, BLOBS);
	fixture_close(fixture);
	free_blobs(blobs, BLOBS);
}

static void test_round_trip(void **state)
{
	run_round_trip(*state);
}

static void test_round_trip_one_slot(void **state)
{
	struct fixture *fixture = *state;

	fixture->config.slots = 1;
	run_round_trip(fixture);
}

static void test_round_trip_buffered(void **state)
{
	struct fixture *fixture = *state;

	fixture->config.direct = false;
	fixture->config.slots = 2;
	run_round_trip(fixture);
}

static void test_empty_blob_is_always_there(void **state)
{
	struct fixture *fixture = *state;
	struct blob empty = blob_make(0, 0);

	fixture_open(fixture);
	assert_true(digest_equal(&empty.digest, &digest_empty));
	assert_true(lookup_blob(fixture, &fixture->a, &empty.digest) > 0);
	assert_int_equal(read_blob(fixture, &fixture->a, &empty), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &empty), STORE_OK);
	blob_free(&empty);
}

static void test_tenants_see_their_own(void **state)
{
	struct fixture *fixture = *state;
	struct blob blob = blob_make(1, 100000);
	struct store_status before, after;
	struct scope instance, found;

	fixture_open(fixture);
	for (int i = 0; i < 2; i++)
		assert_int_equal(store_scope_find(fixture->store, span_text("a"), span_text("x"), SCOPE_ALL, &instance), -ENOENT);
	assert_int_equal(store_scope_find(fixture->store, span_text("c"), span_text(""), SCOPE_ALL, &instance), -ENOENT);
	assert_int_equal(store_scope(fixture->store, span_text("a"), span_text("x"), SCOPE_ALL, &instance), 0);
	assert_int_equal(store_scope_find(fixture->store, span_text("a"), span_text("x"), SCOPE_ALL, &found), 0);
	assert_memory_equal(&found, &instance, sizeof(found));
	assert_int_equal(instance.tenant, fixture->a.tenant);
	assert_int_not_equal(instance.instance, fixture->a.instance);
	for (int committed = 0; committed < 2; committed++) {
		assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
		if (committed)
			assert_int_equal(sync_store(fixture), STORE_OK);
		assert_int_equal(lookup_blob(fixture, &fixture->b, &blob.digest), 0);
		assert_int_equal(read_blob(fixture, &fixture->b, &blob), STORE_MISSING);
		assert_int_equal(lookup_blob(fixture, &instance, &blob.digest), 0);
	}
	store_status(fixture->store, &before);
	assert_int_equal(put_blob(fixture, &fixture->b, &blob), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->b, &blob), STORE_OK);
	store_status(fixture->store, &after);
	assert_int_equal(before.bytes_new, after.bytes_new);     /* kept once */
	assert_int_equal(after.pending_blobs, 1);                /* but waiting for the same commit */
	assert_int_equal(sync_store(fixture), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->b, &blob), STORE_OK);
	assert_int_equal(lookup_blob(fixture, &instance, &blob.digest), 0);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_int_equal(read_blob(fixture, &fixture->a, &blob), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->b, &blob), STORE_OK);
	blob_free(&blob);
}

static void test_second_put_is_free(void **state)
{
	struct fixture *fixture = *state;
	struct blob blob = blob_make(1, 1000);
	struct store_status first, second;

	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	store_status(fixture->store, &first);
	assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	store_status(fixture->store, &second);
	assert_int_equal(first.commits, second.commits);
	assert_int_equal(first.bytes_live, second.bytes_live);
	blob_free(&blob);
}

/* What the timer made durable without a sync is there after a crash. */
static void test_commit_by_timer(void **state)
{
	struct fixture *fixture = *state;
	struct blob blob = blob_make(1, 1000);
	struct store_status status = { 0 };

	fixture->config.commit_interval_ns = 1000000;
	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
	while (status.commits == 0) {
		ring_run(fixture->ring, UINT64_MAX);
		store_status(fixture->store, &status);
	}
	fixture_crash(fixture);
	fixture_open(fixture);
	assert_int_equal(read_blob(fixture, &fixture->a, &blob), STORE_OK);
	blob_free(&blob);
}

/* Nobody who waits for marks waits for the timer. */
static void test_marks_are_written_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct blob blob = blob_make(1, 1000);
	uint32_t place;

	fixture->config.commit_interval_ns = 3600ull * 1000000000;
	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
	place = lookup_blob(fixture, &fixture->a, &blob.digest);
	assert_true(mark_write(fixture, &fixture->a, &blob.digest, store_marks_begin(fixture->store), &place, 1));
	fixture_crash(fixture);
	fixture_open(fixture);
	assert_true(mark_fresh(fixture, &fixture->a, &blob.digest));
	assert_int_equal(read_blob(fixture, &fixture->a, &blob), STORE_OK);
	blob_free(&blob);
}

/* A crash loses what was not synced and nothing else, and the store goes on after it. */
static void test_crash(void **state)
{
	struct fixture *fixture = *state;
	struct blob kept = blob_make(1, 70000), lost = blob_make(2, 70000), later = blob_make(3, 70000);

	fixture->config.commit_interval_ns = 3600ull * 1000000000;
	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &kept), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &lost), STORE_OK);
	fixture_crash(fixture);
	fixture_open(fixture);
	assert_int_equal(read_blob(fixture, &fixture->a, &kept), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &lost), STORE_MISSING);
	assert_int_equal(put_blob(fixture, &fixture->a, &later), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &kept), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &later), STORE_OK);
	blob_free(&kept);
	blob_free(&lost);
	blob_free(&later);
}

/* Flips a byte of a blob in whichever segment it lies. */
static void damage(struct fixture *fixture, const struct blob *blob)
{
	char command[512];
	uint32_t place = lookup_blob(fixture, &fixture->a, &blob->digest);
	FILE *file;
	uint8_t *all;
	size_t size;

	assert_true(place > 0);
	snprintf(command, sizeof(command), "%s/segments/%08x", fixture->path, place - 1);
	file = fopen(command, "r+");
	assert_non_null(file);
	all = malloc(32 << 20);
	size = fread(all, 1, 32 << 20, file);
	for (uint8_t *at = all; (at = memmem(at, size - (size_t)(at - all), blob->data, blob->digest.size)); at++) {
		at[0] ^= 1;
		assert_int_equal(fseek(file, at - all, SEEK_SET), 0);
		assert_int_equal(fwrite(at, 1, 1, file), 1);
	}
	fclose(file);
	free(all);
}

static void test_corrupt_is_found_and_mended(void **state)
{
	struct fixture *fixture = *state;
	struct blob blob = blob_make(1, 50000), other = blob_make(2, 50000);

	for (int committed = 0; committed < 2; committed++) {
		fixture_open(fixture);
		assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
		assert_int_equal(put_blob(fixture, &fixture->b, &blob), STORE_OK);
		assert_int_equal(put_blob(fixture, &fixture->a, &other), STORE_OK);
		assert_int_equal(sync_store(fixture), STORE_OK);
		damage(fixture, &blob);
		assert_int_equal(read_blob(fixture, &fixture->a, &blob), STORE_CORRUPT);
		assert_int_equal(read_blob(fixture, &fixture->a, &blob), STORE_MISSING);
		assert_int_equal(lookup_blob(fixture, &fixture->b, &blob.digest), 0);
		if (committed)
			assert_int_equal(sync_store(fixture), STORE_OK);
		assert_int_equal(lookup_blob(fixture, &fixture->a, &blob.digest), 0);
		assert_int_equal(read_blob(fixture, &fixture->a, &other), STORE_OK);
		assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
		assert_int_equal(read_blob(fixture, &fixture->a, &blob), STORE_OK);
		assert_int_equal(lookup_blob(fixture, &fixture->b, &blob.digest), 0);
		fixture_close(fixture);
		fixture_open(fixture);
		assert_int_equal(read_blob(fixture, &fixture->a, &blob), STORE_OK);
		assert_int_equal(lookup_blob(fixture, &fixture->b, &blob.digest), 0);
		fixture_close(fixture);
	}
	blob_free(&blob);
	blob_free(&other);
}

/* An entry that says another size than the digest: whoever brings the blob mends it, the first one and another. */
static void test_entry_of_another_size(void **state)
{
	struct fixture *fixture = *state;
	const struct scope *scopes[] = { &fixture->a, &fixture->b };

	fixture_open(fixture);
	for (size_t i = 0; i < 2; i++) {
		struct blob blob = blob_make(77 + i, 5000);
		struct row_blob row = {
			.place = { 0, 1, RECORD_BLOCK_BYTES },
			.size = 5000 ^ 1024, .tenant = fixture->a.tenant, .instance = fixture->a.instance,
		};
		struct store_status status;
		uint8_t value[ROW_BLOB_BYTES];

		assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
		assert_int_equal(sync_store(fixture), STORE_OK);
		fixture_close(fixture);
		row_blob_encode(value, &row);
		put_row(fixture, INDEX_BLOBS, span_make(blob.digest.hash, DIGEST_HASH_BYTES), span_make(value, sizeof(value)));
		fixture_open(fixture);
		assert_int_equal(put_blob(fixture, scopes[i], &blob), STORE_OK);
		assert_int_equal(read_blob(fixture, scopes[i], &blob), STORE_OK);
		store_status(fixture->store, &status);
		assert_int_equal(status.corrupt, 1);
		assert_int_equal(sync_store(fixture), STORE_OK);
		assert_int_equal(read_blob(fixture, scopes[i], &blob), STORE_OK);
		blob_free(&blob);
	}
}

static void test_one_daemon_a_store(void **state)
{
	struct fixture *fixture = *state;
	struct store *second;
	char why[256], pid[32];

	fixture_open(fixture);
	assert_int_equal(store_open(&second, fixture->ring, &fixture->config, why, sizeof(why)), -EBUSY);
	snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	assert_non_null(strstr(why, pid));
}

/* Of the index, whose room is taken at once and no length shows. */
static uint64_t index_blocks(const struct fixture *fixture)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/index/data.mdb", fixture->path);
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void test_ceiling_above_the_disk(void **state)
{
	struct fixture *fixture = *state;
	struct ring_config config = { 0 };
	struct store *store;
	struct ring *ring;
	char why[256];

	fixture_open(fixture);
	fixture_close(fixture);
	fixture->config.ceiling_bytes = 1ull << 50;
	assert_int_equal(ring_create(&ring, &config), 0);
	assert_int_equal(store_open(&store, ring, &fixture->config, why, sizeof(why)), -ENOSPC);
	ring_destroy(ring);
	assert_non_null(strstr(why, "lower --ceiling"));
	assert_true(index_blocks(fixture) < 64 << 20);
}

static void test_ceiling_lowered(void **state)
{
	struct fixture *fixture = *state;
	uint64_t before;

	fixture->config.segment_bytes = 8 << 20;
	fixture_open(fixture);
	fixture_close(fixture);
	before = index_blocks(fixture);
	fixture->config.ceiling_bytes = 2ull << 30;
	fixture_open(fixture);
	fixture_close(fixture);
	assert_true(index_blocks(fixture) >= 128 << 20);
	fixture->config.ceiling_bytes = 64 << 20;
	fixture_open(fixture);
	fixture_close(fixture);
	assert_true(index_blocks(fixture) <= before + (1 << 20));
}

/* A store that was made small has small segments, and so many of them at most: that is its ceiling, and is told. */
static void test_ceiling_raised_far(void **state)
{
	struct fixture *fixture = *state;
	struct store_status status;

	fixture->config.segment_bytes = 8 << 20;
	fixture->config.ceiling_bytes = 64 << 20;
	fixture_open(fixture);
	fixture_close(fixture);
	fixture->config.ceiling_bytes = 40ull << 30;
	fixture_open(fixture);
	store_status(fixture->store, &status);
	assert_int_equal(status.segments_max, STORE_SEGMENTS_MAX);
	assert_int_equal(status.ceiling_bytes, layout_ceiling_least(8 << 20, STORE_SEGMENTS_MAX));
	fixture_close(fixture);
}

/* A commit notes some segments' use; of many that are used before each one all have their turns. */
static void test_uses_are_noted_in_turns(void **state)
{
	enum { SEGMENTS = 100 };
	struct fixture *fixture = *state;
	struct segment *segments;
	struct blob blob;

	fixture->config.segment_bytes = 8 << 20;
	fixture->config.ceiling_bytes = 2ull << 30;
	fixture_open(fixture);
	segments = fixture->store->segments;
	assert_true(fixture->store->segments_max >= 1 + SEGMENTS);
	for (unsigned commit = 0; commit < 3; commit++) {
		/* As if they were there: only their rows are looked at. */
		for (unsigned i = fixture->store->segments_max - SEGMENTS; i < fixture->store->segments_max; i++) {
			assert_true(commit || segments[i].row.state == SEGMENT_ABSENT);
			segments[i].row.state = SEGMENT_SEALED;
			segments[i].row.used += 1000;
		}
		blob = blob_make(5000 + commit, 1000);
		assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
		blob_free(&blob);
		assert_int_equal(sync_store(fixture), STORE_OK);
	}
	for (unsigned i = fixture->store->segments_max - SEGMENTS; i < fixture->store->segments_max; i++) {
		assert_true(segments[i].used_saved >= 1000);
		segments[i].row.state = SEGMENT_ABSENT;
	}
	fixture_close(fixture);
}

static void test_unknown_format(void **state)
{
	struct fixture *fixture = *state;
	struct store *store;
	struct ring *ring;
	struct ring_config config = { 0 };
	char path[128], why[256];
	FILE *file;

	fixture_open(fixture);
	fixture_close(fixture);
	snprintf(path, sizeof(path), "%s/format", fixture->path);
	file = fopen(path, "w");
	fputs("sluice store\nformat 9\n", file);
	fclose(file);
	assert_int_equal(ring_create(&ring, &config), 0);
	assert_int_equal(store_open(&store, ring, &fixture->config, why, sizeof(why)), -EPROTONOSUPPORT);
	assert_non_null(strstr(why, "format 9"));
	ring_destroy(ring);
}

static void test_scopes_are_kept(void **state)
{
	struct fixture *fixture = *state;
	struct scope before[20], after;
	char name[16];

	fixture_open(fixture);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 20; i++) {
			snprintf(name, sizeof(name), "t%d", i);
			assert_int_equal(store_scope(fixture->store, span_text(name), span_text(i % 2 ? name : ""), SCOPE_READ,
			                             round ? &after : &before[i]), 0);
			if (round)
				assert_memory_equal(&after, &before[i], sizeof(after));
		}
		fixture_close(fixture);
		fixture_open(fixture);
	}
	assert_int_equal(store_scope(fixture->store, span_text(""), span_text(""), SCOPE_READ, &after), -EINVAL);
}

/* A name that could not be written whole leaves nothing behind, and its number to the next one. */
static void test_a_name_that_is_half_written(void **state)
{
	struct fixture *fixture = *state;
	struct rlimit before, low;
	struct scope scope, other;
	struct stat stat_of;
	char path[128];

	fixture_open(fixture);
	snprintf(path, sizeof(path), "%s/scopes", fixture->path);
	assert_int_equal(stat(path, &stat_of), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_IGN);
	low = before;
	low.rlim_cur = (rlim_t)stat_of.st_size + 5;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(store_scope(fixture->store, span_text("first"), span_text(""), SCOPE_READ, &scope), -EIO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(store_scope(fixture->store, span_text("second"), span_text(""), SCOPE_READ, &scope), 0);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_int_equal(store_scope_find(fixture->store, span_text("first"), span_text(""), SCOPE_READ, &other), -ENOENT);
	assert_int_equal(store_scope_find(fixture->store, span_text("second"), span_text(""), SCOPE_READ, &other), 0);
	assert_int_equal(other.tenant, scope.tenant);
}

/* Some file systems leave zeros where a crash came between a file's length and its bytes. */
static void test_a_name_that_became_zeros(void **state)
{
	static const char zeros[200];
	struct fixture *fixture = *state;
	struct scope scope, other;
	struct store *store;
	struct ring *ring;
	char path[128];
	FILE *file;

	fixture_open(fixture);
	assert_int_equal(store_scope(fixture->store, span_text("kept"), span_text(""), SCOPE_READ, &scope), 0);
	fixture_close(fixture);
	snprintf(path, sizeof(path), "%s/scopes", fixture->path);
	file = fopen(path, "a");
	assert_int_equal(fwrite(zeros, 1, sizeof(zeros), file), sizeof(zeros));
	fclose(file);
	fixture_open(fixture);
	assert_int_equal(store_scope_find(fixture->store, span_text("kept"), span_text(""), SCOPE_READ, &other), 0);
	assert_int_equal(other.tenant, scope.tenant);
	assert_int_equal(store_scope(fixture->store, span_text("next"), span_text(""), SCOPE_READ, &scope), 0);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_int_equal(store_scope_find(fixture->store, span_text("next"), span_text(""), SCOPE_READ, &other), 0);
	assert_int_equal(other.tenant, scope.tenant);
	fixture_close(fixture);
	/* Among the others a name of zeros is none of ours. */
	file = fopen(path, "r+");
	assert_int_equal(fwrite(zeros, 1, 1, file), 1);
	fclose(file);
	assert_int_equal(ring_create(&ring, &(struct ring_config){ 0 }), 0);
	assert_int_equal(store_open(&store, ring, &fixture->config, NULL, 0), -EUCLEAN);
	ring_destroy(ring);
	file = fopen(path, "r+");
	assert_int_equal(fwrite("0", 1, 1, file), 1);
	fclose(file);
	fixture_open(fixture);
}

struct wait_note {
	struct store_note note;
	bool done;
};

static void on_note(struct store_note *note)
{
	container_of(note, struct wait_note, note)->done = true;
}

static void test_notes(void **state)
{
	struct fixture *fixture = *state;
	struct wait_note put = { .note = { .key = "key", .key_size = 3, .value = "value", .value_size = 5, .fn = on_note } };
	struct wait_note get;

	fixture_open(fixture);
	put.note.scope = fixture->a;
	store_note_put(fixture->store, &put.note);
	for (int reopened = 0; reopened < 2; reopened++) {
		get = (struct wait_note){ .note = { .scope = fixture->a, .key = "key", .key_size = 3, .fn = on_note } };
		store_note_get(fixture->store, &get.note);
		run_until(fixture, &get.done);
		assert_int_equal(get.note.result, STORE_OK);
		assert_int_equal(get.note.value_size, 5);
		assert_memory_equal(get.note.value, "value", 5);
		run_until(fixture, &put.done);
		get = (struct wait_note){ .note = { .scope = fixture->b, .key = "key", .key_size = 3, .fn = on_note } };
		store_note_get(fixture->store, &get.note);
		run_until(fixture, &get.done);
		assert_int_equal(get.note.result, STORE_MISSING);
		/* Found by what its key begins with, in its own scope. */
		get = (struct wait_note){ .note = { .scope = fixture->a, .key = "ke", .key_size = 2, .fn = on_note } };
		store_note_find(fixture->store, &get.note);
		assert_int_equal(get.note.result, STORE_OK);
		assert_int_equal(get.note.key_size, 3);
		assert_memory_equal(get.note.key, "key", 3);
		assert_memory_equal(get.note.value, "value", 5);
		get = (struct wait_note){ .note = { .scope = fixture->b, .key = "ke", .key_size = 2, .fn = on_note } };
		store_note_find(fixture->store, &get.note);
		assert_int_equal(get.note.result, STORE_MISSING);
		get = (struct wait_note){ .note = { .scope = fixture->a, .key = "kf", .key_size = 2, .fn = on_note } };
		store_note_find(fixture->store, &get.note);
		assert_int_equal(get.note.result, STORE_MISSING);
		get = (struct wait_note){ .note = { .scope = fixture->a, .key = "ke", .key_size = 2, .fn = on_note } };
		store_note_get(fixture->store, &get.note);
		run_until(fixture, &get.done);
		assert_int_equal(get.note.result, STORE_MISSING);
		fixture_close(fixture);
		fixture_open(fixture);
	}
}

struct marks_lot {
	struct store_marks marks;
	bool done;
};

static void on_lot(struct store_marks *marks)
{
	container_of(marks, struct marks_lot, marks)->done = true;
}

/* More directories than the index has room for: they are forgotten, and all else goes on. */
static void test_more_marks_than_the_index_holds(void **state)
{
	struct fixture *fixture = *state;
	struct blob before = blob_make(1, 1000), after = blob_make(2, 1000);
	struct digest *directories = calloc(STORE_BATCH_MAX, sizeof(*directories));
	uint64_t number = 0;
	uint8_t *rests;

	fixture_open(fixture);
	rests = calloc(STORE_BATCH_MAX, store_rest_bytes(fixture->store));
	assert_int_equal(put_blob(fixture, &fixture->a, &before), STORE_OK);
	for (int lot = 0; lot < 24; lot++) {
		struct marks_lot written = {
			.marks = { .scope = fixture->a, .directories = directories, .count = STORE_BATCH_MAX, .rests = rests,
			           .fn = on_lot, .sequence = store_marks_begin(fixture->store) },
		};

		for (size_t i = 0; i < STORE_BATCH_MAX; i++) {
			number = number * 6364136223846793005 + 1442695040888963407;
			memcpy(directories[i].hash, &number, sizeof(number));
			directories[i].size = 100;
		}
		store_marks_write(fixture->store, &written.marks);
		run_until(fixture, &written.done);
		assert_int_equal(written.marks.result, STORE_OK);
	}
	assert_int_equal(put_blob(fixture, &fixture->a, &after), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_int_equal(read_blob(fixture, &fixture->a, &before), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &after), STORE_OK);
	free(directories);
	free(rests);
	blob_free(&before);
	blob_free(&after);
}

static void test_marks(void **state)
{
	struct fixture *fixture = *state;
	struct blob file = blob_make(1, 50000), directory = directory_make(&file, 1, NULL, 0);
	uint32_t places[2];
	uint64_t sequence;

	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &file), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &directory), STORE_OK);
	assert_false(mark_fresh(fixture, &fixture->a, &directory.digest));
	sequence = store_marks_begin(fixture->store);
	places[0] = lookup_blob(fixture, &fixture->a, &file.digest);
	places[1] = lookup_blob(fixture, &fixture->a, &directory.digest);
	assert_true(mark_write(fixture, &fixture->a, &directory.digest, sequence, places, 2));
	assert_true(mark_fresh(fixture, &fixture->a, &directory.digest));
	assert_false(mark_fresh(fixture, &fixture->b, &directory.digest));
	fixture_close(fixture);
	fixture_open(fixture);
	assert_true(mark_fresh(fixture, &fixture->a, &directory.digest));
	/* Something is taken out of the segment: the mark is stale, and stays so. */
	damage(fixture, &file);
	assert_int_equal(read_blob(fixture, &fixture->a, &file), STORE_CORRUPT);
	assert_false(mark_fresh(fixture, &fixture->a, &directory.digest));
	assert_int_equal(sync_store(fixture), STORE_OK);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_false(mark_fresh(fixture, &fixture->a, &directory.digest));
	blob_free(&file);
	blob_free(&directory);
}

/* Whatever failed, what clients may do about a full disk does not help; what is there can be read. */
static void test_a_failed_store_says_so(void **state)
{
	struct fixture *fixture = *state;
	struct blob kept = blob_make(1, 1000), refused = blob_make(2, 1000);
	struct store_status status;

	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &kept), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	store_status(fixture->store, &status);
	assert_false(status.failed);
	store_fail(fixture->store, -ENOSPC, "test", UINT32_MAX);
	store_status(fixture->store, &status);
	assert_true(status.failed);
	assert_int_equal(put_blob(fixture, &fixture->a, &refused), -EIO);
	assert_int_equal(sync_store(fixture), -EIO);
	assert_int_equal(read_blob(fixture, &fixture->a, &kept), STORE_OK);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &refused), STORE_OK);
	blob_free(&kept);
	blob_free(&refused);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_round_trip_one_slot, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_round_trip_buffered, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_empty_blob_is_always_there, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_tenants_see_their_own, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_second_put_is_free, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_commit_by_timer, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_marks_are_written_at_once, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_crash, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_corrupt_is_found_and_mended, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_entry_of_another_size, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_one_daemon_a_store, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_ceiling_above_the_disk, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_ceiling_lowered, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_ceiling_raised_far, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_uses_are_noted_in_turns, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_unknown_format, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_scopes_are_kept, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_a_name_that_became_zeros, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_a_name_that_is_half_written, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_notes, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_more_marks_than_the_index_holds, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_a_failed_store_says_so, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_marks, fixture_setup, fixture_teardown),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
