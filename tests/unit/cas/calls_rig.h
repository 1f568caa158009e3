/*
 * calls_rig: a gateway and a client of it, anew for each test of calls, with an index that answers late, so that something is always in
 * flight.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway_thread.h"
#include "requests.h"

extern struct gateway_thread *gateway;
extern struct client *client;

/* The token "token-a" is a tenant's. */
#define ACME "a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme all\n"

/* For cmocka. */
int calls_setup(void **state);
/* The same where tenants have tokens, and an index that answers at once. */
int calls_setup_tenants(void **state);
int calls_teardown(void **state);

/* No call is open, and nothing of one in flight; for gateway_thread_until(). */
bool calls_are_idle(struct gateway_parts *parts, void *context);
/* A PinRequest of a root; a FetchRequest of a blob has the same form. */
struct buffer request_pin(const struct digest *root);
