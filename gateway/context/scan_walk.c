/* From directory to directory. */
#include "gateway/context/scan_walk_private.h"

#include "gateway/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What a thread has counted alone before the others hear of it. */
#define COUNT_ENTRIES (SCAN_PROGRESS_ENTRIES / SCAN_THREADS_MAX)
#define COUNT_BYTES   (SCAN_PROGRESS_BYTES / SCAN_THREADS_MAX)

int scan_walk_refuse(struct scan_walk *walk, struct span name, int r, const char *format, ...)
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

void scan_walk_count(struct scan_walk *walk)
{
	if (walk->totals.entries >= walk->count_at ||
	    digester_totals(walk->digester)->bytes >= walk->counted.bytes + COUNT_BYTES)
		tell(walk);
}

static bool on_window(void *context)
{
	struct scan_walk *walk = context;

	scan_walk_count(walk);
	return !scan_crew_failed(walk->options.crew);
}

bool scan_walk_path_enter(struct scan_walk *walk, struct span name)
{
	if (walk->path.size)
		buffer_put(&walk->path, "/", 1);
	buffer_put(&walk->path, name.data, name.size);
	return !walk->path.failed;
}

void scan_walk_path_leave(struct scan_walk *walk)
{
	walk->path.size = scan_walk_top(walk)->path_size;
	walk->path.failed = false;
}

/* Where the rows are that the innermost directory lists. */
static const struct table *rows_of(struct scan_walk *walk, uint32_t *first)
{
	const struct scan_frame *frame = scan_walk_top(walk);
	const struct table *table = frame->same ? walk->scan->former : walk->table;

	*first = table->directories[frame->same ? frame->former : frame->directory].first;
	return table;
}

/* The former scan's directory in the place of a row, or TABLE_NONE. */
static uint32_t former_directory(struct scan_walk *walk, const struct table_row *row)
{
	const struct table_row *former = row;

	if (!scan_walk_top(walk)->same) {
		if (row->former == 0)
			return TABLE_NONE;
		former = &walk->scan->former->rows[row->former - 1];
	}
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
	struct scan_frame *frame;
	int r;

	CHECK(walk->depth < TREE_DEPTH_MAX);
	frame = &walk->frames[walk->depth++];
	*frame = (struct scan_frame){ .fd = job->fd, .former = job->former, .path_size = (uint32_t)walk->path.size };
	r = add_directory(walk, job, &frame->directory);
	if (!r && job->changed) {
		struct scan_origin *origin = &walk->options.part->origins[frame->directory];

		scan_list_changed(walk);
		origin->xattrs_read = true;
		r = digester_xattrs(walk->digester, job->fd, TABLE_NONE, &origin->xattrs);
	}
	return r ? r : scan_list(walk);
}

static void leave(struct scan_walk *walk)
{
	close(scan_walk_top(walk)->fd);
	walk->depth--;
	if (walk->depth > walk->base)
		scan_walk_path_leave(walk);
}

/* Somebody else walks into it, or this thread does. */
static int offer_or_enter(struct scan_walk *walk, int fd, const struct table_row *row, uint32_t index)
{
	const struct scan_frame *frame = scan_walk_top(walk);
	struct scan_job job = {
		.fd = fd,
		.place = { walk->options.part_number, frame->directory, index },
		.former = former_directory(walk, row),
		.depth = walk->depth,
		.changed = !frame->same && row->flags & TABLE_ROW_CHANGED,
		.path = (char *)walk->path.data,
		.path_size = walk->path.size,
	};

	if (!scan_crew_offer(walk->options.crew, &job))
		return enter(walk, &job);
	scan_walk_path_leave(walk);
	return 0;
}

/* A directory that has vanished stays a row without a number: such rows are in no tree. */
static int open_row(struct scan_walk *walk, const struct table *table, const struct table_row *row, uint32_t index)
{
	char name[TREE_NAME_MAX + 1];
	struct span of = table_name(table, row);
	int fd;

	memcpy(name, of.data, of.size);
	name[of.size] = 0;
	of.data = (const uint8_t *)name;
	if (walk->depth == TREE_DEPTH_MAX)
		return scan_walk_refuse(walk, of, -ENAMETOOLONG, "lies deeper than %d directories", TREE_DEPTH_MAX);
	fd = openat(scan_walk_top(walk)->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
		scan_list_changed(walk);
		return 0;
	}
	if (fd < 0)
		return scan_walk_refuse(walk, of, -errno, "cannot be opened: %s", err_text(errno));
	if (!scan_walk_path_enter(walk, of)) {
		close(fd);
		return ERR_RAISE(-ENOMEM);
	}
	return offer_or_enter(walk, fd, row, index);
}

/* The next directory that the innermost one lists; or leaves it when there are no more. */
static int walk_on(struct scan_walk *walk)
{
	struct scan_frame *frame = scan_walk_top(walk);
	uint32_t first, index;
	const struct table *table = rows_of(walk, &first);

	while (frame->next < frame->count && !S_ISDIR(table->rows[first + frame->next].mode))
		frame->next++;
	if (frame->next == frame->count) {
		leave(walk);
		return 0;
	}
	index = frame->next++;
	return open_row(walk, table, &table->rows[first + index], index);
}

static int walk_down(struct scan_walk *walk)
{
	int r = 0;

	while (!r && walk->depth > walk->base && !scan_crew_failed(walk->options.crew))
		r = walk_on(walk);
	return r;
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
		walk->frames[walk->depth++] = (struct scan_frame){ .fd = -1 };
	for (size_t i = 0; i < job->path_size; i++) {
		if (job->path[i] == '/')
			walk->frames[walk->depth++] = (struct scan_frame){ .fd = -1, .path_size = (uint32_t)i };
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
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return ERR_RAISE(-errno);
	r = scan_list_root(walk, &st);
	if (r)
		return r;
	*job = (struct scan_job){
		.fd = fd,
		.place = { .index = SCAN_PLACE_ROOT },
		.former = walk->scan->former ? walk->scan->former->rows[0].link : TABLE_NONE,
		.changed = walk->table->rows[0].flags & TABLE_ROW_CHANGED,
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
	walk->listing = malloc(SCAN_LISTING_BYTES);
	walk->frames = calloc(TREE_DEPTH_MAX, sizeof(walk->frames[0]));
	if (walk->scan->ignore)
		walk->states = calloc(TREE_DEPTH_MAX, ignore_state_bytes(walk->scan->ignore));
	walk->digester = digester_create(&(struct digester_options){
		.table = walk->table,
		.hasher = walk->scan->hasher,
		.taker = walk->scan->taker,
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
