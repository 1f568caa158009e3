/*
 * ignore_pattern: one pattern of a .dockerignore, and which paths it matches. As in moby/patternmatcher a pattern
 * without special characters is compared, "x**" is a prefix, "**x" a suffix, and the rest runs through an automaton
 * over UTF-8 runes, in which "*" is a run without '/', "?" one rune but '/', "**" and "**" + '/' nothing or anything
 * that ends in '/' (at the pattern's end: anything), and "[a-z]" or "[^a-z]" a class (which may match '/'). No
 * backtracking: time is bounded by the product of both lengths. Pure.
 */
#pragma once

#include "proto/span.h"

#define IGNORE_PATTERN_BYTES_MAX 4096

struct ignore_pattern;

/*
 * `text` is clean (no "//", "/./", "/" at the end) and was stripped of "!". 0; -ENOMEM; -EINVAL with `*fault` saying
 * what is wrong with it (static text).
 */
int ignore_pattern_create(struct ignore_pattern **pattern, struct span text, const char **fault);
void ignore_pattern_destroy(struct ignore_pattern *pattern);

bool ignore_pattern_matches(const struct ignore_pattern *pattern, struct span path);

/*
 * Whether the pattern could match something below the directory `path`. May say yes when it cannot, never the reverse.
 */
bool ignore_pattern_may_match_below(const struct ignore_pattern *pattern, struct span path);
