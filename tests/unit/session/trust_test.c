/*
 * Shows which of a client's stats the broker takes for evidence, between clients as buildx is one and daemons as buildkitd is one:
 * of the Dockerfile and the ignore file none, be it that another build was there before or is there at the same time; where times are
 * set, the one that a path had last; of two directories of one name that a connection has, those of the first. A daemon that gets
 * other bytes than its own client has fails the test.
 */
#include "tests/unit/session/session_rig.h"

#include <stdio.h>

static struct rig rig;

/* What a daemon asks for. */
struct look {
	const char *directory, *followed;
};

static void tree_of_one(struct rig_tree *tree, const char *path, uint64_t size, int64_t mtime_ns, uint32_t seed)
{
	tree->count = 1;
	tree->files[0] = (struct rig_file){ .size = size, .mtime_ns = mtime_ns, .seed = seed };
	snprintf(tree->files[0].path, sizeof(tree->files[0].path), "%s", path);
}

static void copy_end(struct rig_copy *copy)
{
	rig_until(&rig, &copy->closed);
	assert_int_equal(copy->status, GRPC_OK);
	assert_true(copy->fin_received);
	rig_copy_fini(copy);
}

static void client_finish(struct rig_client *client)
{
	rig_client_end(client);
	assert_int_equal(client->status, GRPC_OK);
}

/* Two directories whose only file has one name, size and time: each daemon gets what its own client has. */
static void neither_is_taken_for_the_other(const struct look *look, const char *path, bool at_once)
{
	static struct rig_tree trees[2];
	struct rig_copy copies[2];
	struct rig_client *clients[2];
	struct rig_daemon *daemons[2];

	for (uint32_t i = 0; i < 2; i++) {
		tree_of_one(&trees[i], path, 40, 1700000000123456789, 1 + i);
		copies[i] = (struct rig_copy){ .directory = look->directory, .followed = look->followed };
		clients[i] = rig_client_start(&rig, &trees[i], "app:1");
		daemons[i] = rig_daemon_start(&rig);
		rig_carry(clients[i], daemons[i]);
	}
	for (uint32_t i = 0; i < 2; i++) {
		rig_copy_start(&copies[i], daemons[i], &trees[i]);
		if (!at_once)
			copy_end(&copies[i]);
	}
	for (uint32_t i = 0; i < 2; i++) {
		if (at_once)
			copy_end(&copies[i]);
		assert_int_equal(clients[i]->bytes_sent, 40);
		client_finish(clients[i]);
	}
}

static void of_the_dockerfile_nothing_is_believed(void **state)
{
	const struct look look = { .directory = "dockerfile" };

	neither_is_taken_for_the_other(&look, "Dockerfile", false);
	neither_is_taken_for_the_other(&look, "Dockerfile", true);
}

static void of_the_ignore_file_nothing_is_believed(void **state)
{
	const struct look look = { .directory = "context", .followed = ".dockerignore" };

	neither_is_taken_for_the_other(&look, ".dockerignore", false);
	neither_is_taken_for_the_other(&look, ".dockerignore", true);
}

/* services/a/app and services/b/app, of one bake, as long as both are built; not those of another connection, nor of the same session. */
static void of_two_directories_of_a_name_one_is_believed(void **state)
{
	const struct look look = { .directory = "context" };
	static struct rig_tree tree;
	struct siblings connection;
	struct rig_copy copies[2] = { 0 };
	struct rig_client *client;

	siblings_init(&connection);
	rig.siblings = &connection;
	neither_is_taken_for_the_other(&look, "install.sh", false);
	neither_is_taken_for_the_other(&look, "remove.sh", true);
	tree_of_one(&tree, "install.sh", 40, 1700000000123456789, 1);
	for (int later = 0; later < 2; later++) {        /* in the same connection, and in another one */
		client = rig_client_start(&rig, &tree, "app:1");
		rig_carry(client, &rig.daemons[0]);
		for (uint32_t i = 0; i < 2; i++) {
			rig_copy_start(&copies[i], &rig.daemons[0], &tree);
			copy_end(&copies[i]);
		}
		assert_int_equal(client->bytes_sent, 0);
		client_finish(client);
		rig.siblings = NULL;
	}
}

static bool wants_nothing(const struct rig_file *file)
{
	return false;
}

/* A build of one file, at a daemon that asks for it, or one that has it. Returns the bytes that the client sent. */
static uint64_t build_of(uint64_t size, int64_t mtime_ns, uint32_t seed, bool asks)
{
	static struct rig_tree tree;
	struct rig_copy copy = { .wants = asks ? NULL : wants_nothing };
	struct rig_client *client;

	tree_of_one(&tree, "version", size, mtime_ns, seed);
	client = rig_client_start(&rig, &tree, "app:1");
	rig_carry(client, rig.daemons_count ? &rig.daemons[0] : rig_daemon_start(&rig));
	rig_copy_start(&copy, &rig.daemons[0], &tree);
	copy_end(&copy);
	client_finish(client);
	return client->bytes_sent;
}

/* "1.9", "1.10", "2.0", under a time that is one in all checkouts: the third is not the first. */
static void of_a_time_that_is_set_the_last_stat_is_believed(void **state)
{
	const int64_t set_ns = 1700000000ll * 1000000000;

	assert_int_equal(build_of(3, set_ns, 1, true), 3);
	assert_int_equal(build_of(3, set_ns, 1, true), 0);
	rig_reopen_memory(&rig);
	assert_int_equal(build_of(3, set_ns, 1, true), 0);
	assert_int_equal(build_of(4, set_ns, 2, true), 4);
	assert_int_equal(build_of(3, set_ns, 3, true), 3);
	/* It counts that it was seen, be it asked for or not. */
	assert_int_equal(build_of(4, set_ns, 4, false), 0);
	assert_int_equal(build_of(3, set_ns, 5, true), 3);
}

static void a_clocks_time_is_believed_again(void **state)
{
	const int64_t first_ns = 1700000000500000000, second_ns = 1700000001500000000;

	assert_int_equal(build_of(3, first_ns, 1, true), 3);
	assert_int_equal(build_of(4, second_ns, 2, true), 4);
	assert_int_equal(build_of(3, first_ns, 1, true), 0);
	assert_int_equal(build_of(4, second_ns, 2, true), 0);
}

static int setup(void **state)
{
	rig_init(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_fini(&rig);
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(of_the_dockerfile_nothing_is_believed),
		TEST(of_the_ignore_file_nothing_is_believed),
		TEST(of_two_directories_of_a_name_one_is_believed),
		TEST(of_a_time_that_is_set_the_last_stat_is_believed),
		TEST(a_clocks_time_is_believed_again),
	};

	if (argc > 1)
		fixture_choose_ring(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
