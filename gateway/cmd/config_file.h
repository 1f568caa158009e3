/*
 * config_file: a YAML file as a run of (key, value, line). Nested mappings become dotted keys ("tls.ca"); a sequence of
 * plain values gives one call an item. Aliases, tags, several documents and deeper sequences are refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config_entry {
	const char *key;                 /* borrowed during the call, like `value` */
	const char *value;
	unsigned line;                   /* from 1 */
	bool item;                       /* of a sequence; the first one has `first` */
	bool first;
};

/*
 * `entry` returns false to stop, after writing to `why` (with no file and line: they are put before it). 0; or -errno
 * with one sentence in `why`; -EINVAL is the file's fault. The same key twice is refused.
 */
int config_file_read(const char *path,
                     bool (*entry)(void *context, const struct config_entry *entry, char *why, size_t why_size),
                     void *context, char *why, size_t why_size);
