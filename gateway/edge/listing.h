/*
 * listing: what a DiffCopy sender says is in a directory, entry by entry in fsutil's walk order, and the tree that this is:
 * Directory messages (proto/tree.h) and their digests, once the contents of its files have names. An entry's number is its
 * place in the walk. Entries lie flat, each with the number of its parent and of the first one behind all below it.
 *
 *	listing_add … listing_end -> (every content has its name) listing_seal -> messages, digests, the root
 *
 * Memory: 128 bytes an entry and its texts; beyond LISTING_MEMORY_BYTES in files without names. No loop: the owner's
 * thread, one at a time; spilling blocks.
 */
#pragma once

#include "chunker/sha256.h"
#include "gateway/base/spill.h"
#include "gateway/cas/content_name.h"
#include "proto/fsutil.h"
#include "proto/tree.h"

#define LISTING_ENTRIES_MAX  (1u << 22)
#define LISTING_TEXT_MAX     (1u << 30)          /* names, targets, xattrs */
#define LISTING_MEMORY_BYTES (16u << 20)         /* of either, beyond which it is on disk */
#define LISTING_NONE         UINT32_MAX          /* no entry; as a parent: the root */

enum listing_flag {
	LISTING_RECIPE = 1,              /* the digest is of a recipe */
	LISTING_NAMED = 2,               /* the content has its name, or there is none to have */
	LISTING_TOLD = 8,                /* the owner's */
	LISTING_DATA = 4,                /* a plain file, and the first of its names: its content can be asked for */
};

struct listing_entry {
	uint8_t hash[DIGEST_HASH_BYTES]; /* of the content, its recipe, or the directory's message */
	uint64_t digest_size;
	uint64_t size;                   /* of the content; as was said, until it has its name */
	int64_t mtime_ns;
	uint64_t name, target, xattrs;   /* in the texts; 0: none */
	uint32_t parent, end;            /* `end`: the first entry behind those below it */
	uint32_t mode;                   /* st_mode */
	uint32_t depth;
	uint32_t hardlink;               /* the first of a file's names; LISTING_NONE: it is that itself */
	uint16_t name_size, target_size, xattrs_count;
	uint16_t flags;
	uint32_t next, state;            /* the owner's */
};

struct listing {
	struct spill entries, texts;
	uint32_t count, files;           /* files: with LISTING_DATA */
	uint32_t unnamed;                /* contents that have no name yet */
	uint64_t texts_bytes;
	uint32_t open[TREE_DEPTH_MAX];   /* the directories that the last entry lies in */
	uint32_t open_count;
	uint32_t within[TREE_DEPTH_MAX]; /* what the entries at each depth of these may take of a message, at most */
	bool broad;                      /* so much that a directory's may be longer than a tree's may be */
	bool ended, sealed;
	struct digest root;              /* sealed */
	uint32_t *directories;           /* sealed: entry numbers of directories, by digest; LISTING_NONE is the root */
	uint32_t directories_count;
	const char *fault;               /* why it is no tree: static */
};

/* `directory`: where what is too long for memory goes; outlives it. */
void listing_init(struct listing *listing, const char *directory);
void listing_fini(struct listing *listing);              /* all-zero is accepted */

static inline struct listing_entry *listing_at(const struct listing *listing, uint32_t number)
{
	return (struct listing_entry *)(void *)listing->entries.data + number;
}

static inline struct span listing_name(const struct listing *listing, const struct listing_entry *entry)
{
	return span_make(listing->texts.data + entry->name, entry->name_size);
}

/* Its xattrs as they lie in the texts, in the order of their names. */
struct span listing_xattrs(const struct listing *listing, const struct listing_entry *entry);

/*
 * One more entry. 0; -EINVAL: a tree cannot hold it, or the sender breaks fsutil's rules: `fault` says what; -ENOMEM or the
 * disk's errno.
 */
int listing_add(struct listing *listing, const struct fsutil_stat *stat);
/* There are no more. */
void listing_end(struct listing *listing);

/* Appends the path from the root. */
void listing_path(const struct listing *listing, uint32_t number, struct buffer *out);

/* Appends the entry as a Stat, as fsutil writes it. */
void listing_stat(const struct listing *listing, uint32_t number, struct buffer *out);

/* What a file with LISTING_DATA holds. Its `size` becomes the content's. */
void listing_set_content(struct listing *listing, uint32_t number, const struct content_name *name);
struct content_name listing_content(const struct listing_entry *entry);
struct digest listing_digest(const struct listing_entry *entry);

/*
 * After the end, when nothing is unnamed: gives each directory its digest. `hasher` is of the calling thread. 0, -EINVAL
 * with `fault`, -ENOMEM.
 */
int listing_seal(struct listing *listing, const struct sha256 *hasher);

/* Appends a directory's message; LISTING_NONE: the root's. Sealed, or all below it has its digest. 0 or as tree_encode(). */
int listing_encode(const struct listing *listing, uint32_t directory, struct buffer *out);

/* Sealed: the number of a directory with this digest, LISTING_NONE being the root. False: none. */
bool listing_find(const struct listing *listing, const struct digest *directory, uint32_t *number);

/* Walks a directory's own entries: the first, then each one's listing_next(); LISTING_NONE at the end. */
static inline uint32_t listing_first(const struct listing *listing, uint32_t directory)
{
	uint32_t first = directory == LISTING_NONE ? 0 : directory + 1;
	uint32_t end = directory == LISTING_NONE ? listing->count : listing_at(listing, directory)->end;

	return first < end ? first : LISTING_NONE;
}

static inline uint32_t listing_next(const struct listing *listing, uint32_t directory, uint32_t number)
{
	uint32_t end = directory == LISTING_NONE ? listing->count : listing_at(listing, directory)->end;
	uint32_t next = listing_at(listing, number)->end;

	return next < end ? next : LISTING_NONE;
}
