/*
 * assemble: Directory messages from a table's rows, and the digests of all that is dirty, from the leaves up. Messages
 * are made when they are needed and not kept. Pure.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/context/table.h"
#include "gateway/context/why.h"

struct assembler;

struct assembler *assembler_create(struct table *table, const struct sha256 *hasher, struct why why);
void assembler_destroy(struct assembler *assembler);

/* Appends the message of one directory, whose subdirectories are clean. 0 or -errno with `why`. */
int assembler_encode(struct assembler *assembler, uint32_t directory, struct buffer *out);

/*
 * Gives every dirty directory its digest; what was dirty is clean afterwards. A directory whose digest has changed
 * makes its parent dirty. 0 or -errno with `why`.
 */
int assembler_run(struct assembler *assembler);
