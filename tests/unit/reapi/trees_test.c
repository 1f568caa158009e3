/*
 * Shows that trees come page by page, each directory once, however many paths lead to it. With an index that answers late when
 * started with "late".
 */
#include "tests/unit/reapi/blobs_rig.h"

#include <stdio.h>

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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_comes_in_pages_each_directory_once),
		cmocka_unit_test(a_tree_bomb_is_as_small_as_what_it_holds),
	};

	return blobs_run(argc, argv, tests);
}
