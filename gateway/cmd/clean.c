/* clean: one character at a time. */
#include "gateway/cmd/clean.h"

#include "gateway/base/visible.h"
#include "proto/escape.h"

size_t clean_take(struct span *text, char shown[static 4])
{
	const uint8_t *bytes = text->data;
	size_t size = visible_length(*text), whole = size ? size : utf8_sequence(*text), taken = whole ? whole : 1;

	*text = span_make(bytes + taken, text->size - taken);
	if (size == 0) {
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
