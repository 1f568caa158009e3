/* evict_rig: a store that tests of eviction write full, and a tree in it. */
#pragma once

#include "tests/unit/store/fixture.h"

#define CEILING    (64ull << 20)
#define BLOB_BYTES 100000
#define ROUND      20                        /* blobs a put */

/* For cmocka: `*state` is a fixture, open. At the end fsck finds nothing wrong in it. */
int evict_setup(void **state);
int evict_teardown(void **state);
/* Puts the blobs of that number; the result. */
int put_round(struct fixture *fixture, uint64_t number);
/* Writes `bytes` of blobs that nobody asks for again. */
void churn(struct fixture *fixture, uint64_t number, uint64_t bytes);

/* A root with one directory below it and some files in both. */
struct tree {
	struct blob files[8], below, root;
};
void tree_make(struct tree *tree, uint64_t number);
/* Makes it, and puts it for a; its files for b, too. */
void tree_put(struct fixture *fixture, struct tree *tree, uint64_t number);
void assert_whole(struct fixture *fixture, const struct tree *tree);
void tree_free(struct tree *tree);
