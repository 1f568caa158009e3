/*
 * Shows that outputs of an action arrive as the tree has them, files and directories, with their modes and hardlinks; that a
 * directory goes over the one that is there, of which stays what the action left alone, and of what was made aside nothing;
 * and that they arrive below their directory only: no symlink in there leads them out, wherever it is in the path, and no
 * path does; what is refused leads nowhere else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/cmd/commands.h"
#include "gateway/cmd/outputs.h"
#include "gateway/context/manifest.h"
#include "gateway/context/upload.h"
#include "tests/unit/cas/gateway_thread.h"

const struct command *const command_table[] = { NULL };

static struct gateway_thread *gateway;
static struct client *client;
static char directory[64], below[96], elsewhere[96];
static struct digest root;

static char *path_of(const char *base, const char *path)
{
	static char whole[4][256];
	static unsigned next;
	char *made = whole[next++ % 4];

	snprintf(made, sizeof(whole[0]), "%s/%s", base, path);
	return made;
}

static void write_text(const char *path, const char *text, mode_t mode)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(path, mode), 0);
}

static void expect_text(const char *path, const char *text)
{
	char found[64] = "";
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	found[fread(found, 1, sizeof(found) - 1, file)] = 0;
	fclose(file);
	assert_string_equal(found, text);
}

static void push_changes(const char *tree)
{
	struct manifest_options options = { .path = tree };
	struct upload_options upload_options = { .client = client };
	struct upload_totals totals;
	enum grpc_status status;
	char why[1024] = "";

	assert_int_equal(manifest_build(&upload_options.manifest, &options, why, sizeof(why)), 0);
	assert_int_equal(upload(&upload_options, &totals, &status, why, sizeof(why)), UPLOAD_OK);
	root = *manifest_root(upload_options.manifest);
	manifest_destroy(upload_options.manifest);
}

static int setup(void **state)
{
	char tree[96];

	snprintf(directory, sizeof(directory), "/tmp/sluice-outputs-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(tree, sizeof(tree), "%s/tree", directory);
	snprintf(below, sizeof(below), "%s/below", directory);
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", directory);
	assert_int_equal(mkdir(tree, 0755) | mkdir(below, 0755) | mkdir(elsewhere, 0755), 0);
	assert_int_equal(mkdir(path_of(tree, "deep"), 0755) | mkdir(path_of(tree, "deep/er"), 0755) |
	                 mkdir(path_of(tree, "deep/er/out"), 0755), 0);
	write_text(path_of(tree, "program"), "program", 0755);
	write_text(path_of(tree, "deep/er/file"), "file", 0640);
	write_text(path_of(tree, "deep/er/out/one"), "linked", 0644);
	assert_int_equal(link(path_of(tree, "deep/er/out/one"), path_of(tree, "deep/er/out/two")), 0);
	write_text(path_of(tree, "deep/er/out/afar"), "afar", 0644);
	/* Named later than its first name, which is outside of the directory that is asked for. */
	assert_int_equal(link(path_of(tree, "deep/er/file"), path_of(tree, "deep/er/out/zz")), 0);
	assert_int_equal(chmod(path_of(tree, "deep/er/out"), 0555), 0);
	gateway = gateway_thread_start(&(struct gateway_thread_options){ 0 });
	client = gateway_thread_client(gateway, NULL);
	push_changes(tree);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static char why[5000];

static int pull(const char *path)
{
	const char *items[1] = { path };
	struct option_list paths = { .items = items, .count = 1 };

	return outputs_pull(client, &(struct outputs){ .changes = &root, .paths = &paths, .below = below }, why, sizeof(why));
}

/* Each is tried, and of each that did not come is said why. */
static void one_that_is_missing_hinders_no_other(void **state)
{
	const char *items[] = { "deep/nothing", "program", "..", "deep/er/file" };
	struct option_list paths = { .items = items, .count = 4 };

	struct outputs outputs = { .changes = &root, .paths = &paths, .below = below };

	assert_int_equal(outputs_pull(client, &outputs, why, sizeof(why)), STATUS_FAILURE);
	assert_string_equal(why, "the command did not make or change \"deep/nothing\"; --output .. is not a path below the tree");
	expect_text(path_of(below, "program"), "program");
	expect_text(path_of(below, "deep/er/file"), "file");
	outputs.changes = NULL;
	assert_int_equal(outputs_pull(client, &outputs, why, sizeof(why)), STATUS_FAILURE);
	assert_non_null(strstr(why, "did not make or change \"deep/er/file\""));
	/* What the tree had before is no riddle. */
	outputs.pushed = &root;
	assert_int_equal(outputs_pull(client, &outputs, why, sizeof(why)), STATUS_FAILURE);
	assert_non_null(strstr(why, "did not make or change \"deep/nothing\""));
	assert_non_null(strstr(why, "did not change \"deep/er/file\", which was pushed with the tree"));
}

static void outputs_arrive_as_they_are(void **state)
{
	struct stat one, two, st;

	assert_int_equal(pull("program"), STATUS_OK);
	expect_text(path_of(below, "program"), "program");
	assert_int_equal(stat(path_of(below, "program"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(pull("./deep//er/out/"), STATUS_OK);
	expect_text(path_of(below, "deep/er/out/afar"), "afar");
	expect_text(path_of(below, "deep/er/out/zz"), "file");
	assert_int_equal(stat(path_of(below, "deep/er/out/one"), &one), 0);
	assert_int_equal(stat(path_of(below, "deep/er/out/two"), &two), 0);
	assert_true(one.st_ino == two.st_ino);
	expect_text(path_of(below, "deep/er/out/two"), "linked");
	assert_int_equal(access(path_of(below, "deep/er/file"), F_OK), -1);
	/* Again, over what is there. */
	write_text(path_of(below, "program"), "older and longer", 0600);
	assert_int_equal(pull("program"), STATUS_OK);
	expect_text(path_of(below, "program"), "program");
}

/* What was evicted says nothing of what the command made. */
static void a_lost_tree_is_not_a_missing_output(void **state)
{
	root.hash[0] ^= 1;
	assert_int_not_equal(pull("program"), STATUS_OK);
	assert_null(strstr(why, "did not make"));
	assert_true(*why);
}

static unsigned entries_seen;

static int count_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	entries_seen++;
	return 0;
}

static unsigned count_entries(const char *path)
{
	entries_seen = 0;
	nftw(path, count_entry, 16, FTW_PHYS);
	return entries_seen;
}

/* The tree of changes has only what the action made or changed: what it left alone is not in it, and not to go. */
static void a_directory_goes_over_what_is_there(void **state)
{
	struct stat before, st;

	assert_int_equal(mkdir(path_of(below, "deep"), 0700) | mkdir(path_of(below, "deep/er"), 0750), 0);
	assert_int_equal(mkdir(path_of(below, "deep/beside"), 0755), 0);
	write_text(path_of(below, "deep/beside/file"), "untouched", 0600);
	write_text(path_of(below, "deep/er/sibling"), "untouched", 0600);
	write_text(path_of(below, "deep/er/file"), "older and longer", 0600);
	assert_int_equal(stat(path_of(below, "deep/er/sibling"), &before), 0);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(pull("deep"), STATUS_OK);
		expect_text(path_of(below, "deep/er/file"), "file");
		expect_text(path_of(below, "deep/er/sibling"), "untouched");
		expect_text(path_of(below, "deep/beside/file"), "untouched");
		expect_text(path_of(below, "deep/er/out/two"), "linked");
		assert_int_equal(stat(path_of(below, "deep/er/sibling"), &st), 0);
		assert_true(st.st_ino == before.st_ino);
		assert_int_equal(stat(path_of(below, "deep/er/file"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0640);
		assert_int_equal(stat(path_of(below, "deep/er/out/one"), &st), 0);
		assert_int_equal(st.st_nlink, 2);
		assert_int_equal(stat(path_of(below, "deep/er"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0750);
		assert_int_equal(stat(path_of(below, "deep/er/out"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0555);
		assert_int_equal(count_entries(below), 12);      /* and nothing that was made aside */
	}
}

static void what_is_of_another_kind_is_not_removed(void **state)
{
	assert_int_equal(mkdir(path_of(below, "deep"), 0755) | mkdir(path_of(below, "deep/er"), 0755), 0);
	assert_int_equal(mkdir(path_of(below, "deep/er/file"), 0755), 0);
	write_text(path_of(below, "deep/er/file/mine"), "mine", 0600);
	assert_int_not_equal(pull("deep"), STATUS_OK);
	assert_int_not_equal(pull("deep/er/file"), STATUS_OK);
	expect_text(path_of(below, "deep/er/file/mine"), "mine");
	write_text(path_of(below, "deep/er/out"), "mine", 0600);
	assert_int_not_equal(pull("deep/er/out"), STATUS_OK);
	expect_text(path_of(below, "deep/er/out"), "mine");
	assert_int_equal(count_entries(below), 6);
}

static void expect_nothing_elsewhere(void)
{
	assert_int_equal(count_entries(elsewhere), 1);   /* itself */
}

static void symlinks_are_not_followed(void **state)
{
	struct stat st;

	assert_int_equal(symlink(elsewhere, path_of(below, "deep")), 0);
	assert_int_not_equal(pull("deep/er/out"), STATUS_OK);
	assert_int_not_equal(pull("deep/er/file"), STATUS_OK);
	expect_nothing_elsewhere();
	assert_int_equal(unlink(path_of(below, "deep")), 0);
	assert_int_equal(mkdir(path_of(below, "deep"), 0755), 0);
	assert_int_equal(symlink(elsewhere, path_of(below, "deep/er")), 0);
	assert_int_not_equal(pull("deep/er/out"), STATUS_OK);
	assert_int_not_equal(pull("deep/er"), STATUS_OK);
	assert_int_not_equal(pull("deep"), STATUS_OK);
	expect_nothing_elsewhere();
	/* In the place of a file it is replaced itself. */
	write_text(path_of(elsewhere, "target"), "untouched", 0644);
	assert_int_equal(symlink(path_of(elsewhere, "target"), path_of(below, "program")), 0);
	assert_int_equal(pull("program"), STATUS_OK);
	expect_text(path_of(elsewhere, "target"), "untouched");
	assert_int_equal(lstat(path_of(below, "program"), &st), 0);
	assert_true(S_ISREG(st.st_mode));
}

/* What nobody works on any more goes, beside each output that is pulled, also one that does not come. */
static void what_a_killed_run_left_goes(void **state)
{
	static const char file[] = ".sluice-output-0123456789abcdef", tree[] = "deep/.sluice-output-0123456789abcde0",
	                  working[] = ".sluice-output-0123456789abcde1", other[] = ".sluice-output-notes";
	int fd;

	assert_int_equal(mkdir(path_of(below, "deep"), 0755) | mkdir(path_of(below, tree), 0755) |
	                 mkdir(path_of(below, working), 0755), 0);
	write_text(path_of(below, file), "half", 0600);
	write_text(path_of(below, "deep/.sluice-output-0123456789abcde0/half"), "half", 0600);
	write_text(path_of(below, other), "mine", 0600);
	fd = open(path_of(below, working), O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(pull("program"), STATUS_OK);
	assert_int_equal(access(path_of(below, file), F_OK), -1);
	assert_int_equal(access(path_of(below, working), F_OK), 0);
	assert_int_equal(access(path_of(below, other), F_OK), 0);
	assert_int_not_equal(pull("deep/nothing"), STATUS_OK);
	assert_int_equal(access(path_of(below, tree), F_OK), -1);
	close(fd);
	assert_int_equal(pull("program"), STATUS_OK);
	assert_int_equal(access(path_of(below, working), F_OK), -1);
	assert_int_equal(count_entries(below), 4);
}

static void paths_that_lead_out_are_refused(void **state)
{
	static const char *const paths[] = { "/etc/passwd", "..", "../elsewhere", "deep/../program", "deep/er/..", "", ".", "./" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		assert_int_not_equal(pull(paths[i]), STATUS_OK);
	assert_int_not_equal(pull("deep/nothing"), STATUS_OK);
	assert_int_equal(access(path_of(below, "deep"), F_OK), -1);
	expect_nothing_elsewhere();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(outputs_arrive_as_they_are, setup, teardown),
		cmocka_unit_test_setup_teardown(a_directory_goes_over_what_is_there, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_of_another_kind_is_not_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_is_missing_hinders_no_other, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lost_tree_is_not_a_missing_output, setup, teardown),
		cmocka_unit_test_setup_teardown(symlinks_are_not_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(what_a_killed_run_left_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(paths_that_lead_out_are_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
