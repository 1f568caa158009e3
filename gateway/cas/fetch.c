/*
 * sluice.v1.Store/Fetch: blobs by digest, in the order asked. A request is read in rounds: a round's blobs are read side by
 * side, then sent as one message; the next round waits until the call took it.
 *
 *	IDLE -> READING -> SENDING (-> LENT) -> READING … -> IDLE
 *
 * A message that is not compressed is lent to the call where it was read, each blob behind its head of the message; rounds are
 * small then, so that what is sent is still in the cache. Compressed ones are of about 4 MiB.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/cas/open_call.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"

#define FETCH_ROUND_BLOBS 1024
#define FETCH_ROUND_BYTES (SLUICE_PACK_BYTES + (1u << 20))       /* buffers of a round: data and each read's extra */
#define FETCH_LENT_BYTES  (512u << 10)                           /* the same when it will be lent */

enum fetch_state {
	FETCH_IDLE,                      /* no request, or the next may come */
	FETCH_READING,                   /* reads of this round are in flight */
	FETCH_SENDING,                   /* the call's queue is full */
	FETCH_LENT,                      /* the call has our memory */
};

struct fetch_one {
	struct fetch *fetch;
	struct store_read read;
};

struct fetch {
	struct call call;
	struct open_call open;
	struct cas *cas;
	struct scope scope;
	enum fetch_state state;
	bool closed;
	bool stepping;                   /* reads may complete inline: fetch_step is on the stack and goes on by itself */
	int level;
	struct buffer request;           /* the digest list */
	struct span rest;                /* what of it is still to be sent */
	struct buffer response;
	struct loan loan;
	struct span *pieces;             /* of it, one a blob of the round */
	struct fetch_one *round;
	uint8_t *memory;                 /* of a round; made when needed */
	size_t memory_size;
	unsigned count, landed;
};

static void fetch_free(struct fetch *fetch)
{
	fetch->cas->fetches_open--;
	open_call_end(&fetch->open);
	call_fini(&fetch->call);
	buffer_fini(&fetch->request);
	buffer_fini(&fetch->response);
	free(fetch->pieces);
	free(fetch->round);
	free(fetch->memory);
	free(fetch);
}

/* Also to a peer that takes no zstd. */
static bool fetch_lends(const struct fetch *fetch)
{
	return fetch->level == 0 || !call_takes_zstd(&fetch->call);
}

/* What the answer says of a read, which is counted. */
static enum fetch_fault fetch_fault(struct fetch *fetch, const struct store_read *read)
{
	struct cas_counters *counters = &fetch->cas->counters;

	if (read->result == STORE_OK) {
		counters->blobs_sent++;
		counters->bytes_sent += read->blob.size;
		return FETCH_OK;
	}
	if (read->result == STORE_MISSING) {
		counters->blobs_missing++;
		return FETCH_MISSING;
	}
	counters->blobs_corrupt++;
	return FETCH_CORRUPT;
}

static void fetch_add(struct fetch *fetch, const struct store_read *read)
{
	enum fetch_fault fault = fetch_fault(fetch, read);

	fetched_put(&fetch->response, fault == FETCH_OK ? read->blob : (struct span){ 0 }, fault);
	fetch->cas->counters.copied_bytes_serve += fault == FETCH_OK ? read->blob.size : 0;
}

/* A blob with its head of the message before it, which takes the place of the record's header: it was read and checked. */
static struct span fetch_piece(struct fetch *fetch, const struct store_read *read)
{
	enum fetch_fault fault = fetch_fault(fetch, read);
	struct span blob = fault == FETCH_OK ? read->blob : (struct span){ 0 };
	uint8_t head[FETCHED_HEAD_MAX], *at;
	size_t size = fetched_head(head, blob.size, fault);

	at = blob.size ? read->buffer + (blob.data - read->buffer) - size : read->buffer;
	CHECK(at >= read->buffer);
	memcpy(at, head, size);
	return span_make(at, size + blob.size);
}

static void fetch_fail(struct fetch *fetch, enum grpc_status status, const char *text)
{
	fetch->rest = (struct span){ 0 };
	call_finish(&fetch->call, status, text);
}

/* Answers with what was read, unless a disk failed: then nothing is known of the blob, and nobody should push it again. */
static void fetch_encode(struct fetch *fetch)
{
	buffer_clear(&fetch->response);
	for (unsigned i = 0; i < fetch->count; i++) {
		if (fetch->round[i].read.result < 0) {
			fetch_fail(fetch, GRPC_UNAVAILABLE, "the gateway's disk failed; see its log");
			return;
		}
		if (fetch_lends(fetch))
			fetch->pieces[i] = fetch_piece(fetch, &fetch->round[i].read);
		else
			fetch_add(fetch, &fetch->round[i].read);
	}
	if (fetch->response.failed)
		fetch_fail(fetch, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
}

static void fetch_on_read(struct store_read *read);

/* Chooses the blobs of the next round: as many as fit the memory, at least one. */
static size_t fetch_choose(struct fetch *fetch)
{
	size_t bytes_max = fetch_lends(fetch) ? FETCH_LENT_BYTES : FETCH_ROUND_BYTES, bytes = 0;
	struct span rest = fetch->rest;
	struct digest digest;

	fetch->count = 0;
	while (fetch->count < FETCH_ROUND_BLOBS && digest_list_next(&rest, &digest)) {
		size_t need = store_read_bytes(digest.size > STORE_BLOB_BYTES_MAX ? 0 : (size_t)digest.size);

		if (fetch->count && bytes + need > bytes_max)
			break;
		bytes += need;
		fetch->round[fetch->count++] = (struct fetch_one){
			.fetch = fetch,
			.read = { .scope = fetch->scope, .digest = digest, .fn = fetch_on_read },
		};
		fetch->rest = rest;
	}
	return bytes;
}

static bool fetch_memory(struct fetch *fetch, size_t size)
{
	if (size <= fetch->memory_size)
		return true;
	free(fetch->memory);
	fetch->memory = malloc(size);
	fetch->memory_size = fetch->memory ? size : 0;
	return fetch->memory != NULL;
}

static void fetch_read(struct fetch *fetch)
{
	size_t bytes = fetch_choose(fetch);
	uint8_t *at;

	if (!fetch_memory(fetch, bytes)) {
		fetch_fail(fetch, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory; try again");
		return;
	}
	fetch->state = FETCH_READING;
	fetch->landed = 0;
	at = fetch->memory;
	store_reads_gather(fetch->cas->store);
	for (unsigned i = 0; i < fetch->count; i++) {
		struct store_read *read = &fetch->round[i].read;

		read->buffer = at;
		if (read->digest.size > STORE_BLOB_BYTES_MAX) {
			at += store_read_bytes(0);
			read->result = STORE_MISSING;
			fetch->landed++;
			continue;
		}
		at += store_read_bytes((size_t)read->digest.size);
		store_read(fetch->cas->store, read);
	}
	store_reads_start(fetch->cas->store);
}

/* A round is out of our hands: the next one, or the next request. */
static void fetch_sent(struct fetch *fetch)
{
	fetch->state = FETCH_IDLE;
	if (fetch->rest.size)
		return;
	free(fetch->memory);
	fetch->memory = NULL;
	fetch->memory_size = 0;
	call_release(&fetch->call);
}

static void fetch_on_returned(struct loan *loan)
{
	struct fetch *fetch = container_of(loan, struct fetch, loan);

	CHECK(fetch->state == FETCH_LENT);
	fetch->state = FETCH_SENDING;
}

static enum call_outcome fetch_lend(struct fetch *fetch)
{
	enum call_outcome outcome;

	fetch->loan = (struct loan){ .pieces = fetch->pieces, .count = fetch->count, .returned = fetch_on_returned };
	outcome = call_lend(&fetch->call, &fetch->loan);
	if (outcome != CALL_SENT)
		return outcome;
	fetch->state = FETCH_LENT;
	fetch->count = 0;                /* sent, when it comes back */
	CHECK(!call_has_room(&fetch->call));     /* asks to be told */
	return CALL_FULL;
}

static void fetch_send(struct fetch *fetch)
{
	enum call_outcome outcome;

	if (fetch->count == 0)
		outcome = CALL_SENT;
	else if (fetch_lends(fetch))
		outcome = fetch_lend(fetch);
	else
		outcome = call_send(&fetch->call, buffer_span(&fetch->response), fetch->level);
	if (outcome == CALL_FULL)
		return;
	if (outcome == CALL_CLOSED)
		fetch->rest = (struct span){ 0 };
	fetch_sent(fetch);
}

/* A loop and not a chain of calls: a request of missing blobs may have thousands of rounds that all complete inline. */
static void fetch_step(struct fetch *fetch)
{
	if (fetch->stepping)
		return;
	fetch->stepping = true;
	for (;;) {
		if (fetch->state == FETCH_IDLE && fetch->rest.size)
			fetch_read(fetch);
		if (fetch->state != FETCH_READING || fetch->landed < fetch->count)
			break;
		fetch_encode(fetch);
		fetch->state = FETCH_SENDING;
		fetch_send(fetch);
		if (fetch->state == FETCH_SENDING || fetch->state == FETCH_LENT)
			break;
	}
	fetch->stepping = false;
}

static void fetch_on_read(struct store_read *read)
{
	struct fetch *fetch = container_of(read, struct fetch_one, read)->fetch;

	fetch->landed++;
	if (fetch->closed && fetch->landed == fetch->count)
		fetch_free(fetch);
	else if (!fetch->closed)
		fetch_step(fetch);
}

static void fetch_on_message(struct call *call, struct span message)
{
	struct fetch *fetch = container_of(call, struct fetch, call);
	struct fetch_request request;

	CHECK(fetch->state == FETCH_IDLE);
	call_hold(call);
	buffer_clear(&fetch->request);
	if (message_decode(&fetch_request_type, message, &request))
		buffer_put(&fetch->request, request.blobs.data, request.blobs.size);
	fetch->rest = buffer_span(&fetch->request);
	if (fetch->request.failed || fetch->rest.size == 0 || digest_list_count(fetch->rest) == SIZE_MAX) {
		fetch_fail(fetch, GRPC_INVALID_ARGUMENT, "malformed FetchRequest, or none or more than 16384 digests in it");
		call_release(call);
		return;
	}
	fetch_step(fetch);
}

static void fetch_on_end(struct call *call)
{
	call_finish(call, GRPC_OK, NULL);
}

static void fetch_on_writable(struct call *call)
{
	struct fetch *fetch = container_of(call, struct fetch, call);

	if (fetch->state != FETCH_SENDING)
		return;
	fetch_send(fetch);
	fetch_step(fetch);
}

static void fetch_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct fetch *fetch = container_of(call, struct fetch, call);

	open_call_unwatch(&fetch->open);
	fetch->closed = true;
	fetch->cas->counters.copied_bytes_serve += call->bytes_copied;
	if (fetch->state != FETCH_READING)
		fetch_free(fetch);
}

/* One that owes nothing is only one of so many; and who asks may have much to do with what he got. */
static uint64_t fetch_patience_ns(const struct open_call *open)
{
	const struct fetch *fetch = container_of(open, struct fetch, open);

	if (fetch->state == FETCH_READING)
		return 0;
	return fetch->state != FETCH_IDLE || call_untaken(&fetch->call) ? CAS_FETCH_IDLE_NS : CAS_FETCH_SILENT_NS;
}

/* No status gets past an answer that is not taken. */
static void fetch_on_expired(struct open_call *open)
{
	struct fetch *fetch = container_of(open, struct fetch, open);

	if (!fetch->call.finishing) {
		fetch->cas->counters.fetches_expired++;
		log_event(LOG_INFO, "fetch expired", LOG_U64("tenant", fetch->scope.tenant));
	}
	if (fetch->call.finishing || fetch->state != FETCH_IDLE || call_untaken(&fetch->call))
		call_cancel(&fetch->call);
	else
		call_finish(&fetch->call, GRPC_DEADLINE_EXCEEDED, "nothing was asked for too long: ask in another call");
}

static const struct open_call_events fetch_open_events = {
	.patience_ns = fetch_patience_ns, .on_expired = fetch_on_expired,
};

static const struct call_events fetch_events = {
	.on_message = fetch_on_message,
	.on_end = fetch_on_end,
	.on_writable = fetch_on_writable,
	.on_closed = fetch_on_closed,
};

int cas_fetch_start(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct cas *cas = context;
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;
	struct access_caller caller;
	struct fetch *fetch;

	if (!cas_admits(cas, why, why_size))
		return GRPC_RESOURCE_EXHAUSTED;
	fetch = calloc(1, sizeof(*fetch));
	if (fetch) {
		fetch->round = calloc(FETCH_ROUND_BLOBS, sizeof(*fetch->round));
		fetch->pieces = calloc(FETCH_ROUND_BLOBS, sizeof(*fetch->pieces));
	}
	if (!fetch || !fetch->round || !fetch->pieces)
		snprintf(why, why_size, "the gateway is out of memory; try again");
	else
		status = access_caller(&cas->access, request, SCOPE_READ, &caller, why, why_size);
	if (status == GRPC_OK)
		status = access_find(&cas->access, &caller, (struct span){ 0 }, &fetch->scope, why, why_size);
	if (status == GRPC_OK && !open_call_begin(&fetch->open, cas, &fetch->scope, why, why_size))
		status = GRPC_RESOURCE_EXHAUSTED;
	if (status != GRPC_OK) {
		if (fetch) {
			free(fetch->round);
			free(fetch->pieces);
		}
		free(fetch);
		return status;
	}
	fetch->cas = cas;
	/* Compression pays on links; a peer on this machine reads faster than anybody compresses. */
	fetch->level = conn_peer(request->conn)->local || conn_peer(request->conn)->loopback ? 0 : 1;
	fetch->request = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	fetch->response = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	cas->fetches_open++;
	cas->counters.fetches++;
	call_accept(&fetch->call, request->stream, request->head, SLUICE_MESSAGE_BYTES_MAX, &fetch_events, fetch);
	open_call_watch(&fetch->open, cas, &fetch->call, conn_peer(request->conn), &fetch_open_events);
	return 0;
}
