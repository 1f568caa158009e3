/* ledger_row: a line as a row of SQLite's table `builds`. On whichever thread has the connection. */
#pragma once

#include <sqlite3.h>
#include "gateway/ledger/ledger_build.h"

#define LEDGER_ROW_COLUMNS                                                                                             \
	"tenant, subject, ref, directory, executor, queued_ns, started_ns, ended_ns, queue_ns, files, files_changed, "  \
	"bytes_from_client, bytes_from_store, bytes_to_executor, steps_cached, steps_executed, replays, result, fault, " \
	"status, error"
#define LEDGER_ROW_PLACES "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"

/* To the parameters of a statement with LEDGER_ROW_PLACES. Texts are borrowed until its bindings are cleared. */
void ledger_row_bind(sqlite3_stmt *statement, const struct ledger_build *build);
/* From a row of LEDGER_ROW_COLUMNS. A word that is no result or fault becomes LEDGER_RESULTS or LEDGER_FAULTS. */
void ledger_row_read(sqlite3_stmt *statement, struct ledger_build *build);
