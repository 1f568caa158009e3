/*
 * closure: is everything below a root there? Walks down from the root level by level, in batches, and stops at each
 * directory and recipe that has a fresh closure mark; so the cost follows what changed. Marks what it found whole. A mark knows
 * a directory by its hash alone: whether a root has the size that somebody says is looked up.
 */
#pragma once

#include "gateway/cas/gate.h"
#include "gateway/store/store.h"
#include "proto/buffer.h"

#define CLOSURE_NODES_MAX   (1u << 20)           /* directories and recipes of one walk */
#define CLOSURE_LEAVES_MAX  (1u << 21)           /* blobs of one level */
#define CLOSURE_MISSING_MAX 16384                /* that are listed; all are counted */
#define CLOSURE_PATHS_MAX   8

enum closure_outcome {
	CLOSURE_WHOLE = 0,
	CLOSURE_HOLES = 1,               /* `missing` lists them */
	CLOSURE_MALFORMED = 2,           /* a directory or recipe (the root, too) is not one; `why` names it */
	CLOSURE_TOO_LARGE = 3,           /* beyond the bounds above; `why` */
};                                       /* negative: errno of the disk, -ENOMEM */

struct closure {
	struct store *store;
	struct gate *gate;               /* whose turn to wait for; NULL: none */
	struct scope scope;
	struct digest root;
	bool recipe;                     /* the root is a recipe, not a directory; of whose size there is no doubt */
	bool read_root;                  /* its mark is not asked, which knows no kind: recipes have marks, too */
	void (*fn)(struct closure *closure);
	void *owner;

	int result;
	struct buffer missing;           /* digest list */
	uint64_t missing_count;
	uint64_t nodes_too_long;         /* of these: directories and recipes that are longer than a record, wherever they are */
	struct buffer paths;             /* NUL-terminated, CLOSURE_PATHS_MAX at most */
	size_t paths_count;
	char why[512];
	uint64_t directories_read;       /* how many had no fresh mark */
	struct closure_walk *walk;       /* private */
	struct gate_pass pass;
};

/*
 * Fill in the first eight fields, the rest zero. `fn` comes from the loop, or inline. There is no cancel: whoever loses
 * interest waits for `fn`. What is found is true of one moment; who needs it to stay so holds the root from before
 * (store_hold_root).
 */
void closure_verify(struct closure *closure);
/* After `fn`, or of an all-zero one; all-zero afterwards. */
void closure_fini(struct closure *closure);
