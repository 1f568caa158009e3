/* Hostile trees are refused by name, and nothing outside the directory is ever touched, whoever else writes into it. */
#include "gateway/context/beneath.h"
#include "gateway/context/difference.h"
#include "proto/recipe.h"
#include "tests/unit/context/materialise_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void devices_are_refused(void **state)
{
	struct rig *rig = *state;
	const struct model_entry entries[] = { { .path = "dev/null", .type = S_IFCHR, .mode = 0666 } };
	const struct model_entry harmless[] = { { .path = "dev/null", .text = "" } };
	struct digest old = RIG_TREE(rig, harmless), new = RIG_TREE(rig, entries);

	assert_int_equal(rig_apply(rig, NULL, new), -EPERM);
	assert_non_null(strstr(rig->why, "dev/null: device nodes are refused"));
	assert_int_equal(beneath_clear(rig->dir_fd), 0);
	rig_apply_good(rig, NULL, old);
	assert_int_equal(rig_apply(rig, &old, new), -EPERM);
}

/* Whoever can write into the directory meanwhile may put symlinks where directories and files were. */
static void symlinks_are_not_followed(void **state)
{
	struct rig *rig = *state;
	const struct model_entry before[] = { { .path = "d/e/f", .text = "1" }, { .path = "g", .text = "1" } };
	const struct model_entry after[] = { { .path = "d/e/f", .text = "2" }, { .path = "g", .text = "1", .mode = 0777 } };
	struct digest old = RIG_TREE(rig, before), new = RIG_TREE(rig, after);
	struct stat stat;

	assert_int_equal(mkdirat(rig->top_fd, "outside", 0755), 0);
	assert_int_equal(mkdirat(rig->top_fd, "outside/e", 0755), 0);
	close(openat(rig->top_fd, "outside/e/f", O_CREAT | O_WRONLY, 0600));
	rig_apply_good(rig, NULL, old);
	assert_int_equal(beneath_remove(rig->dir_fd, "d"), 0);
	assert_int_equal(symlinkat("../outside", rig->dir_fd, "d"), 0);
	assert_int_equal(rig_apply(rig, &old, new), -ELOOP);
	assert_non_null(strstr(rig->why, "d/e/f: "));
	assert_int_equal(fstatat(rig->top_fd, "outside/e/f", &stat, 0), 0);
	assert_int_equal(stat.st_size, 0);

	assert_int_equal(beneath_clear(rig->dir_fd), 0);
	rig_apply_good(rig, NULL, old);
	assert_int_equal(unlinkat(rig->dir_fd, "g", 0), 0);
	assert_int_equal(symlinkat("../outside/e/f", rig->dir_fd, "g"), 0);
	assert_int_equal(rig_apply(rig, &old, new), -ELOOP);
	assert_int_equal(fstatat(rig->top_fd, "outside/e/f", &stat, 0), 0);
	assert_int_equal(stat.st_mode & 07777, 0600);
	assert_int_equal(beneath_clear(rig->dir_fd), 0);    /* removes the link, not what it names */
	assert_int_equal(fstatat(rig->top_fd, "outside/e/f", &stat, 0), 0);
}

static void hard_links_stay_inside(void **state)
{
	struct rig *rig = *state;
	static const char *const targets[] = { "missing", "out/secret", "link", "d" };

	close(openat(rig->top_fd, "secret", O_CREAT | O_WRONLY, 0600));
	for (size_t i = 0; i < RIG_COUNT(targets); i++) {
		const struct model_entry entries[] = {
			{ .path = "a", .text = "1", .hardlink = targets[i] },
			{ .path = "out", .type = S_IFLNK, .text = ".." },
			{ .path = "link", .type = S_IFLNK, .text = "../secret" },
			{ .path = "d", .type = S_IFDIR },
		};

		assert_int_equal(rig_apply(rig, NULL, RIG_TREE(rig, entries)), -EINVAL);
		assert_non_null(strstr(rig->why, "a: its first name is no file of this tree"));
		assert_int_equal(beneath_clear(rig->dir_fd), 0);
	}
}

static void hard_links_that_disagree_are_refused(void **state)
{
	struct rig *rig = *state;
	const struct model_entry entries[] = { { .path = "a", .text = "1" }, { .path = "b", .text = "22", .hardlink = "a" } };

	assert_int_equal(rig_apply(rig, NULL, RIG_TREE(rig, entries)), -EBADMSG);
	assert_non_null(strstr(rig->why, "b: names of one file that disagree"));
}

static struct digest directory_of(struct rig *rig, struct tree_node node)
{
	struct tree_directory directory = { .mode = 0755 };
	struct buffer out = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);
	struct digest digest;

	assert_int_equal(tree_encode(&out, &directory, &node, 1), 0);
	digest = model_add(&rig->model, out.data, out.size);
	buffer_fini(&out);
	return digest;
}

static void malformed_recipes_are_refused(void **state)
{
	struct rig *rig = *state;
	static uint8_t zeros[100000];
	struct digest chunk = model_add(&rig->model, zeros, 100000), recipe, part;
	struct buffer blob = buffer_heap(RECIPE_BYTES_MAX);
	struct { uint64_t said, chunks, node; } cases[] = { { 100000, 1, 100001 }, { 200000, 1, 200000 }, { 100000, 2, 100000 } };

	for (size_t i = 0; i < RIG_COUNT(cases); i++) {
		buffer_clear(&blob);
		recipe_begin(&blob, &(struct recipe_head){ .profile = 1, .file_size = cases[i].said });
		for (uint64_t c = 0; c < cases[i].chunks; c++)
			recipe_add(&blob, &chunk);
		recipe = model_add(&rig->model, blob.data, blob.size);
		assert_int_equal(rig_apply(rig, NULL, directory_of(rig, (struct tree_node){
			.kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .recipe = true, .digest = recipe, .file_size = cases[i].node })),
			-EBADMSG);
		assert_string_equal(rig->why, "f: malformed recipe");
		assert_int_equal(beneath_clear(rig->dir_fd), 0);
	}
	/* A list whose part is a list, and one with more parts than bytes. */
	for (uint32_t level = 0; level <= 1; level++) {
		buffer_clear(&blob);
		recipe_begin(&blob, &(struct recipe_head){ .profile = 1, .level = level, .file_size = 100000 });
		recipe_add(&blob, &chunk);
		part = model_add(&rig->model, blob.data, blob.size);
		buffer_clear(&blob);
		recipe_begin(&blob, &(struct recipe_head){ .profile = 1, .level = 1, .file_size = 100000 });
		recipe_add(&blob, &part);
		for (int more = 0; more < 1100 && level == 0; more++)   /* more than one batch takes */
			recipe_add(&blob, &part);
		recipe = model_add(&rig->model, blob.data, blob.size);
		assert_int_equal(rig_apply(rig, NULL, directory_of(rig, (struct tree_node){
			.kind = TREE_FILE, .name = span_text("f"), .mode = 0644, .recipe = true, .digest = recipe, .file_size = 100000 })),
			-EBADMSG);
		assert_int_equal(beneath_clear(rig->dir_fd), 0);
	}
	buffer_fini(&blob);
}

static void malformed_directories_are_refused(void **state)
{
	struct rig *rig = *state;
	struct digest garbage = model_add(&rig->model, "\xff\xff\xff", 3);

	assert_int_equal(rig_apply(rig, NULL, directory_of(rig, (struct tree_node){
		.kind = TREE_DIRECTORY, .name = span_text("d"), .digest = garbage })), -EBADMSG);
	assert_non_null(strstr(rig->why, "d: malformed directory"));
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
	struct rig *rig = *state;
	static struct tree_node nodes[FANOUT];
	static char names[FANOUT][8];
	struct digest digest = directory_of(rig, (struct tree_node){ .kind = TREE_FILE, .name = span_text("f"), .mode = 0644 });
	struct difference_options options = { .source = &rig->model.source, .visit = visit_nothing };
	struct difference_totals totals;
	uint64_t visited = 0;
	int r;

	for (int level = 0; level < 300; level++)
		digest = directory_of(rig, (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text("d"), .digest = digest });
	assert_int_equal(rig_apply(rig, NULL, digest), -ENAMETOOLONG);

	for (int level = 0; level < 4; level++) {
		struct tree_directory directory = { .mode = 0755 };
		struct buffer out = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);

		for (int i = 0; i < FANOUT; i++) {
			snprintf(names[i], sizeof(names[i]), "%d", i);
			nodes[i] = (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text(names[i]), .digest = level ? digest : digest_empty };
		}
		assert_int_equal(tree_encode(&out, &directory, nodes, FANOUT), 0);
		digest = model_add(&rig->model, out.data, out.size);
		buffer_fini(&out);
	}
	options.after = &digest;
	options.context = &visited;
	r = difference_walk(&options, &totals, rig->why, sizeof(rig->why));
	assert_int_equal(r, -E2BIG);
	assert_true(totals.entries <= DIFFERENCE_ENTRIES_MAX + 1);
}

/* A directory with so many directories of one kind. */
static struct digest many_of(struct rig *rig, struct digest digest, int count)
{
	static struct tree_node nodes[2000];
	static char names[2000][8];
	struct tree_directory directory = { .mode = 0755 };
	struct buffer out = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);

	for (int i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "%d", i);
		nodes[i] = (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text(names[i]), .digest = digest };
	}
	assert_int_equal(tree_encode(&out, &directory, nodes, (size_t)count), 0);
	digest = model_add(&rig->model, out.data, out.size);
	buffer_fini(&out);
	return digest;
}

/* The bound is of a tree, not of two that are compared. */
static void two_large_trees_are_compared(void **state)
{
	struct rig *rig = *state;
	struct digest before = many_of(rig, many_of(rig, digest_empty, 2000), 1100);
	struct digest after = many_of(rig, many_of(rig, digest_empty, 1900), 1100);
	uint64_t visited = 0;
	struct difference_options options = { .source = &rig->model.source, .visit = visit_nothing, .before = &before, .after = &after,
	                                      .context = &visited };
	struct difference_totals totals;

	assert_int_equal(difference_walk(&options, &totals, rig->why, sizeof(rig->why)), 0);
	assert_true(totals.entries > DIFFERENCE_ENTRIES_MAX && visited >= 1100 * 100);
}

/* What is deeper than descriptors reach is removed all the same. */
static void any_depth_is_removed(void **state)
{
	struct rig *rig = *state;
	int fd = dup(rig->dir_fd);

	for (int depth = 0; depth < 1500; depth++) {
		int below;

		assert_int_equal(mkdirat(fd, "deep", 0755), 0);
		close(openat(fd, "file", O_CREAT | O_WRONLY, 0600));
		below = openat(fd, "deep", O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = below;
	}
	close(fd);
	assert_int_equal(beneath_clear(rig->dir_fd), 0);
	assert_int_equal(beneath_is_empty(rig->dir_fd), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(devices_are_refused),
		RIG_TEST(symlinks_are_not_followed),
		RIG_TEST(hard_links_stay_inside),
		RIG_TEST(hard_links_that_disagree_are_refused),
		RIG_TEST(malformed_recipes_are_refused),
		RIG_TEST(malformed_directories_are_refused),
		RIG_TEST(repeated_directories_are_bounded),
		RIG_TEST(two_large_trees_are_compared),
		RIG_TEST(any_depth_is_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
