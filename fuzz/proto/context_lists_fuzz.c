/*
 * Property: each list of Context/Give is read from arbitrary bytes without reading past them, comes to an end, and what was
 * read of it is written and read again as the same. The first byte chooses the list.
 */
#include <assert.h>

#include "proto/sluice_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void numbers(struct span bytes)
{
	struct buffer again = buffer_heap(SIZE_MAX);
	uint64_t number = ENTRY_NUMBER_BEFORE, before = ENTRY_NUMBER_BEFORE, put = ENTRY_NUMBER_BEFORE;
	struct span rest = bytes, second;

	while (number_list_next(&rest, &number)) {
		assert(number <= ENTRY_NUMBER_MAX && (before == ENTRY_NUMBER_BEFORE || number > before));
		before = number;
		number_list_put(&again, &put, number);
	}
	second = buffer_span(&again);
	put = number = ENTRY_NUMBER_BEFORE;
	rest = bytes;
	while (number_list_next(&second, &put))
		assert(number_list_next(&rest, &number) && number == put);
	assert(second.size == 0 && !number_list_next(&rest, &number));
	buffer_fini(&again);
}

static void times(struct span bytes)
{
	struct buffer again = buffer_heap(SIZE_MAX);
	uint64_t unit_ns = TIME_UNIT_MOST_NS;
	struct time_list list = { 0 }, other = { 0 };
	struct span rest = bytes, second;
	int64_t time, put;

	while (time_list_next(&rest, &list, &time))
		unit_ns = time_list_unit(unit_ns, time);
	time_list_begin(&again, &other, unit_ns);
	list = (struct time_list){ 0 };
	rest = bytes;
	while (time_list_next(&rest, &list, &time))
		time_list_put(&again, &other, time);
	second = buffer_span(&again);
	list = other = (struct time_list){ 0 };
	rest = bytes;
	while (time_list_next(&second, &other, &put))
		assert(time_list_next(&rest, &list, &time) && time == put);
	assert(second.size == 0 && !time_list_next(&rest, &list, &time));
	buffer_fini(&again);
}

static void entries(struct span bytes)
{
	struct span rest = bytes, stat;
	size_t sum = 0;

	while (entry_list_next(&rest, &stat)) {
		assert(stat.data >= bytes.data && stat.data + stat.size <= bytes.data + bytes.size);
		sum += stat.size;
	}
	assert(sum <= bytes.size);
}

static void names(struct span bytes)
{
	struct buffer again = buffer_heap(SIZE_MAX);
	struct named_entry entry, other;
	uint64_t number = 0, put = 0;
	struct span rest = bytes, second;

	while (name_list_next(&rest, &number, &entry))
		name_list_put(&again, &put, &entry);
	second = buffer_span(&again);
	put = number = 0;
	rest = bytes;
	while (name_list_next(&second, &put, &other)) {
		assert(name_list_next(&rest, &number, &entry));
		assert(entry.number == other.number && digest_equal(&entry.digest, &other.digest));
		assert(entry.recipe == other.recipe && entry.file_size == other.file_size);
	}
	assert(second.size == 0 && !name_list_next(&rest, &number, &entry));
	buffer_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const lists[])(struct span bytes) = { numbers, times, entries, names };

	if (size)
		lists[data[0] % 4](span_make(data + 1, size - 1));
	return 0;
}
