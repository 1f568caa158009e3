/*
 * diffcopy: the broker of FileSync/DiffCopy calls. The daemon asks for a client's directory; entries (STATs) go through as they
 * come; of the files that it then asks for, those whose content is known from this client's earlier builds are served from
 * the store, those that a sibling build is fetching just now are served from there as it arrives, and only the rest is
 * asked of the client: streamed through to the daemon and at the same time cut, hashed and stored.
 *
 * What is known: (path, size, mtime) -> content, kept per trust key: tenant, certificate subject, shared key and directory name
 * together. Without a shared key (buildctl, the probe) nothing is known, nothing is kept, and everything passes through; so also
 * the Dockerfile and the ignore file, which BuildKit judges by no stat either (diffcopy_head.h).
 *
 * What the client sends reaches the daemon in the client's own order, which has content among the entries: a daemon that was
 * given all entries first would have no content to work on meanwhile, and the client nothing to send.
 *
 * Back-pressure: reading from the client never stops because of a STAT: those that the daemon does not take wait in a
 * packet_queue. File bytes that it does not take wait there up to DIFFCOPY_WAITING_BYTES; then the client waits, as it does when it
 * sends to the daemon itself, which costs nothing while the daemon is only the slower one of the two; what is on its way by then
 * waits there, too. One that takes next to nothing for DIFFCOPY_PATIENCE_NS is not waited for: the rest goes to the store only and
 * is read from there later. Where there is no store for them (no trust key, a full store) the client waits all the same.
 *
 * On the ring's thread. Source: DESIGN.md "How a stock buildx build flows" 5 and 6; fsutil send.go, receive.go.
 */
#pragma once

#include "gateway/broker/stat_memory.h"
#include "gateway/cas/ingest.h"
#include "proto/grpc.h"

#define DIFFCOPY_PATH          "/moby.filesync.v1.FileSync/DiffCopy"
#define DIFFCOPY_WAITING_BYTES (1u << 20)        /* file bytes that wait in memory for the daemon, a call */
#define DIFFCOPY_PATIENCE_NS   1000000000u       /* how long the client waits for a daemon that takes half of them */
#define DIFFCOPY_ENTRY_NS      250000u           /* what an entry may cost it meanwhile: it makes or looks at a file */
/*
 * Files under way, a call: small ones must be as many as the client's window takes. Else its readers wait for questions, while
 * its walk fills the window with entries, and the daemon is left with nothing but these.
 */
#define DIFFCOPY_TRANSFERS_MAX 1024
#define DIFFCOPY_PLAYS_MAX     16                /* files that are read from the store at a time, a call */
#define DIFFCOPY_ENTRIES_MAX   (1u << 25)
#define DIFFCOPY_MEMORY_ENTRIES 100000u          /* beyond, an entry's 32 bytes are the page cache's */

struct diffcopy_counters {
	uint64_t calls, files_fetched, files_played, files_joined, files_deferred, bytes_from_client, bytes_from_store,
	         bytes_to_executor;
	/* By user space, of calls and sessions that have ended: of content, and what little else goes the same way. */
	uint64_t copied_bytes_broker, copied_bytes_session;
};

/* One a gateway. The first five fields are the owner's. */
struct diffcopy_service {
	struct cas *cas;
	struct stat_memory *memory;              /* NULL: nothing is remembered */
	bool mtime_trust;                        /* false: as if nothing were known, all is read anew */
	const char *directory;                   /* where long tables go */
	struct diffcopy_counters counters;
};

/* Of all calls of one session; for the account. */
struct diffcopy_totals {
	uint64_t entries, files;                 /* STATs, regular ones among them, of calls that name a whole directory */
	uint64_t files_changed;                  /* that the client was asked for */
	uint64_t bytes_from_client, bytes_from_store, bytes_to_executor;         /* of file content */
};

struct fsutil_stat;

struct diffcopy_session {
	struct diffcopy_service *service;        /* NULL: there is no broker */
	struct scope scope;
	bool trusted;                            /* there is a shared key */
	uint8_t identity[32];                    /* hash of tenant, subject, shared key */
	struct diffcopy_totals totals;
	/*
	 * What the daemon is told of an entry in place of its mtime; nothing else of it may change. False: it cannot be told of it.
	 * NULL: it is told what the client says.
	 */
	bool (*restat)(struct diffcopy_session *session, struct span directory, struct fsutil_stat *stat);
	/* The directory of that name is the one that was seen under this identity. False: nothing is known of it. Optional. */
	bool (*takes)(struct diffcopy_session *session, struct span directory);
	struct h2 *(*client)(struct diffcopy_session *session);  /* the client's engine; NULL: it has gone. For plays */
	unsigned open;                           /* calls that refer to it */
	void (*on_idle)(struct diffcopy_session *session);       /* the last of them has gone. Optional */
};

void diffcopy_session_init(struct diffcopy_session *session, struct diffcopy_service *service, const struct scope *scope,
                           struct span tenant, struct span subject, struct span shared_key);

/*
 * Inside on_stream of the daemon's `stream`: opens the same call at the client (a client engine) and takes the stream over.
 * The session outlives it: `session->open` counts. 0, -ENOMEM, or as call_start(); then the stream is as before.
 */
int diffcopy_open(struct diffcopy_session *session, struct stream *stream, const struct grpc_request *head, struct h2 *client);
