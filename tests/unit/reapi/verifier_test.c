/*
 * Shows that what waits for its digests gets the right ones, whole or piece by piece, from the loop and not from inside a call;
 * that it waits for others until it is a lot, or until one is urgent; that no turn takes much more than a lot; that more may be
 * added, and what has not been told yet dropped, from inside an event.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/reapi/verifier.h"

#define BLOBS 500u

struct blob {
	struct verification verification;
	uint8_t *data;
	size_t size, hashed, come;
	struct sha256_stream *stream;    /* NULL: whole at once */
	struct blob *drops;              /* with its event */
	unsigned events;
};

static struct sha256 hasher;
static struct ring *ring;
static struct verifier verifier;
static struct blob blobs[BLOBS];
static unsigned done;
static size_t turn_bytes, turn_last;

static size_t jobs_of(struct verification *verification, struct sha256_job *jobs)
{
	struct blob *blob = container_of(verification, struct blob, verification);

	if (!blob->stream)
		blob->hashed = 0;
	*jobs = (struct sha256_job){ .data = blob->data + blob->hashed, .size = blob->come - blob->hashed, .stream = blob->stream };
	return 1;
}

static void on_hash(struct verification *verification, const struct sha256_job *jobs)
{
	struct blob *blob = container_of(verification, struct blob, verification);
	uint8_t expected[SHA256_BYTES];

	turn_last = blob->come - blob->hashed;
	turn_bytes += turn_last;
	blob->hashed = blob->come;
	blob->events++;
	done++;
	if (!blob->stream) {
		sha256_once(blob->data, blob->size, expected);
		assert_memory_equal(jobs[0].digest, expected, sizeof(expected));
	}
	if (blob->drops)
		verifier_drop(&verifier, &blob->drops->verification);
}

static struct blob *fill(unsigned number, size_t size)
{
	struct blob *blob = &blobs[number];

	*blob = (struct blob){ .data = malloc(size + 1), .size = size, .come = size };
	assert_non_null(blob->data);
	for (size_t i = 0; i < size; i++)
		blob->data[i] = (uint8_t)(i * 31 + number * 7 + (i >> 8));
	blob->verification.jobs = jobs_of;
	blob->verification.fn = on_hash;
	return blob;
}

static void turn(void)
{
	turn_bytes = turn_last = 0;
	ring_run(ring, 0);
	assert_true(turn_bytes - turn_last <= verifier.lot_bytes);
}

/* With lanes enough that a lot is larger than what one alone needs. */
static int setup(void **state)
{
	done = 0;
	sha256_init(&hasher, SHA256_AUTO);
	assert_int_equal(ring_create(&ring, &(struct ring_config){ .engine = RING_ENGINE_EPOLL }), 0);
	verifier_init(&verifier, ring, &hasher);
	verifier.lot_bytes = VERIFIER_LOT_BYTES;
	return 0;
}

static int teardown(void **state)
{
	for (unsigned i = 0; i < BLOBS; i++) {
		free(blobs[i].data);
		blobs[i].data = NULL;
	}
	assert_int_equal(verifier.bytes, 0);
	ring_destroy(ring);
	return 0;
}

static void whole_ones_in_their_order(void **state)
{
	for (unsigned i = 0; i < BLOBS; i++) {
		struct blob *blob = fill(i, i % 50 == 3 ? 300000 : i % 7 == 0 ? 0 : i * 37 % 20000);

		verifier_add(&verifier, &blob->verification, blob->size, true);
	}
	assert_int_equal(done, 0);
	while (done < BLOBS) {
		unsigned before = done;

		turn();
		assert_true(done > before);
		for (unsigned i = 0; i < BLOBS; i++)
			assert_int_equal(blobs[i].events, i < done);
	}
	/* One alone, later. */
	verifier_add(&verifier, &blobs[1].verification, blobs[1].size, true);
	turn();
	assert_int_equal(done, BLOBS + 1);
}

static void what_is_not_urgent_waits_for_others(void **state)
{
	for (unsigned i = 0; i < 8; i++) {
		turn();
		assert_int_equal(done, 0);
		verifier_add(&verifier, &fill(i, VERIFIER_LOT_BYTES / 8)->verification, VERIFIER_LOT_BYTES / 8, false);
	}
	turn();
	assert_int_equal(done, 8);
	/* Somebody who can't go on takes them along; so does what is enough by itself. */
	verifier_add(&verifier, &blobs[0].verification, 1000, false);
	turn();
	assert_int_equal(done, 8);
	verifier_add(&verifier, &fill(8, 5)->verification, 5, true);
	turn();
	assert_int_equal(done, 10);
	verifier_add(&verifier, &blobs[0].verification, 1000, false);
	verifier_add(&verifier, &fill(9, VERIFIER_OWN_BYTES)->verification, VERIFIER_OWN_BYTES, false);
	turn();
	assert_int_equal(done, 12);
}

static void piece_by_piece(void **state)
{
	struct sha256_stream streams[20];
	uint8_t expected[SHA256_BYTES], actual[SHA256_BYTES];

	for (unsigned i = 0; i < 20; i++) {
		struct blob *blob = fill(i, 3000000 + i * 1001);

		sha256_stream_init(&streams[i]);
		blob->stream = &streams[i];
		blob->come = 0;
	}
	for (unsigned round = 0, left = 20; left; round++) {
		left = 0;
		for (unsigned i = 0; i < 20; i++) {
			struct blob *blob = &blobs[i];
			size_t more = blob->size - blob->come < 70000 + i * 333 ? blob->size - blob->come : 70000 + i * 333;

			blob->come += more;
			verifier_add(&verifier, &blob->verification, more, blob->come == blob->size);
			left += blob->come < blob->size;
		}
		turn();
	}
	while (verifier.bytes)
		turn();
	turn();
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(blobs[i].hashed, blobs[i].size);
		sha256_once(blobs[i].data, blobs[i].size, expected);
		sha256_stream_final(&streams[i], actual);
		assert_memory_equal(actual, expected, sizeof(expected));
	}
}

/* What is dropped waits, or was hashed in this turn and is not told yet. */
static void dropped_from_an_event(void **state)
{
	for (unsigned i = 0; i < 4; i++)
		verifier_add(&verifier, &fill(i, 100)->verification, 100, true);
	blobs[0].drops = &blobs[2];
	turn();
	assert_int_equal(done, 3);
	assert_int_equal(blobs[2].events, 0);
	verifier_add(&verifier, &blobs[2].verification, 100, false);
	verifier_drop(&verifier, &blobs[2].verification);
	turn();
	assert_int_equal(blobs[2].events, 0);
	assert_int_equal(verifier.bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_ones_in_their_order, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_urgent_waits_for_others, setup, teardown),
		cmocka_unit_test_setup_teardown(piece_by_piece, setup, teardown),
		cmocka_unit_test_setup_teardown(dropped_from_an_event, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
