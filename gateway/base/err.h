/*
 * err: errors that are fatal to a unit (stream, connection, process) travel up as a negative errno, unchanged.
 * ERR_RAISE notes each site it passes, so that the one log line at the top can show the path: err_trace().
 */
#pragma once

/* Returns `r` (which must be negative) after recording this site in a small per-thread ring. */
#define ERR_RAISE(r) err_raise((r), __FILE__, __LINE__)

int err_raise(int r, const char *file, int line);

/* "store.c:81 < push.c:12" for the newest error of this thread; static per-thread storage. Clears the record. */
const char *err_trace(void);

/* "ENOSPC (No space left on device)"; static per-thread storage. Takes either sign. */
const char *err_text(int r);
