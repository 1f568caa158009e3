/*
 * outputs: what a REAPI Command names as its outputs: the directories that lead to them are made before it runs; what is
 * there when it has run is read, named by whole-file SHA-256, uploaded, and said as fields of an ActionResult. Directories
 * become Tree messages, plain REAPI that any client reads: no recipes. Blocking.
 *
 * Paths are the Command's, relative to the working directory; they may go up, but not out of the tree. Nothing is read
 * through a symlink; one that is named itself is an output_symlink. FIFOs, devices and sockets are left out. A name or
 * target that is no UTF-8, which no result can say, is refused (-EINVAL).
 */
#pragma once

#include "gateway/client/client.h"
#include "proto/message.h"

/* Of all that is said of them. A result is up to 1 MiB, and what else is in one, short output among it, is less than the rest. */
#define OUTPUTS_FIELDS_BYTES_MAX ((1u << 20) - (16u << 10))

struct outputs {
	int root_fd;                     /* the action's /work */
	const char *working_directory;   /* below it; "": itself */
	const char *const *files, *const *directories, *const *paths;    /* each ends with NULL */
	bool unix_modes;                 /* say modes, not only what is executable */
	uint32_t uid, gid;               /* whose the directories are that are made */
	struct client *client;
	bool (*cancelled)(void *context);        /* as blob_box's; NULL: it is not asked */
	void *context;
};

/* 0; -EINVAL: a path that leads out, or through a symlink; else -errno. `why` names the path. */
int outputs_prepare(const struct outputs *outputs, char *why, size_t why_size);

/*
 * Appends the fields. 0; -EINVAL as above; -EISDIR, -ENOTDIR: it is there as something else than the Command says; -EFBIG:
 * a bound; -EREMOTEIO: the gateway refused something, with `status`; -ECANCELED; else -errno.
 */
int outputs_collect(const struct outputs *outputs, struct buffer *fields, enum grpc_status *status, char *why, size_t why_size);
