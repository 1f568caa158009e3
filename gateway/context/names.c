/* Names, one behind the other. */
#include "gateway/context/names.h"

#include <stdlib.h>
#include <string.h>

void names_fini(struct names *names)
{
	free(names->text);
	*names = (struct names){ 0 };
}

bool names_add(struct names *names, const char *name)
{
	size_t size = strlen(name) + 1;

	if (names->capacity - names->size < size) {
		size_t capacity = 2 * names->capacity + 4096;
		char *grown = realloc(names->text, capacity);

		if (!grown)
			return false;
		names->text = grown;
		names->capacity = capacity;
	}
	memcpy(names->text + names->size, name, size);
	names->size += size;
	return true;
}

void names_drop(struct names *names, const char *last)
{
	names->size -= strlen(last) + 1;
}

const char *names_next(const struct names *names, const char *name)
{
	size_t at = name ? (size_t)(name - names->text) + strlen(name) + 1 : 0;

	return at < names->size ? names->text + at : NULL;
}

bool names_have(const struct names *names, const char *name)
{
	for (const char *each = names_next(names, NULL); each; each = names_next(names, each))
		if (strcmp(each, name) == 0)
			return true;
	return false;
}
