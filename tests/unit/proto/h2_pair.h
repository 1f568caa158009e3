/*
 * h2_pair: a client engine and a server engine whose outputs are each other's inputs, and consumers that write down
 * what they hear. For tests.
 */
#pragma once

#include "proto/h2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PROBES_MAX 2048

/* One stream as its consumer saw it. */
struct probe {
	struct stream *stream;                   /* NULL before it opens and after on_close */
	struct h2_pair *pair;
	char log[512];                           /* events: "H" headers, "D" first data, "T" trailers, "E" end, "C<code>" */
	char fields[2048];                       /* received fields, "name=value\n" */
	uint8_t *data;
	size_t size, capacity;
	size_t unconsumed;
	bool hold;                               /* do not consume */
	bool closed;
	uint32_t code;
	struct span writing;                     /* what is left to write; goes on at on_writable */
	bool end_after;
	unsigned writables;
	void (*on_event)(struct probe *probe, char event);
	void *context;
};

struct h2_pair {
	struct h2 *client, *server;
	size_t step;                             /* bytes a feed; 0: as they come */
	struct probe accepted[PROBES_MAX];       /* by the server, in order */
	size_t accepted_count;
	bool refuse;                             /* on_stream refuses */
	bool hold;                               /* new probes start held */
	void (*on_stream)(struct probe *probe, const struct h2_request *request);
	unsigned outputs;                        /* on_output calls of both */
	unsigned goaways;
	size_t carried[2];                       /* bytes: client to server, server to client */
	int feed_error[2];                       /* of the server, of the client */
};

extern const struct stream_events probe_events;
/* Both engines give their frames out in pieces. */
extern bool h2_pair_pieces;

extern const struct h2_events pair_client_events, pair_server_events;

/* NULL: defaults. A config with events keeps them and its owner; else they are the probes'. */
void h2_pair_init(struct h2_pair *pair, const struct h2_config *client, const struct h2_config *server);
void h2_pair_fini(struct h2_pair *pair);
/* Carries bytes until both are silent. */
void h2_pair_pump(struct h2_pair *pair);
/* Carries what `from` has to say; false: nothing. */
bool h2_pair_carry(struct h2_pair *pair, bool from_client);

int probe_open(struct h2_pair *pair, struct probe *probe, const char *path, bool end);
void probe_write(struct probe *probe, struct span data, bool end);
void probe_consume(struct probe *probe, size_t bytes);
void probe_fini(struct probe *probe);

#define HEADER(n, v) { .name = { (const uint8_t *)(n), sizeof(n) - 1 }, .value = { (const uint8_t *)(v), sizeof(v) - 1 } }
