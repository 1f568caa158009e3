/* visible: a character is decoded, then judged. */
#include "gateway/base/visible.h"

static size_t utf8_wanted(uint8_t lead)
{
	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead <= 0xdf)
		return 2;
	if ((lead & 0xf0) == 0xe0)
		return 3;
	if (lead >= 0xf0 && lead <= 0xf4)
		return 4;
	return 0;
}

/* Of the well-formed UTF-8 character that `bytes` start with; 0 when they do not. */
static size_t utf8_length(const uint8_t *bytes, size_t size)
{
	size_t wanted = utf8_wanted(bytes[0]);

	if (wanted == 0 || wanted > size)
		return 0;
	for (size_t i = 1; i < wanted; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	if ((bytes[0] == 0xe0 && bytes[1] < 0xa0) || (bytes[0] == 0xed && bytes[1] > 0x9f) ||
	    (bytes[0] == 0xf0 && bytes[1] < 0x90) || (bytes[0] == 0xf4 && bytes[1] > 0x8f))
		return 0;
	return wanted;
}

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
	size_t length = utf8_length(text.data, text.size);

	return length && is_harmless(code_point(text.data, length)) ? length : 0;
}
