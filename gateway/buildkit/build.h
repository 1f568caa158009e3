/*
 * build: what is known of one build, which is one Control/Solve that is not the capability probe: from the moment it is
 * asked for until its client has the answer. Pure but for memory.
 */
#pragma once

#include "gateway/base/digest_set.h"
#include "gateway/base/list.h"
#include "gateway/broker/diffcopy.h"
#include "gateway/buildkitd/executors.h"
#include "proto/buildkit_solve.h"
#include "proto/grpc.h"

#define BUILD_ID_MAX       64            /* of Ref and session id, with the NUL; longer ones are cut */
#define BUILD_STEPS_MAX    65536         /* told apart; a step beyond is not counted */
#define BUILD_DIRECTORY_MAX 256

enum build_result {
	BUILD_RUNNING,
	BUILD_DONE,                      /* the executor said OK */
	BUILD_FAILED,                    /* the executor said something else: `status`, `text` */
	BUILD_CANCELLED,                 /* the client went first; waiting or running */
	BUILD_LOST,                      /* the executor's connection ended under it */
	BUILD_REFUSED,                   /* it got no executor: `text` says why */
};

struct binding;

struct build {
	struct binding *binding;         /* that of its Solve; for who shows something to its client */
	char tenant[256], subject[256];
	char ref[BUILD_ID_MAX], session[BUILD_ID_MAX];
	char directory[BUILD_DIRECTORY_MAX];     /* of its session's shared key "directory:client"; "" when that is empty */
	char exporters[64];              /* "local,oci"; "" when there are none */
	char executor[EXECUTOR_NAME_MAX];        /* "" before it was begun */
	bool internal;
	bool real_times;                 /* its result is to be the same bit by bit: mtimes may decide that */
	uint64_t asked_wall_ns, begun_wall_ns, ended_wall_ns;    /* begun: sent to its executor; 0: not yet */
	uint64_t lost_wall_ns, rewaited_ns;      /* since when it waits for another executor; how long it did */
	uint32_t replays;                /* executors that were lost under it, after which it went on elsewhere */
	uint32_t steps, steps_cached, steps_failed;      /* that ended; executed ones are steps - cached - failed */
	struct diffcopy_totals context;  /* of its sessions' DiffCopy calls so far */
	enum build_result result;
	enum grpc_status status;         /* as the client gets it, when the executor answered */
	char text[256];
	struct digest_set seen;          /* steps that ended */
};

/* NULL: no memory. */
struct build *build_create(const struct buildkit_solve_request *solve, const char *tenant, const char *subject, uint64_t now_wall_ns);
void build_destroy(struct build *build);         /* NULL is accepted */
/* A StatusResponse of its executor. */
void build_take_status(struct build *build, struct span message);
/* Its session is known: "directory:client". */
void build_set_shared_key(struct build *build, struct span shared_key);
const char *build_result_name(enum build_result result);

/* Who wants to know. Each may be NULL. */
struct build_events {
	/* Its executor has told all its progress: build_say() adds a line behind it. */
	void (*on_summary)(void *context, struct build *build);
	/* The last that is heard of it: it is freed after the return. */
	void (*on_ended)(void *context, const struct build *build);
	void *context;
};
