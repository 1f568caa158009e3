/* recipe: any bytes are read as a recipe. What is accepted is exactly what writing its entries gives. */
#include "proto/recipe.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer again = buffer_heap(RECIPE_BYTES_MAX * 2);
	struct recipe_reader reader;
	struct digest entry;
	uint64_t sum = 0;

	if (recipe_open(&reader, span_make(data, size))) {
		recipe_begin(&again, &reader.head);
		while (recipe_next(&reader, &entry)) {
			REQUIRE(entry.size > 0);
			recipe_add(&again, &entry);
			sum += entry.size;
		}
		if (!reader.failed) {
			REQUIRE(span_equal(buffer_span(&again), span_make(data, size)));
			REQUIRE(reader.head.level == 1 || sum == reader.head.file_size);
		}
	}
	buffer_fini(&again);
	return 0;
}
