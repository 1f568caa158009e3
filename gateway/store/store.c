/* Opening and closing a store, and what turns its wheels. */
#include "gateway/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/base/units.h"
#include "gateway/base/user.h"
#include "gateway/store/bytes.h"
#include "gateway/store/layout.h"
#include "gateway/store/salvage.h"
#include "gateway/store/state.h"

#define STORE_SEGMENTS_LEAST  4u              /* open, next, a spare one, and something to keep */
#define STORE_INTERVAL_NS     250000000ull
#define STORE_SLOTS           8u
#define STORE_PENDING_LEAST   128u
/*
 * An index entry dirties a page or so of 4 KiB wherever its name falls, but no more pages than there are; and it takes
 * about 256 bytes. LMDB can reuse the old pages two transactions later, so three transactions' worth must fit.
 */
#define STORE_ENTRY_DIRTY_BYTES 5120u
#define STORE_ENTRY_BYTES       256u
#define STORE_TRANSACTIONS      3u

/* ---- turning the wheels ---- */

static void store_close_step(struct store *store);

void store_step(struct store *store)
{
	store->again = true;
	if (store->stepping)
		return;
	store->stepping = true;
	while (store->again) {
		store->again = false;
		commit_step(store);
		evict_step(store);
		space_step(store);
		puts_step(store);
		reads_step(store);
		lookups_step(store);
		marks_step(store);
		tidy_step(store);
	}
	store->stepping = false;
	if (store->closing)
		store_close_step(store);
}

static void store_on_pause(struct post *post)
{
	struct store *store = container_of(post, struct store, pause);

	store->paused = 0;
	store_step(store);
}

void store_pause(struct store *store, enum store_part part)
{
	bool posted = store->paused;

	store->paused |= part;
	if (posted)
		return;
	store->pause.fn = store_on_pause;
	ring_post(store->ring, &store->pause);
}

void store_fail(struct store *store, int error, const char *what, uint32_t segment)
{
	CHECK(error < 0);
	if (!store->failed) {
		/* What clients do about a full disk, or for want of memory, does not help here: theirs is that it failed. */
		store->failed = error == -ENOSPC || error == -EDQUOT || error == -ENOMEM ? -EIO : error;
		log_event(LOG_ERROR, "store failed", LOG_TEXT("what", what), LOG_TEXT("error", err_report(error)),
		          LOG_I64("segment", segment == UINT32_MAX ? -1 : (int64_t)segment),
		          LOG_TEXT("remedy", "nothing is accepted until a restart; check the disk, then run sluice fsck"));
	}
	store_step(store);
}

void store_usage(struct store *store, const struct index_usage *usage)
{
	uint64_t room = usage->map_bytes > usage->used_bytes ? usage->map_bytes - usage->used_bytes : 0;
	uint64_t share = room / STORE_TRANSACTIONS;
	uint64_t scattered = share / STORE_ENTRY_DIRTY_BYTES;
	uint64_t dense = share > usage->used_bytes ? (share - usage->used_bytes) / STORE_ENTRY_BYTES : 0;
	uint64_t limit = scattered > dense ? scattered : dense;

	store->usage = *usage;
	if (limit < STORE_PENDING_LEAST)
		limit = STORE_PENDING_LEAST;
	if (limit > PENDING_MAX - 2)
		limit = PENDING_MAX - 2;
	store->pending_limit = (uint32_t)limit;
}

bool store_index_tight(const struct store *store)
{
	return store->usage.used_bytes > store->usage.map_bytes / 8 * 5;
}

/* ---- opening ---- */

/* The row of META with that key, if it is there. */
static int load_meta(struct store *store, const char *key, uint8_t rows[static INDEX_SCAN_ROW_MAX], struct index_scan *scan)
{
	*scan = (struct index_scan){
		.table = INDEX_META,
		.key_size = strlen(key),
		.prefix_size = strlen(key),
		.rows = rows,
		.rows_max = 1,
		.rows_capacity = INDEX_SCAN_ROW_MAX,
	};
	memcpy(scan->key, key, scan->key_size);
	return store->engine->scan_now(store->index, scan);
}

static int load_sequence(struct store *store)
{
	uint8_t rows[INDEX_SCAN_ROW_MAX];
	struct index_scan scan;
	struct index_row row;
	size_t at = 0;
	int r = load_meta(store, ROW_SEQUENCE_KEY, rows, &scan);

	if (r || !index_scan_next(&scan, &at, &row))
		return r;
	if (row.value.size != ROW_SEQUENCE_BYTES)
		return ERR_RAISE(-EUCLEAN);
	store->sequence = bytes_get64(row.value.data);
	return 0;
}

/* What a repair has not put back yet would be taken for lost. */
static int check_repaired(struct store *store, char *why, size_t why_size)
{
	uint8_t rows[INDEX_SCAN_ROW_MAX];
	struct index_scan scan;
	int r = load_meta(store, ROW_REPAIRING_KEY, rows, &scan);

	if (r || scan.count == 0)
		return r;
	snprintf(why, why_size, "a repair of the store %s has not come to its end; run sluice fsck --repair again",
	         store->config.path);
	return ERR_RAISE(-EUCLEAN);
}

static int load_segment_row(struct store *store, const struct index_row *row)
{
	struct row_segment segment;
	uint32_t number;

	if (row->key.size != ROW_SEGMENT_KEY_BYTES || !row_segment_decode(&segment, row->value))
		return ERR_RAISE(-EUCLEAN);
	number = bytes_get32_key(row->key.data);
	if (number >= store->segments_max)
		return ERR_RAISE(-EDOM);
	if (segment.durable > store->segment_bytes || segment.durable % RECORD_BLOCK_BYTES)
		return ERR_RAISE(-EUCLEAN);
	store->segments[number].row = segment;
	store->segments[number].used_saved = segment.used;
	store->segments[number].tail = segment.durable;
	if (segment.used > store->used_clock)
		store->used_clock = segment.used;
	return 0;
}

static int load_segment_rows(struct store *store)
{
	struct index_scan scan = { .table = INDEX_SEGMENTS, .rows_capacity = 64 * INDEX_SCAN_ROW_MAX, .rows_max = 64 };
	int r;

	scan.rows = malloc(scan.rows_capacity);
	if (!scan.rows)
		return ERR_RAISE(-ENOMEM);
	do {
		struct index_row row;
		size_t at = 0;

		r = store->engine->scan_now(store->index, &scan);
		while (!r && index_scan_next(&scan, &at, &row))
			r = load_segment_row(store, &row);
	} while (!r && scan.more);
	free(scan.rows);
	return r;
}

/* A file is written to only after the index has its row. Where there is no row, yet records, the index has lost it. */
static int check_unknown_segment(struct store *store, uint32_t number)
{
	char name[SEGMENT_NAME_MAX];
	CLEANUP(fd_closep) int fd = openat(store->dir_fd, segment_name(name, number), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint32_t generation;

	if (fd < 0)
		return errno == ENOENT ? 0 : ERR_RAISE(-errno);
	return salvage_generation(fd, number, store->secret, &generation) ? ERR_RAISE(-EUCLEAN) : 0;
}

static int load_segment_file(struct store *store, struct segment *segment)
{
	struct stat st;
	int r;

	if (segment->row.state == SEGMENT_ABSENT)
		return check_unknown_segment(store, segment->number);
	r = segment_open_read(segment, store->dir_fd);
	if (r)
		return r;
	if (fstat(segment->read_fd, &st) < 0)
		return ERR_RAISE(-errno);
	if ((uint64_t)st.st_size < store->segment_bytes)
		return ERR_RAISE(-ENODATA);
	if (segment->row.state == SEGMENT_EVICTING)
		return evict_resume(store, segment);
	return 0;
}

/* Several may be open after a crash: the one with most room goes on, the others are full now. */
static int load_open_segment(struct store *store)
{
	struct segment *open = NULL;

	for (uint32_t i = 0; i < store->segments_max; i++) {
		struct segment *segment = &store->segments[i];

		if (segment->row.state != SEGMENT_OPEN)
			continue;
		segment->row.state = SEGMENT_SEALED;
		segment->row_changed = true;
		if (!open || segment->tail < open->tail)
			open = segment;
	}
	if (!open)
		return 0;
	open->row.state = SEGMENT_OPEN;
	writer_open(&store->writer, open);
	return segment_open_write(open, store->dir_fd, store->config.direct);
}

static int store_load(struct store *store, char *why, size_t why_size)
{
	int r = check_repaired(store, why, why_size);

	if (!r)
		r = load_sequence(store);
	if (!r)
		r = load_segment_rows(store);
	if (r == -EDOM)
		snprintf(why, why_size, "the store %s is larger than its ceiling of %llu bytes; give a higher ceiling",
		         store->config.path, (unsigned long long)store->config.ceiling_bytes);
	for (uint32_t i = 0; i < store->segments_max && !r; i++) {
		r = load_segment_file(store, &store->segments[i]);
		if (r == -EUCLEAN && store->segments[i].row.state == SEGMENT_ABSENT)
			snprintf(why, why_size, "segment %u of the store %s is not in its index; sluice fsck --repair takes it in again",
			         i, store->config.path);
		else if (r)
			snprintf(why, why_size, "segment %u of the store %s cannot be read (%s); run sluice fsck", i,
			         store->config.path, err_text(r));
		store->space.absent += store->segments[i].row.state == SEGMENT_ABSENT;
		store->space.free += store->segments[i].row.state == SEGMENT_FREE;
	}
	if (!r)
		r = load_open_segment(store);
	if (!r)
		r = holds_init(&store->holds, store);
	return r;
}

static int store_open_index(struct store *store, bool create, char *why, size_t why_size)
{
	struct index_config config = {
		.ring = store->ring,
		.dir_fd = store->dir_fd,
		.map_bytes = store->map_bytes,
		.create = create,
	};
	struct index_usage usage;
	int r = store->engine->open(&store->index, &config);

	if (r == -ENOENT || r == -EUCLEAN)
		snprintf(why, why_size, "the index of the store %s is %s; sluice fsck --repair makes it again from the segments",
		         store->config.path, r == -ENOENT ? "missing" : "damaged");
	if (r == -ENOSPC) {
		char map[24], ceiling[24];

		snprintf(why, why_size,
		         "the disk of the store %s has no room for its index: a ceiling of %s takes %s for it at once; "
		         "give a lower --ceiling",
		         store->config.path, units_format_bytes(store->config.ceiling_bytes, ceiling),
		         units_format_bytes(store->map_bytes, map));
	}
	if (r)
		return r;
	store->engine->usage(store->index, &usage);
	store_usage(store, &usage);
	return 0;
}

/* Rounded up, so that what is said is enough; spelt as a setting is. */
static unsigned mebibytes(uint64_t bytes)
{
	return (unsigned)((bytes + (1u << 20) - 1) >> 20);
}

static void say_too_low(const struct store_config *config, const struct layout *layout, bool create, char *why, size_t why_size)
{
	uint64_t least = layout_ceiling_least(layout->segment_bytes, STORE_SEGMENTS_LEAST);
	char ceiling[24];

	snprintf(why, why_size, "the ceiling, %s, is too low for the store %s: the least is %uMiB, for an index and %u segments of "
	         "%uMiB%s", units_format_bytes(config->ceiling_bytes, ceiling), config->path, mebibytes(least), STORE_SEGMENTS_LEAST,
	         mebibytes(layout->segment_bytes), create ? "" : ", the size that it was made with");
}

/* There are STORE_SEGMENTS_MAX segments at most, of the size that the store was made with. */
static uint64_t usable_ceiling(const struct store *store)
{
	uint64_t ceiling = store->config.ceiling_bytes, most = layout_ceiling_least(store->segment_bytes, STORE_SEGMENTS_MAX);

	if (ceiling <= most)
		return ceiling;
	log_event(LOG_WARNING, "the store can't be as large as its ceiling", LOG_TEXT("path", store->config.path),
	          LOG_U64("ceiling_bytes", ceiling), LOG_U64("most_bytes", most), LOG_U64("segment_bytes", store->segment_bytes));
	return most;
}

/* Reads the format, or decides on one for a new store. */
static int store_open_layout(struct store *store, struct layout *layout, bool *create, char *why, size_t why_size)
{
	const struct store_config *config = &store->config;
	int r = layout_read(store->dir_fd, layout, config->path, why, why_size);

	*create = r == -ENOENT;
	if (*create) {
		layout->format = LAYOUT_FORMAT;
		layout->segment_bytes = config->segment_bytes ? config->segment_bytes
		                                              : layout_segment_bytes(config->ceiling_bytes);
		layout->segment_bytes = record_block_ceiling(layout->segment_bytes);
		ring_random(store->ring, &layout->secret, sizeof(layout->secret));
		r = layout_prepare(store->dir_fd);
	}
	if (r)
		return r;
	store->secret = layout->secret;
	store->segment_bytes = layout->segment_bytes;
	store->ceiling_bytes = usable_ceiling(store);
	store->map_bytes = layout_map_bytes(config->ceiling_bytes);
	store->segments_max = layout_segments_max(config->ceiling_bytes, layout->segment_bytes);
	if (store->segments_max < STORE_SEGMENTS_LEAST) {
		say_too_low(config, layout, *create, why, why_size);
		return ERR_RAISE(-EINVAL);
	}
	if (layout->segment_bytes < RECORD_BLOCK_BYTES + record_block_ceiling(record_bytes(STORE_BLOB_BYTES_MAX)) ||
	    layout->segment_bytes > UINT32_MAX) {
		snprintf(why, why_size, "segments of %llu bytes are not possible", (unsigned long long)layout->segment_bytes);
		return ERR_RAISE(-EINVAL);
	}
	return 0;
}

static int store_make_parts(struct store *store)
{
	int r;

	store->segments = calloc(store->segments_max, sizeof(*store->segments));
	if (!store->segments)
		return ERR_RAISE(-ENOMEM);
	for (uint32_t i = 0; i < store->segments_max; i++) {
		store->segments[i].store = store;
		store->segments[i].number = i;
		store->segments[i].read_fd = store->segments[i].write_fd = -1;
	}
	r = commit_init(&store->commit, store);
	if (!r)
		r = writer_init(&store->writer, store, store->config.slots);
	if (!r)
		r = evict_init(&store->evict, store);
	if (!r)
		r = tidy_init(&store->tidy);
	if (!r)
		r = puts_init(&store->puts, store);
	if (!r)
		r = reads_init(&store->reads, store);
	if (!r)
		r = lookups_init(&store->lookups, store);
	if (!r)
		r = marks_init(&store->marks, store);
	return r;
}

static void store_destroy(struct store *store)
{
	marks_fini(&store->marks);
	lookups_fini(&store->lookups);
	reads_fini(&store->reads);
	puts_fini(&store->puts);
	tidy_fini(&store->tidy);
	evict_fini(&store->evict);
	writer_fini(&store->writer);
	commit_fini(&store->commit);
	holds_fini(&store->holds);
	scopes_fini(&store->scopes);
	pending_fini(&store->generations[0].pending);
	pending_fini(&store->generations[1].pending);
	for (uint32_t i = 0; store->segments && i < store->segments_max; i++)
		segment_close(&store->segments[i]);
	free(store->segments);
	if (store->index)
		store->engine->close(store->index);
	if (store->lock_fd >= 0)
		close(store->lock_fd);
	if (store->dir_fd >= 0)
		close(store->dir_fd);
	free(store);
}

static int store_open_all(struct store *store, char *why, size_t why_size)
{
	struct layout layout = { 0 };
	bool create;
	int r;

	r = store->dir_fd = layout_open(store->config.path, true);
	if (r < 0)
		return r;
	r = store->lock_fd = layout_lock(store->dir_fd, store->config.path, why, why_size);
	if (r == -EBUSY && why_size)
		snprintf(why + strlen(why), why_size - strlen(why), "; stop it, or give another --store");
	if (r < 0)
		return r;
	r = store_open_layout(store, &layout, &create, why, why_size);
	if (!r)
		r = store_make_parts(store);
	if (!r)
		r = store_open_index(store, create, why, why_size);
	if (!r)
		r = store_load(store, why, why_size);
	if (!r) {
		r = scopes_load(&store->scopes, store->dir_fd, create);
		if (r)
			snprintf(why, why_size, "%s/scopes, the tenants' numbers, cannot be read (%s); run sluice fsck",
			         store->config.path, err_text(r));
	}
	if (!r && create)
		r = layout_write(store->dir_fd, &layout);
	return r;
}

int store_open(struct store **out, struct ring *ring, const struct store_config *config, char *why, size_t why_size)
{
	struct store *store = calloc(1, sizeof(*store));
	char error[USER_ERROR_BYTES];
	int r;

	if (!store)
		return ERR_RAISE(-ENOMEM);
	store->ring = ring;
	store->config = *config;
	store->engine = config->index ? config->index : &index_lmdb;
	store->dir_fd = store->lock_fd = store->scopes.fd = -1;
	if (!store->config.commit_interval_ns)
		store->config.commit_interval_ns = STORE_INTERVAL_NS;
	if (!store->config.slots)
		store->config.slots = STORE_SLOTS;
	if (why_size)
		why[0] = 0;
	r = store_open_all(store, why, why_size);
	if (r < 0) {
		if (why_size && !why[0])
			snprintf(why, why_size, "the store %s cannot be opened: %s", config->path, user_error(r, error));
		store_destroy(store);
		return ERR_RAISE(r);
	}
	*out = store;
	return 0;
}

/* ---- closing ---- */

static bool store_quiet(const struct store *store)
{
	bool busy = store->paused || store->reads.active || store->lookups.resolving || store->marks.getting ||
	            store->puts.state == PUTS_RESOLVING || store->space.state != SPACE_IDLE || store->commit.syncing ||
	            store->tidy.state != TIDY_IDLE || !writer_idle(&store->writer) || op_in_flight(&store->commit.timer) ||
	            store->evict.scanning || store->evict.applying || store->evict.reading;

	if (busy || (store->commit.state == COMMIT_INDEXING && !store->commit.applied))
		return false;
	if (store->failed)
		return true;
	return store->commit.state == COMMIT_IDLE && store->evict.state == EVICT_IDLE &&
	       generation_empty(store_open_generation(store));
}

/* By a post, so that nobody up the stack has anything to do with the store any more. */
static void store_on_closed(struct post *post)
{
	struct store *store = container_of(post, struct store, close);
	void (*closed)(void *context) = store->closed;
	void *context = store->closed_context;

	CHECK(store_quiet(store));
	store_destroy(store);
	closed(context);
}

static void store_close_step(struct store *store)
{
	if (op_in_flight(&store->commit.timer) && !store->commit.timer.cancelled)
		ring_cancel(store->ring, &store->commit.timer);
	if (store->close.fn || !store_quiet(store))
		return;
	store->close.fn = store_on_closed;
	ring_post(store->ring, &store->close);
}

void store_close(struct store *store, void (*fn)(void *context), void *context)
{
	CHECK(!store->closing);
	CHECK(list_empty(&store->puts.queue));
	CHECK(list_empty(&store->holds.list));
	store->closing = true;
	store->closed = fn;
	store->closed_context = context;
	commit_want(store);
	store_step(store);
}

void store_status(const struct store *store, struct store_status *status)
{
	*status = store->status;
	status->ceiling_bytes = store->ceiling_bytes;
	status->segment_bytes = store->segment_bytes;
	status->segments_max = store->segments_max;
	status->segments_used = 0;
	status->bytes_live = 0;
	for (uint32_t i = 0; i < store->segments_max; i++) {
		enum segment_state state = store->segments[i].row.state;

		if (state != SEGMENT_OPEN && state != SEGMENT_SEALED && state != SEGMENT_EVICTING)
			continue;
		status->segments_used++;
		status->bytes_live += store->segments[i].tail;
	}
	status->index_bytes = store->usage.used_bytes;
	status->blobs = store->usage.blobs;
	status->marks = store->usage.marks;
	status->pending_blobs = store->generations[0].pending.count + store->generations[1].pending.count;
	status->slots_waits = store->writer.waits;
	status->holds = store->holds.count;
	status->failed = store->failed != 0;
}
