/*
 * What an edge says to be the same before it knows its root is told at once, under the stable key; what follows when that was
 * not true, when the context turns out to be unfit behind it, or when somebody goes.
 */
#include "tests/unit/session/keyed.h"

#include <stdio.h>
#include <string.h>

/* The daemon hears of what is the same while the edge still lists; then of the rest, whether the root is that of the last time or not. */
static void what_is_the_same_is_told_before_the_root(void **state)
{
	rig_tree_make(&keyed_tree, 300, 13);
	keyed_plan.same = 150;
	keyed_build("app:1");
	assert_false(keyed_edge.asked_same);     /* nothing was known of it */
	keyed_touch_all(1000000007);
	assert_int_equal(keyed_build("app:1"), 0);
	assert_true(keyed_edge.asked_same);
	assert_int_equal(keyed_rig.play.counters.plays_same, 1);
	keyed_tree.files[151].seed += 1;
	keyed_tree.files[290].seed += 1;
	assert_int_equal(keyed_build("app:2"), 2);
	keyed_plan.same = keyed_tree.count;
	assert_int_equal(keyed_build("app:1"), 0);
	assert_int_equal(keyed_rig.play.counters.plays_same, 3);
	/* The daemon lost what it had: it is given it, also of what it heard of first. */
	keyed_disk->count = 0;
	keyed_plan.same = 1;
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_int_equal(keyed_disks_count, 1);
}

/* It is looked at again. */
static void what_is_said_to_be_the_same_and_is_not(void **state)
{
	rig_tree_make(&keyed_tree, 300, 14);
	keyed_plan.same = 150;
	keyed_build("app:1");
	keyed_tree.files[5].seed += 1;
	keyed_plan.ends = GRPC_INTERNAL;
	keyed_build("app:1");
	keyed_plan.ends = GRPC_OK;
	keyed_plan.same = 4;
	assert_int_equal(keyed_build("app:1"), 1);
}

static void say_less(void)
{
	stand_in_say_same(&keyed_edge, keyed_plan.same - 1);
}

static void say_more_than_there_is(void)
{
	stand_in_say_same(&keyed_edge, keyed_tree.count + 5);
}

static void say_end(void)
{
	call_finish(&keyed_edge.call, GRPC_INTERNAL, "the edge ends");
}

static void say_unfit(void)
{
	stand_in_say_unfit(&keyed_edge);
}

static void counts_that_make_no_sense(void **state)
{
	rig_tree_make(&keyed_tree, 300, 15);
	keyed_build("app:1");
	keyed_plan.same = 150;
	keyed_plan.meanwhile = say_more_than_there_is;
	keyed_plan.ends = GRPC_INTERNAL;
	keyed_build("app:1");
	/* Its edge is not asked any more; the client has it all. */
	keyed_plan.meanwhile = say_less;
	keyed_plan.ends = GRPC_OK;
	keyed_plan.unfit = "lies";
	keyed_build("app:1");
}

/* The rest comes from the client, under times that are new; what it had is not taken for that. And the key is given up. */
static void unfit_behind_what_is_the_same(void **state)
{
	void (*const ways[])(void) = { say_unfit, say_end };

	for (unsigned i = 0; i < 2; i++) {
		char key[8];

		snprintf(key, sizeof(key), "app%u:1", i);
		rig_tree_make(&keyed_tree, 300, 16);
		keyed_plan.same = 0;
		keyed_plan.unfit = NULL;
		keyed_build(key);
		keyed_touch_all(1000000007);
		keyed_plan.same = 150;
		keyed_plan.unfit = "a device";
		keyed_plan.meanwhile = ways[i];
		keyed_tree.files[170].seed += 1; /* the same path, size and mtime */
		assert_int_equal(keyed_rig.play.counters.plays_same, i);
		assert_true(keyed_build(key) >= 100);
		assert_int_equal(keyed_rig.play.counters.plays_same, i + 1);
		for (uint32_t j = 0; j < keyed_tree.count; j++)
			assert_true(keyed_tree.files[j].directory || keyed_asked[j] == (j >= keyed_plan.same));
		keyed_build(key);
		/* The client's own, where it was said what is wrong with it. */
		assert_int_equal(strcmp(keyed_disk->key, key) == 0, i == 0);
		assert_false(keyed_edge.asked_same);
	}
	keyed_plan.meanwhile = NULL;
}

static void say_gone(void)
{
	call_finish(&keyed_edge.call, GRPC_CANCELLED, "the client ended the call");
}

static void vanish(void)
{
	rig_client_vanish(&keyed_rig.clients[keyed_rig.clients_count - 1]);
}

/*
 * Who cancels a build while the client lists has said nothing of the context, nor has an edge that is lost, whatever the daemon
 * was told by then: the key is kept, for all who have it.
 */
static void who_goes_keeps_the_key(void **state)
{
	void (*const ways[])(void) = { say_gone, vanish };

	rig_tree_make(&keyed_tree, 300, 17);
	keyed_build("app:1");
	for (unsigned i = 0; i < 4; i++) {
		keyed_touch_all(1000000007);
		keyed_plan.silent = i >= 2;
		keyed_plan.same = keyed_plan.silent ? 0 : 150;
		keyed_plan.meanwhile = ways[i % 2];
		keyed_plan.ends = GRPC_UNAVAILABLE;
		keyed_build("app:1");
		keyed_plan.silent = false;
		keyed_plan.same = 0;
		keyed_plan.meanwhile = NULL;
		keyed_plan.ends = GRPC_OK;
		assert_int_equal(keyed_build("app:1"), 0);
		assert_string_not_equal(keyed_disk->key, "app:1");
	}
	/* Nor has an edge whose client had gone when it was asked. */
	keyed_touch_all(1000000007);
	keyed_plan.refuses = true;
	keyed_plan.ends = GRPC_UNAVAILABLE;
	keyed_build("app:1");
	keyed_plan.refuses = false;
	keyed_plan.ends = GRPC_OK;
	assert_int_equal(keyed_build("app:1"), 0);
	assert_string_not_equal(keyed_disk->key, "app:1");
	assert_int_equal(keyed_disks_count, 1);
}

/* A small file among what is said to be the same. */
#define LOST_FILE 5

static void damage_lost_file(void)
{
	unsigned damaged = 0;

	for (uint32_t i = 0; i < keyed_edge.blobs_count; i++)
		if (digest_equal(&keyed_edge.blobs[i].digest, &keyed_edge.names[LOST_FILE].digest))
			damaged += damage_blob(&keyed_rig.fixture, &keyed_edge.blobs[i]);
	assert_true(damaged > 0);
}

static uint64_t corrupt_reads(void)
{
	struct store_status status;

	store_status(keyed_rig.fixture.store, &status);
	return status.corrupt;
}

static void expect_loss_told(void)
{
	rig_until(&keyed_rig, &keyed_copy->closed);
	assert_non_null(strstr(keyed_copy->message, "store lost a part of the context"));
}

static void lose_and_say_unfit(void)
{
	rig_wait(&keyed_rig, corrupt_reads() == 1);
	assert_false(keyed_copy->closed);        /* its root may bring it yet */
	stand_in_say_unfit(&keyed_edge);
	expect_loss_told();
}

static void say_unfit_and_lose(void)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	keyed_copy->stays = true;
	stand_in_say_unfit(&keyed_edge);
	rig_wait(&keyed_rig, keyed_copy->stats_ended);
	damage_lost_file();
	rig_copy_send(keyed_copy, span_make(packet, fsutil_write_req(packet, LOST_FILE)));
	expect_loss_told();
}

/* The store lost a file of which the daemon has heard before the context was unfit: nobody brings it, and the daemon is told. */
static void what_is_lost_and_not_brought_is_told(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		char key[8];

		snprintf(key, sizeof(key), "app%u:1", i);
		rig_tree_make(&keyed_tree, 300, 19);
		keyed_plan.same = 0;
		keyed_plan.unfit = NULL;
		keyed_plan.ends = GRPC_OK;
		keyed_build(key);
		assert_int_equal(sync_store(&keyed_rig.fixture), 0);
		keyed_plan.same = 150;
		keyed_plan.unfit = "a device";
		keyed_plan.ends = GRPC_UNAVAILABLE;
		if (i == 0) {
			damage_lost_file();
			keyed_disk->files[LOST_FILE].mtime_ns++; /* so the daemon asks for it at once */
		}
		keyed_plan.meanwhile = i ? say_unfit_and_lose : lose_and_say_unfit;
		keyed_build(key);
	}
}

static void say_unfit_and_ask_beyond(void)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];

	stand_in_say_unfit(&keyed_edge);
	rig_wait(&keyed_rig, keyed_copy->stats_ended);
	rig_copy_send(keyed_copy, span_make(packet, fsutil_write_req(packet, keyed_tree.count)));
}

static void say_unfit_and_ask_for_ever(void)
{
	uint8_t packet[FSUTIL_HEAD_BYTES_MAX];
	uint32_t file = keyed_tree.count - 1;

	stand_in_say_unfit(&keyed_edge);
	rig_wait(&keyed_rig, keyed_copy->stats_ended);
	for (uint32_t i = 0; i < keyed_tree.count && !keyed_copy->closed; i++)
		rig_copy_send(keyed_copy, span_make(packet, fsutil_write_req(packet, file)));
}

/* What waits for the client is no more than it has files. */
static void who_asks_the_client_for_too_much_is_refused(void **state)
{
	void (*const ways[])(void) = { say_unfit_and_ask_beyond, say_unfit_and_ask_for_ever };

	for (unsigned i = 0; i < 2; i++) {
		char key[8];

		snprintf(key, sizeof(key), "app%u:1", i);
		rig_tree_make(&keyed_tree, 300, 18);
		keyed_plan.same = 0;
		keyed_plan.unfit = NULL;
		keyed_plan.ends = GRPC_OK;
		keyed_build(key);
		keyed_plan.same = 150;
		keyed_plan.unfit = "a device";
		keyed_plan.meanwhile = ways[i];
		keyed_plan.ends = GRPC_INVALID_ARGUMENT;
		keyed_build(key);
	}
}

/* The client has something else by then: the daemon has heard of what is not there. */
static void a_context_that_changes_while_it_is_unfit(void **state)
{
	static struct rig_tree other;

	rig_tree_make(&keyed_tree, 300, 17);
	keyed_build("app:1");
	other = keyed_tree;
	other.files[20].path[strlen(other.files[20].path) - 1] ^= 1;
	keyed_plan.listed = &other;
	keyed_plan.same = 150;
	keyed_plan.unfit = "a device";
	keyed_plan.meanwhile = say_unfit;
	keyed_plan.ends = GRPC_UNAVAILABLE;
	keyed_build("app:1");
	keyed_plan.listed = NULL;
	keyed_plan.ends = GRPC_OK;
	keyed_build("app:1");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		KEYED_TEST(what_is_the_same_is_told_before_the_root),
		KEYED_TEST(what_is_said_to_be_the_same_and_is_not),
		KEYED_TEST(counts_that_make_no_sense),
		KEYED_TEST(unfit_behind_what_is_the_same),
		KEYED_TEST(who_goes_keeps_the_key),
		KEYED_TEST(what_is_lost_and_not_brought_is_told),
		KEYED_TEST(who_asks_the_client_for_too_much_is_refused),
		KEYED_TEST(a_context_that_changes_while_it_is_unfit),
	};

	return keyed_run(argc, argv, tests);
}
