/* json: what --json prints, by jansson. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "proto/span.h"

/*
 * Prints `object` on one line on stdout and releases it. In ASCII: of other characters some end a line for some who read it, or
 * do something to a terminal. STATUS_OK; STATUS_EXHAUSTED when it is NULL (no memory); STATUS_FAILURE when stdout refuses.
 */
int json_print(json_t *object);

/* Members of an object. Numbers above INT64_MAX are clamped; seconds are rounded to microseconds. */
void json_set_u64(json_t *object, const char *key, uint64_t value);
void json_set_seconds(json_t *object, const char *key, uint64_t ns);
/* Bytes that may be no UTF-8: then each bad byte becomes U+FFFD. NULL becomes null. */
json_t *json_text(const char *text);
void json_set_text(json_t *object, const char *key, const char *text);

/*
 * A name or a path in a tree, and what a symlink points to, which may be any bytes: in the wire form of docs/tree.md, which is the
 * name itself unless that is no UTF-8, or looks as if it were escaped. No two have the same, and the bytes can be had again.
 */
json_t *json_path(struct span path);
json_t *json_target(struct span target);
