/*
 * server_rig: a server, clients of it and what its status may come to, for the tests of how a server treats its peers, each of
 * which runs over both ring engines.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/client/client.h"
#include "tests/unit/net/echo.h"
#include "tests/unit/net/wire.h"

#define MS 1000000ull

extern const enum ring_engine rig_uring, rig_epoll;

/* A test's state is its engine. */
#define RIG_BOTH(test) \
	cmocka_unit_test_prestate(test, (void *)&rig_uring), cmocka_unit_test_prestate(test, (void *)&rig_epoll)

/* A group's set-up, where keys_make() is none: only errors are logged. */
int rig_quiet(void **state);
/* Over the test's engine. */
void rig_start(struct echo *echo, void **state, struct echo_config config);
/* A client that is not connected yet; and one that is. */
struct client *rig_client_begin(const struct echo *echo);
struct client *rig_client(const struct echo *echo);

/* For echo_until(). */
bool rig_connections_are(const struct server_status *status, uint64_t value);
/* All came, and one is left: some may not be accepted yet when the others have gone. */
bool rig_one_is_left_of(const struct server_status *status, uint64_t value);
bool rig_stalls_are(const struct server_status *status, uint64_t value);
bool rig_streams_are(const struct server_status *status, uint64_t value);
