/* Who asks, for what, and the answers. */
#include "gateway/reapi/web.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/write.h"
#include "proto/escape.h"

#define WHY_MAX              512
#define BASIC_BYTES_MAX      1024        /* user and password */
#define WEB_CROWDED_NS       10000000000u

static struct header field(const char *name, const char *value)
{
	return (struct header){ .name = span_text(name), .value = span_text(value) };
}

/* ---- answers ---- */

static void answer(struct stream *stream, bool head, unsigned status, const char *text)
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
		headers[count++] = field("content-type", "text/plain; charset=utf-8");
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

void web_answer(struct web *web, unsigned status, const char *text)
{
	web->idle_since_ns = 0;
	if (!web->stream || web->answered)
		return;
	web->answered = true;
	answer(web->stream, web->head, status, text);
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
	web_answer(web, 503, "too many writes at a time; try again");
}

void web_begin(struct web *web, uint64_t bytes)
{
	char length[24] = "";
	struct header headers[] = { field(":status", "200"), field("content-length", ""),
	                            field("content-type", "application/octet-stream") };

	if (!web->stream || web->answered)
		return;
	web->answered = true;
	snprintf(length, sizeof(length), "%llu", (unsigned long long)bytes);
	headers[1].value = span_text(length);
	(void)stream_headers(web->stream, headers, 3, web->head || bytes == 0);
}

void web_refuse(const struct web *web, unsigned status, const char *text)
{
	web->reapi->counters.web_refused++;
	answer(web->stream, web->head, status, text);
}

/* ---- life ---- */

void web_accept(struct web *web, const struct web *from, const struct stream_events *events, void (*fini)(struct web *web))
{
	*web = *from;
	web->fini = fini;
	web->stream->events = events;
	web->stream->owner = web;
	web->reapi->open++;
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
	free(web);
	reapi->open--;
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

/* ---- time ---- */

/* A client that stalls: its answer may not get through either. */
void web_sweep(struct reapi *reapi, uint64_t now)
{
	bool crowded = reapi->crowded_ns && now - reapi->crowded_ns < WEB_CROWDED_NS;
	uint64_t write_max = crowded ? WEB_CROWDED_NS : REAPI_WRITE_IDLE_NS;

	list_for_each_safe(link, after, &reapi->web) {
		struct web *web = container_of(link, struct web, link);

		if (!web->stream || !web->idle_since_ns ||
		    now - web->idle_since_ns < (web->idle_max_ns ? web->idle_max_ns : write_max))
			continue;
		reapi->counters.uploads_expired++;
		web->idle_since_ns = 0;
		stream_reset(web->stream, 8);    /* CANCEL */
	}
}

/* ---- requests ---- */

/*
 * HTTP clients know Basic rather than Bearer: the password is the token, and the user's name is nobody's business. What is none
 * stays as it is, to be refused as an unknown credential.
 */
static struct span authorization(const struct h2_request *head, struct buffer *bearer)
{
	uint8_t storage[BASIC_BYTES_MAX];
	struct buffer plain = buffer_over(storage, sizeof(storage));
	struct span value = { 0 };
	const uint8_t *colon;

	for (size_t i = 0; i < head->headers_count && !value.size; i++)
		if (span_is(head->headers[i].name, "authorization"))
			value = head->headers[i].value;
	if (value.size < 6 || memcmp(value.data, "Basic ", 6) != 0 ||
	    !base64_take(&plain, span_make(value.data + 6, value.size - 6)))
		return value;
	colon = plain.size ? memchr(plain.data, ':', plain.size) : NULL;
	if (!colon)
		return value;
	buffer_put_text(bearer, "Bearer ");
	buffer_put(bearer, colon + 1, plain.size - (size_t)(colon + 1 - plain.data));
	return bearer->failed ? value : buffer_span(bearer);
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
	struct access_caller caller;
	enum grpc_status status = access_caller(access, &request, rights, &caller, why, why_size);

	return status == GRPC_OK ? access_enter(access, &caller, instance, &web->scope, why, why_size) : status;
}

/* What no stream of ours is needed for to answer. */
static bool refused(struct stream *stream, const struct h2_request *head, struct cache_path *path)
{
	bool known = span_is(head->method, "GET") || span_is(head->method, "HEAD") || span_is(head->method, "PUT");

	if (span_is(head->method, "POST"))
		answer(stream, false, 415, "this is no gRPC request, and POST is for these");
	else if (!cache_path_parse(path, head->path))
		answer(stream, span_is(head->method, "HEAD"), 404,
		       "there are /cas/HASH and /ac/KEY of 64 lower-case hex digits, also behind an instance name");
	else if (!known)
		answer(stream, false, 405, "there are GET, HEAD and PUT");
	else
		return false;
	return true;
}

static void note_body(struct web *web, const struct h2_request *head)
{
	for (size_t i = 0; i < head->headers_count; i++) {
		struct span value = head->headers[i].value;

		if (span_is(head->headers[i].name, "expect"))
			web->expects = true;
		if (!span_is(head->headers[i].name, "content-length") || value.size == 0 || value.size > 18)
			continue;
		web->sized = true;
		for (size_t at = 0; at < value.size; at++) {
			web->sized = web->sized && value.data[at] >= '0' && value.data[at] <= '9';
			web->length = web->length * 10 + (value.data[at] - '0');
		}
	}
	if (head->ended)
		web->sized = true, web->length = 0;
}

void web_start(void *context, struct conn *conn, struct stream *stream, const struct h2_request *head)
{
	struct reapi *reapi = context;
	struct web web = { .stream = stream, .reapi = reapi, .head = span_is(head->method, "HEAD") };
	bool put = span_is(head->method, "PUT");
	struct cache_path path;
	char why[WHY_MAX] = "";
	enum grpc_status status;

	reapi->counters.web_requests++;
	if (refused(stream, head, &path)) {
		reapi->counters.web_refused++;
		return;
	}
	status = enter(&web, conn, head, path.instance,
	               !put ? SCOPE_READ : path.result ? SCOPE_WRITE | SCOPE_COMMIT : SCOPE_WRITE, why, sizeof(why));
	if (status != GRPC_OK) {
		web_refuse(&web, http_status(status), why);
		return;
	}
	if (reapi->open >= REAPI_CALLS_MAX) {
		web_refuse(&web, 503, "the gateway has too many calls in progress; try again");
		return;
	}
	web.digest = path.digest;
	note_body(&web, head);
	if (path.result)
		(put ? web_put_result : web_get_result)(&web);
	else
		(put ? web_put_blob : web_get_blob)(&web);
}
