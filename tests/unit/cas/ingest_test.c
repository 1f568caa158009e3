/*
 * Shows that files which come in pieces, interleaved, are stored whole and named as the client's own digester names the
 * same bytes, whatever the splits and size hints; that small ones share batches; that a writer who is faster than the
 * store is refused and told when to go on, within the bound of memory; that too many open files cost one of them and
 * nobody else; that a full store fails the file, or is waited for, and no event is lost; that files are abandoned, and the ingest destroyed,
 * in every state and from inside events. Run with each index engine and both ring engines.
 */
#include "tests/unit/cas/contents.h"

#include <stdlib.h>

#include "gateway/cas/ingest.h"
#include "gateway/cas/recipe_maker.h"
#include "gateway/context/file_recipe.h"
#include "gateway/store/holds.h"

/* Blocks and lists; recipes of what these tests write are small beside that. */
#define MEMORY_MAX ((INGEST_BLOCKS_MAX * INGEST_BLOCK_BYTES) + (1u << 20))

static struct fixture fixture;
static struct sha256 hasher;
static struct cas cas;
static unsigned named, rooms;

struct writing {
	struct ingest_file file;
	struct content content;
	size_t at;
	bool ended, named;
	int result;
};

static void (*named_hook)(struct writing *writing);

static void on_named(struct ingest_file *file)
{
	struct writing *writing = container_of(file, struct writing, file);

	assert_true(writing->ended);
	assert_false(writing->named);
	writing->named = true;
	writing->result = file->result;
	named++;
	if (named_hook)
		named_hook(writing);
}

static void on_room(struct ingest *ingest)
{
	rooms++;
}

static struct store_hold *filling;       /* goes when the store has been full so often */
static unsigned fulls, fulls_most;

static void on_full(struct ingest *ingest)
{
	if (++fulls != fulls_most)
		return;
	ingest_set_hold(ingest, NULL);
	store_hold_release(filling);
	filling = NULL;
}

static unsigned told;

static void on_put(struct ingest *ingest, const struct store_item *items, struct ingest_file *const *files, size_t count,
                   size_t recipes_first)
{
	told++;
}

static const struct ingest_events events = { .on_named = on_named, .on_room = on_room, .on_put = on_put, .on_full = on_full };

static int setup_store(uint64_t ceiling_bytes)
{
	fixture_init(&fixture);
	fixture.config.ceiling_bytes = ceiling_bytes;
	fixture_open(&fixture);
	content_cas(&fixture, &cas, &hasher);
	named = rooms = fulls = told = 0;
	named_hook = NULL;
	return 0;
}

/* Nothing is evicted here. */
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
	while (!cas_idle(&cas))
		ring_run(fixture.ring, 1000000);
	fixture_fini(&fixture);
	return 0;
}

static struct ingest *ingest_new(void)
{
	struct ingest *ingest = ingest_create(&cas, &fixture.a, &events, &cas);

	assert_non_null(ingest);
	assert_ptr_equal(ingest_owner(ingest), &cas);
	return ingest;
}

static void turn(void)
{
	ring_run(fixture.ring, 100000000);
}

/* Runs until so many were named in all. */
static void run_named(unsigned count)
{
	for (unsigned i = 0; named < count; i++) {
		turn();
		assert_true(i < 20000);
	}
	assert_int_equal(named, count);
}

/* Offers up to `size` of what is left; the end as well. */
static void write_some(struct ingest *ingest, struct writing *writing, size_t size)
{
	size_t left = writing->content.size - writing->at;

	if (writing->ended)
		return;
	if (size > left)
		size = left;
	writing->at += ingest_file_write(&writing->file, span_make(writing->content.data + writing->at, size));
	assert_true(ingest_memory(ingest) <= MEMORY_MAX);
	if (writing->at == writing->content.size) {
		writing->ended = true;
		ingest_file_end(&writing->file);
	}
}

static void begin(struct ingest *ingest, struct writing *writing, struct content content, uint64_t size_hint)
{
	*writing = (struct writing){ .content = content };
	ingest_file_begin(ingest, &writing->file, size_hint);
}

/* ---- names ---- */

static const size_t sizes[] = {
	0, 1, 2, 261, 262, 4096, 16384, 65535, 65536, 65537, 65538, 70000, 131072, 262143, 262144, 262145, 262146, 300000,
	524288, 524289, 1048575, 1048576, 1048577, 2000000, 3145729,
};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define OPEN  4                          /* as many as a real client sends at a time */

static size_t random_piece(uint64_t *state)
{
	static const size_t most[] = { 3, 300, 32768, 100000, 1000000 };

	return 1 + content_random(state) % most[content_random(state) % 5];
}

static uint64_t random_hint(uint64_t *state, size_t size)
{
	switch (content_random(state) % 6) {
	case 0: return 0;
	case 1: return size / 2;
	case 2: return 2 * size;
	default: return size;
	}
}

static void check_named(struct writing *writing)
{
	struct content_name name = content_client_name(&writing->content);

	assert_int_equal(writing->result, STORE_OK);
	assert_true(content_name_equal(&writing->file.name, &name));
	content_assert_stored(&fixture, &fixture.a, &name, &writing->content);
	content_free(&writing->content);
}

static void names_are_the_clients(void **state)
{
	static struct writing writings[SIZES * CONTENT_KINDS];
	struct ingest *ingest = ingest_new();
	unsigned begun = 0, total = SIZES * CONTENT_KINDS, open = 0;
	uint64_t random = 42;

	while (begun < total || open) {
		open = 0;
		for (unsigned i = 0; i < begun; i++) {
			if (writings[i].ended)
				continue;
			open++;
			write_some(ingest, &writings[i], random_piece(&random));
		}
		for (; begun < total && open < OPEN; open++, begun++) {
			struct content content = content_make(begun, sizes[begun % SIZES], begun / SIZES);

			begin(ingest, &writings[begun], content, random_hint(&random, content.size));
		}
		if (content_random(&random) % 4 == 0 || rooms == 0)
			ring_run(fixture.ring, 0);
	}
	run_named(total);
	assert_true(ingest_totals(ingest)->crowded == 0);
	for (unsigned i = 0; i < total; i++)
		check_named(&writings[i]);
	ingest_destroy(ingest);
}

/* The recipe of `count` made-up chunks, as the client makes it. */
static struct digest client_recipe(uint32_t count, uint64_t file_size)
{
	struct buffer blob = buffer_heap(2 * RECIPE_BYTES_MAX);
	struct table table = table_make(NULL);
	struct table_recipe recipe = { .count = count, .profile = 2, .file_size = file_size };
	struct digest digest;

	for (uint32_t i = 0; i < count; i++) {
		struct table_chunk chunk = { .offset = (uint64_t)i * 70000 };

		sha256_once((const uint8_t *)&i, sizeof(i), chunk.hash);
		assert_int_equal(table_add_chunk(&table, &chunk), 0);
	}
	assert_int_equal(file_recipe_put(&table, &recipe, &blob), 0);
	sha256_once(blob.data, blob.size, digest.hash);
	digest.size = blob.size;
	buffer_fini(&blob);
	table_fini(&table);
	return digest;
}

/* As client_recipe(), one chunk after the other; counts the parts. */
static struct digest made_recipe(uint32_t count, uint64_t file_size, unsigned *parts)
{
	struct recipe_maker maker;
	struct digest digest;
	struct buffer blob;
	int r;

	*parts = 0;
	recipe_maker_init(&maker, 2);
	for (uint32_t i = 0; i < count; i++) {
		struct digest chunk = { .size = i + 1 < count ? 70000 : file_size - (uint64_t)i * 70000 };

		sha256_once((const uint8_t *)&i, sizeof(i), chunk.hash);
		r = recipe_maker_add(&maker, &chunk, &blob, &digest);
		assert_in_range(r, RECIPE_MAKER_NONE, RECIPE_MAKER_PART);
		if (r == RECIPE_MAKER_PART) {
			++*parts;
			buffer_fini(&blob);
		}
	}
	while ((r = recipe_maker_finish(&maker, &blob, &digest)) == RECIPE_MAKER_PART) {
		++*parts;
		buffer_fini(&blob);
	}
	assert_int_equal(r, RECIPE_MAKER_DONE);
	buffer_fini(&blob);
	recipe_maker_fini(&maker);
	return digest;
}

static void long_recipes_are_split_as_the_clients(void **state)
{
	static const uint32_t counts[] = {
		1, 2, 16383, 16384, 16385, 29957, 29958, 29959, 29960, 29961, 32767, 32768, 32769, 49152, 49153, 100000,
	};
	unsigned seen_whole = 0, seen_split = 0;

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint64_t file_size = (uint64_t)counts[i] * 70000 - 5;
		struct digest client = client_recipe(counts[i], file_size);
		unsigned parts;
		struct digest made = made_recipe(counts[i], file_size, &parts);

		assert_true(digest_equal(&client, &made));
		seen_whole += parts == 0;
		seen_split += parts == (counts[i] + RECIPE_PART_ENTRIES - 1) / RECIPE_PART_ENTRIES;
	}
	assert_true(seen_whole >= 6 && seen_split >= 6);
}

/* ---- batches ---- */

#define SMALL_FILES 3000

static void small_files_share_batches(void **state)
{
	static struct writing writings[SMALL_FILES];
	struct ingest *ingest = ingest_new();
	uint64_t random = 7;

	for (unsigned i = 0; i < SMALL_FILES; i++) {
		struct content content = content_make(i % 2000, content_random(&random) % 6000, CONTENT_RANDOM);

		begin(ingest, &writings[i], content, content.size);
		while (!writings[i].ended) {
			write_some(ingest, &writings[i], content.size);
			if (!writings[i].ended)
				turn();
		}
	}
	run_named(SMALL_FILES);
	/* 200 KiB a batch at least, but for those that a turn of the loop ended. */
	assert_true(ingest_totals(ingest)->batches < SMALL_FILES / 20);
	for (unsigned i = 0; i < SMALL_FILES; i++) {
		struct blob blob = { .data = writings[i].content.data, .digest.size = writings[i].content.size };

		sha256_once(blob.data, (size_t)blob.digest.size, blob.digest.hash);
		assert_true(digest_equal(&blob.digest, &writings[i].file.name.digest));
		if (i % 10 == 0)
			assert_int_equal(read_blob(&fixture, &fixture.a, &blob), STORE_OK);
		assert_int_equal(lookup_blob(&fixture, &fixture.b, &blob.digest) != 0, blob.digest.size == 0);
		content_free(&writings[i].content);
	}
	ingest_destroy(ingest);
}

static void a_lone_file_is_named_without_a_flush(void **state)
{
	struct ingest *ingest = ingest_new();
	struct writing writing;

	begin(ingest, &writing, content_make(1, 1000, CONTENT_RANDOM), 1000);
	write_some(ingest, &writing, 1000);
	run_named(1);
	check_named(&writing);
	/* What is not used went back. */
	turn();
	assert_true(ingest_memory(ingest) < 2 * INGEST_BLOCK_BYTES);
	ingest_destroy(ingest);
}

static void a_fast_writer_is_refused_and_told(void **state)
{
	struct ingest *ingest = ingest_new();
	struct writing writing;
	unsigned refused = 0;

	begin(ingest, &writing, content_make(2, 40 << 20, CONTENT_RANDOM), 40 << 20);
	while (!writing.ended) {
		size_t before = writing.at;
		unsigned rooms_before = rooms;

		write_some(ingest, &writing, writing.content.size);
		if (writing.ended)
			break;
		refused++;
		assert_true(writing.at > before || refused == 1);
		while (rooms == rooms_before)
			turn();
	}
	run_named(1);
	assert_true(refused > 5);
	check_named(&writing);
	ingest_destroy(ingest);
}

/* ---- trouble ---- */

#define CROWD 40

static void a_crowd_costs_some_and_the_others_nothing(void **state)
{
	static struct writing writings[CROWD];
	struct ingest *ingest = ingest_new();
	unsigned good = 0, crowded = 0, open = CROWD, tries = 0;

	for (unsigned i = 0; i < CROWD; i++)
		begin(ingest, &writings[i], content_make(i, 500000, CONTENT_RANDOM), 500000);
	while (open) {
		open = 0;
		for (unsigned i = 0; i < CROWD; i++) {
			write_some(ingest, &writings[i], 10000);
			open += !writings[i].ended;
		}
		ring_run(fixture.ring, 1000000);
		assert_true(++tries < 100000);
	}
	run_named(CROWD);
	for (unsigned i = 0; i < CROWD; i++) {
		if (writings[i].result == STORE_OK) {
			check_named(&writings[i]);
			good++;
		} else {
			assert_int_equal(writings[i].result, INGEST_CROWDED);
			content_free(&writings[i].content);
			crowded++;
		}
	}
	assert_true(good >= INGEST_BLOCKS_MAX - 2);
	assert_int_equal(crowded, CROWD - good);
	assert_int_equal(ingest_totals(ingest)->crowded, crowded);
	ingest_destroy(ingest);
}

#define FILL_FILES 60

static void a_full_store_fails_the_files_that_do_not_fit(void **state)
{
	struct ingest *ingest = ingest_new();
	struct store_hold *hold = store_hold_create(fixture.store, &fixture.a);
	unsigned good = 0, full = 0;
	struct writing writing;

	ingest_set_hold(ingest, hold);
	for (unsigned i = 0; i < FILL_FILES; i++) {
		begin(ingest, &writing, content_make(i, 2 << 20, CONTENT_RANDOM), 2 << 20);
		while (!writing.ended) {
			write_some(ingest, &writing, 300000);
			turn();
		}
		run_named(i + 1);
		if (writing.result == STORE_OK) {
			good++;
			assert_int_equal(full, 0);
		} else {
			assert_int_equal(writing.result, STORE_FULL);
			full++;
		}
		content_free(&writing.content);
	}
	assert_true(good >= 10 && full >= 10);
	/* All that was held is still there, and goes when the hold ends. */
	for (unsigned i = 0; i < good; i++) {
		struct content content = content_make(i, 2 << 20, CONTENT_RANDOM);
		struct content_name name = content_client_name(&content);

		content_assert_stored(&fixture, &fixture.a, &name, &content);
		content_free(&content);
	}
	ingest_set_hold(ingest, NULL);
	store_hold_release(hold);
	begin(ingest, &writing, content_make(1000, 2 << 20, CONTENT_RANDOM), 0);
	while (!writing.ended) {
		write_some(ingest, &writing, 300000);
		turn();
	}
	run_named(FILL_FILES + 1);
	check_named(&writing);
	ingest_destroy(ingest);
}

/* The hold is another one in each turn, and the one before ends at once: at no time is a blob that is on its way not held. */
static void what_is_on_its_way_is_held_by_the_next_hold(void **state)
{
	struct ingest *ingest = ingest_new();
	struct store_hold *hold = store_hold_create(fixture.store, &fixture.a), *next;
	struct writing writing;
	uint8_t hash[32];

	ingest_set_hold(ingest, hold);
	begin(ingest, &writing, content_make(5000, 60000, CONTENT_RANDOM), 60000);
	sha256_once(writing.content.data, writing.content.size, hash);
	write_some(ingest, &writing, 60000);
	while (told == 0) {
		next = store_hold_create(fixture.store, &fixture.a);
		ingest_set_hold(ingest, next);
		store_hold_release(hold);
		hold = next;
		assert_true(ingest_totals(ingest)->batches == 0 || holds_blob(fixture.store, hash));
		turn();
	}
	run_named(1);
	ingest_set_hold(ingest, NULL);
	for (unsigned i = 0; i < FILL_FILES; i++) {
		struct writing other;

		begin(ingest, &other, content_make(i, 2 << 20, CONTENT_RANDOM), 2 << 20);
		while (!other.named) {
			write_some(ingest, &other, 300000);
			turn();
		}
		check_named(&other);
	}
	check_named(&writing);
	ingest_destroy(ingest);
	store_hold_release(hold);
}

/* Holds files until the store is full; then returns with one on its way. */
static void fill_and_begin(struct ingest *ingest, struct writing *writing)
{
	filling = store_hold_create(fixture.store, &fixture.a);
	ingest_set_hold(ingest, filling);
	for (unsigned i = 0; fulls == 0; i++) {
		begin(ingest, writing, content_make(i, 2 << 20, CONTENT_RANDOM), 2 << 20);
		while (!writing->named && fulls == 0) {
			write_some(ingest, writing, 300000);
			turn();
		}
		if (writing->named)
			content_free(&writing->content);
		assert_true(i < FILL_FILES);
	}
}

static void a_full_store_is_waited_for(void **state)
{
	struct ingest *ingest = ingest_new();
	struct writing writing;

	ingest_set_patience(ingest, UINT64_MAX);
	fulls_most = 3;
	fill_and_begin(ingest, &writing);
	while (!writing.named) {
		write_some(ingest, &writing, 300000);
		turn();
	}
	assert_null(filling);
	check_named(&writing);
	ingest_destroy(ingest);
}

static void patience_ends(void **state)
{
	struct ingest *ingest = ingest_new();
	struct writing writing;

	ingest_set_patience(ingest, 2 * INGEST_FULL_NS);
	fulls_most = 0;
	fill_and_begin(ingest, &writing);
	while (!writing.named) {
		write_some(ingest, &writing, 300000);
		turn();
	}
	assert_int_equal(writing.result, STORE_FULL);
	content_free(&writing.content);
	/* And while it waits it may be destroyed. */
	fulls = 0;
	ingest_set_patience(ingest, UINT64_MAX);
	begin(ingest, &writing, content_make(77, 1 << 20, CONTENT_RANDOM), 1 << 20);
	while (fulls == 0) {
		write_some(ingest, &writing, 300000);
		turn();
	}
	ingest_destroy(ingest);
	content_free(&writing.content);
	store_hold_release(filling);
}

/* Writes `steps` pieces of files of all sizes, with turns between, then ends it all somehow, and with it what it is held by. */
static void leave_after(unsigned steps, bool destroy)
{
	static struct writing writings[OPEN * 3];
	struct store_hold *hold = store_hold_create(fixture.store, &fixture.a), *last = store_hold_create(fixture.store, &fixture.a);
	struct ingest *ingest = ingest_new();
	uint64_t random = steps;

	ingest_set_hold(ingest, hold);
	for (unsigned i = 0; i < OPEN * 3; i++) {
		size_t size = sizes[content_random(&random) % SIZES];

		begin(ingest, &writings[i], content_make(i, size, CONTENT_RANDOM), size);
	}
	for (unsigned i = 0; i < steps; i++) {
		write_some(ingest, &writings[content_random(&random) % (OPEN * 3)], random_piece(&random));
		if (content_random(&random) % 8 == 0)
			ring_run(fixture.ring, 0);
	}
	for (unsigned i = 0; !destroy && i < OPEN * 3; i++) {
		ingest_file_abandon(&writings[i].file);
		ingest_file_abandon(&writings[i].file);
	}
	ingest_set_hold(ingest, last);
	store_hold_release(hold);
	if (destroy) {
		ingest_destroy(ingest);
		store_hold_release(last);
	}
	named_hook = NULL;
	for (unsigned i = 0, before = named; i < 5; i++) {
		ring_run(fixture.ring, INGEST_DELAY_NS);
		assert_int_equal(named, before);
	}
	for (unsigned i = 0; i < OPEN * 3; i++) {
		ingest_file_abandon(&writings[i].file);
		memset(&writings[i].file, 0xa5, sizeof(writings[i].file));
		content_free(&writings[i].content);
	}
	if (!destroy) {
		ingest_destroy(ingest);
		store_hold_release(last);
	}
}

static void files_are_abandoned_in_every_state(void **state)
{
	for (unsigned steps = 0; steps < 80; steps++)
		leave_after(steps, false);
}

static void an_ingest_is_destroyed_in_every_state(void **state)
{
	for (unsigned steps = 0; steps < 80; steps++)
		leave_after(steps, true);
}

static struct ingest *hooked;
static struct writing pair[2], third;

static void destroy_in_event(struct writing *writing)
{
	ingest_destroy(hooked);
	hooked = NULL;
}

static void begin_in_event(struct writing *writing)
{
	named_hook = NULL;
	ingest_file_abandon(&pair[writing == &pair[0]].file);
	begin(hooked, &third, content_make(9, 100000, CONTENT_RANDOM), 100000);
	while (!third.ended)
		write_some(hooked, &third, 100000);
}

static void write_pair(void)
{
	hooked = ingest_new();
	for (unsigned i = 0; i < 2; i++) {
		begin(hooked, &pair[i], content_make(i, 1000, CONTENT_RANDOM), 1000);
		write_some(hooked, &pair[i], 1000);
	}
	ingest_flush(hooked);
}

static void events_may_end_what_they_are_of(void **state)
{
	write_pair();
	named_hook = destroy_in_event;
	run_named(1);
	named_hook = begin_in_event;
	content_free(&pair[0].content);
	content_free(&pair[1].content);
	write_pair();
	run_named(3);
	check_named(&third);
	content_free(&pair[0].content);
	content_free(&pair[1].content);
	ingest_destroy(hooked);
	ingest_destroy(NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_are_the_clients, setup, teardown),
		cmocka_unit_test(long_recipes_are_split_as_the_clients),
		cmocka_unit_test_setup_teardown(small_files_share_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lone_file_is_named_without_a_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(a_fast_writer_is_refused_and_told, setup, teardown),
		cmocka_unit_test_setup_teardown(a_crowd_costs_some_and_the_others_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_store_fails_the_files_that_do_not_fit, setup_small, teardown),
		cmocka_unit_test_setup_teardown(what_is_on_its_way_is_held_by_the_next_hold, setup_small, teardown),
		cmocka_unit_test_setup_teardown(a_full_store_is_waited_for, setup_small, teardown),
		cmocka_unit_test_setup_teardown(patience_ends, setup_small, teardown),
		cmocka_unit_test_setup_teardown(files_are_abandoned_in_every_state, setup, teardown),
		cmocka_unit_test_setup_teardown(an_ingest_is_destroyed_in_every_state, setup, teardown),
		cmocka_unit_test_setup_teardown(events_may_end_what_they_are_of, setup, teardown),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	sha256_init(&hasher, SHA256_AUTO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
