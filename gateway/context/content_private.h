/*
 * content_private: what content.c (the public calls, and the batch of pieces that is fetched next), content_file.c (a
 * file that is being written) and content_recipe.c (large files: their recipes, and what a former version has of them)
 * share.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/context/content.h"

#define TABLE_SLOTS 2048                 /* a power of two, twice CONTENT_BATCH_PIECES */

struct content_file {
	struct list link;
	int fd;                          /* -1 until its first bytes come, and when it is whole */
	bool made;                       /* it has its name */
	int before_fd;                   /* -1: no former version */
	struct digest recipe, before_recipe;
	uint64_t size, remaining;
	uint64_t before_size;
	bool expanding;                  /* its recipe is being read: whoever reads it destroys it */
	uint32_t mode;
	struct tree_xattr *xattrs;       /* with names and values behind it, one allocation */
	size_t xattrs_count;
	char path[];
};

/* Bytes that a file waits for. Pieces of one blob are chained. */
struct piece {
	struct content_file *file;
	uint64_t offset;
	int32_t next;                    /* -1: the last */
};

struct content {
	struct content_options options;
	struct content_totals totals;
	struct list files;
	struct content_file *recipes[CONTENT_RECIPES];
	size_t recipes_count;

	struct piece pieces[CONTENT_BATCH_PIECES];
	size_t pieces_count;
	struct digest blobs[CONTENT_BATCH_PIECES];
	int32_t first[CONTENT_BATCH_PIECES];             /* of each blob: its newest piece */
	size_t blobs_count, blobs_seen;
	uint64_t blobs_bytes;
	int16_t table[TABLE_SLOTS];                      /* digest to blob, open addressing; -1: free */
};

/* Where a chunk of a former version is. */
struct known_chunk {
	struct digest digest;
	uint64_t offset;
};

/* One fetch of the source's: 0, or -errno with `why`. */
int content_fetch(struct content *content, const struct digest *digests, size_t count,
                  int (*visit)(void *context, size_t index, struct span blob), void *context);
/* `file` waits for a blob, to be written at `offset`. What waited before may be fetched now: 0 or -errno with `why`. */
int content_want(struct content *content, struct content_file *file, const struct digest *digest, uint64_t offset);

/* Of content.files; nothing is made yet. NULL: no memory. */
struct content_file *content_file_create(struct content *content, const char *path, const struct tree_node *node);
/* Closes it, whole or not. */
void content_file_destroy(struct content_file *file);
/* Destroys one that nothing more comes for; what was made of it is removed. */
void content_file_abandon(const struct content *content, struct content_file *file);
/* Bytes of it came; its last ones finish it, and destroy it unless it is expanding. 0 or -errno with `why`. */
int content_file_write(struct content *content, struct content_file *file, struct span data, uint64_t offset);
/* The same of a chunk that the former version holds. `*reused` is left alone: it has to be fetched after all. */
int content_file_reuse(struct content *content, struct content_file *file, const struct known_chunk *known,
                       uint64_t offset, bool *reused);
/* It has no bytes: made, finished and destroyed. 0 or -errno with `why`. */
int content_file_empty(struct content *content, struct content_file *file);

/* The file has a recipe, which is read with others'. 0 or -errno with `why`. */
int content_recipe_add(struct content *content, struct content_file *file);
/* Reads the recipes that wait: all chunks of their files are copied, or waited for. 0 or -errno with `why`. */
int content_recipe_flush(struct content *content);
