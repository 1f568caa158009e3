/*
 * Shows that what a scan gives is fed once and read back as it was; that its memory is bounded, a scan waits for room only as long
 * as it may, and gets some when contents are read or settled; that nothing more is asked of a gateway that has most of the
 * first block; and that all else comes from the manifest when there is one.
 */
#include "gateway/context/ahead.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "chunker/profile.h"
#include "tests/unit/context/place.h"

#define FED_MAX       20000
#define CONTENT_BYTES 1000

struct fixture {
	struct place *place;
	struct ring *ring;
	struct ahead *ahead;
	struct digester_taker taker;
	struct digest fed[FED_MAX];
	size_t fed_count, feeds;
	int result;                      /* of the last read */
};

static void on_feed(void *owner, const struct digest *digests, size_t count)
{
	struct fixture *fixture = owner;

	assert_true(fixture->fed_count + count <= FED_MAX);
	memcpy(fixture->fed + fixture->fed_count, digests, count * sizeof(digests[0]));
	fixture->fed_count += count;
	fixture->feeds++;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	void *place;

	assert_int_equal(place_setup(&place), 0);
	fixture->place = place;
	assert_int_equal(ring_create(&fixture->ring, &(struct ring_config){ 0 }), 0);
	assert_int_equal(ahead_create(&fixture->ahead, fixture->ring, on_feed, fixture), 0);
	fixture->taker = ahead_taker(fixture->ahead);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	void *place = fixture->place;

	while (!ahead_is_idle(fixture->ahead))
		ring_run(fixture->ring, 0);
	ahead_destroy(fixture->ahead);
	ring_destroy(fixture->ring);
	free(fixture);
	return place_teardown(&place);
}

static void turn(struct fixture *fixture)
{
	while (!ahead_is_idle(fixture->ahead))
		ring_run(fixture->ring, 0);
}

/* As a digester does: room first, then what was in its own memory. Contents are numbered. False: not wanted. */
static bool give(struct fixture *fixture, unsigned first, unsigned count)
{
	struct sha256_job contents[8];
	uint8_t *bytes, *room = fixture->taker.room(fixture->taker.context);

	assert_true(count <= 8);
	if (!room)
		return false;
	free(room);                      /* the digester's from then on */
	bytes = malloc(DIGESTER_BATCH_BYTES);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *content = bytes + (size_t)i * CONTENT_BYTES;

		memset(content, 0, CONTENT_BYTES);
		memcpy(content, &(unsigned){ first + i }, sizeof(first));
		contents[i] = (struct sha256_job){ .data = content, .size = CONTENT_BYTES };
		sha256_once(content, CONTENT_BYTES, contents[i].digest);
	}
	fixture->taker.give(fixture->taker.context, bytes, contents, count);
	return true;
}

static void on_read(struct uploader_read *read, int result)
{
	*(int *)read->private = result;
}

/* Reads what was fed, from `first` on, in one go, and looks at its bytes. */
static int read_fed(struct fixture *fixture, size_t first, size_t count)
{
	struct uploader_piece *pieces = calloc(count, sizeof(*pieces));
	struct uploader_read read = { .pieces = pieces, .count = count, .done = on_read, .private = &fixture->result };
	struct uploader_source *source = ahead_source(fixture->ahead);

	fixture->result = INT32_MIN;
	for (size_t i = 0; i < count; i++)
		pieces[i] = (struct uploader_piece){
			.digest = fixture->fed[first + i], .buffer = malloc(fixture->fed[first + i].size),
		};
	source->ops->read(source, &read);
	while (fixture->result == INT32_MIN)
		ring_run(fixture->ring, UINT64_MAX);
	for (size_t i = 0; i < count; i++) {
		uint8_t hash[SHA256_BYTES];

		if (fixture->result == UPLOADER_READ_OK) {
			sha256_once(pieces[i].buffer, pieces[i].digest.size, hash);
			assert_memory_equal(hash, pieces[i].digest.hash, sizeof(hash));
			assert_false(pieces[i].stale);
		}
		free(pieces[i].buffer);
	}
	free(pieces);
	return fixture->result;
}

static bool has_fed(struct fixture *fixture, size_t place)
{
	struct uploader_source *source = ahead_source(fixture->ahead);

	return source->ops->has(source, &fixture->fed[place]);
}

static void answer(struct fixture *fixture, uint64_t lacking)
{
	ahead_answered(fixture->ahead, fixture->fed_count, lacking);
}

static void test_the_first_block_is_asked_about_alone(void **state)
{
	struct fixture *fixture = *state;

	assert_true(give(fixture, 0, 8));
	assert_true(give(fixture, 8, 8));
	turn(fixture);
	assert_int_equal(fixture->fed_count, 8);
	answer(fixture, 4);              /* half of it is lacking */
	assert_int_equal(fixture->fed_count, 16);
	assert_true(give(fixture, 16, 3));
	turn(fixture);
	assert_int_equal(fixture->fed_count, 19);
	assert_int_equal(read_fed(fixture, 0, 19), UPLOADER_READ_OK);
}

static void test_a_gateway_that_has_most_is_asked_no_more(void **state)
{
	struct fixture *fixture = *state;

	assert_true(give(fixture, 0, 8));
	assert_true(give(fixture, 8, 8));
	turn(fixture);
	answer(fixture, 3);
	assert_int_equal(fixture->fed_count, 8);
	assert_false(give(fixture, 16, 1));
	assert_int_equal(read_fed(fixture, 5, 3), UPLOADER_READ_OK);     /* what it lacks is still there */
}

static void test_a_content_is_fed_once(void **state)
{
	struct fixture *fixture = *state;

	assert_true(give(fixture, 0, 8));
	turn(fixture);
	answer(fixture, 8);
	assert_true(give(fixture, 4, 8));
	assert_true(give(fixture, 0, 8));        /* nothing new at all */
	turn(fixture);
	assert_int_equal(fixture->fed_count, 12);
	assert_int_equal(fixture->feeds, 2);
	assert_int_equal(read_fed(fixture, 0, 12), UPLOADER_READ_OK);
	assert_true(give(fixture, 0, 8));        /* nor is it when it has been read */
	turn(fixture);
	assert_int_equal(fixture->fed_count, 12);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void fill(struct fixture *fixture)
{
	assert_true(give(fixture, 0, 1));
	turn(fixture);
	answer(fixture, 1);
	for (unsigned i = 1; i < AHEAD_BLOCKS_MAX; i++)
		assert_true(give(fixture, i, 1));
	turn(fixture);
}

static void test_memory_is_bounded_and_patience_too(void **state)
{
	struct fixture *fixture = *state;
	uint64_t began;

	fill(fixture);
	began = now_ns();
	assert_false(give(fixture, 100, 1));
	assert_true(now_ns() - began >= AHEAD_PATIENCE_NS);
	assert_int_equal(read_fed(fixture, 0, AHEAD_BLOCKS_MAX), UPLOADER_READ_OK);
	assert_false(give(fixture, 100, 1));     /* once is enough */
}

static void test_reading_makes_room(void **state)
{
	struct fixture *fixture = *state;

	fill(fixture);
	for (unsigned i = 0; i < 3 * AHEAD_BLOCKS_MAX; i++) {
		assert_int_equal(read_fed(fixture, i, 1), UPLOADER_READ_OK);
		assert_true(give(fixture, AHEAD_BLOCKS_MAX + i, 1));
		turn(fixture);
	}
}

static void test_what_is_settled_makes_room(void **state)
{
	struct fixture *fixture = *state;

	fill(fixture);
	ahead_settled(fixture->ahead, fixture->fed + 3, 2);
	ahead_settled(fixture->ahead, fixture->fed + 3, 2);      /* told twice */
	assert_true(give(fixture, 100, 1));
	assert_true(give(fixture, 101, 1));
}

static void *give_one(void *argument)
{
	return give(argument, 1000, 1) ? argument : NULL;
}

static void test_a_thread_that_waits_is_woken(void **state)
{
	struct fixture *fixture = *state;
	pthread_t thread;
	void *given;

	fill(fixture);
	assert_int_equal(pthread_create(&thread, NULL, give_one, fixture), 0);
	/* Whether it waits already makes no difference to what is seen. */
	assert_int_equal(read_fed(fixture, 0, 1), UPLOADER_READ_OK);
	assert_int_equal(pthread_join(thread, &given), 0);
	assert_non_null(given);
}

static void test_a_thread_that_waits_is_let_go(void **state)
{
	struct fixture *fixture = *state;
	pthread_t thread;
	void *given;

	fill(fixture);
	assert_int_equal(pthread_create(&thread, NULL, give_one, fixture), 0);
	ahead_stop(fixture->ahead);
	assert_int_equal(pthread_join(thread, &given), 0);
	assert_null(given);
}

static void test_what_is_not_there_is_stale(void **state)
{
	struct fixture *fixture = *state;

	assert_true(give(fixture, 0, 2));
	turn(fixture);
	assert_int_equal(read_fed(fixture, 0, 1), UPLOADER_READ_OK);
	assert_int_equal(read_fed(fixture, 0, 2), UPLOADER_READ_STALE);
}

/* ---- with a directory ---- */

/* All of it fits in the blocks. */
#define SMALL_FILES 1000
#define LARGE_BYTES (5u << 20)

static void make_tree(struct fixture *fixture)
{
	uint8_t *large = noise(LARGE_BYTES, 7);
	char name[16], text[8000];

	place_write(fixture->place, "large", large, LARGE_BYTES);
	place_write(fixture->place, "same", large, LARGE_BYTES);
	free(large);
	memset(text, 'x', sizeof(text));
	for (unsigned i = 0; i < SMALL_FILES; i++) {
		snprintf(name, sizeof(name), "%u", i);
		memcpy(text, name, sizeof(name));
		place_write(fixture->place, name, text, i % 2 ? sizeof(text) : 100);
	}
}

static struct manifest *scan(struct fixture *fixture)
{
	struct manifest_options options = place_options(fixture->place);

	options.taker = fixture->taker;
	return place_build_with(fixture->place, &options);
}

static void test_a_scan_is_fed_whole(void **state)
{
	struct fixture *fixture = *state;
	struct manifest_source source;
	struct manifest *manifest;
	size_t before;

	make_tree(fixture);
	assert_true(give(fixture, 0, 1));
	turn(fixture);
	answer(fixture, 1);
	manifest = scan(fixture);
	turn(fixture);
	/* Each small file, and the chunks of one large one; all are of the tree. */
	assert_in_range(fixture->fed_count, 1 + SMALL_FILES + LARGE_BYTES / PROFILE_CHUNK_MAX, 1 + SMALL_FILES + LARGE_BYTES / 4096);
	for (size_t i = 1; i < fixture->fed_count; i++) {
		enum lookup_kind kind;
		uint32_t row;

		assert_int_equal(manifest_find(manifest, &fixture->fed[i], &row, &kind), 0);
	}
	before = fixture->fed_count;
	assert_int_equal(read_fed(fixture, 1, 500), UPLOADER_READ_OK);
	manifest_source_init(&source, fixture->ring, manifest, span_text("gateway"), false);
	ahead_scanned(fixture->ahead, &source);
	assert_int_equal(fixture->fed_count, before);
	/* From the disk again, from memory, and some of either. */
	assert_int_equal(read_fed(fixture, 1, 10), UPLOADER_READ_OK);
	assert_int_equal(read_fed(fixture, 600, 10), UPLOADER_READ_OK);
	assert_int_equal(read_fed(fixture, 495, 30), UPLOADER_READ_OK);
	/* What is no file's is there as long as it was not read. */
	assert_true(has_fed(fixture, 0) && has_fed(fixture, 1));
	assert_int_equal(read_fed(fixture, 0, 2), UPLOADER_READ_OK);
	assert_true(!has_fed(fixture, 0) && has_fed(fixture, 1));
	manifest_source_fini(&source);
	manifest_destroy(manifest);
}

static void test_a_scan_that_ends_before_the_answer(void **state)
{
	struct fixture *fixture = *state;
	struct manifest_source source;
	struct manifest *manifest;
	struct uploader_children children;
	size_t before;

	make_tree(fixture);
	manifest = scan(fixture);
	turn(fixture);
	before = fixture->fed_count;
	assert_int_equal(fixture->feeds, 1);
	manifest_source_init(&source, fixture->ring, manifest, span_text("gateway"), false);
	ahead_scanned(fixture->ahead, &source);
	answer(fixture, before);
	assert_int_equal(fixture->fed_count, before);
	assert_int_equal(ahead_source(fixture->ahead)->ops->children(ahead_source(fixture->ahead), manifest_root(manifest), &children), 0);
	assert_int_equal(children.contents_count, SMALL_FILES + 2);
	manifest_source_fini(&source);
	manifest_destroy(manifest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_first_block_is_asked_about_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_gateway_that_has_most_is_asked_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_content_is_fed_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_is_bounded_and_patience_too, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reading_makes_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_settled_makes_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_thread_that_waits_is_woken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_thread_that_waits_is_let_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_not_there_is_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_scan_is_fed_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_scan_that_ends_before_the_answer, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
