/*
 * peer: one end of a connection in the tests. It counts and checks what it receives against a pattern that depends on
 * the position only, sends a number of bytes of that pattern, or echoes; an echo that lags behind by more than
 * `backlog_max` stops reading (ring_cancel) until it has caught up.
 */
#pragma once

#include "tests/unit/ring/fixture.h"

struct peer {
	struct ring *ring;
	int handle;
	struct op recv, send, close;
	bool echo, sending, ended, closed, corrupt;
	int32_t end_res, send_res;
	unsigned pauses;                 /* times that reading was stopped */
	uint64_t received, sent, to_send;
	size_t backlog, backlog_max, piece;
	uint8_t *out;                    /* echo: what is to be sent; else the pattern of the piece under way */
	size_t out_max;
};

/* `backlog_max` 0: no echo. */
void peer_init(struct peer *peer, struct ring *ring, int handle, size_t backlog_max);
/* Starts to receive. */
void peer_open(struct peer *peer);
void peer_send(struct peer *peer, uint64_t bytes, size_t piece);
/* Cancels what is in flight, then closes; to be followed by turns until `closed`. */
void peer_close(struct peer *peer);
void peer_fini(struct peer *peer);

/* Accepts up to `max` peers that echo. */
struct server {
	struct ring *ring;
	struct op accept;
	struct peer *peers;
	size_t backlog_max;
	unsigned accepted, max;
	bool ended;
	int32_t end_res;
	int listener;
};

void server_init(struct server *server, struct ring *ring, int listener, unsigned max, size_t backlog_max);
/* Ends everything, and checks that it does. */
void server_fini(struct server *server);
