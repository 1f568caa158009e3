/*
 * diffcopy_private: what diffcopy.c (the two calls and their packets) and transfer.c (the files under way) share of a call.
 */
#pragma once

#include "gateway/broker/diffcopy.h"
#include "gateway/broker/packet_queue.h"
#include "gateway/broker/stat_claim.h"
#include "gateway/cas/playback.h"
#include "proto/call.h"
#include "proto/fsutil.h"

#define ENTRY_NONE UINT32_MAX

enum entry_state {
	ENTRY_OTHER,                     /* carries no data: a directory, a link, a device */
	ENTRY_FILE,                      /* not asked for */
	ENTRY_ASKED,                     /* waits for a transfer; `next` is the one behind it */
	ENTRY_UNDER_WAY,                 /* `next` is the number of its transfer */
	ENTRY_DELIVERED,
};

/* One STAT. Its number is its place among all. */
struct entry {
	struct stat_entry_key key;
	uint64_t size;
	uint32_t next;
	uint8_t state;
	uint8_t reserved[3];
};

/*
 *	           .-> JOINED --.------------------.
 *	(asked) ---+            v                  v
 *	           +-> FETCHING -> NAMING -> (done)    PLAYING -> (done)
 *	           |       '----> DEFERRED ----------> ^
 *	           '-----------------------------------'
 * PLAYING falls back to FETCHING when the store does not have it after all.
 */
enum transfer_state {
	TRANSFER_FREE,
	TRANSFER_JOINED,                 /* a sibling build fetches it: its end is awaited */
	TRANSFER_FETCHING,               /* asked of the client; its bytes go through and into the store */
	TRANSFER_DEFERRED,               /* the daemon did not keep up: the rest goes into the store alone, and is played from there */
	TRANSFER_NAMING,                 /* the daemon was given all; the content's name is awaited */
	TRANSFER_PLAYING,                /* from the store */
};

struct transfer {
	struct diffcopy *diffcopy;
	enum transfer_state state;
	uint32_t id;                     /* the entry's number */
	uint64_t queued;                 /* diffcopy.content_queued with its last byte: until that is sent it is not played */
	uint64_t received, delivered;    /* bytes of the file: from the client; to the daemon, or waiting for it */
	bool requested;                  /* the client was asked: it may be only once */
	bool complete;                   /* and has sent all */
	bool storing;                    /* `file` is begun and was not named yet */
	struct stat_claim claim;
	struct ingest_file file;
	struct playback playback;
	struct list link;                /* diffcopy.plays (there is data to send, as far as is known), or diffcopy.free */
};

struct diffcopy {
	struct diffcopy_session *session;
	struct diffcopy_service *service;
	struct call daemon, client;
	bool daemon_closed, client_closed;
	bool daemon_ended;               /* it has half-closed: so do we, behind `questions` */
	bool held_by_daemon, held_by_store;      /* the client's call waits for room */
	bool impatient;                  /* the daemon was waited for in vain: files are deferred until it takes some again */
	uint64_t held_since_ns;          /* by the daemon */
	uint64_t entries_taken;          /* by it, meanwhile */
	struct op patience;
	struct buffer directory;         /* dir-name, where it is needed */
	bool counted;                    /* its entries are those of a context, for the account */
	enum grpc_status client_status;
	char client_message[CALL_STATUS_TEXT_MAX + 1];
	struct op reap;                  /* frees, from the loop */
	struct spill entries;            /* of struct entry */
	uint32_t entries_count;
	uint32_t asked_first, asked_last;
	struct packet_queue waiting;     /* for the daemon, as it came from the client */
	uint64_t content_queued;         /* in `waiting`, ever */
	bool played;                     /* the last packet for the daemon came from the store */
	struct packet_queue questions;   /* for the client: REQ, FIN, ERR */
	struct buffer collected;         /* a packet of the client's that comes in parts, but for plain DATA */
	struct transfer *passing;        /* whose DATA packet passes in parts */
	enum { PASS_NOWHERE, PASS_TO_DAEMON, PASS_TO_QUEUE } passing_to;
	size_t passing_left;             /* of it, that is still to be given to the daemon */
	bool table_pending;
	struct stat_request request;
	struct stat_table *table;        /* NULL: nothing is remembered, or not yet there */
	struct ingest *ingest;           /* with `table` */
	struct playbacks *playbacks;
	struct store_hold *hold;         /* of what is deferred: it cannot be asked for again */
	struct buffer unstored;          /* what the store did not take of the last DATA, which is `unstored_of`'s */
	struct transfer *unstored_of;
	struct transfer *transfers;      /* DIFFCOPY_TRANSFERS_MAX, made with the first */
	unsigned naming;                 /* transfers in NAMING: awaited also when both calls have ended */
	struct list free, plays;
};

static inline struct entry *diffcopy_entry(const struct diffcopy *diffcopy, uint32_t id)
{
	return (struct entry *)(void *)diffcopy->entries.data + id;
}

/* ---- diffcopy.c ---- */

/* The daemon is told so with a status, and the client's call ends. May be called again. */
void diffcopy_fail(struct diffcopy *diffcopy, enum grpc_status status, const char *text);
/* A packet for the client, behind those that wait. */
void diffcopy_ask_client(struct diffcopy *diffcopy, struct span packet);
/* Sends to the daemon what it takes. */
void diffcopy_pump(struct diffcopy *diffcopy);
/* Frees the call, from the loop, once its ends and its last names are there. */
void diffcopy_join(struct diffcopy *diffcopy);

/* ---- transfer.c ---- */

/* The table, if there is to be one, is there: asks for what the daemon has asked for meanwhile. 0 or -ENOMEM. */
int transfers_open(struct diffcopy *diffcopy);
/* Starts as many of the files that were asked for as may be under way. */
void transfers_start(struct diffcopy *diffcopy);
/* DATA from the client for a file; empty: its end. False: nobody asked for it. */
bool transfer_take(struct diffcopy *diffcopy, uint32_t id, struct span data);
/*
 * The same for a DATA packet of `size` bytes of content that comes in parts, which follow by transfer_take_part() while
 * diffcopy.passing is set. False: it is to be taken whole.
 */
bool transfer_take_begin(struct diffcopy *diffcopy, uint32_t id, size_t size);
void transfer_take_part(struct diffcopy *diffcopy, struct span part, size_t left);
/* One packet of a file that is played, if one is at hand. True: call again while the daemon takes more. */
bool transfers_play(struct diffcopy *diffcopy);
/* Less waits for the daemon: goes on with the client. This may bring its call's events. */
void transfers_resume(struct diffcopy *diffcopy);
/* The daemon's call has ended: all are given up but those that are complete and only wait for their names. */
void transfers_close(struct diffcopy *diffcopy);
/* None is left: gives back what they shared. */
void transfers_fini(struct diffcopy *diffcopy);
