/*
 * keyed: builds under stable keys, over real sessions, with a daemon that keeps a tree under each key as buildkitd does and
 * believes size and mtime. A test fails when the daemon is left with old bytes. For tests, each of which begins without any
 * table or key.
 */
#pragma once

#include "tests/unit/session/edge_stand_in.h"

/* What lies on the daemon's disk under one key, by path; `link`: of a further name, the first one. */
struct keyed_disk {
	char key[64];
	struct { char path[64], link[64]; uint64_t size; int64_t mtime_ns; uint32_t seed; bool directory; } files[RIG_FILES_MAX];
	uint32_t count;
};

/* How the next builds go; all zero: as they should. */
struct keyed_plan {
	const char *directory;           /* dir-name; NULL: "context" */
	const char *unfit;               /* the edge cannot give it */
	bool passing;                    /* but may another time */
	bool refuses;                    /* it takes no call */
	bool ahead;                      /* the edge sends entries and names before its root, when it may */
	bool names_links;                /* of hard links, too */
	uint32_t same;                   /* entries of which it says so before its root, when it may */
	enum grpc_status ends;           /* how the call is to end */
	struct rig_tree *listed;         /* what the client has; NULL: the tree */
	bool silent;                     /* the edge says nothing before `meanwhile` */
	void (*meanwhile)(void);         /* behind `same` or nothing, in place of the root */
};

extern struct rig keyed_rig;
extern struct rig_tree keyed_tree;       /* the context; the tests make and change it */
extern struct stand_in keyed_edge;       /* of the build under way, or the last one */
extern struct keyed_plan keyed_plan;
extern struct keyed_disk *keyed_disk;    /* of the key under way */
extern unsigned keyed_disks_count;       /* keys that were seen */
extern int64_t keyed_mtimes[RIG_FILES_MAX];      /* of the tree's files, as the daemon heard them */
extern bool keyed_asked[RIG_FILES_MAX];          /* the daemon asked for this one */
extern struct rig_copy *keyed_copy;      /* that goes on while `meanwhile` is called behind `same` */

/* For main(). */
#define keyed_run(argc, argv, tests) (keyed_choose(argc, argv), cmocka_run_group_tests(tests, NULL, NULL))
void keyed_choose(int argc, char **argv);
#define KEYED_TEST(test) cmocka_unit_test_setup_teardown(test, keyed_setup, keyed_teardown)
int keyed_setup(void **state);
int keyed_teardown(void **state);

/* One build of the tree by whoever has this key of a directory. Returns how many files the daemon asked for. */
uint32_t keyed_build(const char *client_key);
/* From inside `meanwhile`: of another tree, by another client of this directory, at a daemon that has nothing. */
void keyed_build_other(struct rig_tree *tree, const char *client_key);
/* For a copy's `wants`: the test that fsutil's receiver makes. */
bool keyed_wants(const struct rig_file *file);
/* The edge has the tree as it is now. */
void keyed_take_tree(void);
void keyed_touch_all(int64_t by);
uint32_t keyed_files_of(const struct rig_tree *of);      /* without directories */
