/*
 * fixture: what the tests of the ring share. Every test runs on a ring of its own, of the engine named on the command
 * line, and must leave as many descriptors open as there were.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/ring/ring.h"

struct fixture {
	struct ring *ring;
	unsigned descriptors;            /* open before the ring was */
	char directory[64];
};

/* From the command line. */
extern enum ring_engine fixture_engine;

int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Another ring than the default one. */
void fixture_ring(struct fixture *fixture, const struct ring_config *config);

#define fixture_test(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

/* Seconds before a test gives up waiting: for one that hangs, not for one that is slow. */
enum { PATIENCE_S = 120 };

unsigned open_descriptors(void);
/* Waits in the kernel until `*done`, at most two minutes (a busy disk). */
void run_until(struct ring *ring, const bool *done);
void run_until_count(struct ring *ring, const unsigned *count, unsigned wanted);

/* An op that notes how it ended. Checks that its handler is not entered from inside another. */
struct call {
	struct op op;
	unsigned completions;
	int32_t res;
	bool done;
};

void call_on_completion(struct op *op, int32_t res);
struct call *call_init(struct call *call);
int32_t call_wait(struct ring *ring, struct call *call);

/* For handlers of tests: ENTER at the start, LEAVE at the end. */
void handler_enter(void);
void handler_leave(void);

/* Listeners on 127.0.0.1, on ::1 (-1 where there is no IPv6), and on a unix address in the fixture's directory; non-blocking sockets to reach them. */
int listen_tcp(struct sockaddr_storage *address, socklen_t *size);
int listen_tcp6(struct sockaddr_storage *address, socklen_t *size);
int listen_unix(const struct fixture *fixture, struct sockaddr_storage *address, socklen_t *size);
int socket_like(const struct sockaddr_storage *address);
