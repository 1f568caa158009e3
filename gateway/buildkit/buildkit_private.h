/* buildkit_private: what the files of this folder share of a gateway's BuildKit side. */
#pragma once

#include "gateway/buildkit/binding.h"
#include "gateway/buildkit/refs.h"
#include "gateway/session/spool.h"

/* Bindings are found by their client's connection with each call. */
#define BUILDKIT_BUCKETS 1024u

struct buildkit {
	struct ring *ring;
	const struct access *access;
	struct executors *executors;
	struct diffcopy_service *broker;
	struct play_service *play;
	bool (*spawnable)(void *context, const char *tenant, bool waiting);
	void *spawnable_context;
	struct build_events events;
	uint64_t link_timeout_ns;
	enum replay_policy replay;
	struct list bindings[BUILDKIT_BUCKETS];  /* whose client is there, by its connection's number */
	struct refs refs;
	struct spool_room spools;
	uint64_t bindings_count, uplinks_count, calls, calls_total, calls_lost, builds, builds_total, replays_total;
};

/* Where the binding of this connection is kept. */
struct list *buildkit_bucket(struct buildkit *buildkit, const struct conn *client);
/* An executor may be started for the tenant. */
bool buildkit_spawnable(const struct buildkit *buildkit, const char *tenant);
/* The tenant has an executor, or may get one. */
bool buildkit_hopeful(const struct buildkit *buildkit, const char *tenant);
