/* json: small helpers over jansson. */
#include "gateway/cmd/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/cmd/command.h"
#include "proto/escape.h"

int json_print(json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15)) : NULL;
	int status = STATUS_OK;

	if (object)
		json_decref(object);
	if (!text)
		return STATUS_EXHAUSTED;
	if (printf("%s\n", text) < 0 || fflush(stdout) != 0)
		status = STATUS_FAILURE;
	free(text);
	return status;
}

void json_set_u64(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

void json_set_seconds(json_t *object, const char *key, uint64_t ns)
{
	json_object_set_new(object, key, json_real((double)(ns / 1000 + (ns % 1000 >= 500)) / 1e6));
}

/* How many bytes of `text` jansson takes as one character; 0: none, the first byte is bad. */
static size_t character_size(const char *text)
{
	for (size_t size = 1; size <= 4 && strnlen(text, size) == size; size++) {
		json_t *character = json_stringn(text, size);

		json_decref(character);
		if (character)
			return size;
	}
	return 0;
}

static json_t *text_cleaned(const char *text)
{
	static const char replacement[] = "\xef\xbf\xbd";
	char *clean = malloc(strlen(text) * 3 + 1), *out = clean;
	json_t *value;

	if (!clean)
		return NULL;
	while (*text) {
		size_t size = character_size(text);

		memcpy(out, size ? text : replacement, size ? size : 3);
		out += size ? size : 3;
		text += size ? size : 1;
	}
	value = json_stringn(clean, (size_t)(out - clean));
	free(clean);
	return value;
}

json_t *json_text(const char *text)
{
	json_t *value = text ? json_string(text) : json_null();

	return value ? value : text_cleaned(text);
}

void json_set_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, json_text(text));
}

static json_t *taken(struct buffer *text)
{
	json_t *value = text->failed ? NULL : json_stringn(text->size ? (const char *)text->data : "", text->size);

	buffer_fini(text);
	return value;
}

json_t *json_path(struct span path)
{
	struct buffer text = buffer_heap(ESCAPE_GROWTH * path.size + 1);

	while (path.size) {
		size_t size = 0;

		while (size < path.size && path.data[size] != '/')
			size++;
		escape_put(&text, span_make(path.data, size));
		if (size < path.size)
			buffer_put(&text, &path.data[size++], 1);
		path = span_make(path.data + size, path.size - size);
	}
	return taken(&text);
}

json_t *json_target(struct span target)
{
	struct buffer text = buffer_heap(ESCAPE_GROWTH * target.size + 1);

	escape_put(&text, target);
	return taken(&text);
}
