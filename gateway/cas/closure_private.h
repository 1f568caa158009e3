/*
 * closure_private: what closure.c (the public calls, a walk's life, the loop that makes the steps), closure_steps.c
 * (what each phase asks of the store, and what comes of the answers) and closure_graph.c (what a walk has gathered:
 * nodes, edges, leaves and their paths) share.
 */
#pragma once

#include "gateway/base/digest_hash.h"
#include "gateway/cas/closure.h"

#define CLOSURE_READS 8
#define CLOSURE_NONE  UINT32_MAX

/* MARKS -> PLACES -> READING -> LEAVES -> (next level: MARKS) ... -> WRITING -> done */
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
	struct digest_secret secret;     /* of the table */

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

/* What a node rests on, `rest_bytes` long. Borrowed until a node is added. */
static inline uint8_t *closure_walk_rest(struct closure_walk *walk, size_t node)
{
	return walk->rests + node * walk->rest_bytes;
}

/* It ends here: no further step is made. The first reason is kept, but goes before holes. */
void closure_walk_fail(struct closure_walk *walk, int result, const char *why);
/* The last thing of a handler: makes steps until one waits. Ends the walk, which frees it and calls the owner. */
void closure_walk_run(struct closure_walk *walk);

/*
 * One step of the phase: something to wait for was started (its answer may have come inline), or the next phase was
 * entered, or the walk failed.
 */
void closure_step_marks(struct closure_walk *walk);
void closure_step_places(struct closure_walk *walk);
void closure_step_reading(struct closure_walk *walk);
void closure_step_leaves(struct closure_walk *walk);
void closure_step_writing(struct closure_walk *walk);

/* Room for one more node, its rest all zero. 0, CLOSURE_TOO_LARGE or -ENOMEM. */
int closure_graph_grow(struct closure_walk *walk);
/* Keeps a name: its offset in `names`, which says whether it failed. */
uint32_t closure_graph_name(struct closure_walk *walk, struct span name);
/* The blob of `node` was read: what it names becomes nodes of the next level, and leaves. May fail the walk. */
void closure_graph_gather(struct closure_walk *walk, uint32_t node, struct span blob);
/* A blob that is not there: the node `owner` itself (`name` ""), or one that it names. */
void closure_graph_hole(struct closure_walk *walk, const struct digest *digest, uint32_t owner, const char *name);
/* Once, when all levels are done: holes and rests go up from each node to all above it. */
void closure_graph_sum_up(struct closure_walk *walk);
