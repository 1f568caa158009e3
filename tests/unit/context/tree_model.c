/* tree_model: see tree_model.h. */
#include "tests/unit/context/tree_model.h"

#include "chunker/sha256.h"
#include "proto/recipe.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHUNK_BYTES 65536
#define NODES_MAX   1024

static int on_fetch(struct source *source, const struct digest *digests, size_t count,
                    int (*visit)(void *context, size_t index, struct span blob), void *context, char *why, size_t why_size)
{
	struct model *model = (struct model *)source;
	uint64_t bytes = 0;

	model->fetches++;
	for (size_t i = count; i-- > 0;) {              /* any order is allowed: the reverse one finds who relies on it */
		const struct model_blob *blob = NULL;
		int r;

		if (model->lost && digest_equal(model->lost, &digests[i]))
			return -ENOENT;
		for (size_t b = 0; b < model->count && !blob; b++) {
			if (digest_equal(&model->blobs[b].digest, &digests[i]))
				blob = &model->blobs[b];
		}
		if (!blob) {
			snprintf(why, why_size, "a blob is missing");
			return -ENOENT;
		}
		bytes += blob->digest.size;
		r = visit(context, i, span_make(blob->data, blob->digest.size));
		if (r)
			return r;
	}
	model->fetched += bytes;
	if (bytes > model->batch_bytes_max)
		model->batch_bytes_max = bytes;
	return 0;
}

void model_init(struct model *model)
{
	*model = (struct model){ .source.fetch = on_fetch };
	model->blobs = calloc(MODEL_BLOBS_MAX, sizeof(*model->blobs));
	assert_non_null(model->blobs);
}

void model_fini(struct model *model)
{
	for (size_t i = 0; i < model->count; i++)
		free(model->blobs[i].data);
	free(model->blobs);
}

struct digest model_add(struct model *model, const void *data, size_t size)
{
	struct digest digest = { .size = size };

	sha256_once(data, size, digest.hash);
	for (size_t i = 0; i < model->count; i++) {
		if (digest_equal(&model->blobs[i].digest, &digest))
			return digest;
	}
	assert_true(model->count < MODEL_BLOBS_MAX);
	model->blobs[model->count].digest = digest;
	model->blobs[model->count].data = malloc(size ? size : 1);
	if (size)
		memcpy(model->blobs[model->count].data, data, size);
	model->count++;
	return digest;
}

void model_large_bytes(const struct model_entry *entry, uint64_t offset, uint8_t *out, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		uint64_t at = offset + i;
		uint64_t mixed = (at ^ ((uint64_t)entry->seed << 40)) * 0x9e3779b97f4a7c15u;

		out[i] = at / CHUNK_BYTES % 2 ? 0 : (uint8_t)(mixed >> 56);
		if (entry->edited && at == entry->edited)
			out[i] ^= 0x55;
	}
}

static void add_chunks(struct model *model, struct buffer *out, const struct model_entry *entry, uint64_t offset, uint64_t size)
{
	uint8_t chunk[CHUNK_BYTES];

	recipe_begin(out, &(struct recipe_head){ .profile = 1, .file_size = size });
	for (uint64_t end = offset + size; offset < end; offset += CHUNK_BYTES) {
		size_t length = end - offset < CHUNK_BYTES ? (size_t)(end - offset) : CHUNK_BYTES;
		struct digest digest;

		model_large_bytes(entry, offset, chunk, length);
		digest = model_add(model, chunk, length);
		recipe_add(out, &digest);
	}
}

static struct digest add_buffer(struct model *model, struct buffer *buffer)
{
	struct digest digest;

	assert_false(buffer->failed);
	digest = model_add(model, buffer->data, buffer->size);
	buffer_fini(buffer);
	return digest;
}

static struct digest add_recipe(struct model *model, const struct model_entry *entry, size_t part_entries)
{
	struct buffer list = buffer_heap(RECIPE_BYTES_MAX);
	uint64_t part_bytes = (uint64_t)part_entries * CHUNK_BYTES;

	if (!part_entries || entry->large <= part_bytes) {
		add_chunks(model, &list, entry, 0, entry->large);
		return add_buffer(model, &list);
	}
	recipe_begin(&list, &(struct recipe_head){ .profile = 1, .level = 1, .file_size = entry->large });
	for (uint64_t offset = 0; offset < entry->large; offset += part_bytes) {
		struct buffer part = buffer_heap(RECIPE_BYTES_MAX);
		struct digest digest;

		add_chunks(model, &part, entry, offset, entry->large - offset < part_bytes ? entry->large - offset : part_bytes);
		digest = add_buffer(model, &part);
		recipe_add(&list, &digest);
	}
	return add_buffer(model, &list);
}

static mode_t type_of(const struct model_entry *entry)
{
	return entry->type ? entry->type : S_IFREG;
}

static struct tree_node make_node(struct model *model, const struct model_entry *entry, struct span name, size_t part_entries)
{
	struct tree_node node = { .name = name, .mode = entry->mode ? entry->mode : 0644 };

	switch (type_of(entry)) {
	case S_IFREG:
		node.kind = TREE_FILE;
		node.recipe = entry->large > 0;
		node.file_size = entry->large ? entry->large : strlen(entry->text);
		node.digest = entry->large ? add_recipe(model, entry, part_entries) : model_add(model, entry->text, strlen(entry->text));
		node.hardlink = entry->hardlink ? span_text(entry->hardlink) : (struct span){ 0 };
		break;
	case S_IFLNK:
		node.kind = TREE_SYMLINK;
		node.target = span_text(entry->text);
		break;
	case S_IFIFO:
		node.kind = TREE_FIFO;
		break;
	default:
		node.kind = type_of(entry) == S_IFCHR ? TREE_CHAR_DEVICE : TREE_BLOCK_DEVICE;
		node.major = 1;
		node.minor = 3;
	}
	return node;
}

/* The name of the entry's first step below `prefix`; empty when it is not below. `*last`: the entry itself is meant. */
static struct span step_below(const struct model_entry *entry, const char *prefix, bool *last)
{
	size_t size = strlen(prefix);
	const char *rest = entry->path;
	const char *slash;

	if (size && (strncmp(rest, prefix, size) != 0 || rest[size] != '/'))
		return (struct span){ 0 };
	rest += size ? size + 1 : 0;
	slash = strchr(rest, '/');
	*last = !slash;
	return span_make(rest, slash ? (size_t)(slash - rest) : strlen(rest));
}

static bool has_name(const struct tree_node *nodes, size_t count, struct span name)
{
	for (size_t i = 0; i < count; i++) {
		if (span_equal(nodes[i].name, name))
			return true;
	}
	return false;
}

static struct digest add_directory(struct model *model, const char *path, const struct model_entry *entries, size_t count,
                                   size_t part_entries)
{
	struct tree_xattr xattrs[NODES_MAX];
	struct tree_node *nodes = calloc(NODES_MAX, sizeof(*nodes));
	struct tree_directory directory = { .mode = 0755 };
	struct buffer out = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);
	struct tree_xattr own;
	size_t nodes_count = 0;

	for (size_t i = 0; i < count; i++) {
		bool last = false;
		struct span name = step_below(&entries[i], path, &last);

		if (strcmp(entries[i].path, path) == 0) {
			directory.mode = entries[i].mode ? entries[i].mode : 0755;
			own = (struct tree_xattr){ .name = span_text("user.test"), .value = span_text(entries[i].xattr ? entries[i].xattr : "") };
			directory.xattrs = &own;
			directory.xattrs_count = entries[i].xattr != NULL;
			continue;
		}
		if (!name.size || has_name(nodes, nodes_count, name))
			continue;
		assert_true(nodes_count < NODES_MAX);
		if (!last || type_of(&entries[i]) == S_IFDIR) {
			char below[TREE_PATH_MAX + 1];

			snprintf(below, sizeof(below), "%s%s%.*s", path, *path ? "/" : "", (int)name.size, (const char *)name.data);
			nodes[nodes_count++] = (struct tree_node){
				.kind = TREE_DIRECTORY, .name = name,
				.digest = add_directory(model, below, entries, count, part_entries),
			};
			continue;
		}
		nodes[nodes_count] = make_node(model, &entries[i], name, part_entries);
		if (entries[i].xattr) {
			xattrs[nodes_count] = (struct tree_xattr){ .name = span_text("user.test"), .value = span_text(entries[i].xattr) };
			nodes[nodes_count].xattrs = &xattrs[nodes_count];
			nodes[nodes_count].xattrs_count = 1;
		}
		nodes_count++;
	}
	assert_int_equal(tree_encode(&out, &directory, nodes, nodes_count), 0);
	free(nodes);
	return add_buffer(model, &out);
}

struct digest model_tree(struct model *model, const struct model_entry *entries, size_t count, size_t part_entries)
{
	return add_directory(model, "", entries, count, part_entries);
}

static const struct model_entry *find_entry(const struct model_entry *entries, size_t count, const char *path)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(entries[i].path, path) == 0)
			return &entries[i];
	}
	return NULL;
}

static void compare_bytes(int dir_fd, const struct model_entry *entry)
{
	int fd = openat(dir_fd, entry->path, O_RDONLY | O_NOFOLLOW);
	uint64_t size = entry->large ? entry->large : strlen(entry->text);
	uint8_t have[CHUNK_BYTES], want[CHUNK_BYTES];

	assert_true(fd >= 0);
	for (uint64_t offset = 0; offset < size; offset += sizeof(have)) {
		size_t length = size - offset < sizeof(have) ? (size_t)(size - offset) : sizeof(have);

		assert_int_equal(pread(fd, have, length, (off_t)offset), length);
		if (entry->large)
			model_large_bytes(entry, offset, want, length);
		else
			memcpy(want, entry->text + offset, length);
		assert_memory_equal(have, want, length);
	}
	close(fd);
}

static void compare_xattr(int dir_fd, const char *path, const char *want)
{
	char have[256] = "";
	int fd = openat(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	ssize_t size;

	assert_true(fd >= 0);
	size = fgetxattr(fd, "user.test", have, sizeof(have) - 1);
	close(fd);
	if (!want) {
		assert_int_equal(size, -1);
		return;
	}
	assert_int_equal(size, strlen(want));
	assert_string_equal(have, want);
}

static void compare_entry(int dir_fd, const struct model_entry *entry, const struct stat *have)
{
	char target[TREE_TARGET_MAX + 1] = "";
	struct stat first;

	if ((have->st_mode & S_IFMT) != type_of(entry))
		fail_msg("%s: another type: %o", entry->path, have->st_mode);
	switch (type_of(entry)) {
	case S_IFREG:
		if ((have->st_mode & 07777) != (entry->mode ? entry->mode : 0644))
			fail_msg("%s: another mode: %o", entry->path, have->st_mode);
		assert_int_equal(have->st_size, entry->large ? entry->large : strlen(entry->text));
		if (have->st_mode & 0400) {
			compare_bytes(dir_fd, entry);
			compare_xattr(dir_fd, entry->path, entry->xattr);
		}
		if (entry->hardlink) {
			assert_int_equal(fstatat(dir_fd, entry->hardlink, &first, AT_SYMLINK_NOFOLLOW), 0);
			if (first.st_ino != have->st_ino)
				fail_msg("%s: not the same file as %s", entry->path, entry->hardlink);
		}
		break;
	case S_IFIFO:
		assert_int_equal(have->st_mode & 07777, entry->mode ? entry->mode : 0644);
		break;
	case S_IFDIR:
		if ((have->st_mode & 07777) != (entry->mode ? entry->mode : 0755))
			fail_msg("%s: another mode: %o", entry->path, have->st_mode);
		compare_xattr(dir_fd, *entry->path ? entry->path : ".", entry->xattr);
		break;
	case S_IFLNK:
		assert_true(readlinkat(dir_fd, entry->path, target, sizeof(target) - 1) >= 0);
		assert_string_equal(target, entry->text);
		break;
	}
}

static void count_links(const struct model_entry *entries, size_t count, const char *path, const struct stat *have)
{
	const struct model_entry *entry = find_entry(entries, count, path);
	const char *first = entry->hardlink ? entry->hardlink : path;
	nlink_t want = 1;

	for (size_t i = 0; i < count; i++)
		want += entries[i].hardlink && strcmp(entries[i].hardlink, first) == 0;
	if (have->st_nlink != want)
		fail_msg("%s: %u names instead of %u", path, (unsigned)have->st_nlink, (unsigned)want);
}

/* Each thing on disk must be in the table. */
static void compare_directory(int dir_fd, const char *path, const struct model_entry *entries, size_t count)
{
	int fd = openat(dir_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *dir = fdopendir(fd);
	struct dirent *dirent;

	assert_non_null(dir);
	while ((dirent = readdir(dir))) {
		char below[TREE_PATH_MAX + 1];
		const struct model_entry *entry;
		struct stat stat;

		if (strcmp(dirent->d_name, ".") == 0 || strcmp(dirent->d_name, "..") == 0)
			continue;
		assert_true((size_t)snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", dirent->d_name) < sizeof(below));
		assert_int_equal(fstatat(dir_fd, below, &stat, AT_SYMLINK_NOFOLLOW), 0);
		entry = find_entry(entries, count, below);
		if (S_ISDIR(stat.st_mode))
			compare_directory(dir_fd, below, entries, count);
		if (entry)
			compare_entry(dir_fd, entry, &stat);
		if (entry && S_ISREG(stat.st_mode))
			count_links(entries, count, below, &stat);
		if (!entry && !S_ISDIR(stat.st_mode))
			fail_msg("%s: should not be there", below);
		if (!entry) {
			size_t below_size = strlen(below);
			bool implied = false;

			for (size_t i = 0; i < count; i++)
				implied = implied || (strncmp(entries[i].path, below, below_size) == 0 && entries[i].path[below_size] == '/');
			if (!implied)
				fail_msg("%s: a directory that should not be there", below);
		}
	}
	closedir(dir);
}

void model_compare(int dir_fd, const struct model_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct stat stat;

		if (fstatat(dir_fd, *entries[i].path ? entries[i].path : ".", &stat, AT_SYMLINK_NOFOLLOW))
			fail_msg("%s: %s", entries[i].path, strerror(errno));
		if (!*entries[i].path)
			compare_entry(dir_fd, &entries[i], &stat);
	}
	compare_directory(dir_fd, "", entries, count);
}
