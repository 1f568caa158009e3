/*
 * content: writes the files of a tree beneath a directory, their bytes fetched in batches: small files and the chunks
 * of large ones together, up to CONTENT_BATCH_BYTES a fetch, each distinct blob once. All-zero blocks become holes.
 * Of a large file whose former version is at hand, the chunks that it has already are copied from there.
 *
 * At any time one batch is in memory (the source lends its bytes), and at most CONTENT_BATCH_PIECES pieces are queued.
 * Blocking; one thread.
 */
#pragma once

#include "gateway/context/source.h"
#include "gateway/context/why.h"
#include "proto/tree.h"

#define CONTENT_BATCH_BYTES    (4u << 20)
#define CONTENT_BATCH_PIECES   1024
#define CONTENT_RECIPES        64                /* large files that wait for their recipes: two descriptors each */
#define CONTENT_BLOB_BYTES_MAX (64u << 20)       /* a file without a recipe (of other clients) is one blob in memory, unless
                                                  * the source gives it in pieces: then any length */

struct content;

struct content_options {
	int dir_fd;
	struct source *source;
	bool set_owner;
	uint32_t uid, gid;
	uint32_t mode_mask;                      /* of the low 12 bits of the mode, those that are kept */
	struct why why;
	void (*progress)(void *context, uint64_t files, uint64_t bytes);
	void *context;
};

struct content_totals {
	uint64_t files, bytes;                   /* written */
	uint64_t bytes_fetched, bytes_reused;    /* asked of the source; copied from a former version */
};

struct content *content_create(const struct content_options *options);
/* Files that are not whole are removed. */
void content_destroy(struct content *content);

/*
 * Queues a file that does not exist yet at `path`; it is there when content_finish() has returned. `before`, when not
 * NULL, is what `before_fd` (consumed; -1 for none) is known to hold. 0 or -errno with `why`.
 */
int content_add(struct content *content, const char *path, const struct tree_node *node, const struct tree_node *before,
                int before_fd);
int content_finish(struct content *content);
const struct content_totals *content_totals(const struct content *content);

/* Sets exactly these user.* attributes; `fresh`: there are none yet. */
int content_set_xattrs(struct why why, int fd, const char *path, const struct tree_xattr *xattrs, size_t count, bool fresh);
