/*
 * materialise: the directory on disk equals the tree, whatever was there before; what did not change is not touched. Trees
 * are tables of entries (tree_model.h), also random ones, and each result is compared entry by entry.
 */
#include "gateway/context/difference.h"
#include "tests/unit/context/materialise_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void everything_is_made(void **state)
{
	struct rig *rig = *state;
	struct digest root = RIG_TREE(rig, rig_everything);

	rig_apply_good(rig, NULL, root);
	model_compare(rig->dir_fd, rig_everything, RIG_COUNT(rig_everything));
	assert_int_equal(rig->totals.links_made, 6);

	rig_apply_good(rig, &root, root);
	assert_int_equal(rig->totals.files_written, 0);
	assert_int_equal(rig->totals.directories_same, 1);
	model_compare(rig->dir_fd, rig_everything, RIG_COUNT(rig_everything));
}

/* A name of 255 bytes, and a path near the limit. */
static void long_names(void **state)
{
	struct rig *rig = *state;
	static char path[15 * 256];
	struct model_entry entries[] = { { .path = path, .text = "far away" } };

	memset(path, 'n', sizeof(path));
	for (size_t i = 255; i < sizeof(path); i += 256)
		path[i] = i + 1 == sizeof(path) ? 0 : '/';
	rig_apply_good(rig, NULL, RIG_TREE(rig, entries));
	model_compare(rig->dir_fd, entries, RIG_COUNT(entries));
}

static void only_differences_are_touched(void **state)
{
	struct rig *rig = *state;
	const struct model_entry before[] = {
		{ .path = "a/x/1", .text = "one" },
		{ .path = "a/x/2", .text = "two" },
		{ .path = "a/y/3", .text = "three" },
		{ .path = "b/4", .text = "four" },
		{ .path = "c", .text = "gone" },
	};
	const struct model_entry after[] = {
		{ .path = "a/x/1", .text = "one" },
		{ .path = "a/x/2", .text = "TWO" },
		{ .path = "a/y/3", .text = "three" },
		{ .path = "b/4", .text = "four" },
		{ .path = "d", .text = "new" },
	};
	struct digest old = RIG_TREE(rig, before), new = RIG_TREE(rig, after);
	struct stat kept, now;

	rig_apply_good(rig, NULL, old);
	kept = rig_stat(rig, "a/x/1");
	rig->model.fetched = 0;
	rig_apply_good(rig, &old, new);
	model_compare(rig->dir_fd, after, RIG_COUNT(after));
	now = rig_stat(rig, "a/x/1");
	assert_int_equal(kept.st_ino, now.st_ino);
	assert_memory_equal(&kept.st_ctim, &now.st_ctim, sizeof(kept.st_ctim));
	assert_int_equal(rig->totals.files_written, 2);
	assert_int_equal(rig->totals.files_removed, 2);     /* "c", and "a/x/2" to be made anew */
	assert_int_equal(rig->totals.directories_same, 2);  /* "a/y" and "b" */
	assert_int_equal(rig->totals.bytes_written, 6);
}

static void kinds_change(void **state)
{
	struct rig *rig = *state;
	const struct model_entry before[] = {
		{ .path = "a", .text = "file" },
		{ .path = "b/c/d", .text = "in a directory" },
		{ .path = "e", .type = S_IFLNK, .text = "a" },
		{ .path = "f", .type = S_IFIFO },
		{ .path = "g", .text = "mode", .mode = 0600, .xattr = "old" },
		{ .path = "h", .type = S_IFDIR, .mode = 0500, .xattr = "old" },
		{ .path = "h/i", .text = "1" },
		{ .path = "j", .type = S_IFDIR, .mode = 0500 },
		{ .path = "j/k", .text = "removed from a read-only directory" },
		{ .path = "l", .text = "read-only", .mode = 0444 },
	};
	const struct model_entry after[] = {
		{ .path = "a/new", .text = "now a directory" },
		{ .path = "b", .type = S_IFLNK, .text = "/nowhere" },
		{ .path = "e", .type = S_IFDIR },
		{ .path = "f", .text = "was a fifo" },
		{ .path = "g", .text = "mode", .mode = 0755, .xattr = "new" },
		{ .path = "h", .type = S_IFDIR, .mode = 0700 },
		{ .path = "h/i", .text = "2" },
		{ .path = "j", .type = S_IFDIR, .mode = 0500 },
		{ .path = "l", .text = "read-only", .mode = 0444, .xattr = "x" },
	};
	struct digest old = RIG_TREE(rig, before), new = RIG_TREE(rig, after);
	struct stat kept, now;

	rig_apply_good(rig, NULL, old);
	kept = rig_stat(rig, "g");
	rig_apply_good(rig, &old, new);
	model_compare(rig->dir_fd, after, RIG_COUNT(after));
	now = rig_stat(rig, "g");
	assert_int_equal(kept.st_ino, now.st_ino);              /* metadata alone: not written again */
	rig_apply_good(rig, &new, old);
	model_compare(rig->dir_fd, before, RIG_COUNT(before));
}

static void hard_links_follow(void **state)
{
	struct rig *rig = *state;
	const struct model_entry apart[] = { { .path = "a", .text = "1" }, { .path = "b", .text = "1" }, { .path = "c", .text = "1" } };
	const struct model_entry joined[] = {
		{ .path = "a", .text = "1" },
		{ .path = "b", .text = "1", .hardlink = "a" },
		{ .path = "c", .text = "1", .hardlink = "a" },
	};
	const struct model_entry edited[] = {
		{ .path = "a", .text = "2" },
		{ .path = "b", .text = "2", .hardlink = "a" },
		{ .path = "c", .text = "2", .hardlink = "a" },
	};
	const struct model_entry first_gone[] = { { .path = "b", .text = "1" }, { .path = "c", .text = "1", .hardlink = "b" } };
	const struct model_entry one_left[] = { { .path = "a", .text = "2" }, { .path = "b", .text = "1" }, { .path = "c", .text = "1", .hardlink = "b" } };
	const struct model_entry mode[] = {
		{ .path = "a", .text = "1", .mode = 0755 },
		{ .path = "b", .text = "1", .mode = 0755, .hardlink = "a" },
		{ .path = "c", .text = "1", .mode = 0755, .hardlink = "a" },
	};
	const struct {
		const struct model_entry *entries;
		size_t count;
	} trees[] = {
		{ apart, 3 }, { joined, 3 }, { edited, 3 }, { first_gone, 2 }, { one_left, 3 }, { mode, 3 },
	};
	struct digest digests[RIG_COUNT(trees)], base;

	for (size_t i = 0; i < RIG_COUNT(trees); i++)
		digests[i] = model_tree(&rig->model, trees[i].entries, trees[i].count, 0);
	rig_apply_good(rig, NULL, digests[0]);
	base = digests[0];
	for (size_t from = 0; from < RIG_COUNT(trees); from++) {    /* each one after each other one */
		for (size_t to = 0; to < RIG_COUNT(trees); to++) {
			rig_apply_good(rig, &base, digests[from]);
			rig_apply_good(rig, &digests[from], digests[to]);
			model_compare(rig->dir_fd, trees[to].entries, trees[to].count);
			base = digests[to];
		}
	}
}

static uint32_t random_next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* A path is used once, never below a file: names of files and directories do not mix. */
static size_t random_tree(struct model_entry *entries, char (*paths)[32], size_t max, uint32_t *seed)
{
	static const char *const texts[] = { "", "a", "bb", "some more bytes" };
	static const uint32_t modes[] = { 0644, 0755, 0600, 0444 };
	size_t count = 0;

	for (uint32_t slot = 0; slot < max; slot++) {
		struct model_entry *entry = &entries[count];

		if (random_next(seed) % 3 == 0)
			continue;
		snprintf(paths[count], sizeof(paths[count]), "d%u/e%u/n%u", slot % 3, slot % 5, slot);
		*entry = (struct model_entry){ .path = paths[count], .text = texts[random_next(seed) % 4], .mode = modes[random_next(seed) % 4] };
		switch (random_next(seed) % 8) {
		case 0:
			*entry = (struct model_entry){ .path = paths[count], .type = S_IFLNK, .text = "target" };
			break;
		case 1:
			*entry = (struct model_entry){ .path = paths[count], .type = S_IFDIR, .mode = modes[random_next(seed) % 4] | 0100 };
			break;
		case 2:
			entry->xattr = "x";
			break;
		case 3:
			*entry = (struct model_entry){ .path = paths[count], .large = 70000 + random_next(seed) % 3 * 65536,
				                       .seed = random_next(seed) % 2, .edited = random_next(seed) % 60000 };
			break;
		}
		count++;
	}
	return count;
}

static void random_trees(void **state)
{
	enum { ENTRIES_MAX = 40, ROUNDS = 150 };
	struct rig *rig = *state;
	struct model_entry entries[ENTRIES_MAX];
	char paths[ENTRIES_MAX][32];
	uint32_t seed = 20240131;
	struct digest base = { 0 };

	print_message("seed %u\n", seed);
	for (int round = 0; round < ROUNDS; round++) {
		size_t count = random_tree(entries, paths, ENTRIES_MAX, &seed);
		struct digest root = model_tree(&rig->model, entries, count, 2);

		rig_apply_good(rig, round ? &base : NULL, root);
		model_compare(rig->dir_fd, entries, count);
		base = root;
	}
}

static void owners_are_set(void **state)
{
	struct rig *rig = *state;
	struct materialise_options options = rig_options(rig, NULL, RIG_TREE(rig, rig_everything));
	static const char *const paths[] = { ".", "README", "setuid", "src", "src/two", "link", "fifo", "big" };

	if (geteuid() != 0)
		skip();
	options.set_owner = true;
	options.uid = 1000000007;
	options.gid = 1000000008;
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), 0);
	for (size_t i = 0; i < RIG_COUNT(paths); i++) {
		assert_int_equal(rig_stat(rig, paths[i]).st_uid, 1000000007);
		assert_int_equal(rig_stat(rig, paths[i]).st_gid, 1000000008);
	}
	model_compare(rig->dir_fd, rig_everything, RIG_COUNT(rig_everything));  /* chown took no setuid away */
}

static void special_modes_are_kept_off(void **state)
{
	struct rig *rig = *state;
	const struct model_entry entries[] = {
		{ .path = "setuid", .text = "x", .mode = 06755 },
		{ .path = "sticky", .type = S_IFDIR, .mode = 03777 },
	};
	struct materialise_options options = rig_options(rig, NULL, RIG_TREE(rig, entries));

	options.allow_special_modes = false;
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), 0);
	assert_int_equal(rig_stat(rig, "setuid").st_mode & 07777, 0755);
	assert_int_equal(rig_stat(rig, "sticky").st_mode & 07777, 0777);
}

static void what_is_there_is_not_overwritten(void **state)
{
	struct rig *rig = *state;
	const struct model_entry entries[] = { { .path = "a", .text = "1" } };
	struct materialise_options options = rig_options(rig, NULL, RIG_TREE(rig, entries));

	assert_int_equal(mkdirat(rig->dir_fd, "mine", 0755), 0);
	assert_int_equal(symlinkat("/etc", rig->dir_fd, "mine/link"), 0);
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), -ENOTEMPTY);
	rig_stat(rig, "mine/link");
	options.replace = true;
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), 0);
	model_compare(rig->dir_fd, entries, RIG_COUNT(entries));
}

struct seen {
	char text[4096];
};

static int on_difference(void *context, const struct difference_change *change)
{
	struct seen *seen = context;

	snprintf(seen->text + strlen(seen->text), sizeof(seen->text) - strlen(seen->text), "%s:%u ", change->path, change->kinds);
	return 0;
}

static void differences_are_named(void **state)
{
	struct rig *rig = *state;
	const struct model_entry before[] = {
		{ .path = "a", .text = "1" }, { .path = "b", .text = "1" }, { .path = "c/d", .text = "1" },
		{ .path = "e", .type = S_IFLNK, .text = "a" }, { .path = "f", .text = "1" }, { .path = "same/x", .text = "1" },
	};
	const struct model_entry after[] = {
		{ .path = "a", .text = "2", .mode = 0755 }, { .path = "b", .text = "1", .xattr = "x" },
		{ .path = "e", .type = S_IFLNK, .text = "b" }, { .path = "f/g", .text = "1" }, { .path = "same/x", .text = "1" },
	};
	struct digest old = RIG_TREE(rig, before), new = RIG_TREE(rig, after);
	struct seen seen = { "" };
	struct difference_options options = {
		.source = &rig->model.source, .before = &old, .after = &new, .visit = on_difference, .context = &seen,
	};

	assert_int_equal(difference_walk(&options, NULL, rig->why, sizeof(rig->why)), 0);
	assert_string_equal(seen.text, ":128 a:24 b:32 c:2 e:8 f:6 f:5 f/g:1 ");
	seen.text[0] = 0;
	options.inside_removed = true;
	assert_int_equal(difference_walk(&options, NULL, rig->why, sizeof(rig->why)), 0);
	assert_string_equal(seen.text, ":128 a:24 b:32 e:8 f:6 f:5 f/g:1 c:2 c/d:2 ");
}

/* As an ordinary user, whom modes stop: read-only directories are filled, changed and removed. */
static int run_as_ordinary_user(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(everything_is_made),
		RIG_TEST(kinds_change),
		RIG_TEST(hard_links_follow),
		RIG_TEST(random_trees),
	};
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return 1;
	if (pid == 0) {
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			exit(2);
		exit(cmocka_run_group_tests_name("as an ordinary user", tests, NULL, NULL));
	}
	return waitpid(pid, &status, 0) != pid || status != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(everything_is_made),
		RIG_TEST(long_names),
		RIG_TEST(only_differences_are_touched),
		RIG_TEST(kinds_change),
		RIG_TEST(hard_links_follow),
		RIG_TEST(random_trees),
		RIG_TEST(owners_are_set),
		RIG_TEST(special_modes_are_kept_off),
		RIG_TEST(what_is_there_is_not_overwritten),
		RIG_TEST(differences_are_named),
	};

	if (geteuid() == 0 && run_as_ordinary_user())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
