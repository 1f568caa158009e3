/* utf8: where a character of UTF-8 ends (RFC 3629). In a header, as span.h is, so that also what is below this library can ask. */
#pragma once

#include "proto/span.h"

static inline bool utf8_continues(struct span text, size_t at, uint8_t low, uint8_t high)
{
	return at < text.size && text.data[at] >= low && text.data[at] <= high;
}

/* The second byte's range keeps out over-long forms, surrogates and what lies beyond U+10FFFF (RFC 3629, section 4). */
static inline bool utf8_second_is_valid(struct span text)
{
	uint8_t low = 0x80, high = 0xbf;

	switch (text.data[0]) {
	case 0xe0:
		low = 0xa0;
		break;
	case 0xed:
		high = 0x9f;
		break;
	case 0xf0:
		low = 0x90;
		break;
	case 0xf4:
		high = 0x8f;
		break;
	}
	return utf8_continues(text, 1, low, high);
}

/* Length of the valid sequence at the start of `text`: 1 to 4, or 0 when there is none. */
static inline size_t utf8_sequence(struct span text)
{
	size_t length;

	if (text.size == 0)
		return 0;
	if (text.data[0] < 0x80)
		return 1;
	if (text.data[0] < 0xc2 || text.data[0] > 0xf4)
		return 0;
	length = text.data[0] < 0xe0 ? 2 : text.data[0] < 0xf0 ? 3 : 4;
	if (!utf8_second_is_valid(text))
		return 0;
	for (size_t i = 2; i < length; i++) {
		if (!utf8_continues(text, i, 0x80, 0xbf))
			return 0;
	}
	return length;
}
