/*
 * Shows that a content is played as it was stored, from any offset, whatever is taken at a time and in whatever order
 * from many, also with a recipe of parts; that a small file costs one read; and that memory is bounded and nobody
 * waits for ever, also where contents are taken strictly one after the other. Run with each index engine and both ring
 * engines.
 */
#include "tests/unit/cas/playback_rig.h"

#include <stdlib.h>

#include "proto/recipe.h"

static const size_t sizes[] = { 0, 1, 4096, 65536, 65537, 200000, 262144, 600000, 1048577, 5000000 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void contents_are_played_from_any_offset(void **state)
{
	static struct play plays[PLAYS];
	struct content contents[SIZES];
	struct content_name names[SIZES];
	uint64_t random = 5;
	unsigned ended = 0;

	for (size_t i = 0; i < SIZES; i++) {
		contents[i] = content_make(i, sizes[i], i % 2 ? CONTENT_RANDOM : CONTENT_SQLITE);
		names[i] = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &contents[i]);
	}
	for (unsigned i = 0; i < PLAYS; i++) {
		unsigned which = i % SIZES;
		uint64_t offset = i < SIZES ? 0 : content_random(&random) % (sizes[which] + 1);

		play_start(&plays[i], &names[which], &contents[which], i / SIZES == 1 ? sizes[which] : offset);
	}
	while (ended < PLAYS) {
		ended = 0;
		for (unsigned i = 0; i < PLAYS; i++) {
			assert_int_equal(plays[i].failed, NOT_TOLD);
			if (content_random(&random) % 3)
				play_take(&plays[i], 1 + content_random(&random) % 100000);
			ended += plays[i].ready == STORE_OK && playback_ended(&plays[i].playback);
		}
		ring_run(rig_fixture.ring, 0);
	}
	assert_int_equal(playbacks_memory(rig_playbacks), 0);
	assert_int_equal(playbacks_totals(rig_playbacks)->started, PLAYS);
	assert_int_equal(playbacks_totals(rig_playbacks)->missing + playbacks_totals(rig_playbacks)->failed, 0);
	for (size_t i = 0; i < SIZES; i++)
		content_free(&contents[i]);
}

static void contents_taken_one_after_the_other_go_on(void **state)
{
	static struct play plays[PLAYS];
	struct content content = content_make(3, 3 << 20, CONTENT_ZEROS);
	struct content_name name = content_store(&rig_fixture, &rig_cas, &rig_fixture.a, &content);

	/* Chunks of the longest kind: one each is more than all may read ahead. */
	for (unsigned i = 0; i < PLAYS; i++)
		play_start(&plays[i], &name, &content, i);
	for (unsigned i = 0; i < PLAYS; i++) {
		play_through(&plays[i]);
		assert_int_equal(plays[i].ready, STORE_OK);
		assert_int_equal(plays[i].failed, NOT_TOLD);
	}
	content_free(&content);
}

#define SMALL_FILES 1500

static void a_small_file_costs_one_read(void **state)
{
	static struct play plays[SMALL_FILES];
	static struct content contents[SMALL_FILES];
	unsigned ended = 0;

	for (unsigned i = 0; i < SMALL_FILES; i++) {
		struct blob blob = blob_make(i, 1 + i);
		struct content_name name = { .digest = blob.digest, .size = 1 + i };

		contents[i] = (struct content){ .data = blob.data, .size = 1 + i };
		assert_int_equal(put_blob(&rig_fixture, &rig_fixture.a, &blob), STORE_OK);
		play_start(&plays[i], &name, &contents[i], 0);
	}
	while (ended < SMALL_FILES) {
		ended = 0;
		rig_turn();
		for (unsigned i = 0; i < SMALL_FILES; i++) {
			play_take(&plays[i], SIZE_MAX);
			ended += playback_ended(&plays[i].playback);
		}
	}
	assert_int_equal(playbacks_totals(rig_playbacks)->blobs, SMALL_FILES);
	for (unsigned i = 0; i < SMALL_FILES; i++)
		free(contents[i].data);
}

/* A file of `parts` parts, of three chunks each. `said` is added to the top's file size. */
static struct content_name parts_store(const struct content *content, unsigned parts, int said)
{
	struct buffer top = buffer_heap(RECIPE_BYTES_MAX);
	size_t chunk = content->size / parts / 3;
	struct content_name name = { .size = content->size, .recipe = true };

	recipe_begin(&top, &(struct recipe_head){ 1, 1, (uint64_t)((int64_t)content->size + said) });
	for (unsigned i = 0; i < parts; i++) {
		struct buffer part = buffer_heap(RECIPE_BYTES_MAX);
		struct blob blob;

		recipe_begin(&part, &(struct recipe_head){ 1, 0, 3 * chunk });
		for (unsigned j = 0; j < 3; j++) {
			struct buffer bytes = { .data = content->data + (3 * i + j) * chunk, .size = chunk };

			blob = rig_put_buffer(&bytes);
			recipe_add(&part, &blob.digest);
		}
		blob = rig_put_buffer(&part);
		recipe_add(&top, &blob.digest);
		buffer_fini(&part);
	}
	name.digest = rig_put_buffer(&top).digest;
	buffer_fini(&top);
	return name;
}

static void recipes_of_parts_are_played(void **state)
{
	struct content content = content_make(8, 300000, CONTENT_RANDOM);
	struct content_name name = parts_store(&content, 5, 0), wrong = parts_store(&content, 4, 1);

	for (uint64_t offset = 0; offset <= content.size; offset += 7500) {
		rig_assert_plays(&name, &content, offset);
		if (offset)
			rig_assert_plays(&name, &content, offset - 1);
	}
	wrong.size++;
	rig_assert_missing(&wrong);
	content_free(&content);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(contents_are_played_from_any_offset),
		RIG_TEST(contents_taken_one_after_the_other_go_on),
		RIG_TEST(a_small_file_costs_one_read),
		RIG_TEST(recipes_of_parts_are_played),
	};

	return rig_run(argc, argv, tests);
}
