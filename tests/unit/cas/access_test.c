/*
 * Shows who may do what: a call that needs a right which its token lacks is refused with PERMISSION_DENIED naming that
 * right; a push shows what is here, by deltas and signatures, to nobody who may not read; instance names are scopes of their own
 * inside a tenant; a name that is too long is refused; and a caller who is refused leaves no trace in the store, whose names are
 * kept for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway_thread.h"
#include "proto/delta.h"
#include "proto/pb.h"
#include "proto/reapi.h"
#include "requests.h"

/* SHA-256 of token-r, token-rw, token-rwc, token-w and token-a. */
static const char tokens[] =
	"818c62b7e9a857d7a81a474c0b025f6b20d3f44bb9c4d7a704ddedfe9ed16652 acme read\n"
	"5f07366f4a194c4f4160fe1027f7075b5bdae62eeea3c7c635c35ad1f8f6e2e9 acme read,write\n"
	"fc40ab25b39ab37219515e886a062001aec2d59a6dd3c0db51c43f0a84bbdba1 acme read,write,commit\n"
	"4a536c72c1a37be0f574587baf2b486d5edcd3168e25913f4806b4f4e870bdba acme write\n"
	"a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme all\n";

static int setup(void **state)
{
	*state = gateway_thread_start(&(struct gateway_thread_options){ .tokens = tokens, .executors = true });
	return 0;
}

static int teardown(void **state)
{
	gateway_thread_stop(*state, true);
	return 0;
}

/* A call with one message: what it ends with. */
static void expect_call(struct client *client, const char *path, enum grpc_status status, const char *says)
{
	struct client_call *call;
	struct span message;
	const char *text;

	assert_int_equal(client_call_open(&call, client, path, NULL, 0), 0);
	client_send(call, span_text(""), 0);
	client_send_end(call);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), status);
	if (!strstr(text, says))
		fail_msg("%s: \"%s\" does not say \"%s\"", path, text, says);
	client_call_close(call);
}

static void a_missing_right_is_named(void **state)
{
	static const struct {
		const char *token, *path, *right;
	} refused[] = {
		{ "token-r", SLUICE_PUSH, "right to write" },
		{ "token-r", SLUICE_PIN, "right to commit" },
		{ "token-r", REAPI_EXECUTE, "right to write" },
		{ "token-w", SLUICE_FETCH, "right to read" },
		{ "token-rw", SLUICE_PIN, "right to commit" },
		{ "token-rw", REAPI_EXECUTE, "right to execute" },
		{ "token-rwc", REAPI_EXECUTE, "right to execute" },
	};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct client *client = gateway_thread_client(*state, refused[i].token);

		expect_call(client, refused[i].path, GRPC_PERMISSION_DENIED, refused[i].right);
		client_close(client);
	}
}

static void writing_is_not_committing(void **state)
{
	struct client *writer = gateway_thread_client(*state, "token-rw"), *committer = gateway_thread_client(*state, "token-rwc");
	struct push_response response;
	struct client_call *call;
	struct small_tree tree;
	struct buffer request;

	small_tree_make(&tree, "rights a", "rights b");
	call = push_open(writer);
	request = request_pack(tree.digests, tree.blobs, 4);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.stored.data);
	client_call_close(call);
	expect_status(writer, request_list(4, &tree.digests[3], 1, false), GRPC_PERMISSION_DENIED, "right to commit");
	commit_whole(committer, &tree);
	/* Nor does the short way, an offer that commits what is whole: the answer is only that it is. */
	call = push_open(writer);
	request = request_list(1, &tree.digests[3], 1, true);
	assert_true(ask(call, &request, &response));
	assert_true(answered_bit(&response, 0));
	client_call_close(call);
	client_close(writer);
	client_close(committer);
	small_tree_free(&tree);
}

/* Whether one byte of a blob that is here is `guess`: a delta says so, by what it makes. */
static bool delta_is_made(struct client_call *call, const struct digest *base, const char *guess)
{
	struct digest digest = digest_of(span_text(guess));
	struct buffer request = buffer_heap(1 << 16);
	size_t mark = pb_begin(&request, 3);
	struct push_response response;
	struct push_stored stored;

	delta_put(&request, &digest, base, 1, span_make("\x00\x01\x00", 3));   /* nothing given, a byte copied from the beginning */
	pb_end(&request, mark);
	assert_true(ask(call, &request, &response));
	assert_true(message_decode(&push_stored_type, response.stored, &stored));
	assert_int_equal(stored.blobs, !bit_list_get(stored.whole, 0));
	return stored.blobs == 1;
}

static struct buffer request_below(const struct digest *directory, const char *name)
{
	struct buffer request = buffer_heap(1 << 16), list = buffer_heap(64);
	size_t mark = pb_begin(&request, 5), inner = pb_begin(&request, 2);

	digest_list_put(&list, directory);
	pb_put_bytes(&request, 1, buffer_span(&list));
	pb_put_bytes(&request, 2, span_text(name));
	pb_end(&request, inner);
	pb_end(&request, mark);
	buffer_fini(&list);
	return request;
}

static bool is_signed(struct client_call *call, struct buffer request)
{
	struct push_response response;
	struct push_signed told;

	assert_true(ask(call, &request, &response));
	assert_true(message_decode(&push_signed_type, response.sign, &told));
	assert_int_equal(told.hashes.size + told.digests.size > 0, bit_list_get(told.present, 0));
	return bit_list_get(told.present, 0);
}

static void writing_is_not_reading(void **state)
{
	struct client *owner = gateway_thread_client(*state, "token-rwc");
	struct small_tree tree;
	char secret[DELTA_BLOCK_BYTES + 1];

	memset(secret, 's', DELTA_BLOCK_BYTES);
	secret[DELTA_BLOCK_BYTES] = 0;
	small_tree_make(&tree, secret, "b");
	commit_whole(owner, &tree);
	for (int reads = 0; reads <= 1; reads++) {
		struct client *client = gateway_thread_client(*state, reads ? "token-rw" : "token-w");
		struct client_call *call = push_open(client);

		assert_int_equal(delta_is_made(call, &tree.digests[1], "s"), reads);
		assert_false(delta_is_made(call, &tree.digests[1], "t"));
		assert_int_equal(is_signed(call, request_list(5, &tree.digests[1], 1, false)), reads);
		assert_int_equal(is_signed(call, request_below(&tree.digests[3], "sub")), reads);
		client_call_close(call);
		client_close(client);
	}
	client_close(owner);
	small_tree_free(&tree);
}

static void instances_are_scopes(void **state)
{
	struct client *one = gateway_thread_client_of(*state, "token-a", "one");
	struct client *two = gateway_thread_client_of(*state, "token-a", "two");
	struct client *none = gateway_thread_client(*state, "token-a");
	struct push_response response;
	struct small_tree tree;

	small_tree_make(&tree, "instance a", "instance b");
	commit_whole(one, &tree);
	for (int i = 0; i < 3; i++) {
		struct client_call *call = push_open(i == 0 ? one : i == 1 ? two : none);
		struct buffer request = request_list(2, tree.digests, 4, false);

		assert_true(ask(call, &request, &response));
		for (size_t j = 0; j < 4; j++)
			assert_int_equal(answered_bit(&response, j), i == 0);
		request = request_list(1, &tree.digests[3], 1, true);
		assert_true(ask(call, &request, &response));
		assert_int_equal(response.committed.data != NULL, i == 0);
		client_call_close(call);
	}
	client_close(one);
	client_close(two);
	client_close(none);
	small_tree_free(&tree);
}

static bool scopes_file_has(struct gateway_thread *gateway, const char *hex)
{
	static char content[65536];
	char path[256];
	size_t size;
	FILE *file;

	snprintf(path, sizeof(path), "%s/scopes", gateway_thread_path(gateway));
	file = fopen(path, "r");
	assert_non_null(file);
	size = fread(content, 1, sizeof(content) - 1, file);
	fclose(file);
	content[size] = 0;
	return strstr(content, hex) != NULL;
}

static void the_refused_leave_no_name(void **state)
{
	struct client *refused = gateway_thread_client_of(*state, "token-r", "xyzzy-r");
	struct client *taken = gateway_thread_client_of(*state, "token-rw", "xyzzy-w");
	struct digest digest = digest_of(span_text("x"));
	struct client_call *call = push_open(taken);
	struct buffer request = request_list(2, &digest, 1, false);
	struct push_response response;

	expect_call(refused, SLUICE_PUSH, GRPC_PERMISSION_DENIED, "right to write");
	assert_true(ask(call, &request, &response));
	assert_false(scopes_file_has(*state, "78797a7a792d72"));
	assert_true(scopes_file_has(*state, "78797a7a792d77"));
	client_call_close(call);
	client_close(refused);
	client_close(taken);
}

/* Who only fetches makes no instance of a name: what he asks for is not there. */
static void a_question_leaves_no_name(void **state)
{
	struct client *client = gateway_thread_client_of(*state, "token-a", "nowhere");

	expect_call(client, SLUICE_FETCH, GRPC_INVALID_ARGUMENT, "");       /* it asks for nothing */
	assert_false(scopes_file_has(*state, "6e6f7768657265"));
	client_close(client);
}

static void a_long_instance_name_is_refused(void **state)
{
	struct client *client;
	char name[300];

	memset(name, 'i', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	client = gateway_thread_client_of(*state, "token-a", name);
	expect_call(client, SLUICE_PUSH, GRPC_INVALID_ARGUMENT, "longer than 255");
	client_close(client);
	name[255] = 0;
	client = gateway_thread_client_of(*state, "token-a", name);
	expect_call(client, SLUICE_PUSH, GRPC_INVALID_ARGUMENT, "empty PushRequest");      /* so the name was taken */
	client_close(client);
}

static void nobody_else_attaches_or_executes_unasked(void **state)
{
	struct gateway_thread *closed = gateway_thread_start(&(struct gateway_thread_options){ .executors = false });
	struct client *client = gateway_thread_client(closed, NULL);

	expect_call(client, SLUICE_ATTACH, GRPC_PERMISSION_DENIED, "executor host");
	expect_call(client, REAPI_EXECUTE, GRPC_FAILED_PRECONDITION, "no executors: it is a test");
	client_close(client);
	gateway_thread_stop(closed, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_right_is_named),
		cmocka_unit_test(writing_is_not_committing),
		cmocka_unit_test(writing_is_not_reading),
		cmocka_unit_test(instances_are_scopes),
		cmocka_unit_test(a_question_leaves_no_name),
		cmocka_unit_test(the_refused_leave_no_name),
		cmocka_unit_test(a_long_instance_name_is_refused),
		cmocka_unit_test(nobody_else_attaches_or_executes_unasked),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
