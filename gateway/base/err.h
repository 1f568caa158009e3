/*
 * err: errors that are fatal to a unit (stream, connection, process) travel up as a negative errno, unchanged.
 * ERR_RAISE notes each site it passes, so that the one log line at the top can show the path: err_report().
 */
#pragma once

#include <stdbool.h>

/* Returns `r` (which must be negative) after recording this site in a small per-thread ring. */
#define ERR_RAISE(r) err_raise((r), __FILE__, __LINE__)

int err_raise(int r, const char *file, int line);

/* The process, or the machine, has no file descriptor left just now: nothing is broken. Takes either sign. */
bool err_no_descriptors(int r);

/* "ENOSPC (No space left on device)"; static per-thread storage. Takes either sign. */
const char *err_text(int r);

/*
 * For a log line: as err_text(), and behind it the sites that `r` passed, when it is the newest error that was raised on this thread:
 * "ENOSPC (No space left on device) from store.c:81 < push.c:12". Static per-thread storage. Clears the record.
 */
const char *err_report(int r);
