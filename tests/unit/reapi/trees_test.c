/*
 * Shows that trees come page by page, each directory once, however many paths lead to it, and end when nobody takes them; and that
 * a tree of which much is missing leaves others their turns. With an index that answers late when started with "late".
 */
#include "tests/unit/reapi/blobs_rig.h"

#include <stdio.h>
#include <string.h>

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

#define MISSING   6000
#define MOST_READ 400                    /* that the store may be asked for between two turns of the loop */

/* The loop's turns, and how many blobs the store was asked for in one at the most. */
static struct turns {
	struct post post;
	struct gateway_parts *parts;
	uint64_t reads, most;
	bool end, ended;
} turns;

static uint64_t reads_so_far(void)
{
	struct store_status status;

	store_status(turns.parts->store, &status);
	return status.reads;
}

static void turns_on_turn(struct post *post)
{
	uint64_t reads = reads_so_far();

	if (reads - turns.reads > turns.most)
		turns.most = reads - turns.reads;
	turns.reads = reads;
	turns.ended = turns.end;
	if (!turns.end)
		ring_post(turns.parts->ring, post);
}

static void turns_begin(struct gateway_parts *parts, void *context)
{
	turns = (struct turns){ .post.fn = turns_on_turn, .parts = parts };
	turns.reads = reads_so_far();
	ring_post(parts->ring, &turns.post);
}

static void turns_end(struct gateway_parts *parts, void *context)
{
	turns.end = true;
}

static bool turns_have_ended(struct gateway_parts *parts, void *context)
{
	return turns.ended;
}

static void what_is_missing_keeps_nobody_waiting(void **state)
{
	static struct digest children[MISSING];
	struct answer answer;
	struct digest root;
	size_t pages;

	for (uint32_t i = 0; i < MISSING; i++) {
		children[i] = (struct digest){ .size = 100 };
		memcpy(children[i].hash, &i, sizeof(i));
	}
	root = put_directory(children, MISSING, 60);
	gateway_thread_call(gateway, turns_begin, NULL);
	answer = ask_method(client, REAPI_GET_TREE, request_tree(&root, 0, ""));
	assert_int_equal(answer.status, GRPC_OK);
	assert_int_equal(directories_of(&answer, &pages), 1);
	answer_fini(&answer);
	gateway_thread_call(gateway, turns_end, NULL);
	gateway_thread_until(gateway, turns_have_ended, NULL);
	assert_true(turns.most < MOST_READ);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_comes_in_pages_each_directory_once),
		cmocka_unit_test(a_tree_bomb_is_as_small_as_what_it_holds),
		cmocka_unit_test(a_tree_that_nobody_takes_ends),
		cmocka_unit_test(what_is_missing_keeps_nobody_waiting),
	};

	return blobs_run(argc, argv, tests);
}
