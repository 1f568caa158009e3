/* Outputs, one after the other: where each is, what it is, and what is said of it. */
#include "gateway/executor/outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/beneath.h"
#include "gateway/context/why.h"
#include "gateway/executor/blob_box.h"
#include "gateway/executor/outputs_tree.h"
#include "proto/escape.h"
#include "proto/pb.h"
#include "proto/reapi.h"
#include "proto/tree.h"

struct collection {
	const struct outputs *outputs;
	struct buffer *fields;
	struct blob_box *box;
	struct why why;
};

static int fail(const struct collection *collection, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(collection->why, r, path, "%s: %s", what, strerror(-r));
}

/* ---- paths ---- */

/* One name more, or one less. False: out of the tree, or too long. */
static bool path_step(char *path, size_t *size, const char *name, size_t name_size)
{
	if (name_size == 0 || (name_size == 1 && name[0] == '.'))
		return true;
	if (name_size == 2 && name[0] == '.' && name[1] == '.') {
		if (*size == 0)
			return false;
		while (*size && path[--*size] != '/')
			;
		path[*size] = 0;
		return true;
	}
	if (*size + 1 + name_size >= PATH_MAX)
		return false;
	if (*size)
		path[(*size)++] = '/';
	memcpy(path + *size, name, name_size);
	*size += name_size;
	path[*size] = 0;
	return true;
}

/* Where an output is, from the root of the tree, without "." and "..". */
static int path_resolve(const struct outputs *outputs, const char *output, char path[static PATH_MAX], struct why why)
{
	const char *const parts[2] = { outputs->working_directory, output };
	size_t size = 0;

	path[0] = 0;
	if (output[0] == '/')
		return WHY_RAISE(why, -EINVAL, output, "an output's path is relative to the working directory");
	for (int i = 0; i < 2; i++) {
		const char *at = parts[i];

		while (*at) {
			size_t length = strcspn(at, "/");

			if (!path_step(path, &size, at, length))
				return WHY_RAISE(why, -EINVAL, output, "an output's path leads out of the tree, or is too long");
			at += length + (at[length] == '/');
		}
	}
	return 0;
}

/* ---- before ---- */

static int make_parents(const struct outputs *outputs, const char *output, struct why why)
{
	char path[PATH_MAX];
	int r = path_resolve(outputs, output, path, why);

	for (char *slash = strchr(path, '/'); slash && !r; slash = strchr(slash + 1, '/')) {
		CLEANUP(fd_closep) int fd = -1;
		const char *name;

		*slash = 0;
		fd = beneath_open_parent(outputs->root_fd, path, &name);
		if (fd < 0)
			r = WHY_RAISE(why, fd == -ELOOP || fd == -ENOTDIR ? -EINVAL : fd, output, "its directory cannot be made: %s",
			              fd == -ENOTDIR ? "a symlink or a file is in its way" : strerror(-fd));
		else if (mkdirat(fd, name, 0755) == 0)
			r = fchownat(fd, name, outputs->uid, outputs->gid, AT_SYMLINK_NOFOLLOW) ?
			    WHY_RAISE(why, -errno, output, "its directory cannot be given away: %s", strerror(errno)) : 0;
		else if (errno != EEXIST)
			r = WHY_RAISE(why, -errno, output, "its directory cannot be made: %s", strerror(errno));
		*slash = '/';
	}
	return r;
}

int outputs_prepare(const struct outputs *outputs, char *why_text, size_t why_size)
{
	const char *const *const lists[] = { outputs->files, outputs->directories, outputs->paths };
	struct why why = { why_text, why_size };
	int r = 0;

	for (size_t i = 0; i < 3; i++)
		for (const char *const *each = lists[i]; *each && !r; each++)
			r = make_parents(outputs, *each, why);
	return r;
}

/* ---- after ---- */

static int collect_file(struct collection *collection, int dir_fd, const char *name, const char *output)
{
	struct reapi_output_file said = { .path = span_text(output) };
	uint8_t storage[32];
	struct buffer properties = buffer_over(storage, sizeof(storage));
	struct stat stat;
	int r = blob_box_put_file(collection->box, dir_fd, name, output, &stat, &said.digest);

	if (r)
		return r;
	said.is_executable = stat.st_mode & 0100;
	if (collection->outputs->unix_modes) {
		size_t mode = pb_begin(&properties, 3);

		pb_put_varint(&properties, 1, stat.st_mode & 07777);
		pb_end(&properties, mode);
		said.node_properties = buffer_span(&properties);
	}
	message_nest(&reapi_output_file_type, collection->fields, 2, &said);
	return 0;
}

static int collect_directory(struct collection *collection, int dir_fd, const char *name, const char *output)
{
	struct reapi_output_directory said = { .path = span_text(output) };
	struct outputs_tree tree = {
		.box = collection->box, .why = collection->why, .dir_fd = dir_fd, .name = name, .path = output,
		.unix_modes = collection->outputs->unix_modes,
	};
	int r = outputs_tree_put(&tree, &said.tree_digest);

	if (!r)
		message_nest(&reapi_output_directory_type, collection->fields, 3, &said);
	return r;
}

enum wanted { WANTED_FILE, WANTED_DIRECTORY, WANTED_ANY };

/* With the fields of before v2.1 for those who read these: they tell what it points to. */
static int collect_symlink(struct collection *collection, int dir_fd, const char *name, const char *output, enum wanted wanted)
{
	char target[TREE_TARGET_MAX + 1];
	ssize_t size = readlinkat(dir_fd, name, target, sizeof(target));
	struct reapi_output_symlink said = { .path = span_text(output) };
	CLEANUP(fd_closep) int fd = -1;

	if (size < 0)
		return fail(collection, output, "cannot read the symlink");
	if (size == 0)
		return WHY_RAISE(collection->why, -EINVAL, output, "its target is empty");
	if (size > TREE_TARGET_MAX)
		return WHY_RAISE(collection->why, -EFBIG, output, "its target is longer than %d bytes", TREE_TARGET_MAX);
	target[size] = 0;
	said.target = span_make(target, (size_t)size);
	if (!utf8_valid(said.target))            /* whoever reads the result would refuse all of it */
		return WHY_RAISE(collection->why, -EINVAL, output, "its target is no UTF-8, which a result cannot say");
	if (wanted == WANTED_ANY) {
		message_nest(&reapi_output_symlink_type, collection->fields, 12, &said);
		fd = beneath_open(dir_fd, target, O_PATH | O_DIRECTORY, 0);
	}
	message_nest(&reapi_output_symlink_type, collection->fields, wanted == WANTED_DIRECTORY || fd >= 0 ? 11 : 10, &said);
	return 0;
}

static int collect_one(struct collection *collection, const char *output, enum wanted wanted)
{
	CLEANUP(fd_closep) int fd = -1;
	char path[PATH_MAX];
	const char *name = ".";
	struct stat stat;
	int r = path_resolve(collection->outputs, output, path, collection->why);

	if (r)
		return r;
	fd = *path ? beneath_open_parent(collection->outputs->root_fd, path, &name) : fcntl(collection->outputs->root_fd, F_DUPFD_CLOEXEC, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;                        /* who misses it will say so */
	if (fd < 0)
		return WHY_RAISE(collection->why, fd == -ELOOP ? -EINVAL : fd, output, "cannot be looked for: %s", strerror(-fd));
	if (fstatat(fd, name, &stat, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : fail(collection, output, "cannot be looked for");
	switch (stat.st_mode & S_IFMT) {
	case S_IFREG:
		return wanted == WANTED_DIRECTORY ? WHY_RAISE(collection->why, -ENOTDIR, output, "is a file, not a directory") :
		                                    collect_file(collection, fd, name, output);
	case S_IFDIR:
		return wanted == WANTED_FILE ? WHY_RAISE(collection->why, -EISDIR, output, "is a directory, not a file") :
		                               collect_directory(collection, fd, name, output);
	case S_IFLNK:
		return collect_symlink(collection, fd, name, output, wanted);
	}
	return 0;
}

static int collect_list(struct collection *collection, const char *const *list, enum wanted wanted)
{
	int r = 0;

	for (; *list && !r; list++)
		r = collect_one(collection, *list, wanted);
	return r;
}

int outputs_collect(const struct outputs *outputs, struct buffer *fields, enum grpc_status *status, char *why, size_t why_size)
{
	struct collection collection = { .outputs = outputs, .fields = fields, .why = { why, why_size } };
	int r;

	*status = GRPC_OK;
	*why = 0;
	if (!*outputs->files && !*outputs->directories && !*outputs->paths)
		return 0;
	collection.box = blob_box_create(outputs->client, status, collection.why, outputs->cancelled, outputs->context);
	if (!collection.box) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	r = collect_list(&collection, outputs->files, WANTED_FILE);
	if (!r)
		r = collect_list(&collection, outputs->directories, WANTED_DIRECTORY);
	if (!r)
		r = collect_list(&collection, outputs->paths, WANTED_ANY);
	if (!r)
		r = blob_box_flush(collection.box);
	if (!r && fields->failed)
		r = WHY_RAISE(collection.why, -EFBIG, "", "what is said of the outputs is longer than %u KiB",
		              OUTPUTS_FIELDS_BYTES_MAX >> 10);
	if (r && !*why)
		snprintf(why, why_size, "the outputs cannot be collected: %s", strerror(-r));
	blob_box_destroy(collection.box);
	return r;
}
