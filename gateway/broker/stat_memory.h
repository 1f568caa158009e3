/*
 * stat_memory: what clients' directories looked like: (path, size, mtime) -> content, so that a file which the client
 * would only send again is taken from the store. This trusts a stat as BuildKit itself does; so it is trusted only within
 * one *trust key*: 32 bytes that the caller makes of all that tells clients and directories apart (tenant, certificate
 * subject, shared key, directory name). A client without a shared key has no table.
 *
 * A *table* a trust key: in memory while somebody uses it and for a while after (STAT_MEMORY_IDLE_BYTES_MAX, the least
 * recently used goes first), and in a file `<directory>/<key in hex>`, 0600, written aside and renamed. A file that is
 * damaged, foreign or of another version is an empty table and a log line. Concurrent builds of one key share the table.
 * Files are read, written and made in ring_work: the loop never waits.
 *
 * All on the ring's thread. Events come from the loop, never from inside a call of this header.
 */
#pragma once

#include "gateway/broker/stat_table.h"
#include "gateway/ring/ring.h"

#define STAT_KEY_BYTES              32           /* a trust key */
#define STAT_MEMORY_IDLE_BYTES_MAX  (32u << 20)  /* of tables that nobody uses, mapped ones not counted */
#define STAT_MEMORY_IDLE_TABLES_MAX 256
#define STAT_MEMORY_FILES_MAX       4096         /* beyond either, those that were not used for longest are removed */
#define STAT_MEMORY_DISK_BYTES_MAX  (1ull << 30)

struct sha256_stream;
struct stat_memory;

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

/* ---- for metrics and tests ---- */

struct stat_memory_status {
	uint64_t tables, tables_used, entries, memory_bytes, mapped_bytes, loads, loads_refused, saves, saves_failed, claims,
	         claims_waiting, dropped;
};
void stat_memory_status(const struct stat_memory *memory, struct stat_memory_status *status);
