/* Blobs from a gateway: one request of many digests, answers in the order asked. */
#include "gateway/context/download.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chunker/sha256.h"
#include "gateway/base/err.h"
#include "gateway/base/list.h"
#include "gateway/context/whole_blob.h"
#include "proto/sluice_v1.h"

#define DOWNLOAD_JOBS_MAX 4096           /* digests a request */

struct download {
	struct source source;
	struct client *client;
	struct client_call *call;        /* NULL: the next request opens one */
	struct sha256 hasher;
	struct buffer request, list;
	struct sha256_job *jobs;
	size_t behind;                   /* blobs of a request that was given up, still to come */
	uint64_t bytes;
	enum grpc_status status;
};

struct download_request {
	const struct digest *digests;
	size_t count, base;
	size_t received;                 /* blobs that have come, whatever became of them */
	int (*visit)(void *context, size_t index, struct span blob);
	void *context;
	char *why;
	size_t why_size;
};

static int download_open(struct download *download, char *why, size_t why_size)
{
	int r = client_call_open(&download->call, download->client, SLUICE_FETCH, NULL, 0);

	if (r < 0)
		snprintf(why, why_size, "%s", client_error(download->client));
	return r;
}

static int download_ended(struct download *download, int outcome, char *why, size_t why_size)
{
	const char *text;

	if (outcome == CLIENT_INTERRUPTED) {
		snprintf(why, why_size, "interrupted");
		return -EINTR;
	}
	download->status = client_call_status(download->call, &text);
	if (download->status == GRPC_OK) {       /* in the middle of what was asked for */
		snprintf(why, why_size, "%s", text);
		return ERR_RAISE(-EPROTO);
	}
	snprintf(why, why_size, "%s: %s", grpc_status_name(download->status), text);
	return download->status == GRPC_UNAVAILABLE ? -ECONNRESET : -EREMOTEIO;
}

static int download_ask(struct download *download, const struct download_request *request)
{
	struct fetch_request message;
	int r;

	buffer_clear(&download->list);
	buffer_clear(&download->request);
	for (size_t i = 0; i < request->count; i++)
		digest_list_put(&download->list, &request->digests[i]);
	message.blobs = buffer_span(&download->list);
	message_encode(&fetch_request_type, &download->request, &message);
	r = client_send(download->call, buffer_span(&download->request), 0);
	return r == CLIENT_OK ? 0 : download_ended(download, r, request->why, request->why_size);
}

static int download_refuse(const struct download_request *request, size_t index, int r, const char *what)
{
	char text[DIGEST_TEXT_MAX];

	snprintf(request->why, request->why_size, "blob %s %s", digest_text(&request->digests[index], text), what);
	return r;
}

static int download_check_fault(const struct download_request *request, size_t index, uint32_t fault)
{
	if (fault == FETCH_OK)
		return 0;
	return download_refuse(request, index, -ENOENT, fault == FETCH_MISSING ? "is not on the gateway (evicted?): push again" :
	                                                                         "was damaged on the gateway's disk: push again");
}

/* Takes a response apart into jobs. Counts all its blobs as received, whatever it returns: they will not come again. */
static int download_split(struct download *download, struct download_request *request, struct span message)
{
	size_t first = request->received;
	struct packed_blob blob;
	bool failed = false;
	int r = 0;

	while (fetched_next(&message, &blob, &failed)) {
		if (request->received == request->count) {
			snprintf(request->why, request->why_size, "the gateway sent more blobs than asked for");
			return ERR_RAISE(-EPROTO);
		}
		if (r == 0)
			r = download_check_fault(request, request->received, blob.fault);
		download->jobs[request->received - first] = (struct sha256_job){ .data = blob.data.data, .size = blob.data.size };
		request->received++;
	}
	if (!failed && request->received > first)
		return r;
	snprintf(request->why, request->why_size, "the gateway sent a malformed answer");
	return ERR_RAISE(-EPROTO);
}

/* Checks the digests of one response's blobs together, then hands them over. */
static int download_take(struct download *download, struct download_request *request, struct span message)
{
	size_t first = request->received;
	int r = download_split(download, request, message);

	if (r < 0)
		return r;
	sha256_batch(&download->hasher, download->jobs, request->received - first);
	for (size_t i = first; r == 0 && i < request->received; i++) {
		const struct sha256_job *job = &download->jobs[i - first];
		const struct digest *digest = &request->digests[i];

		if (job->size != digest->size || memcmp(job->digest, digest->hash, DIGEST_HASH_BYTES) != 0)
			return download_refuse(request, i, -EBADMSG, "arrived with other bytes than its digest says");
		download->bytes += job->size;
		r = request->visit(request->context, request->base + i, span_make(job->data, job->size));
	}
	return r;
}

static int download_receive(struct download *download, const struct download_request *request, struct span *message)
{
	int r = client_receive(download->call, message, UINT64_MAX);

	return r == CLIENT_OK ? 0 : download_ended(download, r, request->why, request->why_size);
}

/* What a request still has coming that somebody gave up in its middle. */
static int download_catch_up(struct download *download, const struct download_request *request)
{
	int r = 0;

	while (r == 0 && download->behind) {
		struct packed_blob blob;
		struct span message;
		bool failed = false;

		r = download_receive(download, request, &message);
		while (r == 0 && download->behind && fetched_next(&message, &blob, &failed))
			download->behind--;
		if (r == 0 && (failed || message.size)) {
			snprintf(request->why, request->why_size, "the gateway sent a malformed answer");
			r = ERR_RAISE(-EPROTO);
		}
	}
	return r;
}

static int download_begin(struct download *download, const struct download_request *request, struct span *first)
{
	int r = download->call ? download_catch_up(download, request) : download_open(download, request->why, request->why_size);

	if (r == 0)
		r = download_ask(download, request);
	if (r)
		return r;
	r = download_receive(download, request, first);
	if (r)
		download->behind = request->count;
	return r;
}

/*
 * The gateway ends a call in which nothing is asked for long: while a long blob came by another one, say, or stdout led to
 * a pager. Then a new one asks.
 */
static int download_begin_again(struct download *download, const struct download_request *request, struct span *first)
{
	client_call_close(download->call);
	download->call = NULL;
	download->behind = 0;
	download->status = GRPC_OK;
	return download_begin(download, request, first);
}

static int download_some(struct download *download, struct download_request *request)
{
	struct span message;
	int r = download_begin(download, request, &message);

	if (r == -EREMOTEIO && download->status == GRPC_DEADLINE_EXCEEDED)
		r = download_begin_again(download, request, &message);
	if (r)
		return r;
	r = download_take(download, request, message);
	while (r == 0 && request->received < request->count) {
		r = download_receive(download, request, &message);
		if (r == 0)
			r = download_take(download, request, message);
	}
	download->behind = request->count - request->received;
	return r;
}

static int download_fetch(struct source *source, const struct digest *digests, size_t count,
                          int (*visit)(void *context, size_t index, struct span blob), void *context, char *why,
                          size_t why_size)
{
	struct download *download = container_of(source, struct download, source);
	int r = 0;

	for (size_t base = 0; r == 0 && base < count; base += DOWNLOAD_JOBS_MAX) {
		struct download_request request = {
			.digests = digests + base, .base = base, .visit = visit, .context = context, .why = why, .why_size = why_size,
			.count = count - base < DOWNLOAD_JOBS_MAX ? count - base : DOWNLOAD_JOBS_MAX,
		};

		r = download_some(download, &request);
	}
	return r;
}

static int download_stream(struct source *source, const struct digest *digest,
                           int (*visit)(void *context, uint64_t offset, struct span bytes), void *context, char *why,
                           size_t why_size)
{
	struct download *download = container_of(source, struct download, source);
	int r = whole_blob_read(download->client, digest, visit, context, why, why_size);

	if (r == 0)
		download->bytes += digest->size;
	return r;
}

int download_create(struct download **download, struct client *client, char *why, size_t why_size)
{
	struct download *made = calloc(1, sizeof(*made));
	int r;

	if (!made) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	made->source.fetch = download_fetch;
	made->source.stream = download_stream;
	made->client = client;
	made->request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	made->list = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	/* A response holds at most what one request asked for. */
	made->jobs = calloc(DOWNLOAD_JOBS_MAX, sizeof(*made->jobs));
	sha256_init(&made->hasher, SHA256_AUTO);
	if (!made->jobs)
		snprintf(why, why_size, "out of memory");
	r = made->jobs ? download_open(made, why, why_size) : -ENOMEM;
	if (r < 0) {
		download_destroy(made);
		return ERR_RAISE(r);
	}
	*download = made;
	return 0;
}

void download_destroy(struct download *download)
{
	if (!download)
		return;
	client_call_close(download->call);
	buffer_fini(&download->request);
	buffer_fini(&download->list);
	free(download->jobs);
	free(download);
}

struct source *download_source(struct download *download)
{
	return &download->source;
}

uint64_t download_bytes(const struct download *download)
{
	return download->bytes;
}

enum grpc_status download_status(const struct download *download)
{
	return download->status;
}
