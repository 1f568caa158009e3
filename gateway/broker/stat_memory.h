/*
 * stat_memory: what clients' directories looked like: (path, size, mtime) -> content, so that a file which the client
 * would only send again is taken from the store. This trusts a stat as BuildKit itself does; so it is trusted only within
 * one *trust key*: 32 bytes that the caller makes of all that tells clients and directories apart (tenant, certificate
 * subject, shared key, directory name). A client without a shared key has no table.
 *
 * A *table* a trust key: in memory while somebody uses it and for a while after (STAT_MEMORY_IDLE_BYTES_MAX, the least
 * recently used goes first), and in a file `<directory>/<key in hex>`, 0600, written aside and renamed. A file that is
 * damaged, foreign or of another version is an empty table and a log line. Concurrent builds of one key share the table.
 * Past STAT_TABLE_MAPPED_ENTRIES a table is a mapped, unlinked file in that directory. Files are read, written and made
 * in ring_work: the loop never waits.
 *
 * All on the ring's thread. Events come from the loop, never from inside a call of this header.
 */
#pragma once

#include "gateway/broker/stat_slots.h"
#include "gateway/ring/ring.h"

#define STAT_KEY_BYTES              32           /* a trust key */
#define STAT_TABLE_ENTRIES_MAX      (1u << 20)
#define STAT_TABLE_MAPPED_ENTRIES   100000u
#define STAT_TABLE_BUILDS_KEPT      32           /* full, a table forgets what this many builds did not see */
#define STAT_MEMORY_IDLE_BYTES_MAX  (32u << 20)  /* of tables that nobody uses, mapped ones not counted */
#define STAT_MEMORY_IDLE_TABLES_MAX 256
#define STAT_MEMORY_FILES_MAX       4096         /* beyond either, those that were not used for longest are removed */
#define STAT_MEMORY_DISK_BYTES_MAX  (1ull << 30)

struct sha256_stream;
struct stat_memory;
struct stat_table;

/* One more part of what a trust key is the hash of: with its length, so that no two lists of parts are the same bytes. */
void stat_key_field(struct sha256_stream *hash, struct span field);

/*
 * `directory` is made (0700) when it is missing; blocking, before the loop runs. 0, or -errno: then there can be no
 * memory here.
 */
int stat_memory_create(struct stat_memory **memory, struct ring *ring, const char *directory);
/* No table is in use, no request open. Saves what is not yet saved; `fn` last, from the loop. */
void stat_memory_destroy(struct stat_memory *memory, void (*fn)(void *context), void *context);

/* Asks for the table of a trust key; made when there is none. */
struct stat_request {
	void (*fn)(struct stat_request *request);        /* from the loop */
	struct stat_table *table;        /* out, a reference of the caller's; NULL: no memory */
	/* The rest is stat_memory's. All-zero: not asked. */
	struct stat_memory *memory;
	struct list link;
};
/* This counts as one more build of the table. */
void stat_memory_get(struct stat_memory *memory, struct stat_request *request, const uint8_t key[static STAT_KEY_BYTES]);
/* `fn` does not come any more. Also when it is not asked. */
void stat_request_cancel(struct stat_request *request);

/* The user's claims have ended. NULL is accepted. With the last user what was learned is saved. */
void stat_table_unref(struct stat_table *table);
/* Saves, also while others use it; at the end of a build. Does not wait. */
void stat_table_save(struct stat_table *table);

struct stat_entry_key stat_entry_key(struct span path, uint64_t size, int64_t mtime_ns);

/* False: not known. Counts as seen. Whether the store still has it is to be found out. */
bool stat_table_find(struct stat_table *table, const struct stat_entry_key *key, struct content_name *name);
/* Seen by this build. False: not known. */
bool stat_table_touch(struct stat_table *table, const struct stat_entry_key *key);
/* A later content under the same key takes the place of the earlier. May be dropped: when full, or out of memory. */
void stat_table_learn(struct stat_table *table, const struct stat_entry_key *key, const struct content_name *name);
/* What was remembered proved wrong: it is asked of the client again. */
void stat_table_forget(struct stat_table *table, const struct stat_entry_key *key);

/* ---- who is fetching a file now ---- */

/*
 * A claim on a file's content: the first one fetches it from its client, the others wait for him instead of asking
 * theirs. Embedded in its owner.
 */
struct stat_claim {
	struct stat_table *table;
	struct stat_entry_key key;
	/* Waiter: the fetcher has named it; the claim has ended. */
	void (*on_named)(struct stat_claim *claim, const struct content_name *name);
	/* Waiter: who fetched it could not: you are the fetcher now. */
	void (*on_lost)(struct stat_claim *claim);
	/* The rest is stat_memory's. All-zero: not claimed. */
	uint8_t state;
	struct list link, waiters, tell;
	struct content_name name;
};

enum { STAT_CLAIM_FETCH = 0, STAT_CLAIM_WAIT = 1 };
/*
 * table, key and both handlers are set. Never refused. It looks nothing up: ask stat_table_find() in the same turn, since what
 * somebody named since an earlier look is claimed by nobody any more, and would be fetched again.
 */
int stat_table_claim(struct stat_claim *claim);
/* The fetcher has it in the store: learned, told to the waiters. The claim has ended. */
void stat_claim_named(struct stat_claim *claim, const struct content_name *name);
/*
 * Out of it, fetcher or waiter: the owner goes, or could not. A fetcher's first waiter becomes the fetcher. Also when it
 * was never made, or has ended.
 */
void stat_claim_end(struct stat_claim *claim);

/* ---- for metrics and tests ---- */

struct stat_memory_status {
	uint64_t tables, tables_used, entries, memory_bytes, mapped_bytes, loads, loads_refused, saves, saves_failed, claims,
	         claims_waiting, dropped;
};
void stat_memory_status(const struct stat_memory *memory, struct stat_memory_status *status);
size_t stat_table_count(const struct stat_table *table);
