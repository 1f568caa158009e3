/*
 * Shows that the action cache takes a result only when all that it names is there, with the missing ones told as REAPI words
 * it, and gives it as it came, or with its streams inside; that results of an instance are that instance's; and that a malformed
 * or outsized one is refused. With an index that answers late when started with "late".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/pb.h"
#include "requests.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/store/index_delay.h"

static struct gateway_thread *gateway;
static struct client *client;
static const struct index_engine *engine;

static int setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .index = engine });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

static int teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	return 0;
}

static struct digest action_of(const char *what)
{
	return digest_made(span_text(what));
}

static struct buffer request_update_result(const struct digest *action, struct span result)
{
	struct buffer request = buffer_heap(4u << 20);

	message_put_digest(&request, 2, action);
	pb_put_bytes_always(&request, 3, result);
	return request;
}

static struct buffer request_get(const struct digest *action, bool inlined, const char *instance)
{
	struct buffer request = buffer_heap(4096);

	pb_put_text(&request, 1, instance);
	message_put_digest(&request, 2, action);
	pb_put_bool(&request, 3, inlined);
	return request;
}

static void put_file(struct buffer *result, uint32_t number, const char *path, const struct digest *digest)
{
	size_t mark = pb_begin(result, number);

	pb_put_text(result, 1, path);
	message_put_digest(result, 2, digest);
	pb_end(result, mark);
}

static void put_tree(struct buffer *result, const struct digest *tree)
{
	size_t mark = pb_begin(result, 3);

	pb_put_text(result, 1, "out");
	message_put_digest(result, 3, tree);
	pb_end(result, mark);
}

static void assert_result(const struct digest *action, struct span result)
{
	struct answer answer = ask_method(client, REAPI_GET_RESULT, request_get(action, false, ""));

	if (answer.status != GRPC_OK)
		fail_msg("%s", answer.text);
	assert_true(span_equal(buffer_span(&answer.body), result));
	answer_fini(&answer);
}

static void take(const struct digest *action, struct span result)
{
	struct answer answer = ask_method(client, REAPI_UPDATE_RESULT, request_update_result(action, result));

	if (answer.status != GRPC_OK)
		fail_msg("%s", answer.text);
	assert_true(span_equal(buffer_span(&answer.body), result));
	answer_fini(&answer);
}

static void a_result_needs_its_blobs(void **state)
{
	struct digest action = action_of("compile"), file = digest_made(span_text("object")),
	              stdout_digest = digest_made(span_text("said"));
	struct buffer result = buffer_heap(4096);

	put_file(&result, 2, "a.o", &file);
	put_file(&result, 2, "empty.o", &digest_empty);
	message_put_digest(&result, 6, &stdout_digest);
	ask_refused(client, REAPI_GET_RESULT, request_get(&action, false, ""), GRPC_NOT_FOUND, "no result");
	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&result)), GRPC_FAILED_PRECONDITION,
	            "upload it first");
	send_blob(client, span_text("object"));
	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&result)), GRPC_FAILED_PRECONDITION,
	            "upload it first");
	send_blob(client, span_text("said"));
	take(&action, buffer_span(&result));
	assert_result(&action, buffer_span(&result));
	ask_refused(client, REAPI_GET_RESULT, request_get(&action, false, "other"), GRPC_NOT_FOUND, "no result");
	buffer_fini(&result);
}

static void streams_ride_along_when_asked_for(void **state)
{
	struct digest action = action_of("talk"), stdout_digest = send_blob(client, span_text("hello from within"));
	struct buffer result = buffer_heap(4096);
	struct answer answer;

	message_put_digest(&result, 6, &stdout_digest);
	take(&action, buffer_span(&result));
	assert_result(&action, buffer_span(&result));
	answer = ask_method(client, REAPI_GET_RESULT, request_get(&action, true, ""));
	assert_int_equal(answer.status, GRPC_OK);
	assert_non_null(memmem(answer.body.data, answer.body.size, "hello from within", 17));
	answer_fini(&answer);
	buffer_fini(&result);
}

/* The files of a Tree are looked for, in its root and in its children. */
static void a_tree_is_looked_into(void **state)
{
	struct digest action = action_of("tree"), top = digest_made(span_text("top file")),
	              deep = digest_made(span_text("deep file")), digest;
	struct buffer tree = buffer_heap(4096), result = buffer_heap(4096);
	size_t mark = pb_begin(&tree, 1);

	put_file(&tree, 1, "top", &top);
	pb_end(&tree, mark);
	mark = pb_begin(&tree, 2);
	put_file(&tree, 1, "deep", &deep);
	pb_end(&tree, mark);
	digest = send_blob(client, buffer_span(&tree));
	put_tree(&result, &digest);
	for (int i = 0; i < 2; i++) {
		ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&result)),
		            GRPC_FAILED_PRECONDITION, "upload it first");
		send_blob(client, span_text(i ? "deep file" : "top file"));
	}
	take(&action, buffer_span(&result));
	assert_result(&action, buffer_span(&result));
	buffer_fini(&tree);
	buffer_fini(&result);
}

static void put_root(struct buffer *result, const struct digest *root)
{
	size_t mark = pb_begin(result, 3);

	pb_put_text(result, 1, "out");
	message_put_digest(result, 5, root);
	pb_end(result, mark);
}

/* A directory given by its root alone (DIRECTORY_ONLY): a file longer than a record is found, and what is missing is named, not the root. */
static void a_root_is_looked_into(void **state)
{
	struct buffer bytes = noise(5000000, 7), directory = buffer_heap(4096), result = buffer_heap(4096);
	struct digest action = action_of("root"), small = digest_made(span_text("small")), large = digest_made(buffer_span(&bytes)), root;
	char name[256], text[512], hex[DIGEST_TEXT_MAX];
	int64_t committed;

	put_file(&directory, 1, "large", &large);
	put_file(&directory, 1, "small", &small);
	root = send_blob(client, buffer_span(&directory));
	put_root(&result, &root);
	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "root", false, &large), buffer_span(&bytes), 1u << 20,
	                           &committed, text, sizeof(text)), GRPC_OK);
	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&result)), GRPC_FAILED_PRECONDITION,
	            digest_text(&small, hex));
	send_blob(client, span_text("small"));
	take(&action, buffer_span(&result));
	assert_result(&action, buffer_span(&result));
	buffer_fini(&bytes);
	buffer_fini(&directory);
	buffer_fini(&result);
}

/* A directory given both ways (TREE_AND_DIRECTORY): whoever goes by its root wants the Directories, too, and not in the Tree alone. */
static void a_tree_does_not_stand_for_a_root(void **state)
{
	struct buffer directory = buffer_heap(4096), tree = buffer_heap(4096), result = buffer_heap(4096);
	struct digest action = action_of("both"), file = send_blob(client, span_text("both file")), root, digest;
	char hex[DIGEST_TEXT_MAX];
	size_t mark;

	put_file(&directory, 1, "file", &file);
	root = digest_made(buffer_span(&directory));
	pb_put_bytes(&tree, 1, buffer_span(&directory));
	digest = send_blob(client, buffer_span(&tree));
	mark = pb_begin(&result, 3);
	pb_put_text(&result, 1, "out");
	message_put_digest(&result, 3, &digest);
	message_put_digest(&result, 5, &root);
	pb_end(&result, mark);
	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&result)), GRPC_FAILED_PRECONDITION,
	            digest_text(&root, hex));
	send_blob(client, buffer_span(&directory));
	take(&action, buffer_span(&result));
	assert_result(&action, buffer_span(&result));
	buffer_fini(&directory);
	buffer_fini(&tree);
	buffer_fini(&result);
}

static void narrow(struct gateway_parts *parts, void *context)
{
	parts->cas.trees.max = *(unsigned *)context;
}

static bool is_idle(struct gateway_parts *parts, void *context)
{
	return parts->reapi.open == 0 && parts->cas.trees.busy == 0;
}

/* Many results with several Trees each, one in memory at a time: all are answered, also those whose caller has gone. */
static void trees_are_looked_into_in_turn(void **state)
{
	enum { CALLS = 40, TREES = 3 };
	struct client *other = gateway_thread_client(gateway, NULL);
	struct digest action = action_of("many trees"), digest;
	struct client_call *calls[CALLS];
	struct buffer tree = buffer_heap(4096), result = buffer_heap(4096), request;
	unsigned max = 1;
	struct span message;

	for (int i = 0; i < TREES; i++) {
		struct digest file = send_blob(client, span_text("a file"));
		size_t mark = pb_begin(&tree, i ? 2 : 1);

		put_file(&tree, 1, "file", &file);
		pb_end(&tree, mark);
		digest = send_blob(client, buffer_span(&tree));
		put_tree(&result, &digest);
	}
	take(&action, buffer_span(&result));
	gateway_thread_call(gateway, narrow, &max);
	for (unsigned i = 0; i < CALLS; i++) {
		struct client *from = i % 4 == 1 ? other : client;

		request = request_get(&action, false, "");
		assert_int_equal(client_call_open(&calls[i], from, REAPI_GET_RESULT, NULL, 0), 0);
		assert_int_equal(client_send(calls[i], buffer_span(&request), 0), CLIENT_OK);
		client_send_end(calls[i]);
		buffer_fini(&request);
	}
	client_wait(other, NULL, 0, NULL, 1000000);
	client_close(other);
	for (unsigned i = 0; i < CALLS; i++) {
		if (i % 4 == 1)
			continue;
		assert_int_equal(client_receive(calls[i], &message, UINT64_MAX), CLIENT_OK);
		assert_true(span_equal(message, buffer_span(&result)));
		client_call_close(calls[i]);
	}
	gateway_thread_until(gateway, is_idle, NULL);
	max = CAS_TREES_MAX;
	gateway_thread_call(gateway, narrow, &max);
	buffer_fini(&tree);
	buffer_fini(&result);
}

static void closures_are_taken(struct gateway_parts *parts, void *context)
{
	parts->cas.closures.busy += parts->cas.closures.max;
}

static void closures_go_on(struct gateway_parts *parts, void *context)
{
	for (unsigned left = parts->cas.closures.max; left > 0; left--)
		gate_leave(&parts->cas.closures);
}

/* The first is behind its Tree, the second before it. */
static bool one_is_behind_the_other(struct gateway_parts *parts, void *context)
{
	return parts->cas.trees.busy == 1 && !list_empty(&parts->cas.closures.waiting) && !list_empty(&parts->cas.trees.waiting);
}

/* It names many blobs, and these stay in memory until it is known of all of them whether they are there. */
static void a_tree_s_turn_lasts_until_all_is_found(void **state)
{
	struct buffer bytes = noise(5000000, 8), tree = buffer_heap(4096), result = buffer_heap(4096), request;
	struct digest action = action_of("turn"), large = digest_made(buffer_span(&bytes)), digest;
	size_t mark = pb_begin(&tree, 1);
	struct client_call *calls[2];
	char name[256], text[512];
	unsigned max = 1;
	struct span message;
	int64_t committed;

	put_file(&tree, 1, "large", &large);
	pb_end(&tree, mark);
	digest = send_blob(client, buffer_span(&tree));
	put_tree(&result, &digest);
	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "turn", false, &large), buffer_span(&bytes), 1u << 20,
	                           &committed, text, sizeof(text)), GRPC_OK);
	take(&action, buffer_span(&result));
	gateway_thread_until(gateway, is_idle, NULL);
	gateway_thread_call(gateway, narrow, &max);
	gateway_thread_call(gateway, closures_are_taken, NULL);
	for (int i = 0; i < 2; i++) {
		request = request_get(&action, false, "");
		assert_int_equal(client_call_open(&calls[i], client, REAPI_GET_RESULT, NULL, 0), 0);
		assert_int_equal(client_send(calls[i], buffer_span(&request), 0), CLIENT_OK);
		client_send_end(calls[i]);
		buffer_fini(&request);
	}
	client_run_until(client, gateway, one_is_behind_the_other, NULL);
	gateway_thread_call(gateway, closures_go_on, NULL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(client_receive(calls[i], &message, UINT64_MAX), CLIENT_OK);
		assert_true(span_equal(message, buffer_span(&result)));
		client_call_close(calls[i]);
	}
	gateway_thread_until(gateway, is_idle, NULL);
	max = CAS_TREES_MAX;
	gateway_thread_call(gateway, narrow, &max);
	buffer_fini(&bytes);
	buffer_fini(&tree);
	buffer_fini(&result);
}

static void what_is_no_result_is_refused(void **state)
{
	struct digest action = action_of("bad"), tree = send_blob(client, span_text("\xff\xff no tree"));
	struct buffer result = buffer_heap(4096), large = noise((1u << 20) + 1, 3);

	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, span_text("\xff")), GRPC_INVALID_ARGUMENT,
	            "malformed");
	put_tree(&result, &tree);
	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&result)), GRPC_INVALID_ARGUMENT,
	            "Tree");
	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&large)), GRPC_INVALID_ARGUMENT,
	            "1 MiB");
	buffer_clear(&result);
	pb_put_bytes(&result, 2, span_text("\x0a\x01x"));
	ask_refused(client, REAPI_UPDATE_RESULT, request_update_result(&action, buffer_span(&result)), GRPC_INVALID_ARGUMENT,
	            "without a digest");
	buffer_fini(&result);
	buffer_fini(&large);
}

/* A later result of the same action takes the place of the earlier one. */
static void the_last_result_counts(void **state)
{
	struct digest action = action_of("again");
	struct buffer result = buffer_heap(4096);

	for (int i = 0; i < 3; i++) {
		buffer_clear(&result);
		pb_put_bytes(&result, 5, span_text(i ? i == 1 ? "one" : "two" : "zero"));
		take(&action, buffer_span(&result));
		assert_result(&action, buffer_span(&result));
	}
	buffer_fini(&result);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_result_needs_its_blobs),
		cmocka_unit_test(streams_ride_along_when_asked_for),
		cmocka_unit_test(a_tree_is_looked_into),
		cmocka_unit_test(a_root_is_looked_into),
		cmocka_unit_test(a_tree_does_not_stand_for_a_root),
		cmocka_unit_test(trees_are_looked_into_in_turn),
		cmocka_unit_test(a_tree_s_turn_lasts_until_all_is_found),
		cmocka_unit_test(what_is_no_result_is_refused),
		cmocka_unit_test(the_last_result_counts),
	};

	engine = argc > 1 && !strcmp(argv[1], "late") ? &index_late : NULL;
	return cmocka_run_group_tests(tests, setup, teardown);
}
