/*
 * Shows that a long blob is split into chunks that are there, and spliced from chunks once they are verified to be it, so that a
 * small change costs a few chunks; that a splice that lies is refused; and that one that is answered keeps no memory. With an
 * index that answers late when started with "late".
 */
#include "tests/unit/reapi/blobs_rig.h"

#include <stdlib.h>
#include <string.h>

#include "chunker/profile.h"
#include "gateway/cas/pair.h"
#include "gateway/cas/recipe_maker.h"
#include "proto/pb.h"

#define CHUNKS_MAX 400

static char name[512], text[512];

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
	struct buffer request = buffer_heap(5u << 20);

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

static void take_memory(struct gateway_parts *parts, void *context)
{
	parts->reapi.downloads.used += parts->reapi.downloads.max;
}

static void give_memory(struct gateway_parts *parts, void *context)
{
	struct budget_share share = { .bytes = parts->reapi.downloads.max };

	budget_leave(&parts->reapi.downloads, &share);
}

/* Who may only read is told what is known, and makes nothing be written; for what needs no memory he waits for none. */
static void a_reader_is_told_what_is_known(void **state)
{
	struct client *reader = gateway_thread_client(gateway, "reader"), *writer = gateway_thread_client(gateway, "writer");
	const size_t sizes[] = { 1000, 3500000, 9000000 };

	for (size_t i = 0; i < 3; i++) {
		struct buffer blob = noise(sizes[i], 60 + (uint32_t)i), requests[2];
		struct digest digest = digest_made(buffer_span(&blob));
		struct answer answer;
		int64_t committed;

		assert_int_equal(write_all(writer, resource_name(name, sizeof(name), "w", false, &digest), buffer_span(&blob), 3u << 20,
		                           &committed, text, sizeof(text)), GRPC_OK);
		for (size_t j = 0; j < 2; j++) {
			requests[j] = buffer_heap(4096);
			message_put_digest(&requests[j], 2, &digest);
		}
		if (i < 2)
			gateway_thread_call(gateway, take_memory, NULL);
		answer = ask_method(reader, REAPI_SPLIT, requests[0]);
		if (i < 2)
			gateway_thread_call(gateway, give_memory, NULL);
		assert_int_equal(answer.status, i == 1 ? GRPC_NOT_FOUND : GRPC_OK);
		assert_true(i != 1 || strstr(answer.text, "no split information"));
		answer_fini(&answer);
		answer = ask_method(writer, REAPI_SPLIT, requests[1]);
		assert_int_equal(answer.status, GRPC_OK);
		answer_fini(&answer);
		buffer_fini(&blob);
	}
	client_close(reader);
	client_close(writer);
}

/* Clients have room for chunks of 2 MiB, as Capabilities say; a splice may be made of longer ones, and is a blob all the same. */
static void longer_chunks_are_not_told(void **state)
{
	struct buffer blob = noise(6000000, 70), request = buffer_heap(4096);
	struct span spans[2] = { span_make(blob.data, 3000000), span_make(blob.data + 3000000, 3000000) };
	struct digest digest = digest_made(buffer_span(&blob)), chunks[2];
	struct answer answer;

	for (int i = 0; i < 2; i++)
		chunks[i] = send_blob(client, spans[i]);
	answer = ask_method(client, REAPI_SPLICE, splice(&digest, chunks, 2));
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	message_put_digest(&request, 2, &digest);
	ask_refused(client, REAPI_SPLIT, request, GRPC_NOT_FOUND, "no split information");
	assert_blob(&digest, buffer_span(&blob));
	buffer_fini(&blob);
}

/* A list that is longer than what clients take is not sent: they would end the call. */
static void longer_lists_are_not_told(void **state)
{
	enum { PIECES = 60000, PIECE_BYTES = 100 };
	struct buffer blob = buffer_heap(PIECES * PIECE_BYTES), request = buffer_heap(4096), piece = noise(PIECE_BYTES, 71);
	struct digest digest, chunk = send_blob(client, buffer_span(&piece)), *chunks = malloc(PIECES * sizeof(*chunks));
	struct answer answer;

	for (size_t i = 0; i < PIECES; i++) {
		buffer_put(&blob, piece.data, piece.size);
		chunks[i] = chunk;
	}
	digest = digest_made(buffer_span(&blob));
	answer = ask_method(client, REAPI_SPLICE, splice(&digest, chunks, PIECES));
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	message_put_digest(&request, 2, &digest);
	ask_refused(client, REAPI_SPLIT, request, GRPC_NOT_FOUND, "no split information");
	assert_blob(&digest, buffer_span(&blob));
	free(chunks);
	buffer_fini(&piece);
	buffer_fini(&blob);
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

struct splices {
	uint64_t count;                  /* that went well */
	uint64_t held;                   /* bytes of uploads' memory */
	unsigned open;
};

static void get_splices(struct gateway_parts *parts, void *context)
{
	*(struct splices *)context = (struct splices){
		.count = parts->reapi.counters.splices, .held = parts->reapi.uploads.used, .open = parts->reapi.open,
	};
}

static bool has_spliced(struct gateway_parts *parts, void *context)
{
	return parts->reapi.counters.splices > *(uint64_t *)context;
}

static void splice_untaken(const struct digest *digest, const struct digest *chunks, size_t count, const struct digest *unread)
{
	struct buffer request = splice(digest, chunks, count);
	struct client *other;
	struct client_call *call;
	struct splices splices;

	gateway_thread_until(gateway, blobs_are_idle, NULL);
	other = full_client(gateway, unread);
	gateway_thread_call(gateway, get_splices, &splices);
	assert_int_equal(client_call_open(&call, other, REAPI_SPLICE, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	client_send_end(call);
	client_run_until(other, gateway, has_spliced, &splices.count);
	gateway_thread_call(gateway, get_splices, &splices);
	assert_int_equal(splices.open, FULL_CLIENT_READS + 1);   /* its answer is still to be taken */
	assert_int_equal(splices.held, 0);
	client_close(other);
	buffer_fini(&request);
}

/* Of a pair and of a record: what all uploads share is given back with the answer, not when somebody has taken it. */
static void an_answer_that_nobody_takes_keeps_no_memory(void **state)
{
	static struct digest chunks[CHUNKS_MAX];
	static struct span spans[CHUNKS_MAX];
	struct buffer blob = noise(9000000, 51), others = noise(9000000, 52);
	struct digest digest = digest_made(buffer_span(&blob)), unread = digest_made(buffer_span(&others));
	size_t count = cut(buffer_span(&blob), chunks, spans);

	write_blob(&unread, buffer_span(&others));
	for (size_t i = 0; i < count; i++)
		send_blob(client, spans[i]);
	splice_untaken(&digest, chunks, count, &unread);
	digest = digest_made(span_make(blob.data, chunks[0].size + chunks[1].size));
	splice_untaken(&digest, chunks, 2, &unread);
	buffer_fini(&blob);
	buffer_fini(&others);
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
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	assert_int_equal(find_missing(client, &liar, 1), 1);
	buffer_fini(&request);
	buffer_fini(&others);
	buffer_fini(&part);
	buffer_fini(&chunks[0]);
	buffer_fini(&chunks[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_blob_is_split_as_clients_cut),
		cmocka_unit_test(a_reader_is_told_what_is_known),
		cmocka_unit_test(longer_chunks_are_not_told),
		cmocka_unit_test(longer_lists_are_not_told),
		cmocka_unit_test(a_change_costs_a_few_chunks),
		cmocka_unit_test(a_splice_that_lies_is_refused),
		cmocka_unit_test(an_answer_that_nobody_takes_keeps_no_memory),
		cmocka_unit_test(a_lie_may_be_found_when_nobody_is_there_any_more),
	};

	return blobs_run(argc, argv, tests);
}
