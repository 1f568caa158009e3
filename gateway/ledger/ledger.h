/*
 * ledger: the account: a line a build, kept for a while, listed by the tenant that it belongs to and by nobody else.
 *
 * Asynchronous: an operation is a struct embedded in its owner with a completion handler `fn`, which may be called
 * inline or later, from ring_run(). Owners keep it, and what it points to, until `fn`. All on the ring's thread. An
 * engine (engine.h) does the work: SQLite in the store's directory, or a delaying one in tests.
 *
 * Builds do not wait for their account. Lines gather for LEDGER_GATHER_NS and are written many at a time; while the disk
 * refuses, they wait and are tried again every LEDGER_RETRY_NS; when LEDGER_WAITING_MAX wait, further lines are dropped,
 * counted and logged: what waits already is the older truth, and dropping the newest needs no search.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/ledger/ledger_build.h"
#include "gateway/ring/ring.h"

#define LEDGER_WAITING_MAX 1024          /* lines not yet written */
#define LEDGER_BATCH_MAX   256           /* lines a transaction */
#define LEDGER_GATHER_NS   50000000u     /* so at most 20 transactions, each with its sync, a second */
#define LEDGER_RETRY_NS    1000000000u
#define LEDGER_LISTS_MAX   16            /* lists waiting or running */
#define LEDGER_LIST_MAX    1000          /* lines a list */
#define LEDGER_LINES_MAX   2000000u      /* kept, all tenants: the oldest go first. About 1 GB */
#define LEDGER_TRIM_NS     3600000000000u        /* between two searches for lines that are too old */

struct ledger;
struct ledger_engine;

enum ledger_outcome {
	LEDGER_OK = 0,
	LEDGER_DROPPED = 1,              /* too many lines wait; counted and logged */
	LEDGER_BUSY = 2,                 /* too many lists wait */
};                                       /* a negative value: errno of a failing disk or a damaged database */

struct ledger_config {
	struct ring *ring;
	const char *directory;           /* the store's; the ledger is a file in it */
	uint64_t keep_ns;                /* lines of builds that ended longer ago are deleted; 0: only LEDGER_LINES_MAX holds */
	const struct ledger_engine *engine;      /* NULL: SQLite */
};

/*
 * Opens or makes the ledger, blocking, before the loop runs. 0, also when the disk is full or the file locked: then lines
 * wait, and it is opened when it can be, which the log tells. -EUCLEAN: it is damaged; -EPROTONOSUPPORT: a format that
 * this version does not know; else errno. `why` gets one sentence that says what to do.
 */
int ledger_open(struct ledger **ledger, const struct ledger_config *config, char *why, size_t why_size);
/*
 * What waits is written, once; then `fn`, perhaps inline for NULL, and `ledger` is gone. Nothing may be appended or listed
 * from here on, but what was still completes.
 */
void ledger_close(struct ledger *ledger, void (*fn)(void *context), void *context);

struct ledger_append {
	struct ledger_build build;       /* the caller's to fill in; unchanged until `fn` */
	void (*fn)(struct ledger_append *append);
	/* LEDGER_OK: it is on the disk, durably. LEDGER_DROPPED. Negative: it could not be written before the end */
	int result;
	struct list link;                /* the ledger's */
};
void ledger_append(struct ledger *ledger, struct ledger_append *append);

/* Newest end first. Sees every line that was appended before it, unless the disk refuses lines just now. */
struct ledger_list {
	char tenant[LEDGER_TENANT_BYTES];        /* whose lines; never empty */
	uint64_t since_wall_ns;          /* of builds that ended then or later */
	bool only_failed;                /* only those with result failed or lost */
	struct ledger_build *builds;     /* room for `limit` */
	size_t limit;                    /* 1 to LEDGER_LIST_MAX */
	void (*fn)(struct ledger_list *list);
	int result;                      /* LEDGER_OK, LEDGER_BUSY or negative */
	size_t count;                    /* out */
	/* the ledger's */
	uint64_t after;
	struct list link;
};
void ledger_list(struct ledger *ledger, struct ledger_list *list);

struct ledger_status {
	uint64_t lines_written, lines_dropped, lines_waiting, lines_deleted, errors;
};
void ledger_status(const struct ledger *ledger, struct ledger_status *status);
