/*
 * What stable keys save, and that it costs no right byte: whatever clients' disks say, the daemon ends up with the right
 * bytes, and is given only what changed: a fresh checkout elsewhere costs nothing; two directories that look the same are
 * told apart; a content that returns looks new.
 */
#include "tests/unit/session/keyed.h"

#include <string.h>

static void a_fresh_checkout_elsewhere_costs_nothing(void **state)
{
	rig_tree_make(&keyed_tree, 300, 1);
	assert_int_equal(keyed_build("app:runner1"), keyed_files_of(&keyed_tree));
	assert_true(keyed_edge.asked_times);
	assert_true(strncmp(keyed_disk->key, "app:", 4) == 0 && strcmp(keyed_disk->key, "app:runner1") != 0);
	keyed_touch_all(1000000007);
	assert_int_equal(keyed_build("app:runner2"), 0);
	assert_false(keyed_edge.asked_times);
	assert_int_equal(keyed_edge.wanted, 0);  /* nor are any times wanted */
	assert_int_equal(keyed_disks_count, 1);
	/* After a restart as well. */
	rig_reopen_stable(&keyed_rig, "true");
	keyed_touch_all(7);
	assert_int_equal(keyed_build("app:runner3"), 0);
	assert_int_equal(keyed_disks_count, 1);
	/* Another directory has another key. */
	keyed_build("other:runner3");
	assert_int_equal(keyed_disks_count, 2);
}

static void only_what_changed_is_asked_for(void **state)
{
	rig_tree_make(&keyed_tree, 250, 2);
	keyed_build("app:1");
	keyed_touch_all(1000000007);
	for (uint32_t i = 10; i < 15; i++)
		keyed_tree.files[i].seed += 5000;
	assert_int_equal(keyed_build("app:2"), 5);
	assert_true(keyed_edge.wanted >= 4 && keyed_edge.wanted <= 5);  /* an empty one stays what it is */
}

/* The same path, size and mtime, and other bytes: BuildKit's own test sees no difference. */
static void what_looks_the_same_is_told_apart(void **state)
{
	int64_t before;

	rig_tree_make(&keyed_tree, 120, 3);
	keyed_build("app:1");
	before = keyed_mtimes[5];
	keyed_tree.files[5].seed += 9000;
	keyed_tree.files[4].seed += 9000;
	assert_int_equal(keyed_tree.files[5].size, 32768);
	assert_int_equal(keyed_build("app:2"), 2);
	assert_int_equal(keyed_mtimes[5], before + 1);
	/* It has the mtime that the other content had under this key. */
	keyed_tree.files[5].seed += 9000;
	keyed_tree.files[5].mtime_ns = before + 1;
	assert_int_equal(keyed_build("app:1"), 1);
	assert_int_equal(keyed_mtimes[5], before + 2);
}

/* make and cargo rely on it: what is written anew is newer than what was made of the former content. */
static void a_content_that_returns_looks_new(void **state)
{
	int64_t first, second;

	rig_tree_make(&keyed_tree, 60, 4);
	keyed_build("app:1");
	first = keyed_mtimes[7];
	keyed_tree.files[7].seed += 1;
	keyed_tree.files[7].mtime_ns += 500;
	assert_int_equal(keyed_build("app:1"), 1);
	second = keyed_mtimes[7];
	assert_int_equal(second, first + 500);
	/* Reverted, by a checkout now or with its mtime of then. */
	keyed_tree.files[7].seed -= 1;
	keyed_tree.files[7].mtime_ns += 500;
	assert_int_equal(keyed_build("app:1"), 1);
	assert_int_equal(keyed_mtimes[7], first + 1000);
	keyed_tree.files[7].seed += 1;
	keyed_build("app:1");
	keyed_tree.files[7].seed -= 1;
	keyed_tree.files[7].mtime_ns = first;
	assert_int_equal(keyed_build("app:1"), 1);
	assert_true(keyed_mtimes[7] != first && keyed_mtimes[7] != first + 1000);
}

/* Random histories of two checkouts under one name; the disk's own check finds any old byte. */
static void histories_leave_no_old_bytes(void **state)
{
	uint64_t x = 88172645463325252ull;
	unsigned rebuilds = 0;

	rig_tree_make(&keyed_tree, 40, 5);
	for (int round = 0; round < 120; round++) {
		for (int edits = 0; edits < 4; edits++) {
			uint32_t i;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			i = (uint32_t)(x % keyed_tree.count);
			keyed_tree.files[i].seed = (uint32_t)(x >> 20) % 4;
			keyed_tree.files[i].mtime_ns = (int64_t)(x >> 40) % 3;
		}
		rebuilds += keyed_build(round % 2 ? "app:1" : "app:2") > 0;
		if (round % 30 == 29)
			rig_reopen_stable(&keyed_rig, "true");
	}
	assert_int_equal(keyed_disks_count, 1);
	assert_true(rebuilds > 100);
}

/* A build whose result is to be the same bit by bit has the client's own key and mtimes. */
static void real_times_are_the_clients(void **state)
{
	struct rig_copy copy = { 0 };
	struct rig_daemon *daemon;
	struct rig_client *client;

	rig_tree_make(&keyed_tree, 30, 9);
	keyed_build("app:1");
	keyed_touch_all(12345);
	daemon = &keyed_rig.daemons[0];
	client = rig_client_start(&keyed_rig, &keyed_tree, "app:1");
	session_want_real_times(client->session);
	rig_carry(client, daemon);
	assert_string_equal(daemon->shared_key, "app:1");
	rig_copy_start(&copy, daemon, &keyed_tree);     /* which checks that the mtimes are the tree's */
	rig_until(&keyed_rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_OK);
	rig_copy_fini(&copy);
	rig_client_end(client);
}

/* A claim is made before the content is known, which becomes known later: from then on it is as any other. */
static void what_came_ahead_is_claimed(void **state)
{
	keyed_plan.ahead = true;
	rig_tree_make(&keyed_tree, 300, 11);
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_true(keyed_edge.asked_ahead);
	keyed_touch_all(1000000007);
	assert_int_equal(keyed_build("app:2"), 0);
	assert_false(keyed_edge.asked_ahead);
	rig_reopen_stable(&keyed_rig, "true");
	keyed_tree.files[5].seed += 1;
	assert_int_equal(keyed_build("app:3"), 1);
	assert_int_equal(keyed_disks_count, 1);
	keyed_plan.ahead = false;
}

/* It is at the daemon with a size that it was not told with: what has that size next, and the same mtime, is not taken for it. */
static void what_changed_while_it_came_ahead(void **state)
{
	rig_tree_make(&keyed_tree, 60, 15);
	assert_int_equal(keyed_tree.files[13].size, 7);
	keyed_tree.files[13].odd = true;
	keyed_tree.files[13].sent_size = 20;
	keyed_plan.ahead = true;
	keyed_build("app:1");
	assert_true(keyed_edge.asked_ahead);
	assert_int_equal(keyed_disk->files[13].size, 20);
	rig_reopen_stable(&keyed_rig, "true");
	keyed_tree.files[13].odd = false;
	keyed_tree.files[13].size = 20;
	keyed_tree.files[13].seed += 1;
	assert_int_equal(keyed_build("app:2"), 1);
	assert_int_equal(keyed_disks_count, 1);
}

/* Two projects of one name: from the second change on each has a key of its own, or at least none has the other's bytes. */
static void another_tree_gets_another_key(void **state)
{
	rig_tree_make(&keyed_tree, 1200, 10);
	keyed_build("app:1");
	for (uint32_t i = 0; i < keyed_tree.count; i++)
		keyed_tree.files[i].path[0] = 'e';
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_int_equal(keyed_disks_count, 1);
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_int_equal(keyed_disks_count, 2);
	assert_int_equal(keyed_build("app:1"), 0);
}

static void name_differently(struct rig_tree *of)
{
	for (uint32_t i = 0; i < of->count; i++)
		of->files[i].path[0] = 'e';
}

/* Two projects in directories of one name, built in turns: once each has had its key, neither's build costs the other anything. */
static void namesakes_go_on_with_their_own(void **state)
{
	static struct rig_tree other;

	rig_tree_make(&keyed_tree, 1200, 11);
	other = keyed_tree;
	name_differently(&other);
	keyed_build("app:1");
	for (int turn = 0; turn < 6; turn++) {
		struct rig_tree swap = keyed_tree;
		uint32_t asked_for;

		keyed_tree = other;
		other = swap;
		asked_for = keyed_build(turn % 2 ? "app:1" : "app:2");
		/* The second one has all brought twice: under the first's key, and under its own. */
		assert_int_equal(asked_for, turn == 0 || turn == 2 ? keyed_files_of(&keyed_tree) : 0);
	}
	assert_int_equal(keyed_disks_count, 2);
	/* A machine that is not known goes on with what was built last. */
	assert_int_equal(keyed_build("app:3"), 0);
	assert_int_equal(keyed_disks_count, 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		KEYED_TEST(a_fresh_checkout_elsewhere_costs_nothing),
		KEYED_TEST(only_what_changed_is_asked_for),
		KEYED_TEST(what_looks_the_same_is_told_apart),
		KEYED_TEST(a_content_that_returns_looks_new),
		KEYED_TEST(histories_leave_no_old_bytes),
		KEYED_TEST(real_times_are_the_clients),
		KEYED_TEST(what_came_ahead_is_claimed),
		KEYED_TEST(what_changed_while_it_came_ahead),
		KEYED_TEST(another_tree_gets_another_key),
		KEYED_TEST(namesakes_go_on_with_their_own),
	};

	return keyed_run(argc, argv, tests);
}
