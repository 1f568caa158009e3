/* difference: a walk over pairs of directories, newest found first, in batches that one fetch serves. */
#include "gateway/context/difference.h"

#include "gateway/base/check.h"
#include "gateway/context/why.h"

#include <errno.h>
#include <stdlib.h>

/* With so much waiting, directories are read one by one: then depth times fan-out bounds what waits. */
#define WAITING_BYTES_HIGH (16u << 20)
#define ARENA_BLOCK_BYTES  65536

/* Copies that live until the pair of directories at hand is done. */
struct arena_block {
	struct arena_block *next;
	size_t used, capacity;
	_Alignas(16) uint8_t data[];
};

struct arena {
	struct arena_block *blocks;
};

/* A directory found and not yet read: in one tree or in both. */
struct waiting {
	struct waiting *next;
	bool has_before, has_after;
	bool type_changed;
	uint16_t depth;
	struct digest before, after;
	size_t path_size;
	char path[];
};

/* One side of a pair, read. */
struct side {
	struct tree_reader reader;
	bool open;
	struct tree_node *nodes;         /* sorted by name */
	size_t count, capacity;
	uint64_t entries;                /* of all its directories */
};

struct walk {
	const struct difference_options *options;
	struct difference_totals *totals;
	struct why why;
	struct waiting *waiting;         /* a stack */
	size_t waiting_bytes;
	struct arena arena;
	struct side before, after;
};

/* What one fetch brings: for each waiting directory up to two messages. */
struct batch {
	struct waiting *items[DIFFERENCE_BATCH_COUNT];
	size_t count;
	struct digest digests[2 * DIFFERENCE_BATCH_COUNT];
	struct span *targets[2 * DIFFERENCE_BATCH_COUNT];
	size_t digests_count;
	struct span before[DIFFERENCE_BATCH_COUNT], after[DIFFERENCE_BATCH_COUNT];
};

static void *arena_take(struct arena *arena, size_t size)
{
	struct arena_block *block = arena->blocks;
	size_t rounded = (size + 15) & ~(size_t)15;

	if (!block || block->capacity - block->used < rounded) {
		size_t capacity = rounded > ARENA_BLOCK_BYTES ? rounded : ARENA_BLOCK_BYTES;

		block = malloc(sizeof(*block) + capacity);
		if (!block)
			return NULL;
		*block = (struct arena_block){ .next = arena->blocks, .capacity = capacity };
		arena->blocks = block;
	}
	block->used += rounded;
	return block->data + block->used - rounded;
}

/* Keeps one block for the next pair: most fit into it. */
static void arena_reset(struct arena *arena, bool keep)
{
	struct arena_block *kept = NULL;

	while (arena->blocks) {
		struct arena_block *block = arena->blocks;

		arena->blocks = block->next;
		if (keep && !kept && block->capacity == ARENA_BLOCK_BYTES)
			kept = block;
		else
			free(block);
	}
	if (kept) {
		kept->next = NULL;
		kept->used = 0;
		arena->blocks = kept;
	}
}

static bool arena_copy(struct arena *arena, struct span *span)
{
	void *copy;

	if (!span->size)
		return true;
	copy = arena_take(arena, span->size);
	if (!copy)
		return false;
	memcpy(copy, span->data, span->size);
	span->data = copy;
	return true;
}

/* The reader lends what a node points to until its next call only. */
static bool node_keep(struct arena *arena, struct tree_node *node)
{
	struct tree_xattr *xattrs;

	if (!arena_copy(arena, &node->name) || !arena_copy(arena, &node->target) || !arena_copy(arena, &node->hardlink))
		return false;
	if (!node->xattrs_count)
		return true;
	xattrs = arena_take(arena, node->xattrs_count * sizeof(*xattrs));
	if (!xattrs)
		return false;
	for (size_t i = 0; i < node->xattrs_count; i++) {
		xattrs[i] = node->xattrs[i];
		if (!arena_copy(arena, &xattrs[i].name) || !arena_copy(arena, &xattrs[i].value))
			return false;
	}
	node->xattrs = xattrs;
	return true;
}

static int compare_names(const void *a, const void *b)
{
	return span_compare(((const struct tree_node *)a)->name, ((const struct tree_node *)b)->name);
}

static int side_add(struct walk *walk, struct side *side, struct tree_node *node)
{
	if (side->count == side->capacity) {
		size_t capacity = side->capacity ? 2 * side->capacity : 64;
		struct tree_node *grown = realloc(side->nodes, capacity * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		side->nodes = grown;
		side->capacity = capacity;
	}
	if (!node_keep(&walk->arena, node))
		return -ENOMEM;
	side->nodes[side->count++] = *node;
	return 0;
}

static int side_read(struct walk *walk, struct side *side, const char *path, struct span blob)
{
	struct tree_node node;
	bool good = tree_open(&side->reader, blob);

	side->open = true;
	side->count = 0;
	while (good && tree_next(&side->reader, &node)) {
		walk->totals->entries++;
		if (++side->entries > DIFFERENCE_ENTRIES_MAX)
			return WHY_RAISE(walk->why, -E2BIG, path, "the tree has more than %d entries", DIFFERENCE_ENTRIES_MAX);
		if (side_add(walk, side, &node))
			return ERR_RAISE(-ENOMEM);
	}
	if (side->reader.failed)
		return WHY_RAISE(walk->why, -EBADMSG, path, "malformed directory: %s",
		               side->reader.fault ? side->reader.fault : "not a Directory message");
	if (side->count)                         /* qsort takes no NULL */
		qsort(side->nodes, side->count, sizeof(*side->nodes), compare_names);
	for (size_t i = 1; i < side->count; i++) {
		if (span_equal(side->nodes[i - 1].name, side->nodes[i].name))
			return WHY_RAISE(walk->why, -EBADMSG, path, "malformed directory: twice the same name");
	}
	return 0;
}

static void side_reset(struct side *side)
{
	if (side->open)
		tree_close(&side->reader);
	side->open = false;
	side->count = 0;
}

static int waiting_push(struct walk *walk, const struct waiting *parent, const char *path, const struct tree_node *before,
                        const struct tree_node *after, bool type_changed)
{
	size_t path_size = strlen(path);
	size_t bytes = sizeof(struct waiting) + path_size + 1;
	struct waiting *item;

	if (parent && parent->depth >= TREE_DEPTH_MAX)
		return WHY_RAISE(walk->why, -ENAMETOOLONG, path, "deeper than %d directories", TREE_DEPTH_MAX);
	if (walk->waiting_bytes + bytes > DIFFERENCE_WAITING_BYTES_MAX)
		return WHY_RAISE(walk->why, -E2BIG, path, "too many directories wait to be read");
	item = malloc(bytes);
	if (!item)
		return ERR_RAISE(-ENOMEM);
	*item = (struct waiting){ .next = walk->waiting, .has_before = before, .has_after = after,
		                  .type_changed = type_changed, .path_size = path_size,
		                  .depth = parent ? (uint16_t)(parent->depth + 1) : 0 };
	if (before)
		item->before = before->digest;
	if (after)
		item->after = after->digest;
	memcpy(item->path, path, path_size + 1);
	walk->waiting = item;
	walk->waiting_bytes += bytes;
	return 0;
}

static int child_path(struct walk *walk, const struct waiting *parent, struct span name, char path[static TREE_PATH_MAX + 1])
{
	size_t slash = parent->path_size ? 1 : 0;

	CHECK(name.size > 0 && name.size <= TREE_NAME_MAX);
	if (parent->path_size + slash + name.size > TREE_PATH_MAX)
		return WHY_RAISE(walk->why, -ENAMETOOLONG, parent->path, "a path below is longer than %d bytes", TREE_PATH_MAX);
	memcpy(path, parent->path, parent->path_size);
	if (slash)
		path[parent->path_size] = '/';
	memcpy(path + parent->path_size + slash, name.data, name.size);
	path[parent->path_size + slash + name.size] = 0;
	return 0;
}

static bool xattrs_equal(const struct tree_xattr *a, size_t a_count, const struct tree_xattr *b, size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++) {
		if (!span_equal(a[i].name, b[i].name) || !span_equal(a[i].value, b[i].value))
			return false;
	}
	return true;
}

/* Of two nodes of one kind that are no directories. */
static uint32_t compare_nodes(const struct tree_node *a, const struct tree_node *b)
{
	uint32_t kinds = 0;

	if (a->kind == TREE_FILE && (!digest_equal(&a->digest, &b->digest) || a->recipe != b->recipe))
		kinds |= DIFFERENCE_CONTENT;
	if (a->kind == TREE_SYMLINK && !span_equal(a->target, b->target))
		kinds |= DIFFERENCE_CONTENT;
	if (a->major != b->major || a->minor != b->minor)
		kinds |= DIFFERENCE_CONTENT;
	if (a->kind != TREE_SYMLINK && a->mode != b->mode)
		kinds |= DIFFERENCE_MODE;
	if (!xattrs_equal(a->xattrs, a->xattrs_count, b->xattrs, b->xattrs_count))
		kinds |= DIFFERENCE_XATTRS;
	if (!span_equal(a->hardlink, b->hardlink))
		kinds |= DIFFERENCE_HARDLINK;
	return kinds;
}

static int report(struct walk *walk, const struct difference_change *change)
{
	return change->kinds ? walk->options->visit(walk->options->context, change) : 0;
}

static int node_removed(struct walk *walk, const struct waiting *item, const char *path, const struct tree_node *node,
                        uint32_t type)
{
	if (node->kind == TREE_DIRECTORY && walk->options->inside_removed)
		return waiting_push(walk, item, path, node, NULL, type);
	return report(walk, &(struct difference_change){ .path = path, .kinds = DIFFERENCE_REMOVED | type, .before = node });
}

static int node_added(struct walk *walk, const struct waiting *item, const char *path, const struct tree_node *node,
                      uint32_t type)
{
	if (node->kind == TREE_DIRECTORY)
		return waiting_push(walk, item, path, NULL, node, type);
	return report(walk, &(struct difference_change){ .path = path, .kinds = DIFFERENCE_ADDED | type, .after = node });
}

static int node_both(struct walk *walk, const struct waiting *item, const char *path, const struct tree_node *before,
                     const struct tree_node *after)
{
	if (before->kind != after->kind) {
		int r = node_removed(walk, item, path, before, DIFFERENCE_TYPE);

		return r ? r : node_added(walk, item, path, after, DIFFERENCE_TYPE);
	}
	if (after->kind != TREE_DIRECTORY)
		return report(walk, &(struct difference_change){ .path = path, .kinds = compare_nodes(before, after),
			                                         .before = before, .after = after });
	if (!digest_equal(&before->digest, &after->digest))
		return waiting_push(walk, item, path, before, after, false);
	walk->totals->directories_same++;
	return 0;
}

/* Two sorted lists of names side by side; a name in one of them only was removed or added. */
static int merge(struct walk *walk, const struct waiting *item)
{
	char path[TREE_PATH_MAX + 1];
	size_t b = 0, a = 0;
	int r = 0;

	while (!r && (b < walk->before.count || a < walk->after.count)) {
		const struct tree_node *before = b < walk->before.count ? &walk->before.nodes[b] : NULL;
		const struct tree_node *after = a < walk->after.count ? &walk->after.nodes[a] : NULL;
		int order = !before ? 1 : !after ? -1 : span_compare(before->name, after->name);

		r = child_path(walk, item, order <= 0 ? before->name : after->name, path);
		if (r)
			return r;
		if (order == 0)
			r = node_both(walk, item, path, before, after);
		else
			r = order < 0 ? node_removed(walk, item, path, before, 0) : node_added(walk, item, path, after, 0);
		b += order <= 0;
		a += order >= 0;
	}
	return r;
}

/* What a directory says of itself differs, or it is there on one side only. */
static uint32_t directory_kinds(const struct walk *walk, const struct waiting *item)
{
	const struct tree_directory *before = &walk->before.reader.directory, *after = &walk->after.reader.directory;
	uint32_t kinds = DIFFERENCE_INSIDE;

	if (!item->has_before)
		return DIFFERENCE_ADDED | (item->type_changed ? DIFFERENCE_TYPE : 0);
	if (!item->has_after)
		return DIFFERENCE_REMOVED | (item->type_changed ? DIFFERENCE_TYPE : 0);
	if (before->mode != after->mode)
		kinds |= DIFFERENCE_MODE;
	if (!xattrs_equal(before->xattrs, before->xattrs_count, after->xattrs, after->xattrs_count))
		kinds |= DIFFERENCE_XATTRS;
	return kinds;
}

static int report_directory(struct walk *walk, const struct waiting *item)
{
	const char *slash = strrchr(item->path, '/');
	struct span name = span_text(slash ? slash + 1 : item->path);
	struct tree_node before = { .kind = TREE_DIRECTORY, .name = name, .digest = item->before };
	struct tree_node after = { .kind = TREE_DIRECTORY, .name = name, .digest = item->after };

	return report(walk, &(struct difference_change){
		.path = item->path,
		.kinds = directory_kinds(walk, item),
		.before = item->has_before ? &before : NULL,
		.after = item->has_after ? &after : NULL,
		.directory_before = item->has_before ? &walk->before.reader.directory : NULL,
		.directory_after = item->has_after ? &walk->after.reader.directory : NULL,
	});
}

static int pair_process(struct walk *walk, const struct waiting *item, struct span before, struct span after)
{
	int r = 0;

	walk->totals->directories_read++;
	if (item->has_before)
		r = side_read(walk, &walk->before, item->path, before);
	if (!r && item->has_after)
		r = side_read(walk, &walk->after, item->path, after);
	if (!r)
		r = report_directory(walk, item);
	if (!r)
		r = merge(walk, item);
	side_reset(&walk->before);
	side_reset(&walk->after);
	arena_reset(&walk->arena, true);
	return r;
}

static int batch_on_blob(void *context, size_t index, struct span blob)
{
	struct batch *batch = context;
	uint8_t *copy = malloc(blob.size ? blob.size : 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, blob.data, blob.size);
	free((void *)batch->targets[index]->data);
	*batch->targets[index] = span_make(copy, blob.size);
	return 0;
}

/* The empty message is the empty directory of default mode: known without asking. */
static int batch_want(struct walk *walk, struct batch *batch, const char *path, const struct digest *digest, struct span *target)
{
	if (digest->size > TREE_DIRECTORY_BYTES_MAX)
		return WHY_RAISE(walk->why, -EBADMSG, path, "malformed directory: longer than %u bytes", TREE_DIRECTORY_BYTES_MAX);
	if (digest->size == 0)
		return 0;
	batch->digests[batch->digests_count] = *digest;
	batch->targets[batch->digests_count++] = target;
	return 0;
}

static int batch_want_all(struct walk *walk, struct batch *batch, bool before)
{
	int r = 0;

	batch->digests_count = 0;
	for (size_t i = 0; i < batch->count && !r; i++) {
		const struct waiting *item = batch->items[i];

		if (item->has_after)
			r = batch_want(walk, batch, item->path, &item->after, &batch->after[i]);
		if (!r && item->has_before && before)
			r = batch_want(walk, batch, item->path, &item->before, &batch->before[i]);
	}
	return r;
}

static int batch_fetch_wanted(struct walk *walk, struct batch *batch)
{
	struct source *source = walk->options->source;

	if (batch->digests_count == 0)
		return 0;
	return source->fetch(source, batch->digests, batch->digests_count, batch_on_blob, batch, walk->why.text, walk->why.size);
}

/* When something is missing, a second fetch tells on which side: an old tree may be gone, and the caller can do without. */
static int batch_fetch(struct walk *walk, struct batch *batch)
{
	int r = batch_want_all(walk, batch, true);

	if (!r)
		r = batch_fetch_wanted(walk, batch);
	if (r != -ENOENT || !walk->options->before)
		return r;
	r = batch_want_all(walk, batch, false);
	if (!r)
		r = batch_fetch_wanted(walk, batch);
	return r ? r : -ESTALE;
}

static void batch_fill(struct walk *walk, struct batch *batch)
{
	size_t count_max = walk->waiting_bytes > WAITING_BYTES_HIGH ? 1 : DIFFERENCE_BATCH_COUNT;
	uint64_t bytes = 0;

	batch->count = 0;
	while (walk->waiting && batch->count < count_max) {
		struct waiting *item = walk->waiting;

		bytes += (item->has_before ? item->before.size : 0) + (item->has_after ? item->after.size : 0);
		if (batch->count && bytes > DIFFERENCE_BATCH_BYTES)
			break;
		walk->waiting = item->next;
		walk->waiting_bytes -= sizeof(*item) + item->path_size + 1;
		batch->before[batch->count] = batch->after[batch->count] = (struct span){ 0 };
		batch->items[batch->count++] = item;
	}
}

static void batch_clear(struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		free((void *)batch->before[i].data);
		free((void *)batch->after[i].data);
		free(batch->items[i]);
	}
	batch->count = 0;
}

static int walk_all(struct walk *walk, struct batch *batch)
{
	int r = 0;

	while (!r && walk->waiting) {
		batch_fill(walk, batch);
		r = batch_fetch(walk, batch);
		for (size_t i = 0; i < batch->count && !r; i++)
			r = pair_process(walk, batch->items[i], batch->before[i], batch->after[i]);
		batch_clear(batch);
	}
	return r;
}

static void walk_fini(struct walk *walk)
{
	while (walk->waiting) {
		struct waiting *item = walk->waiting;

		walk->waiting = item->next;
		free(item);
	}
	side_reset(&walk->before);
	side_reset(&walk->after);
	free(walk->before.nodes);
	free(walk->after.nodes);
	arena_reset(&walk->arena, false);
	free(walk);
}

int difference_walk(const struct difference_options *options, struct difference_totals *totals, char *why,
                    size_t why_size)
{
	struct difference_totals unused;
	struct tree_node before = { 0 }, after = { 0 };
	struct batch *batch;
	struct walk *walk;
	int r;

	CHECK(options->after && options->visit);
	totals = totals ? totals : &unused;
	*totals = (struct difference_totals){ 0 };
	if (why_size)
		*why = 0;
	if (options->before && digest_equal(options->before, options->after)) {
		totals->directories_same++;
		return 0;
	}
	walk = calloc(1, sizeof(*walk));
	batch = calloc(1, sizeof(*batch));
	if (!walk || !batch) {
		free(walk);
		free(batch);
		return ERR_RAISE(-ENOMEM);
	}
	*walk = (struct walk){ .options = options, .totals = totals, .why = { why, why_size } };
	after.digest = *options->after;
	if (options->before)
		before.digest = *options->before;
	r = waiting_push(walk, NULL, "", options->before ? &before : NULL, &after, false);
	if (!r)
		r = walk_all(walk, batch);
	free(batch);
	walk_fini(walk);
	return r;
}
