/*
 * log: one line a state change or refusal, by its owner: a fixed event name, then key=value pairs; or the same as one
 * JSON object. Lines go to stderr (or the file given) in one write(2) each, from any thread. Values with blanks or
 * quotes are quoted; what may not be shown (visible.h) is escaped, byte by byte. Never log a header value, a token or a key.
 *
 *	log_event(LOG_WARNING, "stream reset", LOG_U64("conn", 17), LOG_TEXT("code", "FLOW_CONTROL"));
 */
#pragma once

#include "proto/span.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log_field {
	const char *key;
	enum { LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_SPAN } kind;
	uint64_t number;
	struct span text;
};

#define LOG_U64(k, v)  ((struct log_field){ .key = (k), .kind = LOG_FIELD_U64, .number = (uint64_t)(v) })
#define LOG_I64(k, v)  ((struct log_field){ .key = (k), .kind = LOG_FIELD_I64, .number = (uint64_t)(int64_t)(v) })
#define LOG_SPAN(k, v) ((struct log_field){ .key = (k), .kind = LOG_FIELD_SPAN, .text = (v) })
#define LOG_TEXT(k, v) LOG_SPAN((k), span_text(v))

#define log_event(level, event, ...)                                                                                   \
	log_write((level), (event), (const struct log_field[]){ { 0 }, ##__VA_ARGS__ },                                \
	          sizeof((const struct log_field[]){ { 0 }, ##__VA_ARGS__ }) / sizeof(struct log_field))

/* Process-wide, before threads start. `fd` is not owned. */
void log_setup(int fd, enum log_level least, bool json);
/* The first field is skipped (it only makes the macro work without fields). */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count);
