/*
 * Shows, over a real socket, what a gateway makes of deltas in a pack: blobs of one or several bases, beside plain ones and many
 * at a time; that a base which is not the tenant's own is answered exactly as one that nobody has; that what does not come out as
 * its digest says has to be sent whole, and is not kept; that bounds are
 * refused by name; that signatures are given of what is the caller's, and of
 * directories by their names; and that a call may go meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway_thread.h"
#include "proto/delta.h"
#include "proto/pb.h"
#include "requests.h"

#define OLD "the old text, which is long enough for something to be copied out of it; "
#define MANY 50

struct fixture {
	struct gateway_thread *gateway;
	struct client *client;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture->gateway = gateway_thread_start(&(struct gateway_thread_options){
		/* SHA-256 of "token-a" */
		.tokens = "a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme all\n" });
	fixture->client = gateway_thread_client(fixture->gateway, NULL);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	client_close(fixture->client);
	gateway_thread_stop(fixture->gateway, true);
	free(fixture);
	return 0;
}

struct pack {
	struct buffer request;
	size_t mark;
};

static struct pack pack_begin(void)
{
	struct pack pack = { .request = buffer_heap(5 << 20) };

	pack.mark = pb_begin(&pack.request, 3);
	return pack;
}

static struct buffer *pack_end(struct pack *pack)
{
	pb_end(&pack->request, pack->mark);
	return &pack->request;
}

/* `target` told by `bases`, which follow each other in `base`. */
static void pack_delta(struct pack *pack, const char *target, const char *base, const struct digest *bases, size_t bases_count)
{
	struct buffer edits = buffer_heap(1 << 20);
	struct digest digest = digest_of(span_text(target));

	assert_true(delta_encode(&edits, span_text(base), span_text(target)));
	delta_put(&pack->request, &digest, bases, bases_count, buffer_span(&edits));
	buffer_fini(&edits);
}

static void put_blob(struct client_call *call, const char *text)
{
	struct span blob = span_text(text);
	struct digest digest = digest_of(blob);
	struct buffer request = request_pack(&digest, &blob, 1);
	struct push_response response;

	assert_true(ask(call, &request, &response));
	assert_non_null(response.stored.data);
}

/* Sends the pack; how many blobs of it were stored. `whole`: a bit a delta. */
static uint32_t stored(struct client_call *call, struct pack *pack, uint64_t *whole)
{
	struct push_response response;
	struct push_stored told;

	assert_true(ask(call, pack_end(pack), &response));
	assert_true(message_decode(&push_stored_type, response.stored, &told));
	assert_int_equal(told.rejected.count, 0);
	*whole = 0;
	for (size_t i = 0; i < 64; i++)
		*whole |= (uint64_t)bit_list_get(told.whole, i) << i;
	return told.blobs;
}

static bool has(struct client_call *call, const char *text)
{
	struct digest digest = digest_of(span_text(text));
	struct buffer request = request_list(2, &digest, 1, false);
	struct push_response response;

	assert_true(ask(call, &request, &response));
	return answered_bit(&response, 0);
}

static void made_of_their_bases(void **state)
{
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct digest bases[2] = { digest_of(span_text(OLD "one")), digest_of(span_text(OLD "two")) };
	struct span plain = span_text("a plain one");
	struct digest digest = digest_of(plain);
	struct pack pack = pack_begin();
	uint64_t whole;

	put_blob(call, OLD "one");
	put_blob(call, OLD "two");
	pack_delta(&pack, "new: " OLD "one", OLD "one", bases, 1);
	pack_put(&pack.request, &digest, plain);
	pack_delta(&pack, OLD "two and " OLD "one", OLD "one" OLD "two", bases, 2);
	assert_int_equal(stored(call, &pack, &whole), 3);
	assert_int_equal(whole, 0);
	assert_true(has(call, "new: " OLD "one"));
	assert_true(has(call, "a plain one"));
	assert_true(has(call, OLD "two and " OLD "one"));
	client_call_close(call);
}

static void many_at_a_time(void **state)
{
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct digest base = digest_of(span_text(OLD));
	struct pack pack = pack_begin();
	char texts[MANY][200];
	uint64_t whole;

	put_blob(call, OLD);
	for (int i = 0; i < MANY; i++) {
		snprintf(texts[i], sizeof(texts[i]), "%d times %s", i, OLD);
		pack_delta(&pack, texts[i], OLD, &base, 1);
	}
	assert_int_equal(stored(call, &pack, &whole), MANY);
	assert_int_equal(whole, 0);
	for (int i = 0; i < MANY; i++)
		assert_true(has(call, texts[i]));
	client_call_close(call);
}

/* The second of three has a base that is not there. */
static uint32_t with_base(struct client_call *call, const char *base, uint64_t *whole)
{
	struct digest bases[2] = { digest_of(span_text(OLD)), digest_of(span_text(base)) };
	struct pack pack = pack_begin();

	put_blob(call, OLD);
	pack_delta(&pack, OLD "1", OLD, bases, 1);
	pack_delta(&pack, OLD "2", OLD OLD "secret", bases, 2);
	pack_delta(&pack, OLD "3", OLD, bases, 1);
	return stored(call, &pack, whole);
}

static void of_another_tenant_is_of_nobody(void **state)
{
	struct fixture *fixture = *state;
	struct client *other = gateway_thread_client(fixture->gateway, "token-a");
	struct client_call *mine = push_open(fixture->client), *theirs = push_open(other);
	uint64_t whole;

	put_blob(mine, OLD "secret");
	assert_int_equal(with_base(theirs, OLD "secret", &whole), 2);
	assert_int_equal(whole, 2);
	assert_int_equal(with_base(theirs, OLD "never", &whole), 2);
	assert_int_equal(whole, 2);
	assert_false(has(theirs, OLD "2"));
	assert_true(has(theirs, OLD "3"));
	assert_int_equal(with_base(mine, OLD "secret", &whole), 3);
	assert_int_equal(whole, 0);
	client_call_close(mine);
	client_call_close(theirs);
	client_close(other);
}

static void what_comes_out_wrong_is_sent_whole(void **state)
{
	static const char *const edits[] = { "\3abc", "\x00\x7f\x00", "\x7f", "" };
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct digest base = digest_of(span_text(OLD)), digest = digest_of(span_text("abd"));
	struct pack pack = pack_begin();
	uint64_t whole;

	put_blob(call, OLD);
	delta_put(&pack.request, &digest, &base, 1, span_text(edits[0]));        /* another digest */
	delta_put(&pack.request, &digest, &base, 1, span_make(edits[1], 3));     /* beyond the base */
	delta_put(&pack.request, &digest, &base, 1, span_text(edits[2]));        /* malformed */
	delta_put(&pack.request, &digest, &base, 1, span_text(edits[3]));        /* too short */
	delta_put(&pack.request, &digest, &digest, 1, span_text(edits[0]));      /* its own base */
	pack_delta(&pack, "abd", OLD, &base, 1);
	assert_int_equal(stored(call, &pack, &whole), 1);
	assert_int_equal(whole, 31);
	assert_true(has(call, "abd"));
	client_call_close(call);
}

static void bounds_are_refused(void **state)
{
	struct fixture *fixture = *state;
	struct digest base = digest_of(span_text(OLD)), large = { .size = SLUICE_PACK_BYTES + 1 }, half = { .size = 3 << 20 };
	struct digest long_bases[2] = { { .size = SLUICE_BASES_BYTES / 2 + 1 }, { .size = 0 } };
	struct pack pack = pack_begin();

	delta_put(&pack.request, &large, &base, 1, span_text("x"));
	expect_status(fixture->client, *pack_end(&pack), GRPC_INVALID_ARGUMENT, "malformed Pack");
	pack = pack_begin();
	large.size = UINT64_MAX >> 1;
	delta_put(&pack.request, &large, &base, 1, span_text("x"));
	expect_status(fixture->client, *pack_end(&pack), GRPC_INVALID_ARGUMENT, "malformed Pack");
	pack = pack_begin();
	delta_put(&pack.request, &half, &base, 1, span_text("x"));
	delta_put(&pack.request, &half, &base, 1, span_text("x"));
	expect_status(fixture->client, *pack_end(&pack), GRPC_INVALID_ARGUMENT, "4194304 bytes of data");
	pack = pack_begin();
	delta_put(&pack.request, &base, long_bases, 2, span_text("x"));
	delta_put(&pack.request, &base, long_bases, 2, span_text("x"));
	expect_status(fixture->client, *pack_end(&pack), GRPC_INVALID_ARGUMENT, "8388608 bytes of bases");
	pack = pack_begin();
	for (size_t i = 0; i <= SLUICE_LIST_MAX; i++)
		delta_put(&pack.request, &digest_empty, &base, 1, span_text(""));
	expect_status(fixture->client, *pack_end(&pack), GRPC_INVALID_ARGUMENT, "16384 blobs");
}

static struct buffer request_sign(const struct digest *digests, size_t count)
{
	return request_list(5, digests, count, false);
}

/* What only one tenant has is to the other as what nobody has; short blobs have no block. */
static void signatures_of_ones_own(void **state)
{
	struct fixture *fixture = *state;
	struct client *other = gateway_thread_client(fixture->gateway, "token-a");
	struct client_call *mine = push_open(fixture->client), *theirs = push_open(other);
	struct buffer text = buffer_heap(1 << 16), expected = buffer_heap(1 << 16), request;
	struct digest digests[4];
	struct push_response response;
	struct push_signed told;

	for (int i = 0; i < 40; i++)
		buffer_put_text(&text, OLD);
	buffer_put(&text, "", 1);
	put_blob(mine, (const char *)text.data);
	put_blob(mine, OLD);
	put_blob(theirs, OLD);
	digests[0] = digest_of(span_text((const char *)text.data));
	digests[1] = digest_of(span_text("nobody has this"));
	digests[2] = digest_of(span_text(OLD));
	digests[3] = digests[0];
	delta_sign(&expected, span_text((const char *)text.data));
	delta_sign(&expected, span_text((const char *)text.data));
	assert_int_equal(expected.size, 2 * delta_signature_size(text.size - 1));
	assert_true(expected.size > 0);

	request = request_sign(digests, 4);
	assert_true(ask(mine, &request, &response));
	assert_true(message_decode(&push_signed_type, response.sign, &told));
	assert_true(span_equal(told.present, span_make("\x0d", 1)));
	assert_true(span_equal(told.hashes, buffer_span(&expected)));
	request = request_sign(digests, 4);
	assert_true(ask(theirs, &request, &response));
	assert_true(message_decode(&push_signed_type, response.sign, &told));
	assert_true(span_equal(told.present, span_make("\x04", 1)));
	assert_int_equal(told.hashes.size, 0);
	client_call_close(mine);
	client_call_close(theirs);
	client_close(other);
	buffer_fini(&text);
	buffer_fini(&expected);
}

static void too_much_is_not_signed(void **state)
{
	struct fixture *fixture = *state;
	struct digest digests[2] = { { .size = SLUICE_BASES_BYTES }, { .size = 1 } };

	expect_status(fixture->client, request_sign(digests, 2), GRPC_INVALID_ARGUMENT, "8388608 bytes to be signed");
	digests[0].size = UINT64_MAX >> 1;
	expect_status(fixture->client, request_sign(digests, 2), GRPC_INVALID_ARGUMENT, "8388608 bytes to be signed");
	expect_status(fixture->client, request_sign(digests, 0), GRPC_INVALID_ARGUMENT, "digest list");
}

/* ---- directories by their names ---- */

static void put_below(struct buffer *request, const struct digest *directory, const char *const *names)
{
	uint8_t storage[48];
	struct buffer list = buffer_over(storage, sizeof(storage));
	size_t mark = pb_begin(request, 2);

	digest_list_put(&list, directory);
	pb_put_bytes(request, 1, buffer_span(&list));
	for (; *names; names++)
		pb_put_bytes_always(request, 2, span_text(*names));
	pb_end(request, mark);
}

static struct buffer request_below(const struct digest *directory, const char *const *names)
{
	struct buffer request = buffer_heap(1 << 20);
	size_t mark = pb_begin(&request, 5);

	put_below(&request, directory, names);
	pb_end(&request, mark);
	return request;
}

static void expect_names(struct client_call *call, const struct digest *directory, const char *const *names, const char *present,
                         const struct digest *digests, size_t count)
{
	struct buffer request = request_below(directory, names);
	struct push_response response;
	struct push_signed told;
	struct digest digest;

	assert_true(ask(call, &request, &response));
	assert_true(message_decode(&push_signed_type, response.sign, &told));
	assert_true(span_equal(told.present, span_text(present)));
	for (size_t i = 0; i < count; i++) {
		assert_true(digest_list_next(&told.digests, &digest));
		assert_true(digest_equal(&digest, &digests[i]));
	}
	assert_int_equal(told.digests.size, 0);
}

/* Those that are there, in the directory's order; in what is no directory, or not one's own, there are none. */
static void names_below_a_directory(void **state)
{
	struct fixture *fixture = *state;
	struct client *other = gateway_thread_client(fixture->gateway, "token-a");
	struct client_call *mine, *theirs = push_open(other);
	struct small_tree tree;

	small_tree_make(&tree, "a", "b");
	commit_whole(fixture->client, &tree);
	mine = push_open(fixture->client);
	expect_names(mine, &tree.digests[3], (const char *const[]){ "a", "not", "sub", "zzz", NULL }, "\x04", &tree.digests[2], 1);
	expect_names(mine, &tree.digests[3], (const char *const[]){ "zzz", "sub", NULL }, "", NULL, 0);
	expect_names(mine, &tree.digests[0], (const char *const[]){ "sub", NULL }, "", NULL, 0);
	expect_names(mine, &tree.digests[2], (const char *const[]){ "b", NULL }, "", NULL, 0);
	expect_names(theirs, &tree.digests[3], (const char *const[]){ "sub", NULL }, "", NULL, 0);
	client_call_close(mine);
	client_call_close(theirs);
	client_close(other);
	small_tree_free(&tree);
}

static void names_have_bounds(void **state)
{
	static const char *const one[] = { "sub", NULL }, *const none[] = { NULL };
	struct fixture *fixture = *state;
	struct digest directory = digest_of(span_text("some directory")), huge = { .size = SLUICE_BASES_BYTES + 1 };
	const char **many = calloc(SLUICE_LIST_MAX + 2, sizeof(*many));
	struct buffer request = buffer_heap(1 << 20);
	size_t mark = pb_begin(&request, 5);

	for (size_t i = 0; i <= SLUICE_LIST_MAX; i++)
		many[i] = "x";
	expect_status(fixture->client, request_below(&directory, none), GRPC_INVALID_ARGUMENT, "malformed Below");
	expect_status(fixture->client, request_below(&huge, one), GRPC_INVALID_ARGUMENT, "8388608 bytes");
	expect_status(fixture->client, request_below(&directory, many), GRPC_INVALID_ARGUMENT, "16384 names");
	pb_put_bytes_always(&request, 2, span_text("\x0a\x03xyz"));
	pb_end(&request, mark);
	expect_status(fixture->client, request, GRPC_INVALID_ARGUMENT, "malformed Below");
	free(many);
}

/* Nobody waits for the answers; stopping the gateway finds nothing left behind. */
static void calls_go_meanwhile(void **state)
{
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct digest base = digest_of(span_text(OLD));

	put_blob(call, OLD);
	client_call_close(call);
	for (int i = 0; i < 20; i++) {
		struct pack pack = pack_begin();

		call = push_open(fixture->client);
		for (int j = 0; j < MANY; j++)
			pack_delta(&pack, OLD OLD, OLD, &base, 1);
		assert_int_equal(client_send(call, buffer_span(pack_end(&pack)), 0), CLIENT_OK);
		buffer_fini(&pack.request);
		pack.request = request_sign(&base, 1);
		assert_int_equal(client_send(call, buffer_span(&pack.request), 0), CLIENT_OK);
		buffer_fini(&pack.request);
		client_call_close(call);
	}
	call = push_open(fixture->client);
	assert_true(has(call, OLD));
	client_call_close(call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(made_of_their_bases, setup, teardown),
		cmocka_unit_test_setup_teardown(many_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(of_another_tenant_is_of_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(what_comes_out_wrong_is_sent_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(bounds_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(signatures_of_ones_own, setup, teardown),
		cmocka_unit_test_setup_teardown(too_much_is_not_signed, setup, teardown),
		cmocka_unit_test_setup_teardown(names_below_a_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(names_have_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(calls_go_meanwhile, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
