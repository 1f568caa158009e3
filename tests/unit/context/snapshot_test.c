/*
 * Shows that a table survives the way through a snapshot file, and that a file that is not whole, not of this path, or
 * whose numbers lead outside is no snapshot: each byte flipped, each length cut, each number bent with the checksum put
 * right.
 */
#include "gateway/context/snapshot.h"
#include "gateway/context/snapshot_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <xxhash.h>

#define FILE_BYTES_AT 16

static int put(void *context, const void *data, size_t size)
{
	buffer_put(context, data, size);
	return 0;
}

/* A root with a file, a link, a large file, a directory with a second name in it, and something ignored. */
static void make_table(struct table *table, const struct table *former)
{
	static const struct tree_xattr xattrs[] = {{{(const uint8_t *)"user.a", 6}, {(const uint8_t *)"12", 2}}};
	uint32_t row, directory, number;

	*table = table_make(former);
	assert_int_equal(table_add_row(table, span_text(""), &row), 0);
	table->rows[row].mode = S_IFDIR | 0755;
	assert_int_equal(table_add_directory(table, 0, row, &directory), 0);
	assert_int_equal(table_add_row(table, span_text("file"), &row), 0);
	table->rows[row].mode = S_IFREG | 0644;
	table->rows[row].size = 5;
	assert_int_equal(table_add_xattrs(table, xattrs, 1, &table->rows[row].xattrs), 0);
	assert_int_equal(table_add_row(table, span_text("link"), &row), 0);
	table->rows[row].mode = S_IFLNK | 0777;
	table->rows[row].target_size = 6;
	assert_int_equal(table_add_bytes(table, span_text("target"), &table->rows[row].link), 0);
	assert_int_equal(table_add_row(table, span_text("large"), &row), 0);
	table->rows[row].mode = S_IFREG | 0644;
	table->rows[row].size = 300000;
	table->rows[row].flags = TABLE_ROW_RECIPE;
	for (uint64_t offset = 0; offset < 300000; offset += 100000) {
		struct table_chunk chunk = { .offset = offset, .hash = { (uint8_t)(offset >> 16) } };

		assert_int_equal(table_add_chunk(table, &chunk), 0);
	}
	assert_int_equal(
	    table_add_recipe(table, &(struct table_recipe){.file_size = 300000, .size = 111, .count = 3, .profile = 1},
			     &number),
	    0);
	table->rows[row].link = number;
	assert_int_equal(table_add_row(table, span_text("ignored"), &row), 0);
	table->rows[row].flags = TABLE_ROW_IGNORED;
	assert_int_equal(table_add_row(table, span_text("sub"), &row), 0);
	table->rows[row].mode = S_IFDIR | 0700;
	assert_int_equal(table_add_directory(table, 0, row, &directory), 0);
	assert_int_equal(table_add_row(table, span_text("second"), &row), 0);
	table->rows[row].mode = S_IFREG | 0644;
	table->rows[row].flags = TABLE_ROW_LINKED;
	assert_int_equal(table_set_hardlink(table, row, span_text("file")), 0);
}

static struct snapshot make_snapshot(const struct table *table)
{
	return (struct snapshot){ .table = *table, .path = span_text("/t"), .rules = { 7 }, .gateway = span_text("gw"),
		.committed = { .size = 9 } };
}

static struct buffer encode(const struct snapshot *snapshot)
{
	struct buffer file = buffer_heap(1 << 20);

	assert_int_equal(snapshot_encode(snapshot, put, &file), 0);
	assert_false(file.failed);
	return file;
}

static bool decode(struct snapshot *snapshot, const uint8_t *data, size_t size)
{
	uint64_t *aligned = malloc(size + 8);
	bool ok;

	memcpy(aligned, data, size);
	ok = snapshot_decode(snapshot, span_make(aligned, size), span_text("/t"));
	free(aligned);
	return ok;
}

static void test_round_trip(void **state)
{
	struct table table;
	struct snapshot snapshot, read;
	struct buffer file;

	make_table(&table, NULL);
	snapshot = make_snapshot(&table);
	file = encode(&snapshot);
	assert_true(snapshot_decode(&read, buffer_span(&file), span_text("/t")));
	assert_int_equal(read.table.rows_count, table.rows_count);
	assert_memory_equal(read.table.rows, table.rows, table.rows_count * sizeof(table.rows[0]));
	assert_int_equal(read.table.directories_count, 2);
	assert_int_equal(read.table.chunks_count, 3);
	assert_true(span_is(table_hardlink(&read.table, &read.table.rows[6]), "file"));
	assert_true(span_is(read.gateway, "gw"));
	assert_int_equal(read.rules[0], 7);
	assert_int_equal(read.committed.size, 9);
	buffer_fini(&file);
	table_fini(&table);
}

/* Chunks that lie in the former table are written as if they were its own. */
static void test_borrowed_chunks(void **state)
{
	struct table former, table;
	struct snapshot snapshot, read;
	struct buffer file;
	struct digest a, b;

	make_table(&former, NULL);
	make_table(&table, &former);
	table.recipes[0].borrowed = 1;
	table.chunks_count = 0;
	snapshot = make_snapshot(&table);
	file = encode(&snapshot);
	assert_true(snapshot_decode(&read, buffer_span(&file), span_text("/t")));
	a = table_chunk_digest(&former, &former.recipes[0], 2);
	b = table_chunk_digest(&read.table, &read.table.recipes[0], 2);
	assert_true(digest_equal(&a, &b));
	assert_int_equal(b.size, 100000);
	buffer_fini(&file);
	table_fini(&table);
	table_fini(&former);
}

static void test_damage(void **state)
{
	struct snapshot snapshot, read;
	struct buffer file;
	struct table table;

	make_table(&table, NULL);
	snapshot = make_snapshot(&table);
	file = encode(&snapshot);
	assert_true(decode(&read, file.data, file.size));
	for (size_t i = 0; i < file.size; i++) {
		file.data[i] ^= 0x10;
		if (decode(&read, file.data, file.size))
			fail_msg("byte %zu may be flipped", i);
		file.data[i] ^= 0x10;
	}
	for (size_t size = 0; size < file.size; size++) {
		if (decode(&read, file.data, size))
			fail_msg("cut to %zu bytes it is accepted", size);
	}
	assert_false(snapshot_decode(&read, buffer_span(&file), span_text("/other")));
	buffer_fini(&file);
	table_fini(&table);
}

/* Numbers at random places; a sanitizer sees where they lead. fuzz/gateway/context/snapshot_fuzz.c goes further. */
static void test_bent_numbers(void **state)
{
	struct snapshot snapshot, read;
	struct buffer file;
	struct table table;
	unsigned accepted = 0, refused = 0;

	make_table(&table, NULL);
	snapshot = make_snapshot(&table);
	file = encode(&snapshot);
	for (size_t at = 0; at + 4 <= file.size - 8; at += 4) {
		static const uint32_t values[] = { 0, 1, 7, 0xffff, 0x7fffffff, 0xfffffffe, 0xffffffff };

		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			XXH64_hash_t sum, before;
			uint32_t kept;

			if (at >= FILE_BYTES_AT && at < FILE_BYTES_AT + 8)
				continue;
			memcpy(&kept, file.data + at, 4);
			memcpy(file.data + at, &values[i], 4);
			memcpy(&before, file.data + file.size - 8, 8);
			sum = XXH3_64bits(file.data, file.size - 8);
			memcpy(file.data + file.size - 8, &sum, 8);
			if (decode(&read, file.data, file.size))
				accepted++;
			else
				refused++;
			memcpy(file.data + at, &kept, 4);
			memcpy(file.data + file.size - 8, &before, 8);
		}
	}
	assert_true(refused > 200 && accepted > 200); /* hashes, times and sizes may be anything; links may not */
	buffer_fini(&file);
	table_fini(&table);
}

static void refuses(const struct snapshot *snapshot, uint32_t number, struct table_row bent)
{
	struct table_row *row = &snapshot->table.rows[number], kept = *row;
	struct snapshot read;
	struct buffer file;

	*row = bent;
	file = encode(snapshot);
	if (decode(&read, file.data, file.size))
		fail_msg("row %u may be bent", number);
	buffer_fini(&file);
	*row = kept;
}

enum { AT_ROOT, AT_FILE, AT_LINK, AT_LARGE, AT_IGNORED, AT_SUB };

/* Of rows that are taken over they would be followed. */
static void test_numbers_that_mean_nothing(void **state)
{
	struct table_row bent;
	struct snapshot snapshot;
	struct table table;

	make_table(&table, NULL);
	snapshot = make_snapshot(&table);
	for (uint32_t number = AT_ROOT; number <= AT_SUB; number++) {
		bent = table.rows[number];
		bent.target_size = 0xffff;
		refuses(&snapshot, number, bent);
	}
	bent = table.rows[AT_LINK];
	bent.flags = TABLE_ROW_EXCLUDED;
	refuses(&snapshot, AT_LINK, bent);
	bent = table.rows[AT_IGNORED];
	bent.flags |= TABLE_ROW_RECIPE;
	refuses(&snapshot, AT_IGNORED, bent);
	bent = table.rows[AT_IGNORED];
	bent.xattrs = table.names_bytes - 1;
	refuses(&snapshot, AT_IGNORED, bent);
	bent = table.rows[AT_IGNORED];
	bent.hardlink = table.names_bytes - 1;
	refuses(&snapshot, AT_IGNORED, bent);
	table_fini(&table);
}

static void test_file(void **state)
{
	char directory[] = "/tmp/snapshot-test-XXXXXX", path[128], command[160];
	struct snapshot snapshot;
	struct snapshot_file file;
	struct table table;
	struct stat st;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/a/b/snapshot", directory);
	make_table(&table, NULL);
	snapshot = make_snapshot(&table);
	assert_false(snapshot_file_open(&file, path, span_text("/t")));
	assert_int_equal(snapshot_file_save(path, &snapshot), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(snapshot_file_open(&file, path, span_text("/t")));
	snapshot_file_close(&file);
	assert_false(snapshot_file_open(&file, path, span_text("/u")));
	assert_int_equal(chmod(path, 0620), 0);          /* somebody else could have written it */
	assert_false(snapshot_file_open(&file, path, span_text("/t")));
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	assert_int_equal(system(command), 0);
	table_fini(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_borrowed_chunks),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_bent_numbers),
		cmocka_unit_test(test_numbers_that_mean_nothing),
		cmocka_unit_test(test_file),
	};
	if (getenv("SNAPSHOT_SEED")) {           /* writes a seed for the fuzz target */
		struct snapshot snapshot;
		struct table table;

		make_table(&table, NULL);
		snapshot = make_snapshot(&table);
		assert_int_equal(snapshot_file_save(getenv("SNAPSHOT_SEED"), &snapshot), 0);
		table_fini(&table);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
