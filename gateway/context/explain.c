/* Costs by row, and the former scan to compare with. */
#include "gateway/context/explain.h"

#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/finder.h"
#include "proto/zstd_message.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define NAME_BYTES   42                  /* of a blob in a pack: digest, size, tags; nothing that compresses */
#define WEIGHT_LEVEL 1                   /* zstd, for weighing */

struct cost {
	uint64_t sent, raw;
	uint32_t chunks, evicted;
};

struct explain {
	struct manifest *manifest;
	const struct table *table, *former;      /* former NULL: nothing to compare with */
	struct span gateway_id;
	struct cost *costs;                      /* a row each */
	uint8_t *whys;                           /* enum explain_why, a row each */
	uint8_t *gone;                           /* a former row each: it was removed */
	struct buffer scratch;
	/* What explain_finish() made. */
	struct explain_entry *entries;
	size_t count, capacity;
	struct explain_totals totals;
};

/* ---- comparing with the former scan ---- */

static bool same_xattrs(const struct explain *explain, const struct table_row *now, const struct table_row *then)
{
	struct tree_xattr xattrs[2][TREE_XATTRS_MAX];
	size_t count;

	if (!now->xattrs && !then->xattrs)
		return true;
	count = table_xattrs(explain->table, now, xattrs[0]);
	if (count == SIZE_MAX || count != table_xattrs(explain->former, then, xattrs[1]))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!span_equal(xattrs[0][i].name, xattrs[1][i].name) || !span_equal(xattrs[0][i].value, xattrs[1][i].value))
			return false;
	return true;
}

static bool same_content(const struct explain *explain, const struct table_row *now, const struct table_row *then)
{
	struct digest digests[2];

	switch (now->mode & S_IFMT) {
	case S_IFREG:
		digests[0] = table_row_digest(explain->table, now);
		digests[1] = table_row_digest(explain->former, then);
		return digest_equal(&digests[0], &digests[1]);
	case S_IFLNK:
		return span_equal(table_target(explain->table, now), table_target(explain->former, then));
	case S_IFDIR:
		digests[0] = table_directory_digest(&explain->table->directories[now->link]);
		digests[1] = table_directory_digest(&explain->former->directories[then->link]);
		return digest_equal(&digests[0], &digests[1]);
	}
	return true;
}

static enum explain_why compare_rows(const struct explain *explain, const struct table_row *now, const struct table_row *then)
{
	bool attributes = !S_ISLNK(now->mode), directory = S_ISDIR(now->mode);

	if ((now->mode & S_IFMT) != (then->mode & S_IFMT))
		return EXPLAIN_RETYPED;
	/* A directory's own mode is in its message, so the message would hide it. */
	if (!directory && !same_content(explain, now, then))
		return EXPLAIN_EDITED;
	if (attributes && (now->mode & 07777) != (then->mode & 07777))
		return EXPLAIN_MODE;
	if (attributes && !same_xattrs(explain, now, then))
		return EXPLAIN_XATTRS;
	return directory && !same_content(explain, now, then) ? EXPLAIN_EDITED : EXPLAIN_UNCHANGED;
}

/* The former directory in the place of each directory of the table. */
static uint32_t former_directory(const struct explain *explain, uint32_t row)
{
	const struct table_row *then = row == TABLE_NONE ? NULL : &explain->former->rows[row];

	return then && S_ISDIR(then->mode) && table_included(explain->former, then) ? then->link : TABLE_NONE;
}

static void compare_row(struct explain *explain, uint32_t row, uint32_t found, uint32_t *directories)
{
	const struct table_row *now = &explain->table->rows[row];
	const struct table_row *then = found == TABLE_NONE ? NULL : &explain->former->rows[found];

	if (!table_included(explain->table, now))
		return;
	if (S_ISDIR(now->mode))
		directories[now->link] = former_directory(explain, found);
	if (!then || !table_included(explain->former, then)) {
		explain->whys[row] = EXPLAIN_NEW;
		return;
	}
	explain->gone[found] = false;
	explain->whys[row] = (uint8_t)compare_rows(explain, now, then);
}

/* Directories come after their parents, so the place of each is known when its turn comes. */
static int compare_directory(struct explain *explain, struct finder *finder, uint32_t number, uint32_t *directories)
{
	const struct table_directory *directory = &explain->table->directories[number], *then;
	uint32_t former = directories[number];

	finder_begin(finder, explain->former, former);
	then = former == TABLE_NONE ? NULL : &explain->former->directories[former];
	for (uint32_t i = 0; then && i < then->count; i++)
		explain->gone[then->first + i] = table_included(explain->former, &explain->former->rows[then->first + i]);
	for (uint32_t i = 0; i < directory->count; i++) {
		uint32_t row = directory->first + i, found = TABLE_NONE;
		int r = finder_find(finder, explain->former, table_name(explain->table, &explain->table->rows[row]), &found);

		if (r)
			return r;
		compare_row(explain, row, found, directories);
	}
	return 0;
}

static int compare(struct explain *explain)
{
	uint32_t count = explain->table->directories_count;
	CLEANUP(free_p) uint32_t *directories = malloc(count * sizeof(*directories));
	struct finder finder = { 0 };
	int r = 0;

	if (!directories)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		directories[i] = TABLE_NONE;
	compare_row(explain, 0, 0, directories);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = compare_directory(explain, &finder, i, directories);
	finder_fini(&finder);
	return r;
}

int explain_create(struct explain **out, struct manifest *manifest, struct span gateway_id)
{
	struct explain *explain = calloc(1, sizeof(*explain));
	int r = -ENOMEM;

	if (!explain)
		return ERR_RAISE(-ENOMEM);
	explain->manifest = manifest;
	explain->table = manifest_table(manifest);
	explain->gateway_id = gateway_id;
	explain->scratch = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX + 4096);
	if (manifest_committed_to(manifest, gateway_id))
		explain->former = manifest_former_table(manifest);
	explain->costs = calloc(explain->table->rows_count, sizeof(*explain->costs));
	explain->whys = calloc(explain->table->rows_count, sizeof(*explain->whys));
	explain->gone = calloc(explain->former ? explain->former->rows_count : 1, sizeof(*explain->gone));
	if (explain->costs && explain->whys && explain->gone)
		r = explain->former ? compare(explain) : 0;
	if (r) {
		explain_destroy(explain);
		return ERR_RAISE(r);
	}
	*out = explain;
	return 0;
}

void explain_destroy(struct explain *explain)
{
	if (!explain)
		return;
	for (size_t i = 0; i < explain->count; i++)
		free((void *)explain->entries[i].path);
	free(explain->entries);
	free(explain->costs);
	free(explain->whys);
	free(explain->gone);
	buffer_fini(&explain->scratch);
	free(explain);
}

/* ---- packs ---- */

static uint64_t weigh(struct explain *explain, const struct upload_piece *piece, bool compressed)
{
	uint64_t bytes = piece->bytes.size;

	if (compressed && zstd_message_deflate(&explain->scratch, piece->bytes, WEIGHT_LEVEL))
		bytes = explain->scratch.size;
	return bytes + NAME_BYTES * (piece->delta ? 2 : 1);      /* and a base's */
}

static void charge(struct explain *explain, const struct digest *blob, uint64_t bytes)
{
	enum lookup_kind kind;
	struct cost *cost;
	uint32_t row;

	/* A blob of no entry is not sent, and without memory the root pays: the sum stays right. */
	if (manifest_find(explain->manifest, blob, &row, &kind)) {
		row = 0;
		kind = LOOKUP_DIRECTORY;
	}
	cost = &explain->costs[row];
	cost->sent += bytes;
	cost->raw += blob->size;
	cost->chunks += kind == LOOKUP_WHOLE || kind == LOOKUP_CHUNK;
	cost->evicted += manifest_known(explain->manifest, explain->gateway_id, blob);
}

void explain_on_pack(void *context, const struct upload_piece *pieces, size_t count, uint64_t wire_bytes)
{
	struct explain *explain = context;
	CLEANUP(free_p) uint64_t *weights = malloc((count + 1) * sizeof(*weights));
	uint64_t raw = 0, total = 0, before = 0, weight = 0;

	for (size_t i = 0; i < count; i++)
		raw += pieces[i].bytes.size;
	for (size_t i = 0; weights && i < count; i++) {
		weights[i] = weigh(explain, &pieces[i], wire_bytes < raw);
		total += weights[i];
	}
	for (size_t i = 0; i < count; i++) {
		uint64_t until;

		weight += weights ? weights[i] : 0;
		/* Neither is longer than two messages, so the product fits. The last one gets what is left. */
		until = i + 1 == count ? wire_bytes : total ? wire_bytes * weight / total : 0;
		charge(explain, &pieces[i].digest, until - before);
		before = until;
	}
}

/* ---- the list ---- */

static char *path_of(const struct table *table, uint32_t row)
{
	struct buffer path = buffer_heap(TABLE_PATH_BYTES_MAX + 1);
	char *text;

	table_path(table, row, &path);
	buffer_put(&path, "", 1);
	text = path.failed ? NULL : strdup((const char *)path.data);
	buffer_fini(&path);
	return text;
}

static struct explain_entry *add_entry(struct explain *explain, const struct table *table, uint32_t row)
{
	struct explain_entry *entry;
	char *path;

	if (explain->count == explain->capacity) {
		size_t capacity = explain->capacity ? 2 * explain->capacity : 64;
		struct explain_entry *grown = realloc(explain->entries, capacity * sizeof(*grown));

		if (!grown)
			return NULL;
		explain->entries = grown;
		explain->capacity = capacity;
	}
	path = path_of(table, row);
	if (!path)
		return NULL;
	entry = &explain->entries[explain->count++];
	*entry = (struct explain_entry){ .path = path, .directory = S_ISDIR(table->rows[row].mode) };
	return entry;
}

/* What was sent without a change needs another reason. */
static enum explain_why reason(const struct explain *explain, uint32_t row)
{
	enum explain_why why = explain->whys[row];
	const struct cost *cost = &explain->costs[row];

	if (why != EXPLAIN_UNCHANGED || cost->sent == 0)
		return why;
	return cost->evicted ? EXPLAIN_EVICTED : EXPLAIN_NEVER_SEEN;
}

/* A directory in which something differs shows by what that is, unless its message was sent. */
static bool is_told(const struct explain *explain, uint32_t row, enum explain_why why)
{
	bool directory = S_ISDIR(explain->table->rows[row].mode);

	if (explain->costs[row].sent)
		return true;
	return why != EXPLAIN_UNCHANGED && !(directory && why == EXPLAIN_EDITED);
}

static void add_totals(struct explain_totals *totals, const struct explain_entry *entry)
{
	totals->bytes_raw += entry->bytes_raw;
	totals->evicted += entry->blobs_evicted;
	if (entry->directory) {
		totals->directories += entry->bytes_sent > 0;
		totals->directories_bytes += entry->bytes_sent;
	} else {
		totals->files += entry->bytes_sent > 0;
		totals->files_bytes += entry->bytes_sent;
	}
}

static int add_present(struct explain *explain, uint32_t number)
{
	const struct table *table = explain->table;
	const struct table_row *row = &table->rows[number];
	const struct cost *cost = &explain->costs[number];
	enum explain_why why = reason(explain, number);
	struct explain_entry *entry;

	if (!is_told(explain, number, why))
		return 0;
	entry = add_entry(explain, table, number);
	if (!entry)
		return -ENOMEM;
	entry->why = why;
	entry->bytes_sent = cost->sent;
	entry->bytes_raw = cost->raw;
	entry->chunks_sent = cost->chunks;
	entry->blobs_evicted = cost->evicted;
	if (entry->directory) {
		entry->bytes = table->directories[row->link].size;
	} else if (S_ISREG(row->mode)) {
		entry->bytes = row->size;
		entry->chunks = row->flags & TABLE_ROW_RECIPE ? table->recipes[row->link].count : row->size > 0;
	}
	add_totals(&explain->totals, entry);
	return 0;
}

static int add_removed(struct explain *explain, uint32_t number)
{
	struct explain_entry *entry = add_entry(explain, explain->former, number);

	if (!entry)
		return -ENOMEM;
	entry->why = EXPLAIN_REMOVED;
	return 0;
}

static int by_cost(const void *a, const void *b)
{
	const struct explain_entry *one = a, *other = b;

	if (one->bytes_sent != other->bytes_sent)
		return one->bytes_sent > other->bytes_sent ? -1 : 1;
	return strcmp(one->path, other->path);
}

int explain_finish(struct explain *explain)
{
	int r = 0;

	CHECK(explain->count == 0);
	for (uint32_t i = 0; r == 0 && i < explain->table->rows_count; i++)
		if (i == 0 || table_included(explain->table, &explain->table->rows[i]))
			r = add_present(explain, i);
	for (uint32_t i = 1; r == 0 && explain->former && i < explain->former->rows_count; i++)
		if (explain->gone[i])
			r = add_removed(explain, i);
	if (explain->count)
		qsort(explain->entries, explain->count, sizeof(*explain->entries), by_cost);
	return r ? ERR_RAISE(r) : 0;
}

const struct explain_entry *explain_entries(const struct explain *explain, size_t *count)
{
	*count = explain->count;
	return explain->entries;
}

const struct explain_totals *explain_totals(const struct explain *explain)
{
	return &explain->totals;
}

bool explain_compared(const struct explain *explain)
{
	return explain->former != NULL;
}
