/* Push calls, message by message. */
#include "requests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "chunker/sha256.h"
#include "proto/pb.h"
#include "proto/tree.h"

struct digest digest_of(struct span bytes)
{
	struct digest digest = { .size = bytes.size };

	sha256_once(bytes.data, bytes.size, digest.hash);
	return digest;
}

struct client_call *push_open(struct client *client)
{
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, SLUICE_PUSH, NULL, 0), 0);
	return call;
}

/* Sends a PushRequest and decodes the answer; false: the call ended. */
bool ask(struct client_call *call, struct buffer *request, struct push_response *response)
{
	struct span message;
	bool answered;

	assert_int_equal(client_send(call, buffer_span(request), 0), CLIENT_OK);
	answered = client_receive(call, &message, UINT64_MAX) == CLIENT_OK;
	if (answered)
		assert_true(message_decode(&push_response_type, message, response));
	buffer_fini(request);
	return answered;
}

struct buffer request_list(uint32_t number, const struct digest *digests, size_t count, bool flag)
{
	struct buffer request = buffer_heap(1 << 20), list = buffer_heap(1 << 20);
	size_t mark;

	for (size_t i = 0; i < count; i++)
		digest_list_put(&list, &digests[i]);
	mark = pb_begin(&request, number);
	pb_put_bytes(&request, 1, buffer_span(&list));
	pb_put_bool(&request, 2, flag);
	pb_end(&request, mark);
	buffer_fini(&list);
	return request;
}

struct buffer request_pack(const struct digest *digests, const struct span *blobs, size_t count)
{
	struct buffer request = buffer_heap(5 << 20);
	size_t mark = pb_begin(&request, 3);

	for (size_t i = 0; i < count; i++)
		pack_put(&request, &digests[i], blobs[i]);
	pb_end(&request, mark);
	return request;
}

bool answered_bit(const struct push_response *response, size_t i)
{
	struct push_answer answer;

	assert_non_null(response->answer.data);
	assert_true(message_decode(&push_answer_type, response->answer, &answer));
	return bit_list_get(answer.present, i);
}

void small_tree_make(struct small_tree *tree, const char *a, const char *b)
{
	struct tree_directory directory = { .mode = 0755 };
	struct tree_node nodes[2] = { 0 };

	tree->sub = buffer_heap(1 << 16);
	tree->root = buffer_heap(1 << 16);
	tree->blobs[0] = span_text(b);
	tree->blobs[1] = span_text(a);
	tree->digests[0] = digest_of(tree->blobs[0]);
	tree->digests[1] = digest_of(tree->blobs[1]);
	nodes[0] = (struct tree_node){ .kind = TREE_FILE, .name = span_text("b"), .mode = 0644, .digest = tree->digests[0],
	                               .file_size = strlen(b) };
	assert_int_equal(tree_encode(&tree->sub, &directory, nodes, 1), 0);
	tree->blobs[2] = buffer_span(&tree->sub);
	tree->digests[2] = digest_of(tree->blobs[2]);
	nodes[0] = (struct tree_node){ .kind = TREE_FILE, .name = span_text("a"), .mode = 0644, .digest = tree->digests[1],
	                               .file_size = strlen(a) };
	nodes[1] = (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text("sub"), .digest = tree->digests[2] };
	assert_int_equal(tree_encode(&tree->root, &directory, nodes, 2), 0);
	tree->blobs[3] = buffer_span(&tree->root);
	tree->digests[3] = digest_of(tree->blobs[3]);
}

void small_tree_free(struct small_tree *tree)
{
	buffer_fini(&tree->sub);
	buffer_fini(&tree->root);
}

void commit_whole(struct client *client, const struct small_tree *tree)
{
	struct client_call *call = push_open(client);
	struct push_response response;
	struct buffer request = request_pack(tree->digests, tree->blobs, 4);

	assert_true(ask(call, &request, &response));
	assert_non_null(response.stored.data);
	request = request_list(4, &tree->digests[3], 1, false);
	assert_true(ask(call, &request, &response));
	assert_non_null(response.committed.data);
	client_call_close(call);
}

void expect_status(struct client *client, struct buffer request, enum grpc_status status, const char *says)
{
	struct client_call *call = push_open(client);
	struct push_response response;
	const char *text;

	assert_false(ask(call, &request, &response));
	assert_int_equal(client_call_status(call, &text), status);
	if (!strstr(text, says))
		fail_msg("\"%s\" does not say \"%s\"", text, says);
	client_call_close(call);
}
