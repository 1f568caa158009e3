/*
 * tree_model: for tests: a tree as a plain table of entries, the blobs that it is made of, a source that serves them,
 * and the comparison with what is on disk.
 */
#pragma once

#include "gateway/context/source.h"
#include "proto/tree.h"

#include <sys/stat.h>

struct model_entry {
	const char *path;                /* parents may be left out: they are then directories of mode 0755 */
	mode_t type;                     /* S_IFREG … ; 0 is S_IFREG */
	uint32_t mode;                   /* 0: 0644, or 0755 of a directory */
	const char *text;                /* content, or target of a symlink */
	const char *hardlink;
	const char *xattr;               /* value of user.test; NULL: none */
	uint64_t large;                  /* not 0: content is that many bytes, made from `seed`, with a recipe */
	uint32_t seed;
	uint64_t edited;                 /* the bytes at this offset of a large file are others; 0: none */
};

#define MODEL_BLOBS_MAX 65536

struct model_blob {
	struct digest digest;
	uint8_t *data;
};

struct model {
	struct source source;            /* serves the blobs; first member */
	struct model_blob *blobs;
	size_t count;
	uint64_t fetches, fetched;       /* calls; bytes */
	uint64_t batch_bytes_max;        /* most bytes of one call */
	const struct digest *lost;       /* this one is answered with -ENOENT */
};

void model_init(struct model *model);
void model_fini(struct model *model);
struct digest model_add(struct model *model, const void *data, size_t size);

/* The root of the tree of these entries. Level-1 recipes are used for large files beyond `part_entries` chunks. */
struct digest model_tree(struct model *model, const struct model_entry *entries, size_t count, size_t part_entries);

/* Fails the test when the directory differs from the entries in names, types, modes, bytes, targets, links or xattrs. */
void model_compare(int dir_fd, const struct model_entry *entries, size_t count);

/* The bytes of a large file: pseudo-random, every other 64 KiB zero. */
void model_large_bytes(const struct model_entry *entry, uint64_t offset, uint8_t *out, size_t size);
