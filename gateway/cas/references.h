/* references: the blobs that a directory or a recipe names. Pure. */
#pragma once

#include "gateway/store/store.h"
#include "proto/tree.h"

struct reference {
	struct digest digest;
	enum store_kind kind;
	struct span name;                /* in a directory; borrowed during the visit */
};

extern const char references_no_memory[];        /* what is wrong then is nothing of the blob's */

typedef bool reference_fn(void *context, const struct reference *reference);     /* false: stop */

/*
 * NULL, or what is wrong with the blob (static text); then `name` is the entry that it is about, "" when it is about all.
 * The empty file is no reference.
 */
const char *references_of(enum store_kind kind, struct span blob, reference_fn *visit, void *context,
                          char name[static TREE_NAME_MAX + 1]);

/* The same in the form that store_config.references wants: false when the blob is malformed. */
bool closure_references(enum store_kind kind, struct span blob,
                        void (*visit)(void *context, const struct store_reference *reference), void *context);
