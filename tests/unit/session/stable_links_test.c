/*
 * Hard links under stable keys: at the daemon a file and its further names are one, and have one mtime; what is claimed of a name is
 * not believed of a file of its own.
 */
#include "tests/unit/session/keyed.h"

/* Two of one size. */
#define FIRST   3
#define FURTHER 17

static void make_tree(uint32_t files, uint32_t seed)
{
	rig_tree_make(&keyed_tree, files, seed);
	assert_int_equal(keyed_tree.files[FIRST].size, keyed_tree.files[FURTHER].size);
	keyed_tree.files[FURTHER].mtime_ns = keyed_tree.files[FIRST].mtime_ns;
}

/* The daemon has another file there, of the same size and mtime, while a second daemon was told of a link. */
static void a_name_is_not_believed_of_a_file(void **state)
{
	static struct keyed_disk here;
	static struct rig_tree plain;

	make_tree(30, 20);
	plain = keyed_tree;
	keyed_build("app:1");
	here = *keyed_disk;
	keyed_disk->count = 0;
	rig_tree_link(&keyed_tree, FURTHER, FIRST);
	keyed_build("app:1");
	assert_int_equal(keyed_mtimes[FURTHER], plain.files[FURTHER].mtime_ns);
	*keyed_disk = here;
	keyed_tree = plain;
	keyed_tree.files[FURTHER].seed = keyed_tree.files[FIRST].seed;
	assert_int_equal(keyed_build("app:1"), 1);
	assert_int_equal(keyed_disks_count, 1);
}

/* Nor when an edge names its content, as if it were one. */
static void a_name_that_came_ahead_is_none_either(void **state)
{
	int64_t told;

	make_tree(30, 21);
	rig_tree_link(&keyed_tree, FURTHER, FIRST);
	keyed_plan.ahead = keyed_plan.names_links = true;
	keyed_build("app:1");
	assert_true(keyed_edge.asked_ahead);
	told = keyed_mtimes[FURTHER];
	keyed_tree.files[FURTHER].link[0] = 0;
	assert_int_equal(keyed_build("app:1"), 1);
	assert_true(keyed_mtimes[FURTHER] != told);
}

static struct rig_tree other;

static void build_other(void)
{
	keyed_build_other(&other, "app:2");
	stand_in_say_root(&keyed_edge);
}

/*
 * Between a file and its further name another build claims another content of the same size and mtime for the file: the name goes
 * by what this daemon was told, and the other content is given to it when it is built there.
 */
static void a_name_goes_by_what_this_daemon_was_told(void **state)
{
	make_tree(300, 22);
	rig_tree_link(&keyed_tree, 200, FIRST);
	keyed_build("app:1");
	other = keyed_tree;
	other.files[FIRST].seed += 1000;
	other.files[200].seed += 1000;
	keyed_plan.same = 150;
	keyed_plan.meanwhile = build_other;
	assert_int_equal(keyed_build("app:1"), 0);
	assert_true(keyed_edge.asked_same);
	keyed_plan.same = 0;
	keyed_plan.meanwhile = NULL;
	keyed_tree = other;
	assert_int_equal(keyed_build("app:1"), 1);
	assert_int_equal(keyed_disks_count, 1);
}

static void say_unfit(void)
{
	stand_in_say_unfit(&keyed_edge);
}

/* Where a context is unfit behind what was the same, further names have the mtimes of files before and behind that border. */
static void names_behind_what_was_the_same(void **state)
{
	make_tree(300, 23);
	rig_tree_link(&keyed_tree, 200, FIRST);
	keyed_build("app:1");
	rig_tree_link(&keyed_tree, 210, 160);    /* so their paths have not been told the same mtimes */
	keyed_plan.same = 150;
	keyed_plan.unfit = "a device";
	keyed_plan.meanwhile = say_unfit;
	keyed_build("app:1");
	assert_true(keyed_edge.asked_same && keyed_asked[160] && !keyed_asked[FIRST]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		KEYED_TEST(a_name_is_not_believed_of_a_file),
		KEYED_TEST(a_name_that_came_ahead_is_none_either),
		KEYED_TEST(a_name_goes_by_what_this_daemon_was_told),
		KEYED_TEST(names_behind_what_was_the_same),
	};

	return keyed_run(argc, argv, tests);
}
