/*
 * names: file names put aside, in order: what is done to the entries of a directory may change it, and few descriptors may be open
 * in a deep tree.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* All-zero is empty. */
struct names {
	char *text;                      /* one after the other, each with its NUL */
	size_t size, capacity;
};

void names_fini(struct names *names);

/* Copied. False: no memory. */
bool names_add(struct names *names, const char *name);
/* The one that was added last goes again. */
void names_drop(struct names *names, const char *last);
bool names_have(const struct names *names, const char *name);

/* The one behind `name`; of NULL the first. NULL: there are no more. None is added meanwhile. */
const char *names_next(const struct names *names, const char *name);
