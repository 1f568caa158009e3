/*
 * Shows what a blob is told by: the whole file that was there before, or those chunks of it that lay where the blob lies now; and
 * that hints that lead nowhere, to the blob itself or to nothing name nothing.
 */
#include "gateway/edge/bases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "chunker/sha256.h"
#include "proto/recipe.h"

#define CHUNKS      8
#define CHUNK_BYTES 1000u

static struct digest numbered(uint64_t number, uint64_t size)
{
	struct digest digest = { .size = size };

	sha256_once((const uint8_t *)&number, sizeof(number), digest.hash);
	return digest;
}

static struct content_name recipe_of_chunks(struct recipes *recipes)
{
	struct content_name name = { .digest = numbered(1, 400), .size = CHUNKS * CHUNK_BYTES, .recipe = true };
	struct buffer blob = buffer_heap(4096);

	recipe_begin(&blob, &(struct recipe_head){ .profile = 1, .file_size = name.size });
	for (uint64_t i = 0; i < CHUNKS; i++) {
		struct digest chunk = numbered(100 + i, CHUNK_BYTES);

		recipe_add(&blob, &chunk);
	}
	assert_int_equal(recipes_add(recipes, &name.digest, buffer_span(&blob)), 0);
	buffer_fini(&blob);
	return name;
}

/* The chunks [first, end) are found for a blob at that place, in order. */
static void expect_chunks(uint64_t offset, uint64_t size, size_t max, uint64_t first, uint64_t end)
{
	static uint64_t number = 1000;
	struct recipes recipes = { 0 };
	struct bases bases = { 0 };
	struct content_name former = recipe_of_chunks(&recipes);
	struct digest blob = numbered(number++, size), found[CHUNKS];

	bases_add(&bases, &blob, &former, offset);
	assert_int_equal(bases_find(&bases, &recipes, &blob, found, max), end - first);
	for (uint64_t i = first; i < end; i++) {
		struct digest chunk = numbered(100 + i, CHUNK_BYTES);

		assert_true(digest_equal(&found[i - first], &chunk));
	}
	bases_fini(&bases);
	recipes_fini(&recipes);
}

static void chunks_by_place(void **state)
{
	expect_chunks(0, 1000, 4, 0, 1);
	expect_chunks(3000, 1001, 4, 3, 4);
	expect_chunks(3010, 990, 4, 3, 4);       /* moved a little: still one */
	expect_chunks(2900, 1000, 4, 3, 4);
	expect_chunks(2500, 1000, 4, 2, 4);      /* between two */
	expect_chunks(1000, 3000, 4, 1, 4);      /* three became one */
	expect_chunks(0, 8000, 4, 0, 4);         /* as many as there may be */
	expect_chunks(4100, 200, 4, 4, 5);       /* one became many */
	expect_chunks(7000, 500, 4, 7, 8);
	expect_chunks(8000, 1000, 4, 0, 0);      /* behind its end */
	expect_chunks(UINT64_MAX - 5000, 1000, 4, 0, 0);
	expect_chunks(0, 1000, 0, 0, 0);
}

static void whole_files_and_recipes(void **state)
{
	struct recipes recipes = { 0 };
	struct bases bases = { 0 };
	struct content_name small = { .digest = numbered(2, 500), .size = 500 }, none = { .digest = digest_empty };
	struct content_name large = recipe_of_chunks(&recipes);
	struct digest blob = numbered(3, 510), recipe = numbered(4, 410), found[4];

	assert_int_equal(bases_find(&bases, &recipes, &blob, found, 4), 0);
	bases_add(&bases, &blob, &none, 0);
	bases_add(&bases, &small.digest, &small, 0);
	assert_int_equal(bases.hints.count, 0);
	bases_add(&bases, &blob, &small, 0);
	bases_add(&bases, &blob, &large, 0);             /* too late */
	assert_int_equal(bases_find(&bases, &recipes, &blob, found, 4), 1);
	assert_true(digest_equal(&found[0], &small.digest));
	/* A recipe is like a recipe; of a small file it would be like nothing. */
	bases_add_recipe(&bases, &recipe, &small);
	assert_int_equal(bases_find(&bases, &recipes, &recipe, found, 4), 0);
	bases_add_recipe(&bases, &recipe, &large);
	assert_int_equal(bases_find(&bases, &recipes, &recipe, found, 4), 1);
	assert_true(digest_equal(&found[0], &large.digest));
	/* The former recipe is not to be had. */
	large.digest = numbered(5, 400);
	blob = numbered(6, 600);
	bases_add(&bases, &blob, &large, 0);
	assert_int_equal(bases_find(&bases, &recipes, &blob, found, 4), 0);
	bases_fini(&bases);
	recipes_fini(&recipes);
}

static void many(void **state)
{
	struct recipes recipes = { 0 };
	struct bases bases = { 0 };
	struct digest found[4];

	for (uint64_t i = 0; i < 5000; i++) {
		struct content_name former = { .digest = numbered(2 * i, 300), .size = 300 };
		struct digest blob = numbered(2 * i + 1, 301);

		bases_add(&bases, &blob, &former, 0);
	}
	assert_int_equal(bases.hints.count, 5000);
	for (uint64_t i = 0; i < 5000; i++) {
		struct digest blob = numbered(2 * i + 1, 301), former = numbered(2 * i, 300);

		assert_int_equal(bases_find(&bases, &recipes, &blob, found, 4), 1);
		assert_true(digest_equal(&found[0], &former));
	}
	bases_fini(&bases);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_by_place),
		cmocka_unit_test(whole_files_and_recipes),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
