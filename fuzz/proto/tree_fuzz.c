/*
 * tree: any bytes are read as a directory. What is accepted has sane, unique names, and comes back unchanged when it is
 * written in canonical form and read again; written twice, the bytes are the same.
 */
#include "proto/tree.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define NODES_MAX 512

/* What outlives the reader: copies of all that it lends. */
struct copy {
	struct tree_node nodes[NODES_MAX];
	size_t count;
	void *blocks[NODES_MAX * 4 + 2 * NODES_MAX * TREE_XATTRS_MAX];
	size_t blocks_count;
};

static void *keep(struct copy *copy, const void *data, size_t size)
{
	void *block = malloc(size ? size : 1);

	REQUIRE(block);
	if (size)
		memcpy(block, data, size);
	copy->blocks[copy->blocks_count++] = block;
	return block;
}

static struct span keep_span(struct copy *copy, struct span span)
{
	return span_make(keep(copy, span.data, span.size), span.size);
}

static const struct tree_xattr *keep_xattrs(struct copy *copy, const struct tree_xattr *xattrs, size_t count)
{
	struct tree_xattr *kept = keep(copy, xattrs, count * sizeof(*xattrs));

	for (size_t i = 0; i < count; i++) {
		kept[i].name = keep_span(copy, kept[i].name);
		kept[i].value = keep_span(copy, kept[i].value);
	}
	return kept;
}

static void keep_node(struct copy *copy, const struct tree_node *node)
{
	struct tree_node *kept = &copy->nodes[copy->count++];

	*kept = *node;
	kept->name = keep_span(copy, node->name);
	kept->target = keep_span(copy, node->target);
	kept->hardlink = keep_span(copy, node->hardlink);
	kept->xattrs = keep_xattrs(copy, node->xattrs, node->xattrs_count);
}

static bool same_node(const struct tree_node *a, const struct tree_node *b)
{
	bool same = a->kind == b->kind && span_equal(a->name, b->name) && a->mode == b->mode &&
	            digest_equal(&a->digest, &b->digest) && a->recipe == b->recipe && a->file_size == b->file_size &&
	            span_equal(a->target, b->target) && span_equal(a->hardlink, b->hardlink) && a->major == b->major &&
	            a->minor == b->minor && a->xattrs_count == b->xattrs_count;

	for (size_t i = 0; same && i < a->xattrs_count; i++)
		same = span_equal(a->xattrs[i].name, b->xattrs[i].name) &&
		       span_equal(a->xattrs[i].value, b->xattrs[i].value);
	return same;
}

static const struct tree_node *find(const struct copy *copy, struct span name)
{
	for (size_t i = 0; i < copy->count; i++) {
		if (span_equal(copy->nodes[i].name, name))
			return &copy->nodes[i];
	}
	return NULL;
}

static void round_trip(struct copy *copy, const struct tree_directory *directory)
{
	struct buffer first = buffer_heap(64u << 20), again = buffer_heap(64u << 20);
	struct tree_reader reader;
	struct tree_node node;
	size_t count = 0;

	REQUIRE(tree_encode(&first, directory, copy->nodes, copy->count) == 0);
	REQUIRE(tree_encode(&again, directory, copy->nodes, copy->count) == 0);
	REQUIRE(span_equal(buffer_span(&first), buffer_span(&again)));
	REQUIRE(tree_open(&reader, buffer_span(&first)));
	REQUIRE(reader.directory.mode == directory->mode && reader.directory.xattrs_count == directory->xattrs_count);
	while (tree_next(&reader, &node)) {
		const struct tree_node *original = find(copy, node.name);

		REQUIRE(original && same_node(original, &node));
		count++;
	}
	REQUIRE(!reader.failed && count == copy->count);
	tree_close(&reader);
	buffer_fini(&first);
	buffer_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct copy copy;
	struct tree_reader reader;
	struct tree_node node;

	copy.count = 0;
	copy.blocks_count = 0;
	if (tree_open(&reader, span_make(data, size))) {
		struct tree_directory directory = reader.directory;

		directory.xattrs = keep_xattrs(&copy, directory.xattrs, directory.xattrs_count);
		while (copy.count < NODES_MAX && tree_next(&reader, &node)) {
			REQUIRE(tree_name_valid(node.name));
			REQUIRE(!find(&copy, node.name));
			keep_node(&copy, &node);
		}
		if (!reader.failed)
			round_trip(&copy, &directory);
	}
	REQUIRE(!reader.failed || reader.fault);
	tree_close(&reader);
	for (size_t i = 0; i < copy.blocks_count; i++)
		free(copy.blocks[i]);
	return 0;
}
