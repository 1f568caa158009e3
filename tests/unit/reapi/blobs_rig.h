/*
 * blobs_rig: a gateway and a client of it, one of each for all tests of a program. Another tenant's tokens are "reader",
 * "writer", "committer", who may not write, and "keeper", who may both. With an index that answers late when started with "late".
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/reapi/requests.h"

extern struct gateway_thread *gateway;
extern struct client *client;

/* For main(). */
#define blobs_run(argc, argv, tests) (blobs_choose(argc, argv), cmocka_run_group_tests(tests, blobs_setup, blobs_teardown))
void blobs_choose(int argc, char **argv);
int blobs_setup(void **state);
int blobs_teardown(void **state);

/* No call is open; for gateway_thread_until(). */
bool blobs_are_idle(struct gateway_parts *parts, void *context);
/* The code in a batch's answer of one of its blobs. */
uint32_t response_status(const struct answer *answer, size_t which);
