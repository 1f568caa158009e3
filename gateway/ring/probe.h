/*
 * probe: what this machine's kernel offers, feature by feature, tried and not guessed; for `sluice doctor` and for the
 * io_uring engine's own choice. Functional tests on a throw-away ring of the calling thread.
 */
#pragma once

#include "gateway/ring/ring.h"

enum ring_refusal {
	RING_REFUSAL_NONE,
	RING_REFUSAL_SYSCTL,             /* kernel.io_uring_disabled */
	RING_REFUSAL_SECCOMP,            /* a filter (container runtime's default profile) */
	RING_REFUSAL_KERNEL,             /* built without, or too old for what the engine needs */
	RING_REFUSAL_MEMLOCK,            /* RLIMIT_MEMLOCK */
	RING_REFUSAL_MODULE,             /* forbidden, and by none of these: a security module */
	RING_REFUSAL_DESCRIPTORS,        /* RLIMIT_NOFILE; the epoll engine would want some, too */
	RING_REFUSAL_OTHER,
};

struct ring_feature {
	const char *name;                /* "multishot receive" */
	bool works;
	const char *detail;              /* what it is for, or how it failed; good until the next ring_probe */
	const char *remedy;              /* what to do when it does not work; "" when nothing is lost */
};

enum { RING_FEATURES_MAX = 16 };

/* Which cause refused io_uring to this process; `error` as ring_create or io_uring_queue_init returned it. */
enum ring_refusal ring_refusal(int error);
/* "sysctl", "seccomp", ... */
const char *ring_refusal_name(enum ring_refusal refusal);
/* The exact remedy for a cause: one sentence with the command. */
const char *ring_refusal_remedy(enum ring_refusal refusal);

/* What to tell who asked for `engine` and got `error` of ring_create(): one sentence, with what helps where that is known. */
void ring_refusal_tell(int error, enum ring_engine engine, char *why, size_t why_size);

/* What ring_refusal() judges by. */
struct ring_refusal_facts {
	int sysctl;                      /* kernel.io_uring_disabled; -1: there is none (before Linux 6.6) */
	bool privileged;                 /* CAP_SYS_ADMIN, or in kernel.io_uring_group: sysctl 1 does not hold for us */
	int seccomp;                     /* mode in /proc/self/status: 0 none, 1 strict, 2 filter */
	bool memlock_limited;
};

enum ring_refusal ring_refusal_judge(int error, const struct ring_refusal_facts *facts);

/* Tries all features; returns how many were written to `features`. The first is io_uring itself. */
size_t ring_probe(struct ring_feature *features, size_t features_max);
