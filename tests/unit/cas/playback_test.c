/*
 * Shows that a content is played as it was stored, from any offset, whatever is taken at a time and in whatever order
 * from many; that a small file costs one read; that what is missing, another tenant's, damaged, malformed or of another
 * size is told before it begins, and damage in the middle with the offset reached; that what is ready stays under
 * eviction; that memory is bounded and nobody waits for ever, also where contents are taken strictly one after the other;
 * that chunks which are lent on stay until they are dropped; and that playbacks are stopped, and the set destroyed, in
 * every state and from inside events. Run with each index engine and both ring engines.
 */
#include "tests/unit/cas/contents.h"

#include <stdlib.h>

#include "chunker/sha256.h"
#include "gateway/cas/playback.h"
#include "proto/recipe.h"

#define NOT_TOLD (-10000)
#define PLAYS    64
/* What is read ahead, and a longest chunk each. */
#define MEMORY_MAX (PLAYBACKS_BYTES_MAX + PLAYBACKS_ACTIVE_MAX * ((300u << 10)))

static struct fixture fixture;
static struct sha256 hasher;
static struct cas cas;
static struct playbacks *playbacks;

struct play {
	struct playback playback;
	const struct content *content;
	uint64_t start;
	int ready, failed;               /* as told; else NOT_TOLD */
	unsigned data_events;
	bool starved;
};

static void (*event_hook)(struct play *play);

static void on_ready(struct playback *playback, int result)
{
	struct play *play = container_of(playback, struct play, playback);

	assert_int_equal(play->ready, NOT_TOLD);
	assert_int_equal(play->failed, NOT_TOLD);
	play->ready = result;
	if (event_hook)
		event_hook(play);
}

static void on_data(struct playback *playback)
{
	struct play *play = container_of(playback, struct play, playback);

	assert_int_equal(play->ready, STORE_OK);
	assert_int_equal(play->failed, NOT_TOLD);
	assert_true(play->starved);
	play->starved = false;
	play->data_events++;
	if (event_hook)
		event_hook(play);
}

static void on_failed(struct playback *playback, int result)
{
	struct play *play = container_of(playback, struct play, playback);

	assert_int_equal(play->ready, STORE_OK);
	assert_int_equal(play->failed, NOT_TOLD);
	play->failed = result;
	if (event_hook)
		event_hook(play);
}

static const struct playback_events events = { .on_ready = on_ready, .on_data = on_data, .on_failed = on_failed };

static void create(void)
{
	playbacks = playbacks_create(&cas, &fixture.a, &events, &cas);
	assert_non_null(playbacks);
	assert_ptr_equal(playbacks_owner(playbacks), &cas);
}

static int setup_store(uint64_t ceiling_bytes)
{
	fixture_init(&fixture);
	fixture.config.ceiling_bytes = ceiling_bytes;
	fixture_open(&fixture);
	content_cas(&fixture, &cas, &hasher);
	event_hook = NULL;
	create();
	return 0;
}

static int setup(void **state)
{
	return setup_store(256 << 20);
}

static int setup_small(void **state)
{
	return setup_store(64 << 20);
}

static int teardown(void **state)
{
	playbacks_destroy(playbacks);
	while (!cas_idle(&cas))
		ring_run(fixture.ring, 1000000);
	fixture_fini(&fixture);
	return 0;
}

static void start(struct play *play, const struct content_name *name, const struct content *content, uint64_t offset)
{
	*play = (struct play){ .content = content, .start = offset, .ready = NOT_TOLD, .failed = NOT_TOLD };
	playback_start(playbacks, &play->playback, name, offset);
	assert_int_equal(play->ready, NOT_TOLD);
}

/* Takes up to `size` of what is there, and compares. Returns how much. */
static size_t take(struct play *play, size_t size)
{
	struct span data = playback_data(&play->playback);

	assert_true(playbacks_memory(playbacks) <= MEMORY_MAX);
	play->starved = data.size == 0;
	if (data.size == 0)
		return 0;
	assert_int_equal(play->ready, STORE_OK);
	if (size > data.size)
		size = data.size;
	assert_true(play->playback.offset + size <= play->content->size);
	assert_memory_equal(data.data, play->content->data + play->playback.offset, size);
	playback_taken(&play->playback, size);
	return size;
}

static void turn(void)
{
	ring_run(fixture.ring, 100000000);
}

static void run_ready(struct play *play)
{
	for (unsigned i = 0; play->ready == NOT_TOLD; i++) {
		assert_true(i < 10000);
		turn();
	}
}

/* To its end, or to where it fails. */
static void run_through(struct play *play)
{
	run_ready(play);
	while (play->ready == STORE_OK && play->failed == NOT_TOLD && !playback_ended(&play->playback))
		if (take(play, 1 << 20) == 0)
			turn();
}

static void assert_plays(const struct content_name *name, const struct content *content, uint64_t offset)
{
	struct play play;

	start(&play, name, content, offset);
	run_through(&play);
	assert_int_equal(play.ready, STORE_OK);
	assert_int_equal(play.failed, NOT_TOLD);
	playback_stop(&play.playback);
}

static void assert_missing(const struct content_name *name)
{
	struct play play;

	start(&play, name, NULL, 0);
	run_ready(&play);
	assert_int_equal(play.ready, STORE_MISSING);
	assert_int_equal(playback_data(&play.playback).size, 0);
	playback_stop(&play.playback);
}

/* ---- what is there ---- */

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
		names[i] = content_store(&fixture, &cas, &fixture.a, &contents[i]);
	}
	for (unsigned i = 0; i < PLAYS; i++) {
		unsigned which = i % SIZES;
		uint64_t offset = i < SIZES ? 0 : content_random(&random) % (sizes[which] + 1);

		start(&plays[i], &names[which], &contents[which], i / SIZES == 1 ? sizes[which] : offset);
	}
	while (ended < PLAYS) {
		ended = 0;
		for (unsigned i = 0; i < PLAYS; i++) {
			assert_int_equal(plays[i].failed, NOT_TOLD);
			if (content_random(&random) % 3)
				take(&plays[i], 1 + content_random(&random) % 100000);
			ended += plays[i].ready == STORE_OK && playback_ended(&plays[i].playback);
		}
		ring_run(fixture.ring, 0);
	}
	assert_int_equal(playbacks_memory(playbacks), 0);
	assert_int_equal(playbacks_totals(playbacks)->started, PLAYS);
	assert_int_equal(playbacks_totals(playbacks)->missing + playbacks_totals(playbacks)->failed, 0);
	for (size_t i = 0; i < SIZES; i++)
		content_free(&contents[i]);
}

static void contents_taken_one_after_the_other_go_on(void **state)
{
	static struct play plays[PLAYS];
	struct content content = content_make(3, 3 << 20, CONTENT_ZEROS);
	struct content_name name = content_store(&fixture, &cas, &fixture.a, &content);

	/* Chunks of the longest kind: one each is more than all may read ahead. */
	for (unsigned i = 0; i < PLAYS; i++)
		start(&plays[i], &name, &content, i);
	for (unsigned i = 0; i < PLAYS; i++) {
		run_through(&plays[i]);
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
		assert_int_equal(put_blob(&fixture, &fixture.a, &blob), STORE_OK);
		start(&plays[i], &name, &contents[i], 0);
	}
	while (ended < SMALL_FILES) {
		ended = 0;
		turn();
		for (unsigned i = 0; i < SMALL_FILES; i++) {
			take(&plays[i], SIZE_MAX);
			ended += playback_ended(&plays[i].playback);
		}
	}
	assert_int_equal(playbacks_totals(playbacks)->blobs, SMALL_FILES);
	for (unsigned i = 0; i < SMALL_FILES; i++)
		free(contents[i].data);
}

static struct blob put_buffer(struct buffer *bytes)
{
	struct blob blob = { .digest.size = bytes->size, .data = bytes->data };

	assert_false(bytes->failed);
	sha256_once(bytes->data, bytes->size, blob.digest.hash);
	assert_int_equal(put_blob(&fixture, &fixture.a, &blob), STORE_OK);
	return blob;
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

			blob = put_buffer(&bytes);
			recipe_add(&part, &blob.digest);
		}
		blob = put_buffer(&part);
		recipe_add(&top, &blob.digest);
		buffer_fini(&part);
	}
	name.digest = put_buffer(&top).digest;
	buffer_fini(&top);
	return name;
}

static void recipes_of_parts_are_played(void **state)
{
	struct content content = content_make(8, 300000, CONTENT_RANDOM);
	struct content_name name = parts_store(&content, 5, 0), wrong = parts_store(&content, 4, 1);

	for (uint64_t offset = 0; offset <= content.size; offset += 7500) {
		assert_plays(&name, &content, offset);
		if (offset)
			assert_plays(&name, &content, offset - 1);
	}
	wrong.size++;
	assert_missing(&wrong);
	content_free(&content);
}

/* ---- what is not ---- */

static void what_is_not_there_is_missing(void **state)
{
	struct content content = content_make(1, 300000, CONTENT_RANDOM), other = content_make(2, 300000, CONTENT_RANDOM);
	struct content_name name = content_store(&fixture, &cas, &fixture.a, &content);
	struct content_name others = content_store(&fixture, &cas, &fixture.b, &other), wrong = name;
	struct blob text = blob_make(77, 100);

	wrong.size++;
	assert_missing(&wrong);          /* the recipe says another size */
	wrong = name;
	wrong.digest.hash[5] ^= 1;
	assert_missing(&wrong);
	assert_missing(&others);
	wrong.recipe = false;
	assert_missing(&wrong);          /* a whole file whose digest has another size */
	put_blob(&fixture, &fixture.a, &text);
	wrong = (struct content_name){ .digest = text.digest, .size = 100, .recipe = true };
	assert_missing(&wrong);          /* no recipe */
	wrong.digest.size = 1ull << 40;
	assert_missing(&wrong);
	wrong = (struct content_name){ .digest = { .size = 1ull << 40 }, .size = 1ull << 40 };
	assert_missing(&wrong);
	assert_plays(&name, &content, 0);
	assert_int_equal(playbacks_totals(playbacks)->missing, 7);
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
	put_blobs(&fixture, &fixture.a, chunks, 2);
	name.digest = put_buffer(&bytes).digest;
	assert_missing(&name);
	put_blob(&fixture, &fixture.b, &chunks[2]);
	assert_missing(&name);
	put_blob(&fixture, &fixture.a, &chunks[2]);
	struct content whole = { .data = malloc(6000), .size = 6000 };
	for (unsigned i = 0, at = 0; i < 3; at += 1000 * ++i)
		memcpy(whole.data + at, chunks[i].data, (size_t)chunks[i].digest.size);
	assert_plays(&name, &whole, 0);
	content_free(&whole);
	buffer_fini(&bytes);
	for (unsigned i = 0; i < 3; i++)
		blob_free(&chunks[i]);
}

static void reopen(void)
{
	playbacks_destroy(playbacks);
	assert_int_equal(sync_store(&fixture), STORE_OK);
	fixture_close(&fixture);
}

static void open_again(void)
{
	fixture_open(&fixture);
	content_cas(&fixture, &cas, &hasher);
	create();
}

static void damage_is_told_where_it_is(void **state)
{
	struct content content = content_make(4, 2000000, CONTENT_RANDOM);
	struct content_name name = content_store(&fixture, &cas, &fixture.a, &content);
	struct blob part = { .data = content.data + 1000000, .digest.size = 64 };
	struct play play;

	reopen();
	assert_int_equal(damage_blob(&fixture, &part), 1);
	open_again();
	start(&play, &name, &content, 10);
	run_through(&play);
	assert_int_equal(play.ready, STORE_OK);
	assert_int_equal(play.failed, STORE_CORRUPT);
	assert_true(play.playback.offset > 1000000 - (256 << 10) && play.playback.offset <= 1000000);
	playback_stop(&play.playback);
	/* Quarantined: now it is known before. And brought again. */
	assert_missing(&name);
	content_store(&fixture, &cas, &fixture.a, &content);
	assert_plays(&name, &content, 0);
	content_free(&content);
}

static void a_damaged_recipe_or_file_is_missing(void **state)
{
	struct content content = content_make(4, 2000000, CONTENT_RANDOM), small = content_make(5, 1000, CONTENT_RANDOM);
	struct content_name name = content_store(&fixture, &cas, &fixture.a, &content);
	struct content_name small_name = content_store(&fixture, &cas, &fixture.a, &small);
	struct buffer recipe = buffer_heap(RECIPE_BYTES_MAX);
	struct blob blob = { .data = small.data, .digest.size = small.size };

	recipe_begin(&recipe, &(struct recipe_head){ 1, 0, content.size });
	reopen();
	assert_int_equal(damage_blob(&fixture, &blob), 1);
	blob = (struct blob){ .data = recipe.data, .digest.size = recipe.size };
	assert_int_equal(damage_blob(&fixture, &blob), 1);
	open_again();
	assert_missing(&name);
	assert_missing(&small_name);
	buffer_fini(&recipe);
	content_free(&content);
	content_free(&small);
}

static bool present_now(const struct content_name *name)
{
	return lookup_blob(&fixture, &fixture.a, &name->digest) != 0;
}

/* Other blobs, as many as the store has room for twice. */
static void press(uint64_t number)
{
	for (unsigned i = 0; i < 130; i++) {
		struct blob blob = blob_make(number + i, 1 << 20);

		assert_int_equal(put_blob(&fixture, &fixture.a, &blob), STORE_OK);
		blob_free(&blob);
	}
}

static void what_is_ready_stays_under_eviction(void **state)
{
	struct content content = content_make(4, 6000000, CONTENT_RANDOM);
	struct content_name name = content_store(&fixture, &cas, &fixture.a, &content);
	struct play play;

	start(&play, &name, &content, 0);
	run_ready(&play);
	assert_int_equal(play.ready, STORE_OK);
	press(1000);
	run_through(&play);
	assert_int_equal(play.failed, NOT_TOLD);
	playback_stop(&play.playback);
	/* And no longer than that. */
	press(2000);
	press(3000);
	assert_false(present_now(&name));
	assert_missing(&name);
	content_free(&content);
}

struct asking {
	struct contents_lookup lookup;
	bool done;
};

static void on_contents(struct contents_lookup *lookup)
{
	container_of(lookup, struct asking, lookup)->done = true;
}

static void many_are_looked_up_at_once(void **state)
{
	enum { COUNT = 3000 };
	static struct content_name names[COUNT];
	static bool present[COUNT];
	struct asking asking = {
		.lookup = { .scope = fixture.a, .names = names, .count = COUNT, .present = present, .fn = on_contents },
	};

	for (unsigned i = 0; i < COUNT; i++) {
		struct blob blob = blob_make(i, i);

		names[i] = (struct content_name){ .digest = blob.digest, .size = i };
		if (i % 3 == 0)
			assert_int_equal(put_blob(&fixture, i % 2 ? &fixture.a : &fixture.b, &blob), STORE_OK);
		blob_free(&blob);
	}
	contents_lookup(fixture.store, &asking.lookup);
	run_until(&fixture, &asking.done);
	assert_int_equal(asking.lookup.result, 0);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(present[i], i == 0 || (i % 3 == 0 && i % 2 == 1));
}

/* ---- chunks that are lent on ---- */

#define LENT_MAX 64

static struct lent {
	struct ahead *chunk;
	struct span data;
	size_t at;                       /* in the content */
} lent[LENT_MAX];
static unsigned lent_count;

/* Takes the chunk that is there; what is before it is written over. False: none is. */
static bool take_chunk(struct play *play)
{
	struct lent *one = &lent[lent_count];

	assert_true(lent_count < LENT_MAX);
	one->at = (size_t)play->playback.offset;
	one->chunk = playback_take_chunk(&play->playback, &one->data);
	play->starved = !one->chunk;
	if (!one->chunk)
		return false;
	assert_true(one->data.size > 0);
	assert_int_equal(play->playback.offset, one->at + one->data.size);
	memset((uint8_t *)(uintptr_t)one->data.data - STORE_READ_EXTRA_BYTES, 'x', STORE_READ_EXTRA_BYTES);
	lent_count++;
	return true;
}

static void assert_lent(const struct content *content)
{
	assert_true(playbacks_memory(playbacks) <= MEMORY_MAX);
	for (unsigned i = 0; i < lent_count; i++)
		assert_memory_equal(lent[i].data.data, content->data + lent[i].at, lent[i].data.size);
}

static void drop_chunk(void)
{
	playback_drop_chunk(lent[0].chunk);
	lent_count--;
	memmove(lent, lent + 1, lent_count * sizeof(*lent));
}

/* All that is taken and not dropped is in the bound; each that is dropped lets more come. */
static void chunks_are_lent_within_the_bound(void **state)
{
	struct content content = content_make(6, 9000000, CONTENT_RANDOM);
	struct content_name name = content_store(&fixture, &cas, &fixture.a, &content);
	struct play play;
	unsigned full = 0;

	start(&play, &name, &content, 777);
	run_ready(&play);
	while (play.ready == STORE_OK && !playback_ended(&play.playback)) {
		while (take_chunk(&play))
			assert_lent(&content);
		for (unsigned i = 0; i < 30; i++)
			ring_run(fixture.ring, 1000000);
		if (playback_ended(&play.playback) || take_chunk(&play))
			continue;
		assert_true(lent_count > 0);
		assert_lent(&content);
		drop_chunk();
		full++;
	}
	assert_int_equal(play.failed, NOT_TOLD);
	assert_true(full > 10);
	assert_lent(&content);
	while (lent_count)
		drop_chunk();
	assert_int_equal(playbacks_memory(playbacks), 0);
	playback_drop_chunk(NULL);
	playback_stop(&play.playback);
	content_free(&content);
}

/* What is lent stays when a later chunk turns out damaged, when the playback is stopped, and when the set is destroyed. */
static void lent_chunks_outlive_their_playback(void **state)
{
	struct content content = content_make(4, 2000000, CONTENT_RANDOM);
	struct content_name name = content_store(&fixture, &cas, &fixture.a, &content);
	struct blob part = { .data = content.data + 1000000, .digest.size = 64 };
	struct play play;

	reopen();
	assert_int_equal(damage_blob(&fixture, &part), 1);
	open_again();
	start(&play, &name, &content, 0);
	run_ready(&play);
	while (play.failed == NOT_TOLD)
		if (!take_chunk(&play))
			turn();
	assert_int_equal(play.failed, STORE_CORRUPT);
	assert_true(lent_count > 2);
	assert_lent(&content);
	playback_stop(&play.playback);
	assert_lent(&content);
	playbacks_destroy(playbacks);
	for (unsigned i = 0; i < 10; i++)
		ring_run(fixture.ring, 1000000);
	for (unsigned i = 0; i < lent_count; i++)
		assert_memory_equal(lent[i].data.data, content.data + lent[i].at, lent[i].data.size);
	while (lent_count) {
		assert_false(cas_idle(&cas));
		drop_chunk();
	}
	assert_true(cas_idle(&cas));
	create();
	content_free(&content);
}

/* ---- ends ---- */

static struct content some_contents[4];
static struct content_name some_names[5];

static void some_make(void)
{
	for (unsigned i = 0; i < 4; i++) {
		some_contents[i] = content_make(i, (size_t)i * 150000 + 5, CONTENT_RANDOM);
		some_names[i] = content_store(&fixture, &cas, &fixture.a, &some_contents[i]);
	}
	some_names[4] = some_names[3];
	some_names[4].digest.hash[0] ^= 1;
}

static void some_free(void)
{
	for (unsigned i = 0; i < 4; i++)
		content_free(&some_contents[i]);
}

/* After so many steps everything is stopped, or the set destroyed. */
static void leave_after(unsigned steps, bool destroy)
{
	static struct play plays[PLAYS];
	uint64_t random = steps;

	for (unsigned i = 0; i < PLAYS; i++)
		start(&plays[i], &some_names[i % 5], &some_contents[i % 5 % 4], 0);
	for (unsigned i = 0; i < steps; i++) {
		if (content_random(&random) % 4 == 0)
			ring_run(fixture.ring, 0);
		else
			take(&plays[content_random(&random) % PLAYS], 1 + content_random(&random) % 200000);
	}
	if (destroy) {
		playbacks_destroy(playbacks);
		create();
	} else {
		for (unsigned i = 0; i < PLAYS; i++)
			playback_stop(&plays[(i * 7) % PLAYS].playback);
	}
	for (unsigned i = 0; i < PLAYS; i++) {
		playback_stop(&plays[i].playback);
		memset(&plays[i].playback, 0xa5, sizeof(plays[i].playback));
	}
	for (unsigned i = 0; i < 3; i++)
		ring_run(fixture.ring, 100000);
}

static void playbacks_end_in_every_state(void **state)
{
	some_make();
	for (unsigned steps = 0; steps < 200; steps += 3) {
		leave_after(steps, false);
		leave_after(steps + 1, true);
	}
	some_free();
}

static struct play hook_plays[12];
static unsigned hook_countdown, hook_events;
static bool hook_destroys;

static void leave_in_event(struct play *play)
{
	hook_events++;
	if (hook_countdown-- > 0)
		return;
	event_hook = NULL;
	if (hook_destroys) {
		playbacks_destroy(playbacks);
		playbacks = NULL;
		return;
	}
	for (unsigned i = 0; i < 12; i++)
		playback_stop(&hook_plays[i].playback);
	start(&hook_plays[0], &some_names[2], &some_contents[2], 7);
}

static void events_may_end_what_they_are_of(void **state)
{
	some_make();
	for (unsigned i = 0; i < 30; i++) {
		hook_countdown = i / 3;          /* there are twelve events at least */
		hook_destroys = i % 2;
		event_hook = leave_in_event;
		for (unsigned j = 0; j < 12; j++)
			start(&hook_plays[j], &some_names[j % 5], &some_contents[j % 5 % 4], 0);
		for (unsigned turns = 0; event_hook && turns < 10000; turns++) {
			turn();
			for (unsigned j = 0; event_hook && j < 12; j++)
				take(&hook_plays[j], 40000);
		}
		assert_null(event_hook);
		if (!playbacks) {
			create();
			continue;
		}
		run_through(&hook_plays[0]);
		assert_true(playback_ended(&hook_plays[0].playback));
	}
	some_free();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(contents_are_played_from_any_offset, setup, teardown),
		cmocka_unit_test_setup_teardown(contents_taken_one_after_the_other_go_on, setup, teardown),
		cmocka_unit_test_setup_teardown(a_small_file_costs_one_read, setup, teardown),
		cmocka_unit_test_setup_teardown(recipes_of_parts_are_played, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_there_is_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_recipe_without_a_chunk_is_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_is_told_where_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_recipe_or_file_is_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_ready_stays_under_eviction, setup_small, teardown),
		cmocka_unit_test_setup_teardown(many_are_looked_up_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(chunks_are_lent_within_the_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(lent_chunks_outlive_their_playback, setup, teardown),
		cmocka_unit_test_setup_teardown(playbacks_end_in_every_state, setup, teardown),
		cmocka_unit_test_setup_teardown(events_may_end_what_they_are_of, setup, teardown),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	sha256_init(&hasher, SHA256_AUTO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
