/*
 * host_directory: the directory that an executor host works in (`--executor-path`), of one host at a time: what it finds there
 * when it starts it takes for what a former one left, ends it and clears it away. In it are
 *
 *	slot-N/         slots' trees and overlays (workspace.h)
 *	images/         unpacked images (image.h)
 *	state/          the OCI runtime's; trial/ while one is tried (oci.h)
 *	buildkit/       started daemons' roots and sockets (spawn_directory.h)
 *	sluice.pid      the gateway whose host has it, or had it last
 */
#pragma once

#include <stddef.h>

/*
 * Makes the directory (0711: containers pass through it) when it is missing, and locks it: before anything in it is touched,
 * and before the host is forked. Whoever has a copy of `*lock_fd` holds the lock. It is to be the host's alone from the fork on:
 * then it is let go by whatever ends that.
 *
 * One that was there is taken when it belongs to root, is not shared as /tmp is, and is empty or a host's. It keeps its mode, but
 * that others may pass through it, and not write to it. While the host of a gateway that has gone still ends, this waits, 20 s
 * at most. 0; -EBUSY: another gateway's; -EPERM: none of ours; -errno; each with `why`, for the operator. When it is missing and
 * cannot be made, 0 with -1 in `*lock_fd`: the host will not be able to, either, and says so.
 */
int host_directory_take(int *lock_fd, const char *path, char *why, size_t why_size);
