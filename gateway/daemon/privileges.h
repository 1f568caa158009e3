/* privileges: what a daemon takes up and, started as root, gives away. Blocking, before the loop. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* RLIMIT_MEMLOCK (256 MiB) and RLIMIT_NOFILE (65,536) as high as allowed, for root beyond the hard limit; failures are no errors. */
void privileges_raise_limits(void);

/* The ids of a user; -ENOENT with a `why` that says how to make it. */
int privileges_user(const char *name, uid_t *uid, gid_t *gid, char *why, size_t why_size);

/* Makes `path` (0700) for that user when it is missing; when it is there it must be theirs, else `why` says how. */
int privileges_own_directory(const char *path, uid_t uid, gid_t gid, char *why, size_t why_size);

/* Becomes the user for good: groups, ids, no capabilities, no new privileges. Checks that there is no way back. */
int privileges_drop(uid_t uid, gid_t gid, char *why, size_t why_size);
