/*
 * What the parts of a check share. fsck.c puts it together; fsck_segments.c walks the records, fsck_index.c the entries
 * that name them, fsck_repairs.c gathers what is to be changed, fsck_owner.c sees as whom. Blocking, one thread.
 */
#pragma once

#include "gateway/store/fingerprints.h"
#include "gateway/store/fsck.h"
#include "gateway/store/index.h"
#include "gateway/store/layout.h"
#include "gateway/store/record.h"
#include "gateway/store/rows.h"
#include "gateway/store/scopes.h"
#include "gateway/store/segment.h"

#include <sys/types.h>

#define FSCK_ROWS_MAX     256            /* of the index, read at a time */
#define FSCK_CHANGES_MAX  1024           /* a transaction of repairs */

/* A repair, kept until a transaction's worth is there. */
struct fsck_change {
	enum index_change_kind kind;
	enum index_table table;
	uint8_t key[INDEX_KEY_MAX];      /* of a damaged row: of any length */
	uint8_t key_size, value_size;
	uint8_t value[ROW_RECORD_BYTES];
};

struct fsck_record {
	uint64_t place;                  /* segment << 32 | offset */
	uint32_t size;
	bool whole;
};

struct fsck {
	const char *path;
	bool repair;
	struct fsck_report *report;
	void (*problem)(void *context, const char *line);
	void *context;
	uint64_t problems;
	int error;                       /* the first thing that stopped the check */
	bool index_damaged;              /* it was a page of the index */

	int dir_fd;
	bool was_root;                   /* and is the owner of the store for now */
	gid_t root_gid;
	struct layout layout;
	struct index *index;
	struct row_segment rows[STORE_SEGMENTS_MAX];
	bool changed[STORE_SEGMENTS_MAX];
	bool segment_lost;               /* a file of a segment that the index knows is missing */
	uint64_t sequence;
	struct scopes scopes;
	uint32_t tenants;                /* the highest number in a record */

	/* The segment that is being walked. */
	uint32_t segment;
	bool adopt;                      /* the index does not know it: all that is whole counts */
	uint64_t adopted_end;

	struct fsck_record *seen;        /* records that the index names, in order of place */
	size_t seen_count, seen_capacity;
	struct fsck_change *fixes;
	size_t fixes_count, fixes_at;
	uint32_t rows_at;                /* of a transaction: the next segment whose row it takes */
	int meta_at;                     /* and the next of its rows of META */
	bool repairing, ending;          /* the first transaction was made; this one is the last */
	struct fingerprints unflushed;   /* blobs whose new entries are among the fixes */
	struct index_apply apply;
	uint8_t *page;
};

struct fsck_get {
	struct index_get get;
	int32_t size;
	uint8_t value[ROW_RECORD_BYTES];
};

/*
 * Before anything is opened or made, but with the lock: who is root works as the user that the store's directory belongs to, from here
 * to fsck_become_root(). What does not belong to that user is told, and given to it with `repair`; without, root goes on as root, who
 * alone can read it. 0 or -errno.
 */
int fsck_become_owner(struct fsck *fsck, int lock_fd);
void fsck_become_root(struct fsck *fsck);

/* Counts a problem, and tells it. */
__attribute__((format(printf, 2, 3))) void fsck_found(struct fsck *fsck, const char *format, ...);
/* What an operation of the index answered. */
void fsck_note(struct fsck *fsck, int r);
/* One row of the index: true when it is there, in `row`. Not what is among the changes. */
bool fsck_find(struct fsck *fsck, enum index_table table, struct span key, struct fsck_get *row);
/* All rows of a table in order; 0 or -errno. `visit` may add changes. */
int fsck_scan(struct fsck *fsck, enum index_table table, void (*visit)(struct fsck *fsck, const struct index_row *row));

/* A change to the index, made with others later, or not at all without `repair`; a failure is in `error`. */
void fsck_fix(struct fsck *fsck, enum index_change_kind kind, enum index_table table, struct span key, struct span value);
void fsck_fix_record_row(struct fsck *fsck, const struct record *record);
/* Names a record that the index has lost. */
void fsck_fix_entry(struct fsck *fsck, const struct record *record);
/* Takes an entry out whose record is not whole; marks that rest on its segment are stale from now on. */
void fsck_forget(struct fsck *fsck, const uint8_t *hash, const struct row_blob *blob);
/*
 * Makes the changes so far, with the rows of the segments that they disturb; 0 or -errno. From the first transaction to
 * fsck_end() the index says that it is being repaired, and no store opens it.
 */
int fsck_flush(struct fsck *fsck);
/* The same, even if there are no changes: before a repair that is long. */
int fsck_commit(struct fsck *fsck);
/* The last transaction. */
int fsck_end(struct fsck *fsck);

/* Every record of every segment, against itself and the index; 0 or -errno. */
int fsck_segments(struct fsck *fsck);
/* Every entry of the index, against the records that fsck_segments() saw; 0 or -errno. */
int fsck_index_entries(struct fsck *fsck);
