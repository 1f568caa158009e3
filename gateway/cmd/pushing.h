/*
 * pushing: from a directory to a committed root, with progress: what `sluice push` does, and `sluice run` first.
 */
#pragma once

#include "gateway/client/client.h"
#include "gateway/cmd/command.h"
#include "gateway/cmd/progress.h"
#include "gateway/context/explain.h"
#include "gateway/context/manifest.h"
#include "gateway/context/upload.h"

/* What --compression takes, for an OPTION_CHOICE; its index as upload_options.level. */
extern const char *const pushing_compressions[];
int pushing_level(int compression);

struct pushing {
	const struct command *command;
	struct client *client;
	const char *gateway;             /* as the user gave it; names the gateway in the snapshot */
	const char *directory;
	const char *ignore_path;         /* read once, so it may be a pipe; NULL: DIRECTORY/.dockerignore */
	bool no_ignore, no_snapshot;
	int level;                       /* as upload_options.level */
	bool explain;                    /* account for what is sent: `explained` */
	bool predict;                    /* send no content, commit nothing, remember nothing: only find out */
	bool keep;                       /* hand the manifest out */
	struct progress *progress;
	/* out */
	struct manifest *manifest;       /* the caller's to destroy; NULL unless `keep` and STATUS_OK */
	struct digest root;
	struct manifest_totals scanned;
	struct upload_totals sent;
	uint64_t scan_ns, upload_ns, save_ns;
	struct explain *explained;       /* the caller's; NULL unless `explain`, and until something was scanned */
	uint64_t abandoned_sent, abandoned_received;     /* messages of attempts that a changing file ended */
};

/* STATUS_OK, or the exit status after saying why. A file that changes meanwhile makes it start again, a few times. */
int pushing_run(struct pushing *pushing);

/* Where the snapshot of a directory is kept: below $XDG_CACHE_HOME or ~/.cache; false when there is neither. */
bool pushing_snapshot_path(const char *directory, char *path, size_t path_size);
