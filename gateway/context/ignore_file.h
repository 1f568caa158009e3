/*
 * ignore_file: an ignore file as it was read: its rules, and the digest by which a snapshot knows them. Blocking; any
 * thread.
 */
#pragma once

#include "gateway/context/ignore.h"
#include "gateway/context/snapshot.h"
#include "gateway/context/why.h"

struct ignore_file {                     /* all zero: nothing is ignored */
	struct ignore *ignore;
	uint8_t digest[SNAPSHOT_RULES_BYTES];
};

/*
 * One that somebody named. It may be a pipe: then this waits for its end, and finds nothing in it a second time. `file` is
 * all zero before. 0 or -errno, with one sentence in `why`; -EINTR: a signal came while it waited.
 */
int ignore_file_read(struct ignore_file *file, const char *path, struct why why);
/* The .dockerignore of a directory, likewise. When there is none `file` stays all zero. A pipe is refused. */
int ignore_file_read_in(struct ignore_file *file, int dir_fd, struct why why);
void ignore_file_fini(struct ignore_file *file);
