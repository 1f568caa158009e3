/*
 * fixture: a ledger in a temporary directory on a real ring, and blocking forms of its calls, for tests.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/ledger/engine.h"
#include "gateway/ledger/ledger.h"

struct fixture {
	char directory[64];
	enum ring_engine ring_engine;
	struct ring *ring;
	struct ledger *ledger;
	struct ledger_config config;
};

/* An empty directory; nothing is opened. `engine` "sqlite" or "slow", `ring` "auto" or "epoll". */
void fixture_init(struct fixture *fixture, const char *engine, const char *ring);
/* Closes the ledger when it is open, and removes the directory. */
void fixture_fini(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
/* Of what cannot be opened: the error, and what is said. */
int fixture_open_fails(struct fixture *fixture, char why[static 1024]);
void fixture_close(struct fixture *fixture);
/* The path of the database; until the next call. */
const char *fixture_path(const struct fixture *fixture);

/* A line that differs from others with another number in every member. Ends at `number` seconds after 1970. */
struct ledger_build line_make(const char *tenant, uint32_t number);
/* Runs the ring until the line is there; its result. */
int append_line(struct fixture *fixture, const struct ledger_build *build);
/* Lists; `builds` has room for `list->limit`. Its result. */
int list_lines(struct fixture *fixture, struct ledger_list *list);
/* How many lines a tenant has, at most LEDGER_LIST_MAX. */
size_t count_lines(struct fixture *fixture, const char *tenant);
/* Runs the ring until `*done`; fails the test after 20 s. */
void run_until(struct fixture *fixture, const bool *done);
struct ledger_status status_of(const struct fixture *fixture);
