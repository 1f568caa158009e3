/* Writes directories in canonical form; docs/tree.md is the specification. */
#include "proto/tree.h"

#include "proto/escape.h"
#include "proto/pb.h"
#include "proto/recipe.h"
#include "proto/tree_wire.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool has_byte(struct span text, uint8_t byte)
{
	return text.size && memchr(text.data, byte, text.size) != NULL;
}

bool tree_name_valid(struct span name)
{
	return name.size >= 1 && name.size <= TREE_NAME_MAX && !has_byte(name, '/') && !has_byte(name, 0) &&
	       !span_is(name, ".") && !span_is(name, "..");
}

bool tree_target_valid(struct span target)
{
	return target.size >= 1 && target.size <= TREE_TARGET_MAX && !has_byte(target, 0);
}

static bool starts_with(struct span text, const char *prefix)
{
	size_t size = strlen(prefix);

	return text.size > size && memcmp(text.data, prefix, size) == 0;
}

bool tree_xattr_name_valid(struct span name)
{
	return name.size <= TREE_NAME_MAX && starts_with(name, "user.") && !starts_with(name, "user.overlay.") &&
	       !has_byte(name, 0) && utf8_valid(name);
}

struct span tree_path_component(struct span *path)
{
	const uint8_t *slash = path->size ? memchr(path->data, '/', path->size) : NULL;
	struct span name = *path;

	if (!slash) {
		*path = span_make(path->data + path->size, 0);
		return name;
	}
	name.size = (size_t)(slash - path->data);
	*path = span_make(slash + 1, path->size - name.size - 1);
	return name;
}

bool tree_path_valid(struct span path)
{
	if (path.size == 0 || path.size > TREE_PATH_MAX || path.data[path.size - 1] == '/')
		return false;
	while (path.size) {
		if (!tree_name_valid(tree_path_component(&path)))
			return false;
	}
	return true;
}

static bool xattrs_valid(const struct tree_xattr *xattrs, size_t count)
{
	size_t bytes = 0;

	if (count > TREE_XATTRS_MAX)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!tree_xattr_name_valid(xattrs[i].name))
			return false;
		if (i && span_compare(xattrs[i - 1].name, xattrs[i].name) >= 0)
			return false;
		bytes += xattrs[i].name.size + xattrs[i].value.size;
		if (bytes > TREE_XATTR_BYTES_MAX)
			return false;
	}
	return true;
}

static bool file_valid(const struct tree_node *node)
{
	if (node->recipe ? node->file_size <= RECIPE_WHOLE_MAX : node->digest.size != node->file_size)
		return false;
	return node->hardlink.size == 0 || tree_path_valid(node->hardlink);
}

static bool node_valid(const struct tree_node *node)
{
	if (!tree_name_valid(node->name) || !xattrs_valid(node->xattrs, node->xattrs_count))
		return false;
	if (node->kind != TREE_FILE && (node->xattrs_count || node->hardlink.size || node->recipe))
		return false;
	switch (node->kind) {
	case TREE_FILE:
		return node->mode <= TREE_MODE_MAX && file_valid(node);
	case TREE_DIRECTORY:
		return true;
	case TREE_SYMLINK:
		return tree_target_valid(node->target);
	case TREE_FIFO:
	case TREE_CHAR_DEVICE:
	case TREE_BLOCK_DEVICE:
		return node->mode <= TREE_MODE_MAX;
	}
	return false;
}

static void put_digest(struct buffer *out, uint32_t number, const struct digest *digest)
{
	char hex[DIGEST_HEX_BYTES];
	size_t mark = pb_begin(out, number);

	digest_hex(digest, hex);
	pb_put_bytes(out, DIGEST_HASH, span_make(hex, sizeof(hex)));
	pb_put_varint(out, DIGEST_SIZE_BYTES, digest->size);
	pb_end(out, mark);
}

static void put_property(struct buffer *out, struct span name, struct span value)
{
	size_t mark = pb_begin(out, PROPERTIES_PROPERTY);

	pb_put_bytes(out, PROPERTY_NAME, name);
	pb_put_bytes(out, PROPERTY_VALUE, value);
	pb_end(out, mark);
}

static void put_property_text(struct buffer *out, const char *name, const char *value)
{
	put_property(out, span_text(name), span_text(value));
}

static void put_property_base64(struct buffer *out, struct span name, struct span value)
{
	size_t mark = pb_begin(out, PROPERTIES_PROPERTY);

	pb_put_bytes(out, PROPERTY_NAME, name);
	if (value.size) {
		size_t value_mark = pb_begin(out, PROPERTY_VALUE);

		base64_put(out, value);
		pb_end(out, value_mark);
	}
	pb_end(out, mark);
}

static void put_xattrs(struct buffer *out, const struct tree_xattr *xattrs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t storage[sizeof(TREE_PROPERTY_XATTR) + TREE_NAME_MAX];
		struct buffer name = buffer_over(storage, sizeof(storage));

		buffer_put_text(&name, TREE_PROPERTY_XATTR);
		buffer_put(&name, xattrs[i].name.data, xattrs[i].name.size);
		assert(!name.failed);
		put_property_base64(out, buffer_span(&name), xattrs[i].value);
	}
}

/* Names and targets. Plain: as they are, since who reads that does not undo escapes. */
static void put_text(struct buffer *out, uint32_t number, struct span bytes, bool plain)
{
	size_t mark = pb_begin(out, number);

	if (plain)
		buffer_put(out, bytes.data, bytes.size);
	else
		escape_put(out, bytes);
	pb_end(out, mark);
}

/* A path in wire form: each of its names in wire form. */
static void put_hardlink(struct buffer *out, struct span path)
{
	size_t mark = pb_begin(out, PROPERTIES_PROPERTY);
	size_t value_mark;

	pb_put_text(out, PROPERTY_NAME, TREE_PROPERTY_HARDLINK);
	value_mark = pb_begin(out, PROPERTY_VALUE);
	while (path.size) {
		escape_put(out, tree_path_component(&path));
		if (path.size)
			buffer_put(out, "/", 1);
	}
	pb_end(out, value_mark);
	pb_end(out, mark);
}

static void put_recipe(struct buffer *out, uint64_t file_size)
{
	char value[32];

	snprintf(value, sizeof(value), "%d:%llu", RECIPE_VERSION, (unsigned long long)file_size);
	put_property_text(out, TREE_PROPERTY_RECIPE, value);
}

static void put_type(struct buffer *out, const struct tree_node *node)
{
	char value[40];

	switch (node->kind) {
	case TREE_FIFO:
		put_property_text(out, TREE_PROPERTY_TYPE, "fifo");
		return;
	case TREE_CHAR_DEVICE:
	case TREE_BLOCK_DEVICE:
		snprintf(value, sizeof(value), "%s:%u:%u", node->kind == TREE_CHAR_DEVICE ? "char" : "block",
			 node->major, node->minor);
		put_property_text(out, TREE_PROPERTY_TYPE, value);
		return;
	case TREE_FILE:
	case TREE_DIRECTORY:
	case TREE_SYMLINK:
		return;
	}
}

static void put_mode(struct buffer *out, uint32_t mode, uint32_t mode_default)
{
	size_t mark;

	if (mode == mode_default)
		return;
	mark = pb_begin(out, PROPERTIES_UNIX_MODE);
	pb_put_varint(out, UINT32_VALUE, mode);
	pb_end(out, mark);
}

/* Properties are sorted by name: hardlink, name, recipe, target, type, xattr. */
static void put_properties(struct buffer *out, uint32_t number, const struct tree_node *node, uint32_t mode_default, bool plain)
{
	size_t before = out->size;
	size_t mark = pb_begin(out, number);
	size_t empty = out->size;

	if (node->hardlink.size)
		put_hardlink(out, node->hardlink);
	if (!plain && escape_needed(node->name))
		put_property_base64(out, span_text(TREE_PROPERTY_NAME), node->name);
	if (node->recipe)
		put_recipe(out, node->file_size);
	if (!plain && node->kind == TREE_SYMLINK && escape_needed(node->target))
		put_property_base64(out, span_text(TREE_PROPERTY_TARGET), node->target);
	put_type(out, node);
	put_xattrs(out, node->xattrs, node->xattrs_count);
	if (node->kind != TREE_SYMLINK)
		put_mode(out, node->mode, mode_default);
	if (out->failed)
		return;
	if (out->size == empty)
		out->size = before;             /* nothing to say */
	else
		pb_end(out, mark);
}

static void put_file(struct buffer *out, const struct tree_node *node, bool plain)
{
	bool executable = node->mode & TREE_MODE_EXECUTABLE;

	put_text(out, FILE_NAME, node->name, plain);
	put_digest(out, FILE_DIGEST, node->kind == TREE_FILE ? &node->digest : &digest_empty);
	pb_put_bool(out, FILE_EXECUTABLE, executable);
	put_properties(out, FILE_PROPERTIES, node, executable ? TREE_MODE_DIRECTORY : TREE_MODE_FILE, plain);
}

static void put_node(struct buffer *out, const struct tree_node *node, bool plain)
{
	size_t mark = pb_begin(out, tree_list_of(node->kind));

	switch (tree_list_of(node->kind)) {
	case DIRECTORY_FILES:
		put_file(out, node, plain);
		break;
	case DIRECTORY_DIRECTORIES:
		put_text(out, DIRECTORY_NODE_NAME, node->name, plain);
		put_digest(out, DIRECTORY_NODE_DIGEST, &node->digest);
		break;
	case DIRECTORY_SYMLINKS:
		put_text(out, SYMLINK_NAME, node->name, plain);
		put_text(out, SYMLINK_TARGET, node->target, plain);
		put_properties(out, SYMLINK_PROPERTIES, node, 0, plain);
		break;
	}
	pb_end(out, mark);
}

static void put_head(struct buffer *out, const struct tree_directory *directory, bool escaped)
{
	size_t mark;

	if (!escaped && directory->xattrs_count == 0 && directory->mode == TREE_MODE_DIRECTORY)
		return;
	mark = pb_begin(out, DIRECTORY_PROPERTIES);
	if (escaped)
		put_property_text(out, TREE_PROPERTY_NAMES, TREE_NAMES_ESCAPED);
	put_xattrs(out, directory->xattrs, directory->xattrs_count);
	put_mode(out, directory->mode, TREE_MODE_DIRECTORY);
	pb_end(out, mark);
}

static int compare_names(const void *a, const void *b)
{
	return span_compare(((const struct tree_node *)a)->name, ((const struct tree_node *)b)->name);
}

static int compare_wire_names(const void *a, const void *b)
{
	uint8_t storage[2][TREE_WIRE_NAME_MAX];
	struct buffer wire[2] = {buffer_over(storage[0], sizeof(storage[0])),
				 buffer_over(storage[1], sizeof(storage[1]))};

	escape_put(&wire[0], ((const struct tree_node *)a)->name);
	escape_put(&wire[1], ((const struct tree_node *)b)->name);
	assert(!wire[0].failed && !wire[1].failed);
	return span_compare(buffer_span(&wire[0]), buffer_span(&wire[1]));
}

/* Names are unique if and only if their wire forms are, so neighbours tell of duplicates either way. */
static int sort_nodes(struct tree_node *nodes, size_t count, bool escaped)
{
	if (count == 0)
		return 0;
	qsort(nodes, count, sizeof(nodes[0]), escaped ? compare_wire_names : compare_names);
	for (size_t i = 1; i < count; i++) {
		if (span_equal(nodes[i - 1].name, nodes[i].name))
			return -EEXIST;
	}
	return 0;
}

static int put_lists(struct buffer *out, size_t start, const struct tree_node *nodes, size_t count, bool plain)
{
	static const uint32_t lists[] = { DIRECTORY_FILES, DIRECTORY_DIRECTORIES, DIRECTORY_SYMLINKS };

	for (size_t list = 0; list < sizeof(lists) / sizeof(lists[0]); list++) {
		for (size_t i = 0; i < count; i++) {
			if (tree_list_of(nodes[i].kind) != lists[list])
				continue;
			put_node(out, &nodes[i], plain);
			if (!out->failed && out->size - start > TREE_DIRECTORY_BYTES_MAX)
				return -EFBIG;
		}
	}
	return 0;
}

/* A buffer that could not have held the longest directory is full; any other had no memory. */
static int put_failure(const struct buffer *out, size_t start)
{
	return out->size_max > start + TREE_DIRECTORY_BYTES_MAX ? -ENOMEM : -EFBIG;
}

static int put_directory(struct buffer *out, const struct tree_directory *directory, const struct tree_node *nodes, size_t count,
                         bool escaped, bool plain)
{
	size_t start = out->size;
	int r = put_lists(out, start, nodes, count, plain);

	put_head(out, directory, escaped);
	if (!r && out->failed)
		r = put_failure(out, start);
	if (!r && out->size - start > TREE_DIRECTORY_BYTES_MAX)
		r = -EFBIG;
	if (r) {
		out->size = start;
		out->failed = false;
	}
	return r;
}

int tree_encode(struct buffer *out, const struct tree_directory *directory, struct tree_node *nodes, size_t count)
{
	bool escaped = false;
	int r;

	if (directory->mode > TREE_MODE_MAX || !xattrs_valid(directory->xattrs, directory->xattrs_count))
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (!node_valid(&nodes[i]))
			return -EINVAL;
		escaped = escaped || escape_needed(nodes[i].name);
	}
	r = sort_nodes(nodes, count, escaped);
	return r ? r : put_directory(out, directory, nodes, count, escaped, false);
}

static bool node_plain(const struct tree_node *node)
{
	return tree_list_of(node->kind) != DIRECTORY_FILES ||
	       (node->kind == TREE_FILE && !node->recipe && !node->hardlink.size && !node->xattrs_count);
}

int tree_encode_plain(struct buffer *out, uint32_t mode, struct tree_node *nodes, size_t count)
{
	int r;

	if (mode > TREE_MODE_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (!node_valid(&nodes[i]) || !node_plain(&nodes[i]))
			return -EINVAL;
		if (!utf8_valid(nodes[i].name) || (nodes[i].kind == TREE_SYMLINK && !utf8_valid(nodes[i].target)))
			return -EILSEQ;
	}
	r = sort_nodes(nodes, count, false);
	return r ? r : put_directory(out, &(struct tree_directory){ .mode = mode }, nodes, count, false, true);
}
