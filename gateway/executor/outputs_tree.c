/*
 * A directory, level by level, into the messages of a Tree. Names are taken in their order, so that the same directory is the same
 * Tree: children are told in the order in which they are come to, and a file system lists names in any.
 */
#include "gateway/executor/outputs_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/beneath.h"
#include "proto/escape.h"
#include "proto/pb.h"
#include "proto/tree.h"

/* One directory on the way into a Tree. Names and targets lie in `texts`; nodes know where while that still grows. */
struct level {
	struct tree_node *nodes;
	size_t *places;
	size_t count, capacity;
	struct buffer texts;
};

static void level_fini(struct level *level)
{
	free(level->nodes);
	free(level->places);
	buffer_fini(&level->texts);
}

static bool level_add(struct level *level, const struct tree_node *node, const char *name)
{
	if (level->count == level->capacity) {
		size_t capacity = 2 * level->capacity + 16;
		struct tree_node *nodes = realloc(level->nodes, capacity * sizeof(*nodes));
		size_t *places = nodes ? realloc(level->places, capacity * sizeof(*places)) : NULL;

		level->nodes = nodes ? nodes : level->nodes;
		level->places = places ? places : level->places;
		if (!places)
			return false;
		level->capacity = capacity;
	}
	level->places[level->count] = level->texts.size;
	level->nodes[level->count] = *node;
	buffer_put(&level->texts, name, strlen(name) + 1);
	buffer_put(&level->texts, node->target.data, node->target.size);
	level->count++;
	return !level->texts.failed;
}

static void level_settle(struct level *level)
{
	for (size_t i = 0; i < level->count; i++) {
		const char *name = (const char *)level->texts.data + level->places[i];

		level->nodes[i].name = span_text(name);
		if (level->nodes[i].target.size)
			level->nodes[i].target.data = level->texts.data + level->places[i] + level->nodes[i].name.size + 1;
	}
}

/* What is in a directory. */
struct names {
	struct buffer texts;             /* one after the other, each with its NUL */
	const char **sorted;
	size_t count;
};

struct tree_walk {
	struct blob_box *box;
	struct why why;
	bool unix_modes;
	const char *path;                /* the output */
	struct buffer children;          /* of the Tree: field 2, one after the other */
	unsigned depth;
};

static int fail(const struct tree_walk *walk, const char *what)
{
	int r = -errno;

	return WHY_RAISE(walk->why, r, walk->path, "%s: %s", what, strerror(-r));
}

static int walk_directory(struct tree_walk *walk, int fd, struct buffer *encoded);

static int walk_child(struct tree_walk *walk, int dir_fd, const char *name, struct digest *digest)
{
	CLEANUP(fd_closep) int fd = beneath_open(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
	struct buffer encoded = buffer_heap(TREE_DIRECTORY_BYTES_MAX);
	int r;

	if (fd < 0) {
		errno = -fd;
		return fail(walk, "cannot open a directory in it");
	}
	if (++walk->depth > TREE_DEPTH_MAX)
		return WHY_RAISE(walk->why, -EFBIG, walk->path, "deeper than %d directories", TREE_DEPTH_MAX);
	r = walk_directory(walk, fd, &encoded);
	walk->depth--;
	if (!r) {
		digest->size = encoded.size;
		sha256_once(encoded.data, encoded.size, digest->hash);
		pb_put_bytes_always(&walk->children, 2, buffer_span(&encoded));
	}
	buffer_fini(&encoded);
	return r;
}

static uint32_t mode_of(const struct tree_walk *walk, const struct stat *stat)
{
	if (walk->unix_modes)
		return stat->st_mode & 07777;
	return S_ISDIR(stat->st_mode) || (stat->st_mode & 0100) ? 0755 : 0644;
}

/* Whoever reads the Tree would refuse all of it, or make files of other names. */
static int check_texts(const struct tree_walk *walk, const char *name, struct span target)
{
	char text[TREE_NAME_MAX + 1] = "";
	struct buffer shown = buffer_over(text, TREE_NAME_MAX);

	if (utf8_valid(span_text(name)) && utf8_valid(target))
		return 0;
	utf8_put(&shown, span_text(name));
	return WHY_RAISE(walk->why, -EINVAL, walk->path, "%s \"%s\" in it is no UTF-8, which a Tree cannot say",
	                 target.size ? "the name or target of" : "the name of", text);
}

static int walk_entry(struct tree_walk *walk, int dir_fd, const char *name, struct level *level)
{
	struct tree_node node = { .kind = TREE_FILE };
	char target[TREE_TARGET_MAX + 1];
	struct stat stat;
	ssize_t size;
	int r = 0;

	if (fstatat(dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW))
		return fail(walk, "cannot stat something in it");
	switch (stat.st_mode & S_IFMT) {
	case S_IFREG:
		r = blob_box_put_file(walk->box, dir_fd, name, walk->path, &stat, &node.digest);
		node.mode = mode_of(walk, &stat);
		node.file_size = node.digest.size;
		break;
	case S_IFDIR:
		node.kind = TREE_DIRECTORY;
		r = walk_child(walk, dir_fd, name, &node.digest);
		break;
	case S_IFLNK:
		node.kind = TREE_SYMLINK;
		size = readlinkat(dir_fd, name, target, sizeof(target));
		if (size < 0)
			return fail(walk, "cannot read a symlink in it");
		if (size == 0)
			return WHY_RAISE(walk->why, -EINVAL, walk->path, "the target of a symlink in it is empty");
		if (size > TREE_TARGET_MAX)
			return WHY_RAISE(walk->why, -EFBIG, walk->path, "the target of a symlink in it is longer than %d bytes",
			                 TREE_TARGET_MAX);
		node.target = span_make(target, (size_t)size);
		break;
	default:
		return 0;
	}
	if (!r)
		r = check_texts(walk, name, node.target);
	if (!r && !level_add(level, &node, name))
		r = WHY_RAISE(walk->why, -ENOMEM, walk->path, "out of memory for a directory in it");
	return r;
}

static int list_names(const struct tree_walk *walk, int fd, struct names *names)
{
	int own = beneath_open(fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		if (own >= 0)
			close(own);
		return fail(walk, "cannot read a directory in it");
	}
	while (!names->texts.failed && (errno = 0, entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		buffer_put(&names->texts, entry->d_name, strlen(entry->d_name) + 1);
		names->count++;
	}
	if (names->texts.failed)
		r = WHY_RAISE(walk->why, -EFBIG, walk->path, "the names in a directory in it are longer than 4 MiB");
	else if (errno)
		r = fail(walk, "cannot read a directory in it to its end");
	closedir(dir);
	return r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool names_sort(struct names *names)
{
	const char *name = (const char *)names->texts.data;

	names->sorted = malloc((names->count + 1) * sizeof(*names->sorted));
	if (!names->sorted)
		return false;
	for (size_t i = 0; i < names->count; i++, name += strlen(name) + 1)
		names->sorted[i] = name;
	qsort(names->sorted, names->count, sizeof(*names->sorted), compare_names);
	return true;
}

static int walk_entries(struct tree_walk *walk, int fd, struct level *level)
{
	struct names names = { .texts = buffer_heap(TREE_DIRECTORY_BYTES_MAX) };
	int r = list_names(walk, fd, &names);

	if (!r && !names_sort(&names))
		r = WHY_RAISE(walk->why, -ENOMEM, walk->path, "out of memory for a directory in it");
	for (size_t i = 0; !r && i < names.count; i++)
		r = walk_entry(walk, fd, names.sorted[i], level);
	free(names.sorted);
	buffer_fini(&names.texts);
	return r;
}

static int walk_directory(struct tree_walk *walk, int fd, struct buffer *encoded)
{
	struct level level = { .texts = buffer_heap(TREE_DIRECTORY_BYTES_MAX) };
	struct stat stat;
	int r = fstat(fd, &stat) ? fail(walk, "cannot stat a directory in it") : walk_entries(walk, fd, &level);

	if (!r) {
		level_settle(&level);
		r = tree_encode_plain(encoded, mode_of(walk, &stat), level.nodes, level.count);
		if (r)
			r = WHY_RAISE(walk->why, r, walk->path, "a directory in it cannot be said: %s", strerror(-r));
	}
	level_fini(&level);
	return r;
}

int outputs_tree_put(const struct outputs_tree *wish, struct digest *digest)
{
	struct tree_walk walk = {
		.box = wish->box, .why = wish->why, .unix_modes = wish->unix_modes, .path = wish->path,
		.children = buffer_heap(OUTPUTS_TREE_BYTES_MAX),
	};
	struct buffer root = buffer_heap(TREE_DIRECTORY_BYTES_MAX), tree = buffer_heap(OUTPUTS_TREE_BYTES_MAX);
	CLEANUP(fd_closep) int fd = beneath_open(wish->dir_fd, wish->name, O_RDONLY | O_DIRECTORY, 0);
	int r;

	errno = fd < 0 ? -fd : 0;
	r = fd < 0 ? fail(&walk, "cannot open") : walk_directory(&walk, fd, &root);
	if (!r) {
		pb_put_bytes_always(&tree, 1, buffer_span(&root));
		buffer_put(&tree, walk.children.data, walk.children.size);
		r = tree.failed || walk.children.failed ? WHY_RAISE(walk.why, -EFBIG, walk.path, "its Tree is longer than 32 MiB") :
		                                          blob_box_put_bytes(walk.box, walk.path, buffer_span(&tree), digest);
	}
	buffer_fini(&root);
	buffer_fini(&tree);
	buffer_fini(&walk.children);
	return r;
}
