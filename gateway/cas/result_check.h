/*
 * result_check: is all that an ActionResult names there: its files, its streams, its Trees with all their files, and
 * directories given by their root? What is there is held until result_check_fini().
 */
#pragma once

#include "gateway/cas/presence.h"
#include "gateway/cas/blob_get.h"
#include "proto/reapi_cas.h"

#define RESULT_NAMES_MAX      (1u << 20)         /* blobs that one result names */
#define RESULT_TREES_MAX      1024               /* output directories */
#define RESULT_TREE_BYTES_MAX (32u << 20)
#define RESULT_MISSING_MAX    64                 /* that are listed */

enum result_outcome {
	RESULT_WHOLE = 0,
	RESULT_HOLES = 1,                /* `missing` */
	RESULT_MALFORMED = 2,            /* it, or a Tree; `why` */
	RESULT_TOO_LARGE = 3,            /* `why` */
};                                       /* negative: -errno */

struct result_check {
	struct cas *cas;
	struct scope scope;
	struct span result;              /* an ActionResult; borrowed until `fn` */
	void (*fn)(struct result_check *check);
	int outcome;
	const char *why;                 /* static text */
	struct digest missing[RESULT_MISSING_MAX];
	size_t missing_count;
	/* The rest is result_check's. */
	struct store_hold *hold;
	struct digest *names;
	size_t names_count, names_capacity, looked;
	bool *present;
	struct digest *trees, *roots;
	size_t trees_count, trees_at, roots_count, roots_at;
	bool running, waiting;
	struct presence presence;
	struct gate_pass pass;           /* of cas->trees, from the first Tree on until the end: what it names is in memory */
	bool passed;
	struct blob_get get;
	struct closure closure;
};

/* The first four fields are the caller's, the rest zero. `fn` comes inline or later, and may end it; no cancel. */
void result_check(struct result_check *check);
/* After `fn`, or of an all-zero one; all-zero afterwards. */
void result_check_fini(struct result_check *check);
