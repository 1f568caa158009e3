/*
 * explain_roots: which paths differ between two trees, and how many bytes of chunks the newer one has that the other has
 * not: from Directory messages and recipes alone, no file's bytes. Only what differs is looked at, so a chunk counts as
 * shared when the path's former content, or that of another path that changed or went, has it; a copy of a file that did
 * not change counts as new.
 */
#pragma once

#include "gateway/context/explain.h"
#include "gateway/context/source.h"

struct explain_roots;

struct explain_roots_totals {
	uint64_t bytes_new, chunks_new;  /* of files: what `before` has not, each chunk once */
	uint64_t bytes_shared, chunks_shared;
	uint64_t directories_new, directories_bytes;     /* messages */
};

/*
 * Entries as in explain.h: `bytes_raw` and `chunks_sent` are of new chunks and the recipes that list them, `bytes_sent` is
 * 0. Those with the most new bytes come first. `before` NULL: the empty tree. 0, or difference_walk()'s errors with `why`.
 */
int explain_roots_create(struct explain_roots **roots, struct source *source, const struct digest *before,
                         const struct digest *after, char *why, size_t why_size);
void explain_roots_destroy(struct explain_roots *roots); /* NULL is accepted */
const struct explain_entry *explain_roots_entries(const struct explain_roots *roots, size_t *count);
const struct explain_roots_totals *explain_roots_totals(const struct explain_roots *roots);
