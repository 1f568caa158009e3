/*
 * Shows that a set knows what was added and nothing else, that it outlives its users until others need the room, and that
 * recipes are found again with what they name, while what is no recipe is refused; and that no choice of names makes either slow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "chunker/sha256.h"
#include "gateway/edge/known.h"
#include "gateway/edge/recipes.h"
#include "proto/recipe.h"

#define HOSTILE 131072                   /* all of one place by their first bits: each would be looked for among all before it */
#define SECONDS 3                        /* a tenth of one is enough */

static struct digest numbered(uint64_t number)
{
	struct digest digest = { .size = 100 };

	sha256_once((const uint8_t *)&number, sizeof(number), digest.hash);
	return digest;
}

static void knows_what_was_added(void **state)
{
	uint8_t key[KNOWN_KEY_BYTES] = { 1 }, other[KNOWN_KEY_BYTES] = { 2 };
	struct known_set *set;
	struct known known;

	known_init(&known);
	set = known_get(&known, key);
	for (uint64_t i = 0; i < 10000; i++) {
		struct digest digest = numbered(i);

		assert_false(known_has(set, &digest));
		known_add(set, &digest);
		known_add(set, &digest);
	}
	assert_int_equal(set->count, 10000);
	known_put(set);
	assert_ptr_equal(known_get(&known, key), set);
	for (uint64_t i = 0; i < 20000; i++) {
		struct digest digest = numbered(i);

		assert_int_equal(known_has(set, &digest), i < 10000);
	}
	for (uint8_t i = 0; i < KNOWN_SETS_MAX + 5; i++) {       /* it has a user: the others go */
		other[1] = i;
		known_put(known_get(&known, other));
	}
	assert_int_equal(known.count, KNOWN_SETS_MAX);
	assert_int_equal(set->count, 10000);
	known_forget(set);
	assert_int_equal(set->count, 0);
	known_put(set);
	for (uint8_t i = 0; i < KNOWN_SETS_MAX; i++) {
		other[2] = (uint8_t)(i + 1);
		known_put(known_get(&known, other));
	}
	known_fini(&known);
	assert_int_equal(known.count, 0);
}

static struct digest put_recipe(struct recipes *recipes, uint32_t level, const struct digest *entries, size_t count)
{
	struct buffer out = buffer_heap(RECIPE_BYTES_MAX);
	struct recipe_head head = { .level = level, .file_size = level ? 5 : 100 * count };
	struct digest digest;

	recipe_begin(&out, &head);
	for (size_t i = 0; i < count; i++)
		recipe_add(&out, &entries[i]);
	digest.size = out.size;
	sha256_once(out.data, out.size, digest.hash);
	assert_int_equal(recipes_add(recipes, &digest, buffer_span(&out)), 0);
	assert_int_equal(recipes_add(recipes, &digest, buffer_span(&out)), 0);
	buffer_fini(&out);
	return digest;
}

static void recipes_are_found(void **state)
{
	struct digest chunks[3] = { numbered(1), numbered(2), numbered(3) }, parts[600], top, missing = numbered(4);
	const struct recipe_record *record;
	struct recipes recipes = { 0 };

	for (size_t i = 0; i < 600; i++) {
		chunks[0] = numbered(1000 + i);
		parts[i] = put_recipe(&recipes, 0, chunks, 3);
	}
	top = put_recipe(&recipes, 1, parts, 600);
	record = recipes_find(&recipes, &top);
	assert_non_null(record);
	assert_true(record->are_recipes);
	assert_int_equal(record->count, 600);
	assert_int_equal(recipes.count, 601);
	assert_false(recipes_find(&recipes, &parts[599])->are_recipes);
	chunks[0] = numbered(1000 + 599);
	assert_true(digest_equal(&recipes_find(&recipes, &parts[599])->blobs[0], &chunks[0]));
	assert_null(recipes_find(&recipes, &missing));
	assert_int_equal(recipes_add(&recipes, &missing, span_text("no recipe at all")), -EBADMSG);
	assert_null(recipes_find(&recipes, &missing));
	recipes_fini(&recipes);
	assert_null(recipes_find(&recipes, &top));
}

/* Their low bits are the same, in which they would have their place. */
static struct digest hostile(uint64_t number)
{
	struct digest digest = { .size = 100 };

	number <<= 40;
	memcpy(digest.hash, &number, sizeof(number));
	return digest;
}

static void hostile_blobs_are_known_as_fast(void **state)
{
	uint8_t key[KNOWN_KEY_BYTES] = { 1 };
	clock_t began = clock();
	struct known_set *set;
	struct known known;

	known_init(&known);
	set = known_get(&known, key);
	for (uint64_t i = 1; i <= HOSTILE; i++) {
		struct digest digest = hostile(i);

		known_add(set, &digest);
	}
	assert_int_equal(set->count, HOSTILE);
	assert_true(clock() - began < SECONDS * CLOCKS_PER_SEC);
	known_put(set);
	known_fini(&known);
}

static void hostile_recipes_are_found_as_fast(void **state)
{
	struct recipe_head head = { .file_size = 100 };
	struct buffer blob = buffer_heap(RECIPE_BYTES_MAX);
	struct digest chunk = numbered(1);
	struct recipes recipes = { 0 };
	clock_t began = clock();

	recipe_begin(&blob, &head);
	recipe_add(&blob, &chunk);
	for (uint64_t i = 1; i <= HOSTILE; i++) {
		struct digest digest = hostile(i);

		assert_int_equal(recipes_add(&recipes, &digest, buffer_span(&blob)), 0);
	}
	assert_true(clock() - began < SECONDS * CLOCKS_PER_SEC);
	recipes_fini(&recipes);
	buffer_fini(&blob);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_what_was_added),
		cmocka_unit_test(recipes_are_found),
		cmocka_unit_test(hostile_blobs_are_known_as_fast),
		cmocka_unit_test(hostile_recipes_are_found_as_fast),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
