/* push_private: one Push call, for push.c, push_offer.c, push_pack.c and push_commit.c. */
#pragma once

#include "gateway/cas/cas.h"
#include "gateway/cas/closure.h"
#include "gateway/cas/open_call.h"
#include "gateway/cas/promises.h"
#include "gateway/cas/push_below.h"
#include "gateway/cas/push_deltas.h"
#include "gateway/cas/push_sign.h"
#include "proto/sluice_v1.h"

enum push_state {
	PUSH_IDLE,
	PUSH_OFFER,
	PUSH_OFFER_AWAIT,                /* for a sibling that is pushing the same root */
	PUSH_QUERY,
	PUSH_PACK_WAIT,                  /* for its turn at cas->packs */
	PUSH_DELTAS_WAIT,                /* at cas->deltas, inside cas->packs */
	PUSH_DELTAS,                     /* their bases are read */
	PUSH_PACK,
	PUSH_SIGN_WAIT,                  /* for its turn at cas->deltas */
	PUSH_BELOW,                      /* directories that have names in them are read */
	PUSH_SIGN,                       /* what is to be signed is read */
	PUSH_AWAIT,                      /* for blobs that siblings are sending */
	PUSH_SETTLE,                     /* looks which of them did not come */
	PUSH_COMMIT,
	PUSH_SYNC,
};

/* The request that is coming in. */
enum push_coming {
	PUSH_COMING_NOTHING,
	PUSH_COMING_UNTOLD,              /* too little of it to tell what it is */
	PUSH_COMING_PACK,                /* taken as it comes */
	PUSH_COMING_WHOLE,               /* something else: kept until all of it is there */
};

/* A Pack in push->message, whole or as far as it has come. It is taken in lots: some blobs that are whole, at a time. */
struct push_taking {
	size_t at, lot;                  /* where in the message; the blobs from there that are whole, or are being taken */
	size_t left;                     /* of the pack, from `at` on, arrived or not */
	bool more;                       /* a lot is under way, and what comes behind it goes to push->next */
	size_t blobs, bytes, kept;       /* seen in it so far, also those told by deltas, and of them stored */
	size_t deltas, bases_bytes;      /* of those */
	bool *again;                     /* which of the deltas were not made: SLUICE_LIST_MAX from the first one on */
};

struct push {
	struct call call;
	struct open_call open;
	struct cas *cas;
	struct scope scope;
	enum push_state state;
	bool closed;                     /* the call is gone */
	bool commit_if_whole;
	bool joined;                     /* it has waited for a sibling's root */
	enum push_coming coming;
	struct store_hold *hold;
	struct buffer message;           /* the request, kept while it is handled; of a pack what was not taken yet */
	struct buffer next;              /* of a pack, while a lot is under way, what follows that: less than a lot and a stream's window */
	struct push_taking taking;
	struct buffer response;
	struct buffer extra;             /* encoding of list elements */

	struct digest *digests;          /* grown to the longest list so far, at most SLUICE_LIST_MAX */
	bool *present;
	bool *promised;
	uint32_t *places;
	struct store_item *items;
	struct sha256_job *jobs;
	size_t digests_capacity;
	size_t count;

	struct store_marks marks;
	struct store_lookup lookup;
	struct store_put put;
	struct store_sync sync;
	struct closure closure;
	struct push_deltas deltas;       /* of the pack that is handled */
	struct push_below below;         /* all zero: none are asked for */
	struct push_sign sign;
	struct gate_pass pass;           /* of cas->packs, then of cas->deltas */

	struct promiser promiser;
	uint64_t asked_ns;               /* when the request that may wait for siblings came */
	struct op timer;                 /* while it waits for them */
	struct digest root;              /* to be committed */
};

/* Of a request in push->message, of which `left` bytes are still to come: what it is. Makes push->taking ready for a pack. */
enum push_coming push_pack_tell(struct push *push, size_t left);
/* push->taking is about a pack that begins at `at` in push->message, with `left` bytes. */
void push_pack_begin(struct push *push, size_t at, size_t left);
/* Memory for a request that will be long, from one that was. */
void push_pack_spare(struct push *push);
/*
 * Some more of the pack that push->taking is about has come; or all of it, and the call is held. While the push is idle. False: too
 * little for a lot.
 */
bool push_pack(struct push *push);
/* More of it has come while a lot is under way, `left` bytes follow. */
void push_pack_behind(struct push *push, struct span part, size_t left);
/* The call has gone: out of the line, if its pack waits for a turn; false: it does not. */
bool push_pack_cancel(struct push *push);
/* Handles an Offer, a Query, a Commit. */
void push_offer(struct push *push, struct span message);
void push_query(struct push *push, struct span message);
void push_commit(struct push *push, struct span message);

/* The only writer of push->state. */
void push_enter(struct push *push, enum push_state state);
/* Siblings are still to be waited for. */
bool push_patient(const struct push *push);
/* Until something that the promiser waits for has changed, or for a while; then `fn`, which is push_landed() first. */
void push_wait(struct push *push, enum push_state state, op_fn *fn);

/* A store operation has landed. True when the call has gone meanwhile and the push was freed. */
bool push_landed(struct push *push);
/* Reads a digest list into push->digests. False: the call has been refused. */
bool push_take_list(struct push *push, struct span list);
/* Makes durable what there is, and answers that push->root is committed. */
void push_sync(struct push *push);
/* Room for lists of `count`. False: out of memory. */
bool push_reserve(struct push *push, size_t count);

/* Each ends the handling of a request: push->response goes out and the next request may come, or the call ends. */
void push_answer(struct push *push);
void push_fail(struct push *push, enum grpc_status status, const char *text);
void push_fail_memory(struct push *push);
void push_fail_hold(struct push *push, int result);      /* of store_hold_*() */
void push_fail_store(struct push *push, int result);     /* of any other store operation */
