/*
 * builder: a buildkitd as far as builds go, in a thread of its own: it answers what the pool of executors asks, keeps each
 * Solve open until it is told its end, tells progress to Status, says nothing inside a Session, and notes who called what in which order. Every other
 * method echoes: each message back, in order, holding while the way back is full; but
 *
 *	…/Hang      never answers
 *	…/Refuse    PERMISSION_DENIED "not you, 100 % sure"
 *	…/No        UNIMPLEMENTED
 *	…/Sink      counts bytes; answers with their number (u64) at the end
 *	…/Source    first message: how many bytes to send (u64); in 64 KiB messages, byte i is i*7 & 255
 *
 * Like the real one it makes Status and LLBBridge wait for the Solve of their Ref; unlike it, for ever.
 */
#pragma once

#include <pthread.h>
#include "gateway/net/server.h"

#define BUILDER_LOG_MAX 1024

struct builder_entry {
	char method[48];                 /* "Solve"; LLBBridge's as "Bridge/Solve" */
	char ref[64];
	bool open, hidden;               /* hidden: a build of the pool's own */
};

struct builder {
	const char *name;                /* in what it tells: DiskUsage, workers */
	enum ring_engine engine;
	uint64_t prune_bytes;            /* Prune tells that many bytes, as Source does; 0: its name */
	uint32_t streams_max;            /* a connection; 0: 256 */
	bool sick;                       /* at the start: health says NOT_SERVING */
	const char *refuses;             /* a method of LLBBridge ("Bridge/Solve") that fails here; NULL: none */
	const char *hangs;               /* likewise, one that has no answer */
	const char *lacks;               /* a method that fails here, as daemons do what they have not; NULL: none */
	bool follows;                    /* ListenBuildHistory does not end */
	bool exports;                    /* Return does not end a build, which goes on until it is finished */
	/* The builder's. */
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct ring *ring;
	struct server *server;
	char bound[ADDRESS_TEXT_MAX], address[ADDRESS_TEXT_MAX];
	struct builder_entry log[BUILDER_LOG_MAX];
	unsigned logged;
	struct list calls;
	char named[64];                  /* what the last Return carried, as text */
	bool listening, drained, stopped;
	uint64_t connections;
};

/* `builder` is all zero but for its first part. A port is taken at the first start and kept. */
void builder_start(struct builder *builder);
/* At once, and all its connections; it may be started again. */
void builder_stop(struct builder *builder);
/*
 * GOAWAY on each connection that has a call: what is open goes on, and new connections are taken. Each Status tells its progress
 * once more behind it.
 */
void builder_goodbye(struct builder *builder);
/* The health check says so from now on. */
void builder_set_sick(struct builder *builder, bool sick);
/* Ends the Solve of `ref`, and its Status. `text` may be NULL. */
void builder_finish(struct builder *builder, const char *ref, enum grpc_status status, const char *text);
/* What the last Return carried. Returns `text`. */
char *builder_named(struct builder *builder, char *text, size_t size);
/* Calls of that method, without the pool's own. A Solve and a Status are open once they can be finished: their message has come. */
unsigned builder_count(struct builder *builder, const char *method);
unsigned builder_open(struct builder *builder, const char *method);
/* Waits until that many were made, or are open; fails the test after 20 s. */
void builder_until_count(struct builder *builder, const char *method, unsigned count);
void builder_until_open(struct builder *builder, const char *method, unsigned count);
/* The methods in the order in which they came, with blanks in between. Returns `text`. */
char *builder_order(struct builder *builder, char *text, size_t size);
/* Open connections, the pool's included. */
void builder_until_connections(struct builder *builder, uint64_t count);
