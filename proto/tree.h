/*
 * tree: REAPI Directory messages in sluice's canonical form: the same content gives the same bytes, on every machine.
 * docs/tree.md fixes the encoding, with vectors. No mtimes, no owners.
 *
 * What REAPI has no field for travels in node properties: `sluice.recipe` ("<version>:<file size>": digest is the
 * recipe's), `sluice.hardlink` (root-relative path of the group's first name), `sluice.type` ("fifo",
 * "char:MAJOR:MINOR", "block:MAJOR:MINOR"; sockets are never recorded), `sluice.name` (base64 of the name; `name` is
 * then an escaped form, see escape.h), `sluice.target` (likewise of a symlink's target), `sluice.xattr.NAME` (base64 of
 * a user.* value). A DirectoryNode has no properties: its name shows from its escaped form; the Directory around it
 * says `sluice.names` = "escaped" when it holds any escaped name. Unix mode: NodeProperties.unix_mode, the low 12 bits,
 * left out when it is the default (0644; 0755 with is_executable; directories 0755: there on the Directory itself).
 */
#pragma once

#include "proto/buffer.h"
#include "proto/digest.h"

#define TREE_NAME_MAX        255
#define TREE_TARGET_MAX      4095
#define TREE_PATH_MAX        4095
#define TREE_DEPTH_MAX       256
#define TREE_XATTRS_MAX      64          /* of one node */
#define TREE_XATTR_BYTES_MAX 65536
#define TREE_DIRECTORY_BYTES_MAX (4u << 20)

enum tree_kind {
	TREE_FILE,
	TREE_DIRECTORY,
	TREE_SYMLINK,
	TREE_FIFO,
	TREE_CHAR_DEVICE,
	TREE_BLOCK_DEVICE,
};

struct tree_xattr {
	struct span name;                /* "user.x" */
	struct span value;
};

struct tree_node {
	enum tree_kind kind;
	struct span name;                /* the real bytes */
	uint32_t mode; /* low 12 bits; files, fifos and devices. A directory's is in its own message */
	struct digest digest;            /* file: content or recipe; directory: its message */
	bool recipe;                     /* digest names a recipe */
	uint64_t file_size;              /* file: bytes of content */
	struct span target;              /* symlink */
	struct span hardlink;            /* second and later names of a file: path of the first, from the root */
	uint32_t major, minor;           /* devices */
	const struct tree_xattr *xattrs; /* sorted by name */
	size_t xattrs_count;
};

struct tree_directory {                  /* what a directory says of itself */
	uint32_t mode;
	const struct tree_xattr *xattrs;
	size_t xattrs_count;
};

/*
 * Appends one directory to `out`. `nodes` may be in any order (they are sorted in place), names must be unique. 0;
 * -EEXIST twice the same name; -EINVAL a bad name, mode, target or xattr, or xattrs that are not sorted by name; -EFBIG
 * longer than TREE_DIRECTORY_BYTES_MAX, or than `out` may be; -ENOMEM. After a failure `out` holds what it held before.
 */
int tree_encode(struct buffer *out, const struct tree_directory *directory, struct tree_node *nodes, size_t count);

/*
 * The same for readers who know nothing of sluice.*: names and targets as they are, nothing in properties but modes. -EILSEQ: one
 * of them is not UTF-8; -EINVAL also: a node that REAPI has no field for.
 */
int tree_encode_plain(struct buffer *out, uint32_t mode, struct tree_node *nodes, size_t count);

/*
 * Reads one directory, in canonical order (files and specials, directories, symlinks; each sorted by wire name).
 * Decoded names, targets and xattr values are borrowed from the blob, or from the reader's own scratch until the next
 * call.
 */
struct tree_reader {
	struct span blob, rest;
	struct tree_directory directory;
	struct buffer scratch, head_scratch;
	struct tree_xattr xattrs[TREE_XATTRS_MAX], head_xattrs[TREE_XATTRS_MAX];
	bool escaped;                    /* sluice.names: names that look escaped are */
	bool failed;
	const char *fault;               /* static text when failed: "names not sorted", … */
};

/*
 * tree_open reads what the directory says of itself, and that names are sorted and unique across the three lists.
 * tree_next reads the nodes. Malformed or unsorted input, duplicate names, "", ".", "..", names with '/' or NUL,
 * over-long names, `trusted.*` xattrs and the like: false and `failed`, with `fault` saying what. Accepts directories
 * of other REAPI clients too (unknown fields, other properties and mtimes are ignored). Nothing of a directory should
 * be acted on before tree_next has come to its end without failing. tree_close may follow in any state.
 */
bool tree_open(struct tree_reader *reader, struct span blob);
bool tree_next(struct tree_reader *reader, struct tree_node *node);
void tree_close(struct tree_reader *reader);

/* What a name in a directory must be: 1..TREE_NAME_MAX bytes, no '/', no NUL, not "." or "..". */
bool tree_name_valid(struct span name);
/* What the target of a symlink must be: 1..TREE_TARGET_MAX bytes, no NUL. */
bool tree_target_valid(struct span target);
/* An xattr that a tree may hold: "user." and more, UTF-8, at most 255 bytes, not "user.overlay.". */
bool tree_xattr_name_valid(struct span name);
/* A root-relative path: names with '/' between, TREE_PATH_MAX bytes at most. */
bool tree_path_valid(struct span path);
