/*
 * Shows what becomes of pins: they are kept across restarts until they expire or are taken back, and leave no row then; a hash is
 * pinned once, whatever size it is named with; and no tenant has all that there may be.
 */
#include "tests/unit/store/fixture.h"

#include <errno.h>
#include <string.h>

static void count_pin(void *context, const struct store_pin *pin)
{
	assert_string_equal(pin->note, "test");
	(*(int *)context)++;
}

static int count_pins(struct fixture *fixture, const struct scope *scope)
{
	int count = 0;

	assert_int_equal(store_pins_list(fixture->store, scope, count_pin, &count), 0);
	return count;
}

static void test_pins_are_kept(void **state)
{
	struct fixture *fixture = *state;
	struct blob blobs[3];
	struct fsck_report report;

	fixture_open(fixture);
	for (size_t i = 0; i < 3; i++) {
		blobs[i] = blob_make(i, 10);
		assert_int_equal(pin_root(fixture, &fixture->a, &blobs[i].digest, i == 2 ? 1 : UINT64_MAX), 0);
	}
	assert_int_equal(pin_root(fixture, &fixture->a, &blobs[0].digest, UINT64_MAX - 1), 0);
	assert_int_equal(pin_root(fixture, &fixture->b, &blobs[0].digest, UINT64_MAX), 0);
	for (int reopened = 0; reopened < 2; reopened++) {
		assert_int_equal(count_pins(fixture, &fixture->a), 2);
		assert_int_equal(count_pins(fixture, &fixture->b), 1);
		fixture_close(fixture);
		fixture_open(fixture);
	}
	assert_int_equal(pin_root(fixture, &fixture->a, &blobs[0].digest, 0), 0);
	assert_int_equal(count_pins(fixture, &fixture->a), 1);
	fixture_close(fixture);
	/* The one that expired and the one taken back have left no rows. */
	assert_int_equal(fsck_store(fixture, false, &report), 0);
	assert_int_equal(report.pins, 2);
	for (size_t i = 0; i < 3; i++)
		blob_free(&blobs[i]);
}

static void take_pin(void *context, const struct store_pin *pin)
{
	*(struct digest *)context = pin->root;
}

/* The index has one row for a hash: what is taken back or said again with another size is that pin or none. */
static void test_a_hash_is_pinned_once(void **state)
{
	struct fixture *fixture = *state;
	struct blob blob = blob_make(1, 10);
	struct digest wrong = blob.digest, found;

	wrong.size++;
	fixture_open(fixture);
	assert_int_equal(pin_root(fixture, &fixture->a, &wrong, UINT64_MAX), 0);
	assert_int_equal(pin_root(fixture, &fixture->a, &blob.digest, UINT64_MAX), 0);
	assert_int_equal(pin_root(fixture, &fixture->a, &wrong, 0), STORE_MISSING);
	for (int reopened = 0; reopened < 2; reopened++) {
		assert_int_equal(count_pins(fixture, &fixture->a), 1);
		assert_int_equal(store_pins_list(fixture->store, &fixture->a, take_pin, &found), 0);
		assert_true(digest_equal(&found, &blob.digest));
		fixture_close(fixture);
		fixture_open(fixture);
	}
	assert_int_equal(pin_root(fixture, &fixture->a, &blob.digest, 0), 0);
	assert_int_equal(count_pins(fixture, &fixture->a), 0);
	blob_free(&blob);
}

#define PINS_MORE 300

static unsigned pins_done;

static void on_pin_done(struct store_pin *pin)
{
	assert_int_equal(pin->result, 0);
	pins_done++;
}

static void on_any_pin_done(struct store_pin *pin)
{
	pins_done++;
}

/* However many come and expire, no more rows of them are in the index than there may be pins; and a start leaves none. */
static void test_expired_pins_leave(void **state)
{
	static struct store_pin pins[STORE_PINS_MAX + PINS_MORE];
	struct fixture *fixture = *state;
	struct fsck_report report;
	bool done = false;

	fixture_open(fixture);
	pins_done = 0;
	for (size_t i = 0; i < STORE_PINS_MAX + PINS_MORE; i++) {
		pins[i] = (struct store_pin){ .scope = fixture->a, .root.size = 1 + i, .expires_wall_ns = 1, .fn = on_pin_done };
		memcpy(pins[i].root.hash, &i, sizeof(i));
		store_pin(fixture->store, &pins[i]);
	}
	for (int turns = 0; !done; turns++) {
		assert_true(turns < 20000);
		ring_run(fixture->ring, 1000000);
		done = pins_done == STORE_PINS_MAX + PINS_MORE;
	}
	fixture_close(fixture);
	assert_int_equal(fsck_store(fixture, false, &report), 0);
	assert_int_equal(report.pins, STORE_PINS_MAX);
	fixture_open(fixture);
	fixture_close(fixture);
	assert_int_equal(fsck_store(fixture, false, &report), 0);
	assert_int_equal(report.pins, 0);
}

static int pin_number(struct fixture *fixture, struct store_pin *pin, const struct scope *scope, size_t number, uint64_t expires)
{
	*pin = (struct store_pin){ .scope = *scope, .root.size = 1 + number, .expires_wall_ns = expires, .fn = on_any_pin_done };
	memcpy(pin->root.hash, &number, sizeof(number));
	store_pin(fixture->store, pin);
	return pin->result;
}

/* One tenant cannot have all: the others find room, until there is none; what is pinned can be pinned for longer. */
static void test_a_tenant_has_a_share_of_the_pins(void **state)
{
	static struct store_pin pins[STORE_PINS_MAX + 16];
	struct fixture *fixture = *state;
	struct store_pin *pin = pins;
	size_t number = 0;

	fixture_open(fixture);
	pins_done = 0;
	while (number < STORE_TENANT_PINS_MAX)
		assert_int_equal(pin_number(fixture, pin++, &fixture->a, number++, UINT64_MAX), 0);
	assert_int_equal(pin_number(fixture, pin++, &fixture->a, number, UINT64_MAX), -EDQUOT);
	while (number < STORE_PINS_MAX)
		assert_int_equal(pin_number(fixture, pin++, &fixture->b, number++, UINT64_MAX), 0);
	assert_int_equal(pin_number(fixture, pin++, &fixture->b, number, UINT64_MAX), -ENOSPC);
	assert_int_equal(pin_number(fixture, pin++, &fixture->a, 0, UINT64_MAX - 1), 0);
	assert_int_equal(pin_number(fixture, pin++, &fixture->a, 1, 0), 0);
	assert_int_equal(pin_number(fixture, pin++, &fixture->a, number, UINT64_MAX), 0);
	while (pins_done < (size_t)(pin - pins))
		ring_run(fixture->ring, 1000000);
	fixture_close(fixture);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pins_are_kept),
		TEST(test_a_hash_is_pinned_once),
		TEST(test_expired_pins_leave),
		TEST(test_a_tenant_has_a_share_of_the_pins),
	};

	fixture_choose_index(argc > 1 ? argv[1] : NULL);
	fixture_choose_ring(argc > 2 ? argv[2] : NULL);
	return cmocka_run_group_tests_name("pins", tests, NULL, NULL);
}
