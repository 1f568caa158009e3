/* The walk. */
#include "gateway/context/scan.h"

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/context/finder.h"
#include "gateway/context/inodes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LISTING_BYTES    (256u << 10)
#define SECOND_NS        INT64_C(1000000000)

/* getdents64(2) */
struct listed {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* A directory on the way from the root to where the walk is. */
struct frame {
	int fd;
	uint32_t directory;
	uint32_t next;                           /* row whose turn it is to be walked into */
	uint32_t path_size;                      /* of the scan's path, when this directory is the last on it */
	bool judged;                             /* its ignore state is known */
};

struct scan {
	struct scan_options options;
	struct scan_totals totals;
	struct table *table;
	struct digester *digester;
	int64_t fresh_after_ns;
	struct buffer path;                      /* root-relative, of the innermost frame */
	uint8_t *listing;
	struct frame *frames;                    /* TREE_DEPTH_MAX of them */
	uint32_t depth;                          /* frames in use */
	uint8_t *states;                         /* ignore states, one a frame and one to spare */
	struct finder finder;
	struct inodes inodes;
	uint64_t progress_entries, progress_bytes;
};

/* "path/name: text" */
__attribute__((format(printf, 4, 5))) static int refuse(struct scan *scan, struct span name, int r, const char *format,
							...)
{
	struct buffer path = buffer_heap(2 * TABLE_PATH_BYTES_MAX);
	char text[160];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	buffer_put(&path, scan->path.data, scan->path.size);
	if (path.size && name.size)
		buffer_put(&path, "/", 1);
	buffer_put(&path, name.data, name.size);
	buffer_put(&path, "", 1);
	why_write(scan->options.why, path.failed ? "" : (const char *)path.data, "%s", text);
	buffer_fini(&path);
	return ERR_RAISE(r);
}

static void report(struct scan *scan, bool always)
{
	const struct digester_totals *reads = digester_totals(scan->digester);

	if (!scan->options.progress)
		return;
	if (!always && scan->totals.entries < scan->progress_entries && reads->bytes < scan->progress_bytes)
		return;
	scan->progress_entries = scan->totals.entries + SCAN_PROGRESS_ENTRIES;
	scan->progress_bytes = reads->bytes + SCAN_PROGRESS_BYTES;
	scan->options.progress(scan->options.context, scan->totals.entries, reads->files, reads->bytes);
}

static void on_window(void *context)
{
	report(context, false);
}

static struct frame *top(struct scan *scan)
{
	CHECK(scan->depth > 0);
	return &scan->frames[scan->depth - 1];
}

/* The entry `name` of the innermost directory as a path, until path_leave(). */
static bool path_enter(struct scan *scan, struct span name)
{
	if (scan->path.size)
		buffer_put(&scan->path, "/", 1);
	buffer_put(&scan->path, name.data, name.size);
	return !scan->path.failed;
}

static void path_leave(struct scan *scan)
{
	scan->path.size = top(scan)->path_size;
	scan->path.failed = false;
}

static uint8_t *state_of(struct scan *scan, uint32_t depth)
{
	return scan->states + (size_t)depth * ignore_state_bytes(scan->options.ignore);
}

/*
 * States are found out only where a name is judged: along an unchanged tree none is. In the root nothing has matched
 * yet: NULL.
 */
static const uint8_t *state_needed(struct scan *scan)
{
	uint32_t innermost = scan->depth - 1, known = innermost;

	while (known > 0 && !scan->frames[known].judged)
		known--;
	for (uint32_t i = known + 1; i <= innermost; i++) {
		ignore_judge(scan->options.ignore, span_make(scan->path.data, scan->frames[i].path_size),
		             i > 1 ? state_of(scan, i - 1) : NULL, state_of(scan, i));
		scan->frames[i].judged = true;
	}
	return innermost ? state_of(scan, innermost) : NULL;
}

/* The flags that the ignore rules give to an entry. What the former scan found holds for as long as the rules do. */
static int judge(struct scan *scan, struct span name, const struct table_row *former, uint8_t *flags)
{
	enum ignore_verdict verdict;

	*flags = 0;
	if (!scan->options.ignore)
		return 0;
	if (former && !scan->options.rules_changed) {
		*flags = former->flags & (TABLE_ROW_IGNORED | TABLE_ROW_EXCLUDED);
		return 0;
	}
	if (!path_enter(scan, name))
		return ERR_RAISE(-ENOMEM);
	verdict = ignore_judge(scan->options.ignore, buffer_span(&scan->path), state_needed(scan), NULL);
	path_leave(scan);
	*flags = verdict == IGNORE_PRUNED ? TABLE_ROW_IGNORED : verdict == IGNORE_EXCLUDED ? TABLE_ROW_EXCLUDED : 0;
	return 0;
}

static void mark_changed(struct scan *scan)
{
	scan->table->directories[top(scan)->directory].flags |= TABLE_DIRECTORY_DIRTY;
	scan->totals.changed++;
}

/* Takes over all that the former row knows beyond its stat. */
static int take_over(struct scan *scan, const struct table_row *former, uint32_t number)
{
	struct table *table = scan->table;
	const struct table *from = scan->options.former;
	struct tree_xattr xattrs[TREE_XATTRS_MAX];
	struct table_row *row = &table->rows[number];
	int r = 0;

	if (former->flags & TABLE_ROW_RECIPE) {
		struct table_recipe recipe = from->recipes[former->link];

		recipe.borrowed = 1;
		r = table_add_recipe(table, &recipe, &row->link);
		row->flags |= TABLE_ROW_RECIPE;
	} else if (former->target_size) {
		r = table_add_bytes(table, table_target(from, former), &row->link);
		row->target_size = former->target_size;
	}
	memcpy(row->hash, former->hash, sizeof(row->hash));
	if (!r && former->xattrs)
		r = table_add_xattrs(table, xattrs, table_xattrs(from, former, xattrs), &row->xattrs);
	if (!r && former->hardlink)
		r = table_set_hardlink(table, number, table_hardlink(from, former));
	return r;
}

static int read_target(struct scan *scan, int dir_fd, const char *name, uint32_t number)
{
	char target[TREE_TARGET_MAX + 1];
	ssize_t size = readlinkat(dir_fd, name, target, sizeof(target));
	struct table_row *row = &scan->table->rows[number];

	if (size < 0)
		return errno == ENOENT || errno == EINVAL ? DIGESTER_GONE : -errno;
	if (size == 0 || size > TREE_TARGET_MAX)
		return refuse(scan, span_text(name), -ENAMETOOLONG, "is a symlink whose target is too long");
	row->target_size = (uint16_t)size;
	return table_add_bytes(scan->table, span_make(target, (size_t)size), &row->link);
}

static int read_file(struct scan *scan, int dir_fd, const char *name, uint32_t number)
{
	bool linked = scan->table->rows[number].flags & TABLE_ROW_LINKED;
	uint32_t other = linked ? inodes_find(&scan->inodes, &scan->table->rows[number]) : TABLE_NONE;
	int r;

	if (other != TABLE_NONE)
		return inodes_copy_later(&scan->inodes, number, other);
	r = digester_add(scan->digester, dir_fd, name, number);
	report(scan, false);
	return linked && !r ? inodes_add(&scan->inodes, number) : r;
}

/* What a changed entry holds. DIGESTER_GONE: it vanished. */
static int read_content(struct scan *scan, int dir_fd, const char *name, uint32_t number)
{
	struct table_row *row = &scan->table->rows[number];

	if (S_ISLNK(row->mode) && !(row->flags & TABLE_ROW_EXCLUDED))
		return read_target(scan, dir_fd, name, number);
	if (S_ISREG(row->mode) && !(row->flags & TABLE_ROW_EXCLUDED))
		return read_file(scan, dir_fd, name, number);
	return 0;
}

/* 1: not recorded; 0; -errno. */
static int check_kind(struct scan *scan, struct span name, const struct stat *st, uint8_t flags)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
		return 0;
	case S_IFSOCK:
		return 1;
	case S_IFCHR:
	case S_IFBLK:
		if (flags & TABLE_ROW_EXCLUDED)
			return 1;
		return refuse(scan, name, -EPERM, "is a device node, which is refused");
	}
	return refuse(scan, name, -EPERM, "is of a kind that cannot be pushed");
}

static bool is_trusted(const struct table_row *former, const struct stat *st, uint8_t flags)
{
	return former && !(former->flags & (TABLE_ROW_FRESH | TABLE_ROW_IGNORED)) && digester_same(former, st) &&
	       (former->flags & TABLE_ROW_EXCLUDED) == (flags & TABLE_ROW_EXCLUDED);
}

static int add_row(struct scan *scan, int dir_fd, const char *name, uint32_t found, const struct stat *st,
		   uint8_t flags)
{
	const struct table_row *former = found == TABLE_NONE ? NULL : &scan->options.former->rows[found];
	struct table *table = scan->table;
	struct table_row *row;
	uint32_t number;
	int r = table_add_row(table, span_text(name), &number);

	if (r)
		return ERR_RAISE(r);
	row = &table->rows[number];
	row->former = found + 1;                 /* TABLE_NONE + 1 is 0 */
	row->flags = flags;
	digester_stat(row, st, scan->fresh_after_ns);
	if (is_trusted(former, st, flags))
		return take_over(scan, former, number);
	row->flags |= TABLE_ROW_CHANGED;
	mark_changed(scan);
	r = read_content(scan, dir_fd, name, number);
	if (r == DIGESTER_GONE) {
		table_drop_row(table);
		r = 0;
	}
	return r;
}

static int add_ignored(struct scan *scan, const char *name, const struct table_row *former)
{
	uint32_t number;
	int r = table_add_row(scan->table, span_text(name), &number);

	if (r)
		return ERR_RAISE(r);
	scan->table->rows[number].flags = TABLE_ROW_IGNORED;
	if (!former || !(former->flags & TABLE_ROW_IGNORED))
		mark_changed(scan);
	return 0;
}

static int add_entry(struct scan *scan, int dir_fd, const char *name)
{
	const struct table_row *former = NULL;
	uint32_t found = TABLE_NONE;
	struct stat st;
	uint8_t flags;
	int r = 0;

	if (scan->finder.count)
		r = finder_find(&scan->finder, scan->options.former, span_text(name), &found);
	if (r)
		return ERR_RAISE(r);
	if (found != TABLE_NONE)
		former = &scan->options.former->rows[found];
	r = judge(scan, span_text(name), former, &flags);
	if (r)
		return r;
	if (flags & TABLE_ROW_IGNORED)
		return add_ignored(scan, name, former);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : refuse(scan, span_text(name), -errno, "%s", err_text(errno));
	r = check_kind(scan, span_text(name), &st, flags);
	if (r)
		return r < 0 ? r : 0;
	scan->totals.entries++;
	report(scan, false);
	return add_row(scan, dir_fd, name, found, &st, flags);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/* One call's worth of entries. 1: there may be more; 0: that was all; -errno. */
static int list_some(struct scan *scan, int dir_fd)
{
	long size = syscall(SYS_getdents64, dir_fd, scan->listing, LISTING_BYTES);

	if (size < 0)
		return refuse(scan, (struct span){ 0 }, -errno, "cannot be listed: %s", err_text(errno));
	for (long at = 0; at < size;) {
		const struct listed *listed = (const struct listed *)(scan->listing + at);
		size_t name_size = strlen(listed->name);
		int r;

		at += listed->size;
		if (is_dots(listed->name))
			continue;
		if (name_size > TREE_NAME_MAX)
			return refuse(scan, span_text(listed->name), -ENAMETOOLONG, "has a name that is too long");
		r = add_entry(scan, dir_fd, listed->name);
		if (r)
			return r;
	}
	return size > 0;
}

/* Lists the innermost directory into the table. */
static int list_directory(struct scan *scan, uint32_t former)
{
	struct frame *frame = top(scan);
	uint32_t first = scan->table->rows_count;
	int r;

	finder_begin(&scan->finder, scan->options.former, former);
	do {
		r = list_some(scan, frame->fd);
	} while (r > 0);
	if (r)
		return r;
	/*
	 * What is new was noticed when it was added; what is gone leaves the directory shorter, or has something new
	 * beside it.
	 */
	if (former == TABLE_NONE || scan->options.rules_changed ||
	    scan->table->rows_count - first != scan->finder.count)
		mark_changed(scan);
	frame->next = first;
	return 0;
}

/* The former scan's directory in the place of a row, or TABLE_NONE. */
static uint32_t former_directory(const struct scan *scan, const struct table_row *row)
{
	const struct table_row *former;

	if (row->former == 0)
		return TABLE_NONE;
	former = &scan->options.former->rows[row->former - 1];
	return former->flags & TABLE_ROW_IGNORED || !S_ISDIR(former->mode) ? TABLE_NONE : former->link;
}

/* A new directory of the table, with the digest that it had. */
static int add_directory(struct scan *scan, uint32_t parent, uint32_t row, uint32_t former, uint32_t *number)
{
	struct table_directory *directory;
	int r = table_add_directory(scan->table, parent, row, number);

	if (r)
		return ERR_RAISE(r);
	directory = &scan->table->directories[*number];
	if (former != TABLE_NONE) {
		const struct table_directory *known = &scan->options.former->directories[former];

		memcpy(directory->hash, known->hash, sizeof(directory->hash));
		directory->size = known->size;
		directory->flags = known->flags & TABLE_DIRECTORY_OMITTED;
	}
	return 0;
}

/* Steps into the directory of `row`, open as `fd` (consumed), whose path is the scan's; lists it as the innermost. */
static int enter(struct scan *scan, int fd, uint32_t row)
{
	uint32_t parent = scan->depth ? top(scan)->directory : 0;
	uint32_t former = former_directory(scan, &scan->table->rows[row]);
	int r;

	CHECK(scan->depth < TREE_DEPTH_MAX);
	scan->frames[scan->depth++] = (struct frame){ .fd = fd, .path_size = (uint32_t)scan->path.size };
	r = add_directory(scan, parent, row, former, &top(scan)->directory);
	if (r)
		return r;
	scan->table->rows[row].former = 0;
	if (scan->table->rows[row].flags & TABLE_ROW_CHANGED) {
		mark_changed(scan);
		r = digester_xattrs(scan->digester, fd, row);
		if (r)
			return r;
	}
	return list_directory(scan, former);
}

static void leave(struct scan *scan)
{
	close(top(scan)->fd);
	scan->depth--;
	if (scan->depth)
		path_leave(scan);
}

/* A directory that has vanished stays a row without a number: such rows are in no tree. */
static int open_and_enter(struct scan *scan, uint32_t row)
{
	char name[TREE_NAME_MAX + 1];
	struct span of = table_name(scan->table, &scan->table->rows[row]);
	int fd;

	memcpy(name, of.data, of.size);
	name[of.size] = 0;
	of.data = (const uint8_t *)name;
	if (scan->depth == TREE_DEPTH_MAX)
		return refuse(scan, of, -ENAMETOOLONG, "lies deeper than %d directories", TREE_DEPTH_MAX);
	fd = openat(top(scan)->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
		scan->table->rows[row].former = 0;
		mark_changed(scan);
		return 0;
	}
	if (fd < 0)
		return refuse(scan, of, -errno, "cannot be opened: %s", err_text(errno));
	if (!path_enter(scan, of)) {
		close(fd);
		return ERR_RAISE(-ENOMEM);
	}
	return enter(scan, fd, row);
}

static int walk(struct scan *scan)
{
	while (scan->depth) {
		struct frame *frame = top(scan);
		const struct table_directory *directory = &scan->table->directories[frame->directory];
		uint32_t end = directory->first + directory->count;
		int r = 0;

		while (frame->next < end && !S_ISDIR(scan->table->rows[frame->next].mode))
			scan->table->rows[frame->next++].former = 0;
		if (frame->next == end)
			leave(scan);
		else
			r = open_and_enter(scan, frame->next++);
		if (r)
			return r;
	}
	return 0;
}

static int begin(struct scan *scan)
{
	const struct table_row *former = scan->options.former ? &scan->options.former->rows[0] : NULL;
	struct table_row *root;
	struct stat st;
	uint32_t row;
	int fd, r;

	if (fstat(scan->options.dir_fd, &st) < 0)
		return ERR_RAISE(-errno);
	r = table_add_row(scan->table, (struct span){ 0 }, &row);
	if (r)
		return ERR_RAISE(r);
	root = &scan->table->rows[row];
	digester_stat(root, &st, scan->fresh_after_ns);
	root->former = former ? 1 : 0;
	if (is_trusted(former, &st, 0))
		r = take_over(scan, former, row);
	else
		root->flags |= TABLE_ROW_CHANGED;
	if (r)
		return ERR_RAISE(r);
	fd = fcntl(scan->options.dir_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return ERR_RAISE(-errno);
	if (lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return ERR_RAISE(-errno);
	}
	return enter(scan, fd, row);
}

static int64_t fresh_after(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec - SCAN_FRESH_TICKS * (SECOND_NS / sysconf(_SC_CLK_TCK));
}

static int prepare(struct scan *scan)
{
	scan->digester = digester_create(&(struct digester_options){
		.table = scan->table,
		.hasher = scan->options.hasher,
		.why = scan->options.why,
		.fresh_after_ns = scan->fresh_after_ns,
		.progress = on_window,
		.context = scan,
		.after_read = scan->options.after_read,
		.after_read_context = scan->options.context,
	});
	scan->path = buffer_heap(TABLE_PATH_BYTES_MAX);
	scan->listing = malloc(LISTING_BYTES);
	scan->frames = calloc(TREE_DEPTH_MAX, sizeof(scan->frames[0]));
	if (!scan->digester || !scan->listing || !scan->frames)
		return -ENOMEM;
	if (scan->options.ignore) {
		scan->states = calloc(TREE_DEPTH_MAX, ignore_state_bytes(scan->options.ignore));
		if (!scan->states)
			return -ENOMEM;
	}
	return 0;
}

static void release(struct scan *scan)
{
	while (scan->depth)
		leave(scan);
	digester_destroy(scan->digester);
	buffer_fini(&scan->path);
	free(scan->listing);
	free(scan->frames);
	free(scan->states);
	finder_fini(&scan->finder);
	inodes_fini(&scan->inodes);
}

int scan_run(struct table *table, const struct scan_options *options, struct scan_totals *totals)
{
	struct scan scan = {
		.options = *options,
		.table = table,
		.inodes = { .table = table },
		.fresh_after_ns = fresh_after(),
	};
	int r;

	CHECK(table->rows_count == 0 && table->former == options->former);
	r = prepare(&scan);
	if (r)
		r = ERR_RAISE(r);
	if (!r)
		r = begin(&scan);
	if (!r)
		r = walk(&scan);
	if (!r) {
		digester_flush(scan.digester);
		inodes_settle(&scan.inodes);
		report(&scan, true);
		scan.totals.reads = *digester_totals(scan.digester);
		*totals = scan.totals;
	}
	release(&scan);
	return r;
}
