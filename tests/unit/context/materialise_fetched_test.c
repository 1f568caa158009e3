/*
 * What materialise() fetches, and how often: of large files what changed, of many small ones much at a time. And what follows
 * when something cannot be had: nothing of what was there is lost for it, no file is left in part, and it is said.
 */
#include "proto/recipe.h"
#include "tests/unit/context/materialise_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A root that is mistyped, evicted in part or refused costs nothing of what is there. */
static void what_cannot_be_had_replaces_nothing(void **state)
{
	struct rig *rig = *state;
	const struct model_entry entries[] = { { .path = "a/b/c", .text = "1" } };
	const struct model_entry device[] = { { .path = "a/null", .type = S_IFCHR } };
	const struct model_entry mine[] = { { .path = "mine/file", .text = "mine" } };
	struct digest root = RIG_TREE(rig, entries), below = model_tree(&rig->model, &(struct model_entry){ .path = "c", .text = "1" }, 1, 0);
	const struct digest *const lost[] = { &root, &below };
	struct materialise_options options = rig_options(rig, NULL, root);

	rig_apply_good(rig, NULL, RIG_TREE(rig, mine));
	options.replace = true;
	for (size_t i = 0; i < RIG_COUNT(lost); i++) {
		rig->model.lost = lost[i];
		assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), -ENOENT);
		model_compare(rig->dir_fd, mine, RIG_COUNT(mine));
	}
	rig->model.lost = NULL;
	options.root = RIG_TREE(rig, device);
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), -EPERM);
	model_compare(rig->dir_fd, mine, RIG_COUNT(mine));
	options.root = root;
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), 0);
	model_compare(rig->dir_fd, entries, RIG_COUNT(entries));
}

/* Its length is set when it is made: nothing would tell it from a whole one. */
static void no_file_is_left_half_written(void **state)
{
	struct rig *rig = *state;
	const struct model_entry entries[] = { { .path = "d/large", .large = 20000000, .seed = 5 }, { .path = "d/small", .text = "1" } };
	struct digest root = RIG_TREE(rig, entries), lost;
	uint8_t chunk[65536];
	struct stat stat;

	model_large_bytes(&entries[0], 19660800, chunk, sizeof(chunk));
	lost = model_add(&rig->model, chunk, sizeof(chunk));
	rig->model.lost = &lost;
	assert_int_equal(rig_apply(rig, NULL, root), -ENOENT);
	assert_true(rig->totals.bytes_written > 1000000);
	assert_int_equal(fstatat(rig->dir_fd, "d/large", &stat, 0), -1);
}

/* The store may have evicted the old tree: said so, or, when the caller allows it, all is made anew. */
static void lost_base(void **state)
{
	struct rig *rig = *state;
	const struct model_entry before[] = { { .path = "a", .text = "1" } };
	struct digest old = RIG_TREE(rig, before), new = RIG_TREE(rig, rig_everything);
	struct materialise_options options = rig_options(rig, &old, new);

	rig_apply_good(rig, NULL, old);
	rig->model.lost = &old;
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), -ESTALE);
	options.replace = true;
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), 0);
	model_compare(rig->dir_fd, rig_everything, RIG_COUNT(rig_everything));
	rig->model.lost = &new;
	assert_int_equal(materialise(&options, NULL, rig->why, sizeof(rig->why)), -ENOENT);
}

static void large_files_are_sparse_and_reused(void **state)
{
	struct rig *rig = *state;
	enum { SIZE = 20 * 1000 * 1000 + 17 };
	const struct model_entry before[] = { { .path = "d/large", .large = SIZE, .seed = 5 } };
	const struct model_entry edited[] = { { .path = "d/large", .large = SIZE, .seed = 5, .edited = 10 * 65536 * 2 + 5 } };
	const struct model_entry longer[] = { { .path = "d/large", .large = SIZE + 100000, .seed = 5 } };
	struct digest old = model_tree(&rig->model, before, 1, 100);      /* of level 1: four parts */
	struct digest new = model_tree(&rig->model, edited, 1, 100), end = model_tree(&rig->model, longer, 1, 0);
	int fd;

	rig_apply_good(rig, NULL, old);
	model_compare(rig->dir_fd, before, 1);
	assert_true(rig_stat(rig, "d/large").st_blocks * 512 < SIZE * 6 / 10);      /* half of it is zeros */
	assert_true(rig->totals.bytes_fetched < SIZE * 6 / 10);
	assert_true(rig->model.batch_bytes_max <= 4u << 20);

	rig_apply_good(rig, &old, new);
	model_compare(rig->dir_fd, edited, 1);
	assert_int_equal(rig->totals.bytes_written, SIZE);
	assert_int_equal(rig->totals.bytes_fetched, 65536);
	assert_int_equal(rig->totals.bytes_reused, SIZE - 65536);

	/* A former version that is not what it should be is not made use of. */
	fd = openat(rig->dir_fd, "d/large", O_WRONLY);
	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	close(fd);
	rig_apply_good(rig, &new, old);
	model_compare(rig->dir_fd, before, 1);
	assert_int_equal(rig->totals.bytes_reused, 0);
	rig_apply_good(rig, &old, new);

	rig_apply_good(rig, &new, end);
	model_compare(rig->dir_fd, longer, 1);
	assert_true(rig->totals.bytes_fetched <= 4 * 65536);
	assert_true(rig_stat(rig, "d/large").st_blocks * 512 < SIZE * 7 / 10);
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
	struct rig *rig = *state;
	enum { SIZE = 20 * 1000 * 1000 + 17 };
	const struct model_entry before[] = { { .path = "large", .large = SIZE, .seed = 5 } };
	const struct model_entry edited[] = { { .path = "large", .large = SIZE, .seed = 5, .edited = 5 } };
	/* All of its parts are others: what they share with those of before is found by chunks. */
	struct digest old = model_tree(&rig->model, before, 1, 100), new = model_tree(&rig->model, edited, 1, 90), lost;

	for (unsigned number = 0; number < 3; number++) {
		lost = part_of(&rig->model, SIZE, number);
		rig_apply_good(rig, NULL, old);
		rig->model.lost = &lost;
		rig_apply_good(rig, &old, new);
		rig->model.lost = NULL;
		model_compare(rig->dir_fd, edited, 1);
		assert_int_equal(rig->totals.bytes_reused > 0, number > 0);
		assert_int_equal(unlinkat(rig->dir_fd, "large", 0), 0);
	}
}

static void latency_counts_little(void **state)
{
	struct rig *rig = *state;
	enum { DIRECTORIES = 60, FILES = 50 };
	struct model_entry *entries = calloc(DIRECTORIES * FILES, sizeof(*entries));
	char (*names)[32] = calloc(DIRECTORIES * FILES, sizeof(*names));

	for (int i = 0; i < DIRECTORIES * FILES; i++) {
		snprintf(names[i], sizeof(names[i]), "d%d/e%d/f%d", i / FILES, i / FILES % 3, i % FILES);
		entries[i] = (struct model_entry){ .path = names[i], .text = names[i] };
	}
	rig_apply_good(rig, NULL, model_tree(&rig->model, entries, DIRECTORIES * FILES, 0));
	model_compare(rig->dir_fd, entries, DIRECTORIES * FILES);
	assert_true(rig->model.fetches <= 3 + 3);           /* a level a fetch, 1,024 files a fetch */
	free(entries);
	free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(what_cannot_be_had_replaces_nothing),
		RIG_TEST(no_file_is_left_half_written),
		RIG_TEST(lost_base),
		RIG_TEST(large_files_are_sparse_and_reused),
		RIG_TEST(a_former_recipe_with_a_hole),
		RIG_TEST(latency_counts_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
