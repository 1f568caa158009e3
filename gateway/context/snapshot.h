/*
 * snapshot: a table as a file, so that the next scan of the same directory need read only what has changed. This is the
 * codec, without effects; snapshot_file.h has those.
 *
 * The file: a header, the table's arrays one after the other, the directory's path, the gateway's id, and a checksum of
 * it all (XXH3). It is read in place (mapped), in the byte order and with the struct layout of the machine that wrote
 * it: a file of another version, machine, path, or with a wrong checksum or number anywhere is no snapshot, and that
 * is never an error: everything is then read anew.
 */
#pragma once

#include "gateway/context/table.h"

#define SNAPSHOT_VERSION           1
#define SNAPSHOT_RULES_BYTES       32
#define SNAPSHOT_PATH_BYTES_MAX    4096
#define SNAPSHOT_GATEWAY_BYTES_MAX 256

struct snapshot {
	struct table table; /* as it is saved: nothing dirty, and chunks all its own when loaded */
	struct span path;                            /* the directory: without symlinks, whatever the caller's spelling */
	uint8_t rules[SNAPSHOT_RULES_BYTES];         /* digest of the ignore file that the scan obeyed; zero: none */
	struct span gateway;                         /* where `committed` was committed; empty: nowhere */
	struct digest committed;                     /* a root */
};

/* Receives the file's bytes in order. 0 or -errno, which ends the encoding. */
typedef int snapshot_sink(void *context, const void *data, size_t size);

int snapshot_encode(const struct snapshot *snapshot, snapshot_sink *sink, void *context);

/*
 * Takes a whole file, at an address that is a multiple of 8. False: no snapshot of `path`. What it hands out is
 * borrowed from `file`, never written to, and every number in it that leads somewhere leads inside.
 */
bool snapshot_decode(struct snapshot *snapshot, struct span file, struct span path);
