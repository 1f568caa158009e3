/*
 * playback_rig: a set of playbacks of a fixture's store, and plays, whose bytes are compared with the content as they
 * are taken and whose events are checked as they come. For tests, which run with each index engine and both ring
 * engines.
 */
#pragma once

#include "gateway/cas/playback.h"
#include "proto/buffer.h"
#include "tests/unit/cas/contents.h"

#define NOT_TOLD (-10000)
#define PLAYS    64                      /* for who wants many */
/* What is read ahead, and a longest chunk each. */
#define RIG_MEMORY_MAX (PLAYBACKS_BYTES_MAX + PLAYBACKS_ACTIVE_MAX * ((300u << 10)))

struct play {
	struct playback playback;
	const struct content *content;
	uint64_t start;
	int ready, failed;               /* as told; else NOT_TOLD */
	unsigned data_events;
	bool starved;
};

extern struct fixture rig_fixture;
extern struct cas rig_cas;
extern struct playbacks *rig_playbacks;
extern void (*rig_hook)(struct play *play);      /* at the end of each event, unless NULL */

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
/* For main(). */
#define rig_run(argc, argv, tests) (rig_choose(argc, argv), cmocka_run_group_tests(tests, NULL, NULL))
void rig_choose(int argc, char **argv);
int rig_setup(void **state);
int rig_setup_small(void **state);       /* with a store that is soon full */
int rig_teardown(void **state);

/* The set, when there is none. */
void rig_create(void);
/* The set goes, and the store is closed; and there are both again. */
void rig_close(void);
void rig_open_again(void);
void rig_turn(void);

void play_start(struct play *play, const struct content_name *name, const struct content *content, uint64_t offset);
/* Takes up to `size` of what is there, and compares. Returns how much. */
size_t play_take(struct play *play, size_t size);
/* Runs until it is told whether it is ready. */
void play_ready(struct play *play);
/* To its end, or to where it fails. */
void play_through(struct play *play);
void rig_assert_plays(const struct content_name *name, const struct content *content, uint64_t offset);
void rig_assert_missing(const struct content_name *name);

/* Into the store, as a blob, whose data is borrowed from the buffer. */
struct blob rig_put_buffer(struct buffer *bytes);
