/*
 * Of a closure walk: its phases. Each step asks the store about one batch of the present level (marks, places, blobs,
 * places of leaves; at the end, the marks that are written), and its handler notes what the answer was.
 */
#include "gateway/cas/closure_private.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "proto/tree.h"

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
		closure_walk_fail(walk, marks->result, "the index cannot be read");
	for (size_t i = 0; marks->result == 0 && walk->phase == WALK_MARKS && i < marks->count; i++) {
		walk->nodes[walk->batch_begin + i].whole = marks->whole[i];
		if (marks->whole[i])
			memcpy(closure_walk_rest(walk, walk->batch_begin + i), marks->rests + i * walk->rest_bytes,
			       walk->rest_bytes);
	}
	closure_walk_run(walk);
}

void closure_step_marks(struct closure_walk *walk)
{
	size_t count = walk->level_end - walk->cursor;

	if (count == 0 || (walk->depth == 0 && walk->closure->read_root)) {
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
		.scope = walk->closure->scope, .digests = walk->digests, .count = count,
		.places = walk->places, .fn = fn,
	};
	walk->waiting = true;
	store_lookup(walk->closure->store, &walk->lookup);
}

static void walk_on_places(struct store_lookup *lookup)
{
	struct closure_walk *walk = container_of(lookup, struct closure_walk, lookup);

	walk->waiting = false;
	if (lookup->result < 0)
		closure_walk_fail(walk, lookup->result, "the index cannot be read");
	for (size_t i = 0; lookup->result == 0 && i < lookup->count; i++) {
		struct closure_node *node = &walk->nodes[walk->batch_nodes[i]];

		if (lookup->places[i]) {
			node->present = true;
			store_rest_add(closure_walk_rest(walk, walk->batch_nodes[i]), lookup->places[i]);
			continue;
		}
		node->whole = false;
		closure_graph_hole(walk, &node->digest, walk->batch_nodes[i], "");
	}
	closure_walk_run(walk);
}

/* A mark knows a directory by its hash, and whoever names a root may name it with another size: that one is not there. */
static bool is_believed(const struct closure_walk *walk, size_t node)
{
	return walk->nodes[node].whole && (node > 0 || walk->closure->recipe);
}

void closure_step_places(struct closure_walk *walk)
{
	size_t count = 0;

	for (; walk->cursor < walk->level_end && count < STORE_BATCH_MAX; walk->cursor++) {
		if (is_believed(walk, walk->cursor))
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
			closure_graph_gather(walk, read->node, done->blob);
		else if (done->result < 0)
			closure_walk_fail(walk, done->result, "the store cannot be read");
		else
			closure_graph_hole(walk, &walk->nodes[read->node].digest, read->node, "");
	}
	closure_walk_run(walk);
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

void closure_step_reading(struct closure_walk *walk)
{
	struct closure_read *read;

	while (walk->phase == WALK_READING && walk->cursor < walk->level_end && (read = read_free(walk))) {
		uint32_t node = (uint32_t)walk->cursor++;

		if (walk->nodes[node].whole || !walk->nodes[node].present)
			continue;
		if (!read_start(walk, read, node))
			closure_walk_fail(walk, -ENOMEM, "out of memory");
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
		closure_walk_fail(walk, lookup->result, "the index cannot be read");
	for (size_t i = 0; lookup->result == 0 && i < lookup->count; i++) {
		const struct closure_leaf *leaf = &walk->leaves[walk->batch_begin + i];

		if (lookup->places[i])
			store_rest_add(closure_walk_rest(walk, leaf->owner), lookup->places[i]);
		else
			closure_graph_hole(walk, &leaf->digest, leaf->owner,
			                   (const char *)walk->names.data + leaf->name);
	}
	closure_walk_run(walk);
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
		closure_walk_fail(walk, CLOSURE_TOO_LARGE, "the tree is deeper than 256 directories");
	else
		walk_next_phase(walk, WALK_MARKS);
}

void closure_step_leaves(struct closure_walk *walk)
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

static void walk_on_written(struct store_marks *marks)
{
	struct closure_walk *walk = container_of(marks, struct closure_walk, marks);

	walk->waiting = false;
	if (marks->result < 0)
		closure_walk_fail(walk, marks->result, "the index cannot be written");
	closure_walk_run(walk);
}

void closure_step_writing(struct closure_walk *walk)
{
	size_t count = 0;

	if (walk->cursor == 0)
		closure_graph_sum_up(walk);
	for (; walk->cursor < walk->nodes_count && count < STORE_BATCH_MAX; walk->cursor++) {
		const struct closure_node *node = &walk->nodes[walk->cursor];

		if (node->whole || node->hole)
			continue;
		walk->digests[count] = node->digest;
		memcpy(walk->batch_rests + count * walk->rest_bytes, closure_walk_rest(walk, walk->cursor),
		       walk->rest_bytes);
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
