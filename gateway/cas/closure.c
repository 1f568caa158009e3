/*
 * The closure walk: the public calls, its life, and the loop.
 *
 * Each phase (closure_steps.c) handles the present level in batches; a completion may come inline, so one loop
 * (closure_walk_run) makes the steps and handlers only note what happened. A directory that several parents share is
 * one node of its level (closure_graph.c), so a tree that repeats itself costs what it holds.
 */
#include "gateway/cas/closure_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/tree.h"

void closure_walk_fail(struct closure_walk *walk, int result, const char *why)
{
	struct closure *closure = walk->closure;

	if (closure->result == CLOSURE_WHOLE || closure->result == CLOSURE_HOLES) {
		closure->result = result;
		snprintf(closure->why, sizeof(closure->why), "%s", why);
	}
	walk->phase = WALK_DONE;
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

void closure_walk_run(struct closure_walk *walk)
{
	struct closure *closure = walk->closure;

	if (walk->running)
		return;
	walk->running = true;
	while (!walk->waiting && walk->phase != WALK_DONE) {
		switch (walk->phase) {
		case WALK_MARKS:
			closure_step_marks(walk);
			break;
		case WALK_PLACES:
			closure_step_places(walk);
			break;
		case WALK_READING:
			closure_step_reading(walk);
			break;
		case WALK_LEAVES:
			closure_step_leaves(walk);
			break;
		case WALK_WRITING:
			closure_step_writing(walk);
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
	walk->secret = digest_secret_make();
	walk->digests = malloc(STORE_BATCH_MAX * sizeof(*walk->digests));
	walk->places = malloc(STORE_BATCH_MAX * sizeof(*walk->places));
	walk->batch_nodes = malloc(STORE_BATCH_MAX * sizeof(*walk->batch_nodes));
	walk->wholes = malloc(STORE_BATCH_MAX * sizeof(*walk->wholes));
	walk->batch_rests = malloc(STORE_BATCH_MAX * walk->rest_bytes);
	if (walk->digests && walk->places && walk->batch_nodes && walk->wholes && walk->batch_rests &&
	    closure_graph_grow(walk) == 0)
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
		.digest = closure->root,
		.kind = closure->recipe ? STORE_RECIPE : STORE_DIRECTORY,
		.parent = CLOSURE_NONE,
		.name = closure_graph_name(walk, span_text("")),
	};
	walk->nodes_count = 1;
	walk->level_end = 1;
	if (walk->names.failed)
		closure_walk_fail(walk, ERR_RAISE(-ENOMEM), "out of memory");
	closure_walk_run(walk);
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
