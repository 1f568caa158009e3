/*
 * place: a directory of a test's own, with a tree in it and a snapshot beside, and the manifests that are built of the tree
 * and held against it.
 */
#pragma once

#include "gateway/context/manifest.h"
#include "proto/tree.h"

struct place {
	char base[64], tree[80], snapshot[96];
	int fd;                          /* of the tree */
};

/* For cmocka: `*state` is the place. */
int place_setup(void **state);
int place_teardown(void **state);

void place_write(struct place *place, const char *name, const void *data, size_t size);
void place_write_text(struct place *place, const char *name, const char *text);
void place_make_directory(struct place *place, const char *name);
/* Some of everything that is allowed. Returns how many entries. */
unsigned place_make_everything(struct place *place);
/* Five directories of ten files each, and a file; a file's bytes are its path. */
void place_make_small(struct place *place);
/* Pseudo-random bytes that need chunks. */
uint8_t *noise(size_t size, uint64_t seed);
/* Waits until what was written before is old enough to be trusted: that is a matter of clocks, and of nothing else. */
void grow_old(void);

/* ---- manifests of its tree ---- */

struct manifest_options place_options(struct place *place);
struct manifest *place_build(struct place *place);
struct manifest *place_build_with(struct place *place, const struct manifest_options *options);
/* Builds, saves, and tells how many files were read. */
uint64_t place_build_and_save(struct place *place, struct digest *root);
/* No manifest is made, and this is said. */
void place_refuses(struct place *place, int expected, const char *sentence);

/* ---- what a manifest says ---- */

/* Compares the tree with the disk, down from here. Returns the entries seen. */
unsigned place_compare(struct manifest *manifest, int dir_fd, const struct digest *digest);
/* The node at a path of the tree; its spans are good until the next call. */
bool place_find(struct manifest *manifest, const char *path, struct tree_node *found);
bool place_holds(struct manifest *manifest, const char *path);
