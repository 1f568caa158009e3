/*
 * admin: the operator's port, HTTP by libmicrohttpd in a thread of its own. It never touches what the loop owns: the
 * loop publishes a copy of its numbers, and this thread reads that copy.
 *
 *	/metrics   the counters as Prometheus text
 *	/healthz   200 while the loop publishes; 503 when it has not for `stale_ns`
 *	/readyz    200 when builds may be sent here; 503, with the reason, before that, from the drain on, and when the store failed
 *
 * No credential is asked for: bind it to loopback, or where only operators reach it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "gateway/admin/counters.h"

#define ADMIN_PORT_DEFAULT 8373

struct admin;

struct admin_config {
	const char *address;             /* "127.0.0.1:8373", "[::1]:0", ":8373" (loopback) */
	const char *version, *engine;    /* labels of sluice_info; borrowed; "io_uring" or "epoll" */
	uint64_t stale_ns;               /* 0: 10 s */
	uint64_t (*now)(void);           /* NULL: CLOCK_MONOTONIC, nanoseconds; tests turn their own. From any thread */
};

enum {
	ADMIN_CONNECTIONS_MAX = 64,
	ADMIN_TIMEOUT_SECONDS = 10,
	ADMIN_CONNECTION_BYTES = 16 << 10,       /* memory for a request: a longer one is refused */
};

/* No other machine, and no other network namespace, reaches it. No name is looked up: of those only "localhost" counts. */
bool admin_on_loopback(const char *address);
/* Binds and starts the thread. `bound` gets "127.0.0.1:8373" with the real port. 0 or -errno with `why`. */
int admin_create(struct admin **admin, const struct admin_config *config, char *bound, size_t bound_size, char *why,
                 size_t why_size);
/* From the loop, about once a second: a copy is taken. */
void admin_publish(struct admin *admin, const struct counter_values *values);
/* `why` is borrowed and must be static: "draining". Not ready ("starting") at first. */
void admin_set_ready(struct admin *admin, bool ready, const char *why);
/* Ends the thread and closes its connections; at most one request's time. NULL is accepted. */
void admin_destroy(struct admin *admin);
