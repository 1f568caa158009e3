/*
 * rpc: what the unary methods of this folder have in common: who calls, on whose behalf, and the way to refuse. A method's
 * struct begins with a struct rpc; it is allocated with its type's size, and freed when the call has ended.
 */
#pragma once

#include "gateway/cas/access.h"
#include "gateway/cas/unary.h"
#include "gateway/reapi/asking.h"
#include "gateway/reapi/callers.h"
#include "gateway/reapi/sending.h"
#include "proto/reapi_cas.h"

struct rpc {
	struct unary unary;
	const struct rpc_type *type;
	struct reapi *reapi;
	struct access_caller caller;
	struct quota_place place;
	struct scope scope;              /* after rpc_enter() */
	struct asking asking;            /* until there is a request, or the first of its parts */
	struct sending sending;          /* of the answer: who does not take it loses the call, and what the method keeps for it */
	bool held, ended;
};

struct rpc_type {
	size_t size;
	uint32_t rights;
	bool asks;                       /* it writes nothing, whatever right it takes */
	bool anybody;                    /* no credential is asked for: rpc_enter() is not to be called */
	size_t request_bytes_max;
	void (*on_request)(struct rpc *rpc, struct span request);
	void (*on_part)(struct rpc *rpc, struct span part, size_t left); /* NULL, or see unary.h */
	void (*fini)(struct rpc *rpc);   /* frees what the method has; NULL: nothing. No answer is outstanding */
};

/* As server_method.start. */
int rpc_start(struct reapi *reapi, const struct rpc_type *type, const struct server_request *request, char *why,
              size_t why_size);
/* Around what needs it, in which it may be answered, or leave before it has asked, and so end: it is freed at the release then. */
void rpc_hold(struct rpc *rpc);
void rpc_release(struct rpc *rpc);
/* Between the two: it has ended. */
bool rpc_has_ended(const struct rpc *rpc);
/* It was answered or refused, and has not ended yet. */
bool rpc_is_answered(const struct rpc *rpc);
/* Nobody is there to hear the answer, which is to be given all the same: what it takes may be spared. */
bool rpc_has_left(const struct rpc *rpc);
/* False: the call was refused, since it is not SHA-256 that the request's digests are of. */
bool rpc_takes_function(struct rpc *rpc, uint32_t digest_function);
/*
 * Whose blobs they are. False: the call was refused: an instance name that does not do, or not SHA-256. For a method that does not
 * ask for the right to write, or only `asks`, access_find().
 */
bool rpc_enter(struct rpc *rpc, struct span instance, uint32_t digest_function);

void rpc_reply(struct rpc *rpc, const struct buffer *response);  /* one that has failed: out of memory */
void rpc_reply_bytes(struct rpc *rpc, struct span response);
void rpc_reply_lending(struct rpc *rpc, struct loan *loan);       /* as unary_reply_lending() */
void rpc_fail(struct rpc *rpc, enum grpc_status status, const char *text);
void rpc_fail_malformed(struct rpc *rpc);
void rpc_fail_memory(struct rpc *rpc);
/* Of a store operation: STORE_FULL or -errno. */
void rpc_fail_store(struct rpc *rpc, int result);

/* The digests of a list, to be freed; NULL with the call refused. An empty list is an array of one that is not counted. */
struct digest *rpc_digests(struct rpc *rpc, const struct message_list *list, size_t *count);

/* The same sentences for calls that are no rpc. */
#define RPC_TEXT_MEMORY "the gateway is out of memory; try again"
#define RPC_TEXT_CROWDED "too many writes at a time; try again"
#define RPC_TEXT_MALFORMED "malformed request, or a digest in it that is not 64 lower-case hex digits of SHA-256 and a size"
#define RPC_TEXT_BLOBS  "more than 32768 blobs in a batch: make several"
#define RPC_TEXT_FULL   "the store is full: what is pinned or in use fills its ceiling"
#define RPC_TEXT_DISK   "the gateway's disk failed; see its log"
#define RPC_TEXT_DESCRIPTORS "the gateway has no file descriptor left for its store; try again"
enum grpc_status rpc_store_status(int result, const char **text);
