/*
 * stat_rig: a memory of stats in a directory of its own, on a ring of the engine that the test's argument names, and files by number:
 * their keys, and the contents that they have.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gateway/broker/stat_memory.h"

extern char rig_snapshots[80];           /* the memory's directory */
extern struct ring *rig_ring;
extern struct stat_memory *rig_memory;

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
#define rig_run(argc, argv, tests) (rig_take_engine(argc, argv), cmocka_run_group_tests(tests, NULL, NULL))
void rig_take_engine(int argc, char **argv);
int rig_setup(void **state);
int rig_teardown(void **state);

/* All that was to be saved is, with the closing. */
void rig_open_memory(void);
void rig_close_memory(void);

void rig_run_until(const bool *done);

struct rig_asking {
	struct stat_request request;
	bool done;
};
void rig_on_table(struct stat_request *request);         /* of a rig_asking */

void rig_trust_key(unsigned number, uint8_t key[STAT_KEY_BYTES]);
struct stat_table *rig_get(unsigned number);
struct stat_memory_status rig_status(void);

struct stat_entry_key rig_entry_key(unsigned number);
struct content_name rig_name_of(unsigned number);
void rig_learn_one(struct stat_table *table, unsigned number);
/* Larger slots are made by a worker, which on a busy core takes its time: until then some are dropped, and learned anew. */
void rig_learn(struct stat_table *table, unsigned first, unsigned end);
bool rig_knows(struct stat_table *table, unsigned number);
void rig_assert_knows(struct stat_table *table, unsigned first, unsigned end);
