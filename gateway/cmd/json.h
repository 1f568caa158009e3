/* json: what --json prints, by jansson. */
#pragma once

#include <jansson.h>
#include <stdint.h>

/*
 * Prints `object` on one line on stdout and releases it. STATUS_OK; STATUS_EXHAUSTED when it is NULL (no memory);
 * STATUS_FAILURE when stdout refuses.
 */
int json_print(json_t *object);

/* Members of an object. Numbers above INT64_MAX are clamped; seconds are rounded to microseconds. */
void json_set_u64(json_t *object, const char *key, uint64_t value);
void json_set_seconds(json_t *object, const char *key, uint64_t ns);
/* Bytes that may be no UTF-8: then each bad byte becomes U+FFFD. NULL becomes null. */
json_t *json_text(const char *text);
void json_set_text(json_t *object, const char *key, const char *text);
