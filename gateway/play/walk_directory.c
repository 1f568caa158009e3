/* From a Directory message to entries in fsutil's order. */
#include "gateway/play/walk_directory.h"

#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES_MAX (64u << 20)      /* what a message of TREE_DIRECTORY_BYTES_MAX can come to */
#define DEFAULT_MODE_SYMLINK 0777

/* ---- reading ---- */

static void put_xattrs(struct buffer *arena, const struct tree_xattr *xattrs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		message_put_pair(arena, FSUTIL_STAT_FIELD_XATTRS,
		                 &(struct message_pair){ .key = xattrs[i].name, .value = xattrs[i].value });
}

struct parts {
	struct walk_node node;
	struct span name, link;
	const struct tree_xattr *xattrs;
	size_t xattrs_count;
};

/* Where it is; `arena->failed` when there is no memory. */
static uint32_t arena_put(struct buffer *arena, const struct parts *parts)
{
	static const uint8_t zeros[8];
	struct walk_node *node;
	uint32_t at;

	buffer_put(arena, zeros, -arena->size & 7);
	at = (uint32_t)arena->size;
	buffer_put(arena, &parts->node, offsetof(struct walk_node, bytes));
	buffer_put(arena, parts->name.data, parts->name.size);
	if (parts->link.size)
		buffer_put(arena, parts->link.data, parts->link.size);
	put_xattrs(arena, parts->xattrs, parts->xattrs_count);
	if (arena->failed)
		return 0;
	node = (struct walk_node *)(void *)(arena->data + at);
	node->name_bytes = (uint8_t)parts->name.size;
	node->link_bytes = (uint16_t)parts->link.size;
	node->xattrs = (uint8_t)parts->xattrs_count;
	node->xattrs_bytes = (uint32_t)(arena->size - at - offsetof(struct walk_node, bytes) - parts->name.size - parts->link.size);
	return at;
}

static bool order_grow(struct walk_directory *directory)
{
	uint32_t capacity = directory->capacity ? directory->capacity * 2 : 16;
	uint32_t *grown;

	if (directory->count < directory->capacity)
		return true;
	grown = reallocarray(directory->order, capacity, sizeof(*grown));
	if (!grown)
		return false;
	directory->order = grown;
	directory->capacity = capacity;
	return true;
}

static const char *directory_add(struct walk_directory *directory, const struct tree_node *from)
{
	struct parts parts = {
		.node = { .size = from->digest.size, .mode = (uint16_t)from->mode, .kind = (uint8_t)from->kind },
		.name = from->name, .xattrs = from->xattrs, .xattrs_count = from->xattrs_count,
	};

	switch (from->kind) {
	case TREE_CHAR_DEVICE:
	case TREE_BLOCK_DEVICE:
		return "it has a device node";
	case TREE_FILE:
		parts.node.size = from->file_size;
		parts.node.recipe_bytes = from->recipe ? (uint32_t)from->digest.size : 0;
		parts.node.hardlink = from->hardlink.size > 0;
		parts.link = from->hardlink;
		break;
	case TREE_SYMLINK:
		parts.link = from->target;
		break;
	default:
		break;
	}
	memcpy(parts.node.hash, from->digest.hash, sizeof(parts.node.hash));
	if (!order_grow(directory))
		return "no memory";
	directory->order[directory->count++] = arena_put(&directory->arena, &parts);
	return directory->arena.failed ? "no memory" : NULL;
}

static int by_name(const void *a, const void *b, void *context)
{
	const uint8_t *arena = context;
	const struct walk_node *one = (const void *)(arena + *(const uint32_t *)a), *two = (const void *)(arena + *(const uint32_t *)b);
	size_t common = one->name_bytes < two->name_bytes ? one->name_bytes : two->name_bytes;
	int r = memcmp(one->bytes, two->bytes, common);

	return r ? r : (int)one->name_bytes - (int)two->name_bytes;
}

static const char *directory_fill(struct walk_directory *directory, struct tree_reader *reader, struct span blob)
{
	struct parts self = { .node = { .kind = TREE_DIRECTORY } };
	struct tree_node node;
	const char *fault = NULL;

	if (!tree_open(reader, blob))
		return reader->fault ? reader->fault : "malformed directory";
	self.node.mode = (uint16_t)reader->directory.mode;
	self.xattrs = reader->directory.xattrs;
	self.xattrs_count = reader->directory.xattrs_count;
	self.name = span_text("");
	arena_put(&directory->arena, &self);
	while (!fault && tree_next(reader, &node))
		fault = directory_add(directory, &node);
	if (!fault && reader->failed)
		fault = reader->fault ? reader->fault : "malformed directory";
	return !fault && directory->arena.failed ? "no memory" : fault;
}

const char *walk_directory_read(struct walk_directory *directory, struct span blob)
{
	struct tree_reader *reader = calloc(1, sizeof(*reader)); /* two tables of xattrs: too large for a stack */
	const char *fault;

	*directory = (struct walk_directory){ .arena = buffer_heap(ARENA_BYTES_MAX) };
	if (!reader)
		return "no memory";
	fault = directory_fill(directory, reader, blob);
	tree_close(reader);
	free(reader);
	if (fault)
		walk_directory_fini(directory);
	else if (directory->count)
		qsort_r(directory->order, directory->count, sizeof(*directory->order), by_name, directory->arena.data);
	return fault;
}

void walk_directory_fini(struct walk_directory *directory)
{
	buffer_fini(&directory->arena);
	free(directory->order);
	*directory = (struct walk_directory){ 0 };
}

size_t walk_directory_bytes(const struct walk_directory *directory)
{
	return directory->arena.capacity + directory->capacity * sizeof(*directory->order);
}

/* ---- an entry ---- */

/* Go's os.FileMode: the permissions, and bits of its own for the rest. */
static uint32_t go_mode(uint32_t mode)
{
	return (mode & FSUTIL_MODE_PERMISSIONS) | (mode & 04000 ? FSUTIL_MODE_SETUID : 0) |
	       (mode & 02000 ? FSUTIL_MODE_SETGID : 0) | (mode & 01000 ? FSUTIL_MODE_STICKY : 0);
}

static uint32_t node_mode(const struct walk_node *node, const struct walk_node *self)
{
	switch (node->kind) {
	case TREE_DIRECTORY:
		return FSUTIL_MODE_DIRECTORY | go_mode(self->mode);
	case TREE_SYMLINK:
		return FSUTIL_MODE_SYMLINK | DEFAULT_MODE_SYMLINK;
	case TREE_FIFO:
		return FSUTIL_MODE_FIFO | go_mode(node->mode);
	default:
		return go_mode(node->mode);
	}
}

static int64_t node_size(const struct walk_node *node)
{
	switch (node->kind) {
	case TREE_FILE:
		return (int64_t)node->size;
	case TREE_SYMLINK:
		return node->link_bytes;         /* as lstat() says it */
	default:
		return 0;
	}
}

void walk_node_entry(const struct walk_node *node, const struct walk_node *self, struct span path, struct walk_entry *entry)
{
	const struct walk_node *owner = self ? self : node;

	*entry = (struct walk_entry){
		.kind = node->kind,
		.stat = {
			.path = path, .linkname = span_make(node->bytes + node->name_bytes, node->link_bytes),
			.mode = node_mode(node, self), .size = node_size(node),
			.xattrs = { .message = span_make(owner->bytes + owner->name_bytes + owner->link_bytes, owner->xattrs_bytes),
				    .number = FSUTIL_STAT_FIELD_XATTRS, .count = owner->xattrs },
		},
		.name = { .size = node->size, .recipe = node->recipe_bytes > 0 },
		.data = node->kind == TREE_FILE && !node->hardlink,
	};
	memcpy(entry->name.digest.hash, node->hash, sizeof(node->hash));
	entry->name.digest.size = node->recipe_bytes ? node->recipe_bytes : node->size;
}
