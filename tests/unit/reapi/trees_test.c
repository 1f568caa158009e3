/*
 * Shows that trees come page by page, each directory once, however many paths lead to it, and end when nobody takes them. With
 * an index that answers late when started with "late".
 */
#include "tests/unit/reapi/blobs_rig.h"

#include <stdio.h>

#include "gateway/reapi/sending.h"
#include "proto/pb.h"

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

static bool has_memory(struct gateway_parts *parts, void *context)
{
	return parts->reapi.downloads.used > 0;
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

/* More than any window takes, and nobody reads: what all downloads share is not kept for ever. */
static void a_tree_that_nobody_takes_ends(void **state)
{
	struct digest leaves[24], root;
	struct buffer request;
	struct client_call *call;
	struct span message;
	const char *why;

	for (uint32_t i = 0; i < 24; i++) {
		struct buffer bytes = noise(1u << 20, 40 + i), directory = buffer_heap(2u << 20);

		pb_put_bytes(&directory, 3, buffer_span(&bytes));
		leaves[i] = send_blob(client, buffer_span(&directory));
		buffer_fini(&bytes);
		buffer_fini(&directory);
	}
	root = put_directory(leaves, 24, 50);
	request = request_tree(&root, 0, "");
	assert_int_equal(client_call_open(&call, client, REAPI_GET_TREE, NULL, 0), 0);
	client_send(call, buffer_span(&request), 0);
	buffer_fini(&request);
	client_run_until(client, gateway, has_memory, NULL);
	gateway_thread_call(gateway, after_two_minutes, NULL);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		;
	assert_int_equal(client_call_status(call, &why), GRPC_CANCELLED);
	client_run_until(client, gateway, has_memory_back, NULL);
	client_call_close(call);
	client_run_until(client, gateway, blobs_are_idle, NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_comes_in_pages_each_directory_once),
		cmocka_unit_test(a_tree_bomb_is_as_small_as_what_it_holds),
		cmocka_unit_test(a_tree_that_nobody_takes_ends),
	};

	return blobs_run(argc, argv, tests);
}
