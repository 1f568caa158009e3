/* Digests as bytes, hex and text. */
#include "proto/digest.h"

#include <assert.h>
#include <stdio.h>

const struct digest digest_empty = {
	.hash = {
		0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
		0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
	},
};

void digest_hex(const struct digest *digest, char hex[static DIGEST_HEX_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_HASH_BYTES; i++) {
		hex[2 * i] = digits[digest->hash[i] >> 4];
		hex[2 * i + 1] = digits[digest->hash[i] & 15];
	}
}

typedef uint8_t lanes __attribute__((vector_size(16)));
typedef uint8_t half_lanes __attribute__((vector_size(8)));

/* Sixteen digits at a time: one by one each is a branch that nobody can predict. */
bool digest_from_hex(struct digest *digest, struct span hex)
{
	uint8_t hash[DIGEST_HASH_BYTES];
	uint64_t wrongs[2];
	lanes wrong = { 0 };

	if (hex.size != DIGEST_HEX_BYTES)
		return false;
	for (size_t i = 0; i < DIGEST_HEX_BYTES; i += sizeof(lanes)) {
		lanes digits, number, letter, values;
		half_lanes bytes;

		memcpy(&digits, hex.data + i, sizeof(digits));
		number = (lanes)(digits - '0' <= 9);
		letter = (lanes)(digits - 'a' <= 5);
		wrong |= ~(number | letter);
		values = (number & (digits - '0')) | (letter & (digits - 'a' + 10));
		bytes = __builtin_shufflevector(values, values, 0, 2, 4, 6, 8, 10, 12, 14) << 4 |
		        __builtin_shufflevector(values, values, 1, 3, 5, 7, 9, 11, 13, 15);
		memcpy(hash + i / 2, &bytes, sizeof(bytes));
	}
	memcpy(wrongs, &wrong, sizeof(wrongs));
	if (wrongs[0] | wrongs[1])
		return false;
	memcpy(digest->hash, hash, sizeof(hash));
	return true;
}

char *digest_text(const struct digest *digest, char text[static DIGEST_TEXT_MAX])
{
	char hex[DIGEST_HEX_BYTES];
	int size;

	digest_hex(digest, hex);
	size = snprintf(text, DIGEST_TEXT_MAX, "sha256:%.*s/%llu", DIGEST_HEX_BYTES, hex,
	                (unsigned long long)digest->size);
	assert(size > 0 && size < DIGEST_TEXT_MAX);
	return text;
}

/* Canonical decimal only (no sign, no leading zero), so that a digest has one text. */
static bool size_from_text(uint64_t *size, struct span text)
{
	uint64_t value = 0;

	if (text.size == 0 || (text.size > 1 && text.data[0] == '0'))
		return false;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value))
			return false;
	}
	*size = value;
	return true;
}

bool digest_from_text(struct digest *digest, struct span text)
{
	static const char scheme[] = "sha256:";
	struct digest parsed;

	if (text.size > sizeof(scheme) - 1 && memcmp(text.data, scheme, sizeof(scheme) - 1) == 0) {
		text.data += sizeof(scheme) - 1;
		text.size -= sizeof(scheme) - 1;
	}
	if (text.size <= DIGEST_HEX_BYTES + 1 || text.data[DIGEST_HEX_BYTES] != '/')
		return false;
	if (!digest_from_hex(&parsed, span_make(text.data, DIGEST_HEX_BYTES)))
		return false;
	text.data += DIGEST_HEX_BYTES + 1;
	text.size -= DIGEST_HEX_BYTES + 1;
	if (!size_from_text(&parsed.size, text))
		return false;
	*digest = parsed;
	return true;
}
