/*
 * uploader_private: what uploader.c (life, the call, states), uploader_compare.c (what a base has in common with the tree),
 * uploader_walk.c (what is asked about), uploader_packs.c (what is sent) and uploader_deltas.c (what is told by bases) share.
 */
#pragma once

#include "gateway/base/digest_set.h"
#include "gateway/upload/comparison.h"
#include "gateway/upload/level.h"
#include "gateway/upload/uploader.h"
#include "proto/sluice_v1.h"

/*
 *	FEEDING -> OFFERING (-> COMPARING) -> WALKING -> SENDING -> COMMITTING -> ENDING -> FEEDING
 *	                                         ^          ^___________|  |                 (on_done OK)
 *	                                         |_________________________|
 *	FEEDING -> FINISHING -> FEEDING
 *	any of these -> OVER (on_done, not OK); any -> CLOSING -> (freed)
 */
enum uploader_state {
	UPLOADER_FEEDING,                /* no root is known */
	UPLOADER_FINISHING,              /* nor will be: what was fed goes out */
	UPLOADER_OFFERING,               /* the root is offered */
	UPLOADER_COMPARING,              /* with the base that the source named */
	UPLOADER_WALKING,                /* down from it, to all that has to be asked about; what is missing goes out already */
	UPLOADER_SENDING,                /* all answers are there: the rest of what is missing goes out */
	UPLOADER_COMMITTING,
	UPLOADER_ENDING,                 /* committed; what of the feed is still under way is let go first */
	UPLOADER_OVER,                   /* failed, on_done has said so */
	UPLOADER_CLOSING,                /* uploader_close() */
};

/* Digests that are asked about in pieces, several at a time. */
struct uploader_list {
	uint32_t number;                 /* the field of PushRequest: 1 offer, 2 query */
	struct digest_vector digests;
	size_t asked, answered;
};

enum pack_state {
	PACK_FREE,
	PACK_DUE,                        /* its blobs are chosen; to be read, again where they were stale */
	PACK_READING,
	PACK_STALE,                      /* waits for uploader_retry() */
	PACK_UNSIGNED,                   /* the gateway is to say what its bases look like, whose bytes are not here */
	PACK_SIGNING,                    /* and was asked */
	PACK_COMPRESSING,                /* by a helper thread; before that told by bases, where there are any */
	PACK_READY,
	PACK_SENT,                       /* waits for its answer; only the digests are kept */
};

struct uploader_pack {
	struct uploader *uploader;
	enum pack_state state;
	uint64_t number;                 /* they are sent in this order, as far as they are ready */
	struct uploader_piece *pieces;
	size_t pieces_capacity;
	struct uploader_read read;
	uint8_t *bytes;                  /* of the message, with some room before it */
	size_t bytes_capacity;
	uint8_t *bases;                  /* bytes of read.bases */
	size_t bases_bytes;
	struct buffer hashes;            /* signatures of bases: each `edits` of one that is stale, all zero without */
	struct buffer edits, told;       /* of all its deltas; the message with them */
	struct span message;
	int level;                       /* to compress it at */
	uint64_t sent_ns;                /* with so many bytes: */
	size_t sent_bytes;
	struct buffer deflated;          /* in place of it when that pays */
	struct op work;
};

enum uploader_flight_kind {
	UPLOADER_FLIGHT_ROOT, UPLOADER_FLIGHT_COMPARE, UPLOADER_FLIGHT_LIST, UPLOADER_FLIGHT_PACK, UPLOADER_FLIGHT_SIGN,
	UPLOADER_FLIGHT_COMMIT, UPLOADER_FLIGHT_WORD,
};

/* A request that waits for its answer. They are answered in order. */
struct uploader_flight {
	enum uploader_flight_kind kind;
	struct uploader_list *list;
	size_t count;                    /* of its digests, from list->answered on */
	struct uploader_pack *pack;
};

struct uploader {
	struct uploader_config config;
	enum uploader_state state;
	bool running;                    /* inside uploader_run() or a handler: nothing is freed */
	bool again;                      /* something happened meanwhile */
	struct call call;
	bool call_open;

	struct digest root;
	bool root_offered, commit_sent;
	bool assume;                     /* what the last commit held is there */
	unsigned rounds;                 /* commits of this root that were refused for blobs lost */
	struct digest_set seen;          /* asked about at some time, or fed */
	struct digest_set reached;       /* directories that were candidates at some time */
	struct digest_set recipes_first; /* their chunks are asked about when they are not there */
	struct digest_set promised;      /* siblings were sending them when they were asked about */
	struct digest_set broken;        /* those that have to be sent after all */
	struct digest_set whole;         /* told by bases in vain */
	bool distrust;                   /* the gateway lost something: all is sent whole from now on */
	struct digest_vector level;      /* directories that the gateway lacks, to go down from */
	struct digest_vector differing;  /* found by the comparison: gone down into without a question */
	struct comparison comparison;    /* what it found is believed as long as no hole shows; empty: nothing was compared */
	struct uploader_list fed, directories, blobs;
	struct digest_vector missing;    /* to be sent, from missing_next on */
	size_t missing_next;
	uint64_t missing_bytes;          /* of those, as they count in a pack */

	struct uploader_flight flights[UPLOADER_IN_FLIGHT_MAX];
	unsigned flights_first, flights_count;
	struct uploader_pack packs[UPLOADER_PACKS_MAX + UPLOADER_IN_FLIGHT_MAX];
	uint64_t packs_number;
	uint8_t *spare[UPLOADER_PACKS_MAX];      /* room for a whole pack each, to be used again; NULL: none */
	struct level level_next;
	uint64_t stored_ns;              /* when the last pack was answered */
	struct post turn;                /* the loop has its turn between two packs */
	bool turn_posted;
	struct op word;                  /* a timer, as long as the upload is not over */
	uint64_t word_bytes;             /* that were sent when it was last looked */

	struct buffer request, body;
	struct digest_vector told;       /* lent to on_stored and on_stale */
	uint64_t entered_ns;             /* when this state was */
	uint64_t bytes_total, bytes_done;
	struct uploader_totals totals;
};

#define UPLOADER_BLOB_HEAD 64            /* of a blob in a pack, before its data: at most this */

/* ---- uploader.c ---- */

/* Says so by on_done; does nothing when it is over already. */
__attribute__((format(printf, 4, 5))) void uploader_fail(struct uploader *uploader, int outcome, enum grpc_status status,
                                                         const char *format, ...);
void uploader_fail_memory(struct uploader *uploader);
/* Around what a handler does: release decides what to do next and may free the uploader. */
bool uploader_hold(struct uploader *uploader);
void uploader_release(struct uploader *uploader, bool held);

bool uploader_may_send(struct uploader *uploader);
void uploader_flight_add(struct uploader *uploader, struct uploader_flight flight);
/* A request that is a digest list; `commit`: its second field. False: it failed. */
bool uploader_send_list(struct uploader *uploader, uint32_t number, const struct digest *digests, size_t count, bool commit);
void uploader_progress(struct uploader *uploader, enum uploader_phase phase);

/* ---- uploader_compare.c ---- */

/* The source names a base. */
bool uploader_has_base(const struct uploader *uploader);
/* Asks on. True: all is compared. */
bool uploader_compare(struct uploader *uploader);
void uploader_take_compared(struct uploader *uploader, struct span message);

/* ---- uploader_walk.c ---- */

/* Begins at the root. With `settled` what was fed is not asked about again. */
void uploader_walk_begin(struct uploader *uploader, bool settled);
/* Goes down as far as answers allow. True: all that is to be asked about was found and answered. */
bool uploader_walk(struct uploader *uploader);
void uploader_ask(struct uploader *uploader);
void uploader_take_answer(struct uploader *uploader, struct uploader_flight *flight, struct span answer);
bool uploader_list_idle(const struct uploader_list *list);
/* To be sent. */
void uploader_miss(struct uploader *uploader, const struct digest *digest);

/* ---- uploader_packs.c ---- */

void uploader_fill_packs(struct uploader *uploader);
void uploader_send_packs(struct uploader *uploader);
void uploader_send_signs(struct uploader *uploader);
void uploader_take_signed(struct uploader *uploader, struct uploader_pack *pack, struct span message);
void uploader_take_stored(struct uploader *uploader, struct uploader_pack *pack, struct span stored);
/* Nothing is to be sent, and nothing was that has no answer yet. */
bool uploader_packs_idle(const struct uploader *uploader);
/* No memory of a pack is in somebody else's hands. */
bool uploader_packs_landed(const struct uploader *uploader);
/* Lets go of what was not sent. */
void uploader_packs_drop(struct uploader *uploader);
void uploader_packs_fini(struct uploader *uploader);

/* What was read is compressed, or told by bases: with whatever is known of these. */
void pack_compress(struct uploader_pack *pack);

/* ---- uploader_deltas.c ---- */

/* Behind the pieces chosen: the bases that they are to be told by, with room for their bytes. False: out of memory. */
bool pack_choose_bases(struct uploader *uploader, struct uploader_pack *pack);
/* By a helper thread: the message anew, with deltas where they pay. Without memory it stays as it is. */
void pack_tell(struct uploader_pack *pack);
/* Bases whose bytes the source has not kept are worth a question. */
bool pack_wants_signatures(const struct uploader_pack *pack);
/* Asks for those of this pack. False: it failed. */
bool pack_ask_signatures(struct uploader *uploader, struct uploader_pack *pack);
/* False: the answer makes no sense. */
bool pack_take_signatures(struct uploader_pack *pack, struct span message);
/* Their bytes are not needed any more. */
void pack_forget_bases(struct uploader_pack *pack);
/* What the gateway could not make of its bases is to be sent whole. */
void pack_take_whole(struct uploader *uploader, struct uploader_pack *pack, struct span whole);
