/*
 * promises: what pushes in progress are going to send, so that siblings (other pushes of the same tenant and instance) need
 * not send it as well. Nothing here is ever looked at across scopes.
 *
 * Blobs: one that is absent is *promised* by the first push that is told so. A sibling that asks later is told that it is
 * there, *awaits* it, and has its commit wait until it has come, or until the promiser has ended, has gone on to its own
 * commit, or stalls. Roots: a push that is told that the root which it means to commit is not whole promises to make it so;
 * a sibling with the same root, if it has promised nothing itself, waits for that with its first question.
 *
 * Nobody waits while others wait for him: who asks for a commit lets go of the blobs that he promised, and who waits for a
 * root has promised nothing. A promise binds nobody: when the table is full, or a promise lapses, whoever asks is told to
 * send.
 */
#pragma once

#include "gateway/base/digest_set.h"
#include "gateway/ring/ring.h"
#include "gateway/tenant/scope.h"
#include "proto/call.h"

#define PROMISES_MAX         (1u << 20)          /* blobs and roots promised, in all: about 140 bytes each */
#define PROMISES_AWAITED_MAX (1u << 21)          /* blobs awaited, in all: 160 bytes each at most */
#define PROMISES_STALL_NS    5000000000ull       /* of a promiser of whom nothing arrives */
#define PROMISES_WAIT_NS     300000000000ull     /* of a request, however well the promisers get on */

struct promise;

struct promises {
	struct ring *ring;
	uint64_t stall_ns, wait_ns;      /* as above; tests are less patient, */
	size_t count_max, awaited_max;   /* and have less room */
	struct promise **buckets;        /* made when first needed */
	struct digest_secret secret;     /* of these */
	size_t count, awaited;           /* now */
};

/* A push. Embedded in it; all-zero is accepted by promiser_fini(). */
struct promiser {
	struct promises *promises;
	struct scope scope;
	const struct call *call;         /* whose bytes tell if it gets on */
	bool busy;                       /* a request of it is being handled: it does not stall */
	struct list promised;            /* by this one */
	struct list waiting;             /* link in a promise's list of those who wait for it */
	struct digest_set awaited_once;  /* so that nothing is awaited twice */
	struct digest_vector awaited;
	size_t awaited_open;             /* so many of these, from the front, may still come */
	struct digest_vector settling;   /* awaited before, and now to be looked for */
	/* What this one waits for has come, or will not. Not inline: it only cancels a timer. */
	void (*on_change)(struct promiser *promiser);
	uint64_t seen_bytes, seen_ns;    /* when the call was last looked at by somebody who waits */
};

void promises_init(struct promises *promises, struct ring *ring);
/* No promiser is left. */
void promises_fini(struct promises *promises);

void promiser_init(struct promiser *promiser, struct promises *promises, const struct scope *scope,
                   const struct call *call, void (*on_change)(struct promiser *promiser));
/* All of its promises lapse, and it is no longer told of anything. May be called again. */
void promiser_fini(struct promiser *promiser);

/* ---- blobs ---- */

/*
 * This push is about to be told that `digest` is absent. True: a sibling is sending it; this one awaits it, and is to be
 * told so. False: it is to send it itself, and has promised to. With `patient` false siblings do not count.
 */
bool promiser_claim(struct promiser *promiser, const struct digest *digest, bool patient);
/* They are in the store, whoever has sent them. */
void promises_kept(struct promises *promises, const struct scope *scope, const struct digest *digests, size_t count);
/* It sends no more of the blobs that it has promised: it asks for a commit. */
void promiser_release(struct promiser *promiser);

/*
 * True: something that it awaits may still come; on_change follows when it is to ask again, and it asks again after
 * stall_ns anyhow. False: nothing does, and promiser_settle() gives what it awaited.
 */
bool promiser_waits(struct promiser *promiser);
/*
 * How many blobs that it awaited are to be looked for in the store now, `max` at most; 0: that was all. promiser_settle()
 * takes so many; those that are not there are claimed again.
 */
size_t promiser_settling(struct promiser *promiser, size_t max);
void promiser_settle(struct promiser *promiser, struct digest *digests, size_t count);

/* ---- roots ---- */

/* As promiser_claim(), of a root that is not whole; true: on_change follows, as of promiser_waits(). */
bool promiser_claim_root(struct promiser *promiser, const struct digest *root, bool patient);
/* It was committed. */
void promises_kept_root(struct promises *promises, const struct scope *scope, const struct digest *root);
