/*
 * daemon_stand_in: a buildkitd as far as the pool of executors asks one: health, workers, version, and a Ping inside a build.
 * On the ring of whoever tests. What it says may change at any time.
 */
#pragma once

#include "gateway/net/server.h"

struct daemon_stand_in {
	/* Set before the start, or later. */
	bool not_serving;                /* what the health check says */
	bool no_health;                  /* health checks are not known, as with old ones */
	bool silent;                     /* health checks are not answered */
	bool no_workers;                 /* ListWorkers is refused */
	bool no_info;                    /* Info is not known, as with old ones */
	bool malformed;                  /* the Pong is */
	const char *capability;          /* one more than `base`; NULL: none */
	const char *platform;            /* one more architecture; NULL: none */
	struct tls_context *tls;         /* NULL: none */
	bool tcp;                        /* on loopback, else on a unix socket; a port may be taken when it starts again */
	/* The stand-in's. */
	struct ring *ring;
	struct server *server;           /* NULL: not started */
	char bound[ADDRESS_TEXT_MAX];    /* kept between starts, and listened on again */
	bool drained;
	unsigned checks, asked, builds, open_builds, returns;
	struct list calls;
};

void daemon_stand_in_start(struct daemon_stand_in *stand_in, struct ring *ring);
/* All its connections are closed at once. It may be started again. Not started: nothing. */
void daemon_stand_in_stop(struct daemon_stand_in *stand_in);
struct address daemon_stand_in_address(const struct daemon_stand_in *stand_in);

/* Turns of the loop of `fixture->ring` until a condition holds; 20 s are too many. */
#define DAEMON_UNTIL(fixture, condition)                                                                               \
	do {                                                                                                           \
		uint64_t begun_ns = ring_now_ns((fixture)->ring);                                                      \
		while (!(condition)) {                                                                                 \
			ring_run((fixture)->ring, 100000000);                                                          \
			if (ring_now_ns((fixture)->ring) - begun_ns > 20000000000ull)                                  \
				fail_msg("never: %s", #condition);                                                     \
		}                                                                                                      \
	} while (0)
