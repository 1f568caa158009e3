/*
 * tree_properties: the NodeProperties of a node or of a Directory, as far as they are ours. Private to the tree's
 * reader.
 */
#pragma once

#include "proto/pb.h"
#include "proto/tree.h"

/* What the properties of one node, or of the directory, say; spans are borrowed from the blob, still in wire form. */
struct tree_properties {
	struct span hardlink, name, names, recipe, target, type;
	bool has_mode;
	uint32_t mode;
	struct tree_xattr *xattrs;
	size_t xattrs_count, xattrs_bytes;
	struct span last;
};

/*
 * Reads `message` into `properties`, which is zero but for `xattrs`; xattr values are decoded into `scratch`, which has
 * room for all of them. False: the reader has failed.
 */
bool tree_properties_read(struct tree_reader *reader, struct tree_properties *properties, struct buffer *scratch,
                          struct pb_reader message);

/* Notes the fault; returns false. */
static inline bool tree_fail(struct tree_reader *reader, const char *fault)
{
	reader->failed = true;
	reader->fault = fault;
	return false;
}

static inline bool tree_has_prefix(struct span text, const char *prefix)
{
	size_t size = strlen(prefix);

	return text.size >= size && memcmp(text.data, prefix, size) == 0;
}

/* Appends the bytes behind a base64 text to `scratch`, and lends them. */
bool tree_decode_base64(struct buffer *scratch, struct span text, struct span *bytes);
