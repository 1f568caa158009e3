/*
 * The closure walk.
 *
 *	MARKS -> PLACES -> READING -> LEAVES -> (next level: MARKS) ... -> WRITING -> done
 *
 * Each phase handles the present level in batches; a completion may come inline, so one loop (walk_run) makes the
 * steps and handlers only note what happened. A directory that several parents share is one node of its level, so a
 * tree that repeats itself costs what it holds.
 */
#include "gateway/cas/closure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/cas/references.h"
#include "proto/sluice_v1.h"
#include "proto/tree.h"

#define CLOSURE_READS 8
#define CLOSURE_NONE  UINT32_MAX
#define CLOSURE_WHY_PATH_MAX 300         /* of a path in a sentence */

enum walk_phase {
	WALK_MARKS,                      /* which nodes of the level have a fresh mark? */
	WALK_PLACES,                     /* where are the others? */
	WALK_READING,                    /* read them; children become the next level, data blobs become leaves */
	WALK_LEAVES,                     /* where are the leaves? */
	WALK_WRITING,                    /* mark what was found whole */
	WALK_DONE,
};

struct closure_node {
	struct digest digest;
	enum store_kind kind;
	uint32_t parent;                 /* the first one; for paths */
	uint32_t name;                   /* offset in names */
	bool whole;                      /* a fresh mark: nothing below is looked at */
	bool hole;                       /* it or something below is missing */
	bool present;
};

struct closure_leaf {
	struct digest digest;
	uint32_t owner;
	uint32_t name;
};

struct closure_edge {
	uint32_t parent, child;
};

struct closure_read {
	struct closure_walk *walk;
	struct store_read read;
	uint32_t node;
	size_t buffer_size;
	bool busy;
};

struct closure_walk {
	struct closure *closure;
	enum walk_phase phase;
	bool running, waiting;
	uint64_t sequence;
	uint32_t depth;

	struct closure_node *nodes;
	uint8_t *rests;
	size_t nodes_count, nodes_capacity, rest_bytes;
	struct closure_edge *edges;
	size_t edges_count, edges_capacity;
	struct closure_leaf *leaves;
	size_t leaves_count, leaves_capacity;
	struct buffer names;
	size_t level_begin, level_end;
	uint32_t *table;                 /* of the level being gathered: open addressing over nodes */
	size_t table_size;

	size_t cursor;                   /* in the present phase: next node or leaf */
	size_t batch_begin;
	uint32_t reading;                /* node whose children are gathered now */
	struct closure_read reads[CLOSURE_READS];
	unsigned reads_busy;

	struct store_marks marks;
	struct store_lookup lookup;
	struct digest *digests;          /* STORE_BATCH_MAX each */
	uint32_t *places;
	uint32_t *batch_nodes;
	bool *wholes;
	uint8_t *batch_rests;
};

static uint8_t *walk_rest(struct closure_walk *walk, size_t node)
{
	return walk->rests + node * walk->rest_bytes;
}

static void walk_fail(struct closure_walk *walk, int result, const char *why)
{
	struct closure *closure = walk->closure;

	if (closure->result == CLOSURE_WHOLE || closure->result == CLOSURE_HOLES) {
		closure->result = result;
		snprintf(closure->why, sizeof(closure->why), "%s", why);
	}
	walk->phase = WALK_DONE;
}

/* ---- growing tables ---- */

static bool walk_grow(void **table, size_t *capacity, size_t count, size_t element, size_t max)
{
	size_t wanted = *capacity ? *capacity * 2 : 256;
	void *grown;

	if (count < *capacity)
		return true;
	if (count >= max)
		return false;
	grown = realloc(*table, wanted * element);
	if (!grown)
		return false;
	*table = grown;
	*capacity = wanted;
	return true;
}

static bool walk_grow_nodes(struct closure_walk *walk)
{
	size_t before = walk->nodes_capacity;
	uint8_t *rests;

	if (!walk_grow((void **)&walk->nodes, &walk->nodes_capacity, walk->nodes_count, sizeof(*walk->nodes), CLOSURE_NODES_MAX))
		return false;
	if (before == walk->nodes_capacity)
		return true;
	rests = realloc(walk->rests, walk->nodes_capacity * walk->rest_bytes);
	if (!rests)
		return false;
	memset(rests + before * walk->rest_bytes, 0, (walk->nodes_capacity - before) * walk->rest_bytes);
	walk->rests = rests;
	return true;
}

static uint32_t walk_name(struct closure_walk *walk, struct span name)
{
	uint32_t at = (uint32_t)walk->names.size;
	const uint8_t nul = 0;

	buffer_put(&walk->names, name.data, name.size);
	buffer_put(&walk->names, &nul, 1);
	return at;
}

/* ---- the table of the level being gathered ---- */

static uint64_t digest_key(const struct digest *digest)
{
	uint64_t key;

	memcpy(&key, digest->hash, sizeof(key));         /* SHA-256 is as good a hash as any table wants */
	return key;
}

static void table_put(struct closure_walk *walk, uint32_t node)
{
	size_t i = digest_key(&walk->nodes[node].digest) & (walk->table_size - 1);

	while (walk->table[i] != CLOSURE_NONE)
		i = (i + 1) & (walk->table_size - 1);
	walk->table[i] = node;
}

static bool table_fit(struct closure_walk *walk)
{
	size_t count = walk->nodes_count - walk->level_end;
	size_t size = walk->table_size ? walk->table_size : 256;

	if (walk->table_size && count * 2 < walk->table_size)
		return true;
	if (walk->table_size)
		size *= 2;
	free(walk->table);
	walk->table = malloc(size * sizeof(*walk->table));
	if (!walk->table)
		return false;
	walk->table_size = size;
	memset(walk->table, 0xff, size * sizeof(*walk->table));
	for (size_t node = walk->level_end; node < walk->nodes_count; node++)
		table_put(walk, (uint32_t)node);
	return true;
}

static uint32_t table_find(const struct closure_walk *walk, const struct digest *digest, enum store_kind kind)
{
	size_t i = digest_key(digest) & (walk->table_size - 1);

	for (; walk->table[i] != CLOSURE_NONE; i = (i + 1) & (walk->table_size - 1)) {
		const struct closure_node *node = &walk->nodes[walk->table[i]];

		if (digest_equal(&node->digest, digest) && node->kind == kind)
			return walk->table[i];
	}
	return CLOSURE_NONE;
}

/* ---- gathering children ---- */

static bool gather_node(struct closure_walk *walk, const struct reference *reference)
{
	uint32_t node;

	if (!table_fit(walk))
		return false;
	node = table_find(walk, &reference->digest, reference->kind);
	if (node == CLOSURE_NONE) {
		if (!walk_grow_nodes(walk))
			return false;
		node = (uint32_t)walk->nodes_count++;
		walk->nodes[node] = (struct closure_node){
			.digest = reference->digest,
			.kind = reference->kind,
			.parent = walk->reading,
			.name = walk_name(walk, reference->name),
		};
		table_put(walk, node);
	}
	if (!walk_grow((void **)&walk->edges, &walk->edges_capacity, walk->edges_count, sizeof(*walk->edges),
	               CLOSURE_LEAVES_MAX))
		return false;
	walk->edges[walk->edges_count++] = (struct closure_edge){ .parent = walk->reading, .child = node };
	return true;
}

static bool gather_leaf(struct closure_walk *walk, const struct reference *reference)
{
	if (!walk_grow((void **)&walk->leaves, &walk->leaves_capacity, walk->leaves_count, sizeof(*walk->leaves),
	               CLOSURE_LEAVES_MAX))
		return false;
	walk->leaves[walk->leaves_count++] = (struct closure_leaf){
		.digest = reference->digest,
		.owner = walk->reading,
		.name = walk_name(walk, reference->name),
	};
	return true;
}

static bool gather_child(void *context, const struct reference *reference)
{
	struct closure_walk *walk = context;
	bool fits;

	fits = reference->kind == STORE_DATA ? gather_leaf(walk, reference) : gather_node(walk, reference);
	if (!fits || walk->names.failed)
		walk_fail(walk, CLOSURE_TOO_LARGE, "the tree is larger than this gateway takes");
	return walk->phase != WALK_DONE;
}

static void path_of_node(struct closure_walk *walk, uint32_t node, struct buffer *path)
{
	uint32_t chain[TREE_DEPTH_MAX + 4];
	size_t length = 0;

	for (; node != CLOSURE_NONE && length < TREE_DEPTH_MAX + 4; node = walk->nodes[node].parent)
		chain[length++] = node;
	while (length-- > 0) {
		const char *name = (const char *)walk->names.data + walk->nodes[chain[length]].name;

		if (!*name)
			continue;
		if (path->size)
			buffer_put_text(path, "/");
		buffer_put_text(path, name);
	}
}

/* Its digest first: a path may be longer than the sentence. */
static void walk_malformed(struct closure_walk *walk, uint32_t node, const char *fault, const char *name)
{
	char hex[DIGEST_TEXT_MAX], why[sizeof(walk->closure->why)];
	uint8_t storage[TREE_PATH_MAX + TREE_NAME_MAX + 2];
	struct buffer path = buffer_over(storage, sizeof(storage) - 1);

	path_of_node(walk, node, &path);
	if (*name && path.size)
		buffer_put_text(&path, "/");
	buffer_put_text(&path, name);
	storage[path.size] = 0;
	snprintf(why, sizeof(why), "%s: %s%s%.*s", digest_text(&walk->nodes[node].digest, hex), fault, path.size ? ": " : "",
	         CLOSURE_WHY_PATH_MAX, storage);
	walk_fail(walk, CLOSURE_MALFORMED, why);
}

static void gather_children(struct closure_walk *walk, uint32_t node, struct span blob)
{
	char name[TREE_NAME_MAX + 1];
	const char *fault;

	walk->reading = node;
	walk->closure->directories_read++;
	fault = references_of(walk->nodes[node].kind, blob, gather_child, walk, name);
	if (fault)
		walk_malformed(walk, node, fault, name);
}

/* ---- holes ---- */

/* A blob that is not there: the node `owner` itself (`name` ""), or one that it names. */
static void hole_add(struct closure_walk *walk, const struct digest *digest, uint32_t owner, const char *name)
{
	struct closure *closure = walk->closure;
	uint8_t storage[TREE_PATH_MAX + TREE_NAME_MAX + 2];
	struct buffer path = buffer_over(storage, sizeof(storage) - 1);

	closure->result = CLOSURE_HOLES;
	walk->nodes[owner].hole = true;
	if (closure->missing_count++ < CLOSURE_MISSING_MAX)
		digest_list_put(&closure->missing, digest);
	if (closure->paths_count >= CLOSURE_PATHS_MAX)
		return;
	path_of_node(walk, owner, &path);
	if (*name && path.size)
		buffer_put_text(&path, "/");
	buffer_put_text(&path, name);
	storage[path.size] = 0;
	buffer_put(&closure->paths, storage, path.size + 1);
	closure->paths_count++;
}

/* ---- phases ---- */

static void walk_run(struct closure_walk *walk);

static void walk_next_phase(struct closure_walk *walk, enum walk_phase phase)
{
	walk->phase = phase;
	walk->cursor = phase == WALK_LEAVES ? 0 : walk->level_begin;
	if (phase == WALK_WRITING)
		walk->cursor = 0;
}

static void walk_on_marks(struct store_marks *marks)
{
	struct closure_walk *walk = container_of(marks, struct closure_walk, marks);

	walk->waiting = false;
	if (marks->result < 0)
		walk_fail(walk, marks->result, "the index cannot be read");
	for (size_t i = 0; marks->result == 0 && walk->phase == WALK_MARKS && i < marks->count; i++) {
		walk->nodes[walk->batch_begin + i].whole = marks->whole[i];
		if (marks->whole[i])
			memcpy(walk_rest(walk, walk->batch_begin + i), marks->rests + i * walk->rest_bytes, walk->rest_bytes);
	}
	walk_run(walk);
}

static void walk_step_marks(struct closure_walk *walk)
{
	size_t count = walk->level_end - walk->cursor;

	if (count == 0) {
		walk_next_phase(walk, WALK_PLACES);
		return;
	}
	if (count > STORE_BATCH_MAX)
		count = STORE_BATCH_MAX;
	walk->batch_begin = walk->cursor;
	for (size_t i = 0; i < count; i++)
		walk->digests[i] = walk->nodes[walk->cursor + i].digest;
	walk->cursor += count;
	walk->marks = (struct store_marks){
		.scope = walk->closure->scope, .directories = walk->digests, .count = count,
		.whole = walk->wholes, .rests = walk->batch_rests, .fn = walk_on_marks,
	};
	walk->waiting = true;
	store_marks_lookup(walk->closure->store, &walk->marks);
}

static void walk_lookup(struct closure_walk *walk, size_t count, void (*fn)(struct store_lookup *lookup))
{
	walk->lookup = (struct store_lookup){
		.scope = walk->closure->scope, .digests = walk->digests, .count = count, .places = walk->places, .fn = fn,
	};
	walk->waiting = true;
	store_lookup(walk->closure->store, &walk->lookup);
}

static void walk_on_places(struct store_lookup *lookup)
{
	struct closure_walk *walk = container_of(lookup, struct closure_walk, lookup);

	walk->waiting = false;
	if (lookup->result < 0)
		walk_fail(walk, lookup->result, "the index cannot be read");
	for (size_t i = 0; lookup->result == 0 && i < lookup->count; i++) {
		struct closure_node *node = &walk->nodes[walk->batch_nodes[i]];

		if (lookup->places[i]) {
			node->present = true;
			store_rest_add(walk_rest(walk, walk->batch_nodes[i]), lookup->places[i]);
			continue;
		}
		hole_add(walk, &node->digest, walk->batch_nodes[i], "");
	}
	walk_run(walk);
}

static void walk_step_places(struct closure_walk *walk)
{
	size_t count = 0;

	for (; walk->cursor < walk->level_end && count < STORE_BATCH_MAX; walk->cursor++) {
		if (walk->nodes[walk->cursor].whole)
			continue;
		walk->digests[count] = walk->nodes[walk->cursor].digest;
		walk->batch_nodes[count++] = (uint32_t)walk->cursor;
	}
	if (count)
		walk_lookup(walk, count, walk_on_places);
	else
		walk_next_phase(walk, WALK_READING);
}

static void walk_on_read(struct store_read *done)
{
	struct closure_read *read = container_of(done, struct closure_read, read);
	struct closure_walk *walk = read->walk;

	read->busy = false;
	walk->reads_busy--;
	walk->waiting = false;
	if (walk->phase != WALK_DONE) {
		if (done->result == STORE_OK)
			gather_children(walk, read->node, done->blob);
		else if (done->result < 0)
			walk_fail(walk, done->result, "the store cannot be read");
		else
			hole_add(walk, &walk->nodes[read->node].digest, read->node, "");
	}
	walk_run(walk);
}

static bool read_start(struct closure_walk *walk, struct closure_read *read, uint32_t node)
{
	const struct digest *digest = &walk->nodes[node].digest;
	size_t size = digest->size + STORE_READ_EXTRA_BYTES;

	CHECK(digest->size <= STORE_BLOB_BYTES_MAX);     /* it was found with this size, and nothing longer is kept */
	if (size > read->buffer_size) {
		free(read->read.buffer);
		read->read.buffer = malloc(size);
		read->buffer_size = read->read.buffer ? size : 0;
		if (!read->read.buffer)
			return false;
	}
	read->walk = walk;
	read->node = node;
	read->busy = true;
	walk->reads_busy++;
	read->read = (struct store_read){
		.scope = walk->closure->scope, .digest = *digest, .buffer = read->read.buffer, .fn = walk_on_read,
	};
	store_read(walk->closure->store, &read->read);
	return true;
}

static struct closure_read *read_free(struct closure_walk *walk)
{
	for (size_t i = 0; i < CLOSURE_READS; i++)
		if (!walk->reads[i].busy)
			return &walk->reads[i];
	return NULL;
}

static void walk_step_reading(struct closure_walk *walk)
{
	struct closure_read *read;

	while (walk->phase == WALK_READING && walk->cursor < walk->level_end && (read = read_free(walk))) {
		uint32_t node = (uint32_t)walk->cursor++;

		if (walk->nodes[node].whole || !walk->nodes[node].present)
			continue;
		if (!read_start(walk, read, node))
			walk_fail(walk, -ENOMEM, "out of memory");
	}
	if (walk->phase != WALK_READING)
		return;
	if (walk->reads_busy)
		walk->waiting = true;
	else
		walk_next_phase(walk, WALK_LEAVES);
}

static void walk_on_leaves(struct store_lookup *lookup)
{
	struct closure_walk *walk = container_of(lookup, struct closure_walk, lookup);

	walk->waiting = false;
	if (lookup->result < 0)
		walk_fail(walk, lookup->result, "the index cannot be read");
	for (size_t i = 0; lookup->result == 0 && i < lookup->count; i++) {
		const struct closure_leaf *leaf = &walk->leaves[walk->batch_begin + i];

		if (lookup->places[i])
			store_rest_add(walk_rest(walk, leaf->owner), lookup->places[i]);
		else
			hole_add(walk, &leaf->digest, leaf->owner, (const char *)walk->names.data + leaf->name);
	}
	walk_run(walk);
}

static void walk_next_level(struct closure_walk *walk)
{
	walk->leaves_count = 0;
	walk->level_begin = walk->level_end;
	walk->level_end = walk->nodes_count;
	if (walk->table)
		memset(walk->table, 0xff, walk->table_size * sizeof(*walk->table));
	if (walk->level_begin == walk->level_end)
		walk_next_phase(walk, WALK_WRITING);
	else if (++walk->depth > TREE_DEPTH_MAX + 2)
		walk_fail(walk, CLOSURE_TOO_LARGE, "the tree is deeper than 256 directories");
	else
		walk_next_phase(walk, WALK_MARKS);
}

static void walk_step_leaves(struct closure_walk *walk)
{
	size_t count = walk->leaves_count - walk->cursor;

	if (count == 0) {
		walk_next_level(walk);
		return;
	}
	if (count > STORE_BATCH_MAX)
		count = STORE_BATCH_MAX;
	walk->batch_begin = walk->cursor;
	for (size_t i = 0; i < count; i++)
		walk->digests[i] = walk->leaves[walk->cursor + i].digest;
	walk->cursor += count;
	walk_lookup(walk, count, walk_on_leaves);
}

/* Edges were made level by level; backwards, every child is complete before its parents take it over. */
static void walk_sum_up(struct closure_walk *walk)
{
	for (size_t i = walk->edges_count; i-- > 0;) {
		const struct closure_edge *edge = &walk->edges[i];

		walk->nodes[edge->parent].hole |= walk->nodes[edge->child].hole;
		store_rest_union(walk->closure->store, walk_rest(walk, edge->parent), walk_rest(walk, edge->child));
	}
}

static void walk_on_written(struct store_marks *marks)
{
	struct closure_walk *walk = container_of(marks, struct closure_walk, marks);

	walk->waiting = false;
	if (marks->result < 0)
		walk_fail(walk, marks->result, "the index cannot be written");
	walk_run(walk);
}

static void walk_step_writing(struct closure_walk *walk)
{
	size_t count = 0;

	if (walk->cursor == 0)
		walk_sum_up(walk);
	for (; walk->cursor < walk->nodes_count && count < STORE_BATCH_MAX; walk->cursor++) {
		const struct closure_node *node = &walk->nodes[walk->cursor];

		if (node->whole || node->hole)
			continue;
		walk->digests[count] = node->digest;
		memcpy(walk->batch_rests + count * walk->rest_bytes, walk_rest(walk, walk->cursor), walk->rest_bytes);
		count++;
	}
	if (count == 0) {
		walk->phase = WALK_DONE;
		return;
	}
	walk->marks = (struct store_marks){
		.scope = walk->closure->scope, .directories = walk->digests, .count = count,
		.rests = walk->batch_rests, .fn = walk_on_written, .sequence = walk->sequence,
	};
	walk->waiting = true;
	store_marks_write(walk->closure->store, &walk->marks);
}

static void walk_destroy(struct closure_walk *walk)
{
	if (!walk)
		return;
	for (size_t i = 0; i < CLOSURE_READS; i++)
		free(walk->reads[i].read.buffer);
	buffer_fini(&walk->names);
	free(walk->nodes);
	free(walk->rests);
	free(walk->edges);
	free(walk->leaves);
	free(walk->table);
	free(walk->digests);
	free(walk->places);
	free(walk->batch_nodes);
	free(walk->wholes);
	free(walk->batch_rests);
	free(walk);
}

static void closure_done(struct closure *closure)
{
	struct gate *gate = closure->gate;

	closure->fn(closure);                    /* the closure may be gone after this */
	if (gate)
		gate_leave(gate);
}

static void walk_run(struct closure_walk *walk)
{
	struct closure *closure = walk->closure;

	if (walk->running)
		return;
	walk->running = true;
	while (!walk->waiting && walk->phase != WALK_DONE) {
		switch (walk->phase) {
		case WALK_MARKS:
			walk_step_marks(walk);
			break;
		case WALK_PLACES:
			walk_step_places(walk);
			break;
		case WALK_READING:
			walk_step_reading(walk);
			break;
		case WALK_LEAVES:
			walk_step_leaves(walk);
			break;
		case WALK_WRITING:
			walk_step_writing(walk);
			break;
		case WALK_DONE:
			break;
		}
	}
	walk->running = false;
	if (walk->phase != WALK_DONE || walk->reads_busy || walk->waiting)
		return;
	closure->walk = NULL;
	walk_destroy(walk);
	closure_done(closure);
}

static struct closure_walk *walk_create(struct closure *closure)
{
	struct closure_walk *walk = calloc(1, sizeof(*walk));

	if (!walk)
		return NULL;
	walk->closure = closure;
	walk->names = buffer_heap(256u << 20);
	walk->rest_bytes = store_rest_bytes(closure->store);
	walk->digests = malloc(STORE_BATCH_MAX * sizeof(*walk->digests));
	walk->places = malloc(STORE_BATCH_MAX * sizeof(*walk->places));
	walk->batch_nodes = malloc(STORE_BATCH_MAX * sizeof(*walk->batch_nodes));
	walk->wholes = malloc(STORE_BATCH_MAX * sizeof(*walk->wholes));
	walk->batch_rests = malloc(STORE_BATCH_MAX * walk->rest_bytes);
	if (walk->digests && walk->places && walk->batch_nodes && walk->wholes && walk->batch_rests && walk_grow_nodes(walk))
		return walk;
	walk_destroy(walk);
	return NULL;
}

static void closure_on_turn(struct gate_pass *pass)
{
	struct closure *closure = container_of(pass, struct closure, pass);
	struct closure_walk *walk = walk_create(closure);

	if (!walk) {
		closure->result = ERR_RAISE(-ENOMEM);
		closure_done(closure);
		return;
	}
	closure->walk = walk;
	walk->sequence = store_marks_begin(closure->store);
	walk->nodes[0] = (struct closure_node){
		.digest = closure->root, .kind = closure->recipe ? STORE_RECIPE : STORE_DIRECTORY, .parent = CLOSURE_NONE, .name = walk_name(walk, span_text("")),
	};
	walk->nodes_count = 1;
	walk->level_end = 1;
	walk_run(walk);
}

void closure_verify(struct closure *closure)
{
	CHECK(!closure->walk);
	closure->result = CLOSURE_WHOLE;
	closure->missing = buffer_heap(CLOSURE_MISSING_MAX * 42);
	closure->paths = buffer_heap(CLOSURE_PATHS_MAX * (TREE_PATH_MAX + TREE_NAME_MAX + 2));
	closure->pass.fn = closure_on_turn;
	if (closure->root.size == 0) {           /* an empty tree is always whole */
		if (!digest_equal(&closure->root, &digest_empty)) {
			closure->result = CLOSURE_MALFORMED;
			snprintf(closure->why, sizeof(closure->why), "the root is no bytes' digest");
		}
		closure->fn(closure);
	} else if (closure->gate) {
		gate_enter(closure->gate, &closure->pass);
	} else {
		closure_on_turn(&closure->pass);
	}
}

void closure_fini(struct closure *closure)
{
	CHECK(!closure->walk);
	buffer_fini(&closure->missing);
	buffer_fini(&closure->paths);
	*closure = (struct closure){ 0 };
}
