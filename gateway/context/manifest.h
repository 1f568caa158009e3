/*
 * manifest: a directory of the client as a tree, ready to be pushed: every directory with its digest, and for each blob
 * below where its bytes are. Made by scanning (scan.h) with the help of the last snapshot, so that its cost
 * follows what changed. Blocking; any thread, one at a time.
 *
 * In memory are a row an entry (about 100 bytes and the name) and 40 bytes a chunk of changed files; messages, recipes
 * and contents are made or read again when they are asked for.
 */
#pragma once

#include "gateway/context/blob_reader.h"
#include "gateway/context/digester.h"
#include "gateway/context/ignore_file.h"
#include "gateway/context/table.h"
#include "proto/digest.h"
#include "proto/tree.h"

struct manifest;

struct manifest_options {
	const char *path;                /* the directory */
	const char *snapshot_path;       /* where the snapshot of this directory is kept; NULL: none is used */
	bool read_all;                   /* that is kept anew, and not believed */
	const struct ignore_file *ignore_file;   /* NULL: `path`/.dockerignore when it is there and `use_ignore` */
	bool use_ignore;
	unsigned threads;                /* that scan: see scan.h; 0: as many as there are cores */
	struct digester_taker taker;     /* of what is read; see digester.h */
	/* At most every 1,000 entries or 8 MiB, and once at the end; by any thread, one at a time. */
	void (*progress)(void *context, uint64_t entries, uint64_t files_read, uint64_t bytes_read);
	void *context;
};

struct manifest_totals {
	uint64_t files, directories, symlinks, others; /* in the tree; the root is a directory, too */
	uint64_t bytes;                  /* of the files */
	uint64_t files_read, bytes_read, changed_during_read;
	uint64_t chunks; /* pieces of content that the tree names: small files, and chunks of large ones */
	uint64_t scan_ns, read_ns;
};

/*
 * 0 or -errno; `why` gets one sentence naming the path: a device node (refused), a file that will not hold still, a
 * name that is too long, an unreadable file …
 */
int manifest_build(struct manifest **manifest, const struct manifest_options *options, char *why, size_t why_size);
void manifest_destroy(struct manifest *manifest);

const struct digest *manifest_root(const struct manifest *manifest);
const struct manifest_totals *manifest_totals(const struct manifest *manifest);

/*
 * The children of a directory of this tree: subdirectories, and the content blobs (small files, recipes) that it names
 * directly; the empty blob is left out. Borrowed until the next call. 0; -ENOENT: no such directory in this tree;
 * -ENOMEM.
 */
struct manifest_children {
	const struct digest *directories;
	size_t directories_count;
	const struct digest *contents;   /* blobs: whole small files, and recipes of large ones */
	const bool *recipes;             /* parallel to contents */
	size_t contents_count;
};
int manifest_children(struct manifest *manifest, const struct digest *directory, struct manifest_children *children);

/* The blobs that a recipe names: parts (level 1) or chunks. Borrowed until the next call. 0, -ENOENT, -errno. */
int manifest_recipe_children(struct manifest *manifest, const struct digest *recipe, const struct digest **blobs,
                             bool *are_recipes, size_t *count);

/*
 * Which entry a blob of this tree is of: the row of the directory, or of the first file that holds it, and as what. 0,
 * -ENOENT, -ENOMEM.
 */
int manifest_find(struct manifest *manifest, const struct digest *blob, uint32_t *row, enum lookup_kind *kind);
/* The rows themselves; and those of the last scan, NULL when there was no snapshot. Borrowed for the manifest's life. */
const struct table *manifest_table(const struct manifest *manifest);
const struct table *manifest_former_table(const struct manifest *manifest);

/*
 * The bytes of a blob of this tree (Directory message, recipe, small file, chunk), read again and checked against its
 * digest. `buffer` has room for digest.size bytes. 0; -ENOENT; -ESTALE: the file has changed since it was scanned
 * (`why` names it).
 */
int manifest_read(struct manifest *manifest, const struct digest *digest, void *buffer, char *why, size_t why_size);

/* What was -ESTALE is so though its stat has not changed: the next scan would believe the snapshot of it again. */
bool manifest_disproved(const struct manifest *manifest);

/*
 * As manifest_read for many, checked together, which is several times as fast: as many as are to be sent together. Ends
 * at the first that fails. Neighbours in a file or directory are best read one after the other.
 */
int manifest_read_many(struct manifest *manifest, const struct blob_piece *pieces, size_t count, char *why,
                       size_t why_size);

/*
 * For reading on another thread while this one asks the manifest for other things: a reader, made on this thread and
 * destroyed (blob_reader_destroy()) before the manifest. NULL: no memory.
 */
struct blob_reader *manifest_reader(struct manifest *manifest);
/* As manifest_read_many(). On any thread, one at a time for each reader. */
int manifest_read_beside(const struct manifest *manifest, struct blob_reader *reader, const struct blob_piece *pieces, size_t count,
                         char *why, size_t why_size);

/*
 * What a blob of this tree is likely to resemble in the last committed one (former.h), at most `max` blobs. How many; 0 when that was
 * not committed to the gateway `gateway_id`.
 */
size_t manifest_bases(struct manifest *manifest, struct span gateway_id, const struct digest *blob, struct digest *bases, size_t max);
/* The bytes of one of these: of a directory or recipe. -ENOENT: of a content, which was not kept. Else as manifest_read(). */
int manifest_read_base(struct manifest *manifest, const struct digest *digest, void *buffer);

/*
 * After the root was committed: keep the snapshot for the next time (written aside, synced, renamed). Writes nothing
 * when nothing has changed. 0 or -errno.
 */
int manifest_save(struct manifest *manifest);

/*
 * After the root was committed to the gateway `gateway_id`: to be remembered in the snapshot (so before
 * manifest_save()). Next time manifest_committed_to() says whether the snapshot's tree was last committed to that
 * gateway, and manifest_known() whether a blob (Directory message, whole file, recipe, chunk) was part of that tree:
 * what is not known is what changed, and the only thing to ask about.
 */
void manifest_committed(struct manifest *manifest, struct span gateway_id);
bool manifest_committed_to(const struct manifest *manifest, struct span gateway_id);
bool manifest_known(struct manifest *manifest, struct span gateway_id, const struct digest *blob);
