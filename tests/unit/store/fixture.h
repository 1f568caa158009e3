/*
 * fixture: a store in a temporary directory on a real ring, and blocking forms of its calls, for tests.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/ring/ring.h"
#include "gateway/store/fsck.h"
#include "gateway/store/index.h"
#include "gateway/store/layout.h"
#include "gateway/store/store.h"
#include "tests/unit/store/blobs.h"

struct fixture {
	char path[64];
	struct ring *ring;
	struct store *store;
	struct store_config config;
	struct scope a, b;               /* two tenants */
};

/* The index engine of all fixtures: "lmdb", "late" or "stale" (index_delay.h). For main() with its first argument. */
void fixture_choose_index(const char *name);
/* "epoll": that engine of the ring instead of the best one. */
void fixture_choose_ring(const char *name);
/* An empty directory; nothing is opened. Ceiling 64 MiB unless changed in `config`. */
void fixture_init(struct fixture *fixture);
/* Removes it. */
void fixture_fini(struct fixture *fixture);
/* Both for cmocka: `*state` is a fixture of its own. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);
/* Leaves the store as kill -9 would: a copy of the directory as it is on disk now takes its place, closed. */
void fixture_crash(struct fixture *fixture);

/* All run the ring until the answer is there, and return `result`. */
int put_blobs(struct fixture *fixture, const struct scope *scope, const struct blob *blobs, size_t count);
int put_blob(struct fixture *fixture, const struct scope *scope, const struct blob *blob);
int sync_store(struct fixture *fixture);
/* The place, 0: missing. */
uint32_t lookup_blob(struct fixture *fixture, const struct scope *scope, const struct digest *digest);
/* Checks the bytes when the answer is STORE_OK. */
int read_blob(struct fixture *fixture, const struct scope *scope, const struct blob *blob);
int pin_root(struct fixture *fixture, const struct scope *scope, const struct digest *root, uint64_t expires_wall_ns);
bool mark_write(struct fixture *fixture, const struct scope *scope, const struct digest *directory, uint64_t sequence,
                const uint32_t *places, size_t places_count);
bool mark_fresh(struct fixture *fixture, const struct scope *scope, const struct digest *directory);

/* Runs the ring until `*done`; fails the test after 20 s. */
void run_until(struct fixture *fixture, const bool *done);
/* Runs fsck on the closed store. */
int fsck_store(struct fixture *fixture, bool repair, struct fsck_report *report);
/* Writes a row into the index of the closed store, whatever is in it. */
void put_row(const struct fixture *fixture, enum index_table table, struct span key, struct span value);
/* Blocks on disk of everything in the directory, in bytes. */
uint64_t disk_usage(const struct fixture *fixture);
/* Flips a byte wherever `blob` lies in the segments of the closed store; returns in how many places. */
unsigned damage_blob(const struct fixture *fixture, const struct blob *blob);
