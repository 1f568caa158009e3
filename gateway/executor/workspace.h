/*
 * workspace: a slot's directories on disk, all in ROOT/slot-N:
 *
 *	tree/     the last tree that was materialised here, owned by one of the slot's mapped ids; `tree.base` names it
 *	upper/    what the action at hand changes; work/ is the overlay's own
 *	merged/   the two together, mounted nosuid and nodev: the action's /work
 *	bundle/   the container's
 *
 * ROOT is 0711 (host_directory.h) and each slot 0710 with the slot's group: so the container's root can pass through its own slot,
 * other slots and other users of the host cannot look inside. `tree.base` holds the tree's digest, the boot id, its owner and a
 * digest of whose it is; it is removed before the tree is changed: after a crash the tree is made anew. Blocking; one thread a slot.
 */
#pragma once

#include "gateway/context/collect.h"
#include "gateway/context/materialise.h"

#include <stdbool.h>
#include <stdint.h>

#define WORKSPACE_SLOTS_MAX  65              /* numbers from 0 to HOST_SLOTS_MAX, of which hosts begin at 1 */
#define WORKSPACE_UID_BASE   1000000000u     /* of slot 0, when the settings say nothing else */
#define WORKSPACE_UID_COUNT  65536u

struct workspace;

struct workspace_options {
	const char *root;                /* absolute, without ',' ':' and '\' (overlay options); its parents searchable by others */
	uint32_t slot;
	uint32_t uid_base, uid_count;    /* 0: WORKSPACE_UID_BASE + slot * WORKSPACE_UID_COUNT, WORKSPACE_UID_COUNT */
};

/*
 * Once at start, before any slot is opened: unmounts what a former host left below the slots in `root` and empties their
 * upper, work and bundle directories. Trees and their bases stay, and so does what is no slot. 0 or -errno.
 */
int workspace_recover(const char *root, char *why, size_t why_size);

/* Also unmounts what a former process of this slot left; its container must be gone (oci_cleanup_bundle). */
int workspace_open(struct workspace **workspace, const struct workspace_options *options, char *why, size_t why_size);
/* Unmounts; the tree stays for the next time. */
void workspace_close(struct workspace *workspace);

/* The tree that is there for sure; NULL: unknown. */
const struct digest *workspace_base(const struct workspace *workspace);
uint32_t workspace_uid_base(const struct workspace *workspace);
uint32_t workspace_uid_count(const struct workspace *workspace);
const char *workspace_merged_path(const struct workspace *workspace);
const char *workspace_upper_path(const struct workspace *workspace);
const char *workspace_bundle_path(const struct workspace *workspace);
/* Where a slot's bundle is, before it is opened. False: too long. */
bool workspace_bundle_of(const char *root, uint32_t slot, char *path, size_t path_size);

/* Who runs in the trees that are made from now on, inside: root, until this is called. They are his; one of another's is made anew. */
void workspace_set_owner(struct workspace *workspace, uint32_t uid, uint32_t gid);

/*
 * Whose trees are made from now on: nobody's, until this is called. One of somebody else's is made anew, whatever of it is the same:
 * what there was not to fetch, and to write, would tell him what the other had.
 */
void workspace_set_scope(struct workspace *workspace, struct span tenant, uint32_t instance);

/*
 * Makes tree/ equal to `root`, from what is there when that is known, else anew. Setuid and the like are kept off.
 * As materialise().
 */
int workspace_materialise(struct workspace *workspace, const struct digest *root, struct source *source,
                          struct materialise_totals *totals, char *why, size_t why_size);

/* Empty upper, work and bundle directories, and the overlay at merged/. 0 or -errno. */
int workspace_mount(struct workspace *workspace, char *why, size_t why_size);
/* Nothing happens when it is not mounted. */
int workspace_unmount(struct workspace *workspace, char *why, size_t why_size);

/* After the unmount: deleted paths, and upper/ as an ordinary tree (collect.h). */
int workspace_collect(struct workspace *workspace, int (*deleted)(void *context, enum collect_kind kind, const char *path),
                      void *context, char *why, size_t why_size);

/* Removes what the action wrote, once it has been collected. */
int workspace_clean(struct workspace *workspace, char *why, size_t why_size);
