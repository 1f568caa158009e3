/*
 * roots: which root a context had when it was played last, so that its edge need only look at what is different. A hint:
 * what is forgotten costs the edge a walk along closure marks. In memory, of the ROOTS_MAX contexts used last. Pure.
 */
#pragma once

#include "proto/digest.h"

#define ROOTS_MAX       4096
#define ROOTS_KEY_BYTES 32

struct roots {
	struct roots_row *rows;          /* NULL: nothing was remembered yet */
	uint32_t count;
	uint64_t clock;
};

/* False: not known. */
bool roots_find(struct roots *roots, const uint8_t key[static ROOTS_KEY_BYTES], struct digest *root);
/* May be dropped for want of memory. */
void roots_remember(struct roots *roots, const uint8_t key[static ROOTS_KEY_BYTES], const struct digest *root);
void roots_fini(struct roots *roots);            /* all-zero is accepted */
