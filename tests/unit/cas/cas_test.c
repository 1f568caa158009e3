/*
 * Shows, over a real socket and the real client, what Push and Fetch promise: blobs are checked and kept, a wrong digest is
 * named while the others of its pack stay, a commit with a hole names what is missing and where, a whole root is committed and
 * marked, an unchanged root costs one answer, one of another size is none, tenants do not see each other, and malformed requests are refused by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gateway_thread.h"
#include "proto/pb.h"
#include "proto/recipe.h"
#include "proto/tree.h"
#include "requests.h"

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

static void commit_and_offer_again(void **state)
{
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct push_response response;
	struct small_tree tree;
	struct buffer request;
	struct digest longer;

	small_tree_make(&tree, "content a", "content b");
	request = request_list(1, &tree.digests[3], 1, true);
	assert_true(ask(call, &request, &response));
	assert_false(answered_bit(&response, 0));
	commit_whole(fixture->client, &tree);
	request = request_list(1, &tree.digests[3], 1, true);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.committed.data);
	longer = tree.digests[3];
	longer.size++;
	request = request_list(1, &longer, 1, true);
	assert_true(ask(call, &request, &response));
	assert_false(answered_bit(&response, 0));
	request = request_list(4, &longer, 1, false);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.missing.data);
	request = request_list(2, tree.digests, 4, false);
	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < 4; i++)
		assert_true(answered_bit(&response, i));
	client_call_close(call);
	small_tree_free(&tree);
}

static void a_hole_is_named(void **state)
{
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct push_response response;
	struct push_missing missing;
	struct message_cursor cursor = { 0 };
	struct small_tree tree;
	struct buffer request;
	struct digest found;
	struct span path;

	small_tree_make(&tree, "hole a", "hole b");
	request = request_pack(tree.digests + 1, tree.blobs + 1, 3);      /* all but sub/b */
	assert_true(ask(call, &request, &response));
	request = request_list(4, &tree.digests[3], 1, false);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.missing.data);
	assert_true(message_decode(&push_missing_type, response.missing, &missing));
	assert_int_equal(missing.count, 1);
	assert_true(digest_list_next(&missing.blobs, &found));
	assert_true(digest_equal(&found, &tree.digests[0]));
	assert_true(message_list_next(&missing.paths, &cursor, &path));
	assert_true(span_is(path, "sub/b"));
	/* Refused means not marked whole, and the same stream may mend it. */
	request = request_list(1, &tree.digests[3], 1, true);
	assert_true(ask(call, &request, &response));
	assert_false(answered_bit(&response, 0));
	request = request_pack(tree.digests, tree.blobs, 1);
	assert_true(ask(call, &request, &response));
	request = request_list(4, &tree.digests[3], 1, false);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.committed.data);
	client_call_close(call);
	small_tree_free(&tree);
}

static void a_wrong_digest_is_named_and_the_rest_kept(void **state)
{
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct span blobs[3] = { span_text("right one"), span_text("wrong one"), span_text("right two") };
	struct digest digests[3] = { digest_of(blobs[0]), digest_of(span_text("wrong 0ne")), digest_of(blobs[2]) };
	struct digest actual = digest_of(blobs[1]), found;
	struct push_response response;
	struct push_stored stored;
	struct push_rejected rejected;
	struct message_cursor cursor = { 0 };
	struct buffer request = request_pack(digests, blobs, 3);
	struct span element;

	assert_true(ask(call, &request, &response));
	assert_true(message_decode(&push_stored_type, response.stored, &stored));
	assert_int_equal(stored.blobs, 2);
	assert_int_equal(stored.rejected.count, 1);
	assert_true(message_list_next(&stored.rejected, &cursor, &element));
	assert_true(message_decode(&push_rejected_type, element, &rejected));
	assert_true(digest_list_next(&rejected.expected, &found) && digest_equal(&found, &digests[1]));
	assert_true(digest_list_next(&rejected.actual, &found) && digest_equal(&found, &actual));
	request = request_list(2, digests, 3, false);
	assert_true(ask(call, &request, &response));
	assert_true(answered_bit(&response, 0));
	assert_false(answered_bit(&response, 1));
	assert_true(answered_bit(&response, 2));
	client_call_close(call);
}

static void fetched_in_the_order_asked(void **state)
{
	struct fixture *fixture = *state;
	struct small_tree tree;
	struct digest asked[4];
	struct client_call *call;
	struct buffer list = buffer_heap(4096), request = buffer_heap(4096);
	struct packed_blob blob;
	struct span message;
	bool failed = false;

	small_tree_make(&tree, "fetch a", "fetch b");
	commit_whole(fixture->client, &tree);
	asked[0] = tree.digests[3];
	asked[1] = digest_of(span_text("nobody has this"));
	asked[2] = tree.digests[0];
	asked[3] = digest_empty;
	for (size_t i = 0; i < 4; i++)
		digest_list_put(&list, &asked[i]);
	pb_put_bytes(&request, 1, buffer_span(&list));
	assert_int_equal(client_call_open(&call, fixture->client, SLUICE_FETCH, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	assert_true(fetched_next(&message, &blob, &failed) && span_equal(blob.data, tree.blobs[3]));
	assert_true(fetched_next(&message, &blob, &failed) && blob.fault == FETCH_MISSING);
	assert_true(fetched_next(&message, &blob, &failed) && span_equal(blob.data, tree.blobs[0]));
	assert_true(fetched_next(&message, &blob, &failed) && blob.data.size == 0 && blob.fault == FETCH_OK);
	assert_false(fetched_next(&message, &blob, &failed));
	client_call_close(call);
	buffer_fini(&list);
	buffer_fini(&request);
	small_tree_free(&tree);
}

static void large_files_by_recipe(void **state)
{
	struct fixture *fixture = *state;
	struct client_call *call = push_open(fixture->client);
	struct buffer recipe = buffer_heap(1 << 20), root = buffer_heap(1 << 16), request;
	struct tree_directory directory = { .mode = 0755 };
	struct tree_node node = { .kind = TREE_FILE, .name = span_text("big"), .mode = 0644, .recipe = true, .file_size = 200000 };
	uint8_t *data = calloc(1, 200000);
	struct span blobs[4] = { span_make(data, 100000), span_make(data + 100000, 100000) };
	struct push_response response;
	struct push_missing missing;
	struct digest digests[4];

	memset(data, 1, 100000);
	for (size_t i = 0; i < 2; i++)
		digests[i] = digest_of(blobs[i]);
	recipe_begin(&recipe, &(struct recipe_head){ .profile = 1, .file_size = 200000 });
	recipe_add(&recipe, &digests[0]);
	recipe_add(&recipe, &digests[1]);
	blobs[2] = buffer_span(&recipe);
	digests[2] = node.digest = digest_of(blobs[2]);
	assert_int_equal(tree_encode(&root, &directory, &node, 1), 0);
	blobs[3] = buffer_span(&root);
	digests[3] = digest_of(blobs[3]);
	request = request_pack(digests + 1, blobs + 1, 3);
	assert_true(ask(call, &request, &response));
	request = request_list(4, &digests[3], 1, false);
	assert_true(ask(call, &request, &response));
	assert_true(message_decode(&push_missing_type, response.missing, &missing));
	assert_int_equal(missing.count, 1);
	request = request_pack(digests, blobs, 1);
	assert_true(ask(call, &request, &response));
	request = request_list(4, &digests[3], 1, false);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.committed.data);
	client_call_close(call);
	buffer_fini(&recipe);
	buffer_fini(&root);
	free(data);
}

static void tenants_do_not_see_each_other(void **state)
{
	struct fixture *fixture = *state;
	struct client *other = gateway_thread_client(fixture->gateway, "token-a");
	struct client_call *call;
	struct push_response response;
	struct small_tree tree;
	struct buffer request;

	small_tree_make(&tree, "tenant a", "tenant b");
	commit_whole(fixture->client, &tree);
	call = push_open(other);
	request = request_list(2, tree.digests, 4, false);
	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < 4; i++)
		assert_false(answered_bit(&response, i));
	request = request_list(1, &tree.digests[3], 1, true);
	assert_true(ask(call, &request, &response));
	assert_false(answered_bit(&response, 0));
	client_call_close(call);
	commit_whole(other, &tree);
	client_close(other);
	small_tree_free(&tree);
}

static void malformed_requests_are_refused(void **state)
{
	struct fixture *fixture = *state;
	struct buffer request = buffer_heap(4096);
	struct small_tree tree;
	struct digest root;

	pb_put_bytes_always(&request, 9, span_text("?"));
	expect_status(fixture->client, request, GRPC_INVALID_ARGUMENT, "one of offer, query, pack, commit");
	request = buffer_heap(4096);
	buffer_put_text(&request, "\x0a\x7f");
	expect_status(fixture->client, request, GRPC_INVALID_ARGUMENT, "malformed");
	request = request_list(1, NULL, 0, false);
	expect_status(fixture->client, request, GRPC_INVALID_ARGUMENT, "digest list");

	/* A root that is there but is no Directory. */
	small_tree_make(&tree, "no directory", "x");
	commit_whole(fixture->client, &tree);
	root = tree.digests[1];
	expect_status(fixture->client, request_list(4, &root, 1, false), GRPC_INVALID_ARGUMENT, "sha256:");
	small_tree_free(&tree);
}

static void an_unknown_token_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = gateway_thread_client(fixture->gateway, "token-unknown");
	struct digest digest = digest_of(span_text("x"));

	expect_status(client, request_list(2, &digest, 1, false), GRPC_UNAUTHENTICATED, "");
	client_close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(commit_and_offer_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hole_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wrong_digest_is_named_and_the_rest_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(fetched_in_the_order_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(large_files_by_recipe, setup, teardown),
		cmocka_unit_test_setup_teardown(tenants_do_not_see_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(malformed_requests_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(an_unknown_token_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
