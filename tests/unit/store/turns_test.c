/*
 * Shows that a store leaves the loop to others while it has much to do: a long look-up and a long put take many turns, and who asks
 * for one name meanwhile, or while a segment full of small blobs is evicted, has the answer within a few.
 */
#include "tests/unit/store/fixture.h"

#include <stdlib.h>
#include <string.h>

#define BLOB_BYTES 60
/* As many as the ceiling holds, and some: 8 MiB of them are a page of the eviction's scan after the other. */
#define BATCHES    30
#define SOON       4 /* turns */

struct asked {
	struct store_lookup lookup;
	bool done;
};

struct given {
	struct store_put put;
	bool done;
};

static uint8_t bytes[BLOB_BYTES];
static struct store_item items[STORE_BATCH_MAX];
static struct digest names[STORE_BATCH_MAX];
static uint32_t places[STORE_BATCH_MAX];

static void on_lookup(struct store_lookup *lookup)
{
	container_of(lookup, struct asked, lookup)->done = true;
}

static void on_put(struct store_put *put)
{
	container_of(put, struct given, put)->done = true;
}

/* A name that nothing has to bear out: the store believes whoever puts. */
static struct digest name_of(uint64_t number)
{
	struct digest digest = { .size = BLOB_BYTES };

	for (size_t i = 0; i < sizeof(digest.hash) / sizeof(number); i++) {
		number = (number + 1) * 6364136223846793005 + 1442695040888963407;
		memcpy(digest.hash + i * sizeof(number), &number, sizeof(number));
	}
	return digest;
}

static void put_begin(struct fixture *fixture, struct given *given, uint64_t batch)
{
	for (size_t i = 0; i < STORE_BATCH_MAX; i++)
		items[i] = (struct store_item){ .digest = name_of(batch * STORE_BATCH_MAX + i), .data = span_make(bytes, sizeof(bytes)) };
	*given = (struct given){ .put = { .scope = fixture->a, .items = items, .count = STORE_BATCH_MAX, .fn = on_put } };
	store_put(fixture->store, &given->put);
}

/* How many turns of the loop it takes. */
static unsigned look_up(struct fixture *fixture, size_t count)
{
	struct asked asked = {
		.lookup = { .scope = fixture->a, .digests = names, .count = count, .places = places, .fn = on_lookup },
	};
	unsigned turns = 0;

	for (store_lookup(fixture->store, &asked.lookup); !asked.done; turns++)
		ring_run(fixture->ring, 1000000);
	return turns;
}

static void a_long_look_up_takes_turns(void **state)
{
	struct fixture *fixture = *state;

	fixture_open(fixture);
	for (size_t i = 0; i < STORE_BATCH_MAX; i++)
		names[i] = name_of(i);
	assert_true(look_up(fixture, STORE_BATCH_MAX) >= 8);
	assert_true(look_up(fixture, 1) <= SOON);
}

static void one_name_does_not_wait_for_an_eviction(void **state)
{
	struct fixture *fixture = *state;
	struct store_status status;
	struct given given;

	fixture_open(fixture);
	names[0] = name_of(1);
	for (uint64_t batch = 0; batch < BATCHES; batch++) {
		for (put_begin(fixture, &given, batch); !given.done; ring_run(fixture->ring, 1000000))
			assert_true(look_up(fixture, 1) <= SOON);
		assert_int_equal(given.put.result, STORE_OK);
	}
	store_status(fixture->store, &status);
	assert_true(status.evicted_segments > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_long_look_up_takes_turns, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(one_name_does_not_wait_for_an_eviction, fixture_setup, fixture_teardown),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
