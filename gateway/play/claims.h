/*
 * claims: what an executor was told of a directory's entries under one stable key: under it (local name, path, size, mtime)
 * names one content, ever. So an entry whose content is that of the last time keeps its mtime, whatever the client's disk says, and
 * another content gets an mtime that its path never had.
 *
 * Two tables: of each path the content and mtime of now, and the set of all (path, size, mtime) that were ever used. The
 * second keeps 64 bits of each: two that are taken for one cost a nanosecond, nothing else. Keys and contents are 128 bits of
 * a keyed hash. Pure; memory beyond CLAIMS_MEMORY_ROWS is a mapped file.
 */
#pragma once

#include "gateway/base/spill.h"
#include "proto/span.h"

#define CLAIMS_MAX         (1u << 23)    /* made under one key; then it is over, and another key begins */
#define CLAIMS_RECORDS_MAX (2 * CLAIMS_MAX)      /* with those that only say a content */
#define CLAIMS_MEMORY_ROWS 100000u
#define CLAIM_HASH_BYTES   16
#define CLAIMS_IN_A_ROW    64            /* mtimes that are tried one after the other, when the wanted one was used; */
#define CLAIMS_SPREAD_NS   1000000000u   /* then any that is less far behind it: CLAIMS_MAX use up one of 119 */
#define CLAIMS_TRIES_MAX   80            /* of both together */

struct claim_hash {
	uint8_t bytes[CLAIM_HASH_BYTES];
};

/* As in memory, so in the file. */
struct claim {
	struct claim_hash path;          /* of the local name and the path */
	struct claim_hash content;       /* what it is and holds: two that are equal are one */
	uint64_t size;
	int64_t mtime_ns;
};
#define CLAIM_BYTES 48

struct claims {
	uint64_t seed;                   /* nobody outside knows it */
	struct spill rows, used;
	uint32_t rows_capacity, rows_count;
	uint32_t used_capacity, used_count;
	uint32_t count, records;         /* ever made; with those that only said what content a path has that was told already */
};

/* `directory`: where large tables go. */
void claims_init(struct claims *claims, uint64_t seed, const char *directory);
void claims_fini(struct claims *claims);         /* all-zero is accepted */

struct claim_hash claims_path(const struct claims *claims, struct span name, struct span path);
/* Of parts one after the other; what tells them apart is the caller's to put in. */
struct claim_hash claims_content(const struct claims *claims, const struct span *parts, size_t count);

/* True: the path has this content now; `mtime_ns` is what was said of it. */
bool claims_find(const struct claims *claims, const struct claim_hash *path, const struct claim_hash *content,
                 int64_t *mtime_ns);
/* What was said of the path last, whatever its content. */
bool claims_latest(const struct claims *claims, const struct claim_hash *path, int64_t *mtime_ns);

enum claims_outcome {
	CLAIMS_KNOWN = 0,                /* claim->mtime_ns is what was said already */
	CLAIMS_MADE = 1,                 /* it is new: to be durable before anybody hears of it */
	CLAIMS_FULL = 2,                 /* CLAIMS_MAX or CLAIMS_RECORDS_MAX, or no mtime was found: nothing was made */
};                                       /* -ENOMEM, or errno of the disk */
/* `claim->mtime_ns` is the wanted one; out: what it is. */
int claims_make(struct claims *claims, struct claim *claim);
/*
 * Of a further name of a file, whose mtime is the file's, as it is one at the executor: nothing else can be said of it. That
 * its path had this mtime with another content is no harm there: executors tell a name from a file by more than that. But then its
 * content must be none that a file can have, for which this mtime would be believed.
 * CLAIMS_KNOWN, CLAIMS_MADE, CLAIMS_FULL, -errno as claims_make(); the mtime stays.
 */
int claims_follow(struct claims *claims, const struct claim *claim);
/*
 * What a path was told with an mtime that was its alone, before its content was known: the content, if it has the size that was
 * told. CLAIMS_MADE, or CLAIMS_KNOWN: something else was told since, or of another size, and nothing changes.
 */
int claims_name(struct claims *claims, const struct claim *claim);
/* One that was made before, from the file, in the order in which they were made. As claims_make(), never KNOWN. */
int claims_replay(struct claims *claims, const struct claim *claim);
