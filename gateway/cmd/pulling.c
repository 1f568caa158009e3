/* A tree into a directory. */
#include "gateway/cmd/pulling.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/clock.h"
#include "gateway/cmd/session.h"
#include "gateway/context/download.h"
#include "gateway/context/replace.h"

static void on_progress(void *context, uint64_t files, uint64_t bytes)
{
	progress_update(context, bytes, 0, PROGRESS_BYTES, NULL);
	(void)files;
}

static int open_directory(const struct pulling *pulling)
{
	int fd;

	if (mkdir(pulling->directory, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(pulling->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pulling_run(struct pulling *pulling)
{
	CLEANUP(fd_closep) int fd = open_directory(pulling);
	struct materialise_options options = {
		.dir_fd = fd, .root = pulling->root, .allow_special_modes = pulling->special_modes, .progress = on_progress,
	};
	enum grpc_status status = GRPC_OK;
	struct progress_vertex *vertex;
	struct download *download;
	uint64_t begin = clock_now_ns();
	char why[5000];
	int r;

	if (fd < 0) {
		command_fail(pulling->command, "%s: %s", pulling->directory, strerror(-fd));
		return command_status_errno(fd);
	}
	r = download_create(&download, pulling->client, why, sizeof(why));
	if (r < 0)
		return session_failed(pulling->command, r, GRPC_OK, why);
	vertex = progress_begin(pulling->progress, "write the tree");
	options.source = download_source(download);
	options.context = vertex;
	r = pulling->replace ? replace_directory(&options, &pulling->totals, why, sizeof(why)) :
	                       materialise(&options, &pulling->totals, why, sizeof(why));
	progress_end(vertex, r ? PROGRESS_ERROR : PROGRESS_DONE, r ? why : NULL);
	if (r == -EREMOTEIO || r == -ECONNRESET)
		status = download_status(download);
	download_destroy(download);
	pulling->elapsed_ns = clock_now_ns() - begin;
	if (r == -ENOTEMPTY && !pulling->replace) {
		command_fail(pulling->command, "%s is not empty: --replace removes what is there", pulling->directory);
		return STATUS_FAILURE;
	}
	return r ? session_failed(pulling->command, r, status, why) : STATUS_OK;
}
