/* Outputs of an action. */
#include "gateway/cmd/outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/cmd/aside.h"
#include "gateway/cmd/session.h"
#include "gateway/context/beneath.h"
#include "gateway/context/browse.h"
#include "gateway/context/download.h"
#include "gateway/context/materialise.h"
#include "gateway/context/merge.h"

struct writing {
	int fd, error;
};

static int write_data(void *context, struct span data)
{
	struct writing *writing = context;

	while (data.size) {
		ssize_t written = write(writing->fd, data.data, data.size);

		if (written < 0 && errno != EINTR)
			return writing->error = ERR_RAISE(-errno);
		if (written > 0)
			data = span_make(data.data + written, data.size - (size_t)written);
	}
	return 0;
}

/* One output, and where it goes. */
struct output {
	struct source *source;
	const char *path;                /* in the tree and below the directory */
	struct tree_node node;
	int below_fd;
	char *why;
	size_t why_size;
};

static struct why output_why(const struct output *output)
{
	return (struct why){ output->why, output->why_size };
}

static int output_fail(const struct output *output, int r)
{
	return merge_refuse(output_why(output), output->path, r);
}

/* What a quota or a server refuses late, without letting go of the lock. */
static int close_copy(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 || close(copy) < 0 ? -errno : 0;
}

/* Written aside and renamed: what was there stays until the new one is whole. */
static int pull_file(const struct output *output, int parent_fd, const char *name)
{
	struct writing writing = { 0 };
	struct aside aside;
	int r = aside_make_file(&aside, parent_fd);

	if (r)
		return output_fail(output, r);
	writing.fd = aside.fd;
	r = browse_read(output->source, &output->node, write_data, &writing, output->why, output->why_size);
	if (writing.error)
		output_fail(output, writing.error);
	if (r == 0 && fchmod(aside.fd, output->node.mode & 0777) < 0)
		r = output_fail(output, -errno);
	if (r == 0) {
		r = close_copy(aside.fd);
		if (r)
			output_fail(output, r);
	}
	if (r == 0 && renameat(parent_fd, aside.name, parent_fd, name) < 0)
		r = output_fail(output, -errno);
	if (r)
		unlinkat(parent_fd, aside.name, 0);
	fd_closep(&aside.fd);
	return r;
}

/*
 * Made aside and moved over what is there, for `changes` has only what the action made or changed: nothing of what it left
 * alone may go, and what it deleted is not told.
 */
static int pull_directory(const struct output *output, int parent_fd, const char *name)
{
	struct materialise_options options = { .root = output->node.digest, .below = output->path, .source = output->source };
	struct aside aside;
	int r = aside_make_directory(&aside, parent_fd);

	if (r)
		return output_fail(output, r);
	options.dir_fd = aside.fd;
	r = materialise(&options, NULL, output->why, output->why_size);
	if (r == 0)
		r = merge_directory(parent_fd, aside.name, name, output->path, output_why(output));
	if (r)
		beneath_remove(parent_fd, aside.name);
	fd_closep(&aside.fd);
	return r;
}

/* The directories above it, made where they are missing; never through a symlink. */
static int make_parents(const struct output *output)
{
	char parent[PATH_MAX];

	snprintf(parent, sizeof(parent), "%s", output->path);
	for (char *slash = strchr(parent, '/'); slash; slash = strchr(slash + 1, '/')) {
		CLEANUP(fd_closep) int fd = -1;
		const char *name;

		*slash = 0;
		fd = beneath_open_parent(output->below_fd, parent, &name);
		if (fd < 0)
			return output_fail(output, fd);
		if (mkdirat(fd, name, 0755) < 0 && errno != EEXIST)
			return output_fail(output, -errno);
		*slash = '/';
	}
	return 0;
}

/* As browse_find() and openat2 want it: "./a//b/" becomes "a/b". False: it leads out, or nowhere, or is too long. */
static bool path_clean(const char *path, char clean[static PATH_MAX])
{
	size_t size = 0;

	if (*path == '/' || strlen(path) >= PATH_MAX)
		return false;
	while (*path) {
		size_t length = strcspn(path, "/");

		if (length == 2 && strncmp(path, "..", 2) == 0)
			return false;
		if (length && !(length == 1 && *path == '.')) {
			if (size)
				clean[size++] = '/';
			memcpy(clean + size, path, length);
			size += length;
		}
		path += length + strspn(path + length, "/");
	}
	clean[size] = 0;
	return size > 0;
}

bool outputs_path_valid(const char *path)
{
	char clean[PATH_MAX];

	return path_clean(path, clean);
}

/* What was pulled by a former run is pushed with all else: a make that finds it makes nothing. */
static void say_missing(struct output *output, const struct digest *pushed)
{
	struct tree_node node;

	if (pushed && browse_find(output->source, pushed, output->path, &node, NULL, output->why, output->why_size) == 0)
		snprintf(output->why, output->why_size, "the command did not change \"%s\", which was pushed with the tree: when "
		         ".dockerignore leaves it out, it is made each time", output->path);
	else
		snprintf(output->why, output->why_size, "the command did not make or change \"%s\"", output->path);
}

static int pull_one(struct output *output, const struct outputs *outputs)
{
	CLEANUP(fd_closep) int fd = -1;
	const char *name;
	int r = -ENOENT;

	if (outputs->changes)
		r = browse_find(output->source, outputs->changes, output->path, &output->node, NULL, output->why, output->why_size);
	if (r == -ENOENT)
		say_missing(output, outputs->pushed);
	if (r == 0)
		r = make_parents(output);
	if (r)
		return r;
	fd = beneath_open_parent(output->below_fd, output->path, &name);
	if (fd < 0)
		return output_fail(output, fd);
	if (output->node.kind == TREE_FILE)
		return pull_file(output, fd, name);
	if (output->node.kind == TREE_DIRECTORY)
		return pull_directory(output, fd, name);
	snprintf(output->why, output->why_size, "%s is neither a file nor a directory", output->path);
	return -EINVAL;
}

/* What was left beside an output is pushed with all else, until it goes. */
static void sweep_beside(const struct output *output)
{
	const char *name;
	CLEANUP(fd_closep) int fd = beneath_open_parent(output->below_fd, output->path, &name);

	if (fd >= 0)
		aside_sweep(fd);
}

static int pull_path(struct output *output, const struct outputs *outputs, const char *path)
{
	char clean[PATH_MAX];

	if (!path_clean(path, clean)) {
		snprintf(output->why, output->why_size, "--output %s is not a path below the tree", path);
		return -EINVAL;
	}
	output->path = clean;
	sweep_beside(output);
	return pull_one(output, outputs);
}

static int open_below(const char *below)
{
	int fd;

	if (mkdir(below, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void append_why(char *why, size_t why_size, const char *more)
{
	size_t size = strlen(why);

	snprintf(why + size, why_size - size, "%s%s", size ? "; " : "", more);
}

/* Each by itself: one that is not there keeps none of the others from coming. But a connection that is gone is so for all. */
static int pull_paths(struct download *download, struct output *output, const struct outputs *outputs, char *why, size_t why_size)
{
	const struct option_list *paths = outputs->paths;
	int r = 0, status = STATUS_OK;

	*why = 0;
	for (size_t i = 0; r != -EINTR && download_status(download) == GRPC_OK && i < paths->count; i++) {
		*output->why = 0;
		r = pull_path(output, outputs, paths->items[i]);
		if (r == 0)
			continue;
		append_why(why, why_size, *output->why ? output->why : err_text(r));
		if (status == STATUS_OK || r == -EINTR)
			status = session_status(r, download_status(download));
	}
	return status;
}

int outputs_pull(struct client *client, const struct outputs *outputs, char *why, size_t why_size)
{
	CLEANUP(fd_closep) int below_fd = open_below(outputs->below);
	struct download *download;
	struct output output;
	char one[5000];
	int r;

	if (below_fd < 0) {
		snprintf(why, why_size, "%s: %s", outputs->below, strerror(-below_fd));
		return command_status_errno(below_fd);
	}
	r = download_create(&download, client, why, why_size);
	if (r < 0)
		return session_status(r, GRPC_OK);
	output = (struct output){
		.source = download_source(download), .below_fd = below_fd, .why = one, .why_size = sizeof(one),
	};
	r = pull_paths(download, &output, outputs, why, why_size);
	download_destroy(download);
	return r;
}

struct printing {
	void (*print)(void *context, struct span blob);
	void *context;
};

static int print_blob(void *context, size_t index, struct span blob)
{
	const struct printing *printing = context;

	printing->print(printing->context, blob);
	return 0;
}

int outputs_print(struct client *client, const struct command *command, const struct digest *blob,
                  void (*print)(void *context, struct span blob), void *context)
{
	struct printing printing = { .print = print, .context = context };
	struct download *download;
	char why[1024];
	int r = download_create(&download, client, why, sizeof(why));

	if (r < 0)
		return session_failed(command, r, GRPC_OK, why);
	r = download_source(download)->fetch(download_source(download), blob, 1, print_blob, &printing, why, sizeof(why));
	if (r)
		r = session_failed(command, r, download_status(download), why);
	download_destroy(download);
	return r;
}
