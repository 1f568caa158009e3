/*
 * executor_ask: what one buildkitd can do, asked of it: Control/ListWorkers, Control/Info, and LLBBridge/Ping. A Ping is
 * answered only inside a build, so there is one: without a definition, internal (no history), and returned empty at once.
 *
 * The calls have no clock: whoever started them closes the connection when they take too long.
 * Source: buildkit's control/gateway/gateway.go, solver/llbsolver/solver.go; tried with buildkitd v0.32.2.
 */
#pragma once

#include "gateway/ring/ring.h"
#include "proto/call.h"

#define ASK_ANSWER_BYTES_MAX (1u << 20)
#define ASK_REF_BYTES        25

enum ask_part_kind { ASK_WORKERS, ASK_INFO, ASK_SOLVE, ASK_PING, ASK_RETURN, ASK_PARTS };

struct ask_part {
	struct ask *ask;
	struct call call;
	struct buffer answer;            /* the response message */
	bool open, answered;
};

struct ask {
	/* All calls have ended. `why` NULL: answers are there; else one sentence. Perhaps inside ask_start(). */
	void (*on_done)(struct ask *ask, const char *why);
	struct h2 *h2;
	struct ask_part parts[ASK_PARTS];
	bool starting, busy;
	char ref[ASK_REF_BYTES + 1];
	char why[512];
};

/* `on_done` is set. One at a time; asking again throws the former answers away. */
void ask_start(struct ask *ask, struct ring *ring, struct h2 *h2, uint64_t timeout_ns);
/* Until the next start; empty when that call was refused, which Info may be. */
struct span ask_answer(const struct ask *ask, enum ask_part_kind kind);
/* Not while calls are open. All-zero is accepted. */
void ask_fini(struct ask *ask);
