/*
 * span: a borrowed run of bytes. Who owns the bytes, and until when they live, is said where a span is handed over.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const uint8_t *data;
	size_t size;
};

static inline struct span span_make(const void *data, size_t size)
{
	return (struct span){ .data = data, .size = size };
}

/* Of a NUL-terminated string, without the NUL. */
static inline struct span span_text(const char *text)
{
	return (struct span){ .data = (const uint8_t *)text, .size = strlen(text) };
}

static inline bool span_equal(struct span a, struct span b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool span_is(struct span a, const char *text)
{
	return span_equal(a, span_text(text));
}

/* Byte order, shorter first when one is the prefix of the other: the order of names in a tree. */
static inline int span_compare(struct span a, struct span b)
{
	size_t common = a.size < b.size ? a.size : b.size;
	int order = common ? memcmp(a.data, b.data, common) : 0;

	if (order)
		return order;
	return (a.size > b.size) - (a.size < b.size);
}
