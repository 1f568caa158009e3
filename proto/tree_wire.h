/* tree_wire: field numbers and property names of Directory messages, shared by the writer and the reader. */
#pragma once

#include "proto/tree.h"

#define TREE_MODE_MAX        07777u
#define TREE_MODE_EXECUTABLE 00100u
#define TREE_MODE_FILE       00644u
#define TREE_MODE_DIRECTORY  00755u      /* also of an executable file */
#define TREE_WIRE_NAME_MAX   (3 * TREE_NAME_MAX)

#define TREE_PROPERTY_PREFIX   "sluice."
#define TREE_PROPERTY_HARDLINK "sluice.hardlink"
#define TREE_PROPERTY_NAME     "sluice.name"
#define TREE_PROPERTY_NAMES    "sluice.names"
#define TREE_PROPERTY_RECIPE   "sluice.recipe"
#define TREE_PROPERTY_TARGET   "sluice.target"
#define TREE_PROPERTY_TYPE     "sluice.type"
#define TREE_PROPERTY_XATTR    "sluice.xattr."
#define TREE_NAMES_ESCAPED     "escaped"

/* build.bazel.remote.execution.v2 */
enum {
	DIRECTORY_FILES = 1,
	DIRECTORY_DIRECTORIES = 2,
	DIRECTORY_SYMLINKS = 3,
	DIRECTORY_PROPERTIES = 5,

	FILE_NAME = 1,
	FILE_DIGEST = 2,
	FILE_EXECUTABLE = 4,
	FILE_PROPERTIES = 6,

	DIRECTORY_NODE_NAME = 1,
	DIRECTORY_NODE_DIGEST = 2,

	SYMLINK_NAME = 1,
	SYMLINK_TARGET = 2,
	SYMLINK_PROPERTIES = 4,

	PROPERTIES_PROPERTY = 1,
	PROPERTIES_MTIME = 2,
	PROPERTIES_UNIX_MODE = 3,
	PROPERTY_NAME = 1,
	PROPERTY_VALUE = 2,
	UINT32_VALUE = 1,

	DIGEST_HASH = 1,
	DIGEST_SIZE_BYTES = 2,
};

/* The list of a Directory that holds nodes of this kind. */
static inline uint32_t tree_list_of(enum tree_kind kind)
{
	if (kind == TREE_DIRECTORY)
		return DIRECTORY_DIRECTORIES;
	return kind == TREE_SYMLINK ? DIRECTORY_SYMLINKS : DIRECTORY_FILES;
}

/* Takes the first name off a path; an empty name when there is an empty component. */
struct span tree_path_component(struct span *path);
