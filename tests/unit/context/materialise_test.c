/*
 * materialise: the directory on disk equals the tree, whatever was there before; what did not change is not touched;
 * nothing outside the directory is ever touched; hostile trees are refused by name. Trees are tables of entries
 * (tree_model.h), also random ones, and each result is compared entry by entry.
 */
#include "gateway/context/beneath.h"
#include "gateway/context/difference.h"
#include "gateway/context/materialise.h"
#include "proto/recipe.h"
#include "tests/unit/context/tree_model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct fixture {
	struct model model;
	char path[64];
	int top_fd, dir_fd;              /* a private directory; "root" in it */
	char why[512];
	struct materialise_totals totals;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	model_init(&fixture->model);
	strcpy(fixture->path, "/tmp/materialise-XXXXXX");
	assert_non_null(mkdtemp(fixture->path));
	fixture->top_fd = open(fixture->path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(fixture->top_fd, "root", 0755), 0);
	fixture->dir_fd = openat(fixture->top_fd, "root", O_RDONLY | O_DIRECTORY);
	assert_true(fixture->dir_fd >= 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	close(fixture->dir_fd);
	assert_int_equal(beneath_clear(fixture->top_fd), 0);
	close(fixture->top_fd);
	assert_int_equal(rmdir(fixture->path), 0);
	model_fini(&fixture->model);
	free(fixture);
	return 0;
}

static struct materialise_options options_for(struct fixture *fixture, const struct digest *base, struct digest root)
{
	return (struct materialise_options){
		.dir_fd = fixture->dir_fd, .base = base, .root = root, .source = &fixture->model.source, .allow_special_modes = true,
	};
}

static int apply(struct fixture *fixture, const struct digest *base, struct digest root)
{
	struct materialise_options options = options_for(fixture, base, root);

	return materialise(&options, &fixture->totals, fixture->why, sizeof(fixture->why));
}

static void apply_good(struct fixture *fixture, const struct digest *base, struct digest root)
{
	int r = apply(fixture, base, root);

	if (r)
		fail_msg("%s (%s)", fixture->why, strerror(-r));
}

static struct stat stat_of(struct fixture *fixture, const char *path)
{
	struct stat stat;

	assert_int_equal(fstatat(fixture->dir_fd, path, &stat, AT_SYMLINK_NOFOLLOW), 0);
	return stat;
}

#define TREE(fixture, entries) model_tree(&(fixture)->model, (entries), COUNT(entries), 0)

static const struct model_entry everything[] = {
	{ .path = "", .type = S_IFDIR, .mode = 0750, .xattr = "of the root" },
	{ .path = "README", .text = "hello\n" },
	{ .path = "empty", .text = "" },
	{ .path = "run.sh", .text = "#!/bin/sh\n", .mode = 0755, .xattr = "value" },
	{ .path = "secret", .text = "s", .mode = 0400 },
	{ .path = "none", .text = "n", .mode = 01 },
	{ .path = "setuid", .text = "x", .mode = 04755 },
	{ .path = "src/a.c", .text = "int a;\n" },
	{ .path = "src/b.c", .text = "int a;\n" },
	{ .path = "src/deep/er/still", .text = "deep" },
	{ .path = "hollow", .type = S_IFDIR, .xattr = "dir" },
	{ .path = "read-only", .type = S_IFDIR, .mode = 0500 },
	{ .path = "read-only/file", .text = "in a read-only directory" },
	{ .path = "read-only/below", .type = S_IFDIR, .mode = 0555 },
	{ .path = "read-only/below/file", .text = "1" },
	{ .path = "sticky", .type = S_IFDIR, .mode = 01777 },
	{ .path = "link", .type = S_IFLNK, .text = "src/a.c" },
	{ .path = "absolute", .type = S_IFLNK, .text = "/etc/passwd" },
	{ .path = "loop", .type = S_IFLNK, .text = "loop" },
	{ .path = "out", .type = S_IFLNK, .text = "../../../.." },
	{ .path = "fifo", .type = S_IFIFO, .mode = 0640 },
	{ .path = ".wh.README", .text = "not a white-out" },
	{ .path = ".wh..wh..opq", .text = "" },
	{ .path = "\xff\xfe not utf-8", .text = "bytes" },
	{ .path = "one", .text = "linked" },
	{ .path = "src/two", .text = "linked", .hardlink = "one" },
	{ .path = "three", .text = "linked", .hardlink = "one" },
	{ .path = "big", .large = 1000000, .seed = 1 },
	{ .path = "zzz/bigger", .large = 3000001, .seed = 2, .mode = 0444 },
};

static void everything_is_made(void **state)
{
	struct fixture *fixture = *state;
	struct digest root = TREE(fixture, everything);

	apply_good(fixture, NULL, root);
	model_compare(fixture->dir_fd, everything, COUNT(everything));
	assert_int_equal(fixture->totals.links_made, 6);

	apply_good(fixture, &root, root);
	assert_int_equal(fixture->totals.files_written, 0);
	assert_int_equal(fixture->totals.directories_same, 1);
	model_compare(fixture->dir_fd, everything, COUNT(everything));
}

/* A name of 255 bytes, and a path near the limit. */
static void long_names(void **state)
{
	struct fixture *fixture = *state;
	static char path[15 * 256];
	struct model_entry entries[] = { { .path = path, .text = "far away" } };

	memset(path, 'n', sizeof(path));
	for (size_t i = 255; i < sizeof(path); i += 256)
		path[i] = i + 1 == sizeof(path) ? 0 : '/';
	apply_good(fixture, NULL, TREE(fixture, entries));
	model_compare(fixture->dir_fd, entries, COUNT(entries));
}

static void only_differences_are_touched(void **state)
{
	struct fixture *fixture = *state;
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
	struct digest old = TREE(fixture, before), new = TREE(fixture, after);
	struct stat kept, now;

	apply_good(fixture, NULL, old);
	kept = stat_of(fixture, "a/x/1");
	fixture->model.fetched = 0;
	apply_good(fixture, &old, new);
	model_compare(fixture->dir_fd, after, COUNT(after));
	now = stat_of(fixture, "a/x/1");
	assert_int_equal(kept.st_ino, now.st_ino);
	assert_memory_equal(&kept.st_ctim, &now.st_ctim, sizeof(kept.st_ctim));
	assert_int_equal(fixture->totals.files_written, 2);
	assert_int_equal(fixture->totals.files_removed, 2);     /* "c", and "a/x/2" to be made anew */
	assert_int_equal(fixture->totals.directories_same, 2);  /* "a/y" and "b" */
	assert_int_equal(fixture->totals.bytes_written, 6);
}

static void kinds_change(void **state)
{
	struct fixture *fixture = *state;
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
	struct digest old = TREE(fixture, before), new = TREE(fixture, after);
	struct stat kept, now;

	apply_good(fixture, NULL, old);
	kept = stat_of(fixture, "g");
	apply_good(fixture, &old, new);
	model_compare(fixture->dir_fd, after, COUNT(after));
	now = stat_of(fixture, "g");
	assert_int_equal(kept.st_ino, now.st_ino);              /* metadata alone: not written again */
	apply_good(fixture, &new, old);
	model_compare(fixture->dir_fd, before, COUNT(before));
}

static void hard_links_follow(void **state)
{
	struct fixture *fixture = *state;
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
	struct digest digests[COUNT(trees)], base;

	for (size_t i = 0; i < COUNT(trees); i++)
		digests[i] = model_tree(&fixture->model, trees[i].entries, trees[i].count, 0);
	apply_good(fixture, NULL, digests[0]);
	base = digests[0];
	for (size_t from = 0; from < COUNT(trees); from++) {    /* each one after each other one */
		for (size_t to = 0; to < COUNT(trees); to++) {
			apply_good(fixture, &base, digests[from]);
			apply_good(fixture, &digests[from], digests[to]);
			model_compare(fixture->dir_fd, trees[to].entries, trees[to].count);
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
	struct fixture *fixture = *state;
	struct model_entry entries[ENTRIES_MAX];
	char paths[ENTRIES_MAX][32];
	uint32_t seed = 20240131;
	struct digest base = { 0 };

	print_message("seed %u\n", seed);
	for (int round = 0; round < ROUNDS; round++) {
		size_t count = random_tree(entries, paths, ENTRIES_MAX, &seed);
		struct digest root = model_tree(&fixture->model, entries, count, 2);

		apply_good(fixture, round ? &base : NULL, root);
		model_compare(fixture->dir_fd, entries, count);
		base = root;
	}
}

static void owners_are_set(void **state)
{
	struct fixture *fixture = *state;
	struct materialise_options options = options_for(fixture, NULL, TREE(fixture, everything));
	static const char *const paths[] = { ".", "README", "setuid", "src", "src/two", "link", "fifo", "big" };

	if (geteuid() != 0)
		skip();
	options.set_owner = true;
	options.uid = 1000000007;
	options.gid = 1000000008;
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	for (size_t i = 0; i < COUNT(paths); i++) {
		assert_int_equal(stat_of(fixture, paths[i]).st_uid, 1000000007);
		assert_int_equal(stat_of(fixture, paths[i]).st_gid, 1000000008);
	}
	model_compare(fixture->dir_fd, everything, COUNT(everything));  /* chown took no setuid away */
}

static void special_modes_are_kept_off(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry entries[] = {
		{ .path = "setuid", .text = "x", .mode = 06755 },
		{ .path = "sticky", .type = S_IFDIR, .mode = 03777 },
	};
	struct materialise_options options = options_for(fixture, NULL, TREE(fixture, entries));

	options.allow_special_modes = false;
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	assert_int_equal(stat_of(fixture, "setuid").st_mode & 07777, 0755);
	assert_int_equal(stat_of(fixture, "sticky").st_mode & 07777, 0777);
}

static void what_is_there_is_not_overwritten(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry entries[] = { { .path = "a", .text = "1" } };
	struct materialise_options options = options_for(fixture, NULL, TREE(fixture, entries));

	assert_int_equal(mkdirat(fixture->dir_fd, "mine", 0755), 0);
	assert_int_equal(symlinkat("/etc", fixture->dir_fd, "mine/link"), 0);
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), -ENOTEMPTY);
	stat_of(fixture, "mine/link");
	options.replace = true;
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	model_compare(fixture->dir_fd, entries, COUNT(entries));
}

/* A root that is mistyped, evicted in part or refused costs nothing of what is there. */
static void what_cannot_be_had_replaces_nothing(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry entries[] = { { .path = "a/b/c", .text = "1" } };
	const struct model_entry device[] = { { .path = "a/null", .type = S_IFCHR } };
	const struct model_entry mine[] = { { .path = "mine/file", .text = "mine" } };
	struct digest root = TREE(fixture, entries), below = model_tree(&fixture->model, &(struct model_entry){ .path = "c", .text = "1" }, 1, 0);
	const struct digest *const lost[] = { &root, &below };
	struct materialise_options options = options_for(fixture, NULL, root);

	apply_good(fixture, NULL, TREE(fixture, mine));
	options.replace = true;
	for (size_t i = 0; i < COUNT(lost); i++) {
		fixture->model.lost = lost[i];
		assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), -ENOENT);
		model_compare(fixture->dir_fd, mine, COUNT(mine));
	}
	fixture->model.lost = NULL;
	options.root = TREE(fixture, device);
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), -EPERM);
	model_compare(fixture->dir_fd, mine, COUNT(mine));
	options.root = root;
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	model_compare(fixture->dir_fd, entries, COUNT(entries));
}

/* Its length is set when it is made: nothing would tell it from a whole one. */
static void no_file_is_left_half_written(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry entries[] = { { .path = "d/large", .large = 20000000, .seed = 5 }, { .path = "d/small", .text = "1" } };
	struct digest root = TREE(fixture, entries), lost;
	uint8_t chunk[65536];
	struct stat stat;

	model_large_bytes(&entries[0], 19660800, chunk, sizeof(chunk));
	lost = model_add(&fixture->model, chunk, sizeof(chunk));
	fixture->model.lost = &lost;
	assert_int_equal(apply(fixture, NULL, root), -ENOENT);
	assert_true(fixture->totals.bytes_written > 1000000);
	assert_int_equal(fstatat(fixture->dir_fd, "d/large", &stat, 0), -1);
}

/* The store may have evicted the old tree: said so, or, when the caller allows it, all is made anew. */
static void lost_base(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry before[] = { { .path = "a", .text = "1" } };
	struct digest old = TREE(fixture, before), new = TREE(fixture, everything);
	struct materialise_options options = options_for(fixture, &old, new);

	apply_good(fixture, NULL, old);
	fixture->model.lost = &old;
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), -ESTALE);
	options.replace = true;
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	model_compare(fixture->dir_fd, everything, COUNT(everything));
	fixture->model.lost = &new;
	assert_int_equal(materialise(&options, NULL, fixture->why, sizeof(fixture->why)), -ENOENT);
}

static void large_files_are_sparse_and_reused(void **state)
{
	struct fixture *fixture = *state;
	enum { SIZE = 20 * 1000 * 1000 + 17 };
	const struct model_entry before[] = { { .path = "d/large", .large = SIZE, .seed = 5 } };
	const struct model_entry edited[] = { { .path = "d/large", .large = SIZE, .seed = 5, .edited = 10 * 65536 * 2 + 5 } };
	const struct model_entry longer[] = { { .path = "d/large", .large = SIZE + 100000, .seed = 5 } };
	struct digest old = model_tree(&fixture->model, before, 1, 100);      /* of level 1: four parts */
	struct digest new = model_tree(&fixture->model, edited, 1, 100), end = model_tree(&fixture->model, longer, 1, 0);
	int fd;

	apply_good(fixture, NULL, old);
	model_compare(fixture->dir_fd, before, 1);
	assert_true(stat_of(fixture, "d/large").st_blocks * 512 < SIZE * 6 / 10);      /* half of it is zeros */
	assert_true(fixture->totals.bytes_fetched < SIZE * 6 / 10);
	assert_true(fixture->model.batch_bytes_max <= 4u << 20);

	apply_good(fixture, &old, new);
	model_compare(fixture->dir_fd, edited, 1);
	assert_int_equal(fixture->totals.bytes_written, SIZE);
	assert_int_equal(fixture->totals.bytes_fetched, 65536);
	assert_int_equal(fixture->totals.bytes_reused, SIZE - 65536);

	/* A former version that is not what it should be is not made use of. */
	fd = openat(fixture->dir_fd, "d/large", O_WRONLY);
	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	close(fd);
	apply_good(fixture, &new, old);
	model_compare(fixture->dir_fd, before, 1);
	assert_int_equal(fixture->totals.bytes_reused, 0);
	apply_good(fixture, &old, new);

	apply_good(fixture, &new, end);
	model_compare(fixture->dir_fd, longer, 1);
	assert_true(fixture->totals.bytes_fetched <= 4 * 65536);
	assert_true(stat_of(fixture, "d/large").st_blocks * 512 < SIZE * 7 / 10);
}

/* A part of the recipe of that length in parts. */
static struct digest part_of(const struct model *model, uint64_t file_size, unsigned number)
{
	for (size_t i = 0; i < model->count; i++) {
		const struct model_blob *blob = &model->blobs[i];
		struct recipe_reader reader;
		struct digest part;

		if (!recipe_open(&reader, span_make(blob->data, (size_t)blob->digest.size)) || reader.head.level != 1 ||
		    reader.head.file_size != file_size)
			continue;
		for (unsigned k = 0; k <= number; k++)
			assert_true(recipe_next(&reader, &part));
		return part;
	}
	fail_msg("there is no such recipe");
	return digest_empty;
}

/* Where the chunks behind a part lie that the gateway has no more is not known: they are fetched. */
static void a_former_recipe_with_a_hole(void **state)
{
	struct fixture *fixture = *state;
	enum { SIZE = 20 * 1000 * 1000 + 17 };
	const struct model_entry before[] = { { .path = "large", .large = SIZE, .seed = 5 } };
	const struct model_entry edited[] = { { .path = "large", .large = SIZE, .seed = 5, .edited = 5 } };
	/* All of its parts are others: what they share with those of before is found by chunks. */
	struct digest old = model_tree(&fixture->model, before, 1, 100), new = model_tree(&fixture->model, edited, 1, 90), lost;

	for (unsigned number = 0; number < 3; number++) {
		lost = part_of(&fixture->model, SIZE, number);
		apply_good(fixture, NULL, old);
		fixture->model.lost = &lost;
		apply_good(fixture, &old, new);
		fixture->model.lost = NULL;
		model_compare(fixture->dir_fd, edited, 1);
		assert_int_equal(fixture->totals.bytes_reused > 0, number > 0);
		assert_int_equal(unlinkat(fixture->dir_fd, "large", 0), 0);
	}
}

static void latency_counts_little(void **state)
{
	struct fixture *fixture = *state;
	enum { DIRECTORIES = 60, FILES = 50 };
	struct model_entry *entries = calloc(DIRECTORIES * FILES, sizeof(*entries));
	char (*names)[32] = calloc(DIRECTORIES * FILES, sizeof(*names));

	for (int i = 0; i < DIRECTORIES * FILES; i++) {
		snprintf(names[i], sizeof(names[i]), "d%d/e%d/f%d", i / FILES, i / FILES % 3, i % FILES);
		entries[i] = (struct model_entry){ .path = names[i], .text = names[i] };
	}
	apply_good(fixture, NULL, model_tree(&fixture->model, entries, DIRECTORIES * FILES, 0));
	model_compare(fixture->dir_fd, entries, DIRECTORIES * FILES);
	assert_true(fixture->model.fetches <= 3 + 3);           /* a level a fetch, 1,024 files a fetch */
	free(entries);
	free(names);
}

static void devices_are_refused(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry entries[] = { { .path = "dev/null", .type = S_IFCHR, .mode = 0666 } };
	const struct model_entry harmless[] = { { .path = "dev/null", .text = "" } };
	struct digest old = TREE(fixture, harmless), new = TREE(fixture, entries);

	assert_int_equal(apply(fixture, NULL, new), -EPERM);
	assert_non_null(strstr(fixture->why, "dev/null: device nodes are refused"));
	assert_int_equal(beneath_clear(fixture->dir_fd), 0);
	apply_good(fixture, NULL, old);
	assert_int_equal(apply(fixture, &old, new), -EPERM);
}

/* Whoever can write into the directory meanwhile may put symlinks where directories and files were. */
static void symlinks_are_not_followed(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry before[] = { { .path = "d/e/f", .text = "1" }, { .path = "g", .text = "1" } };
	const struct model_entry after[] = { { .path = "d/e/f", .text = "2" }, { .path = "g", .text = "1", .mode = 0777 } };
	struct digest old = TREE(fixture, before), new = TREE(fixture, after);
	struct stat stat;

	assert_int_equal(mkdirat(fixture->top_fd, "outside", 0755), 0);
	assert_int_equal(mkdirat(fixture->top_fd, "outside/e", 0755), 0);
	close(openat(fixture->top_fd, "outside/e/f", O_CREAT | O_WRONLY, 0600));
	apply_good(fixture, NULL, old);
	assert_int_equal(beneath_remove(fixture->dir_fd, "d"), 0);
	assert_int_equal(symlinkat("../outside", fixture->dir_fd, "d"), 0);
	assert_int_equal(apply(fixture, &old, new), -ELOOP);
	assert_non_null(strstr(fixture->why, "d/e/f: "));
	assert_int_equal(fstatat(fixture->top_fd, "outside/e/f", &stat, 0), 0);
	assert_int_equal(stat.st_size, 0);

	assert_int_equal(beneath_clear(fixture->dir_fd), 0);
	apply_good(fixture, NULL, old);
	assert_int_equal(unlinkat(fixture->dir_fd, "g", 0), 0);
	assert_int_equal(symlinkat("../outside/e/f", fixture->dir_fd, "g"), 0);
	assert_int_equal(apply(fixture, &old, new), -ELOOP);
	assert_int_equal(fstatat(fixture->top_fd, "outside/e/f", &stat, 0), 0);
	assert_int_equal(stat.st_mode & 07777, 0600);
	assert_int_equal(beneath_clear(fixture->dir_fd), 0);    /* removes the link, not what it names */
	assert_int_equal(fstatat(fixture->top_fd, "outside/e/f", &stat, 0), 0);
}

static void hard_links_stay_inside(void **state)
{
	struct fixture *fixture = *state;
	static const char *const targets[] = { "missing", "out/secret", "link", "d" };

	close(openat(fixture->top_fd, "secret", O_CREAT | O_WRONLY, 0600));
	for (size_t i = 0; i < COUNT(targets); i++) {
		const struct model_entry entries[] = {
			{ .path = "a", .text = "1", .hardlink = targets[i] },
			{ .path = "out", .type = S_IFLNK, .text = ".." },
			{ .path = "link", .type = S_IFLNK, .text = "../secret" },
			{ .path = "d", .type = S_IFDIR },
		};

		assert_int_equal(apply(fixture, NULL, TREE(fixture, entries)), -EINVAL);
		assert_non_null(strstr(fixture->why, "a: its first name is no file of this tree"));
		assert_int_equal(beneath_clear(fixture->dir_fd), 0);
	}
}

static void hard_links_that_disagree_are_refused(void **state)
{
	struct fixture *fixture = *state;
	const struct model_entry entries[] = { { .path = "a", .text = "1" }, { .path = "b", .text = "22", .hardlink = "a" } };

	assert_int_equal(apply(fixture, NULL, TREE(fixture, entries)), -EBADMSG);
	assert_non_null(strstr(fixture->why, "b: names of one file that disagree"));
}

static struct digest directory_of(struct fixture *fixture, struct tree_node node)
{
	struct tree_directory directory = { .mode = 0755 };
	struct buffer out = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);
	struct digest digest;

	assert_int_equal(tree_encode(&out, &directory, &node, 1), 0);
	digest = model_add(&fixture->model, out.data, out.size);
	buffer_fini(&out);
	return digest;
}

static void malformed_recipes_are_refused(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t zeros[100000];
	struct digest chunk = model_add(&fixture->model, zeros, 100000), recipe, part;
	struct buffer blob = buffer_heap(RECIPE_BYTES_MAX);
	struct { uint64_t said, chunks, node; } cases[] = { { 100000, 1, 100001 }, { 200000, 1, 200000 }, { 100000, 2, 100000 } };

	for (size_t i = 0; i < COUNT(cases); i++) {
		buffer_clear(&blob);
		recipe_begin(&blob, &(struct recipe_head){ .profile = 1, .file_size = cases[i].said });
		for (uint64_t c = 0; c < cases[i].chunks; c++)
			recipe_add(&blob, &chunk);
		recipe = model_add(&fixture->model, blob.data, blob.size);
		assert_int_equal(apply(fixture, NULL, directory_of(fixture, (struct tree_node){
			.kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .recipe = true, .digest = recipe, .file_size = cases[i].node })),
			-EBADMSG);
		assert_string_equal(fixture->why, "f: malformed recipe");
		assert_int_equal(beneath_clear(fixture->dir_fd), 0);
	}
	/* A list whose part is a list, and one with more parts than bytes. */
	for (uint32_t level = 0; level <= 1; level++) {
		buffer_clear(&blob);
		recipe_begin(&blob, &(struct recipe_head){ .profile = 1, .level = level, .file_size = 100000 });
		recipe_add(&blob, &chunk);
		part = model_add(&fixture->model, blob.data, blob.size);
		buffer_clear(&blob);
		recipe_begin(&blob, &(struct recipe_head){ .profile = 1, .level = 1, .file_size = 100000 });
		recipe_add(&blob, &part);
		for (int more = 0; more < 1100 && level == 0; more++)   /* more than one batch takes */
			recipe_add(&blob, &part);
		recipe = model_add(&fixture->model, blob.data, blob.size);
		assert_int_equal(apply(fixture, NULL, directory_of(fixture, (struct tree_node){
			.kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .recipe = true, .digest = recipe, .file_size = 100000 })),
			-EBADMSG);
		assert_int_equal(beneath_clear(fixture->dir_fd), 0);
	}
	buffer_fini(&blob);
}

static void malformed_directories_are_refused(void **state)
{
	struct fixture *fixture = *state;
	struct digest garbage = model_add(&fixture->model, "\xff\xff\xff", 3);

	assert_int_equal(apply(fixture, NULL, directory_of(fixture, (struct tree_node){
		.kind = TREE_DIRECTORY, .name = span_text("d"), .digest = garbage })), -EBADMSG);
	assert_non_null(strstr(fixture->why, "d: malformed directory"));
}

static int visit_nothing(void *context, const struct difference_change *change)
{
	(*(uint64_t *)context)++;
	return 0;
}

/* Few bytes can name very many entries. */
static void repeated_directories_are_bounded(void **state)
{
	enum { FANOUT = 1000 };
	struct fixture *fixture = *state;
	static struct tree_node nodes[FANOUT];
	static char names[FANOUT][8];
	struct digest digest = directory_of(fixture, (struct tree_node){ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644 });
	struct difference_options options = { .source = &fixture->model.source, .visit = visit_nothing };
	struct difference_totals totals;
	uint64_t visited = 0;
	int r;

	for (int level = 0; level < 300; level++)
		digest = directory_of(fixture, (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text("d"), .digest = digest });
	assert_int_equal(apply(fixture, NULL, digest), -ENAMETOOLONG);

	for (int level = 0; level < 4; level++) {
		struct tree_directory directory = { .mode = 0755 };
		struct buffer out = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);

		for (int i = 0; i < FANOUT; i++) {
			snprintf(names[i], sizeof(names[i]), "%d", i);
			nodes[i] = (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text(names[i]), .digest = level ? digest : digest_empty };
		}
		assert_int_equal(tree_encode(&out, &directory, nodes, FANOUT), 0);
		digest = model_add(&fixture->model, out.data, out.size);
		buffer_fini(&out);
	}
	options.after = &digest;
	options.context = &visited;
	r = difference_walk(&options, &totals, fixture->why, sizeof(fixture->why));
	assert_int_equal(r, -E2BIG);
	assert_true(totals.entries <= DIFFERENCE_ENTRIES_MAX + 1);
}

/* What is deeper than descriptors reach is removed all the same. */
static void any_depth_is_removed(void **state)
{
	struct fixture *fixture = *state;
	int fd = dup(fixture->dir_fd);

	for (int depth = 0; depth < 1500; depth++) {
		int below;

		assert_int_equal(mkdirat(fd, "deep", 0755), 0);
		close(openat(fd, "file", O_CREAT | O_WRONLY, 0600));
		below = openat(fd, "deep", O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_int_equal(beneath_clear(fixture->dir_fd), 0);
	assert_int_equal(beneath_is_empty(fixture->dir_fd), 1);
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
	struct fixture *fixture = *state;
	const struct model_entry before[] = {
		{ .path = "a", .text = "1" }, { .path = "b", .text = "1" }, { .path = "c/d", .text = "1" },
		{ .path = "e", .type = S_IFLNK, .text = "a" }, { .path = "f", .text = "1" }, { .path = "same/x", .text = "1" },
	};
	const struct model_entry after[] = {
		{ .path = "a", .text = "2", .mode = 0755 }, { .path = "b", .text = "1", .xattr = "x" },
		{ .path = "e", .type = S_IFLNK, .text = "b" }, { .path = "f/g", .text = "1" }, { .path = "same/x", .text = "1" },
	};
	struct digest old = TREE(fixture, before), new = TREE(fixture, after);
	struct seen seen = { "" };
	struct difference_options options = {
		.source = &fixture->model.source, .before = &old, .after = &new, .visit = on_difference, .context = &seen,
	};

	assert_int_equal(difference_walk(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	assert_string_equal(seen.text, ":128 a:24 b:32 c:2 e:8 f:6 f:5 f/g:1 ");
	seen.text[0] = 0;
	options.inside_removed = true;
	assert_int_equal(difference_walk(&options, NULL, fixture->why, sizeof(fixture->why)), 0);
	assert_string_equal(seen.text, ":128 a:24 b:32 e:8 f:6 f:5 f/g:1 c:2 c/d:2 ");
}

/* As an ordinary user, whom modes stop: read-only directories are filled, changed and removed. */
static int run_as_ordinary_user(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(everything_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(kinds_change, setup, teardown),
		cmocka_unit_test_setup_teardown(hard_links_follow, setup, teardown),
		cmocka_unit_test_setup_teardown(random_trees, setup, teardown),
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
		cmocka_unit_test_setup_teardown(everything_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(long_names, setup, teardown),
		cmocka_unit_test_setup_teardown(only_differences_are_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(kinds_change, setup, teardown),
		cmocka_unit_test_setup_teardown(hard_links_follow, setup, teardown),
		cmocka_unit_test_setup_teardown(random_trees, setup, teardown),
		cmocka_unit_test_setup_teardown(owners_are_set, setup, teardown),
		cmocka_unit_test_setup_teardown(special_modes_are_kept_off, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_there_is_not_overwritten, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_had_replaces_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(no_file_is_left_half_written, setup, teardown),
		cmocka_unit_test_setup_teardown(lost_base, setup, teardown),
		cmocka_unit_test_setup_teardown(large_files_are_sparse_and_reused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_former_recipe_with_a_hole, setup, teardown),
		cmocka_unit_test_setup_teardown(latency_counts_little, setup, teardown),
		cmocka_unit_test_setup_teardown(devices_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(symlinks_are_not_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(hard_links_stay_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(hard_links_that_disagree_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(malformed_recipes_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(malformed_directories_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(repeated_directories_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(any_depth_is_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(differences_are_named, setup, teardown),
	};

	if (geteuid() == 0 && run_as_ordinary_user())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
