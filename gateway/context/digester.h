/*
 * digester: reads files and names their content in a table: a file of up to RECIPE_WHOLE_MAX bytes by its SHA-256, a
 * larger one by its recipe. Small files are gathered and hashed together, large ones pass through a window; so memory
 * is bounded, whatever the files' sizes. A large file that has changed is cut along the recipe that it had in the table's
 * former one. Takes the xattrs along. Blocking; one thread.
 *
 * A file that changes while it is read is read again, DIGESTER_READS times in all. What is recorded of its stat is what
 * was there before and after the reading.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/context/table.h"
#include "gateway/context/why.h"

#include <sys/stat.h>

#define DIGESTER_READS        4
#define DIGESTER_BATCH_FILES  1024
#define DIGESTER_BATCH_BYTES  (4u << 20)
#define DIGESTER_WINDOW_BYTES DIGESTER_BATCH_BYTES
/* In a batch or window, at most: the finest profile's shortest chunk is 4 KiB, and the file's tail is one more. */
#define DIGESTER_CONTENTS_MAX (DIGESTER_WINDOW_BYTES / 4096 + 1)

enum { DIGESTER_GONE = 1 };              /* the file is no longer there, or no longer a file */

struct digester;

struct digester_totals {
	uint64_t files, bytes, changed_during_read, ns;
	uint64_t guided; /* chunks that the file's former recipe proposed and that were there still: not scanned */
};

/*
 * Whoever wants what was read while it is in memory. When contents were hashed he is asked for room() for the next:
 * DIGESTER_BATCH_BYTES of malloc(), the digester's from then on; or NULL: these are not wanted. If there is room, give() follows
 * at once, with `bytes`, of the same size, which are his then. The contents (`data`, `size`, `digest`) lie in them; some may
 * prove not to be of any file, since it changed while it was read. Both may wait. Any thread.
 */
struct digester_taker {
	uint8_t *(*room)(void *context);         /* NULL: there is nobody */
	void (*give)(void *context, uint8_t *bytes, const struct sha256_job *contents, size_t count);
	void *context;
};

struct digester_options {
	struct table *table;
	const struct sha256 *hasher;
	struct why why;
	int64_t fresh_after_ns; /* files with later times get TABLE_ROW_FRESH, see digester_is_fresh() */
	/* After each window of a large file; false: no more (-ECANCELED). May be NULL. */
	bool (*progress)(void *context);
	/* The path of a row, for `why`, when the table alone does not say it; may be NULL. TABLE_NONE: see below. */
	void (*path)(void *context, uint32_t row, struct buffer *out);
	void *context;
	struct digester_taker taker;
	/* A test's chance to change the file between the reading and the look at its stat; NULL but in tests. */
	void (*after_read)(void *context, unsigned reads);
	void *after_read_context;
};

struct digester *digester_create(const struct digester_options *options);
void digester_destroy(struct digester *digester);

/*
 * Reads the file `name` of the directory `dir_fd` for `row`, whose stat was filled in from it. The row's content is
 * known after digester_flush() at the latest. 0; DIGESTER_GONE; -errno with `why`: it cannot be read, will not hold
 * still (-EBUSY), or carries an xattr that is refused (-EPERM).
 */
int digester_add(struct digester *digester, int dir_fd, const char *name, uint32_t row);
void digester_flush(struct digester *digester);
const struct digester_totals *digester_totals(const struct digester *digester);

/*
 * Puts the xattrs of the open file or directory into the table's arena. `row` is the one they are of; TABLE_NONE when
 * it is in another table: `path` knows. 0 or -errno with `why`.
 */
int digester_xattrs(struct digester *digester, int fd, uint32_t row, uint32_t *offset);

/* Fills in the row's stat, and whether it is too fresh to be trusted at the next scan. */
void digester_stat(struct table_row *row, const struct stat *st, int64_t fresh_after_ns);
/* The row was made from an entry with this stat. */
bool digester_same(const struct table_row *row, const struct stat *st);
