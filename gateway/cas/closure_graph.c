/*
 * Of a closure walk: what it has gathered. Nodes (directories and recipes) of all levels, the edges between them, the
 * leaves of one level, and the names that make paths of them; and what of it turned out to be missing or malformed.
 */
#include "gateway/cas/closure_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/err.h"
#include "gateway/cas/references.h"
#include "proto/sluice_v1.h"
#include "proto/tree.h"

#define CLOSURE_WHY_PATH_MAX 300         /* of a path in a sentence */

/* ---- growing tables ---- */

static int walk_grow(void **table, size_t *capacity, size_t count, size_t element, size_t max)
{
	size_t wanted = *capacity ? *capacity * 2 : 256;
	void *grown;

	if (count < *capacity)
		return 0;
	if (count >= max)
		return CLOSURE_TOO_LARGE;
	grown = realloc(*table, wanted * element);
	if (!grown)
		return ERR_RAISE(-ENOMEM);
	*table = grown;
	*capacity = wanted;
	return 0;
}

int closure_graph_grow(struct closure_walk *walk)
{
	size_t before = walk->nodes_capacity;
	uint8_t *rests;
	int r = walk_grow((void **)&walk->nodes, &walk->nodes_capacity, walk->nodes_count, sizeof(*walk->nodes),
	                  CLOSURE_NODES_MAX);

	if (r || before == walk->nodes_capacity)
		return r;
	rests = realloc(walk->rests, walk->nodes_capacity * walk->rest_bytes);
	if (!rests)
		return ERR_RAISE(-ENOMEM);
	memset(rests + before * walk->rest_bytes, 0, (walk->nodes_capacity - before) * walk->rest_bytes);
	walk->rests = rests;
	return 0;
}

uint32_t closure_graph_name(struct closure_walk *walk, struct span name)
{
	uint32_t at = (uint32_t)walk->names.size;
	const uint8_t nul = 0;

	buffer_put(&walk->names, name.data, name.size);
	buffer_put(&walk->names, &nul, 1);
	return at;
}

/* ---- the table of the level being gathered ---- */

/* What a directory names need not be anywhere: its digests are whatever who made it chose. */
static size_t table_at(const struct closure_walk *walk, const struct digest *digest)
{
	return digest_hash(digest, &walk->secret) & (walk->table_size - 1);
}

static void table_put(struct closure_walk *walk, uint32_t node)
{
	size_t i = table_at(walk, &walk->nodes[node].digest);

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
	size_t i = table_at(walk, digest);

	for (; walk->table[i] != CLOSURE_NONE; i = (i + 1) & (walk->table_size - 1)) {
		const struct closure_node *node = &walk->nodes[walk->table[i]];

		if (digest_equal(&node->digest, digest) && node->kind == kind)
			return walk->table[i];
	}
	return CLOSURE_NONE;
}

/* ---- gathering children ---- */

static int gather_node(struct closure_walk *walk, const struct reference *reference)
{
	uint32_t node;
	int r;

	if (!table_fit(walk))
		return ERR_RAISE(-ENOMEM);
	node = table_find(walk, &reference->digest, reference->kind);
	if (node == CLOSURE_NONE) {
		r = closure_graph_grow(walk);
		if (r)
			return r;
		node = (uint32_t)walk->nodes_count++;
		walk->nodes[node] = (struct closure_node){
			.digest = reference->digest,
			.kind = reference->kind,
			.parent = walk->reading,
			.name = closure_graph_name(walk, reference->name),
		};
		table_put(walk, node);
	}
	r = walk_grow((void **)&walk->edges, &walk->edges_capacity, walk->edges_count, sizeof(*walk->edges), CLOSURE_LEAVES_MAX);
	if (r)
		return r;
	walk->edges[walk->edges_count++] = (struct closure_edge){ .parent = walk->reading, .child = node };
	return 0;
}

static int gather_leaf(struct closure_walk *walk, const struct reference *reference)
{
	int r = walk_grow((void **)&walk->leaves, &walk->leaves_capacity, walk->leaves_count, sizeof(*walk->leaves),
	                  CLOSURE_LEAVES_MAX);

	if (r)
		return r;
	walk->leaves[walk->leaves_count++] = (struct closure_leaf){
		.digest = reference->digest,
		.owner = walk->reading,
		.name = closure_graph_name(walk, reference->name),
	};
	return 0;
}

static bool gather_child(void *context, const struct reference *reference)
{
	struct closure_walk *walk = context;
	int r = reference->kind == STORE_DATA ? gather_leaf(walk, reference) : gather_node(walk, reference);

	if (!r && walk->names.failed)
		r = CLOSURE_TOO_LARGE;
	if (r)
		closure_walk_fail(walk, r, r < 0 ? "out of memory" : "the tree is larger than this gateway takes");
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
	snprintf(why, sizeof(why), "%s: %s%s%.*s", digest_text(&walk->nodes[node].digest, hex), fault,
	         path.size ? ": " : "", CLOSURE_WHY_PATH_MAX, storage);
	closure_walk_fail(walk, CLOSURE_MALFORMED, why);
}

void closure_graph_gather(struct closure_walk *walk, uint32_t node, struct span blob)
{
	char name[TREE_NAME_MAX + 1];
	const char *fault;

	walk->reading = node;
	walk->closure->directories_read++;
	fault = references_of(walk->nodes[node].kind, blob, gather_child, walk, name);
	if (fault == references_no_memory)
		closure_walk_fail(walk, ERR_RAISE(-ENOMEM), fault);
	else if (fault)
		walk_malformed(walk, node, fault, name);
}

/* ---- holes ---- */

void closure_graph_hole(struct closure_walk *walk, const struct digest *digest, uint32_t owner, const char *name)
{
	struct closure *closure = walk->closure;
	uint8_t storage[TREE_PATH_MAX + TREE_NAME_MAX + 2];
	struct buffer path = buffer_over(storage, sizeof(storage) - 1);

	closure->result = CLOSURE_HOLES;
	walk->nodes[owner].hole = true;
	closure->nodes_too_long += !*name && digest->size > STORE_BLOB_BYTES_MAX;
	if (closure->missing_count++ < CLOSURE_MISSING_MAX)
		digest_list_put(&closure->missing, digest);
	if (closure->paths_count < CLOSURE_PATHS_MAX) {
		path_of_node(walk, owner, &path);
		if (*name && path.size)
			buffer_put_text(&path, "/");
		buffer_put_text(&path, name);
		storage[path.size] = 0;
		buffer_put(&closure->paths, storage, path.size + 1);
		closure->paths_count++;
	}
	if (closure->missing.failed || closure->paths.failed)
		closure_walk_fail(walk, ERR_RAISE(-ENOMEM), "out of memory");
}

/* Edges were made level by level; backwards, every child is complete before its parents take it over. */
void closure_graph_sum_up(struct closure_walk *walk)
{
	for (size_t i = walk->edges_count; i-- > 0;) {
		const struct closure_edge *edge = &walk->edges[i];

		walk->nodes[edge->parent].hole |= walk->nodes[edge->child].hole;
		store_rest_union(walk->closure->store, closure_walk_rest(walk, edge->parent),
		                 closure_walk_rest(walk, edge->child));
	}
}
