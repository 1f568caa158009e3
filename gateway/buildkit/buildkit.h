/*
 * buildkit: calls of BuildKit's own services, from stock buildx and buildctl, carried to a pool of buildkitd. What a
 * client only asks to get to know its builder is answered here; what builds is held until an executor is lent to it, and
 * then carried there whole (binding.h); what concerns all executors is asked of all.
 *
 * Sessions are terminated (session.h), and the files of contexts brokered (diffcopy.h).
 * Source: DESIGN.md "How a stock buildx build flows".
 */
#pragma once

#include "gateway/buildkit/build.h"
#include "gateway/buildkitd/executors.h"
#include "gateway/buildkit/replay.h"
#include "gateway/cas/access.h"

struct buildkit;
struct diffcopy_service;

struct buildkit_config {
	struct ring *ring;
	const struct access *access;
	struct executors *executors;     /* outlives it */
	struct diffcopy_service *broker; /* outlives it; NULL: DiffCopy passes like the rest */
	struct play_service *play;       /* likewise; NULL: nothing is asked of edges by content */
	/* Whether a tenant without any executor may hope for one, as executors_config. Optional. */
	bool (*spawnable)(void *context, const char *tenant, bool waiting);
	void *spawnable_context;
	struct build_events events;      /* all may be NULL */
	const char *directory;           /* where contexts from stdin are kept; outlives it. NULL: they stay in memory */
	uint64_t link_timeout_ns;        /* a client's link may have no connection for so long; 0: LINK_TIMEOUT_NS */
	enum replay_policy replay;       /* whether a build whose executor is lost goes on at another one */
};

/* 0 or -ENOMEM. Connects to nothing yet. */
int buildkit_create(struct buildkit **buildkit, const struct buildkit_config *config);
/* Only when idle. NULL is accepted. */
void buildkit_destroy(struct buildkit *buildkit);

/*
 * As server_method.start, for paths that nothing here answers. The caller needs the right to execute. Refusals: those
 * of access_scope(); FAILED_PRECONDITION when the caller's tenant has no executor; RESOURCE_EXHAUSTED. What an executor
 * that cannot be had means, a call that was taken learns later: UNAVAILABLE.
 */
int buildkit_start(struct buildkit *buildkit, const struct server_request *request, char *why, size_t why_size);
/* A client's connection has gone, after its streams: its binding ends. */
void buildkit_conn_closed(struct buildkit *buildkit, const struct conn *client);
/* No binding and no connection to an executor is left. */
bool buildkit_idle(const struct buildkit *buildkit);

/*
 * A finished vertex of its own in the build's progress, "[sluice] …". From on_summary() it is the last that the client
 * sees; earlier it comes in between. `purpose` tells lines of one build apart.
 */
void buildkit_say(struct buildkit *buildkit, const struct build *build, const char *purpose, const char *line);

struct buildkit_status {
	uint64_t bindings, calls, calls_total, calls_lost, builds, builds_total, replays_total, spooled_bytes;
};
void buildkit_status(const struct buildkit *buildkit, struct buildkit_status *status);
