/*
 * snapshot: any bytes as a snapshot of "/t", with length and checksum put right so that the numbers inside are reached.
 * What is accepted can be walked in every direction without leaving it, and encodes to the same bytes.
 */
#include "gateway/context/assemble.h"
#include "gateway/context/lookup.h"
#include "gateway/context/scan_part.h"
#include "gateway/context/snapshot.h"

#include <stdlib.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define FILE_BYTES_AT 16

static int put(void *context, const void *data, size_t size)
{
	buffer_put(context, data, size);
	return 0;
}

static void encode_again(const struct snapshot *snapshot, struct span file)
{
	struct buffer again = buffer_heap(1u << 30);

	REQUIRE(snapshot_encode(snapshot, put, &again) == 0 && !again.failed);
	REQUIRE(span_equal(buffer_span(&again), file));
	buffer_fini(&again);
}

static void walk_rows(const struct table *table)
{
	struct buffer path = buffer_heap(TABLE_PATH_BYTES_MAX + 1);

	for (uint32_t i = 1; i < table->rows_count; i++) {
		const struct table_row *row = &table->rows[i];
		struct tree_xattr xattrs[TREE_XATTRS_MAX];

		buffer_clear(&path);
		table_path(table, i, &path);
		REQUIRE(!path.failed);
		if (row->flags & TABLE_ROW_IGNORED)
			continue;
		REQUIRE(table_xattrs(table, row, xattrs) != SIZE_MAX);
		(void)table_hardlink(table, row);
		(void)table_row_digest(table, row);
	}
	buffer_fini(&path);
}

static void walk_digests(struct table *table)
{
	struct lookup *lookup;
	struct lookup_place place;

	REQUIRE(lookup_create(&lookup, table, LOOKUP_DIRECTORY | LOOKUP_CONTENTS) == 0);
	for (uint32_t i = 0; i < table->directories_count; i++) {
		struct digest digest = table_directory_digest(&table->directories[i]);

		REQUIRE(lookup_find(lookup, &digest, &place) || table->directories[i].flags & TABLE_DIRECTORY_OMITTED);
	}
	lookup_destroy(lookup);
}

/* As the next scan does, of each row alone: they may share much. */
static void take_over(const struct table *former)
{
	for (uint32_t i = 0; i < former->rows_count; i++) {
		struct table table = table_make(former);
		uint32_t number;

		REQUIRE(table_add_row(&table, table_name(former, &former->rows[i]), &number) == 0);
		REQUIRE(scan_part_take_over(&table, former, &former->rows[i], number) == 0);
		table_fini(&table);
	}
}

static void assemble(struct table *table)
{
	struct assembler *assembler = assembler_create(table, NULL, (struct why){ 0 });
	struct buffer message = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);

	REQUIRE(assembler);
	for (uint32_t i = 0; i < table->directories_count; i++) {
		buffer_clear(&message);
		(void)assembler_encode(assembler, i, &message);
	}
	buffer_fini(&message);
	assembler_destroy(assembler);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t file_bytes = size, *file = malloc(size + 8);
	uint8_t *bytes = (uint8_t *)file;
	struct snapshot snapshot;

	REQUIRE(file);
	if (size)
		memcpy(bytes, data, size);
	if (size >= FILE_BYTES_AT + 16) {
		XXH64_hash_t sum;

		memcpy(bytes + FILE_BYTES_AT, &file_bytes, sizeof(file_bytes));
		sum = XXH3_64bits(bytes, size - sizeof(sum));
		memcpy(bytes + size - sizeof(sum), &sum, sizeof(sum));
	}
	if (snapshot_decode(&snapshot, span_make(bytes, size), span_text("/t"))) {
		walk_rows(&snapshot.table);
		walk_digests(&snapshot.table);
		take_over(&snapshot.table);
		assemble(&snapshot.table);
		encode_again(&snapshot, span_make(bytes, size));
	}
	free(file);
	return 0;
}
