/*
 * Shows what fsck says of a store and how it mends it: nothing of a clean one (also after a crash in the middle of
 * writing); a damaged blob, an entry without its record, a segment whose first block or whole file is gone; and that a
 * lost index is made again from the segments, with every tenant seeing again what it brought first.
 */
#include "gateway/store/index.h"
#include "gateway/store/record.h"
#include "gateway/store/rows.h"
#include "tests/unit/store/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOBS 60

static struct blob blobs[BLOBS];

static int setup(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));

	fixture_init(fixture);
	*state = fixture;
	for (size_t i = 0; i < BLOBS; i++)
		blobs[i] = blob_make(i, 1 + i * 2003);
	fixture_open(fixture);
	assert_int_equal(put_blobs(fixture, &fixture->a, blobs, BLOBS / 2), STORE_OK);
	assert_int_equal(put_blobs(fixture, &fixture->b, blobs + BLOBS / 2, BLOBS / 2), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->b, &blobs[0]), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	return 0;
}

static int teardown(void **state)
{
	fixture_fini(*state);
	free(*state);
	for (size_t i = 0; i < BLOBS; i++)
		blob_free(&blobs[i]);
	return 0;
}

static void assert_clean(struct fixture *fixture, uint64_t entries)
{
	struct fsck_report report;

	assert_int_equal(fsck_store(fixture, false, &report), 0);
	assert_int_equal(report.entries, entries);
	assert_int_equal(report.entries_dangling + report.entries_missing + report.records_corrupt, 0);
}

static void test_clean(void **state)
{
	fixture_close(*state);
	assert_clean(*state, BLOBS);
}

/* What was written and not committed when the crash came is dead, and no problem. */
static void test_clean_after_crash(void **state)
{
	struct fixture *fixture = *state;
	struct blob late[8];

	fixture->config.commit_interval_ns = 3600ull * 1000000000;
	fixture_close(fixture);
	fixture_open(fixture);
	for (size_t i = 0; i < 8; i++)
		late[i] = blob_make(1000 + i, 700000);
	assert_int_equal(put_blobs(fixture, &fixture->a, late, 8), STORE_OK);
	fixture_crash(fixture);
	assert_clean(fixture, BLOBS);
	fixture_open(fixture);
	assert_int_equal(put_blobs(fixture, &fixture->a, late, 3), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	fixture_close(fixture);
	assert_clean(fixture, BLOBS + 3);
	for (size_t i = 0; i < 8; i++)
		blob_free(&late[i]);
}

static void test_busy(void **state)
{
	struct fsck_report report;

	assert_int_equal(fsck_store(*state, false, &report), -EBUSY);
}

static int open_segment(const struct fixture *fixture)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/segments/00000000", fixture->path);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	return fd;
}

/* Where a blob's bytes begin in segment 0. */
static off_t find_blob(int fd, const struct blob *blob)
{
	uint8_t *all = malloc(8 << 20), *at;
	off_t offset;

	assert_int_equal(pread(fd, all, 8 << 20, 0), 8 << 20);
	at = memmem(all, 8 << 20, blob->data, blob->digest.size);
	assert_non_null(at);
	offset = at - all;
	free(all);
	return offset;
}

static void overwrite(const struct fixture *fixture, off_t offset, size_t size)
{
	int fd = open_segment(fixture);
	uint8_t *junk = malloc(size);

	memset(junk, 0xa5, size);
	assert_int_equal(pwrite(fd, junk, size, offset), (ssize_t)size);
	free(junk);
	close(fd);
}

static off_t place_of(const struct fixture *fixture, const struct blob *blob)
{
	int fd = open_segment(fixture);
	off_t offset = find_blob(fd, blob);

	close(fd);
	return offset;
}

static void test_damaged_payload(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;

	fixture_close(fixture);
	overwrite(fixture, place_of(fixture, &blobs[5]) + 100, 1);
	assert_int_equal(fsck_store(fixture, false, &report), 1);
	assert_int_equal(report.records_corrupt, 1);
	assert_int_equal(report.entries_dangling, 0);
	assert_int_equal(report.entries_repaired, 0);
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.entries_repaired, 1);
	assert_clean(fixture, BLOBS - 1);
	fixture_open(fixture);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[5]), STORE_MISSING);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[4]), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &blobs[5]), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[5]), STORE_OK);
}

/* A stretch over several records: the next one behind it is found, the lost ones leave dangling entries. */
static void test_damaged_stretch(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	off_t from, to;

	fixture_close(fixture);
	from = place_of(fixture, &blobs[10]) - 90;
	to = place_of(fixture, &blobs[13]) + 5;
	overwrite(fixture, from, (size_t)(to - from));
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.entries_dangling, 4);
	assert_int_equal(report.entries_repaired, 4);
	assert_clean(fixture, BLOBS - 4);
	fixture_open(fixture);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[12]), STORE_MISSING);
	assert_int_equal(read_blob(fixture, &fixture->a, &blobs[14]), STORE_OK);
}

static void test_damaged_first_block(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;

	fixture_close(fixture);
	overwrite(fixture, 0, 512);
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.records, BLOBS);
	assert_clean(fixture, BLOBS);
}

static void test_missing_segment(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	struct ring_config ring_config = { 0 };
	struct store *store;
	struct ring *ring;
	char path[128], why[256];
	uint32_t place = lookup_blob(fixture, &fixture->a, &blobs[5].digest);

	assert_true(mark_write(fixture, &fixture->a, &blobs[5].digest, store_marks_begin(fixture->store), &place, 1));
	fixture_close(fixture);
	snprintf(path, sizeof(path), "%s/segments/00000000", fixture->path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ring_create(&ring, &ring_config), 0);
	assert_int_equal(store_open(&store, ring, &fixture->config, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "fsck"));
	ring_destroy(ring);
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.entries_dangling, BLOBS);
	assert_clean(fixture, 0);
	fixture_open(fixture);
	assert_false(mark_fresh(fixture, &fixture->a, &blobs[5].digest));
	assert_int_equal(put_blob(fixture, &fixture->a, &blobs[5]), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
}

/* Marks that rested on what fsck took out are stale. */
static void test_marks_after_repair(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	uint32_t place = lookup_blob(fixture, &fixture->a, &blobs[5].digest);

	assert_true(mark_write(fixture, &fixture->a, &blobs[5].digest, store_marks_begin(fixture->store), &place, 1));
	fixture_close(fixture);
	overwrite(fixture, place_of(fixture, &blobs[5]) + 100, 1);
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.marks, 1);
	fixture_open(fixture);
	assert_false(mark_fresh(fixture, &fixture->a, &blobs[5].digest));
}

static void test_lost_index(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	struct ring_config ring_config = { 0 };
	struct store *store;
	struct ring *ring;
	struct scope other;
	char command[256], why[256];

	fixture_close(fixture);
	snprintf(command, sizeof(command), "rm -r %s/index", fixture->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(ring_create(&ring, &ring_config), 0);
	assert_int_equal(store_open(&store, ring, &fixture->config, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "fsck --repair"));
	ring_destroy(ring);
	assert_int_equal(fsck_store(fixture, false, &report), 1);
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.entries_missing, BLOBS);
	assert_int_equal(report.entries_repaired, BLOBS);
	assert_clean(fixture, BLOBS);
	fixture_open(fixture);
	for (size_t i = 0; i < BLOBS; i++) {
		const struct scope *owner = i < BLOBS / 2 ? &fixture->a : &fixture->b;

		other = i < BLOBS / 2 ? fixture->b : fixture->a;
		assert_int_equal(read_blob(fixture, owner, &blobs[i]), STORE_OK);
		assert_int_equal(lookup_blob(fixture, &other, &blobs[i].digest), 0);
	}
	assert_int_equal(put_blob(fixture, &fixture->b, &blobs[0]), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	fixture_close(fixture);
	assert_clean(fixture, BLOBS);
}

static void assert_refused(const struct fixture *fixture, int error, const char *remedy)
{
	struct ring_config ring_config = { 0 };
	struct store *store;
	struct ring *ring;
	char why[256];

	assert_int_equal(ring_create(&ring, &ring_config), 0);
	assert_int_equal(store_open(&store, ring, &fixture->config, why, sizeof(why)), error);
	assert_non_null(strstr(why, remedy));
	ring_destroy(ring);
}

static void assert_mended(struct fixture *fixture)
{
	struct fsck_report report;

	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_clean(fixture, BLOBS);
	fixture_open(fixture);
	for (size_t i = 0; i < BLOBS; i++)
		assert_int_equal(read_blob(fixture, i < BLOBS / 2 ? &fixture->a : &fixture->b, &blobs[i]), STORE_OK);
}

static void empty_index(struct fixture *fixture)
{
	struct index_config config = { .map_bytes = 16 << 20, .create = true, .sparse = true };
	char command[256];
	struct index *index;

	snprintf(command, sizeof(command), "rm -r %s/index", fixture->path);
	assert_int_equal(system(command), 0);
	config.dir_fd = open(fixture->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(index_lmdb.open(&index, &config), 0);
	index_lmdb.close(index);
	close(config.dir_fd);
}

struct interruption {
	const char *line;                /* what the line has at which the check is killed */
	unsigned after;                  /* that many of them */
};

static void on_problem(void *context, const char *line)
{
	struct interruption *interruption = context;

	if (strstr(line, interruption->line) && interruption->after-- == 0)
		_exit(9);
}

static void interrupt_repair(const struct fixture *fixture, const char *line, unsigned after)
{
	struct interruption interruption = { .line = line, .after = after };
	struct fsck_report report;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		store_fsck(fixture->path, true, &report, on_problem, &interruption);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 9);
}

/* An index that is made again counts only when all is in it. */
static void test_interrupted_rebuild(void **state)
{
	struct fixture *fixture = *state;
	char command[256];

	fixture_close(fixture);
	snprintf(command, sizeof(command), "rm -r %s/index", fixture->path);
	assert_int_equal(system(command), 0);
	interrupt_repair(fixture, "segment 0 is not in the index", 0);
	assert_refused(fixture, -EUCLEAN, "has not come to its end");
	assert_mended(fixture);
}

#define MANY 2000

/* A part of the repairs is made: marks that rest on what they took out are stale after the second try all the same. */
static void check_interrupted_repair(struct fixture *fixture, void (*damage)(const struct fixture *fixture))
{
	struct blob *many = calloc(MANY, sizeof(*many));
	struct fsck_report report;
	uint32_t place;

	for (size_t i = 0; i < MANY; i++)
		many[i] = blob_make(10000 + i, 2000);
	assert_int_equal(put_blobs(fixture, &fixture->a, many, MANY), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	place = lookup_blob(fixture, &fixture->a, &many[5].digest);
	assert_true(mark_write(fixture, &fixture->a, &many[5].digest, store_marks_begin(fixture->store), &place, 1));
	fixture_close(fixture);
	damage(fixture);
	interrupt_repair(fixture, "nothing is at", 600);
	assert_refused(fixture, -EUCLEAN, "has not come to its end");
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_in_range(report.entries_dangling, 1, MANY + BLOBS - 512);
	assert_int_equal(fsck_store(fixture, false, &report), 0);
	fixture_open(fixture);
	assert_false(mark_fresh(fixture, &fixture->a, &many[5].digest));
	for (size_t i = 0; i < MANY; i++)
		blob_free(&many[i]);
	free(many);
}

static void overwrite_records(const struct fixture *fixture)
{
	overwrite(fixture, RECORD_BLOCK_BYTES, 7 << 20);
}

static void test_interrupted_repair(void **state)
{
	check_interrupted_repair(*state, overwrite_records);
}

static void remove_segment(const struct fixture *fixture)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/segments/00000000", fixture->path);
	assert_int_equal(unlink(path), 0);
}

static void test_interrupted_without_segment(void **state)
{
	check_interrupted_repair(*state, remove_segment);
}

/* Zeros every page of the index behind the first two that has the blob's name and is a leaf. */
static unsigned damage_leaves(const struct fixture *fixture, const struct blob *blob)
{
	enum { PAGE = 4096, FLAGS_AT = 10, FLAG_LEAF = 2 };
	static const uint8_t zeros[PAGE];
	uint8_t page[PAGE];
	unsigned count = 0;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/index/data.mdb", fixture->path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (off_t at = 2 * PAGE; pread(fd, page, PAGE, at) == PAGE; at += PAGE) {
		if (!(page[FLAGS_AT] & FLAG_LEAF) || !memmem(page, PAGE, blob->digest.hash, DIGEST_HASH_BYTES))
			continue;
		assert_int_equal(pwrite(fd, zeros, PAGE, at), PAGE);
		count++;
	}
	close(fd);
	return count;
}

static void test_damaged_index_page(void **state)
{
	struct fixture *fixture = *state;
	struct blob *many = calloc(MANY, sizeof(*many));
	struct fsck_report report;

	for (size_t i = 0; i < MANY; i++)
		many[i] = blob_make(10000 + i, 50);
	assert_int_equal(put_blobs(fixture, &fixture->a, many, MANY), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	fixture_close(fixture);
	assert_true(damage_leaves(fixture, &many[100]) > 0);
	assert_int_equal(fsck_store(fixture, false, &report), 1);
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.entries_repaired, BLOBS + MANY);
	assert_clean(fixture, BLOBS + MANY);
	fixture_open(fixture);
	for (size_t i = 0; i < MANY; i++) {
		assert_int_equal(read_blob(fixture, &fixture->a, &many[i]), STORE_OK);
		blob_free(&many[i]);
	}
	free(many);
}

/* A disk that does not give the index back: a file whose first bytes cannot be read stands in for it. */
static void test_unreadable_index(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	char path[128];

	fixture_close(fixture);
	snprintf(path, sizeof(path), "%s/index/data.mdb", fixture->path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/proc/self/mem", path), 0);
	assert_int_equal(fsck_store(fixture, false, &report), 1);
	assert_mended(fixture);
}

#define MARKS 200

/* A page that only a scan comes to, from the one before it. */
static void test_damaged_page_of_marks(void **state)
{
	struct fixture *fixture = *state;
	uint32_t place = lookup_blob(fixture, &fixture->a, &blobs[5].digest);
	struct blob directory;

	for (size_t i = 0; i < MARKS; i++) {
		directory = blob_make(50000 + i, 10);
		assert_true(mark_write(fixture, &fixture->a, &directory.digest, store_marks_begin(fixture->store), &place, 1));
		blob_free(&directory);
	}
	fixture_close(fixture);
	directory = blob_make(50000 + MARKS / 2, 10);
	assert_true(damage_leaves(fixture, &directory) > 0);
	blob_free(&directory);
	assert_mended(fixture);
}

/* Segments that no row speaks of are not taken for ones that were never used. */
static void test_index_without_rows(void **state)
{
	struct fixture *fixture = *state;

	fixture_close(fixture);
	empty_index(fixture);
	assert_refused(fixture, -EUCLEAN, "fsck --repair");
	assert_mended(fixture);
}

static void test_index_of_no_bytes(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	char path[128];

	fixture_close(fixture);
	snprintf(path, sizeof(path), "%s/index/data.mdb", fixture->path);
	assert_int_equal(truncate(path, 0), 0);
	assert_refused(fixture, -EUCLEAN, "the index");
	assert_int_equal(fsck_store(fixture, false, &report), 1);
	assert_refused(fixture, -EUCLEAN, "the index");
	assert_mended(fixture);
}

/* Segments that were used before: what lies in them of earlier generations does not come back with a new index. */
static void test_lost_index_after_recycling(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report before, after;
	char command[256];

	for (uint64_t number = 0; number < 1001; number++) {
		struct blob blob = blob_make(5000000 + number, 100000);

		assert_int_equal(put_blob(fixture, &fixture->a, &blob), STORE_OK);
		blob_free(&blob);
	}
	fixture_close(fixture);
	assert_int_equal(fsck_store(fixture, false, &before), 0);
	snprintf(command, sizeof(command), "rm -r %s/index", fixture->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(fsck_store(fixture, true, &after), 1);
	assert_int_equal(after.entries, before.entries);
	assert_int_equal(fsck_store(fixture, false, &after), 0);
}

/* When the names are lost with the index, no new tenant may get the number of an old one. */
static void test_lost_index_and_names(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	char command[256];

	fixture_close(fixture);
	snprintf(command, sizeof(command), "rm -r %s/index %s/scopes", fixture->path, fixture->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	fixture_open(fixture);
	for (size_t i = 0; i < BLOBS; i++) {
		assert_int_equal(lookup_blob(fixture, &fixture->a, &blobs[i].digest), 0);
		assert_int_equal(lookup_blob(fixture, &fixture->b, &blobs[i].digest), 0);
	}
}

/* Bytes that look like a record, uploaded as a blob, are not taken for one. */
static void test_forged_record(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	struct blob forged = { .data = malloc(300000) };
	struct blob put;
	off_t offset;
	int fd;

	fixture_close(fixture);
	fd = open_segment(fixture);
	offset = find_blob(fd, &blobs[3]);
	assert_int_equal(pread(fd, forged.data, 300000, offset - 96), 300000);
	close(fd);
	put = blob_make(77, 400000);
	memcpy(put.data + 8, forged.data, 300000);
	free(forged.data);
	blob_digest(&put, 400000);
	fixture_open(fixture);
	assert_int_equal(put_blob(fixture, &fixture->a, &put), STORE_OK);
	assert_int_equal(sync_store(fixture), STORE_OK);
	fixture_close(fixture);
	/* Damage its header: the copies inside are looked at now, and refused because they are not at their own place. */
	fd = open_segment(fixture);
	offset = find_blob(fd, &put);
	close(fd);
	overwrite(fixture, offset - 96, 96);
	assert_int_equal(fsck_store(fixture, false, &report), 1);
	assert_int_equal(report.records, BLOBS);
	assert_int_equal(report.entries_dangling, 1);
	blob_free(&put);
}

/* A key of a length that no row has; a blob's row that is longer than one, whose beginning says nothing. */
static void test_rows_of_any_length(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	uint8_t key[90], value[100] = { 1 };

	fixture_close(fixture);
	memset(key, 7, sizeof(key));
	put_row(fixture, INDEX_BLOBS, span_make(key, sizeof(key)), span_make(value, sizeof(value)));
	memset(key, 8, sizeof(key));
	put_row(fixture, INDEX_BLOBS, span_make(key, DIGEST_HASH_BYTES), span_make(value, sizeof(value)));
	assert_int_equal(fsck_store(fixture, true, &report), 1);
	assert_int_equal(report.entries_dangling, 2);
	assert_clean(fixture, BLOBS);
}

/* Of the records: one of a blob that is here gets its row again, the others go. */
static void test_damaged_record_rows(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;
	uint8_t key[ROW_RECORD_KEY_BYTES], value[100] = { 0 };

	fixture_close(fixture);
	row_record_key(key, 0, (uint32_t)place_of(fixture, &blobs[5]) - RECORD_HEADER_BYTES);
	put_row(fixture, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(value, 4));
	row_record_key(key, 0, 4);
	put_row(fixture, INDEX_RECORDS, span_make(key, sizeof(key)), span_make(value, sizeof(value)));
	put_row(fixture, INDEX_RECORDS, span_make(key, 5), span_make(value, ROW_RECORD_BYTES));
	for (int repair = 0; repair < 2; repair++) {
		assert_int_equal(fsck_store(fixture, repair, &report), 1);
		assert_int_equal(report.entries_missing, 1);
		assert_int_equal(report.entries_dangling, 2);
		assert_int_equal(report.entries_repaired, repair ? 3 : 0);
	}
	assert_clean(fixture, BLOBS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_clean),
		TEST(test_clean_after_crash),
		TEST(test_busy),
		TEST(test_damaged_payload),
		TEST(test_damaged_stretch),
		TEST(test_rows_of_any_length),
		TEST(test_damaged_record_rows),
		TEST(test_damaged_first_block),
		TEST(test_missing_segment),
		TEST(test_marks_after_repair),
		TEST(test_lost_index),
		TEST(test_interrupted_rebuild),
		TEST(test_interrupted_repair),
		TEST(test_interrupted_without_segment),
		TEST(test_damaged_index_page),
		TEST(test_damaged_page_of_marks),
		TEST(test_unreadable_index),
		TEST(test_index_without_rows),
		TEST(test_index_of_no_bytes),
		TEST(test_lost_index_after_recycling),
		TEST(test_lost_index_and_names),
		TEST(test_forged_record),
	};

	return cmocka_run_group_tests_name("fsck", tests, NULL, NULL);
}
