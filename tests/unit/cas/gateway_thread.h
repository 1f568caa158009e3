/*
 * gateway_thread: store, cas, pool and server on a ring of their own in a thread, on a unix socket below a temporary
 * directory: what the tests of cas and pool talk to, through the real client.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/buildkit/buildkit.h"
#include "gateway/cas/cas.h"
#include "gateway/client/client.h"
#include "gateway/pool/execute.h"
#include "gateway/reapi/reapi.h"

struct gateway_thread;

struct gateway_thread_options {
	uint64_t ceiling_bytes;          /* 0: 256 MiB */
	const char *tokens;              /* content of a tokens file; NULL: none */
	const struct index_engine *index;        /* NULL: LMDB */
	enum ring_engine engine;
	enum sha256_backend hasher;      /* that this CPU lacks: OpenSSL */
	bool web;                        /* HTTP's cache, too */
	bool executors;                  /* any process of our own user may attach as one */
	bool refuse_host_root;
	uint64_t idle_timeout_ns;        /* of a connection; 0: the server's default */
	uint64_t linger_ns;              /* of an action whose caller's connection broke; 0: none */
	const struct server_method *more;        /* further methods, ending with NULL; their context: the parts. NULL: none */
	const char *const *buildkit;     /* addresses of buildkitd of tenant default, which NULL ends; NULL: none */
	uint32_t slots;                  /* of each; 0: the pool's default */
	uint64_t queue_timeout_ns;       /* 0: the pool's default */
	struct build_events build_events;
	enum replay_policy replay;
	bool (*spawnable)(void *context, const char *tenant, bool waiting);      /* as a spawner says it; NULL: there is none */
	void *spawnable_context;
};

/* What it is made of, for gateway_thread_call(). */
struct gateway_parts {
	struct ring *ring;
	struct store *store;
	struct server *server;
	struct cas cas;
	struct pool *pool;
	struct execute_service execute;
	struct reapi reapi;
	struct executors *executors;     /* NULL: none */
	struct buildkit *buildkit;       /* likewise */
};

struct gateway_thread *gateway_thread_start(const struct gateway_thread_options *options);
/* Drains, waits for what is in flight, closes the store; with `remove` also removes the directory. */
void gateway_thread_stop(struct gateway_thread *gateway, bool remove);
/* As SIGTERM would; gateway_thread_stop() is still to be called. */
void gateway_thread_drain(struct gateway_thread *gateway);
/* A client of it; `token` NULL: tenant default; `instance` NULL: the nameless one. */
struct client *gateway_thread_client(struct gateway_thread *gateway, const char *token);
struct client *gateway_thread_client_of(struct gateway_thread *gateway, const char *token, const char *instance);
const char *gateway_thread_path(const struct gateway_thread *gateway);
/* Runs `fn` on the gateway's thread and waits for it. */
void gateway_thread_call(struct gateway_thread *gateway, void (*fn)(struct gateway_parts *parts, void *context), void *context);
/* Waits until `fn`, run there in between turns, says true; fails the test after 20 s. */
void gateway_thread_until(struct gateway_thread *gateway, bool (*fn)(struct gateway_parts *parts, void *context), void *context);
/* Lets the client send what it has until `fn` says true on the gateway's thread, however slow either is. */
void client_run_until(struct client *with, struct gateway_thread *gateway,
                      bool (*fn)(struct gateway_parts *parts, void *context), void *context);
