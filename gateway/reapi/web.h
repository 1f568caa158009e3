/*
 * web: the HTTP cache: GET, HEAD and PUT of [/INSTANCE]/cas/HASH and [/INSTANCE]/ac/KEY, over HTTP/1.1 and HTTP/2, for Bazel's
 * `--remote_cache=http://`, ccache, sccache and curl (docs/http-cache.md). The same blobs, credentials and checks as REAPI's calls.
 */
#pragma once

#include "gateway/cas/access.h"
#include "gateway/reapi/callers.h"
#include "gateway/reapi/reapi.h"
#include "proto/cache_path.h"

/* What is kept in memory until it is whole: of /ac/, and a blob whose length is not said before; as long as a record. */
#define WEB_VALUE_BYTES_MAX STORE_BLOB_BYTES_MAX

/* As server_config.web; `context` is the struct reapi. */
void web_start(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head);
/* Ends what waits for too long. */
void web_sweep(struct reapi *reapi, uint64_t now);

/*
 * What the handlers of one request each have in common. They begin with it, and are freed by `fini` and free() when the stream
 * has closed and nothing of theirs is in flight (web_hold, web_release).
 */
struct web {
	struct stream *stream;           /* NULL once it has closed */
	struct reapi *reapi;
	struct scope scope;
	uint64_t tenant;                 /* of callers.h; 0 before it is known */
	struct quota_place place;
	struct digest digest;            /* of the path: a hash or a key */
	bool head;                       /* HEAD: no body goes out */
	bool put;                        /* PUT, or MKCOL */
	bool sized;                      /* Content-Length was there */
	uint64_t length;                 /* and said so */
	bool expects;                    /* the client waits for 100 Continue */
	bool answered;
	unsigned held;
	uint64_t idle_since_ns;          /* 0: it is we who are at work */
	uint64_t idle_max_ns;            /* 0: as of writes (REAPI_WRITE_IDLE_NS), which have to be quick when memory is short */
	uint64_t ends_ns;                /* when all of its body has to be here; 0: whenever */
	struct list link;                /* reapi.web */
	void (*fini)(struct web *web);
};

/* The stream is `web`'s from now on. */
void web_accept(struct web *web, const struct web *from, const struct stream_events *events, void (*fini)(struct web *web));

void web_hold(struct web *web);
void web_release(struct web *web);
/* The stream has closed. */
void web_closed(struct web *web);
/* As on_data of who wants no body: GET may come with one. */
void web_drop(struct stream *stream, struct span data);

/* An answer of one sentence; 200 when all is well. `text` NULL: none. The client has REAPI_READ_IDLE_NS to take it. */
void web_answer(struct web *web, unsigned status, const char *text);
void web_answer_typed(struct web *web, unsigned status, const char *type, const char *text);
void web_answer_grpc(struct web *web, enum grpc_status status, const char *text);
/* Of a store operation that failed: STORE_MISSING and STORE_CORRUPT are 404. */
void web_answer_store(struct web *web, int result);
void web_miss(struct web *web);
/* The head of an answer that has so many bytes, which are to be sent then. The answer is over when this is a HEAD. */
void web_begin(struct web *web, uint64_t bytes);
/* The answer to a request of which nothing is kept, instead of web_accept(). */
void web_refuse(const struct web *web, unsigned status, const char *text);
/* Too many requests at a time: 503, and others' idleness counts for more. */
void web_answer_crowded(struct web *web);

/* The handlers; each takes the stream over or has answered. `web` has been filled in but for its stream's events. */
typedef void web_handler_fn(const struct web *web);
web_handler_fn web_get_blob, web_put_blob, web_put_unsized, web_get_result, web_put_result, web_folder;
/* What they leave to each other: a value of /ac/ that is longer than a record; and the blob that web->digest names in full. */
web_handler_fn web_put_value, web_get_known;
