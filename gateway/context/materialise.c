/* materialise: applies the differences between two trees to a directory. */
#include "gateway/context/materialise.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/context/beneath.h"
#include "gateway/context/content.h"
#include "gateway/context/difference.h"
#include "gateway/context/why.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MODE_RWX 0700u                   /* what the owner needs on a directory while its content is made */

/* Done at the end: a second name, or the mode of a directory that forbids its owner to write into it. */
struct later {
	struct later *next;
	uint32_t mode;
	const char *target;              /* of a second name; behind the path */
	uint64_t size;                   /* likewise, as the tree has it */
	char path[];
};

struct state {
	const struct materialise_options *options;
	struct materialise_totals *totals;
	struct why why;
	struct content *content;
	struct later *modes;             /* newest first: below before above */
	struct later *links, **links_end;
	char parent[TREE_PATH_MAX + 1];  /* the directory that parent_fd is open at */
	int parent_fd;
};

static int fail(const struct state *state, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(state->why, r, path, "%s: %s", what, strerror(-r));
}

static uint32_t mode_mask(const struct materialise_options *options)
{
	return options->allow_special_modes ? 07777 : 0777;
}

static void parent_forget(struct state *state)
{
	if (state->parent_fd >= 0)
		close(state->parent_fd);
	state->parent_fd = -1;
}

static void parent_keep(struct state *state, const char *path, size_t size, int fd)
{
	CHECK(size <= TREE_PATH_MAX);
	parent_forget(state);
	memcpy(state->parent, path, size);
	state->parent[size] = 0;
	state->parent_fd = fd;
}

/* The directory that holds `path`, borrowed until the next call: entries of one directory come together. */
static int parent_of(struct state *state, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	size_t size = slash ? (size_t)(slash - path) : 0;
	int fd;

	*name = slash ? slash + 1 : path;
	if (state->parent_fd >= 0 && strlen(state->parent) == size && memcmp(state->parent, path, size) == 0)
		return state->parent_fd;
	fd = beneath_open_parent(state->options->dir_fd, path, name);
	if (fd < 0) {
		errno = -fd;
		return fail(state, path, "cannot open its directory");
	}
	parent_keep(state, path, size, fd);
	return fd;
}

static int open_directory(struct state *state, const char *path)
{
	int fd = beneath_open(state->options->dir_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		errno = -fd;
	return fd < 0 ? fail(state, path, "cannot open") : fd;
}

static struct later *later_create(const char *path, struct span target, uint32_t mode)
{
	size_t path_size = strlen(path) + 1;
	struct later *later = calloc(1, sizeof(*later) + path_size + target.size + 1);

	if (!later)
		return NULL;
	later->mode = mode;
	memcpy(later->path, path, path_size);
	if (target.size)
		memcpy(later->path + path_size, target.data, target.size);
	later->target = later->path + path_size;
	return later;
}

static int mode_later(struct state *state, const char *path, uint32_t mode)
{
	struct later *later = later_create(path, (struct span){ 0 }, mode);

	if (!later)
		return ERR_RAISE(-ENOMEM);
	later->next = state->modes;
	state->modes = later;
	return 0;
}

static int link_later(struct state *state, const char *path, struct span target, uint64_t size)
{
	struct later *later = later_create(path, target, 0);

	if (!later)
		return ERR_RAISE(-ENOMEM);
	later->size = size;
	*state->links_end = later;
	state->links_end = &later->next;
	return 0;
}

static int node_remove(struct state *state, const char *path)
{
	const char *name;
	int fd = parent_of(state, path, &name);
	int r;

	if (fd < 0)
		return fd;
	r = beneath_remove(fd, name);
	if (r) {
		errno = -r;
		return fail(state, path, "cannot remove");
	}
	state->totals->files_removed++;
	return 0;
}

/*
 * A mode that lets its owner work in the directory is set at once, any other when all is there. An open directory that
 * was made just now is kept: what is in it comes next.
 */
static int directory_set_mode(struct state *state, const char *path, int fd, uint32_t mode)
{
	bool now = (mode & MODE_RWX) == MODE_RWX && mode <= 0777;

	if (fchmod(fd, now ? mode : MODE_RWX))
		return fail(state, path, "cannot set its mode");
	return now ? 0 : mode_later(state, path, mode);
}

static int directory_add(struct state *state, const char *path, const struct tree_directory *directory)
{
	const struct materialise_options *options = state->options;
	CLEANUP(fd_closep) int fd = -1;
	const char *name;
	int r;

	if (*path) {
		int parent_fd = parent_of(state, path, &name);

		if (parent_fd < 0)
			return parent_fd;
		if (mkdirat(parent_fd, name, MODE_RWX))
			return fail(state, path, "cannot create directory");
		state->totals->directories_made++;
	}
	fd = open_directory(state, path);
	if (fd < 0)
		return fd;
	r = content_set_xattrs(state->why, fd, path, directory->xattrs, directory->xattrs_count, *path);
	if (r)
		return r;
	if (options->set_owner && fchown(fd, options->uid, options->gid))
		return fail(state, path, "cannot set its owner");
	r = directory_set_mode(state, path, fd, directory->mode & mode_mask(options));
	if (!r)
		parent_keep(state, path, strlen(path), fd_take(&fd));
	return r;
}

/* What is inside is going to change, and perhaps what the directory says of itself. */
static int directory_change(struct state *state, const struct difference_change *change)
{
	const struct tree_directory *after = change->directory_after;
	uint32_t mode = after->mode & mode_mask(state->options);
	CLEANUP(fd_closep) int fd = -1;
	int r;

	if (!(change->kinds & (DIFFERENCE_MODE | DIFFERENCE_XATTRS)) && (mode & MODE_RWX) == MODE_RWX)
		return 0;
	fd = open_directory(state, change->path);
	if (fd == -EACCES) {             /* it forbids its owner to read it */
		const char *name;
		int parent_fd = parent_of(state, change->path, &name);

		if (parent_fd >= 0 && fchmodat(parent_fd, name, MODE_RWX, AT_SYMLINK_NOFOLLOW) == 0)
			fd = open_directory(state, change->path);
	}
	if (fd < 0)
		return fd;
	if (change->kinds & DIFFERENCE_XATTRS) {
		if (fchmod(fd, MODE_RWX))
			return fail(state, change->path, "cannot set its mode");
		r = content_set_xattrs(state->why, fd, change->path, after->xattrs, after->xattrs_count, false);
		if (r)
			return r;
	}
	return directory_set_mode(state, change->path, fd, mode);
}

static int symlink_add(struct state *state, const char *path, const struct tree_node *node)
{
	char target[TREE_TARGET_MAX + 1];
	const char *name;
	int fd = parent_of(state, path, &name);

	if (fd < 0)
		return fd;
	CHECK(node->target.size > 0 && node->target.size <= TREE_TARGET_MAX);
	memcpy(target, node->target.data, node->target.size);
	target[node->target.size] = 0;
	if (symlinkat(target, fd, name))
		return fail(state, path, "cannot create symlink");
	if (state->options->set_owner && fchownat(fd, name, state->options->uid, state->options->gid, AT_SYMLINK_NOFOLLOW))
		return fail(state, path, "cannot set its owner");
	state->totals->links_made++;
	return 0;
}

static int set_fifo_mode(struct state *state, const char *path, uint32_t mode)
{
	const char *name;
	int fd = parent_of(state, path, &name);

	if (fd < 0)
		return fd;
	if (fchmodat(fd, name, mode & mode_mask(state->options), AT_SYMLINK_NOFOLLOW))
		return fail(state, path, "cannot set its mode");
	return 0;
}

static int fifo_add(struct state *state, const char *path, const struct tree_node *node)
{
	const char *name;
	int fd = parent_of(state, path, &name);

	if (fd < 0)
		return fd;
	if (mkfifoat(fd, name, 0600))
		return fail(state, path, "cannot create fifo");
	if (state->options->set_owner && fchownat(fd, name, state->options->uid, state->options->gid, AT_SYMLINK_NOFOLLOW))
		return fail(state, path, "cannot set its owner");
	state->totals->files_written++;
	return set_fifo_mode(state, path, node->mode);
}

static int device_refuse(struct why why, const char *path)
{
	return WHY_RAISE(why, -EPERM, path, "device nodes are refused");
}

/* The path here of a hardlink's first name. False: there is none to link to. */
static bool link_target(const struct state *state, const struct tree_node *node, struct span *target)
{
	size_t size = state->options->below ? strlen(state->options->below) : 0;

	*target = node->hardlink;
	if (size == 0 || node->hardlink.size == 0)
		return node->hardlink.size != 0;
	if (target->size <= size + 1 || memcmp(target->data, state->options->below, size) != 0 || target->data[size] != '/')
		return false;
	*target = span_make(target->data + size + 1, target->size - size - 1);
	return true;
}

static int node_add(struct state *state, const char *path, const struct tree_node *node, const struct tree_node *before,
                    int before_fd)
{
	struct span target;
	bool link = link_target(state, node, &target);

	if (node->kind == TREE_FILE && !link)
		return content_add(state->content, path, node, before, before_fd);
	CHECK(before_fd < 0);
	switch (node->kind) {
	case TREE_FILE:
		return link_later(state, path, target, node->file_size);
	case TREE_SYMLINK:
		return symlink_add(state, path, node);
	case TREE_FIFO:
		return fifo_add(state, path, node);
	case TREE_CHAR_DEVICE:
	case TREE_BLOCK_DEVICE:
		return device_refuse(state->why, path);
	case TREE_DIRECTORY:
		break;
	}
	CHECK(!"a directory is added by directory_add");
	return -EINVAL;
}

/* Removed and made anew: other names of the old file must keep its old content until their own change comes. */
static int node_replace(struct state *state, const struct difference_change *change)
{
	int before_fd = -1;
	int r;

	if (change->after->recipe && change->before->recipe && !change->after->hardlink.size)
		before_fd = beneath_open(state->options->dir_fd, change->path, O_RDONLY | O_NONBLOCK, 0);
	r = node_remove(state, change->path);
	if (!r)
		return node_add(state, change->path, change->after, change->before, before_fd < 0 ? -1 : before_fd);
	if (before_fd >= 0)
		close(before_fd);
	return r;
}

/* The mode is opened up first, so that its owner may write attributes of a file that is read-only. */
static int file_set_metadata(struct state *state, const struct difference_change *change)
{
	const struct tree_node *node = change->after;
	CLEANUP(fd_closep) int fd = -1;
	const char *name;
	int parent_fd = parent_of(state, change->path, &name);
	int r = 0;

	if (parent_fd < 0)
		return parent_fd;
	fd = beneath_open(parent_fd, name, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -EACCES && fchmodat(parent_fd, name, 0600, AT_SYMLINK_NOFOLLOW) == 0)
		fd = beneath_open(parent_fd, name, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0) {
		errno = -fd;
		return fail(state, change->path, "cannot open");
	}
	if (change->kinds & DIFFERENCE_XATTRS) {
		if (fchmod(fd, 0600))
			return fail(state, change->path, "cannot set its mode");
		r = content_set_xattrs(state->why, fd, change->path, node->xattrs, node->xattrs_count, false);
	}
	if (!r && fchmod(fd, node->mode & mode_mask(state->options)))
		return fail(state, change->path, "cannot set its mode");
	return r;
}

static int node_change(struct state *state, const struct difference_change *change)
{
	if (change->after->kind == TREE_CHAR_DEVICE || change->after->kind == TREE_BLOCK_DEVICE)
		return device_refuse(state->why, change->path);
	if (change->kinds & (DIFFERENCE_CONTENT | DIFFERENCE_HARDLINK))
		return node_replace(state, change);
	if (change->after->kind == TREE_FIFO)
		return set_fifo_mode(state, change->path, change->after->mode);
	return file_set_metadata(state, change);
}

static int on_change(void *context, const struct difference_change *change)
{
	struct state *state = context;
	bool directory = change->after && change->after->kind == TREE_DIRECTORY;

	if (change->kinds & DIFFERENCE_REMOVED)
		return node_remove(state, change->path);
	if (directory && change->kinds & DIFFERENCE_ADDED)
		return directory_add(state, change->path, change->directory_after);
	if (directory)
		return directory_change(state, change);
	if (change->kinds & DIFFERENCE_ADDED)
		return node_add(state, change->path, change->after, NULL, -1);
	return node_change(state, change);
}

/* The first name must be a regular file of this tree: not a symlink, nothing outside. */
static int link_make(struct state *state, const struct later *later)
{
	CLEANUP(fd_closep) int target_fd = -1;
	const char *name, *target_name;
	struct stat stat;
	int fd;

	target_fd = beneath_open_parent(state->options->dir_fd, later->target, &target_name);
	if (target_fd < 0 || fstatat(target_fd, target_name, &stat, AT_SYMLINK_NOFOLLOW) || !S_ISREG(stat.st_mode))
		return WHY_RAISE(state->why, -EINVAL, later->path, "its first name is no file of this tree: %.200s", later->target);
	/* The directory says one thing of it, and another would be read. Of the same size they are taken for one. */
	if ((uint64_t)stat.st_size != later->size)
		return WHY_RAISE(state->why, -EBADMSG, later->path, "names of one file that disagree: %.200s has another size",
		                 later->target);
	fd = parent_of(state, later->path, &name);
	if (fd < 0)
		return fd;
	if (linkat(target_fd, target_name, fd, name, 0))
		return fail(state, later->path, "cannot create hard link");
	state->totals->links_made++;
	return 0;
}

static int links_make(struct state *state)
{
	int r = 0;

	for (const struct later *later = state->links; later && !r; later = later->next)
		r = link_make(state, later);
	return r;
}

static int modes_set(struct state *state)
{
	parent_forget(state);
	for (const struct later *later = state->modes; later; later = later->next) {
		CLEANUP(fd_closep) int fd = open_directory(state, later->path);

		if (fd < 0)
			return fd;
		if (fchmod(fd, later->mode))
			return fail(state, later->path, "cannot set its mode");
	}
	return 0;
}

static void later_free(struct later *later)
{
	while (later) {
		struct later *next = later->next;

		free(later);
		later = next;
	}
}

static void state_fini(struct state *state)
{
	parent_forget(state);
	later_free(state->modes);
	later_free(state->links);
	content_destroy(state->content);
}

static void state_count(struct state *state, const struct difference_totals *walked)
{
	const struct content_totals *content = content_totals(state->content);

	state->totals->files_written += content->files;
	state->totals->bytes_written += content->bytes;
	state->totals->bytes_fetched += content->bytes_fetched;
	state->totals->bytes_reused += content->bytes_reused;
	state->totals->directories_same += walked->directories_same;
}

static struct content *make_content(const struct materialise_options *options, struct why why)
{
	return content_create(&(struct content_options){
		.dir_fd = options->dir_fd,
		.source = options->source,
		.set_owner = options->set_owner,
		.uid = options->uid,
		.gid = options->gid,
		.mode_mask = mode_mask(options),
		.why = why,
		.progress = options->progress,
		.context = options->context,
	});
}

static int apply(const struct materialise_options *options, const struct digest *base, struct materialise_totals *totals,
                 struct why why)
{
	struct state state = { .options = options, .totals = totals, .why = why, .parent_fd = -1 };
	struct difference_options difference = {
		.source = options->source, .before = base, .after = &options->root, .visit = on_change, .context = &state,
	};
	struct difference_totals walked;
	int r;

	state.links_end = &state.links;
	state.content = make_content(options, why);
	if (!state.content)
		return ERR_RAISE(-ENOMEM);
	r = difference_walk(&difference, &walked, why.text, why.size);
	if (!r)
		r = content_finish(state.content);
	if (!r)
		r = links_make(&state);
	if (!r)
		r = modes_set(&state);
	state_count(&state, &walked);
	state_fini(&state);
	return r;
}

static int check_change(void *context, const struct difference_change *change)
{
	const struct why *why = context;
	bool device = change->after->kind == TREE_CHAR_DEVICE || change->after->kind == TREE_BLOCK_DEVICE;

	return device ? device_refuse(*why, change->path) : 0;
}

/* Whether each directory of the tree is to be had, and well-formed. */
static int check_tree(const struct materialise_options *options, struct why why)
{
	struct difference_options difference = {
		.source = options->source, .after = &options->root, .visit = check_change, .context = &why,
	};

	return difference_walk(&difference, NULL, why.text, why.size);
}

/*
 * An unknown directory is emptied when the caller wants it so; not for a root that is mistyped or was evicted. The directories of the
 * tree are fetched twice then: that is little beside its contents, and beside what a person has lost otherwise.
 */
static int make_room(const struct materialise_options *options, struct why why)
{
	int r = beneath_is_empty(options->dir_fd);

	if (r == 1)
		return 0;
	if (r == 0 && !options->replace)
		return WHY_RAISE(why, -ENOTEMPTY, "", "the directory is not empty");
	if (r == 0) {
		r = check_tree(options, why);
		if (r)
			return r;
		r = beneath_clear(options->dir_fd);
	}
	return r ? WHY_RAISE(why, r, "", "cannot empty the directory: %s", strerror(-r)) : 0;
}

int materialise(const struct materialise_options *options, struct materialise_totals *totals, char *why_text,
                size_t why_size)
{
	struct why why = { why_text, why_size };
	struct materialise_totals unused;
	int r = -ESTALE;

	CHECK(options->dir_fd >= 0 && options->source);
	totals = totals ? totals : &unused;
	*totals = (struct materialise_totals){ 0 };
	if (why_size)
		*why_text = 0;
	if (options->base) {
		r = apply(options, options->base, totals, why);
		if (r != -ESTALE || !options->replace)
			return r;
	}
	r = make_room(options, why);
	return r ? r : apply(options, NULL, totals, why);
}
