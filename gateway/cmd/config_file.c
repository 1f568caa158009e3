/* config_file: walks libyaml's events with a stack of key prefixes. */
#include "gateway/cmd/config_file.h"

#include <errno.h>
#include <search.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>
#include "gateway/base/err.h"
#include "gateway/cmd/options.h"

const struct config_format config_file_format = {
	.separator = '.', .bytes_max = OPTION_CONFIG_BYTES_MAX, .keys_max = 1024,
};

struct reader {
	yaml_parser_t parser;
	const struct config_format *format;
	config_taker *entry;
	void *context;
	char key[CONFIG_KEY_MAX + 1];    /* of the value that comes next */
	size_t prefix[CONFIG_DEPTH_MAX]; /* lengths of the keys of the mappings that are open */
	unsigned depth;
	bool want_value;                 /* a key was read */
	bool in_sequence, first;
	void *seen;                      /* keys, a tree of tsearch(3) */
	size_t seen_count;
	const char *path;
	char *why;
	size_t why_size;
};

static __attribute__((format(printf, 3, 4))) int refuse(struct reader *reader, unsigned line, const char *format, ...)
{
	char reason[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	snprintf(reader->why, reader->why_size, "%s:%u: %s", reader->path, line, reason);
	return -EINVAL;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int out_of_memory(struct reader *reader)
{
	snprintf(reader->why, reader->why_size, "out of memory");
	return ERR_RAISE(-ENOMEM);
}

/* Each key once: a second one would silently win or lose. */
static int note_key(struct reader *reader, const char *shown, unsigned line)
{
	char *copy = strdup(reader->key);
	void *found = copy ? tsearch(copy, &reader->seen, compare_keys) : NULL;

	if (!found) {
		free(copy);
		return out_of_memory(reader);
	}
	if (*(char **)found != copy) {
		free(copy);
		return refuse(reader, line, "`%s` is there twice", shown);
	}
	if (reader->seen_count++ == reader->format->keys_max)
		return refuse(reader, line, "more than %zu keys", reader->format->keys_max);
	return 0;
}

static int take_key(struct reader *reader, const char *text, unsigned line)
{
	size_t at = reader->depth ? reader->prefix[reader->depth - 1] : 0;
	size_t size = strlen(text);
	int r;

	if (size == 0 || at + size + 2 > CONFIG_KEY_MAX)
		return refuse(reader, line, "a key is empty or too long");
	if (reader->format->separator != '.' && strchr(text, reader->format->separator))
		return refuse(reader, line, "a key holds a character that has no place there");
	if (at)
		reader->key[at++] = reader->format->separator;
	memcpy(reader->key + at, text, size + 1);
	r = note_key(reader, reader->format->separator == '.' ? reader->key : text, line);
	if (r == 0)
		reader->want_value = true;
	return r;
}

static int take_value(struct reader *reader, const char *text, unsigned line)
{
	struct config_entry entry = {
		.key = reader->key, .value = text, .line = line,
		.item = reader->in_sequence, .first = reader->first || !reader->in_sequence,
	};
	char reason[512] = "";

	if (!reader->in_sequence)
		reader->want_value = false;
	reader->first = false;
	if (!reader->entry(reader->context, &entry, reason, sizeof(reason)))
		return refuse(reader, line, "%s", reason);
	return 0;
}

static int take_scalar(struct reader *reader, const yaml_event_t *event, unsigned line)
{
	const char *text = (const char *)event->data.scalar.value;

	if (strlen(text) != event->data.scalar.length)
		return refuse(reader, line, "a value holds a NUL byte");
	if (reader->depth == 0) {
		/* A file of comments only has one empty scalar. */
		return *text ? refuse(reader, line, "expected `key: value` lines") : 0;
	}
	if (reader->want_value)
		return take_value(reader, text, line);
	return take_key(reader, text, line);
}

static int tell_mapping(struct reader *reader, unsigned line)
{
	struct config_entry entry = { .key = reader->key, .line = line, .first = true };
	char reason[512] = "";

	if (!reader->format->mappings || reader->depth == 0)
		return 0;
	return reader->entry(reader->context, &entry, reason, sizeof(reason)) ? 0 : refuse(reader, line, "%s", reason);
}

static int open_mapping(struct reader *reader, unsigned line)
{
	int r;

	if (reader->in_sequence || (reader->depth && !reader->want_value))
		return refuse(reader, line, "a mapping cannot stand here");
	if (reader->depth == CONFIG_DEPTH_MAX)
		return refuse(reader, line, "mappings are nested too deeply");
	r = tell_mapping(reader, line);
	if (r)
		return r;
	reader->prefix[reader->depth++] = strlen(reader->key);
	reader->want_value = false;
	return 0;
}

static int open_sequence(struct reader *reader, unsigned line)
{
	if (reader->in_sequence || !reader->want_value)
		return refuse(reader, line, "a sequence cannot stand here");
	reader->in_sequence = true;
	reader->first = true;
	return 0;
}

static int take_event(struct reader *reader, const yaml_event_t *event)
{
	unsigned line = (unsigned)event->start_mark.line + 1;

	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return take_scalar(reader, event, line);
	case YAML_MAPPING_START_EVENT:
		return open_mapping(reader, line);
	case YAML_MAPPING_END_EVENT:
		reader->depth--;
		reader->want_value = false;
		return 0;
	case YAML_SEQUENCE_START_EVENT:
		return open_sequence(reader, line);
	case YAML_SEQUENCE_END_EVENT:
		reader->in_sequence = reader->want_value = false;
		return 0;
	case YAML_ALIAS_EVENT:
		return refuse(reader, line, "aliases are not supported");
	default:
		return 0;
	}
}

static int read_events(struct reader *reader)
{
	unsigned documents = 0;

	for (;;) {
		yaml_event_type_t type;
		yaml_event_t event;
		int r;

		if (!yaml_parser_parse(&reader->parser, &event))
			return refuse(reader, (unsigned)reader->parser.problem_mark.line + 1, "%s",
			              reader->parser.problem ? reader->parser.problem : "not YAML");
		type = event.type;
		if (type == YAML_DOCUMENT_START_EVENT && documents++)
			r = refuse(reader, (unsigned)event.start_mark.line + 1, "a second document");
		else
			r = take_event(reader, &event);
		yaml_event_delete(&event);
		if (r || type == YAML_STREAM_END_EVENT)
			return r;
	}
}

static int open_config(const char *path, size_t bytes_max, FILE **file, char *why, size_t why_size)
{
	struct stat st;
	int error;

	*file = fopen(path, "re");
	if (*file && fstat(fileno(*file), &st) == 0) {
		if (S_ISREG(st.st_mode) && (uint64_t)st.st_size <= bytes_max)
			return 0;
		fclose(*file);
		snprintf(why, why_size, "%s: not a file of at most %zu bytes", path, bytes_max);
		return -EINVAL;
	}
	error = errno;
	if (*file)
		fclose(*file);
	snprintf(why, why_size, "%s: %s", path, strerror(error));
	return -error;
}

/* From `file`, or where that is NULL from `text`. */
static int read_config(FILE *file, struct span text, const char *path, const struct config_format *format,
                       config_taker *entry, void *context, char *why, size_t why_size)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	int r;

	if (!reader || !yaml_parser_initialize(&reader->parser)) {
		free(reader);
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	reader->format = format;
	reader->entry = entry;
	reader->context = context;
	reader->path = path;
	reader->why = why;
	reader->why_size = why_size;
	if (file)
		yaml_parser_set_input_file(&reader->parser, file);
	else
		yaml_parser_set_input_string(&reader->parser, text.data, text.size);
	r = read_events(reader);
	yaml_parser_delete(&reader->parser);
	tdestroy(reader->seen, free);
	free(reader);
	return r;
}

int config_file_read(const char *path, const struct config_format *format, config_taker *entry, void *context, char *why,
                     size_t why_size)
{
	FILE *file;
	int r = open_config(path, format->bytes_max, &file, why, why_size);

	if (r)
		return r;
	r = read_config(file, (struct span){ 0 }, path, format, entry, context, why, why_size);
	fclose(file);
	return r;
}

int config_text_read(struct span text, const char *name, const struct config_format *format, config_taker *entry,
                     void *context, char *why, size_t why_size)
{
	if (text.size > format->bytes_max) {
		snprintf(why, why_size, "%s: longer than %zu bytes", name, format->bytes_max);
		return -EINVAL;
	}
	return read_config(NULL, text, name, format, entry, context, why, why_size);
}
