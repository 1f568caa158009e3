/* clean: one character at a time, as proto/escape.h finds them. */
#include "gateway/cmd/clean.h"

#include <stdbool.h>
#include <stdint.h>

#include "proto/escape.h"

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

size_t clean_take(struct span *text, char shown[static 4])
{
	const uint8_t *bytes = text->data;
	size_t size = utf8_sequence(*text), taken = size ? size : 1;

	*text = span_make(bytes + taken, text->size - taken);
	if (size == 0 || !is_harmless(code_point(bytes, size))) {
		shown[0] = '?';
		return 1;
	}
	memcpy(shown, bytes, size);
	return size;
}

void clean_text(char *text)
{
	struct span rest = span_text(text);
	char shown[4];

	while (rest.size) {
		size_t size = clean_take(&rest, shown);

		memcpy(text, shown, size);
		text += size;
	}
	*text = '\0';
}

void clean_print(FILE *file, struct span text)
{
	char shown[4];

	while (text.size)
		fwrite(shown, 1, clean_take(&text, shown), file);
}
