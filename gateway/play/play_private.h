/* play_private: what play.c (the calls, the entries) and play_files.c (the files under way) share of a call. */
#pragma once

#include "chunker/sha256.h"
#include "gateway/broker/diffcopy_head.h"
#include "gateway/broker/packet_queue.h"
#include "gateway/cas/playback.h"
#include "gateway/play/asker.h"
#include "gateway/play/firsts.h"
#include "gateway/play/play.h"
#include "gateway/play/stable.h"
#include "gateway/play/walk.h"

#define PLAY_NONE UINT32_MAX

enum play_entry_state {
	PLAY_ENTRY_OTHER,                /* carries no data */
	PLAY_ENTRY_FILE,                 /* not asked for */
	PLAY_ENTRY_ASKED,                /* and never again */
	PLAY_ENTRY_UNNAMED,              /* a file that came ahead of its content's name; not asked for */
	PLAY_ENTRY_AWAITED,              /* likewise, and asked for */
	PLAY_ENTRY_URGED,                /* likewise, and the edge was told so */
};

/* One STAT. Its number is its place among all. */
struct play_entry {
	uint8_t hash[DIGEST_HASH_BYTES];
	uint64_t size;
	uint32_t next;                   /* asked: the one asked for behind it */
	uint32_t recipe_bytes : 24;      /* 0: named by its own digest */
	uint32_t state : 8;
};

/* What a claim needs once an entry's content has a name. */
struct play_unnamed {
	struct claim_hash path, xattrs;
	int64_t mtime_ns;
	uint8_t kind;
};

enum play_state {
	PLAY_ASKING,                     /* the daemon was told nothing */
	PLAY_SAME,                       /* the root that was known is played, as far as the edge says that it is the same */
	PLAY_AHEAD,                      /* entries and names come before the root */
	PLAY_PLAYING,
	PLAY_REPAIRING,                  /* something was missing; nothing moves until it is there again */
	PLAY_LEAVING,                    /* unfit after all: what was taken from the known root goes out, then its key is given up */
	PLAY_PLAIN,                      /* the rest comes from the client */
	PLAY_ENDING,                     /* the daemon's status is on its way */
	PLAY_OVER,                       /* its call has ended, or was handed over */
};

/* A file on its way to the daemon. */
struct play_file {
	struct play *play;
	uint32_t id;
	struct playback playback;
	struct list link;                /* play.idle, .ready or .lost */
};

/* Entries one after the other. */
struct play_told {
	struct sha256_stream paths;      /* what a client says of them, but for their times */
	struct sha256_stream contents;
};

struct play {
	struct play_service *service;
	struct diffcopy_session *session;
	enum play_state state;
	struct call daemon;
	bool finishing;                  /* its FIN waits for ours */
	struct asker asker;
	bool asker_closed;
	struct grpc_request request;     /* the daemon's, kept: `headers` is one allocation with their bytes */
	struct header *headers;
	struct diffcopy_head head;
	uint8_t key[RECENT_KEY_BYTES];
	struct digest known;
	struct op reap;
	char why[CALL_STATUS_TEXT_MAX + 1];      /* it is not played */
	struct context_root counted;     /* of what the edge said: what is in the totals */

	bool ahead;                      /* what is told comes from the edge's entries, not from the tree */
	bool entries_ended;
	uint64_t entries_bytes;          /* of all that came ahead */
	uint64_t named_last;
	uint32_t awaited, urged;         /* entries that are AWAITED or URGED; that are URGED */
	struct spill waits;              /* of uint32_t: entries in the order in which they were asked for without a content */
	uint32_t waits_count, waits_told;        /* of them looked at, to be told */
	struct spill unnamed;            /* under a stable key: of struct play_unnamed, by number */

	struct play_told told, seen;     /* SAME: the entries that were taken; those of them that were seen again elsewhere */
	uint32_t to_skip;                /* of the root that came and is another: they were taken from the known one */
	bool giving_up;                  /* LEAVING: the key */

	struct call client;              /* PLAIN */
	bool client_open;
	struct packet_queue from_client, to_client;
	uint32_t plain_seen, plain_asked;        /* entries of the client's; of those that were not taken, asked for */

	struct walk *walk;
	bool walk_missing;               /* it stands at a directory that is not there */
	struct walk_entry entry;         /* taken from the walk, waits for its time */
	bool entry_waits, stats_ended;
	struct buffer stat;
	struct packet_queue times;       /* time lists */
	uint64_t times_bytes;            /* of all that came */
	size_t times_taken;              /* of the first one: bytes */
	struct time_list time_list;      /* of the first one */
	struct spill entries;
	uint32_t entries_count;
	uint32_t asked_first, asked_last;

	struct lineage *lineage;         /* NULL: mtimes are the client's */
	struct firsts firsts;            /* of the files that were claimed; and in PLAIN of the client's */
	struct packet_queue scanned;     /* entries that wait for their times, or behind such */
	struct packet_queue claimed;     /* entries whose claims are not on the disk yet, or behind such */
	struct buffer wanted;            /* number list: times to be asked for */
	uint64_t wanted_last;
	uint32_t wanted_count;
	bool all_times, scan_ended;      /* all_times: the edge sends each entry's, unasked */
	uint32_t directories, directories_known;
	struct lineage_sync sync;
	bool syncing;
	struct op again;                 /* the scan goes on in another turn */

	struct playbacks *playbacks;
	struct play_file *files;         /* PLAY_FILES_MAX, made with the first */
	struct list idle, ready, lost;   /* ready: data is at hand; lost: the store did not have it */
};

static inline struct play_entry *play_entry_at(const struct play *play, uint32_t id)
{
	return (struct play_entry *)(void *)play->entries.data + id;
}

/* ---- play.c ---- */

/* The daemon is told so, and the edge let go. May be called again. */
void play_fail(struct play *play, enum grpc_status status, const char *text);
/* Sends to the daemon what it takes. */
void play_pump(struct play *play);
/* Something that was whole is not any more. */
void play_repair(struct play *play);

/* A walk has more: its owner's event. */
void play_on_more(void *owner);
/* The stable key is given up; then the client is asked, for all or for the rest. */
void play_give_up(struct play *play);
/* Frees it, from the loop, once its ends are there. */
void play_join(struct play *play);
/* The next entry, into play->entry. False: there is none at hand, or the call has failed. */
bool play_next_entry(struct play *play);
/* It becomes one of those that may be asked for. False: the call has failed. */
bool play_add_entry(struct play *play);
/* The next of the times. False: it is not there yet, or the call has failed. */
bool play_take_time(struct play *play, int64_t *time);
/* fsutil's end of the entries. */
void play_end_stats(struct play *play);

/* The packets of an entry go on as far as the daemon takes them. */
static inline bool play_goes_on(const struct play *play)
{
	return play->state != PLAY_ASKING && play->state != PLAY_REPAIRING && play->state < PLAY_ENDING;
}

/* ---- play_same.c ---- */

/* More entries of the known root may be taken: asker.same. May fail the call. */
void play_same_take(struct play *play);
/* play->entry was taken from the known root. */
void play_same_note(struct play *play, const struct claim_hash *content);
/* The root is there. What was taken is skipped in it, when it is another. False: the call has failed. */
bool play_same_complete(struct play *play);
/* play->entry is of the new root, and was taken before. False: it is not the same, and the call has failed. */
bool play_same_skip(struct play *play, const struct claim_hash *content);
/* One entry more, of which nothing but this is known. */
void play_told_path(struct play_told *told, const struct fsutil_stat *stat);
/* Those seen again are those that were taken, but for times and contents. */
bool play_told_same_paths(const struct play *play);

/* ---- play_plain.c ---- */

/* Before the root, after entries were taken: the rest is to come from the client. */
void play_plain_leave(struct play *play, const char *why);
/* When all that was taken is with the daemon: the key is given up. */
void play_plain_step(struct play *play);
/* It is: opens the client's call. */
void play_plain_open(struct play *play);
/* One packet of the client's, if one is at hand. */
bool play_plain_send(struct play *play);
/* The daemon asks for a file, by `packet`. False: it is none of the client's that the daemon has heard of. */
bool play_plain_ask(struct play *play, uint32_t id, struct span packet);
/* The daemon's packet is for the client. */
void play_plain_forward(struct play *play, struct span packet);
void play_plain_close(struct play *play);
void play_plain_fini(struct play *play);

/* ---- play_ahead.c ---- */

void play_ahead_entries(struct play *play, struct span list);
void play_ahead_names(struct play *play, struct span list);
/* The root is there: all that was told before is of it. False: the call has failed. */
bool play_ahead_complete(struct play *play);
/* One STAT, if one may be sent; without a stable key. */
bool play_ahead_stat(struct play *play);

/* The daemon asks for an entry that has no name yet. May fail the call. */
void play_ahead_await(struct play *play, uint32_t id);
/* The edge is told what the daemon waits for. */
void play_ahead_urge(struct play *play);

/* ---- play_stable.c ---- */

/* play->entry, which is not in the table yet, and has this mtime at the client. False: the call has failed. */
bool play_stable_take(struct play *play, int64_t mtime_ns);
/* The content of an entry that was taken; before play_files_name(), so that the table has the size that was told. */
void play_stable_name(struct play *play, uint32_t id, const struct content_name *name);

/*
 * PLAIN: an entry of the client's gets an mtime that its path never had, and a further name that of its file, wherever this was told.
 * False: it cannot be told of it.
 */
bool play_stable_restat(struct play *play, struct fsutil_stat *stat);

void play_stable_init(struct play *play, struct lineage *lineage);
/* Nothing is told of it any more. */
void play_stable_close(struct play *play);
void play_stable_fini(struct play *play);
/* One STAT, if one may be sent. */
bool play_stable_stat(struct play *play);

/* ---- play_files.c ---- */

/* 0 or -ENOMEM. */
int play_files_init(struct play *play);
void play_files_fini(struct play *play);
/* The daemon asks for it. False: it is no file, or was asked for. */
bool play_files_ask(struct play *play, uint32_t id);
/* Its content has a name now. */
void play_files_name(struct play *play, uint32_t id, const struct content_name *name);
/* One packet, if one is at hand. */
bool play_files_send(struct play *play);
/* What was lost is there again. */
void play_files_retry(struct play *play);
