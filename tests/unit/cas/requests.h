/* requests: the messages of Push, one by one, for tests that speak them by hand; and a small tree to push. */
#pragma once

#include "gateway/client/client.h"
#include "proto/sluice_v1.h"

struct digest digest_of(struct span bytes);
struct client_call *push_open(struct client *client);
/* Sends a request, which it frees, and decodes the answer, borrowed until the next. False: the call ended. */
bool ask(struct client_call *call, struct buffer *request, struct push_response *response);
/* `number`: 1 offer (`flag`: commit), 2 query, 4 commit. */
struct buffer request_list(uint32_t number, const struct digest *digests, size_t count, bool flag);
struct buffer request_pack(const struct digest *digests, const struct span *blobs, size_t count);
bool answered_bit(const struct push_response *response, size_t i);
/* The request, which it frees, ends its call with this status and a text that has `says` in it. */
void expect_status(struct client *client, struct buffer request, enum grpc_status status, const char *says);

/* root/{a (file), sub/{b (file)}}; blobs in the order b, a, sub, root. `a` and `b` are borrowed. */
struct small_tree {
	struct buffer sub, root;
	struct span blobs[4];
	struct digest digests[4];
};
void small_tree_make(struct small_tree *tree, const char *a, const char *b);
void small_tree_free(struct small_tree *tree);
void commit_whole(struct client *client, const struct small_tree *tree);
