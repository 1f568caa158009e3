/* The edge's own store, and what it remembers of directories. */
#include "gateway/edge/parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/cas/references.h"

#define CEILING_BYTES_MIN (64u << 20)    /* a store has segments and an index */
#define WINDOW_PART       8              /* of it: what of contexts may be on its way; twice that is held */

static int open_store(struct edge *edge, char *why, size_t why_size)
{
	const struct edge_config *config = edge->config;
	struct store_config store = {
		.path = config->store_path, .ceiling_bytes = config->ceiling_bytes, .direct = true, .references = closure_references,
	};

	if (store.ceiling_bytes < CEILING_BYTES_MIN) {
		store.ceiling_bytes = CEILING_BYTES_MIN;
		log_event(LOG_INFO, "smallest store", LOG_U64("ceiling_bytes", store.ceiling_bytes),
		          LOG_TEXT("cause", "what is under way has to be somewhere"));
	}
	edge->giver.window_bytes = store.ceiling_bytes / WINDOW_PART;
	return store_open(&edge->store, edge->ring, &store, why, why_size);
}

static int open_memory(struct edge *edge, char *why, size_t why_size)
{
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/snapshots", edge->config->store_path);
	r = stat_memory_create(&edge->giver.memory, edge->ring, path);
	if (r < 0)
		snprintf(why, why_size, "%s cannot be used: %s", path, strerror(-r));
	return r < 0 ? ERR_RAISE(r) : 0;
}

int edge_store_open(struct edge *edge, char *why, size_t why_size)
{
	uint64_t seed;
	int r;

	known_init(&edge->giver.known);
	ring_random(edge->ring, &seed, sizeof(seed));
	sames_init(&edge->giver.sames, seed);
	list_init(&edge->giver.givers);
	sha256_init(&edge->hasher, SHA256_AUTO);
	r = open_store(edge, why, why_size);
	if (r == 0)
		r = open_memory(edge, why, why_size);
	if (r < 0)
		return r;
	edge->cas = (struct cas){ .ring = edge->ring, .store = edge->store, .hasher = &edge->hasher };
	cas_init(&edge->cas);
	edge->pusher = (struct pusher){ .ring = edge->ring, .upstream = &edge->upstream };
	pusher_init(&edge->pusher);
	edge->giver.cas = &edge->cas;
	edge->giver.pusher = &edge->pusher;
	edge->giver.directory = edge->config->store_path;
	edge->giver.mtime_distrust = edge->config->mtime_distrust;
	r = store_scope(edge->store, span_text("edge"), span_text(""), SCOPE_ALL, &edge->giver.scope);
	if (r < 0)
		snprintf(why, why_size, "the store at %s cannot be written", edge->config->store_path);
	return r;
}

static void on_saved(void *context)
{
	((struct edge *)context)->giver.memory = NULL;
}

static void on_closed(void *context)
{
	((struct edge *)context)->store = NULL;
}

void edge_store_close(struct edge *edge)
{
	if (!edge->store)
		return;
	pusher_close(&edge->pusher);
	while (edge->giver.open || !pusher_idle(&edge->pusher) || !cas_idle(&edge->cas))
		ring_run(edge->ring, UINT64_MAX);
	if (edge->giver.memory)
		stat_memory_destroy(edge->giver.memory, on_saved, edge);
	while (edge->giver.memory)
		ring_run(edge->ring, UINT64_MAX);
	known_fini(&edge->giver.known);
	sames_fini(&edge->giver.sames);
	store_close(edge->store, on_closed, edge);
	while (edge->store)
		ring_run(edge->ring, UINT64_MAX);
}
