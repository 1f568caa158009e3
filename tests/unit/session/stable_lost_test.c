/*
 * What is lost leads to another key, never to old bytes: a table that is gone, cut short, damaged or cannot be written, and a
 * context that the edge could not give.
 */
#include "tests/unit/session/keyed.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of $f, whatever it is. */
#define CHANGE_BYTE(at)                                                                                                \
	"b=$(od -An -tu1 -j" #at " -N1 $f); printf \"\\\\$(printf %03o $((b ^ 64)))\" | "                                   \
	"dd of=$f bs=1 seek=" #at " conv=notrunc status=none"

static void a_table_that_is_gone_takes_its_key_along(void **state)
{
	static const char *const losses[] = {
		"find . -type f ! -name secret -delete",
		"rm secret",
		"for f in ????????????????????????????????; do " CHANGE_BYTE(300) "; done",
		"for f in ????????????????????????????????; do " CHANGE_BYTE(9) "; done",
		"for f in ????????????????????????????????; do chmod 666 $f; done",
	};

	for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		rig_tree_make(&keyed_tree, 30, 6);
		keyed_build("app:1");
		rig_reopen_stable(&keyed_rig, losses[i]);
		keyed_tree.files[5].seed += 1;   /* the same path, size and mtime */
		assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
		assert_int_equal(keyed_disks_count, i + 2);
		assert_int_equal(keyed_build("app:1"), 0);
	}
}

/* What a crash leaves behind the last claims that anybody was told of. */
static void a_torn_tail_is_no_loss(void **state)
{
	static const char *const tails[] = { "printf abcdef", "head -c 5000 /dev/zero" };
	char command[256];

	for (size_t i = 0; i < 2; i++) {
		rig_tree_make(&keyed_tree, 30, 7);
		keyed_build("app:1");
		snprintf(command, sizeof(command), "for f in ????????????????????????????????; do %s >>$f; done", tails[i]);
		rig_reopen_stable(&keyed_rig, command);
		keyed_tree.files[5].seed += 1;
		assert_int_equal(keyed_build("app:1"), 1);
		rig_reopen_stable(&keyed_rig, "true");
		assert_int_equal(keyed_build("app:1"), 0);
		assert_int_equal(keyed_disks_count, 1);
		keyed_tree.files[5].seed -= 1;
		assert_int_equal(keyed_build("app:1"), 1);
	}
}

/* Every claims file that is open takes nothing more. */
static void fill_the_disk(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char target[256];
		ssize_t size = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		int full;

		target[size < 0 ? 0 : size] = 0;
		if (!strstr(target, "/claims/"))
			continue;
		full = open("/dev/full", O_RDWR | O_CLOEXEC);
		assert_true(full >= 0 && dup2(full, atoi(entry->d_name)) >= 0);
		close(full);
		count++;
	}
	closedir(dir);
	assert_int_equal(count, 1);
}

/* Nothing is told that rests on a claim which is not on the disk, and the next build has another key. */
static void what_cannot_be_kept_is_not_told(void **state)
{
	struct rig_copy copy = { .wants = keyed_wants, .mtimes = keyed_mtimes };
	struct rig_client *client;
	struct stable_status status;

	rig_tree_make(&keyed_tree, 30, 8);
	keyed_build("app:1");
	fill_the_disk();
	keyed_tree.files[5].seed += 1;
	keyed_take_tree();
	client = rig_client_start(&keyed_rig, &keyed_tree, "app:1");
	rig_carry(client, &keyed_rig.daemons[0]);
	rig_copy_start(&copy, &keyed_rig.daemons[0], &keyed_tree);
	rig_until(&keyed_rig, &copy.closed);
	assert_int_equal(copy.status, GRPC_UNAVAILABLE);
	assert_true(copy.stats <= 5);
	rig_copy_fini(&copy);
	rig_client_end(client);
	stable_status(keyed_rig.play.stable, &status);
	assert_int_equal(status.writes_failed, 1);
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_int_equal(keyed_disks_count, 2);
}

/*
 * An edge that cannot give a context leaves a plain copy under the stable key, of files that nobody named: the executor keeps
 * none of them for another. And the directory does not go by such a key any more, for now.
 */
static void what_nobody_named_is_not_taken_for_known(void **state)
{
	rig_tree_make(&keyed_tree, 60, 12);
	keyed_build("app:1");
	keyed_plan.unfit = "a device";
	keyed_tree.files[5].seed += 1;           /* the same path, size and mtime */
	keyed_tree.files[9].seed += 1;
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_int_equal(keyed_disks_count, 1);
	/* Under the client's own key it is as with no edge. */
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_string_equal(keyed_disk->key, "app:1");
	assert_int_equal(keyed_build("app:1"), 0);
	keyed_plan.unfit = NULL;
	assert_int_equal(keyed_build("app:1"), 0);
	assert_string_equal(keyed_disk->key, "app:1");
	/* After a restart it may try again, under a key that nobody knows. */
	rig_reopen_stable(&keyed_rig, "test $(ls | wc -l) = 1");
	keyed_tree.files[7].seed += 1;
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_int_equal(keyed_disks_count, 3);
}

/*
 * Longer than anybody's, of letters that HPACK makes shorter than 64 KiB, which is all that it takes: what is claimed under it is
 * claimed under all of it, by whichever way the entries come.
 */
static void a_long_name_is_a_name(void **state)
{
	static char name[100001];

	memset(name, 'a', sizeof(name) - 1);
	keyed_plan.directory = name;
	rig_tree_make(&keyed_tree, 60, 20);
	keyed_build("app:1");
	keyed_plan.unfit = "a device";
	keyed_tree.files[5].seed += 1;           /* the same path, size and mtime */
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_int_equal(keyed_disks_count, 1);
}

/*
 * What the edge does not lay to the context, a push that failed, costs the directory the key that the plain copy went by, not all keys:
 * unless it comes again.
 */
static void what_may_pass_costs_one_key(void **state)
{
	char first[64];

	rig_tree_make(&keyed_tree, 60, 19);
	keyed_build("app:1");
	snprintf(first, sizeof(first), "%s", keyed_disk->key);
	keyed_plan.unfit = "the push failed";
	keyed_plan.passing = true;
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_string_equal(keyed_disk->key, first);
	keyed_plan.unfit = NULL;
	assert_int_equal(keyed_build("app:1"), keyed_files_of(&keyed_tree));
	assert_string_not_equal(keyed_disk->key, first);
	assert_string_not_equal(keyed_disk->key, "app:1");
	assert_int_equal(keyed_build("app:2"), 0);
	keyed_plan.unfit = "the push failed";
	keyed_build("app:1");
	keyed_plan.unfit = NULL;
	keyed_build("app:1");
	assert_string_equal(keyed_disk->key, "app:1");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		KEYED_TEST(a_table_that_is_gone_takes_its_key_along),
		KEYED_TEST(a_torn_tail_is_no_loss),
		KEYED_TEST(what_cannot_be_kept_is_not_told),
		KEYED_TEST(what_nobody_named_is_not_taken_for_known),
		KEYED_TEST(a_long_name_is_a_name),
		KEYED_TEST(what_may_pass_costs_one_key),
	};

	return keyed_run(argc, argv, tests);
}
