/*
 * engine: what a ledger is kept in, as an asynchronous interface. An engine is given one task at a time: workers of a
 * ring are few, and the store's commits need one. It knows nothing of queues, batches or retries; ledger.c does.
 */
#pragma once

#include "gateway/ledger/ledger.h"

struct ledger_backend;

enum ledger_task_kind {
	LEDGER_TASK_WRITE,               /* `lines`: all of them durably, or none */
	LEDGER_TASK_LIST,                /* fills in `list->builds` and `list->count` */
	LEDGER_TASK_TRIM,                /* deletes some of what is too old */
	LEDGER_TASK_CLOSE,               /* the backend is gone when `fn` is called */
};

#define LEDGER_TRIM_MAX 512              /* lines that one trim deletes at most */

struct ledger_task {
	enum ledger_task_kind kind;
	const struct ledger_build *const *lines; /* in the order in which they are to be numbered */
	size_t count;
	struct ledger_list *list;
	uint64_t before_wall_ns;         /* trim: lines of builds that ended before that, */
	uint64_t lines_max;              /* and the oldest beyond so many */
	uint64_t deleted;                /* out: when LEDGER_TRIM_MAX, there may be more */
	void (*fn)(struct ledger_task *task);    /* on the ring's thread, later: never from inside run() */
	int result;                      /* 0 or -errno */
	char why[512];                   /* when it is negative: a sentence for the log */
};

struct ledger_engine {
	const char *name;
	/* Blocking. As ledger_open(). */
	int (*open)(struct ledger_backend **backend, const struct ledger_config *config, char *why, size_t why_size);
	/* The task is the caller's to keep until its `fn`. */
	void (*run)(struct ledger_backend *backend, struct ledger_task *task);
};

extern const struct ledger_engine ledger_sqlite;
