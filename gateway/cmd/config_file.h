/*
 * config_file: a YAML file as a run of (key, value, line). Nested mappings become one key with separators ("tls.ca"); a
 * sequence of plain values gives one call an item. Aliases, tags, several documents and deeper sequences are refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/span.h"

enum {
	CONFIG_DEPTH_MAX = 8,            /* mappings in each other */
	CONFIG_KEY_MAX = 1023,           /* bytes, with those around it */
};

/* What a kind of file looks like. */
struct config_format {
	char separator;                  /* between the keys of nested mappings */
	bool mappings;                   /* tell of each nested mapping when it opens */
	size_t bytes_max, keys_max;
};
extern const struct config_format config_file_format;    /* of settings: dotted keys */

struct config_entry {
	const char *key;                 /* borrowed during the call, like `value` */
	const char *value;               /* NULL: a mapping that opens */
	unsigned line;                   /* from 1 */
	bool item;                       /* of a sequence; the first one has `first` */
	bool first;
};

/* False to stop, after writing to `why` (with no file and line: they are put before it). */
typedef bool config_taker(void *context, const struct config_entry *entry, char *why, size_t why_size);

/* 0; or -errno with one sentence in `why`; -EINVAL is the file's fault. The same key twice is refused. */
int config_file_read(const char *path, const struct config_format *format, config_taker *entry, void *context, char *why,
                     size_t why_size);
/* The same of bytes; `name` is what stands before a line's number. */
int config_text_read(struct span text, const char *name, const struct config_format *format, config_taker *entry,
                     void *context, char *why, size_t why_size);
