/* Stores that are written full. */
#include "tests/unit/store/evict_rig.h"

#include <stdlib.h>

int evict_setup(void **state)
{
	struct fixture *fixture = malloc(sizeof(*fixture));

	fixture_init(fixture);
	fixture_open(fixture);
	*state = fixture;
	return 0;
}

int evict_teardown(void **state)
{
	struct fixture *fixture = *state;
	struct fsck_report report;

	if (fixture->store)
		fixture_close(fixture);
	assert_int_equal(fsck_store(fixture, false, &report), 0);
	fixture_fini(fixture);
	free(fixture);
	return 0;
}

int put_round(struct fixture *fixture, uint64_t number)
{
	struct blob blobs[ROUND];
	int r;

	for (size_t i = 0; i < ROUND; i++)
		blobs[i] = blob_make(number * ROUND + i, BLOB_BYTES);
	r = put_blobs(fixture, &fixture->a, blobs, ROUND);
	for (size_t i = 0; i < ROUND; i++)
		blob_free(&blobs[i]);
	return r;
}

void churn(struct fixture *fixture, uint64_t number, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes; done += ROUND * BLOB_BYTES)
		assert_int_equal(put_round(fixture, number++), STORE_OK);
}

void tree_make(struct tree *tree, uint64_t number)
{
	for (size_t i = 0; i < 8; i++)
		tree->files[i] = blob_make(number + i, BLOB_BYTES);
	tree->below = directory_make(tree->files, 4, NULL, 0);
	tree->root = directory_make(tree->files + 4, 4, &tree->below, 1);
}

void tree_put(struct fixture *fixture, struct tree *tree, uint64_t number)
{
	tree_make(tree, number);
	assert_int_equal(put_blobs(fixture, &fixture->a, tree->files, 8), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &tree->below), STORE_OK);
	assert_int_equal(put_blob(fixture, &fixture->a, &tree->root), STORE_OK);
	assert_int_equal(put_blobs(fixture, &fixture->b, tree->files, 8), STORE_OK);
}

void assert_whole(struct fixture *fixture, const struct tree *tree)
{
	assert_int_equal(read_blob(fixture, &fixture->a, &tree->root), STORE_OK);
	assert_int_equal(read_blob(fixture, &fixture->a, &tree->below), STORE_OK);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(read_blob(fixture, &fixture->a, &tree->files[i]), STORE_OK);
		assert_int_equal(read_blob(fixture, &fixture->b, &tree->files[i]), STORE_OK);
	}
}

void tree_free(struct tree *tree)
{
	for (size_t i = 0; i < 8; i++)
		blob_free(&tree->files[i]);
	blob_free(&tree->below);
	blob_free(&tree->root);
}
