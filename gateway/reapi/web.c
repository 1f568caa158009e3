/* Who asks, for what, and the answers. */
#include "gateway/reapi/web.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "gateway/base/check.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/web_guard.h"
#include "proto/escape.h"
#include "proto/http1_head.h"

#define WHY_MAX              512
#define TEXT_PLAIN           "text/plain; charset=utf-8"
#define BASIC_BYTES_MAX      1024        /* user and password */

static struct header field(const char *name, const char *value)
{
	return (struct header){ .name = span_text(name), .value = span_text(value) };
}

/* ---- answers ---- */

static void answer(struct stream *stream, bool head, unsigned status, const char *type, const char *text)
{
	char number[8], length[24], line[WHY_MAX + 1];
	struct header headers[5];
	size_t count = 0, size = (size_t)snprintf(line, sizeof(line), "%s%s", text ? text : "", text ? "\n" : "");

	if (size >= sizeof(line))
		size = sizeof(line) - 1;
	snprintf(number, sizeof(number), "%u", status);
	snprintf(length, sizeof(length), "%zu", size);
	headers[count++] = field(":status", number);
	headers[count++] = field("content-length", length);
	if (size)
		headers[count++] = field("content-type", type);
	if (status == 401)
		headers[count++] = field("www-authenticate", "Basic realm=\"sluice\"");
	else if (status == 405)
		headers[count++] = field("allow", "GET, HEAD, PUT");
	else if (status == 503)
		headers[count++] = field("retry-after", "1");
	if (stream_headers(stream, headers, count, head || size == 0) < 0 || head || size == 0)
		return;
	stream_write(stream, span_make(line, size));
	stream_end(stream);
}

/* From now on it is the client's turn, to take what it asked for: also of what nobody reads, the memory comes back. */
static void answer_begin(struct web *web)
{
	web->answered = true;
	web->idle_since_ns = ring_now_ns(web->reapi->cas->ring);
	web->idle_max_ns = REAPI_READ_IDLE_NS;
	web->ends_ns = 0;
}

void web_answer_typed(struct web *web, unsigned status, const char *type, const char *text)
{
	if (!web->stream || web->answered)
		return;
	answer_begin(web);
	answer(web->stream, web->head, status, type, text);
}

void web_answer(struct web *web, unsigned status, const char *text)
{
	web_answer_typed(web, status, TEXT_PLAIN, text);
}

static unsigned http_status(enum grpc_status status)
{
	switch (status) {
	case GRPC_INVALID_ARGUMENT:
		return 400;
	case GRPC_UNAUTHENTICATED:
		return 401;
	case GRPC_PERMISSION_DENIED:
		return 403;
	case GRPC_NOT_FOUND:
		return 404;
	case GRPC_RESOURCE_EXHAUSTED:
	case GRPC_UNAVAILABLE:
		return 503;
	default:
		return 500;
	}
}

void web_answer_grpc(struct web *web, enum grpc_status status, const char *text)
{
	web_answer(web, http_status(status), text);
}

void web_miss(struct web *web)
{
	web_answer(web, 404, "not here");
}

void web_answer_store(struct web *web, int result)
{
	const char *text;
	enum grpc_status status;

	if (result == STORE_MISSING || result == STORE_CORRUPT) {
		web_miss(web);
		return;
	}
	status = rpc_store_status(result, &text);
	web_answer_grpc(web, status, text);
}

void web_answer_crowded(struct web *web)
{
	web->reapi->crowded_ns = ring_now_ns(web->reapi->cas->ring);
	web_answer(web, 503, RPC_TEXT_CROWDED);
}

void web_begin(struct web *web, uint64_t bytes)
{
	char length[24] = "";
	struct header headers[] = { field(":status", "200"), field("content-length", ""),
	                            field("content-type", "application/octet-stream") };

	if (!web->stream || web->answered)
		return;
	answer_begin(web);
	snprintf(length, sizeof(length), "%llu", (unsigned long long)bytes);
	headers[1].value = span_text(length);
	(void)stream_headers(web->stream, headers, 3, web->head || bytes == 0);
}

/* ---- life ---- */

void web_accept(struct web *web, const struct web *from, const struct stream_events *events, void (*fini)(struct web *web))
{
	*web = *from;
	web->fini = fini;
	web->stream->events = events;
	web->stream->owner = web;
	callers_open(web->reapi, web->tenant, &web->place);
	list_append(&web->reapi->web, &web->link);
	reapi_watch(web->reapi);
}

static void web_free(struct web *web)
{
	struct reapi *reapi = web->reapi;

	if (web->stream || web->held)
		return;
	list_remove(&web->link);
	web->fini(web);
	callers_close(reapi, &web->place);
	free(web);
}

void web_hold(struct web *web)
{
	web->held++;
}

void web_release(struct web *web)
{
	CHECK(web->held > 0);
	web->held--;
	web_free(web);
}

void web_closed(struct web *web)
{
	web->stream = NULL;
	web_free(web);
}

void web_drop(struct stream *stream, struct span data)
{
	stream_consumed(stream, data.size);
}

/* ---- refusals ---- */

static void refused_on_close(struct stream *stream, uint32_t code)
{
	web_closed(stream->owner);
}

static const struct stream_events refused_events = { .on_close = refused_on_close };

static void refused_fini(struct web *web)
{
}

/* The sentence may have to wait for the client, which is then watched like any other. */
void web_refuse(const struct web *web, unsigned status, const char *text)
{
	bool room = web->reapi->open < REAPI_CALLS_MAX && callers_admit(web->reapi, web->tenant, NULL, 0);
	struct web *refused = room ? calloc(1, sizeof(*refused)) : NULL;

	web->reapi->counters.web_refused++;
	if (!refused) {
		answer(web->stream, web->head, status, TEXT_PLAIN, NULL);
		return;
	}
	web_accept(refused, web, &refused_events, refused_fini);
	web_answer(refused, status, text);
}

/* ---- time ---- */

static bool web_expired(const struct web *web, uint64_t now, uint64_t write_max)
{
	if (!web->stream)
		return false;
	if (web->ends_ns && now >= web->ends_ns)
		return true;
	return web->idle_since_ns && now - web->idle_since_ns >= (web->idle_max_ns ? web->idle_max_ns : write_max);
}

/* A client that stalls: its answer may not get through either. */
void web_sweep(struct reapi *reapi, uint64_t now)
{
	bool crowded = reapi->crowded_ns && now - reapi->crowded_ns < REAPI_CROWDED_NS;

	list_for_each_safe(link, after, &reapi->web) {
		struct web *web = container_of(link, struct web, link);

		if (!web_expired(web, now, crowded ? REAPI_CROWDED_NS : REAPI_WRITE_IDLE_NS))
			continue;
		reapi->counters.uploads_expired += web->put && !web->answered;
		web->idle_since_ns = web->ends_ns = 0;
		stream_reset(web->stream, 8);    /* CANCEL */
	}
}

/* ---- requests ---- */

/* "Basic", in any case, and the password of what is encoded behind it (RFC 7617). */
static struct span basic_password(struct span value, struct buffer *plain)
{
	const uint8_t *colon;

	if (value.size < 6 || strncasecmp((const char *)value.data, "basic ", 6) != 0 ||
	    !base64_take(plain, span_make(value.data + 6, value.size - 6)))
		return (struct span){ 0 };
	colon = plain->size ? memchr(plain->data, ':', plain->size) : NULL;
	return colon ? span_make(colon + 1, plain->size - (size_t)(colon + 1 - plain->data)) : (struct span){ 0 };
}

/*
 * HTTP clients know Basic rather than Bearer: the password is the token, and the user's name is nobody's business. What is none
 * stays as it is, to be refused as an unknown credential.
 */
static struct span authorization(const struct h2_request *head, struct buffer *bearer)
{
	uint8_t storage[BASIC_BYTES_MAX];
	struct buffer plain = buffer_over(storage, sizeof(storage));
	struct span value = { 0 }, password;

	for (size_t i = 0; i < head->headers_count && !value.size; i++)
		if (span_is(head->headers[i].name, "authorization"))
			value = head->headers[i].value;
	password = basic_password(value, &plain);
	if (password.data) {
		buffer_put_text(bearer, "Bearer ");
		buffer_put(bearer, password.data, password.size);
	}
	OPENSSL_cleanse(storage, sizeof(storage));
	return password.data && !bearer->failed ? buffer_span(bearer) : value;
}

static enum grpc_status enter(struct web *web, struct conn *conn, const struct h2_request *head, struct span instance,
                              uint32_t rights, char *why, size_t why_size)
{
	uint8_t storage[BASIC_BYTES_MAX + 8];
	struct buffer bearer = buffer_over(storage, sizeof(storage));
	struct grpc_request grpc = {
		.path = head->path, .authority = head->authority, .authorization = authorization(head, &bearer),
		.headers = head->headers, .headers_count = head->headers_count,
	};
	const struct server_request request = { .conn = conn, .stream = web->stream, .head = &grpc };
	const struct access *access = &web->reapi->cas->access;
	const struct conn_peer *peer = conn_peer(conn);
	struct access_caller caller;
	enum grpc_status status;

	if (peer->loopback && !peer->local && !peer->certificate && !grpc.authorization.size && !web_guard_local(head)) {
		snprintf(why, why_size, "%s", WEB_GUARD_TEXT);
		return GRPC_PERMISSION_DENIED;
	}
	status = access_caller(access, &request, rights, &caller, why, why_size);
	OPENSSL_cleanse(storage, sizeof(storage));
	if (status != GRPC_OK)
		return status;
	web->tenant = callers_tenant(&caller);
	/* A page's <img> may ask for anything: it leaves nothing behind. */
	status = (web->put ? access_enter : access_find)(access, &caller, instance, &web->scope, why, why_size);
	if (status == GRPC_OK && !web->scope.instance) {
		snprintf(why, why_size, "nothing was ever written under this instance name");
		return GRPC_NOT_FOUND;
	}
	/* No waiting helps against names that are kept for ever. */
	return status == GRPC_RESOURCE_EXHAUSTED ? GRPC_PERMISSION_DENIED : status;
}

/* WebDAV, as far as sccache speaks it (RFC 4918). */
static bool asks_for_folder(const struct h2_request *head)
{
	return span_is(head->method, "PROPFIND") || span_is(head->method, "MKCOL");
}

/* What the path and the method alone tell. */
static bool refused(const struct web *web, const struct h2_request *head, struct cache_path *path)
{
	bool known = web->put || web->head || span_is(head->method, "GET") || asks_for_folder(head);

	if (span_is(head->method, "POST"))
		web_refuse(web, 415, "this is no gRPC request, and POST is for these");
	else if (!cache_path_parse(path, head->path) || (path->folder && !asks_for_folder(head)))
		web_refuse(web, 404, "there are /cas/HASH and /ac/KEY of 64 lower-case hex digits, also behind an instance name");
	else if (!known || (!path->folder && asks_for_folder(head)))
		web_refuse(web, 405, "there are GET, HEAD and PUT; of folders PROPFIND and MKCOL");
	else
		return false;
	return true;
}

/* That the body is as long as it says is held by either HTTP. */
static bool note_body(struct web *web, const struct h2_request *head)
{
	for (size_t i = 0; i < head->headers_count; i++) {
		if (span_is(head->headers[i].name, "expect"))
			web->expects = true;
		if (!span_is(head->headers[i].name, "content-length"))
			continue;
		if (web->sized || !http1_length_parse(head->headers[i].value, &web->length))
			return false;
		web->sized = true;
	}
	web->sized |= head->ended;
	return !head->ended || web->length == 0;
}

void web_start(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head)
{
	struct reapi *reapi = context;
	struct web web = {
		.stream = stream, .reapi = reapi, .head = span_is(head->method, "HEAD"),
		.put = span_is(head->method, "PUT") || span_is(head->method, "MKCOL"),
	};
	struct cache_path path;
	char why[WHY_MAX] = "";
	enum grpc_status status;

	reapi->counters.web_requests++;
	if (refused(&web, head, &path))
		return;
	status = enter(&web, conn, head, path.instance,
	               !web.put ? SCOPE_READ : path.result ? SCOPE_WRITE | SCOPE_COMMIT : SCOPE_WRITE, why, sizeof(why));
	if (status != GRPC_OK) {
		web_refuse(&web, http_status(status), why);
		return;
	}
	if (reapi->open >= REAPI_CALLS_MAX) {
		web_refuse(&web, 503, "the gateway has too many calls in progress; try again");
		return;
	}
	if (!callers_admit(reapi, web.tenant, why, sizeof(why))) {
		web_refuse(&web, 503, why);
		return;
	}
	if (!note_body(&web, head)) {
		web_refuse(&web, 400, "Content-Length is no number, or not that of the body");
		return;
	}
	web.digest = path.digest;
	if (path.folder)
		web_folder(&web);
	else if (path.result)
		(web.put ? web_put_result : web_get_result)(&web);
	else if (web.put)
		(web.sized ? web_put_blob : web_put_unsized)(&web);
	else
		web_get_blob(&web);
}
