/*
 * Shows that a pack is taken in lots as it arrives, and that nobody can tell: wrong blobs of any lot are named, in order, and
 * the others stored; fields that nobody knows are skipped wherever they stand; what is malformed at the end of many lots is
 * refused; compressed and not, with an index that answers at once and one that is late, and with hashers of few and of many lanes, which
 * make lots short and long. Arguments: the index, the engine, "wide".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway_thread.h"
#include "proto/pb.h"
#include "requests.h"
#include "tests/unit/store/index_delay.h"

#define BLOBS      60
#define BLOB_BYTES 60000

static struct gateway_thread_options options;
static struct gateway_thread *gateway;
static struct client *client;
static uint8_t bytes[BLOBS][BLOB_BYTES];
static struct span blobs[BLOBS];
static struct digest digests[BLOBS];

/* New contents each time: what was stored is not stored again. */
static void make_blobs(void)
{
	static uint8_t round;

	round++;
	for (size_t i = 0; i < BLOBS; i++) {
		memset(bytes[i], (int)i, BLOB_BYTES);
		bytes[i][0] = round;
		blobs[i] = span_make(bytes[i], BLOB_BYTES);
		digests[i] = digest_of(blobs[i]);
	}
}

static int setup(void **state)
{
	make_blobs();
	gateway = gateway_thread_start(&options);
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

static int teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	return 0;
}

static void ask_level(struct client_call *call, struct buffer *request, int level, struct push_response *response)
{
	struct span message;

	assert_int_equal(client_send(call, buffer_span(request), level), CLIENT_OK);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	assert_true(message_decode(&push_response_type, message, response));
	buffer_fini(request);
}

static void expect_stored(const struct push_response *response, size_t count, const size_t *wrong, size_t wrong_count)
{
	struct push_rejected rejected;
	struct push_stored stored;
	struct digest digest;
	size_t at = 0;
	struct message_cursor cursor = { 0 };
	struct span element;

	assert_non_null(response->stored.data);
	assert_true(message_decode(&push_stored_type, response->stored, &stored));
	assert_int_equal(stored.blobs, count);
	while (message_list_next(&stored.rejected, &cursor, &element)) {
		assert_true(message_decode(&push_rejected_type, element, &rejected));
		assert_true(at < wrong_count);
		assert_true(digest_list_next(&rejected.actual, &digest));
		assert_true(digest_equal(&digest, &digests[wrong[at]]));
		assert_true(digest_list_next(&rejected.expected, &digest));
		assert_int_equal(digest.hash[0], (uint8_t)~digests[wrong[at]].hash[0]);
		at++;
	}
	assert_int_equal(at, wrong_count);
}

static void expect_present(struct client_call *call, const size_t *wrong, size_t wrong_count)
{
	struct buffer request = request_list(2, digests, BLOBS, false);
	struct push_response response;
	size_t next = 0;

	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < BLOBS; i++) {
		bool is_wrong = next < wrong_count && wrong[next] == i;

		assert_int_equal(answered_bit(&response, i), !is_wrong);
		next += is_wrong;
	}
}

/* In the first lot, about its end, and in the last one. */
static void wrong_blobs_of_any_lot_are_named(void **state)
{
	static const size_t wrong[] = { 0, 7, 31, BLOBS - 1 };
	struct digest claimed[BLOBS];

	for (int level = 0; level < 2; level++) {
		struct client_call *call = push_open(client);
		struct push_response response;
		struct buffer request;

		make_blobs();
		memcpy(claimed, digests, sizeof(claimed));
		for (size_t i = 0; i < 4; i++)
			claimed[wrong[i]].hash[0] = (uint8_t)~claimed[wrong[i]].hash[0];
		request = request_pack(claimed, blobs, BLOBS);
		ask_level(call, &request, level, &response);
		expect_stored(&response, BLOBS - 4, wrong, 4);
		expect_present(call, wrong, 4);
		client_call_close(call);
	}
}

/* Then the pack is not all that there is to the request, or not only blobs: it is taken all the same. */
static void unknown_fields_are_skipped(void **state)
{
	static uint8_t unknown[100000];
	struct client_call *call = push_open(client);
	struct push_response response;
	struct buffer request = request_pack(digests, blobs, BLOBS / 2);
	size_t mark;

	pb_put_bytes(&request, 9, span_make(unknown, sizeof(unknown)));
	ask_level(call, &request, 0, &response);
	expect_stored(&response, BLOBS / 2, NULL, 0);
	request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	mark = pb_begin(&request, 3);
	for (size_t i = BLOBS / 2; i < BLOBS; i++) {
		pb_put_bytes(&request, 7, span_make(unknown, 1000 * (i % 20)));
		pack_put(&request, &digests[i], blobs[i]);
		pb_put_varint(&request, 8, i);
	}
	pb_end(&request, mark);
	ask_level(call, &request, 0, &response);
	expect_stored(&response, BLOBS / 2, NULL, 0);
	expect_present(call, NULL, 0);
	client_call_close(call);
}

static void a_malformed_end_is_refused(void **state)
{
	/* A length that leads out of the pack; a field number that there is not; a blob that is none. */
	static const char *const ends[] = { "\x0a\x7f!", "\1", "\x0a\2??" };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct buffer request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
		size_t mark = pb_begin(&request, 3);

		for (size_t k = 0; k < BLOBS; k++)
			pack_put(&request, &digests[k], blobs[k]);
		buffer_put_text(&request, ends[i]);
		pb_end(&request, mark);
		expect_status(client, request, GRPC_INVALID_ARGUMENT, "malformed Pack");
	}
}

/* The memory of one pack serves the next, of any size. */
static void packs_follow_each_other(void **state)
{
	struct client_call *call = push_open(client);
	struct push_response response;

	for (size_t i = 0; i < BLOBS; i++) {
		struct buffer request = request_pack(digests, blobs, i + 1);

		ask_level(call, &request, i % 3 == 2, &response);
		expect_stored(&response, i + 1, NULL, 0);
	}
	expect_present(call, NULL, 0);
	client_call_close(call);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(wrong_blobs_of_any_lot_are_named, setup, teardown),
		cmocka_unit_test_setup_teardown(unknown_fields_are_skipped, setup, teardown),
		cmocka_unit_test_setup_teardown(a_malformed_end_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(packs_follow_each_other, setup, teardown),
	};

	if (argc > 1 && strcmp(argv[1], "late") == 0)
		options.index = &index_late;
	if (argc > 2)
		options.engine = strcmp(argv[2], "epoll") == 0 ? RING_ENGINE_EPOLL : RING_ENGINE_URING;
	if (argc > 3)
		options.hasher = SHA256_AVX512;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
