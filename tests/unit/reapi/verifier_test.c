/*
 * Shows that blobs which wait for their digests all get the right one, in the order in which they came, from the loop and not from
 * inside a call; that no turn of it takes more than a lot; and that more may be added from inside an event.
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
	unsigned number;
	uint8_t *data;
};

static struct blob blobs[BLOBS + 1];
static struct verifier verifier;
static unsigned done, within;            /* all; in this turn of the loop */
static size_t within_bytes, within_last;
static bool adds;

static void on_hash(struct verification *verification)
{
	struct blob *blob = container_of(verification, struct blob, verification);
	uint8_t expected[SHA256_BYTES];

	assert_int_equal(blob->number, done++);
	sha256_once(blob->data, verification->bytes.size, expected);
	assert_memory_equal(verification->hash, expected, sizeof(expected));
	within++;
	within_last = verification->bytes.size;
	within_bytes += within_last;
	if (adds && done == BLOBS)
		verifier_add(&verifier, &blobs[BLOBS].verification);
}

static void fill(unsigned number, size_t size)
{
	struct blob *blob = &blobs[number];

	*blob = (struct blob){ .number = number, .data = malloc(size + 1) };
	assert_non_null(blob->data);
	for (size_t i = 0; i < size; i++)
		blob->data[i] = (uint8_t)(i * 31 + number * 7 + (i >> 8));
	blob->verification.bytes = span_make(blob->data, size);
	blob->verification.fn = on_hash;
}

static void run(struct ring *ring, unsigned wanted)
{
	while (done < wanted) {
		within = 0;
		within_bytes = 0;
		ring_run(ring, 0);
		assert_true(within <= VERIFIER_JOBS_MAX);
		assert_true(within_bytes - (within ? within_last : 0) < VERIFIER_LOT_BYTES);
	}
}

static void all_are_hashed(void **state)
{
	struct sha256 hasher;
	struct ring *ring;

	sha256_init(&hasher, SHA256_AUTO);
	assert_int_equal(ring_create(&ring, &(struct ring_config){ .engine = RING_ENGINE_EPOLL }), 0);
	verifier_init(&verifier, ring, &hasher);
	for (unsigned i = 0; i <= BLOBS; i++)
		fill(i, i % 50 == 3 ? 300000 : i % 7 == 0 ? 0 : i * 37 % 20000);
	for (unsigned i = 0; i < BLOBS; i++)
		verifier_add(&verifier, &blobs[i].verification);
	assert_int_equal(done, 0);
	adds = true;
	run(ring, BLOBS + 1);
	/* One alone, later. */
	done = 0;
	adds = false;
	verifier_add(&verifier, &blobs[0].verification);
	run(ring, 1);
	for (unsigned i = 0; i <= BLOBS; i++)
		free(blobs[i].data);
	ring_destroy(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_are_hashed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
