/*
 * ledger_build: one line of the account: a build, who asked for it, where it ran, what it cost and how it ended. Plain
 * data, bounded, so that a line can be made, kept and compared without a ledger.
 */
#pragma once

#include "proto/span.h"

#define LEDGER_TENANT_BYTES    256       /* texts with their NUL; longer ones are cut (ledger_text) */
#define LEDGER_SUBJECT_BYTES   256
#define LEDGER_REF_BYTES       128
#define LEDGER_DIRECTORY_BYTES 256
#define LEDGER_EXECUTOR_BYTES  300
#define LEDGER_ERROR_BYTES     512

/* The numbers are those of sluice.v1, the words those of the table and of --json. */
enum ledger_result {
	LEDGER_RESULT_OK = 0,
	LEDGER_RESULT_FAILED = 1,
	LEDGER_RESULT_CANCELLED = 2,     /* by whoever asked for it */
	LEDGER_RESULT_LOST = 3,          /* it came to no end: its executor or its gateway went away */
	LEDGER_RESULTS,
};

/* Whose fault it was that a build did not end well. */
enum ledger_fault {
	LEDGER_FAULT_NONE = 0,
	LEDGER_FAULT_USER = 1,           /* what they asked for cannot be built */
	LEDGER_FAULT_PLATFORM = 2,       /* gateway or executor */
	LEDGER_FAULT_CLIENT_GONE = 3,    /* whoever asked cancelled it, or lost the connection: that looks the same */
	LEDGER_FAULTS,
};

/* Times are of the gateway's wall clock, ns since 1970; 0: it did not come to that. Texts are as clients sent them. */
struct ledger_build {
	char tenant[LEDGER_TENANT_BYTES];        /* never empty: who sees this line */
	char subject[LEDGER_SUBJECT_BYTES];      /* certificate's CN, "token:…" or "anonymous" */
	char ref[LEDGER_REF_BYTES];              /* BuildKit's name of the build */
	char directory[LEDGER_DIRECTORY_BYTES];  /* basename of the shared key, else the context's name; "": git, stdin */
	char executor[LEDGER_EXECUTOR_BYTES];    /* the last one that it ran on; "": it never got one */
	uint64_t queued_wall_ns, started_wall_ns, ended_wall_ns;
	uint64_t queue_ns;                       /* time spent waiting for executors, replays' included */
	uint64_t files, files_changed;           /* of the context */
	uint64_t bytes_from_client, bytes_from_store, bytes_to_executor;
	uint32_t steps_cached, steps_executed;
	uint32_t replays;                        /* executors that it was taken away from */
	uint32_t status;                         /* gRPC code that the client read; 0 when it went well */
	enum ledger_result result;
	enum ledger_fault fault;
	char error[LEDGER_ERROR_BYTES];          /* the sentence that the client read, cut */
};

/* Copies `text` cut to `size - 1` bytes, never in the middle of a character; a NUL in it becomes '?'. */
void ledger_text(char *out, size_t size, struct span text);

/* "ok", "failed", "cancelled", "lost"; "none", "user", "platform", "client-gone". What no number is: "unknown". */
const char *ledger_result_name(uint32_t result);
const char *ledger_fault_name(uint32_t fault);
/* The way back; LEDGER_RESULTS or LEDGER_FAULTS when it is no such word. */
enum ledger_result ledger_result_find(const char *name);
enum ledger_fault ledger_fault_find(const char *name);
