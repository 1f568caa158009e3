/*
 * snapshot_file: a snapshot on the disk. Read through a mapping; written aside, synced and renamed over the old one, so
 * that there is always a whole one, also with two writers. Mode 0600. Blocking.
 */
#pragma once

#include "gateway/context/snapshot.h"

struct snapshot_file {
	struct snapshot snapshot;
	void *mapping;
	size_t mapping_bytes;
};

/*
 * True: `file->snapshot` is the snapshot of `directory`, borrowed from the mapping. False: there is none that could be
 * used, for whatever reason (missing, corrupt, of another path or version, somebody else's, writable by others).
 */
bool snapshot_file_open(struct snapshot_file *file, const char *path, struct span directory);
void snapshot_file_close(struct snapshot_file *file);

/* 0 or -errno. Missing parent directories are made, mode 0700. */
int snapshot_file_save(const char *path, const struct snapshot *snapshot);
