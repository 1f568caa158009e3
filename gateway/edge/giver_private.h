/* giver_private: what giver.c (the gateway's call), giver_read.c (buildx's), giver_push.c and the others share of a call. */
#pragma once

#include "gateway/base/digest_set.h"
#include "gateway/broker/packet_queue.h"
#include "gateway/broker/stat_claim.h"
#include "gateway/cas/ingest.h"
#include "gateway/edge/bases.h"
#include "gateway/edge/giver.h"
#include "gateway/edge/listing.h"
#include "gateway/edge/recipes.h"
#include "gateway/upload/uploader.h"
#include "proto/call.h"
#include "proto/sluice_context.h"

enum giver_state {
	GIVER_LISTING,                   /* entries come, contents are read */
	GIVER_SEALING,                   /* a helper thread makes the tree */
	GIVER_SEALED,                    /* the gateway's question is awaited */
	GIVER_LOADING,                   /* recipes that the push needs are read */
	GIVER_PUSHING,
	GIVER_GIVEN,                     /* the root was told */
	GIVER_OVER,                      /* what is under way is awaited */
};

enum giver_entry_state {
	GIVER_ENTRY_SEEN,
	GIVER_ENTRY_WANTED,
	GIVER_ENTRY_UNDER_WAY,           /* `next` is the number of its fetch */
	GIVER_ENTRY_READ,                /* buildx was asked, which can be done once */
};

/* Are contents sent ahead of the root? */
enum giver_feed {
	GIVER_FEED_UNDECIDED,            /* the gateway's question is awaited */
	GIVER_FEED_SAMPLE,               /* a few, to see whether the gateway lacks them */
	GIVER_FEED_ALL,
	GIVER_FEED_NONE,                 /* it has most of them: the walk from the root down is cheaper */
};

/* A content on its way. */
struct fetch {
	struct giver *giver;
	uint32_t number;                 /* the entry's */
	bool busy;
	bool requested, storing;
	uint64_t received;
	struct stat_claim claim;
	struct ingest_file file;
	bool has_former;
	struct content_name former;      /* what was at its path before */
	uint64_t put_bytes;              /* of it in the store; a hint, as batches may overtake each other */
	struct list link;                /* giver.free */
};

/* A pack's blobs on their way from the store. */
struct load {
	struct pack_read *pack;
	struct store_read read;
	size_t piece;
	bool busy;
};

struct pack_read {
	struct giver *giver;
	struct uploader_read *read;      /* NULL: idle */
	size_t next, under_way;
	int result;
	bool stepping;
	struct load loads[GIVER_LOADS_MAX];
};

/* Entries that wait to be asked for, in order. */
struct numbers {
	uint32_t *items;
	size_t first, count, room;
};

/* How many blobs a sample has, and what the uploader had done when it began. */
struct giver_sample {
	size_t count, fed;
	uint64_t answered, lacking;
};

struct holder;
struct giver_named;

struct giver {
	struct giver_service *service;
	struct list link;                /* service.givers */
	struct session *session;
	enum giver_state state;
	bool told;                       /* the root, once */

	struct call gateway, client;
	bool gateway_closed, client_closed;
	bool asked, ask_times, ask_ahead;
	struct digest ask_known;         /* all-zero: none */
	struct same_entries *former;     /* of ask_known; NULL: not known, or not wanted */
	struct same_entries *given;      /* of the root, until it is told */
	uint32_t same, same_told;        /* entries from the front that are the former ones; what the gateway knows of that */
	bool differs;                    /* the one behind them */
	struct packet_queue answers;     /* for the gateway */
	struct packet_queue questions;   /* for buildx */
	bool fin_wanted;                 /* behind `questions` */
	bool unchanged;

	struct listing listing;
	uint32_t looked;                 /* entries before it were looked up, or queued */
	struct numbers hurried, wanted;  /* those of `hurried` first; who was asked for meanwhile is in them still */
	uint32_t wanted_count, again_count;      /* entries of that state; of these and those under way: had been named before */
	struct fetch *fetches;           /* GIVER_FETCHES_MAX, made with the first */
	struct list free;
	unsigned fetching;
	uint64_t asked_bytes;            /* sizes of the files that buildx was asked for and has not ended */
	bool table_pending;
	struct stat_request request;
	struct stat_table *table;        /* NULL: nothing is remembered */
	struct known_set *known;         /* with `table` */
	struct ingest *ingest;
	struct store_hold *hold, *hold_before;   /* of what was noted last; of what was noted up to `before_end` */
	size_t before_end;
	uint64_t lot_bytes;              /* noted under `hold` */
	bool windowed;                   /* the window was full once, or the store */
	bool pressed;                    /* the store is full: what is held there is let go as soon as it can be */
	bool held_by_window, held_by_store;      /* buildx's call waits */
	struct buffer unstored;          /* what the store did not take of the last DATA, which is `unstored_of`'s */
	struct fetch *unstored_of;
	uint64_t files_read, bytes_read, bytes_sent;

	struct op seal;
	bool made;                       /* directories have their digests; until then a helper thread may be at them */

	struct recipes recipes;
	bool recipes_all;                /* also of those that the gateway is thought to have */
	bool recipe_lacking;             /* the uploader asked for one that was not loaded */
	uint32_t load_next;              /* entry */
	uint32_t load_of;                /* whose recipe is being read */
	struct store_read load;
	bool loading;

	bool formers_pending;
	struct stat_request formers_request;
	struct stat_table *formers_table;        /* what paths of a directory of this name held; NULL: nothing is remembered */
	struct bases bases;
	struct digest_vector formers;    /* former recipes, from former_next on to be loaded */
	size_t former_next;
	struct store_read former_load;
	bool former_loading;
	struct recipes former_recipes;   /* as far as they are to be had */

	struct digest_vector noted;      /* in the store by this call */
	size_t fed, confirmed;           /* of them: handed to the uploader, and answered for, in order */
	size_t fed_count, stored_count;  /* by this uploader: handed over, of them said to be there */
	uint64_t noted_bytes, confirmed_bytes;
	struct digest_set stored, fed_ever;
	enum giver_feed feed;
	struct giver_sample sample;
	size_t presumed_from;            /* SAMPLE_AGAIN: of noted, what the answer speaks for begins there */
	bool ahead;                      /* it was told the entries */
	struct giver_named *named;       /* contents in the order in which they got their names; of them told */
	size_t named_count, named_room, named_told;
	uint32_t urgent[GIVER_URGENT_MAX];       /* entries that the executor waits for */
	unsigned urgent_count;
	bool urge;                       /* something happened to them */
	struct uploader *uploader;
	struct uploader_source source;
	struct digest_vector directories, contents;      /* lent to the uploader */
	bool *are_recipes;
	size_t are_recipes_room;
	struct pack_read packs[UPLOADER_PACKS_MAX];
	struct holder *holders;          /* made when something was lost, by key */
	size_t holders_count, holders_named, holders_recipes;    /* made of how many entries with names, and recipes */
	unsigned tries;
	bool restart;                    /* when the uploader has closed */
	bool uploader_closing;
	uint64_t sent_counted, asked_counted;    /* of what the uploader has sent and asked */
	bool stale;                      /* what the store lost is being read again */

	struct op turn;                  /* a step, from the loop */
	struct op reap;
};

/* ---- giver.c ---- */

#define GIVER_ANSWER_BYTES_MAX (1u << 20)

/* Behind what waits for the gateway. */
void giver_answer(struct giver *giver, const struct context_response *response);
/* Decides what comes next. From inside any event of the giver's parts. */
void giver_step(struct giver *giver);
/* The same from the loop. */
void giver_wake(struct giver *giver);
/* The gateway is told why, and asks for the context by DiffCopy. May be called again. */
void giver_unfit(struct giver *giver, const char *why);
/* The client has gone, which says nothing of the context: the gateway is told that much. May be called again. */
void giver_leave(struct giver *giver, const char *why);
/* The root is at the gateway. */
void giver_on_committed(struct giver *giver);
/* The push has to begin again, with what it lacked. */
void giver_load_again(struct giver *giver);
void giver_join(struct giver *giver);

/* ---- giver_times.c: for the gateway; without memory its call ends ---- */

/* Of all entries. */
void giver_tell_all_times(struct giver *giver);
/* Of those in a number list. False: it is malformed, or names what there is not; nothing was told. */
bool giver_tell_times(struct giver *giver, struct span numbers);

/* ---- giver_read.c ---- */

/* Opens the call at buildx, with the header fields of the gateway's. 0, -ENOMEM or as call_start(). */
int giver_read_open(struct giver *giver, const struct grpc_request *head, struct h2 *client, uint32_t uid);
/* All that is listed has its name. */
bool giver_read_done(const struct giver *giver);
/* The gateway has more of what was read: goes on reading if there is room, and lets the store forget. */
void giver_read_resume(struct giver *giver);
/* A table is there. */
void giver_read_tables(struct giver *giver);
void giver_read_close(struct giver *giver);
void giver_read_fini(struct giver *giver);

/* ---- giver_fetch.c ---- */

/* What the table of stats calls the entry. `path` is for its path. */
struct stat_entry_key giver_fetch_key(const struct giver *giver, uint32_t number, struct buffer *path);
/* Its content is to be asked for; giver_fetch_start() does. */
void giver_fetch_want(struct giver *giver, uint32_t number);
/* Asks for it before all others. */
void giver_fetch_hurry(struct giver *giver, uint32_t number);
/* Asks buildx for a file whose content the store has lost. False: that was done before, or buildx has gone. */
bool giver_fetch_again(struct giver *giver, uint32_t number);
/* As many as there is room for. */
void giver_fetch_start(struct giver *giver);
/* What is under way of this entry; NULL: nothing, or there is no such entry. */
struct fetch *giver_fetch_of(const struct giver *giver, uint32_t number);
/* All that was asked for has come, or it does not count any more. */
void giver_fetch_came(struct fetch *fetch);
/* Its content is in the store and has this name. */
void giver_fetch_done(struct fetch *fetch, const struct content_name *name);
/* The gateway wants no more: FIN. */
void giver_fetch_finish(struct giver *giver);
/* buildx takes packets again. */
void giver_fetch_flush(struct giver *giver);
/* Whatever is under way does not count any more. */
void giver_fetch_close(struct giver *giver);
void giver_fetch_fini(struct giver *giver);

/* ---- giver_window.c ---- */

/* This call's part of the window: those that were given let go when room is short. */
uint64_t giver_window_bytes(const struct giver *giver);
/*
 * Bytes came. When there are more than a part of the store buildx waits, and what is read goes to the gateway first. Not of
 * what is read again, which was there once.
 */
void giver_window_check(struct giver *giver);
/* The gateway has more: lets go of what need not be held any more, and of buildx's call when there is room. */
void giver_window_turn(struct giver *giver);
/* buildx goes on, whatever the gateway has: what is read again may be what it waits for. */
void giver_window_open(struct giver *giver);
/* The store is full, whoever holds it: all goes to the gateway now, and what is there need not be held. */
void giver_window_press(struct giver_service *service);
/* The gateway has all: of a store that is smaller nothing is held any more. */
void giver_window_given(struct giver *giver);
/* After that the gateway lacks something all the same: what is read again is held again. */
void giver_window_hold(struct giver *giver);
void giver_window_fini(struct giver *giver);

/* ---- giver_bases.c ---- */

/* Asks for what is remembered of a directory of this name. Until it is there nothing is looked up. */
void giver_bases_open(struct giver *giver, struct span shared_key, struct span directory, uint32_t uid);
void giver_bases_close(struct giver *giver);
/* A file is asked for: what was at its path is looked up. */
void giver_bases_begin(struct fetch *fetch, struct span path);
/* The next blob of it is in the store. */
void giver_bases_put(struct fetch *fetch, const struct digest *blob);
void giver_bases_named(struct fetch *fetch, const struct content_name *name);
/* The tree is made: what its directories were is looked up. */
void giver_bases_directories(struct giver *giver);
/* Nothing that was looked up is still being read: bases are known as far as they ever will be. */
bool giver_bases_loaded(const struct giver *giver);
size_t giver_bases_find(const struct giver *giver, const struct digest *blob, struct digest bases[static UPLOADER_BASES_MAX]);
/* The gateway has it all: what is new is what comes next to be compared with. Before it is known. */
void giver_bases_learn(struct giver *giver);
void giver_bases_fini(struct giver *giver);

/* ---- giver_ahead.c ---- */

/* A content has its name, and its blobs were noted. */
void giver_ahead_named(struct giver *giver, uint32_t number);
/* The listing has ended, or the gateway has more: tells what is to be told. */
void giver_ahead_step(struct giver *giver);
/* All is at the gateway: the rest of the names, before the root. */
void giver_ahead_finish(struct giver *giver);
/* This one's name, out of turn. */
void giver_ahead_tell_one(struct giver *giver, uint32_t number);
void giver_ahead_fini(struct giver *giver);

/* ---- giver_same.c ---- */

/* The gateway's question came, and it wants to know. */
void giver_same_begin(struct giver *giver);
/* Entries were looked up, or have their names. */
void giver_same_step(struct giver *giver);
/* The listing is sealed; on a helper thread. */
void giver_same_seal(struct giver *giver);
/* The root was told. */
void giver_same_given(struct giver *giver);
void giver_same_fini(struct giver *giver);

/* ---- giver_urge.c ---- */

/* A number list: the executor waits for these. False: it is no good. */
bool giver_urge_take(struct giver *giver, struct span numbers);
void giver_urge_step(struct giver *giver);

/* ---- giver_feed.c ---- */

/* It is in the store, and in turn to be sent ahead. Memory may be out: then it is found by the walk. */
void giver_feed_note(struct giver *giver, const struct digest *blob);
/* Something was noted, or the gateway's question came: sends ahead what is to be. */
void giver_feed_step(struct giver *giver);
/* The store has no room: what was noted and is held there goes to the gateway before anything else. */
void giver_feed_rest(struct giver *giver);
/* The bytes that were noted and that the gateway is not known to have. */
uint64_t giver_feed_pending(const struct giver *giver);

/* ---- giver_push.c ---- */

/* There is an uploader. False: the giver is unfit. */
bool giver_push_open(struct giver *giver);
/* All recipes of this file are known. False: one is being read, or will be. */
bool giver_push_has_recipe(struct giver *giver, uint32_t number);
/* Loads what is lacking of recipes. True: nothing is. */
bool giver_push_load(struct giver *giver);
void giver_push_commit(struct giver *giver);
/* The push ends here, and another begins where contents are sent ahead. */
void giver_push_restart(struct giver *giver);
void giver_push_close(struct giver *giver);
/* Nothing of it is in flight. */
bool giver_push_idle(const struct giver *giver);
void giver_push_fini(struct giver *giver);
