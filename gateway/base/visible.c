/* visible: a character is decoded, then judged. */
#include "gateway/base/visible.h"

#include "proto/utf8.h"

static uint32_t code_point(const uint8_t *bytes, size_t size)
{
	uint32_t code = size == 1 ? bytes[0] : bytes[0] & (0x7fu >> size);

	for (size_t i = 1; i < size; i++)
		code = code << 6 | (bytes[i] & 0x3fu);
	return code;
}

static bool is_harmless(uint32_t code)
{
	if (code < 0x20 || (code >= 0x7f && code < 0xa0))
		return false;
	/* Separators of lines and paragraphs, embeddings and overrides of the direction; and isolates. */
	return !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069);
}

size_t visible_length(struct span text)
{
	size_t length = utf8_sequence(text);

	return length && is_harmless(code_point(text.data, length)) ? length : 0;
}
