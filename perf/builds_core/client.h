/*
 * client: one `docker buildx build`, as the wire sees it: a connection; two ListWorkers; the probe build (Status, Session,
 * Solve, Ping at once, then Return); ListWorkers; the build (the same four, then LLBBridge/Solve, then Return) while the
 * executor asks for the context inside the session; ListenBuildHistory; Export; the connection closes. On one ring; it frees
 * itself after on_closed.
 */
#pragma once

#include "gateway/net/conn.h"
#include "perf/builds_core/context.h"

#define CLIENT_KEY_MAX 64
#define CLIENT_WHY_MAX 512

struct client;

struct client_events {
	/* The first call of the executor's inside the build's session has come. */
	void (*on_opened)(struct client *client, uint64_t now_ns);
	/* Return was answered: from here on the executor is at work. */
	void (*on_running)(struct client *client);
	/* It was running, and is no longer. */
	void (*on_stopped)(struct client *client);
	/* A Ping inside the build, asked with client_ping(), was answered. */
	void (*on_pinged)(struct client *client, uint64_t took_ns);
	/* Last. `failure`: NULL when all went well, else what was wrong; borrowed. */
	void (*on_closed)(struct client *client, const char *failure);
};

struct client_config {
	struct ring *ring;
	const struct address *address;
	const struct address_resolved *resolved;         /* of it */
	struct tls_context *tls;                         /* NULL: plain */
	char shared_key[CLIENT_KEY_MAX];                 /* "directory:node" */
	struct context context;
	const struct client_events *events;
	void *owner;
	uint64_t due_ns;                                 /* for the owner: when it was to begin */
};

/* 0, or -errno and no event comes. */
int client_start(struct client **client, const struct client_config *config);
const struct client_config *client_config(const struct client *client);
/* While it is running, one at a time: false when it is not, or the last has no answer yet. */
bool client_ping(struct client *client);
/* As a user's interrupt: the connection is closed. on_closed says that it failed. */
void client_kill(struct client *client);
