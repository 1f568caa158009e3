/*
 * beneath: files under a directory that nobody may lead us out of. Every path is relative to a descriptor and resolved
 * by openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV: no "..", no symlink,
 * no other mount is ever passed, also when somebody changes the directory meanwhile. Blocking; any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Levels that beneath_remove and beneath_clear go down, with two descriptors each. What lies deeper is moved to the
 * top first, so that a tree of any depth goes.
 */
#define BENEATH_DEPTH_MAX 64

/* openat2 with the rules above (and O_CLOEXEC, O_NOFOLLOW). A descriptor, or -errno: -ELOOP a symlink, -EXDEV a way out. */
int beneath_open(int root_fd, const char *path, int flags, mode_t mode);

/* The directory that holds `path`'s last name (which `*name` then points to, inside `path`). A descriptor or -errno. */
int beneath_open_parent(int root_fd, const char *path, const char **name);

/*
 * Removes what `name` is, with all below when it is a directory. Symlinks are removed, never followed. What does not
 * exist is no error. -EXDEV: something is mounted in there. Directories that their owner may not write to are made
 * writable first.
 */
int beneath_remove(int parent_fd, const char *name);

/* Removes all that a directory holds, not the directory. */
int beneath_clear(int dir_fd);

/* 1: the directory holds nothing; 0: it holds something; or -errno. */
int beneath_is_empty(int dir_fd);
