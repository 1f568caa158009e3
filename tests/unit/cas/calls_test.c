/*
 * Shows that each bound of a request is refused with its code and its name: messages, lists, packs, commits, calls at a time, of all and of
 * one tenant, and pins of what is not whole; and that up to it all is taken. calls_leave_test.c and
 * calls_still_test.c have how calls come to an end.
 */
#include "calls_rig.h"

#include <stdlib.h>

#include "gateway/cas/open_call.h"
#include "proto/pb.h"

static void a_message_has_a_bound(void **state)
{
	struct buffer request = buffer_heap(8 << 20);
	static uint8_t zeros[SLUICE_MESSAGE_BYTES_MAX];

	pb_put_bytes(&request, 3, span_make(zeros, sizeof(zeros)));
	expect_status(client, request, GRPC_RESOURCE_EXHAUSTED, "larger than the limit of 5242880 bytes");
}

static void a_pack_has_a_bound(void **state)
{
	static uint8_t bytes[SLUICE_PACK_BYTES / 2 + 1];
	struct span blobs[2] = { span_make(bytes, sizeof(bytes)), span_make(bytes, sizeof(bytes)) };
	struct digest digests[2] = { digest_of(blobs[0]), digest_of(blobs[1]) };
	struct buffer request = buffer_heap(1 << 20);
	struct client_call *call = push_open(client);
	struct push_response response;
	size_t mark;

	expect_status(client, request_pack(digests, blobs, 2), GRPC_INVALID_ARGUMENT, "more than 4194304 bytes");
	mark = pb_begin(&request, 3);
	for (int i = 0; i < SLUICE_LIST_MAX + 1; i++)
		pack_put(&request, &digest_empty, (struct span){ 0 });
	pb_end(&request, mark);
	expect_status(client, request, GRPC_INVALID_ARGUMENT, "more than 16384 blobs");
	/* Up to it, it is taken. */
	blobs[0].size = blobs[1].size = SLUICE_PACK_BYTES / 2;
	digests[0] = digests[1] = digest_of(blobs[0]);
	request = request_pack(digests, blobs, 2);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.stored.data);
	client_call_close(call);
}

static void a_list_has_a_bound(void **state)
{
	struct digest *digests = calloc(SLUICE_LIST_MAX + 1, sizeof(*digests));
	struct client_call *call = push_open(client);
	struct push_response response;
	struct buffer request;

	for (size_t i = 0; i <= SLUICE_LIST_MAX; i++) {
		digests[i].size = 1 + i;
		memcpy(digests[i].hash, &i, sizeof(i));
	}
	expect_status(client, request_list(1, digests, SLUICE_LIST_MAX + 1, false), GRPC_INVALID_ARGUMENT, "longer than 16384");
	expect_status(client, request_list(2, digests, SLUICE_LIST_MAX + 1, false), GRPC_INVALID_ARGUMENT, "longer than 16384");
	expect_status(client, request_list(4, digests, 2, false), GRPC_INVALID_ARGUMENT, "names one root");
	request = request_list(2, digests, SLUICE_LIST_MAX, false);
	assert_true(ask(call, &request, &response));
	assert_false(answered_bit(&response, 0));
	client_call_close(call);
	free(digests);
}

/* Each of 4 MiB, if it were there, so a round holds one: many rounds, and all end at once. */
static void thousands_of_missing_blobs_are_told(void **state)
{
	struct buffer list = buffer_heap(1 << 20), request = buffer_heap(1 << 20);
	struct client_call *call;
	size_t told = 0;

	for (size_t i = 0; i < SLUICE_LIST_MAX; i++) {
		struct digest digest = { .size = 4u << 20 };

		memcpy(digest.hash, &i, sizeof(i));
		digest_list_put(&list, &digest);
	}
	pb_put_bytes(&request, 1, buffer_span(&list));
	assert_int_equal(client_call_open(&call, client, SLUICE_FETCH, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	while (told < SLUICE_LIST_MAX) {
		struct packed_blob blob;
		struct span message;
		bool failed = false;

		assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
		while (fetched_next(&message, &blob, &failed)) {
			assert_int_equal(blob.fault, FETCH_MISSING);
			told++;
		}
		assert_false(failed);
	}
	assert_int_equal(told, SLUICE_LIST_MAX);
	client_call_close(call);
	buffer_fini(&list);
	buffer_fini(&request);
}

static void pretend_calls(struct gateway_parts *parts, void *context)
{
	parts->cas.pushes_open += *(unsigned *)context;
}

static void calls_at_a_time_have_a_bound(void **state)
{
	unsigned more = CAS_CALLS_MAX, fewer = 0u - CAS_CALLS_MAX;
	struct digest digest = digest_of(span_text("x"));
	struct client_call *call;
	struct push_response response;
	struct buffer request;

	gateway_thread_until(gateway, calls_are_idle, NULL);
	gateway_thread_call(gateway, pretend_calls, &more);
	expect_status(client, request_list(2, &digest, 1, false), GRPC_RESOURCE_EXHAUSTED, "too many calls");
	gateway_thread_call(gateway, pretend_calls, &fewer);
	call = push_open(client);
	request = request_list(2, &digest, 1, false);
	assert_true(ask(call, &request, &response));
	client_call_close(call);
}

static struct open_call crowd[CAS_TENANT_CALLS_MAX];

static void crowd_comes(struct gateway_parts *parts, void *context)
{
	size_t count = *(size_t *)context;
	uint32_t tenant = container_of(parts->cas.calls.prev, struct open_call, link)->tenant;

	for (size_t i = 0; i < count; i++) {
		crowd[i].tenant = tenant;
		list_append(&parts->cas.calls, &crowd[i].link);
	}
}

static void crowd_leaves(struct gateway_parts *parts, void *context)
{
	for (size_t i = 0; i < CAS_TENANT_CALLS_MAX; i++)
		open_call_end(&crowd[i]);
}

static struct client_call *push_that_is_open(struct client *who, const struct digest *digest)
{
	struct client_call *call = push_open(who);
	struct buffer request = request_list(2, digest, 1, false);
	struct push_response response;

	assert_true(ask(call, &request, &response));
	return call;
}

static void a_tenant_has_a_share_of_the_calls(void **state)
{
	struct client *other = gateway_thread_client(gateway, "token-a");
	struct digest digest = digest_of(span_text("x"));
	struct client_call *call = push_that_is_open(client, &digest);
	size_t count = CAS_TENANT_CALLS_MAX - 1;
	const char *text;
	struct span none;

	gateway_thread_call(gateway, crowd_comes, &count);
	expect_status(client, request_list(2, &digest, 1, false), GRPC_RESOURCE_EXHAUSTED, "this tenant has too many calls");
	for (int i = 0; i < 2; i++) {
		struct buffer request = request_pin(&digest);
		struct client_call *refused;

		assert_int_equal(client_unary(client, i ? SLUICE_PIN : SLUICE_FETCH, buffer_span(&request), &refused, &none), CLIENT_END);
		assert_int_equal(client_call_status(refused, &text), GRPC_RESOURCE_EXHAUSTED);
		client_call_close(refused);
		buffer_fini(&request);
	}
	client_call_close(push_that_is_open(other, &digest));
	client_call_close(call);                 /* one goes, and there is room for one */
	client_call_close(push_that_is_open(client, &digest));
	gateway_thread_call(gateway, crowd_leaves, NULL);
	client_close(other);
}

/* With a note of so many bytes. */
static void expect_pin_noted(const struct digest *root, size_t note, enum grpc_status status, const char *says)
{
	struct buffer request = request_pin(root);
	struct client_call *call;
	struct span response;
	const char *text = "";
	char noted[128];
	int r;

	memset(noted, 'n', sizeof(noted));
	pb_put_bytes(&request, 4, span_make(noted, note));
	r = client_unary(client, SLUICE_PIN, buffer_span(&request), &call, &response);
	if (status == GRPC_OK) {
		assert_int_equal(r, CLIENT_OK);
	} else {
		assert_int_equal(r, CLIENT_END);
		assert_int_equal(client_call_status(call, &text), status);
		if (!strstr(text, says))
			fail_msg("\"%s\" does not say \"%s\"", text, says);
	}
	client_call_close(call);
	buffer_fini(&request);
}

static void expect_pin(const struct digest *root, enum grpc_status status, const char *says)
{
	expect_pin_noted(root, 0, status, says);
}

static void what_is_whole_is_pinned_with_a_short_note(void **state)
{
	struct digest nowhere = { .size = 100 }, longer;
	struct small_tree tree;

	small_tree_make(&tree, "pin a", "pin b");
	commit_whole(client, &tree);
	longer = tree.digests[3];
	longer.size++;
	expect_pin(&longer, GRPC_FAILED_PRECONDITION, "1 blob is missing");
	expect_pin(&tree.digests[3], GRPC_OK, "");
	expect_pin(&longer, GRPC_FAILED_PRECONDITION, "1 blob is missing");
	expect_pin(&tree.digests[1], GRPC_INVALID_ARGUMENT, "sha256:");
	expect_pin(&nowhere, GRPC_FAILED_PRECONDITION, "1 blob is missing");
	expect_pin_noted(&tree.digests[3], 63, GRPC_OK, "");
	expect_pin_noted(&tree.digests[3], 64, GRPC_INVALID_ARGUMENT, "more than 63 bytes");
	small_tree_free(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_message_has_a_bound, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_pack_has_a_bound, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_list_has_a_bound, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(thousands_of_missing_blobs_are_told, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(calls_at_a_time_have_a_bound, calls_setup, calls_teardown),
		cmocka_unit_test_setup_teardown(a_tenant_has_a_share_of_the_calls, calls_setup_tenants, calls_teardown),
		cmocka_unit_test_setup_teardown(what_is_whole_is_pinned_with_a_short_note, calls_setup, calls_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
