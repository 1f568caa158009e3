/* Entries in walk order: taken one by one, told as they came, named. */
#include "gateway/edge/listing_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "gateway/base/check.h"
#include "proto/escape.h"

void listing_init(struct listing *listing, const char *directory)
{
	*listing = (struct listing){
		.entries = { .directory = directory, .memory_bytes_max = LISTING_MEMORY_BYTES },
		.texts = { .directory = directory, .memory_bytes_max = LISTING_MEMORY_BYTES }, .texts_bytes = 1,
	};
}

void listing_fini(struct listing *listing)
{
	spill_fini(&listing->entries);
	spill_fini(&listing->texts);
	free(listing->directories);
	listing->directories = NULL;
}

int listing_refuse(struct listing *listing, const char *fault)
{
	listing->fault = fault;
	return -EINVAL;
}

/* ---- texts ---- */

static int put_text(struct listing *listing, struct span text, uint64_t *place)
{
	int r;

	if (listing->texts_bytes + text.size > LISTING_TEXT_MAX)
		return listing_refuse(listing, "its names, targets and xattrs are longer than 1 GiB");
	r = spill_grow(&listing->texts, listing->texts_bytes + text.size);
	if (r < 0)
		return r;
	if (text.size)
		memcpy(listing->texts.data + listing->texts_bytes, text.data, text.size);
	*place = listing->texts_bytes;
	listing->texts_bytes += text.size;
	return 0;
}

struct xattr_head {
	uint32_t name_size, value_size;
};

static int by_name(const void *a, const void *b)
{
	return span_compare(((const struct tree_xattr *)a)->name, ((const struct tree_xattr *)b)->name);
}

static int put_xattr(struct listing *listing, const struct tree_xattr *xattr)
{
	struct xattr_head head = { (uint32_t)xattr->name.size, (uint32_t)xattr->value.size };
	uint64_t place;
	int r = put_text(listing, span_make(&head, sizeof(head)), &place);

	if (r == 0)
		r = put_text(listing, xattr->name, &place);
	return r == 0 ? put_text(listing, xattr->value, &place) : r;
}

/* In a tree only files and directories have some. */
static int add_xattrs(struct listing *listing, struct listing_entry *entry, const struct fsutil_stat *stat)
{
	struct tree_xattr xattrs[TREE_XATTRS_MAX];
	struct message_cursor cursor = { 0 };
	struct message_pair pair;
	size_t count = 0, bytes = 0;
	int r = 0;

	while (message_map_next(&stat->xattrs, &cursor, &pair)) {
		if (count == TREE_XATTRS_MAX)
			return listing_refuse(listing, "an entry has more than 64 xattrs");
		if (!tree_xattr_name_valid(pair.key) || (!S_ISREG(entry->mode) && !S_ISDIR(entry->mode)))
			return listing_refuse(listing, "an entry has an xattr that a tree does not hold");
		xattrs[count++] = (struct tree_xattr){ .name = pair.key, .value = pair.value };
		bytes += pair.key.size + pair.value.size;
	}
	if (bytes > TREE_XATTR_BYTES_MAX)
		return listing_refuse(listing, "an entry has more than 64 KiB of xattrs");
	qsort(xattrs, count, sizeof(xattrs[0]), by_name);
	for (size_t i = 1; i < count; i++)
		if (span_equal(xattrs[i - 1].name, xattrs[i].name))
			return listing_refuse(listing, "an entry has the same xattr twice");
	entry->xattrs = listing->texts_bytes;
	entry->xattrs_count = (uint16_t)count;
	for (size_t i = 0; r == 0 && i < count; i++)
		r = put_xattr(listing, &xattrs[i]);
	return r;
}

size_t listing_get_xattrs(const struct listing *listing, const struct listing_entry *entry, struct tree_xattr *xattrs)
{
	const uint8_t *at = listing->texts.data + entry->xattrs;
	struct xattr_head head;

	for (size_t i = 0; i < entry->xattrs_count; i++) {
		memcpy(&head, at, sizeof(head));
		at += sizeof(head);
		xattrs[i].name = span_make(at, head.name_size);
		xattrs[i].value = span_make(at + head.name_size, head.value_size);
		at += (size_t)head.name_size + head.value_size;
	}
	return entry->xattrs_count;
}

struct span listing_xattrs(const struct listing *listing, const struct listing_entry *entry)
{
	struct tree_xattr xattrs[TREE_XATTRS_MAX];
	const uint8_t *first = listing->texts.data + entry->xattrs;
	size_t count = listing_get_xattrs(listing, entry, xattrs);
	struct span last = count ? xattrs[count - 1].value : span_make(first, 0);

	return span_make(first, (size_t)(last.data + last.size - first));
}

/* ---- entries ---- */

/* From Go's os.FileMode. 0: no kind that a tree of a context holds. */
static uint32_t unix_mode(uint32_t mode)
{
	uint32_t bits = mode & FSUTIL_MODE_PERMISSIONS;

	bits |= mode & FSUTIL_MODE_SETUID ? S_ISUID : 0;
	bits |= mode & FSUTIL_MODE_SETGID ? S_ISGID : 0;
	bits |= mode & FSUTIL_MODE_STICKY ? S_ISVTX : 0;
	switch (mode & FSUTIL_MODE_TYPE) {
	case 0:
		return S_IFREG | bits;
	case FSUTIL_MODE_DIRECTORY:
		return S_IFDIR | bits;
	case FSUTIL_MODE_SYMLINK:
		return S_IFLNK | bits;
	case FSUTIL_MODE_FIFO:
		return S_IFIFO | bits;
	default:
		return 0;
	}
}

static void close_directory(struct listing *listing)
{
	listing_at(listing, listing->open[--listing->open_count])->end = listing->count;
}

static uint32_t parent_at(const struct listing *listing, uint32_t depth)
{
	return depth ? listing->open[depth - 1] : LISTING_NONE;
}

/* In how many of the open directories it lies, and its name in the last of them. False: it lies in one that is not open. */
static bool descend(const struct listing *listing, struct span path, uint32_t *depth, struct span *name)
{
	const uint8_t *slash;

	*depth = 0;
	while ((slash = memchr(path.data, '/', path.size))) {
		struct span part = span_make(path.data, (size_t)(slash - path.data));

		if (*depth == listing->open_count ||
		    !span_equal(listing_name(listing, listing_at(listing, listing->open[*depth])), part))
			return false;
		++*depth;
		path = span_make(slash + 1, path.size - part.size - 1);
	}
	*name = path;
	return true;
}

/* The sibling before is a directory that is still open, or the entry before, unless that is the parent. */
static bool is_behind(const struct listing *listing, uint32_t depth, struct span name)
{
	uint32_t before = depth < listing->open_count ? listing->open[depth] : listing->count - 1;

	return listing->count == 0 || before == parent_at(listing, depth) ||
	       span_compare(listing_name(listing, listing_at(listing, before)), name) < 0;
}

/* Siblings are in the order of their names, so halves will do: a directory may have as many links as there are entries. */
static uint32_t find_child(const struct listing *listing, uint32_t directory, struct span name)
{
	uint32_t low = directory == LISTING_NONE ? 0 : directory + 1;
	uint32_t high = directory == LISTING_NONE ? listing->count : listing_at(listing, directory)->end;

	while (low < high) {
		uint32_t child = low + (high - low) / 2;
		int order;

		while (listing_at(listing, child)->parent != directory)
			child = listing_at(listing, child)->parent;
		order = span_compare(listing_name(listing, listing_at(listing, child)), name);
		if (order == 0)
			return child;
		if (order < 0)
			low = listing_at(listing, child)->end;
		else
			high = child;
	}
	return LISTING_NONE;
}

/* Open directories have no end yet: they end with all that there is. */
static uint32_t find_path(struct listing *listing, struct span path)
{
	uint32_t found = LISTING_NONE;

	for (uint32_t i = 0; i < listing->open_count; i++)
		listing_at(listing, listing->open[i])->end = listing->count;
	while (path.size) {
		const uint8_t *slash = memchr(path.data, '/', path.size);
		size_t size = slash ? (size_t)(slash - path.data) : path.size;

		found = find_child(listing, found, span_make(path.data, size));
		if (found == LISTING_NONE || !slash)
			return found;
		path = span_make(slash + 1, path.size - size - 1);
	}
	return LISTING_NONE;
}

static int add_link(struct listing *listing, struct listing_entry *entry, struct span path)
{
	uint32_t first = find_path(listing, path);

	if (first == LISTING_NONE || !(listing_at(listing, first)->flags & LISTING_DATA))
		return listing_refuse(listing, "a hard link leads to no file before it");
	entry->hardlink = first;
	entry->flags |= LISTING_NAMED;
	return 0;
}

static int add_kind(struct listing *listing, struct listing_entry *entry, const struct fsutil_stat *stat)
{
	int r = 0;

	switch (entry->mode & S_IFMT) {
	case S_IFREG:
		if (stat->linkname.size)
			return add_link(listing, entry, stat->linkname);
		if (stat->size < 0)
			return listing_refuse(listing, "a file has a negative size");
		entry->size = (uint64_t)stat->size;
		entry->flags |= LISTING_DATA;
		return 0;
	case S_IFLNK:
		if (!tree_target_valid(stat->linkname))
			return listing_refuse(listing, "a symlink has no target that a tree can hold");
		entry->target_size = (uint16_t)stat->linkname.size;
		r = put_text(listing, stat->linkname, &entry->target);
		break;
	}
	entry->flags |= LISTING_NAMED;
	return r;
}

/* What makes a tree another thing than what the sender has. */
static const char *unfit(const struct fsutil_stat *stat)
{
	if (!fsutil_path_is_clean(stat->path) || stat->path.size > TREE_PATH_MAX)
		return "an entry has no path that a tree can hold";
	if (stat->uid || stat->gid)
		return "an entry has an owner other than root";
	return unix_mode(stat->mode) ? NULL : "an entry is a device or a socket";
}

static void settle(struct listing *listing, uint32_t number)
{
	const struct listing_entry *entry = listing_at(listing, number);

	while (listing->open_count > entry->depth)
		close_directory(listing);
	if (entry->flags & LISTING_DATA) {
		listing->files++;
		listing->unnamed++;
	}
	if (S_ISDIR(entry->mode))
		listing->open[listing->open_count++] = number;
}

/*
 * What an entry takes of its directory's message is not known before its content is: this is more. 144: a digest in hex, mode and
 * recipe as properties, and what is around them (docs/tree.md).
 */
static void count_bytes(struct listing *listing, const struct listing_entry *entry, const struct fsutil_stat *stat)
{
	uint64_t most = 144 + (utf8_valid(stat->path) ? 1 : 6) * (uint64_t)entry->name_size + 2 * stat->linkname.size +
	                2 * listing_xattrs(listing, entry).size + 40ull * entry->xattrs_count;
	uint32_t *within = &listing->within[entry->depth];

	*within = most < TREE_DIRECTORY_BYTES_MAX - *within ? *within + (uint32_t)most : TREE_DIRECTORY_BYTES_MAX;
	listing->broad |= *within == TREE_DIRECTORY_BYTES_MAX;
	if (S_ISDIR(entry->mode))
		listing->within[entry->depth + 1] = 0;
}

int listing_add(struct listing *listing, const struct fsutil_stat *stat)
{
	struct listing_entry entry = { .hardlink = LISTING_NONE, .next = LISTING_NONE, .mtime_ns = stat->mod_time_ns };
	const char *fault = unfit(stat);
	struct span name;
	uint32_t depth;
	int r;

	CHECK(!listing->ended);
	if (fault)
		return listing_refuse(listing, fault);
	if (listing->count == LISTING_ENTRIES_MAX)
		return listing_refuse(listing, "there are more than 4194304 entries");
	if (!descend(listing, stat->path, &depth, &name) || !is_behind(listing, depth, name))
		return listing_refuse(listing, "the entries are not in order");
	if (!tree_name_valid(name) || depth == TREE_DEPTH_MAX - 1)
		return listing_refuse(listing, "a name is too long for a tree, or it is too deep");
	entry.mode = unix_mode(stat->mode);
	entry.parent = parent_at(listing, depth);
	entry.depth = depth;
	entry.end = listing->count + 1;
	entry.name_size = (uint16_t)name.size;
	r = put_text(listing, name, &entry.name);
	if (r == 0)
		r = add_kind(listing, &entry, stat);
	if (r == 0)
		r = add_xattrs(listing, &entry, stat);
	if (r == 0)
		r = spill_grow(&listing->entries, ((size_t)listing->count + 1) * sizeof(entry));
	if (r < 0)
		return r;
	*listing_at(listing, listing->count) = entry;
	count_bytes(listing, &entry, stat);
	settle(listing, listing->count);
	listing->count++;
	return 0;
}

void listing_end(struct listing *listing)
{
	while (listing->open_count)
		close_directory(listing);
	listing->ended = true;
}

void listing_path(const struct listing *listing, uint32_t number, struct buffer *out)
{
	uint32_t chain[TREE_DEPTH_MAX], count = 0;

	for (; number != LISTING_NONE; number = listing_at(listing, number)->parent)
		chain[count++] = number;
	while (count) {
		struct span name = listing_name(listing, listing_at(listing, chain[--count]));

		buffer_put(out, name.data, name.size);
		if (count)
			buffer_put(out, "/", 1);
	}
}

static uint32_t go_mode(uint32_t mode)
{
	uint32_t bits = mode & FSUTIL_MODE_PERMISSIONS;

	bits |= mode & S_ISUID ? FSUTIL_MODE_SETUID : 0;
	bits |= mode & S_ISGID ? FSUTIL_MODE_SETGID : 0;
	bits |= mode & S_ISVTX ? FSUTIL_MODE_STICKY : 0;
	bits |= S_ISDIR(mode) ? FSUTIL_MODE_DIRECTORY : S_ISLNK(mode) ? FSUTIL_MODE_SYMLINK : S_ISFIFO(mode) ? FSUTIL_MODE_FIFO : 0;
	return bits;
}

/* As lstat() says it, which is what an executor compares with what it has. */
static int64_t stat_size(const struct listing *listing, const struct listing_entry *entry)
{
	if (S_ISLNK(entry->mode))
		return entry->target_size;
	if (entry->hardlink != LISTING_NONE)
		entry = listing_at(listing, entry->hardlink);
	return entry->flags & LISTING_DATA ? (int64_t)entry->size : 0;
}

void listing_stat(const struct listing *listing, uint32_t number, struct buffer *out)
{
	const struct listing_entry *entry = listing_at(listing, number);
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1), target = buffer_heap(TREE_PATH_MAX + 1);
	struct buffer pairs = buffer_heap(2 * TREE_XATTR_BYTES_MAX);
	struct tree_xattr xattrs[TREE_XATTRS_MAX];
	size_t count = listing_get_xattrs(listing, entry, xattrs);
	struct fsutil_stat stat = { .mode = go_mode(entry->mode), .mod_time_ns = entry->mtime_ns };

	listing_path(listing, number, &path);
	if (entry->hardlink != LISTING_NONE)
		listing_path(listing, entry->hardlink, &target);
	else if (entry->target_size)
		buffer_put(&target, listing->texts.data + entry->target, entry->target_size);
	for (size_t i = 0; i < count; i++)
		message_put_pair(&pairs, FSUTIL_STAT_FIELD_XATTRS,
		                 &(struct message_pair){ .key = xattrs[i].name, .value = xattrs[i].value });
	stat.path = buffer_span(&path);
	stat.linkname = buffer_span(&target);
	stat.size = stat_size(listing, entry);
	stat.xattrs = (struct message_list){ .message = buffer_span(&pairs), .number = FSUTIL_STAT_FIELD_XATTRS,
		                             .count = (uint32_t)count };
	fsutil_stat_put(out, &stat);
	out->failed |= path.failed || target.failed || pairs.failed;
	buffer_fini(&path);
	buffer_fini(&target);
	buffer_fini(&pairs);
}

/* ---- contents ---- */

void listing_set_content(struct listing *listing, uint32_t number, const struct content_name *name)
{
	struct listing_entry *entry = listing_at(listing, number);

	CHECK(entry->flags & LISTING_DATA);
	if (!(entry->flags & LISTING_NAMED))
		listing->unnamed--;
	memcpy(entry->hash, name->digest.hash, sizeof(entry->hash));
	entry->digest_size = name->digest.size;
	entry->size = name->size;
	entry->flags = (uint16_t)((entry->flags & ~LISTING_RECIPE) | LISTING_NAMED | (name->recipe ? LISTING_RECIPE : 0));
}

struct digest listing_digest(const struct listing_entry *entry)
{
	struct digest digest = { .size = entry->digest_size };

	memcpy(digest.hash, entry->hash, sizeof(digest.hash));
	return digest;
}

struct content_name listing_content(const struct listing_entry *entry)
{
	return (struct content_name){ .digest = listing_digest(entry), .size = entry->size,
		                      .recipe = entry->flags & LISTING_RECIPE };
}
