/*
 * ContentAddressableStorage/GetTree: the directories below a root, level by level, each once. What is missing is left out. A page
 * token is how many directories came before.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/digest_set.h"
#include "gateway/reapi/asking.h"
#include "gateway/reapi/callers.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/sending.h"
#include "proto/pb.h"

#define TREE_DIRECTORIES_MAX (1u << 17)
#define TREE_PAGE_MAX        1000
#define TREE_PAGE_BYTES      (1u << 20)          /* a page has no more, if it has more than one directory */
#define TREE_SHARE_BYTES     (16u << 20)         /* a directory, a page, and the lists of the walk */
#define TREE_REQUEST_BYTES   4096
#define TREE_ROW_MAX         128                 /* directories that are looked at in one go: those that are missing are told inline */

enum get_tree_state {
	TREE_WAITING,
	TREE_MEMORY,
	TREE_READING,
	TREE_TURN,                       /* the loop's */
	TREE_SENDING,
	TREE_ANSWERED,
};

struct get_tree {
	struct call call;
	struct reapi *reapi;
	struct access_caller caller;
	struct quota_place place;
	enum get_tree_state state;
	bool closed, running;
	struct scope scope;
	struct budget_share share;
	struct asking asking;
	struct sending sending;          /* without a loan: pages are moves */
	struct digest_vector queue;
	struct digest_set seen;
	size_t at, skip, sent;           /* in the queue; of those found: not asked for again; told */
	size_t page, page_max;
	unsigned row;
	struct post turn;
	struct buffer out;
	struct store_read read;
};

static void tree_run(struct get_tree *tree);

static void tree_free(struct get_tree *tree)
{
	struct reapi *reapi = tree->reapi;

	asking_end(&tree->asking);
	sending_end(&tree->sending);
	budget_leave(&reapi->downloads, &tree->share);
	digest_vector_fini(&tree->queue);
	digest_set_fini(&tree->seen);
	buffer_fini(&tree->out);
	free(tree->read.buffer);
	call_fini(&tree->call);
	callers_close(reapi, &tree->place);
	free(tree);
}

static void tree_fail(struct get_tree *tree, enum grpc_status status, const char *text)
{
	tree->state = TREE_ANSWERED;
	call_finish(&tree->call, status, text);
}

/* False: the call has failed. */
static bool tree_add(struct get_tree *tree, const struct digest *directory)
{
	int r = digest_set_add(&tree->seen, directory);

	if (r == 1) {
		if (tree->queue.count == TREE_DIRECTORIES_MAX) {
			tree_fail(tree, GRPC_RESOURCE_EXHAUSTED, "the tree has more than 131072 different directories");
			return false;
		}
		r = digest_vector_add(&tree->queue, directory);
	}
	if (r < 0)
		tree_fail(tree, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
	return r >= 0;
}

static bool tree_add_children(struct get_tree *tree, struct span bytes)
{
	static const struct digest none;
	struct message_cursor cursor = { 0 };
	struct reapi_directory directory;
	struct reapi_node node;
	struct span element;

	if (!message_decode(&reapi_directory_type, bytes, &directory)) {
		tree_fail(tree, GRPC_INVALID_ARGUMENT, "a blob that the tree names as a directory is none");
		return false;
	}
	while (message_list_next(&directory.directories, &cursor, &element)) {
		if (!message_decode(&reapi_node_type, element, &node) || digest_equal(&node.digest, &none)) {
			tree_fail(tree, GRPC_INVALID_ARGUMENT, "a blob that the tree names as a directory is none");
			return false;
		}
		if (!tree_add(tree, &node.digest))
			return false;
	}
	return true;
}

static void tree_take(struct get_tree *tree, struct span bytes)
{
	if (!tree_add_children(tree, bytes))
		return;
	tree->state = TREE_SENDING;
	if (tree->skip) {
		tree->skip--;
		return;
	}
	pb_put_bytes_always(&tree->out, 1, bytes);
	tree->page++;
}

static void on_read(struct store_read *read)
{
	struct get_tree *tree = container_of(read, struct get_tree, read);
	const char *text;
	enum grpc_status status;

	if (tree->closed) {
		tree_free(tree);
		return;
	}
	sending_moved(&tree->sending, tree->reapi);      /* what is skipped takes time, too */
	if (read->result < 0) {
		status = rpc_store_status(read->result, &text);
		tree_fail(tree, status, text);
	} else if (read->result == STORE_OK) {
		tree_take(tree, read->blob);
	} else if (tree->at == 1) {
		tree_fail(tree, GRPC_NOT_FOUND, "the root directory is not in the store");
	} else {
		tree->state = TREE_SENDING;
	}
	free(read->buffer);
	read->buffer = NULL;
	tree_run(tree);
}

static void tree_read(struct get_tree *tree)
{
	const struct digest *digest = &tree->queue.items[tree->at++];

	tree->state = TREE_READING;
	tree->read = (struct store_read){ .scope = tree->scope, .digest = *digest, .fn = on_read };
	/* A name that no directory can have is no place to reserve memory for. */
	if (digest->size > STORE_BLOB_BYTES_MAX) {
		tree->read.result = STORE_MISSING;
		on_read(&tree->read);
		return;
	}
	tree->read.buffer = malloc(digest->size + STORE_READ_EXTRA_BYTES);
	if (tree->read.buffer)
		store_read(tree->reapi->cas->store, &tree->read);
	else
		tree_fail(tree, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
}

static void on_turn(struct post *post)
{
	struct get_tree *tree = container_of(post, struct get_tree, turn);

	if (tree->closed) {
		tree_free(tree);
		return;
	}
	tree->state = TREE_SENDING;
	tree_run(tree);
}

static void tree_pause(struct get_tree *tree)
{
	tree->row = 0;
	tree->state = TREE_TURN;
	tree->turn.fn = on_turn;
	ring_post(tree->reapi->cas->ring, &tree->turn);
}

/* False: not now. */
static bool tree_send_page(struct get_tree *tree)
{
	char token[24];

	if (!call_has_room(&tree->call))
		return false;
	if (tree->at < tree->queue.count) {
		snprintf(token, sizeof(token), "%zu", tree->sent + tree->page);
		pb_put_text(&tree->out, 2, token);
	}
	if (tree->out.failed) {
		tree_fail(tree, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
		return true;
	}
	call_send(&tree->call, buffer_span(&tree->out), 0);
	sending_moved(&tree->sending, tree->reapi);
	tree->sent += tree->page;
	tree->page = 0;
	buffer_clear(&tree->out);
	return true;
}

static bool page_full(const struct get_tree *tree)
{
	return tree->page && (tree->page >= tree->page_max || tree->at == tree->queue.count ||
	                      tree->out.size + tree->queue.items[tree->at].size > TREE_PAGE_BYTES);
}

/* A loop and not a chain of calls: reads may complete inline. */
static void tree_run(struct get_tree *tree)
{
	if (tree->running)
		return;
	tree->running = true;
	while (tree->state == TREE_SENDING) {
		if (page_full(tree)) {
			if (!tree_send_page(tree))
				break;
		} else if (tree->at < tree->queue.count) {
			if (tree->row++ == TREE_ROW_MAX)
				tree_pause(tree);
			else
				tree_read(tree);
		} else {
			tree->state = TREE_ANSWERED;
			call_finish(&tree->call, GRPC_OK, NULL);
		}
	}
	tree->running = false;
}

static void on_memory(struct budget_share *share)
{
	struct get_tree *tree = container_of(share, struct get_tree, share);

	tree->state = TREE_SENDING;
	sending_begin(&tree->sending, tree->reapi, &tree->call);
	tree_run(tree);
}

/* ---- the call ---- */

static bool token_parse(struct span token, size_t *skip)
{
	*skip = 0;
	if (token.size > 6)
		return false;
	for (size_t i = 0; i < token.size; i++) {
		if (token.data[i] < '0' || token.data[i] > '9')
			return false;
		*skip = *skip * 10 + (token.data[i] - '0');
	}
	return true;
}

static void on_message(struct call *call, struct span message)
{
	struct get_tree *tree = container_of(call, struct get_tree, call);
	struct reapi_get_tree_request request;
	char why[256];
	enum grpc_status status;

	if (tree->state != TREE_WAITING)
		return;
	asking_end(&tree->asking);
	if (!message_decode(&reapi_get_tree_request_type, message, &request) || request.digest_function > REAPI_SHA256 ||
	    request.page_size < 0 || !token_parse(request.page_token, &tree->skip)) {
		tree_fail(tree, GRPC_INVALID_ARGUMENT, "malformed GetTreeRequest, not SHA-256, or a page token of somebody else's");
		return;
	}
	status = access_find(&tree->reapi->cas->access, &tree->caller, request.instance_name, &tree->scope, why, sizeof(why));
	if (status != GRPC_OK) {
		tree_fail(tree, status, why);
		return;
	}
	tree->sent = tree->skip;
	tree->page_max = request.page_size && request.page_size < TREE_PAGE_MAX ? (size_t)request.page_size : TREE_PAGE_MAX;
	tree->out = buffer_heap(2 * REAPI_MESSAGE_BYTES_MAX);
	if (!tree_add(tree, &request.root_digest))
		return;
	tree->state = TREE_MEMORY;
	tree->share.fn = on_memory;
	budget_enter(&tree->reapi->downloads, &tree->share, TREE_SHARE_BYTES);
}

static void on_end(struct call *call)
{
	struct get_tree *tree = container_of(call, struct get_tree, call);

	if (tree->state == TREE_WAITING)
		tree_fail(tree, GRPC_INVALID_ARGUMENT, "a GetTree without a request");
}

static void on_writable(struct call *call)
{
	struct get_tree *tree = container_of(call, struct get_tree, call);

	sending_moved(&tree->sending, tree->reapi);
	tree_run(tree);
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct get_tree *tree = container_of(call, struct get_tree, call);

	tree->closed = true;
	if (tree->state != TREE_READING && tree->state != TREE_TURN)
		tree_free(tree);
}

static const struct call_events events = {
	.on_message = on_message,
	.on_end = on_end,
	.on_writable = on_writable,
	.on_closed = on_closed,
};

int reapi_get_tree(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	struct get_tree *tree = calloc(1, sizeof(*tree));
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;
	uint64_t tenant;

	if (tree)
		status = access_caller(&reapi->cas->access, request, SCOPE_READ, &tree->caller, why, why_size);
	else
		snprintf(why, why_size, RPC_TEXT_MEMORY);
	tenant = status == GRPC_OK ? callers_tenant(&tree->caller) : 0;
	if (!callers_admit(reapi, tenant, why, why_size))
		status = GRPC_RESOURCE_EXHAUSTED;
	if (status != GRPC_OK) {
		free(tree);
		return status;
	}
	tree->reapi = reapi;
	callers_open(reapi, tenant, &tree->place);
	call_accept(&tree->call, request->stream, request->head, TREE_REQUEST_BYTES, &events, tree);
	asking_begin(&tree->asking, reapi, &tree->call);
	return 0;
}
