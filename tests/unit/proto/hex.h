/* hex: messages as hex digits in a test's tables. Included behind cmocka.h, whose assertions it uses. */
#pragma once

#include <stdio.h>

#include "proto/buffer.h"

/*
 * From hex; freed with buffer_fini(). Exactly as large as it is, so that a sanitizer sees the first byte read past
 * it.
 */
static inline struct buffer from_hex(const char *hex)
{
	size_t size = strlen(hex) / 2;
	struct buffer bytes = buffer_heap(size ? size : 1);
	uint8_t *room = buffer_reserve(&bytes, size ? size : 1);

	for (size_t i = 0; i < size; i++) {
		unsigned value;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &value), 1);
		room[i] = (uint8_t)value;
	}
	bytes.size = size;
	return bytes;
}

static inline void assert_hex(struct span bytes, const char *hex)
{
	struct buffer expected = from_hex(hex);

	assert_int_equal(bytes.size, expected.size);
	if (expected.size)
		assert_memory_equal(bytes.data, expected.data, expected.size);
	buffer_fini(&expected);
}
