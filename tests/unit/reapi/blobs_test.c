/*
 * Shows what ContentAddressableStorage says and does: blobs of a batch are taken or refused each by itself; a long blob is
 * split into chunks that are there, and spliced from chunks once they are verified to be it, so that a small change costs a few
 * chunks; trees come page by page, each directory once; and instances, rights and digest functions are kept apart. With an
 * index that answers late when started with "late".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "chunker/profile.h"
#include "gateway/cas/pair.h"
#include "gateway/cas/recipe_maker.h"
#include "gateway/reapi/batch_update.h"
#include "gateway/reapi/sending.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"
#include "requests.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/store/index_delay.h"

#define CHUNKS_MAX 400
/* The tokens are "reader" and "writer". */
#define TOKENS \
	"3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 acme read\n" \
	"b93006774cbdd4b299389a03ac3d88c3a76b460d538795bc12718011a909fba5 acme read,write\n"

static struct gateway_thread *gateway;
static struct client *client;
static const struct index_engine *engine;
static char name[512], text[512];

static int setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .index = engine, .tokens = TOKENS });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

static int teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	return 0;
}

static void capabilities_say_what_there_is(void **state)
{
	struct answer answer = ask_method(client, REAPI_CAPABILITIES, buffer_heap(1));
	struct pb_reader reader = pb_reader_make(buffer_span(&answer.body));
	uint64_t seen[16] = { 0 };
	struct pb_field field;

	assert_int_equal(answer.status, GRPC_OK);
	while (pb_next(&reader, &field)) {
		struct pb_reader cache = pb_enter(&reader, &field);
		struct pb_field inner;

		if (field.number != 1)
			continue;
		while (pb_next(&cache, &inner))
			if (inner.number < 16)
				seen[inner.number] = inner.wire == PB_VARINT ? inner.value : inner.bytes.size;
	}
	assert_int_equal(seen[1], REAPI_SHA256);
	assert_int_equal(seen[4], REAPI_BATCH_ADVERTISED);
	assert_int_equal(seen[6], REAPI_ZSTD);
	assert_true(seen[9] && seen[10]);
	assert_int_equal(seen[11], 4);           /* 1: 524288 */
	answer_fini(&answer);
	/* Nothing runs actions here, and nobody is told so. */
	answer = ask_method(client, GRPC_HEALTH, buffer_heap(1));
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
}

static bool is_idle(struct gateway_parts *parts, void *context)
{
	return parts->reapi.open == 0;
}

static uint32_t response_status(const struct answer *answer, size_t which)
{
	struct pb_reader reader = pb_reader_make(buffer_span(&answer->body));
	struct pb_field field, inner, code;
	uint32_t status = 0;

	while (pb_next(&reader, &field)) {
		struct pb_reader response = pb_enter(&reader, &field);

		if (which--)
			continue;
		while (pb_next(&response, &inner)) {
			struct pb_reader nested;

			/* Field 2 of an update's response, 3 of a read's; a read's 2 is the data. */
			if (inner.wire != PB_BYTES || (inner.number != 2 && inner.number != 3))
				continue;
			nested = pb_reader_make(inner.bytes);
			if (pb_next(&nested, &code) && code.number == 1 && code.wire == PB_VARINT)
				status = (uint32_t)code.value;
		}
	}
	return status;
}

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
	client_run_until(client, gateway, is_idle, NULL);
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

static void get_batches_bytes(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->reapi.batches_bytes;
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
	gateway_thread_until(gateway, is_idle, NULL);
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

/* A request that was compressed as a whole. */
static struct answer ask_compressed(const char *path, struct buffer request)
{
	struct answer answer = { .body = buffer_heap(1u << 20) };
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
	gateway_thread_until(gateway, is_idle, NULL);
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
	gateway_thread_until(gateway, is_idle, NULL);
	gateway_thread_call(gateway, get_batches_bytes, &bytes);
	assert_int_equal(bytes, 0);
	lots_free();
}

static void only_sha256_is_served(void **state)
{
	struct buffer request = request_find(&digest_empty, 1, "");

	pb_put_varint(&request, 3, 9);           /* BLAKE3 */
	ask_refused(client, REAPI_FIND_MISSING, request, GRPC_INVALID_ARGUMENT, "SHA-256");
	assert_int_equal(find_missing(client, &digest_empty, 1), 0);
}

static size_t split(const struct digest *digest, struct digest *chunks)
{
	struct buffer request = buffer_heap(4096);
	struct pb_reader reader;
	struct pb_field field;
	struct answer answer;
	size_t count = 0;

	message_put_digest(&request, 2, digest);
	answer = ask_method(client, REAPI_SPLIT, request);
	assert_int_equal(answer.status, GRPC_OK);
	reader = pb_reader_make(buffer_span(&answer.body));
	while (pb_next(&reader, &field)) {
		if (field.number != 1)
			continue;
		assert_true(count < CHUNKS_MAX);
		assert_true(message_digest(field.bytes, &chunks[count++]));
	}
	answer_fini(&answer);
	return count;
}

static struct buffer splice(const struct digest *digest, const struct digest *chunks, size_t count)
{
	struct buffer request = buffer_heap(1u << 20);

	message_put_digest(&request, 2, digest);
	for (size_t i = 0; i < count; i++)
		message_put_digest(&request, 3, &chunks[i]);
	pb_put_varint(&request, 5, REAPI_FAST_CDC_2020);
	return request;
}

/* What a client with its own cutter does. */
static size_t cut(struct span blob, struct digest *chunks, struct span *spans)
{
	size_t count = 0, length;

	while ((length = fastcdc_cut(profile_fastcdc(PROFILE_REAPI), blob.data, blob.size))) {
		assert_true(count < CHUNKS_MAX);
		spans[count] = span_make(blob.data, length);
		chunks[count] = digest_made(spans[count]);
		count++;
		blob = span_make(blob.data + length, blob.size - length);
	}
	return count;
}

static void write_blob(const struct digest *digest, struct span blob)
{
	int64_t committed;

	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "w", false, digest), blob, 3u << 20, &committed, text,
	                           sizeof(text)), GRPC_OK);
}

static void assert_blob(const struct digest *digest, struct span blob)
{
	enum grpc_status status;
	struct buffer got = read_all(client, resource_name(name, sizeof(name), NULL, false, digest), 0, 0, &status);

	assert_int_equal(status, GRPC_OK);
	assert_true(span_equal(buffer_span(&got), blob));
	buffer_fini(&got);
}

/* Of each kind: its own only chunk, a record that is cut now, a recipe. The cuts are those that clients make. */
static void a_blob_is_split_as_clients_cut(void **state)
{
	static struct digest chunks[CHUNKS_MAX], wanted[CHUNKS_MAX];
	static struct span spans[CHUNKS_MAX];
	const size_t sizes[] = { 1000, 2u << 20, 3500000, 9000000 };

	for (size_t i = 0; i < 4; i++) {
		struct buffer blob = noise(sizes[i], 30 + (uint32_t)i);
		struct digest digest = digest_made(buffer_span(&blob));
		size_t count, expected = 1;

		write_blob(&digest, buffer_span(&blob));
		count = split(&digest, chunks);
		wanted[0] = digest;
		if (sizes[i] > PROFILE_REAPI_WHOLE_MAX)
			expected = cut(buffer_span(&blob), wanted, spans);
		assert_int_equal(count, expected);
		assert_memory_equal(chunks, wanted, count * sizeof(*chunks));
		assert_int_equal(find_missing(client, chunks, count), 0);
		buffer_fini(&blob);
	}
}

/* 1 KB in the middle of 30 MB: the chunks that are new are all that a client sends. */
static void a_change_costs_a_few_chunks(void **state)
{
	static struct digest chunks[CHUNKS_MAX];
	static struct span spans[CHUNKS_MAX];
	struct buffer blob = noise(30000000, 40);
	struct digest digest = digest_made(buffer_span(&blob));
	size_t count, sent = 0;
	struct answer answer;

	write_blob(&digest, buffer_span(&blob));
	memset(blob.data + 15000000, 'n', 1000);
	digest = digest_made(buffer_span(&blob));
	count = cut(buffer_span(&blob), chunks, spans);
	assert_int_equal(find_missing(client, &digest, 1), 1);
	ask_refused(client, REAPI_SPLICE, splice(&digest, chunks, count), GRPC_NOT_FOUND, "the chunk sha256:");
	for (size_t i = 0; i < count; i++) {
		if (!find_missing(client, &chunks[i], 1))
			continue;
		send_blob(client, spans[i]);
		sent += spans[i].size;
	}
	assert_true(sent > 0 && sent < 5000000);
	answer = ask_method(client, REAPI_SPLICE, splice(&digest, chunks, count));
	if (answer.status != GRPC_OK)
		fail_msg("%s", answer.text);
	answer_fini(&answer);
	assert_int_equal(find_missing(client, &digest, 1), 0);
	assert_blob(&digest, buffer_span(&blob));
	buffer_fini(&blob);
}

static void a_splice_that_lies_is_refused(void **state)
{
	static struct digest chunks[CHUNKS_MAX];
	static struct span spans[CHUNKS_MAX];
	struct buffer blob = noise(9000000, 50);
	struct digest digest = digest_made(buffer_span(&blob)), swap;
	size_t count = cut(buffer_span(&blob), chunks, spans);
	struct answer answer;

	for (size_t i = 0; i < count; i++)
		send_blob(client, spans[i]);
	ask_refused(client, REAPI_SPLICE, splice(&digest, chunks, count - 1), GRPC_INVALID_ARGUMENT, "sum up");
	swap = chunks[0];
	chunks[0] = chunks[1];
	chunks[1] = swap;
	ask_refused(client, REAPI_SPLICE, splice(&digest, chunks, count), GRPC_INVALID_ARGUMENT, "together are sha256:");
	assert_int_equal(find_missing(client, &digest, 1), 1);
	chunks[1] = chunks[0];
	chunks[0] = swap;
	/* A short one becomes a record. */
	blob.size = chunks[0].size + chunks[1].size;
	assert_true(blob.size <= 4u << 20);
	swap = digest_made(buffer_span(&blob));
	answer = ask_method(client, REAPI_SPLICE, splice(&swap, chunks, 2));
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	assert_blob(&swap, buffer_span(&blob));
	buffer_fini(&blob);
}

static bool is_committed(struct gateway_parts *parts, void *context)
{
	struct store_status status;

	store_status(parts->store, &status);
	return status.pending_blobs == 0;
}

static void close_budget(struct gateway_parts *parts, void *context)
{
	parts->reapi.uploads.max = 0;
}

static void open_budget(struct gateway_parts *parts, void *context)
{
	struct budget_share share = { .bytes = 1 };

	parts->reapi.uploads.max = REAPI_UPLOAD_BYTES;
	parts->reapi.uploads.used++;
	budget_leave(&parts->reapi.uploads, &share);
}

static bool someone_waits(struct gateway_parts *parts, void *context)
{
	return !list_empty(&parts->reapi.uploads.waiting);
}

/*
 * The caller has left. The last chunk comes from the disk and fills a part of the recipe, which is there already, in memory: it
 * is put, what is wrong is found and the call is gone, all from inside the read's completion.
 */
static void a_lie_may_be_found_when_nobody_is_there_any_more(void **state)
{
	struct buffer chunks[2] = { noise(150, 55), noise(150, 56) }, others = noise(12u << 20, 57), part,
	              request = buffer_heap(4u << 20);
	struct digest last = send_blob(client, buffer_span(&chunks[1])), first = digest_made(buffer_span(&chunks[0])),
	              other = digest_made(buffer_span(&others)), liar = first, part_digest;
	struct recipe_maker maker;
	struct client_call *call;
	size_t count = 0;

	recipe_maker_init(&maker, PROFILE_REAPI);
	for (int made = RECIPE_MAKER_NONE; made == RECIPE_MAKER_NONE; count++)
		made = recipe_maker_add(&maker, &first, &part, &part_digest);
	recipe_maker_fini(&maker);
	liar.size = count * first.size;
	assert_true(pair_wanted(&liar));
	message_put_digest(&request, 2, &liar);
	for (size_t i = 0; i < count; i++)
		message_put_digest(&request, 3, i + 1 < count ? &first : &last);
	pb_put_varint(&request, 5, REAPI_FAST_CDC_2020);
	write_blob(&other, buffer_span(&others));        /* takes the last chunk's place in memory */
	gateway_thread_until(gateway, is_committed, NULL);
	gateway_thread_call(gateway, close_budget, NULL);
	assert_int_equal(client_call_open(&call, client, REAPI_SPLICE, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	client_send_end(call);
	client_run_until(client, gateway, someone_waits, NULL);
	client_call_close(call);
	send_blob(client, buffer_span(&part));           /* on the same connection: it has heard of the end by then */
	send_blob(client, buffer_span(&chunks[0]));
	gateway_thread_call(gateway, open_budget, NULL);
	gateway_thread_until(gateway, is_idle, NULL);
	assert_int_equal(find_missing(client, &liar, 1), 1);
	buffer_fini(&request);
	buffer_fini(&others);
	buffer_fini(&part);
	buffer_fini(&chunks[0]);
	buffer_fini(&chunks[1]);
}

/* ---- trees ---- */

static struct digest put_directory(const struct digest *children, size_t count, unsigned id)
{
	struct buffer directory = buffer_heap(1u << 20);
	struct digest digest;

	for (size_t i = 0; i < count; i++) {
		size_t mark = pb_begin(&directory, 2);
		char child[32];

		snprintf(child, sizeof(child), "d%u-%zu", id, i);
		pb_put_text(&directory, 1, child);
		message_put_digest(&directory, 2, &children[i]);
		pb_end(&directory, mark);
	}
	if (count == 0)                          /* a symlink: makes it one of its own */
		pb_put_bytes(&directory, 3, span_make(&id, sizeof(id)));
	digest = send_blob(client, buffer_span(&directory));
	buffer_fini(&directory);
	return digest;
}

static struct buffer request_tree(const struct digest *root, int32_t page, const char *token)
{
	struct buffer request = buffer_heap(4096);

	message_put_digest(&request, 2, root);
	pb_put_varint(&request, 3, (uint64_t)page);
	pb_put_text(&request, 4, token);
	return request;
}

/* The messages of a stream lie one after the other: their fields together are the directories of all pages. */
static size_t directories_of(const struct answer *answer, size_t *pages)
{
	struct pb_reader reader = pb_reader_make(buffer_span(&answer->body));
	struct pb_field field;
	size_t count = 0;

	*pages = 1;
	while (pb_next(&reader, &field)) {
		count += field.number == 1;
		*pages += field.number == 2;
	}
	return count;
}

static void a_tree_comes_in_pages_each_directory_once(void **state)
{
	struct digest leaves[7], middles[3], root, gone = { .size = 10 };
	struct answer answer;
	size_t pages;

	for (unsigned i = 0; i < 6; i++)
		leaves[i] = put_directory(NULL, 0, i);
	leaves[6] = gone;
	middles[0] = put_directory(leaves, 4, 10);
	middles[1] = put_directory(leaves + 2, 5, 11);   /* shares two, and names one that is not there */
	middles[2] = middles[0];
	root = put_directory(middles, 3, 12);
	answer = ask_method(client, REAPI_GET_TREE, request_tree(&root, 2, ""));
	assert_int_equal(answer.status, GRPC_OK);
	assert_int_equal(directories_of(&answer, &pages), 9);
	assert_true(pages >= 5);
	answer_fini(&answer);
	answer = ask_method(client, REAPI_GET_TREE, request_tree(&root, 0, "4"));
	assert_int_equal(directories_of(&answer, &pages), 5);
	answer_fini(&answer);
	ask_refused(client, REAPI_GET_TREE, request_tree(&gone, 0, ""), GRPC_NOT_FOUND, "root");
	ask_refused(client, REAPI_GET_TREE, request_tree(&root, 0, "x"), GRPC_INVALID_ARGUMENT, "page token");
}

/* 20 levels of a directory that names the one below 100 times: 100^20 paths, 20 directories. */
static void a_tree_bomb_is_as_small_as_what_it_holds(void **state)
{
	struct digest below[100], level = put_directory(NULL, 0, 99);
	struct answer answer;
	size_t pages;

	for (unsigned depth = 0; depth < 20; depth++) {
		for (int i = 0; i < 100; i++)
			below[i] = level;
		level = put_directory(below, 100, 100 + depth);
	}
	answer = ask_method(client, REAPI_GET_TREE, request_tree(&level, 0, ""));
	assert_int_equal(answer.status, GRPC_OK);
	assert_int_equal(directories_of(&answer, &pages), 21);
	answer_fini(&answer);
}

/* ---- who sees what ---- */

static void instances_and_rights_are_kept_apart(void **state)
{
	struct client *reader = gateway_thread_client(gateway, "reader"), *writer = gateway_thread_client(gateway, "writer");
	struct span blob = span_text("whose is it");
	struct digest digest = digest_made(blob);
	struct buffer request = buffer_heap(4096);
	struct answer answer;

	send_blob(writer, blob);
	assert_int_equal(find_missing(reader, &digest, 1), 0);
	assert_int_equal(find_missing(client, &digest, 1), 1);           /* another tenant */
	answer = ask_method(writer, REAPI_FIND_MISSING, request_find(&digest, 1, "team/a"));
	assert_int_equal(answer.status, GRPC_OK);
	assert_true(answer.body.size > 0);
	answer_fini(&answer);
	ask_refused(reader, REAPI_BATCH_UPDATE, request_update(&digest, &blob, 1, false), GRPC_PERMISSION_DENIED, "write");
	message_put_digest(&request, 2, &digest);
	ask_refused(writer, REAPI_UPDATE_RESULT, request, GRPC_PERMISSION_DENIED, "commit");
	client_close(reader);
	client_close(writer);
}

static void services_are_listed(void **state)
{
	const char *const paths[] = { GRPC_REFLECTION, GRPC_REFLECTION_ALPHA };

	for (int i = 0; i < 2; i++) {
		struct buffer request = buffer_heap(100);
		struct answer answer;

		pb_put_bytes_always(&request, 7, span_text("*"));
		answer = ask_method(client, paths[i], request);
		assert_int_equal(answer.status, GRPC_OK);
		assert_non_null(memmem(answer.body.data, answer.body.size, "google.bytestream.ByteStream", 28));
		answer_fini(&answer);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capabilities_say_what_there_is),
		cmocka_unit_test(each_blob_of_a_batch_is_judged_by_itself),
		cmocka_unit_test(batches_come_compressed_and_have_bounds),
		cmocka_unit_test(batches_in_line_have_a_bound),
		cmocka_unit_test(a_batch_is_taken_as_it_comes),
		cmocka_unit_test(what_is_said_behind_the_blobs_counts),
		cmocka_unit_test(a_batch_that_does_not_come_ends),
		cmocka_unit_test(a_batch_goes_out_as_it_was_asked_for),
		cmocka_unit_test(a_batch_that_nobody_takes_ends),
		cmocka_unit_test(only_sha256_is_served),
		cmocka_unit_test(a_blob_is_split_as_clients_cut),
		cmocka_unit_test(a_change_costs_a_few_chunks),
		cmocka_unit_test(a_splice_that_lies_is_refused),
		cmocka_unit_test(a_lie_may_be_found_when_nobody_is_there_any_more),
		cmocka_unit_test(a_tree_comes_in_pages_each_directory_once),
		cmocka_unit_test(a_tree_bomb_is_as_small_as_what_it_holds),
		cmocka_unit_test(instances_and_rights_are_kept_apart),
		cmocka_unit_test(services_are_listed),
	};

	engine = argc > 1 && !strcmp(argv[1], "late") ? &index_late : NULL;
	return cmocka_run_group_tests(tests, setup, teardown);
}
