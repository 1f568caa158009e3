/* Directory messages without what a target is not made of, field by field: so they stay in canonical form. */
#include "gateway/cmd/target_tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chunker/sha256.h"
#include "gateway/base/err.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"
#include "proto/tree.h"

#define FIELD_DIRECTORIES 2
#define FIELD_PROPERTIES  5
#define FIELD_UNIX_MODE   3              /* of properties */

struct cutting {
	const struct target_tree *tree;
	char path[TREE_PATH_MAX + 1];
	char *why;
	size_t why_size;
};

static int cut_directory(struct cutting *cutting, size_t path_size, const struct digest *digest, bool wanted,
                         struct digest *cut, bool *any);

static int refuse(struct cutting *cutting, int r, const char *what)
{
	snprintf(cutting->why, cutting->why_size, "%s: %s", *cutting->path ? cutting->path : ".", what);
	return ERR_RAISE(r);
}

static int enter_name(struct cutting *cutting, size_t path_size, struct span name, size_t *size)
{
	*size = path_size + (path_size ? 1 : 0) + name.size;
	if (*size > TREE_PATH_MAX)
		return refuse(cutting, -ENAMETOOLONG, "the path is too long");
	if (path_size)
		cutting->path[path_size] = '/';
	memcpy(cutting->path + *size - name.size, name.data, name.size);
	cutting->path[*size] = 0;
	return 0;
}

/* A DirectoryNode of the same name. */
static void put_directory_node(struct buffer *out, struct span node, const struct digest *digest)
{
	struct reapi_node read;
	size_t mark = pb_begin(out, FIELD_DIRECTORIES);

	if (message_decode(&reapi_node_type, node, &read))
		pb_put_bytes(out, 1, read.name);
	message_put_digest(out, 2, digest);
	pb_end(out, mark);
}

static int cut_node(struct cutting *cutting, size_t path_size, const struct tree_node *node, const struct pb_field *field,
                    struct buffer *out, bool *any)
{
	enum target_part part;
	struct digest cut;
	bool inside = false;
	size_t size;
	int r = enter_name(cutting, path_size, node->name, &size);

	if (r)
		return r;
	part = targets_part(cutting->tree->targets, cutting->tree->index, cutting->path);
	if (part == TARGETS_WHOLE || (part == TARGETS_PART && node->kind != TREE_DIRECTORY)) {
		pb_put_bytes_always(out, field->number, field->bytes);
		*any = true;
	} else if (part != TARGETS_NO_PART && node->kind == TREE_DIRECTORY) {
		r = cut_directory(cutting, size, &node->digest, part == TARGETS_PART, &cut, &inside);
		if (r == 0 && inside)
			put_directory_node(out, field->bytes, &cut);
		*any |= inside;
	}
	cutting->path[path_size] = 0;
	return r;
}

/* The mode of the tree's root is the checkout's, not the content's. */
static void put_properties(struct buffer *out, const struct pb_field *field, bool root)
{
	struct pb_reader inner = pb_reader_make(field->bytes);
	struct buffer kept = buffer_heap(field->bytes.size + 1);         /* base64 of up to TREE_XATTR_BYTES_MAX is longer */
	struct pb_field property;

	if (!root) {
		pb_put_bytes_always(out, field->number, field->bytes);
		return;
	}
	while (pb_next(&inner, &property))
		if (property.number != FIELD_UNIX_MODE)
			pb_put_bytes_always(&kept, property.number, property.bytes);
	if (kept.size)
		pb_put_bytes_always(out, field->number, buffer_span(&kept));
	out->failed |= kept.failed;
	buffer_fini(&kept);
}

/* tree_next() yields nodes in the order of the message's fields. */
static int cut_nodes(struct cutting *cutting, size_t path_size, struct span blob, struct buffer *out, bool *any)
{
	struct pb_reader fields = pb_reader_make(blob);
	struct tree_reader *reader = calloc(1, sizeof(*reader));
	struct tree_node node;
	struct pb_field field;
	bool good = reader && tree_open(reader, blob);
	int r = reader ? 0 : ERR_RAISE(-ENOMEM);

	while (r == 0 && good && pb_next(&fields, &field)) {
		if (field.number >= FIELD_PROPERTIES) {
			put_properties(out, &field, path_size == 0);
			continue;
		}
		good = tree_next(reader, &node);
		if (good)
			r = cut_node(cutting, path_size, &node, &field, out, any);
	}
	if (r == 0 && (!good || out->failed))
		r = refuse(cutting, good ? -ENOMEM : -EINVAL, good ? "out of memory" : "is no directory of ours");
	if (reader)
		tree_close(reader);
	free(reader);
	return r;
}

/* `wanted`: also when nothing in it is. */
static int cut_directory(struct cutting *cutting, size_t path_size, const struct digest *digest, bool wanted,
                         struct digest *cut, bool *any)
{
	const struct target_tree *tree = cutting->tree;
	uint8_t *bytes = malloc(digest->size ? digest->size : 1);
	struct buffer out = buffer_heap(TREE_DIRECTORY_BYTES_MAX);
	bool inside = false;
	int r = bytes ? 0 : ERR_RAISE(-ENOMEM);

	if (r == 0 && digest->size)
		r = manifest_read(tree->manifest, digest, bytes, cutting->why, cutting->why_size);
	if (r == 0)
		r = cut_nodes(cutting, path_size, span_make(bytes, digest->size), &out, &inside);
	*any = inside || wanted;
	if (r == 0 && *any) {
		cut->size = out.size;
		sha256_once(out.data, out.size, cut->hash);
		if (!digest_equal(cut, digest) && out.size)
			r = tree->emit(tree->context, cut, buffer_span(&out));
	}
	free(bytes);
	buffer_fini(&out);
	return r;
}

int target_tree_make(const struct target_tree *tree, struct digest *root, char *why, size_t why_size)
{
	struct cutting *cutting = calloc(1, sizeof(*cutting));
	bool any = false;
	int r = cutting ? 0 : ERR_RAISE(-ENOMEM);

	*why = 0;
	if (r == 0) {
		*cutting = (struct cutting){ .tree = tree, .why = why, .why_size = why_size };
		r = cut_directory(cutting, 0, manifest_root(tree->manifest), false, root, &any);
	}
	if (r == 0 && !any) {
		snprintf(why, why_size, "none of its paths is there");
		r = -ENOENT;
	}
	if (r && !*why)
		snprintf(why, why_size, "%s", err_text(r));
	free(cutting);
	return r;
}
