/*
 * Shows that a batch goes out as it was asked for, each blob plain or compressed, that what lies in a row on the disk is read
 * together, and that one that nobody takes ends and gives back its memory. With an index that answers late when started with "late".
 */
#include "tests/unit/reapi/blobs_rig.h"

#include <string.h>

#include "gateway/reapi/sending.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"

#define BATCH_BLOBS 700

/* One Response: whose it is, and that its data is `blob`, or NOT_FOUND when that is NULL. True: it was compressed. */
static bool response_check(struct span response, const struct digest *digest, const struct buffer *blob)
{
	struct buffer plain = buffer_heap(1u << 20);
	struct pb_reader reader = pb_reader_make(response), nested;
	struct pb_field field, code = { 0 };
	struct span data = { 0 };
	struct digest named;
	bool packed = false;

	while (pb_next(&reader, &field)) {
		if (field.number == 1)
			assert_true(message_digest(field.bytes, &named));
		if (field.number == 2)
			data = field.bytes;
		if (field.number == 3)
			for (nested = pb_enter(&reader, &field); pb_next(&nested, &field) && field.number == 1;)
				code = field;
		if (field.number == 4)
			packed = field.value == REAPI_ZSTD;
	}
	assert_false(reader.failed);
	assert_true(digest_equal(&named, digest));
	assert_int_equal(code.value, blob ? GRPC_OK : GRPC_NOT_FOUND);
	if (packed) {
		assert_int_equal(zstd_message_inflate(&plain, data), ZSTD_MESSAGE_OK);
		data = buffer_span(&plain);
	}
	assert_true(span_equal(data, blob ? buffer_span(blob) : (struct span){ 0 }));
	buffer_fini(&plain);
	return packed;
}

/* More than a round of them, of every small size, some not there and one empty; every second goes well into zstd. */
static void a_batch_goes_out_as_it_was_asked_for(void **state)
{
	static struct buffer blobs[BATCH_BLOBS];
	static struct span spans[BATCH_BLOBS];
	static struct digest digests[BATCH_BLOBS];
	struct answer answer;

	for (uint32_t i = 0; i < BATCH_BLOBS; i++) {
		blobs[i] = noise(i < 300 ? i + 1 : 13 * i, 500 + i);
		if (i % 2)
			memset(blobs[i].data, 'a', blobs[i].size / 2);
		spans[i] = buffer_span(&blobs[i]);
		digests[i] = digest_made(spans[i]);
	}
	answer = ask_method(client, REAPI_BATCH_UPDATE, request_update(digests, spans, BATCH_BLOBS, false));
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	digests[0] = digest_empty;
	blobs[0].size = 0;
	for (size_t i = 7; i < BATCH_BLOBS; i += 7)
		digests[i].hash[3] ^= 1;
	for (int zstd = 0; zstd < 2; zstd++) {
		struct pb_field field;
		struct pb_reader reader;
		size_t count = 0, packed = 0;

		answer = ask_method(client, REAPI_BATCH_READ, request_read(digests, BATCH_BLOBS, zstd));
		assert_int_equal(answer.status, GRPC_OK);
		reader = pb_reader_make(buffer_span(&answer.body));
		for (; pb_next(&reader, &field); count++)
			packed += response_check(field.bytes, &digests[count], count && count % 7 == 0 ? NULL : &blobs[count]);
		assert_int_equal(count, BATCH_BLOBS);
		assert_true(zstd ? packed > BATCH_BLOBS / 4 && packed < BATCH_BLOBS / 2 : packed == 0);
		answer_fini(&answer);
	}
	answer = ask_method(client, REAPI_BATCH_READ, request_read(NULL, 0, false));
	assert_int_equal(answer.status, GRPC_OK);
	assert_int_equal(answer.body.size, 0);
	answer_fini(&answer);
	for (size_t i = 0; i < BATCH_BLOBS; i++)
		buffer_fini(&blobs[i]);
}

#define IN_A_ROW 200

static void get_store(struct gateway_parts *parts, void *context)
{
	store_status(parts->store, context);
}

static bool is_durable(struct gateway_parts *parts, void *context)
{
	get_store(parts, context);
	return ((const struct store_status *)context)->pending_blobs == 0;
}

/* Behind as much else as there is in slots, so that the disk is asked. */
static void a_row_on_the_disk_is_read_together(void **state)
{
	static struct buffer blobs[IN_A_ROW];
	static struct span spans[IN_A_ROW];
	static struct digest digests[IN_A_ROW];
	struct store_status before, after;
	struct answer answer;

	for (uint32_t i = 0; i < IN_A_ROW; i++) {
		blobs[i] = noise(96 + 10 * i, 2000 + i);
		spans[i] = buffer_span(&blobs[i]);
		digests[i] = digest_made(spans[i]);
	}
	answer = ask_method(client, REAPI_BATCH_UPDATE, request_update(digests, spans, IN_A_ROW, false));
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	for (uint32_t i = 0; i < 12; i++) {
		struct buffer blob = noise(1u << 20, 3000 + i);

		send_blob(client, buffer_span(&blob));
		buffer_fini(&blob);
	}
	gateway_thread_until(gateway, is_durable, &before);
	answer = ask_method(client, REAPI_BATCH_READ, request_read(digests, IN_A_ROW, false));
	assert_int_equal(answer.status, GRPC_OK);
	gateway_thread_call(gateway, get_store, &after);
	assert_int_equal(after.reads - before.reads, IN_A_ROW);
	assert_in_range(after.disk_reads - before.disk_reads, 1, 20);
	answer_fini(&answer);
	for (size_t i = 0; i < IN_A_ROW; i++)
		buffer_fini(&blobs[i]);
}

#define STALLED      8                   /* more than a client's window together */
#define STALLED_MIBS 3

static void get_downloads(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->reapi.counters.downloads;
}

static bool has_read(struct gateway_parts *parts, void *context)
{
	return parts->reapi.counters.downloads == *(const uint64_t *)context;
}

static void get_memory(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->reapi.downloads.used;
}

static bool has_memory_back(struct gateway_parts *parts, void *context)
{
	return parts->reapi.downloads.used == 0 && list_empty(&parts->reapi.sendings);
}

static void after_two_minutes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	sendings_sweep(&parts->reapi, now);      /* what has moved until now is seen here */
	sendings_sweep(&parts->reapi, now + 2 * REAPI_READ_IDLE_NS);
}

/* Batches that are read, and of which the client takes only what its window lets in. */
static void stall(struct client *who, struct client_call *calls[static STALLED])
{
	struct digest digests[STALLED_MIBS];
	uint64_t downloads, memory;

	for (uint32_t i = 0; i < STALLED_MIBS; i++) {
		struct buffer blob = noise(1u << 20, 900 + i);

		digests[i] = send_blob(client, buffer_span(&blob));
		buffer_fini(&blob);
	}
	gateway_thread_call(gateway, get_downloads, &downloads);
	downloads += STALLED * STALLED_MIBS;
	for (int i = 0; i < STALLED; i++) {
		struct buffer request = request_read(digests, STALLED_MIBS, false);

		assert_int_equal(client_call_open(&calls[i], who, REAPI_BATCH_READ, NULL, 0), 0);
		client_send(calls[i], buffer_span(&request), 0);
		buffer_fini(&request);
	}
	client_run_until(who, gateway, has_read, &downloads);
	gateway_thread_call(gateway, get_memory, &memory);
	assert_true(memory >= STALLED_MIBS << 20);
}

/* What is lent is in the budget until it is out: until it is taken, the client gives up, or two minutes have passed. */
static void a_batch_that_nobody_takes_ends(void **state)
{
	struct client *other = gateway_thread_client(gateway, NULL);
	struct client_call *calls[STALLED];
	int taken = 0, cancelled = 0;

	stall(other, calls);
	client_close(other);
	gateway_thread_until(gateway, has_memory_back, NULL);
	stall(client, calls);
	gateway_thread_call(gateway, after_two_minutes, NULL);
	client_run_until(client, gateway, has_memory_back, NULL);
	for (int i = 0; i < STALLED; i++) {
		struct span message;
		const char *why;

		while (client_receive(calls[i], &message, UINT64_MAX) == CLIENT_OK)
			;
		taken += client_call_status(calls[i], &why) == GRPC_OK;
		cancelled += client_call_status(calls[i], &why) == GRPC_CANCELLED;
		client_call_close(calls[i]);
	}
	assert_int_equal(taken + cancelled, STALLED);
	assert_true(cancelled > 0);
	client_run_until(client, gateway, blobs_are_idle, NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_goes_out_as_it_was_asked_for),
		cmocka_unit_test(a_row_on_the_disk_is_read_together),
		cmocka_unit_test(a_batch_that_nobody_takes_ends),
	};

	return blobs_run(argc, argv, tests);
}
