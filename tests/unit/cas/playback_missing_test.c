/*
 * Shows that what is missing, another tenant's, damaged, malformed or of another size is told before it begins, and
 * damage in the middle with the offset reached; and that what is ready stays under eviction. Run with each index
 * engine and both ring engines.
 */
#include "tests/unit/cas/playback_rig.h"

#include <stdlib.h>

#include "proto/recipe.h"

static void what_is_not_there_is_missing(void **state)
{
	struct content content = content_make(1, 300000, CONTENT_RANDOM), other = content_make(2, 300000, CONTENT_RANDOM);
	struct content_name name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);
	struct content_name others = content_store(&rig_fixture, &rig_cas, &rig_fixture.b, &other), wrong = name;
	struct blob text = blob_make(77, 100);

	wrong.size++;
	rig_assert_missing(&wrong);          /* the recipe says another size */
	wrong = name;
	wrong.digest.hash[5] ^= 1;
	rig_assert_missing(&wrong);
	rig_assert_missing(&others);
	wrong.recipe = false;
	rig_assert_missing(&wrong);          /* a whole file whose digest has another size */
	put_blob(&rig_fixture, &rig_fixture.a, &text);
	wrong = (struct content_name){ .digest = text.digest, .size = 100, .recipe = true };
	rig_assert_missing(&wrong);          /* no recipe */
	wrong.digest.size = 1ull << 40;
	rig_assert_missing(&wrong);
	wrong = (struct content_name){ .digest = { .size = 1ull << 40 }, .size = 1ull << 40 };
	rig_assert_missing(&wrong);
	rig_assert_plays(&name, &content, 0);
	assert_int_equal(playbacks_totals(rig_playbacks)->missing, 7);
	blob_free(&text);
	content_free(&content);
	content_free(&other);
}

static void a_recipe_without_a_chunk_is_missing(void **state)
{
	struct buffer bytes = buffer_heap(RECIPE_BYTES_MAX);
	struct blob chunks[3] = { blob_make(1, 1000), blob_make(2, 2000), blob_make(3, 3000) };
	struct content_name name = { .size = 6000, .recipe = true };

	recipe_begin(&bytes, &(struct recipe_head){ 1, 0, 6000 });
	for (unsigned i = 0; i < 3; i++)
		recipe_add(&bytes, &chunks[i].digest);
	put_blobs(&rig_fixture, &rig_fixture.a, chunks, 2);
	name.digest = rig_put_buffer(&bytes).digest;
	rig_assert_missing(&name);
	put_blob(&rig_fixture, &rig_fixture.b, &chunks[2]);
	rig_assert_missing(&name);
	put_blob(&rig_fixture, &rig_fixture.a, &chunks[2]);
	struct content whole = { .data = malloc(6000), .size = 6000 };
	for (unsigned i = 0, at = 0; i < 3; at += 1000 * ++i)
		memcpy(whole.data + at, chunks[i].data, (size_t)chunks[i].digest.size);
	rig_assert_plays(&name, &whole, 0);
	content_free(&whole);
	buffer_fini(&bytes);
	for (unsigned i = 0; i < 3; i++)
		blob_free(&chunks[i]);
}

static void damage_is_told_where_it_is(void **state)
{
	struct content content = content_make(4, 2000000, CONTENT_RANDOM);
	struct content_name name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);
	struct blob part = { .data = content.data + 1000000, .digest.size = 64 };
	struct play play;

	rig_close();
	assert_int_equal(damage_blob(&rig_fixture, &part), 1);
	rig_open_again();
	play_start(&play, &name, &content, 10);
	play_through(&play);
	assert_int_equal(play.ready, STORE_OK);
	assert_int_equal(play.failed, STORE_CORRUPT);
	assert_true(play.playback.offset > 1000000 - (256 << 10) && play.playback.offset <= 1000000);
	playback_stop(&play.playback);
	/* Quarantined: now it is known before. And brought again. */
	rig_assert_missing(&name);
	content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);
	rig_assert_plays(&name, &content, 0);
	content_free(&content);
}

static void a_damaged_recipe_or_file_is_missing(void **state)
{
	struct content content = content_make(4, 2000000, CONTENT_RANDOM), small = content_make(5, 1000, CONTENT_RANDOM);
	struct content_name name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);
	struct content_name small_name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &small);
	struct buffer recipe = buffer_heap(RECIPE_BYTES_MAX);
	struct blob blob = { .data = small.data, .digest.size = small.size };

	recipe_begin(&recipe, &(struct recipe_head){ 1, 0, content.size });
	rig_close();
	assert_int_equal(damage_blob(&rig_fixture, &blob), 1);
	blob = (struct blob){ .data = recipe.data, .digest.size = recipe.size };
	assert_int_equal(damage_blob(&rig_fixture, &blob), 1);
	rig_open_again();
	rig_assert_missing(&name);
	rig_assert_missing(&small_name);
	buffer_fini(&recipe);
	content_free(&content);
	content_free(&small);
}

static bool present_now(const struct content_name *name)
{
	return lookup_blob(&rig_fixture, &rig_fixture.a, &name->digest) != 0;
}

/* Other blobs, as many as the store has room for twice. */
static void press(uint64_t number)
{
	for (unsigned i = 0; i < 130; i++) {
		struct blob blob = blob_make(number + i, 1 << 20);

		assert_int_equal(put_blob(&rig_fixture, &rig_fixture.a, &blob), STORE_OK);
		blob_free(&blob);
	}
}

static void what_is_ready_stays_under_eviction(void **state)
{
	struct content content = content_make(4, 6000000, CONTENT_RANDOM);
	struct content_name name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);
	struct play play;

	play_start(&play, &name, &content, 0);
	play_ready(&play);
	assert_int_equal(play.ready, STORE_OK);
	press(1000);
	play_through(&play);
	assert_int_equal(play.failed, NOT_TOLD);
	playback_stop(&play.playback);
	/* And no longer than that. */
	press(2000);
	press(3000);
	assert_false(present_now(&name));
	rig_assert_missing(&name);
	content_free(&content);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(what_is_not_there_is_missing),
		RIG_TEST(a_recipe_without_a_chunk_is_missing),
		RIG_TEST(damage_is_told_where_it_is),
		RIG_TEST(a_damaged_recipe_or_file_is_missing),
		cmocka_unit_test_setup_teardown(what_is_ready_stays_under_eviction, rig_setup_small, rig_teardown),
	};

	return rig_run(argc, argv, tests);
}
