/*
 * why: the one sentence that goes with an error, for the person who has to act on it. It names the path first.
 */
#pragma once

#include "gateway/base/err.h"

#include <stddef.h>

struct why {
	char *text;              /* borrowed from the caller; always NUL-terminated when size is not 0 */
	size_t size;
};

/* Writes "PATH: formatted text" ("." for the empty path) and returns `r`, a negative errno, with its site noted. */
#define WHY_RAISE(why, r, path, ...) (why_write((why), (path), __VA_ARGS__), ERR_RAISE(r))

__attribute__((format(printf, 3, 4))) void why_write(struct why why, const char *path, const char *format, ...);
