/*
 * replay: what is kept of one build so that it can be done again when its executor is lost: its Solve (in its forward),
 * and each LLBBridge call that went well, with what the client was told. On another executor the Sessions are carried
 * first, then Solve is sent again with the same Ref, then Status, then the kept calls in order, by ourselves. Their
 * answers name results otherwise than the client knows them: later requests are rewritten (buildkit_refs.h).
 *
 *	IDLE -> HELD -> SENT -> REPEATING -> IDLE        SENT, REPEATING -> HELD: lost once more
 *
 * A build is done again when nothing of it has left for a place that keeps it: no push or cache export can have begun,
 * no tar gone to the client, no context been read that comes once and was not kept (spool.h). It is all builds of a binding or none, as they share
 * sessions. When a repeated call fails, the client's Solve ends with its status: the daemon would wait for Return for ever.
 *
 * On the ring's thread. Source: DESIGN.md decision 13, research/buildkit-tricks.md F.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/buildkitd/executors.h"
#include "proto/buildkit_refs.h"
#include "proto/buildkit_solve.h"
#include "proto/call.h"

#define REPLAY_BYTES_MAX (1u << 20)      /* kept of a build's LLBBridge calls; and its Solve; beyond: no replay */
#define REPLAY_STEPS_MAX 1024            /* calls, likewise */
#define REPLAYS_MAX      2               /* a build */

struct binding;
struct buildkit_call;
struct uplink;

enum replay_policy {
	REPLAY_OFF,
	REPLAY_SAFE,
};

enum replay_state {
	REPLAY_IDLE,
	REPLAY_HELD,                     /* lost; its Solve waits for another executor */
	REPLAY_SENT,                     /* that has the Solve; the kept calls come next */
	REPLAY_REPEATING,                /* one of them is under way */
};

struct replay {
	enum replay_state state;
	struct buildkit_call *solve;     /* NULL: gone; freed with the end of `call` */
	unsigned count;                  /* losses that were mended, or are being */
	const char *why_not;             /* it cannot be done again, and why; NULL: it can */
	char lost[EXECUTOR_NAME_MAX];
	bool delivers;                   /* pushes, or exports its cache elsewhere than to the client */
	bool gathers;                    /* exports a file of which the client may have but one copy */
	bool frontend;                   /* its executor decides when the export begins; else Return does */
	bool returned;
	struct list steps;
	size_t steps_count, bytes;
	struct list *next;               /* the step to be repeated */
	struct call call;
	bool calling;
	const struct h2 *carrier;        /* of `call` */
	struct buffer answer;
	struct buildkit_ref_map map;
};

/* For a Solve that is no probe. NULL: no memory; then it is not done again. */
struct replay *replay_create(struct buildkit_call *solve, const struct buildkit_solve_request *request);
/* Its Solve has gone. NULL is accepted. */
void replay_leave(struct replay *replay);
/* A path of the frontend's service that changes something, or decides on it: kept, and repeated. */
bool replay_repeats(struct span path);
/* An LLBBridge call went well: takes its request. */
void replay_note(struct replay *replay, struct buildkit_call *call);
/*
 * A connection is lost, `lost` being its executor's name as its calls have it: all builds on it can go on elsewhere. False, with
 * `why` when there are any.
 */
bool replay_possible(const struct binding *binding, const char *lost, const char **why);
/* Its Solve is held again. */
void replay_begin(struct replay *replay, const char *lost);
/* Nothing else of its build may be opened now. */
static inline bool replay_under_way(const struct replay *replay)
{
	return replay && replay->state != REPLAY_IDLE;
}
/* Its Solve was sent, and Status behind it: the calls are repeated. */
void replay_go_on(struct replay *replay, struct uplink *uplink);
