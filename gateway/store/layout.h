/*
 * layout: a store's directory: who has it (lock), which format it has (format), and how big its parts may be.
 *
 *	lock            flock'd by the daemon or fsck that works on it; holds its pid
 *	format          text: version, secret, segment size
 *	scopes          text: tenants' and instances' names and numbers (scopes.h)
 *	index/          LMDB
 *	segments/       one file each, named by its number in 8 hex digits
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_FORMAT 1

struct layout {
	uint32_t format;
	uint64_t secret;
	uint64_t segment_bytes;
};

/* Opens the directory (made, 0700, when `create`). A descriptor or -errno. */
int layout_open(const char *path, bool create);
/* A locked descriptor, or -EBUSY (`why` says who), or -errno. */
int layout_lock(int dir_fd, const char *path, char *why, size_t why_size);
/* 0; -ENOENT: no store here yet; -EPROTONOSUPPORT; -errno. */
int layout_read(int dir_fd, struct layout *layout, const char *path, char *why, size_t why_size);
/* Makes the directories. */
int layout_prepare(int dir_fd);
/* Atomically and durably; the last step of making a store. */
int layout_write(int dir_fd, const struct layout *layout);

/* What the index may take of a ceiling, and how many segments that leaves. */
uint64_t layout_map_bytes(uint64_t ceiling_bytes);
uint64_t layout_segment_bytes(uint64_t ceiling_bytes);
/* The lowest ceiling under which so many segments fit. */
uint64_t layout_ceiling_least(uint64_t segment_bytes, uint32_t segments);
uint32_t layout_segments_max(uint64_t ceiling_bytes, uint64_t segment_bytes);
