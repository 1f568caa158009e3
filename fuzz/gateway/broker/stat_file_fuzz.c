/*
 * stat_file: any bytes as a table's file under the key of zeros, with count and checksum put right so that the entries
 * are reached. What is accepted gives names that an entry takes again, unchanged, and goes into slots and out of them.
 */
#include "gateway/broker/stat_file.h"

#include <stdlib.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define HEAD_BYTES  64
#define TAIL_BYTES  24
#define ENTRIES_MAX 4096

static void put_right(uint8_t *bytes, size_t size)
{
	uint64_t count, sum;

	if (size < HEAD_BYTES + TAIL_BYTES)
		return;
	count = (size - HEAD_BYTES - TAIL_BYTES) / STAT_ENTRY_BYTES;
	memcpy(bytes + size - TAIL_BYTES, &count, sizeof(count));
	sum = XXH3_64bits(bytes, size - sizeof(sum));
	memcpy(bytes + size - sizeof(sum), &sum, sizeof(sum));
}

static void keep_entries(const struct stat_file *file)
{
	struct stat_slots slots;

	REQUIRE(stat_slots_init(&slots, file->count + 1, 1, false, -1) == 0);
	for (size_t i = 0; i < file->count; i++) {
		const struct stat_entry *entry = &file->entries[i];
		struct content_name name = stat_entry_name(entry);
		struct stat_entry again = { .key = entry->key }, *place;

		REQUIRE(stat_entry_set(&again, &name, entry->generation));
		REQUIRE(memcmp(&again, entry, sizeof(again)) == 0);
		place = stat_slots_add(&slots, &entry->key);
		REQUIRE(place);
		*place = *entry;
		REQUIRE(stat_slots_find(&slots, &entry->key) == place);
	}
	REQUIRE(slots.live <= file->count);
	stat_slots_fini(&slots);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[STAT_FILE_KEY_BYTES];
	uint64_t *aligned = malloc(size + 8);
	uint8_t *bytes = (uint8_t *)aligned;
	struct stat_file file;

	REQUIRE(aligned);
	if (size)
		memcpy(bytes, data, size);
	put_right(bytes, size);
	if (stat_file_parse(&file, span_make(bytes, size), key, ENTRIES_MAX))
		keep_entries(&file);
	free(aligned);
	return 0;
}
