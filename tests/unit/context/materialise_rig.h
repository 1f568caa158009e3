/*
 * materialise_rig: a directory of a test's own, a model of the trees that it is made into, and what materialise() says of it.
 * For the tests of materialise.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/context/materialise.h"
#include "tests/unit/context/tree_model.h"

#define RIG_COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct rig {
	struct model model;
	char path[64];
	int top_fd, dir_fd;              /* a private directory; "root" in it */
	char why[512];
	struct materialise_totals totals;
};

/* A test's state is its rig. */
#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
int rig_setup(void **state);
int rig_teardown(void **state);

struct materialise_options rig_options(struct rig *rig, const struct digest *base, struct digest root);
/* What materialise() returns; `why` and `totals` are the rig's. */
int rig_apply(struct rig *rig, const struct digest *base, struct digest root);
/* The test fails when that does. */
void rig_apply_good(struct rig *rig, const struct digest *base, struct digest root);
/* Of a path in "root", which is there; symlinks are not followed. */
struct stat rig_stat(struct rig *rig, const char *path);

/* The root of a tree of these entries, an array. */
#define RIG_TREE(rig, entries) model_tree(&(rig)->model, (entries), RIG_COUNT(entries), 0)

/* Some of everything that is allowed. */
extern const struct model_entry rig_everything[29];
