/*
 * Shows that blobs of a batch are taken or refused each by itself, plain and compressed, however many, in whatever lots they come;
 * that batches have bounds, each by itself and all together; and that one that does not come ends. With an index that answers late when
 * started with "late".
 */
#include "tests/unit/reapi/blobs_rig.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/reapi/batch_update.h"
#include "gateway/reapi/sending.h"
#include "proto/pb.h"

static void each_blob_of_a_batch_is_judged_by_itself(void **state)
{
	struct span blobs[3] = { span_text("first"), span_text("second, a liar"), span_text("third") };
	struct digest digests[3];
	struct answer answer;

	for (int i = 0; i < 3; i++)
		digests[i] = digest_made(blobs[i]);
	digests[1].hash[0] ^= 1;
	assert_int_equal(find_missing(client, digests, 3), 3);
	answer = ask_method(client, REAPI_BATCH_UPDATE, request_update(digests, blobs, 3, false));
	assert_int_equal(answer.status, GRPC_OK);
	assert_int_equal(response_status(&answer, 0), GRPC_OK);
	assert_int_equal(response_status(&answer, 1), GRPC_INVALID_ARGUMENT);
	assert_int_equal(response_status(&answer, 2), GRPC_OK);
	answer_fini(&answer);
	assert_int_equal(find_missing(client, digests, 3), 1);
	answer = ask_method(client, REAPI_BATCH_READ, request_find(digests, 3, ""));
	assert_int_equal(answer.status, GRPC_OK);
	assert_int_equal(response_status(&answer, 1), GRPC_NOT_FOUND);
	assert_non_null(memmem(answer.body.data, answer.body.size, "first", 5));
	assert_non_null(memmem(answer.body.data, answer.body.size, "third", 5));
	answer_fini(&answer);
}

static void batches_come_compressed_and_have_bounds(void **state)
{
	struct buffer blob = noise(600000, 21), large;
	struct span span;
	struct digest digest;
	struct answer answer;

	memset(blob.data, 'a', 500000);
	digest = digest_made(buffer_span(&blob));
	span = buffer_span(&blob);
	answer = ask_method(client, REAPI_BATCH_UPDATE, request_update(&digest, &span, 1, true));
	assert_int_equal(response_status(&answer, 0), GRPC_OK);
	answer_fini(&answer);
	assert_int_equal(find_missing(client, &digest, 1), 0);
	/* A digest that says less than what comes out. */
	digest.size -= 1;
	answer = ask_method(client, REAPI_BATCH_UPDATE, request_update(&digest, &span, 1, true));
	assert_int_equal(response_status(&answer, 0), GRPC_INVALID_ARGUMENT);
	answer_fini(&answer);
	large = noise((4u << 20) + 1, 22);
	span = buffer_span(&large);
	digest = digest_made(span);
	ask_refused(client, REAPI_BATCH_UPDATE, request_update(&digest, &span, 1, false), GRPC_INVALID_ARGUMENT, "ByteStream");
	ask_refused(client, REAPI_BATCH_READ, request_find(&digest, 1, ""), GRPC_INVALID_ARGUMENT, "ByteStream");
	buffer_fini(&large);
	buffer_fini(&blob);
}

/* A request that was compressed as a whole. */
static struct answer ask_compressed(const char *path, struct buffer request)
{
	struct answer answer = { .body = buffer_heap(4u << 20) };
	struct client_call *call;
	struct span message;
	const char *why;
	uint64_t received, sent;

	assert_int_equal(client_call_open(&call, client, path, NULL, 0), 0);
	client_send(call, buffer_span(&request), 1);
	client_send_end(call);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		buffer_put(&answer.body, message.data, message.size);
	answer.status = client_call_status(call, &why);
	client_call_bytes(call, &received, &sent);
	assert_true(sent < request.size);
	client_call_close(call);
	buffer_fini(&request);
	return answer;
}

static void get_batches_bytes(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->reapi.batches_bytes;
}

#define SMALL_BLOBS 20000
#define SMALL_READ  17000                /* as many as the answer of fits a message of this client */

static void assert_all_ok(const struct answer *answer, size_t count)
{
	struct pb_reader reader = pb_reader_make(buffer_span(&answer->body));
	struct pb_field field, inner, code;

	assert_int_equal(answer->status, GRPC_OK);
	while (pb_next(&reader, &field)) {
		struct pb_reader response = pb_enter(&reader, &field);

		while (pb_next(&response, &inner)) {
			struct pb_reader status = pb_enter(&response, &inner);

			/* A BatchReadBlobs has it as field 3, its data as field 2. */
			if (inner.number == 3 || (inner.number == 2 && inner.bytes.size < 16))
				assert_false(pb_next(&status, &code));
		}
		count--;
	}
	assert_int_equal(count, 0);
}

/* Clients count bytes: what is short is in a batch by the ten thousand, with more digests than blobs in it. */
static void a_batch_may_have_many_small_blobs(void **state)
{
	static struct digest digests[SMALL_BLOBS];
	static struct span spans[SMALL_BLOBS];
	struct buffer bytes = noise(SMALL_BLOBS + 200, 25), request;
	struct answer answer;
	uint64_t charged;

	for (int way = 0; way < 3; way++) {
		for (size_t i = 0; i < SMALL_BLOBS; i++) {
			spans[i] = span_make(bytes.data + i, way ? 20 + (i + (size_t)way) % 180 : 187 + i % 10);
			digests[i] = digest_made(spans[i]);
		}
		request = request_update(digests, spans, SMALL_BLOBS, false);
		answer = way == 2 ? ask_compressed(REAPI_BATCH_UPDATE, request) : ask_method(client, REAPI_BATCH_UPDATE, request);
		assert_all_ok(&answer, SMALL_BLOBS);
		answer_fini(&answer);
		answer = ask_method(client, REAPI_BATCH_READ, request_read(digests, SMALL_READ, false));
		assert_all_ok(&answer, SMALL_READ);
		answer_fini(&answer);
	}
	buffer_fini(&bytes);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	gateway_thread_call(gateway, get_batches_bytes, &charged);
	assert_int_equal(charged, 0);
}

static void set_batches_bytes(struct gateway_parts *parts, void *context)
{
	parts->reapi.batches_bytes = *(uint64_t *)context;
}

static void close_batches(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	batches_sweep(&parts->reapi, now + 2 * REAPI_WRITE_IDLE_NS);
}

/* Those in line take memory: past the bound one more is to be tried again. */
static void batches_in_line_have_a_bound(void **state)
{
	struct buffer blob = noise(100000, 23);
	struct span span = buffer_span(&blob);
	struct digest digest = digest_made(span);
	uint64_t bytes = REAPI_BATCHES_BYTES - 99999;

	gateway_thread_call(gateway, set_batches_bytes, &bytes);
	ask_refused(client, REAPI_BATCH_UPDATE, request_update(&digest, &span, 1, false), GRPC_RESOURCE_EXHAUSTED, "try again");
	gateway_thread_call(gateway, get_batches_bytes, &bytes);
	assert_int_equal(bytes, REAPI_BATCHES_BYTES - 99999);
	bytes = 0;
	gateway_thread_call(gateway, set_batches_bytes, &bytes);
	send_blob(client, span);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	gateway_thread_call(gateway, get_batches_bytes, &bytes);
	assert_int_equal(bytes, 0);
	buffer_fini(&blob);
}

#define LOTS_BLOBS 90

static struct buffer lots[LOTS_BLOBS];
static struct span lots_spans[LOTS_BLOBS];
static struct digest lots_digests[LOTS_BLOBS];

/* Several lots of blobs of all lengths, nearly 4 MiB, with liars in each; others for another seed. */
static void lots_make(uint32_t seed)
{
	for (uint32_t i = 0; i < LOTS_BLOBS; i++) {
		lots[i] = noise(i == 50 ? 900000 : 1000 + 700 * i, seed + i);
		lots_spans[i] = buffer_span(&lots[i]);
		lots_digests[i] = digest_made(lots_spans[i]);
		if (i % 9 == 4)
			lots_digests[i].hash[0] ^= 1;
	}
}

static void lots_free(void)
{
	for (uint32_t i = 0; i < LOTS_BLOBS; i++)
		buffer_fini(&lots[i]);
}

static void assert_lots(const struct answer *answer)
{
	assert_int_equal(answer->status, GRPC_OK);
	for (uint32_t i = 0; i < LOTS_BLOBS; i++)
		assert_int_equal(response_status(answer, i), i % 9 == 4 ? GRPC_INVALID_ARGUMENT : GRPC_OK);
	assert_int_equal(find_missing(client, lots_digests, LOTS_BLOBS), 10);
}

/* Whatever lots it is taken in, plain, with compressed blobs, and compressed as a whole; all memory is back then. */
static void a_batch_is_taken_as_it_comes(void **state)
{
	uint64_t bytes;

	for (uint32_t way = 0; way < 3; way++) {
		struct buffer request;
		struct answer answer;

		lots_make(3000 + 1000 * way);
		for (uint32_t i = 0; way && i < LOTS_BLOBS; i += 2) {
			memset(lots[i].data, 'z', lots[i].size / 2);
			lots_digests[i] = digest_made(lots_spans[i]);
			if (i % 9 == 4)
				lots_digests[i].hash[0] ^= 1;
		}
		request = request_update(lots_digests, lots_spans, LOTS_BLOBS, way == 1);
		answer = way == 2 ? ask_compressed(REAPI_BATCH_UPDATE, request) : ask_method(client, REAPI_BATCH_UPDATE, request);
		assert_lots(&answer);
		answer_fini(&answer);
		lots_free();
	}
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	gateway_thread_call(gateway, get_batches_bytes, &bytes);
	assert_int_equal(bytes, 0);
}

/* What is said of all blobs comes before or behind them; an instance behind those that were taken for another is refused. */
static void what_is_said_behind_the_blobs_counts(void **state)
{
	struct buffer request;
	struct answer answer;

	lots_make(6000);
	request = request_update(lots_digests, lots_spans, LOTS_BLOBS, false);
	pb_put_varint(&request, 5, 9);           /* BLAKE3 */
	ask_refused(client, REAPI_BATCH_UPDATE, request, GRPC_INVALID_ARGUMENT, "SHA-256");
	request = request_update(lots_digests, lots_spans, LOTS_BLOBS, false);
	pb_put_text(&request, 1, "team/b");
	ask_refused(client, REAPI_BATCH_UPDATE, request, GRPC_INVALID_ARGUMENT, "instance");
	request = request_update(lots_digests + 60, lots_spans + 60, 1, false);
	pb_put_text(&request, 1, "team/b");
	answer = ask_method(client, REAPI_BATCH_UPDATE, request);       /* one lot: in any order */
	assert_int_equal(response_status(&answer, 0), GRPC_OK);
	assert_int_equal(find_missing(client, lots_digests + 60, 1), 0);
	answer_fini(&answer);
	request = request_update(lots_digests, lots_spans, LOTS_BLOBS, false);
	buffer_put(&request, "\x12\x7f", 2);           /* a field that says more than there is */
	ask_refused(client, REAPI_BATCH_UPDATE, request, GRPC_INVALID_ARGUMENT, "malformed");
	lots_free();
}

/* A call whose request stops in the middle. */
struct part {
	struct call call;
	bool closed;
	enum grpc_status status;
};

static void part_on_message(struct call *call, struct span message)
{
}

static void part_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct part *part = call->owner;

	part->closed = true;
	part->status = status;
}

/* Sends `size` bytes of a request of lots_blobs, or all but one. */
static void part_open(struct part *part, struct client *who, size_t size)
{
	static const struct call_events events = { .on_message = part_on_message, .on_closed = part_on_closed };
	struct buffer request = request_update(lots_digests, lots_spans, LOTS_BLOBS, false);

	*part = (struct part){ 0 };
	assert_int_equal(client_call_start(who, &part->call, REAPI_BATCH_UPDATE, 1000, &events, part), 0);
	assert_int_equal(call_send_begin(&part->call, request.size), CALL_SENT);
	call_send_more(&part->call, span_make(request.data, size < request.size ? size : request.size - 1));
	buffer_fini(&request);
}

static bool has_some(struct gateway_parts *parts, void *context)
{
	return !list_empty(&parts->reapi.batches) && parts->reapi.batches_bytes > 0;
}

/* Who stops in mid-batch is ended, in whichever field or lot; who leaves leaves nothing. */
static void a_batch_that_does_not_come_ends(void **state)
{
	const size_t sizes[] = { 1, 70000, 131072, 700000, SIZE_MAX };
	struct part part;
	uint64_t bytes;

	lots_make(7000);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		part_open(&part, client, sizes[i]);
		client_run_until(client, gateway, has_some, NULL);
		for (int tries = 0; !part.closed; tries++) {
			assert_true(tries < 20000);
			gateway_thread_call(gateway, close_batches, NULL);
			client_wait(client, NULL, 0, NULL, 1000000);
		}
		assert_int_equal(part.status, GRPC_DEADLINE_EXCEEDED);
		call_fini(&part.call);
	}
	for (unsigned i = 0; i < 40; i++) {
		struct client *other = gateway_thread_client(gateway, NULL);

		part_open(&part, other, 1 + i * 80000);
		client_wait(other, NULL, 0, NULL, i * 20000);
		client_close(other);
		assert_true(part.closed);
		call_fini(&part.call);
	}
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	gateway_thread_call(gateway, get_batches_bytes, &bytes);
	assert_int_equal(bytes, 0);
	lots_free();
}

static unsigned count_sendings(struct gateway_parts *parts)
{
	unsigned count = 0;

	list_for_each(link, &parts->reapi.sendings)
		count++;
	return count;
}

static bool is_answered(struct gateway_parts *parts, void *context)
{
	return count_sendings(parts) == FULL_CLIENT_READS + 1 && parts->reapi.batches_bytes == 0;
}

static bool nothing_is_sent(struct gateway_parts *parts, void *context)
{
	return count_sendings(parts) == 0;
}

static void after_two_minutes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	sendings_sweep(&parts->reapi, now);      /* what has moved until now is seen here */
	sendings_sweep(&parts->reapi, now + 2 * REAPI_READ_IDLE_NS);
}

/* What is said of each blob is much for many: it lasts as long as the call, and who does not take it loses that. */
static void an_answer_that_nobody_takes_ends(void **state)
{
	struct buffer unread = noise(9000000, 61), request;
	struct digest digest = digest_made(buffer_span(&unread)), lie = digest_made(span_text("the truth"));
	struct span blob = span_text("a lie");
	char name[512], why[256];
	struct client_call *call;
	struct client *other;
	int64_t committed;

	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "w", false, &digest), buffer_span(&unread), 3u << 20,
	                           &committed, why, sizeof(why)), GRPC_OK);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	other = full_client(gateway, &digest);
	request = request_update(&lie, &blob, 1, false);
	assert_int_equal(client_call_open(&call, other, REAPI_BATCH_UPDATE, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	client_send_end(call);
	client_run_until(other, gateway, is_answered, NULL);
	gateway_thread_call(gateway, after_two_minutes, NULL);
	gateway_thread_until(gateway, nothing_is_sent, NULL);
	client_close(other);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	buffer_fini(&request);
	buffer_fini(&unread);
}

/* More than an answer has room for, of whatever size. */
static void blobs_of_a_batch_have_a_bound(void **state)
{
	size_t count = REAPI_BATCH_BLOBS_MAX + 1;
	struct digest *digests = malloc(count * sizeof(*digests));
	struct span *blobs = malloc(count * sizeof(*blobs));

	for (size_t i = 0; i < count; i++) {
		blobs[i] = span_text("x");
		digests[i] = digest_made(blobs[i]);
	}
	ask_refused(client, REAPI_BATCH_UPDATE, request_update(digests, blobs, count, false), GRPC_INVALID_ARGUMENT, "more than 32768");
	ask_refused(client, REAPI_BATCH_READ, request_read(digests, count, false), GRPC_INVALID_ARGUMENT, "more than 32768");
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	free(digests);
	free(blobs);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_blob_of_a_batch_is_judged_by_itself),
		cmocka_unit_test(batches_come_compressed_and_have_bounds),
		cmocka_unit_test(a_batch_may_have_many_small_blobs),
		cmocka_unit_test(batches_in_line_have_a_bound),
		cmocka_unit_test(a_batch_is_taken_as_it_comes),
		cmocka_unit_test(what_is_said_behind_the_blobs_counts),
		cmocka_unit_test(a_batch_that_does_not_come_ends),
		cmocka_unit_test(an_answer_that_nobody_takes_ends),
		cmocka_unit_test(blobs_of_a_batch_have_a_bound),
	};

	return blobs_run(argc, argv, tests);
}
