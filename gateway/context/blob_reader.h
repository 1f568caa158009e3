/*
 * blob_reader: the bytes of a table's blobs: messages and recipes made again, files and chunks read again, and all
 * checked against their digests, many at once. The directory and the file that were read last stay open: what is asked
 * for next is likely to be there. Blocking; one thread.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/context/lookup.h"
#include "gateway/context/why.h"

#define BLOB_READER_BATCH 64             /* blobs that are hashed together */

struct blob_reader;

struct blob_piece {
	struct digest digest;
	void *buffer;                    /* room for digest.size bytes */
};

/* All three are borrowed; the table must not change any more. NULL: no memory. */
struct blob_reader *blob_reader_create(struct table *table, int dir_fd, const struct sha256 *hasher);
/* Another one, for another thread. It borrows all from the first, whose look-ups are made now. NULL: no memory. */
struct blob_reader *blob_reader_beside(struct blob_reader *first);
void blob_reader_destroy(struct blob_reader *reader);

/* Where a blob is: 0; -ENOENT; -ENOMEM. */
int blob_reader_find_directory(struct blob_reader *reader, const struct digest *digest, struct lookup_place *place);
int blob_reader_find_content(struct blob_reader *reader, const struct digest *digest, struct lookup_place *place);

/*
 * Reads all, or ends at the first that fails: -ENOENT no such blob; -ESTALE with `why`: its file has changed since the
 * scan; -EIO, -EUCLEAN with `why`: the disk failed; -EBADMSG: the table's digest of it is wrong; -errno.
 */
int blob_reader_read(struct blob_reader *reader, const struct blob_piece *pieces, size_t count, struct why why);

/* A file that was -ESTALE to it, or to one beside it, has still the stat of its row, which was no fresh one. */
bool blob_reader_unseen(const struct blob_reader *first);

/* A directory's message or a recipe, which are made from the table alone, likewise; -ENOENT of all else. */
int blob_reader_make(struct blob_reader *reader, const struct blob_piece *piece, struct why why);
