/* One thread's walk. */
#include "gateway/context/scan_walk.h"

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/context/finder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LISTING_BYTES    (256u << 10)
#define WHY_BYTES        5000
/* What a thread has counted alone before the others hear of it. */
#define COUNT_ENTRIES    (SCAN_PROGRESS_ENTRIES / SCAN_THREADS_MAX)
#define COUNT_BYTES      (SCAN_PROGRESS_BYTES / SCAN_THREADS_MAX)

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

struct scan_walk {
	struct scan_walk_options options;
	const struct scan_options *scan;
	struct table *table;                     /* the part's */
	struct scan_totals totals;
	struct digester *digester;
	char why_text[WHY_BYTES];
	struct why why;
	struct buffer path;                      /* root-relative, of the innermost frame */
	uint8_t *listing;
	struct frame *frames;                    /* TREE_DEPTH_MAX of them */
	uint32_t base, depth;                    /* frames in use: below `base` they are only the way to the job's directory */
	uint8_t *states;                         /* ignore states, one a frame and one to spare */
	struct finder finder;
	struct digester_totals counted;          /* what the crew has heard of */
	uint64_t counted_entries, count_at;
};

/* "path/name: text" */
__attribute__((format(printf, 4, 5))) static int refuse(struct scan_walk *walk, struct span name, int r, const char *format,
							...)
{
	struct buffer path = buffer_heap(2 * TABLE_PATH_BYTES_MAX);
	char text[160];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	buffer_put(&path, walk->path.data, walk->path.size);
	if (path.size && name.size)
		buffer_put(&path, "/", 1);
	buffer_put(&path, name.data, name.size);
	buffer_put(&path, "", 1);
	why_write(walk->why, path.failed ? "" : (const char *)path.data, "%s", text);
	buffer_fini(&path);
	return ERR_RAISE(r);
}

static void tell(struct scan_walk *walk)
{
	const struct digester_totals *reads = digester_totals(walk->digester);

	scan_crew_count(walk->options.crew, walk->totals.entries - walk->counted_entries,
			reads->files - walk->counted.files, reads->bytes - walk->counted.bytes);
	walk->counted_entries = walk->totals.entries;
	walk->counted = *reads;
	walk->count_at = walk->totals.entries + COUNT_ENTRIES;
}

static void count(struct scan_walk *walk)
{
	if (walk->totals.entries >= walk->count_at ||
	    digester_totals(walk->digester)->bytes >= walk->counted.bytes + COUNT_BYTES)
		tell(walk);
}

static bool on_window(void *context)
{
	struct scan_walk *walk = context;

	count(walk);
	return !scan_crew_failed(walk->options.crew);
}

static struct frame *top(struct scan_walk *walk)
{
	CHECK(walk->depth > 0);
	return &walk->frames[walk->depth - 1];
}

/* The entry `name` of the innermost directory as a path, until path_leave(). */
static bool path_enter(struct scan_walk *walk, struct span name)
{
	if (walk->path.size)
		buffer_put(&walk->path, "/", 1);
	buffer_put(&walk->path, name.data, name.size);
	return !walk->path.failed;
}

static void path_leave(struct scan_walk *walk)
{
	walk->path.size = top(walk)->path_size;
	walk->path.failed = false;
}

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
	if (!path_enter(walk, name))
		return ERR_RAISE(-ENOMEM);
	verdict = ignore_judge(walk->scan->ignore, buffer_span(&walk->path), state_needed(walk), NULL);
	path_leave(walk);
	*flags = verdict == IGNORE_PRUNED ? TABLE_ROW_IGNORED : verdict == IGNORE_EXCLUDED ? TABLE_ROW_EXCLUDED : 0;
	return 0;
}

static void mark_changed(struct scan_walk *walk)
{
	walk->table->directories[top(walk)->directory].flags |= TABLE_DIRECTORY_DIRTY;
	walk->totals.changed++;
}

/* Takes over all that the former row knows beyond its stat. */
static int take_over(struct scan_walk *walk, const struct table_row *former, uint32_t number)
{
	struct table *table = walk->table;
	const struct table *from = walk->scan->former;
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

static int read_target(struct scan_walk *walk, int dir_fd, const char *name, uint32_t number)
{
	char target[TREE_TARGET_MAX + 1];
	ssize_t size = readlinkat(dir_fd, name, target, sizeof(target));
	struct table_row *row = &walk->table->rows[number];

	if (size < 0)
		return errno == ENOENT || errno == EINVAL ? DIGESTER_GONE : -errno;
	if (size == 0 || size > TREE_TARGET_MAX)
		return refuse(walk, span_text(name), -ENAMETOOLONG, "is a symlink whose target is too long");
	row->target_size = (uint16_t)size;
	return table_add_bytes(walk->table, span_make(target, (size_t)size), &row->link);
}

static int read_file(struct scan_walk *walk, int dir_fd, const char *name, uint32_t number)
{
	bool linked = walk->table->rows[number].flags & TABLE_ROW_LINKED;
	struct scan_place place = { walk->options.part_number, number };
	int r = linked ? inodes_find(walk->options.inodes, &walk->table->rows[number], place) : 0;

	if (r)
		return r < 0 ? r : 0;
	r = digester_add(walk->digester, dir_fd, name, number);
	count(walk);
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
		return refuse(walk, name, -EPERM, "is a device node, which is refused");
	}
	return refuse(walk, name, -EPERM, "is of a kind that cannot be pushed");
}

static bool is_trusted(const struct table_row *former, const struct stat *st, uint8_t flags)
{
	return former && !(former->flags & (TABLE_ROW_FRESH | TABLE_ROW_IGNORED)) && digester_same(former, st) &&
	       (former->flags & TABLE_ROW_EXCLUDED) == (flags & TABLE_ROW_EXCLUDED);
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
	if (is_trusted(former, st, flags))
		return take_over(walk, former, number);
	row->flags |= TABLE_ROW_CHANGED;
	mark_changed(walk);
	r = read_content(walk, dir_fd, name, number);
	if (r == DIGESTER_GONE) {
		table_drop_row(table);
		r = 0;
	}
	return r;
}

static int add_ignored(struct scan_walk *walk, const char *name, const struct table_row *former)
{
	uint32_t number;
	int r = table_add_row(walk->table, span_text(name), &number);

	if (r)
		return ERR_RAISE(r);
	walk->table->rows[number].flags = TABLE_ROW_IGNORED;
	if (!former || !(former->flags & TABLE_ROW_IGNORED))
		mark_changed(walk);
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
		return add_ignored(walk, name, former);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : refuse(walk, span_text(name), -errno, "%s", err_text(errno));
	r = check_kind(walk, span_text(name), &st, flags);
	if (r)
		return r < 0 ? r : 0;
	walk->totals.entries++;
	count(walk);
	return add_row(walk, dir_fd, name, found, &st, flags);
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/* One call's worth of entries. 1: there may be more; 0: that was all; -errno. */
static int list_some(struct scan_walk *walk, int dir_fd)
{
	long size = syscall(SYS_getdents64, dir_fd, walk->listing, LISTING_BYTES);

	if (size < 0 && errno == ENOENT)
		return 0;                        /* it was removed meanwhile: nothing is in it */
	if (size < 0)
		return refuse(walk, (struct span){ 0 }, -errno, "cannot be listed: %s", err_text(errno));
	for (long at = 0; at < size;) {
		const struct listed *listed = (const struct listed *)(walk->listing + at);
		size_t name_size = strlen(listed->name);
		int r;

		at += listed->size;
		if (is_dots(listed->name))
			continue;
		if (name_size > TREE_NAME_MAX)
			return refuse(walk, span_text(listed->name), -ENAMETOOLONG, "has a name that is too long");
		r = add_entry(walk, dir_fd, listed->name);
		if (r)
			return r;
	}
	return size > 0;
}

/* Lists the innermost directory into the table. */
static int list_directory(struct scan_walk *walk, uint32_t former)
{
	struct frame *frame = top(walk);
	uint32_t first = walk->table->rows_count;
	int r;

	finder_begin(&walk->finder, walk->scan->former, former);
	do {
		r = list_some(walk, frame->fd);
	} while (r > 0);
	if (r)
		return r;
	/*
	 * What is new was noticed when it was added; what is gone leaves the directory shorter, or has something new
	 * beside it.
	 */
	if (former == TABLE_NONE || walk->scan->rules_changed ||
	    walk->table->rows_count - first != walk->finder.count)
		mark_changed(walk);
	frame->next = first;
	return 0;
}

/* The former scan's directory in the place of a row, or TABLE_NONE. */
static uint32_t former_directory(const struct scan_walk *walk, const struct table_row *row)
{
	const struct table_row *former;

	if (row->former == 0)
		return TABLE_NONE;
	former = &walk->scan->former->rows[row->former - 1];
	return former->flags & TABLE_ROW_IGNORED || !S_ISDIR(former->mode) ? TABLE_NONE : former->link;
}

/* A new directory of the part, with the digest that it had. */
static int add_directory(struct scan_walk *walk, const struct scan_job *job, uint32_t *number)
{
	struct table_directory *directory;
	int r = scan_part_begin(walk->options.part, job->place, number);

	if (r)
		return ERR_RAISE(r);
	directory = &walk->table->directories[*number];
	if (job->former != TABLE_NONE) {
		const struct table_directory *known = &walk->scan->former->directories[job->former];

		memcpy(directory->hash, known->hash, sizeof(directory->hash));
		directory->size = known->size;
		directory->flags = known->flags & TABLE_DIRECTORY_OMITTED;
	}
	return 0;
}

/* Steps into the directory of the job, whose descriptor is consumed and whose path is the walk's; lists it. */
static int enter(struct scan_walk *walk, const struct scan_job *job)
{
	uint32_t number;
	int r;

	CHECK(walk->depth < TREE_DEPTH_MAX);
	walk->frames[walk->depth++] = (struct frame){ .fd = job->fd, .path_size = (uint32_t)walk->path.size };
	r = add_directory(walk, job, &number);
	if (r)
		return r;
	top(walk)->directory = number;
	if (job->changed) {
		struct scan_origin *origin = &walk->options.part->origins[number];

		mark_changed(walk);
		r = digester_xattrs(walk->digester, job->fd, TABLE_NONE, &origin->xattrs);
		if (r)
			return r;
		origin->xattrs_read = true;
	}
	r = list_directory(walk, job->former);
	if (!r)
		scan_part_end(walk->options.part, number);
	return r;
}

static void leave(struct scan_walk *walk)
{
	close(top(walk)->fd);
	walk->depth--;
	if (walk->depth > walk->base)
		path_leave(walk);
}

/* Somebody else walks into it, or this thread does. */
static int offer_or_enter(struct scan_walk *walk, int fd, uint32_t number)
{
	struct table_row *row = &walk->table->rows[number];
	struct scan_job job = {
		.fd = fd,
		.place = { walk->options.part_number, number },
		.former = former_directory(walk, row),
		.depth = walk->depth,
		.changed = row->flags & TABLE_ROW_CHANGED,
		.path = (char *)walk->path.data,
		.path_size = walk->path.size,
	};

	row->former = 0;
	if (!scan_crew_offer(walk->options.crew, &job))
		return enter(walk, &job);
	path_leave(walk);
	return 0;
}

/* A directory that has vanished stays a row without a number: such rows are in no tree. */
static int open_row(struct scan_walk *walk, uint32_t row)
{
	char name[TREE_NAME_MAX + 1];
	struct span of = table_name(walk->table, &walk->table->rows[row]);
	int fd;

	memcpy(name, of.data, of.size);
	name[of.size] = 0;
	of.data = (const uint8_t *)name;
	if (walk->depth == TREE_DEPTH_MAX)
		return refuse(walk, of, -ENAMETOOLONG, "lies deeper than %d directories", TREE_DEPTH_MAX);
	fd = openat(top(walk)->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
		walk->table->rows[row].former = 0;
		mark_changed(walk);
		return 0;
	}
	if (fd < 0)
		return refuse(walk, of, -errno, "cannot be opened: %s", err_text(errno));
	if (!path_enter(walk, of)) {
		close(fd);
		return ERR_RAISE(-ENOMEM);
	}
	return offer_or_enter(walk, fd, row);
}

static int walk_down(struct scan_walk *walk)
{
	while (walk->depth > walk->base && !scan_crew_failed(walk->options.crew)) {
		struct frame *frame = top(walk);
		const struct table_directory *directory = &walk->table->directories[frame->directory];
		uint32_t end = directory->first + directory->count;
		int r = 0;

		while (frame->next < end && !S_ISDIR(walk->table->rows[frame->next].mode))
			frame->next++;
		if (frame->next == end)
			leave(walk);
		else
			r = open_row(walk, frame->next++);
		if (r)
			return r;
	}
	return 0;
}

/* Takes the job's path over, and as frames without descriptors the directories on it. */
static bool go_to(struct scan_walk *walk, const struct scan_job *job)
{
	walk->base = walk->depth = 0;
	buffer_clear(&walk->path);
	buffer_put(&walk->path, job->path, job->path_size);
	if (walk->path.failed)
		return false;
	if (job->depth)
		walk->frames[walk->depth++] = (struct frame){ .fd = -1 };
	for (size_t i = 0; i < job->path_size; i++) {
		if (job->path[i] == '/')
			walk->frames[walk->depth++] = (struct frame){ .fd = -1, .path_size = (uint32_t)i };
	}
	CHECK(walk->depth == job->depth);
	walk->base = job->depth;
	return true;
}

static int do_job(struct scan_walk *walk, struct scan_job *job)
{
	int r;

	if (!go_to(walk, job))
		return ERR_RAISE(-ENOMEM);
	r = enter(walk, job);
	job->fd = -1;
	if (!r)
		r = walk_down(walk);
	while (walk->depth > walk->base)
		leave(walk);
	return r;
}

void scan_walk_run(struct scan_walk *walk)
{
	struct scan_job job;

	while (scan_crew_take(walk->options.crew, &job)) {
		int r = do_job(walk, &job);

		scan_job_fini(&job);
		if (r)
			scan_crew_fail(walk->options.crew, r, walk->why_text);
	}
	digester_flush(walk->digester);
	tell(walk);
}

int scan_walk_root(struct scan_walk *walk, int fd, struct scan_job *job)
{
	const struct table_row *former = walk->scan->former ? &walk->scan->former->rows[0] : NULL;
	struct table_row *root = &walk->table->rows[0];
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return ERR_RAISE(-errno);
	digester_stat(root, &st, walk->options.fresh_after_ns);
	if (is_trusted(former, &st, 0))
		r = take_over(walk, former, 0);
	else
		root->flags |= TABLE_ROW_CHANGED;
	if (r)
		return ERR_RAISE(r);
	*job = (struct scan_job){
		.fd = fd,
		.place = { walk->options.part_number, 0 },
		.former = former ? former->link : TABLE_NONE,
		.changed = root->flags & TABLE_ROW_CHANGED,
	};
	return 0;
}

void scan_walk_totals(const struct scan_walk *walk, struct scan_totals *totals)
{
	const struct digester_totals *reads = digester_totals(walk->digester);

	totals->entries += walk->totals.entries;
	totals->changed += walk->totals.changed;
	totals->reads.files += reads->files;
	totals->reads.bytes += reads->bytes;
	totals->reads.changed_during_read += reads->changed_during_read;
	totals->reads.guided += reads->guided;
	if (reads->ns > totals->reads.ns)
		totals->reads.ns = reads->ns;
}

/* What a digester's `why` names. */
static void path_of(void *context, uint32_t row, struct buffer *out)
{
	struct scan_walk *walk = context;
	struct span name;

	buffer_put(out, walk->path.data, walk->path.size);
	if (row == TABLE_NONE)
		return;
	if (walk->path.size)
		buffer_put(out, "/", 1);
	name = table_name(walk->table, &walk->table->rows[row]);
	buffer_put(out, name.data, name.size);
}

struct scan_walk *scan_walk_create(const struct scan_walk_options *options)
{
	struct scan_walk *walk = calloc(1, sizeof(*walk));

	if (!walk)
		return NULL;
	walk->options = *options;
	walk->scan = options->scan;
	walk->table = &options->part->table;
	walk->why = (struct why){ .text = walk->why_text, .size = sizeof(walk->why_text) };
	walk->path = buffer_heap(TABLE_PATH_BYTES_MAX);
	walk->listing = malloc(LISTING_BYTES);
	walk->frames = calloc(TREE_DEPTH_MAX, sizeof(walk->frames[0]));
	if (walk->scan->ignore)
		walk->states = calloc(TREE_DEPTH_MAX, ignore_state_bytes(walk->scan->ignore));
	walk->digester = digester_create(&(struct digester_options){
		.table = walk->table,
		.hasher = walk->scan->hasher,
		.why = walk->why,
		.fresh_after_ns = options->fresh_after_ns,
		.progress = on_window,
		.path = path_of,
		.context = walk,
	});
	if (!walk->digester || !walk->listing || !walk->frames || (walk->scan->ignore && !walk->states)) {
		scan_walk_destroy(walk);
		return NULL;
	}
	return walk;
}

void scan_walk_destroy(struct scan_walk *walk)
{
	if (!walk)
		return;
	digester_destroy(walk->digester);
	buffer_fini(&walk->path);
	free(walk->listing);
	free(walk->frames);
	free(walk->states);
	finder_fini(&walk->finder);
	free(walk);
}
