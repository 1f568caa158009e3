/* One directory: what is in it, and what of that has changed. */
#include "gateway/context/scan_walk_private.h"

#include "gateway/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* getdents64(2) */
struct listed {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static uint8_t *state_of(struct scan_walk *walk, uint32_t depth)
{
	return walk->states + (size_t)depth * ignore_state_bytes(walk->scan->ignore);
}

/*
 * States are found out only where a name is judged: along an unchanged tree none is. In the root nothing has matched
 * yet: NULL.
 */
static const uint8_t *state_needed(struct scan_walk *walk)
{
	uint32_t innermost = walk->depth - 1, known = innermost;

	while (known > 0 && !walk->frames[known].judged)
		known--;
	for (uint32_t i = known + 1; i <= innermost; i++) {
		ignore_judge(walk->scan->ignore, span_make(walk->path.data, walk->frames[i].path_size),
		             i > 1 ? state_of(walk, i - 1) : NULL, state_of(walk, i));
		walk->frames[i].judged = true;
	}
	return innermost ? state_of(walk, innermost) : NULL;
}

/* The flags that the ignore rules give to an entry. What the former scan found holds for as long as the rules do. */
static int judge(struct scan_walk *walk, struct span name, const struct table_row *former, uint8_t *flags)
{
	enum ignore_verdict verdict;

	*flags = 0;
	if (!walk->scan->ignore)
		return 0;
	if (former && !walk->scan->rules_changed) {
		*flags = former->flags & (TABLE_ROW_IGNORED | TABLE_ROW_EXCLUDED);
		return 0;
	}
	if (!scan_walk_path_enter(walk, name))
		return ERR_RAISE(-ENOMEM);
	verdict = ignore_judge(walk->scan->ignore, buffer_span(&walk->path), state_needed(walk), NULL);
	scan_walk_path_leave(walk);
	*flags = verdict == IGNORE_PRUNED ? TABLE_ROW_IGNORED : verdict == IGNORE_EXCLUDED ? TABLE_ROW_EXCLUDED : 0;
	return 0;
}

void scan_list_changed(struct scan_walk *walk)
{
	walk->table->directories[scan_walk_top(walk)->directory].flags |= TABLE_DIRECTORY_DIRTY;
	walk->totals.changed++;
}

static int read_target(struct scan_walk *walk, int dir_fd, const char *name, uint32_t number)
{
	char target[TREE_TARGET_MAX + 1];
	ssize_t size = readlinkat(dir_fd, name, target, sizeof(target));
	struct table_row *row = &walk->table->rows[number];

	if (size < 0)
		return errno == ENOENT || errno == EINVAL ? DIGESTER_GONE : -errno;
	if (size == 0 || size > TREE_TARGET_MAX)
		return scan_walk_refuse(walk, span_text(name), -ENAMETOOLONG, "is a symlink whose target is too long");
	row->target_size = (uint16_t)size;
	return table_add_bytes(walk->table, span_make(target, (size_t)size), &row->link);
}

static struct scan_place place_of(struct scan_walk *walk, uint32_t number)
{
	uint32_t directory = scan_walk_top(walk)->directory, first = walk->table->directories[directory].first;

	return (struct scan_place){ walk->options.part_number, directory, number - first };
}

static int read_file(struct scan_walk *walk, int dir_fd, const char *name, uint32_t number)
{
	bool linked = walk->table->rows[number].flags & TABLE_ROW_LINKED;
	struct scan_place place = place_of(walk, number);
	int r = linked ? inodes_find(walk->options.inodes, &walk->table->rows[number], place) : 0;

	if (r)
		return r < 0 ? r : 0;
	r = digester_add(walk->digester, dir_fd, name, number);
	scan_walk_count(walk);
	return linked && !r ? inodes_add(walk->options.inodes, &walk->table->rows[number], place) : r;
}

/* What a changed entry holds. DIGESTER_GONE: it vanished. */
static int read_content(struct scan_walk *walk, int dir_fd, const char *name, uint32_t number)
{
	struct table_row *row = &walk->table->rows[number];

	if (S_ISLNK(row->mode) && !(row->flags & TABLE_ROW_EXCLUDED))
		return read_target(walk, dir_fd, name, number);
	if (S_ISREG(row->mode) && !(row->flags & TABLE_ROW_EXCLUDED))
		return read_file(walk, dir_fd, name, number);
	return 0;
}

/* 1: not recorded; 0; -errno. */
static int check_kind(struct scan_walk *walk, struct span name, const struct stat *st, uint8_t flags)
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
		return scan_walk_refuse(walk, name, -EPERM, "is a device node, which is refused");
	}
	return scan_walk_refuse(walk, name, -EPERM, "is of a kind that cannot be pushed");
}

/* A longer one could be pushed, and then neither pulled nor run. What is excluded is in no tree. */
static int check_path(struct scan_walk *walk, struct span name, uint8_t flags)
{
	if (flags & TABLE_ROW_EXCLUDED || walk->path.size + (walk->path.size > 0) + name.size <= TREE_PATH_MAX)
		return 0;
	return scan_walk_refuse(walk, name, -ENAMETOOLONG, "has a path longer than %d bytes", TREE_PATH_MAX);
}

static bool is_trusted(const struct table_row *former, const struct stat *st, uint8_t flags)
{
	return former && !(former->flags & (TABLE_ROW_FRESH | TABLE_ROW_IGNORED)) && digester_same(former, st) &&
	       (former->flags & TABLE_ROW_EXCLUDED) == (flags & TABLE_ROW_EXCLUDED);
}

/* The newest row was taken over: the directory stays the same if it is where it was, and in nothing another. */
static void note_same(struct scan_walk *walk, uint32_t found, uint32_t number)
{
	struct scan_frame *frame = scan_walk_top(walk);

	frame->same = frame->same && found == walk->finder.first + place_of(walk, number).index &&
		      scan_part_same_row(&walk->table->rows[number], &walk->scan->former->rows[found]);
}

static int add_row(struct scan_walk *walk, int dir_fd, const char *name, uint32_t found, const struct stat *st,
		   uint8_t flags)
{
	const struct table_row *former = found == TABLE_NONE ? NULL : &walk->scan->former->rows[found];
	struct table *table = walk->table;
	struct table_row *row;
	uint32_t number;
	int r = table_add_row(table, span_text(name), &number);

	if (r)
		return ERR_RAISE(r);
	row = &table->rows[number];
	row->former = found + 1;                 /* TABLE_NONE + 1 is 0 */
	row->flags = flags;
	digester_stat(row, st, walk->options.fresh_after_ns);
	if (is_trusted(former, st, flags)) {
		r = scan_part_take_over(table, walk->scan->former, former, number);
		note_same(walk, found, number);
		return r;
	}
	scan_walk_top(walk)->same = false;
	row->flags |= TABLE_ROW_CHANGED;
	scan_list_changed(walk);
	r = read_content(walk, dir_fd, name, number);
	if (r == DIGESTER_GONE) {
		table_drop_row(table);
		r = 0;
	}
	return r;
}

static int add_ignored(struct scan_walk *walk, const char *name, uint32_t found)
{
	uint32_t number;
	int r = table_add_row(walk->table, span_text(name), &number);

	if (r)
		return ERR_RAISE(r);
	walk->table->rows[number].flags = TABLE_ROW_IGNORED;
	if (found != TABLE_NONE && walk->scan->former->rows[found].flags & TABLE_ROW_IGNORED) {
		note_same(walk, found, number);
		return 0;
	}
	scan_walk_top(walk)->same = false;
	scan_list_changed(walk);
	return 0;
}

static int add_entry(struct scan_walk *walk, int dir_fd, const char *name)
{
	const struct table_row *former = NULL;
	uint32_t found = TABLE_NONE;
	struct stat st;
	uint8_t flags;
	int r = 0;

	if (walk->finder.count)
		r = finder_find(&walk->finder, walk->scan->former, span_text(name), &found);
	if (r)
		return ERR_RAISE(r);
	if (found != TABLE_NONE)
		former = &walk->scan->former->rows[found];
	r = judge(walk, span_text(name), former, &flags);
	if (r)
		return r;
	if (flags & TABLE_ROW_IGNORED)
		return add_ignored(walk, name, found);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : scan_walk_refuse(walk, span_text(name), -errno, "%s", err_text(errno));
	r = check_kind(walk, span_text(name), &st, flags);
	if (r)
		return r < 0 ? r : 0;
	r = check_path(walk, span_text(name), flags);
	if (r)
		return r;
	walk->totals.entries++;
	scan_walk_count(walk);
	return add_row(walk, dir_fd, name, found, &st, flags);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/* One call's worth of entries. 1: there may be more; 0: that was all; -errno. */
static int list_some(struct scan_walk *walk, int dir_fd)
{
	long size = syscall(SYS_getdents64, dir_fd, walk->listing, SCAN_LISTING_BYTES);

	if (size < 0 && errno == ENOENT && walk->depth > 1)
		return 0;                        /* it was removed meanwhile: nothing is in it */
	if (size < 0 && errno == ENOENT)
		return scan_walk_refuse(walk, (struct span){ 0 }, -ENOENT, "the directory was removed");
	if (size < 0)
		return scan_walk_refuse(walk, (struct span){ 0 }, -errno, "cannot be listed: %s", err_text(errno));
	for (long at = 0; at < size;) {
		const struct listed *listed = (const struct listed *)(walk->listing + at);
		size_t name_size = strlen(listed->name);
		int r;

		at += listed->size;
		if (is_dots(listed->name))
			continue;
		if (name_size > TREE_NAME_MAX)
			return scan_walk_refuse(walk, span_text(listed->name), -ENAMETOOLONG,
						"has a name that is too long");
		r = add_entry(walk, dir_fd, listed->name);
		if (r)
			return r;
	}
	return size > 0;
}

int scan_list(struct scan_walk *walk)
{
	struct scan_frame *frame = scan_walk_top(walk);
	uint32_t former = frame->former;
	struct table_mark mark = table_mark(walk->table);
	int r;

	finder_begin(&walk->finder, walk->scan->former, former);
	frame->same = former != TABLE_NONE;
	do {
		r = list_some(walk, frame->fd);
	} while (r > 0);
	if (r)
		return r;
	frame->count = walk->table->rows_count - mark.rows;
	/*
	 * What is new was noticed when it was added; what is gone leaves the directory shorter, or has something new
	 * beside it.
	 */
	if (former == TABLE_NONE || walk->scan->rules_changed || frame->count != walk->finder.count) {
		scan_list_changed(walk);
		frame->same = false;
	}
	if (frame->same)
		scan_part_end_same(walk->options.part, frame->directory, &mark, former);
	else
		scan_part_end(walk->options.part, frame->directory);
	return 0;
}

int scan_list_root(struct scan_walk *walk, const struct stat *st)
{
	const struct table_row *former = walk->scan->former ? &walk->scan->former->rows[0] : NULL;
	struct table_row *root = &walk->table->rows[0];
	int r;

	digester_stat(root, st, walk->options.fresh_after_ns);
	if (is_trusted(former, st, 0)) {
		r = scan_part_take_over(walk->table, walk->scan->former, former, 0);
		return r ? ERR_RAISE(r) : 0;
	}
	root->flags |= TABLE_ROW_CHANGED;
	return 0;
}
