/* Text forms of arbitrary bytes. */
#include "proto/escape.h"

static const char hex_digits[] = "0123456789ABCDEF";

static struct span after(struct span text, size_t count)
{
	return span_make(text.data + count, text.size - count);
}

bool utf8_valid(struct span text)
{
	while (text.size) {
		size_t length = utf8_sequence(text);

		if (length == 0)
			return false;
		text = after(text, length);
	}
	return true;
}

void utf8_put(struct buffer *out, struct span text)
{
	while (text.size && !out->failed) {
		size_t length = utf8_sequence(text);

		if (length)
			buffer_put(out, text.data, length);
		else
			buffer_put_text(out, "?");
		text = after(text, length ? length : 1);
	}
}

/* Upper-case only, so that a byte has one escaped form. */
static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* `text` starts after a '%'. */
static bool looks_escaped(struct span text)
{
	while (text.size >= 2 && text.data[0] == '2' && text.data[1] == '5')
		text = after(text, 2);
	return text.size >= 2 && hex_value(text.data[0]) >= 8 && hex_value(text.data[1]) >= 0;
}

bool escape_needed(struct span bytes)
{
	while (bytes.size) {
		size_t length = utf8_sequence(bytes);

		if (length == 0)
			return true;
		if (bytes.data[0] == '%' && looks_escaped(after(bytes, 1)))
			return true;
		bytes = after(bytes, length);
	}
	return false;
}

static void put_byte_escaped(struct buffer *out, uint8_t byte)
{
	const char text[3] = { '%', hex_digits[byte >> 4], hex_digits[byte & 15] };

	buffer_put(out, text, sizeof(text));
}

void escape_put(struct buffer *out, struct span bytes)
{
	if (!escape_needed(bytes)) {
		buffer_put(out, bytes.data, bytes.size);
		return;
	}
	while (bytes.size) {
		size_t length = utf8_sequence(bytes);

		if (length == 0 || bytes.data[0] == '%')
			put_byte_escaped(out, bytes.data[0]);
		else
			buffer_put(out, bytes.data, length);
		bytes = after(bytes, length ? length : 1);
	}
}

/* Undoes "%XX" without asking whether it had to be there. False: a '%' that no hex digits follow. */
static bool take_escaped(struct buffer *out, struct span wire)
{
	while (wire.size) {
		uint8_t byte = wire.data[0];
		size_t taken = 1;

		if (byte == '%') {
			int high = wire.size > 2 ? hex_value(wire.data[1]) : -1;
			int low = wire.size > 2 ? hex_value(wire.data[2]) : -1;

			if (high < 0 || low < 0)
				return false;
			byte = (uint8_t)(high << 4 | low);
			taken = 3;
		}
		buffer_put(out, &byte, 1);
		wire = after(wire, taken);
	}
	return true;
}

/* Is `wire` what escape_put() writes for `bytes`? Compared piece by piece, without building it. */
static bool is_wire_of(struct span wire, struct span bytes)
{
	if (!escape_needed(bytes))
		return span_equal(wire, bytes);
	while (bytes.size) {
		uint8_t storage[ESCAPE_GROWTH];
		struct buffer piece = buffer_over(storage, sizeof(storage));
		size_t length = utf8_sequence(bytes);
		struct span expected = span_make(bytes.data, length);

		if (length == 0 || bytes.data[0] == '%') {
			put_byte_escaped(&piece, bytes.data[0]);
			expected = buffer_span(&piece);
		}
		if (wire.size < expected.size || memcmp(wire.data, expected.data, expected.size) != 0)
			return false;
		wire = after(wire, expected.size);
		bytes = after(bytes, length ? length : 1);
	}
	return wire.size == 0;
}

bool escape_take(struct buffer *out, struct span wire)
{
	size_t start = out->size;

	if (!utf8_valid(wire))
		return false;
	if (!escape_needed(wire)) {
		buffer_put(out, wire.data, wire.size);
		return !out->failed;
	}
	if (!take_escaped(out, wire) || out->failed ||
	    !is_wire_of(wire, span_make(out->data + start, out->size - start))) {
		out->size = start;
		return false;
	}
	return true;
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_size(size_t bytes)
{
	return (bytes + 2) / 3 * 4;
}

void base64_put(struct buffer *out, struct span bytes)
{
	uint8_t *p = buffer_reserve(out, base64_size(bytes.size));

	if (!p)
		return;
	out->size += base64_size(bytes.size);
	for (size_t i = 0; i < bytes.size; i += 3) {
		size_t left = bytes.size - i;
		uint32_t group = (uint32_t)bytes.data[i] << 16 | (left > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0) |
		                 (left > 2 ? bytes.data[i + 2] : 0);

		*p++ = (uint8_t)base64_digits[group >> 18];
		*p++ = (uint8_t)base64_digits[group >> 12 & 63];
		*p++ = left > 1 ? (uint8_t)base64_digits[group >> 6 & 63] : '=';
		*p++ = left > 2 ? (uint8_t)base64_digits[group & 63] : '=';
	}
}

static int base64_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four digits of which the last `padding` are '='. The bits that padding leaves over must be zero. */
static bool take_group(struct buffer *out, const uint8_t *text, size_t padding)
{
	uint32_t group = 0;
	uint8_t bytes[3];

	for (size_t i = 0; i < 4; i++) {
		int value = i < 4 - padding ? base64_value(text[i]) : 0;

		if (value < 0)
			return false;
		group = group << 6 | (uint32_t)value;
	}
	if (padding && group & ((1u << (8 * padding)) - 1))
		return false;
	bytes[0] = (uint8_t)(group >> 16);
	bytes[1] = (uint8_t)(group >> 8);
	bytes[2] = (uint8_t)group;
	buffer_put(out, bytes, 3 - padding);
	return !out->failed;
}

bool base64_take(struct buffer *out, struct span text)
{
	size_t start = out->size;

	if (text.size % 4)
		return false;
	for (size_t i = 0; i < text.size; i += 4) {
		bool last = i + 4 == text.size;
		size_t padding = last && text.data[i + 3] == '=' ? text.data[i + 2] == '=' ? 2 : 1 : 0;

		if (!take_group(out, text.data + i, padding)) {
			out->size = start;
			return false;
		}
	}
	return true;
}
