/*
 * ByteStream/Read.
 *
 *	WAITING -> FETCHING -> SENDING -> ANSWERED
 *	   '-----> FOLLOWING                       an action's output (follow.h)
 *
 * What is not compressed is lent to the call where it was read, with the beginning of each message in the bytes before it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <zstd.h>

#include "gateway/base/check.h"
#include "gateway/reapi/asking.h"
#include "gateway/reapi/callers.h"
#include "gateway/reapi/delivery.h"
#include "gateway/reapi/follow.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/sending.h"
#include "proto/pb.h"
#include "proto/reapi_resource.h"

#define READ_REQUEST_BYTES_MAX 4096
#define READ_MESSAGE_BYTES     (512u << 10)      /* of data in a response */
#define READ_PACKED_BYTES      (256u << 10)      /* the same of compressed data */
#define READ_HEAD_BYTES        8                 /* of a response besides the data */
#define READ_LEVEL             1

enum read_state {
	READ_WAITING,
	READ_FETCHING,
	READ_SENDING,
	READ_FOLLOWING,
	READ_ANSWERED,
};

struct read {
	struct call call;
	struct reapi *reapi;
	struct access_caller caller;
	struct quota_place place;
	enum read_state state;
	bool stepping;
	struct scope scope;
	struct digest digest;
	bool zstd;
	uint64_t offset, end;            /* of the blob; `end`: where the limit is */
	struct delivery *delivery;
	struct asking asking;
	struct sending sending;
	struct follow follow;
	struct span lent, piece;         /* of the delivery's, what was not sent yet; what is with the call */
	ZSTD_CCtx *packer;
	uint8_t *packed;                 /* READ_PACKED_BYTES */
	size_t packed_size;
	bool packed_all;                 /* the frame has ended */
};

static void read_free(struct read *read)
{
	struct reapi *reapi = read->reapi;

	asking_end(&read->asking);
	sending_end(&read->sending);
	follow_end(&read->follow);
	delivery_destroy(read->delivery);
	ZSTD_freeCCtx(read->packer);
	free(read->packed);
	call_fini(&read->call);
	callers_close(reapi, &read->place);
	free(read);
}

static void read_fail(struct read *read, enum grpc_status status, const char *text)
{
	read->state = READ_ANSWERED;
	call_finish(&read->call, status, text);
}

static void read_fail_store(struct read *read, int result)
{
	char text[DIGEST_TEXT_MAX + 64], hex[DIGEST_TEXT_MAX];
	enum grpc_status status;
	const char *why;

	if (result == STORE_MISSING || result == STORE_CORRUPT) {
		snprintf(text, sizeof(text), "%s is not in the store", digest_text(&read->digest, hex));
		read_fail(read, GRPC_NOT_FOUND, text);
		return;
	}
	status = rpc_store_status(result, &why);
	read_fail(read, status, why);
}

/* ---- sending ---- */

/* The next bytes of the blob, borrowed; empty: none now. */
static struct span read_plain(struct read *read)
{
	uint64_t left = read->end - read->offset;
	struct span plain = delivery_data(read->delivery);

	if (plain.size > left)
		plain.size = left;
	return plain;
}

static void read_taken(struct read *read, size_t size)
{
	read->offset += size;
	delivery_taken(read->delivery, size);
}

/* What comes before the data in a ReadResponse. */
static struct span read_head(uint8_t head[static READ_HEAD_BYTES], size_t size)
{
	head[0] = 10 << 3 | PB_BYTES;
	return span_make(head, (size_t)(pb_varint_write(head + 1, size) - head));
}

static void read_sent(struct read *read, size_t size)
{
	read->reapi->counters.bytes_sent += size;
	sending_moved(&read->sending, read->reapi);
}

/* False: nothing more can be packed now. */
static bool read_pack(struct read *read)
{
	struct span plain = read->offset < read->end ? read_plain(read) : (struct span){ 0 };
	bool last = read->offset + plain.size == read->end;
	ZSTD_inBuffer in = { .src = plain.data, .size = plain.size };
	ZSTD_outBuffer out = { .dst = read->packed, .size = READ_PACKED_BYTES, .pos = read->packed_size };
	size_t left;

	if (plain.size == 0 && !last)
		return false;
	left = ZSTD_compressStream2(read->packer, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
	if (ZSTD_isError(left)) {
		read_fail(read, GRPC_INTERNAL, "the blob could not be compressed");
		return false;
	}
	read->packed_size = out.pos;
	read->packed_all = last && left == 0;
	if (in.pos)
		read_taken(read, in.pos);
	return true;
}

/* False: wait. */
static bool read_send_packed(struct read *read)
{
	if (!read->packed_all && read->packed_size < READ_PACKED_BYTES)
		return read_pack(read);
	if (read->packed_size) {
		uint8_t head[READ_HEAD_BYTES];
		const struct span parts[2] = { read_head(head, read->packed_size), span_make(read->packed, read->packed_size) };

		call_send_parts(&read->call, parts, 2);
		read_sent(read, read->packed_size);
	}
	read->packed_size = 0;
	return true;
}

static void read_on_returned(struct loan *loan)
{
	struct read *read = container_of(loan, struct read, sending.loan);

	if (read->lent.size == 0)
		delivery_return(read->delivery);
}

/* The next lot. False: there is none now. */
static bool read_borrow(struct read *read)
{
	uint64_t left = read->end - read->offset;

	if (read->lent.size)
		return true;
	read->lent = delivery_lend(read->delivery);
	if (read->lent.size > left)
		read->lent.size = left;
	return read->lent.size;
}

/* False: wait. The bytes before the data are the record's header, or were sent. */
static bool read_send_plain(struct read *read)
{
	uint8_t storage[READ_HEAD_BYTES], *at;
	struct span head;
	size_t size;

	if (!read_borrow(read))
		return false;
	size = read->lent.size < READ_MESSAGE_BYTES ? read->lent.size : READ_MESSAGE_BYTES;
	head = read_head(storage, size);
	at = (uint8_t *)(uintptr_t)read->lent.data - head.size;
	memcpy(at, head.data, head.size);
	read->piece = span_make(at, head.size + size);
	read->sending.loan = (struct loan){ .pieces = &read->piece, .count = 1, .returned = read_on_returned };
	read->lent = span_make(read->lent.data + size, read->lent.size - size);
	read->offset += size;
	call_lend(&read->call, &read->sending.loan);
	read_sent(read, size);
	return true;
}

static bool read_ended(const struct read *read)
{
	return read->zstd ? read->packed_all && read->packed_size == 0 : read->offset == read->end;
}

static void read_step(struct read *read)
{
	if (read->stepping)
		return;
	read->stepping = true;
	while (read->state == READ_SENDING) {
		if (read_ended(read)) {
			read->state = READ_ANSWERED;
			call_finish(&read->call, GRPC_OK, NULL);
		} else if (!call_has_room(&read->call) || !(read->zstd ? read_send_packed(read) : read_send_plain(read))) {
			break;
		}
	}
	read->stepping = false;
}

static void read_begin_sending(struct read *read)
{
	if (read->zstd) {
		read->packer = ZSTD_createCCtx();
		read->packed = malloc(READ_PACKED_BYTES);
		if (!read->packer || !read->packed) {
			read_fail(read, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
			return;
		}
		ZSTD_CCtx_setParameter(read->packer, ZSTD_c_compressionLevel, READ_LEVEL);
	}
	read->reapi->counters.downloads++;
	sending_begin(&read->sending, read->reapi, &read->call);
	read->state = READ_SENDING;
	read_step(read);
}

/* ---- where the bytes come from ---- */

static void on_ready(void *owner, int result)
{
	if (result == STORE_OK)
		read_begin_sending(owner);
	else
		read_fail_store(owner, result);
}

static void on_data(void *owner)
{
	read_step(owner);
}

/* Part of it has gone out, maybe: what clients bring or make again is what is NOT_FOUND, in mid-blob, too. */
static void on_failed(void *owner, int result)
{
	read_fail_store(owner, result);
}

static const struct delivery_events delivery_events = { .on_ready = on_ready, .on_data = on_data, .on_failed = on_failed };

static void read_fetch(struct read *read)
{
	read->state = READ_FETCHING;
	if (!delivery_start(&read->delivery, read->reapi, &read->scope, &read->digest, read->offset, &delivery_events, read))
		read_fail(read, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
}

/* ---- the request ---- */

/* False: it was refused. */
static bool read_range(struct read *read, const struct bytestream_read_request *request)
{
	char text[160];

	if (request->read_limit < 0) {
		read_fail(read, GRPC_INVALID_ARGUMENT, "read_limit is negative");
		return false;
	}
	if (read->zstd && request->read_limit) {
		read_fail(read, GRPC_INVALID_ARGUMENT, "read_limit goes with uncompressed blobs only");
		return false;
	}
	if (request->read_offset < 0 || (uint64_t)request->read_offset > read->digest.size) {
		snprintf(text, sizeof(text), "read_offset %lld is not within the blob's %llu bytes", (long long)request->read_offset,
		         (unsigned long long)read->digest.size);
		read_fail(read, GRPC_OUT_OF_RANGE, text);
		return false;
	}
	read->offset = (uint64_t)request->read_offset;
	read->end = read->digest.size;
	if (request->read_limit && (uint64_t)request->read_limit < read->end - read->offset)
		read->end = read->offset + (uint64_t)request->read_limit;
	return true;
}

static void read_on_message(struct call *call, struct span message)
{
	struct read *read = container_of(call, struct read, call);
	struct bytestream_read_request request;
	struct reapi_resource resource;
	const char *fault = "malformed ReadRequest";
	char why[256];
	enum grpc_status status;

	if (read->state != READ_WAITING)
		return;
	asking_end(&read->asking);
	if (message_decode(&bytestream_read_request_type, message, &request))
		fault = reapi_resource_parse(&resource, request.resource_name, false);
	if (fault) {
		read_fail(read, GRPC_INVALID_ARGUMENT, fault);
		return;
	}
	read->digest = resource.digest;
	read->zstd = resource.zstd;
	status = access_find(&read->reapi->cas->access, &read->caller, resource.instance, &read->scope, why, sizeof(why));
	if (status != GRPC_OK) {
		read_fail(read, status, why);
	} else if (resource.operation.size) {
		read->state = READ_FOLLOWING;
		follow_begin(&read->follow, read->reapi, call, &read->scope, &resource, &request);
	} else if (read_range(read, &request)) {
		read_fetch(read);
	}
}

static void read_on_end(struct call *call)
{
	struct read *read = container_of(call, struct read, call);

	if (read->state == READ_WAITING)
		read_fail(read, GRPC_INVALID_ARGUMENT, "a Read without a request");
}

static void read_on_writable(struct call *call)
{
	struct read *read = container_of(call, struct read, call);

	if (read->state == READ_FOLLOWING)
		follow_step(&read->follow);
	else
		read_step(read);
}

static void read_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	read_free(container_of(call, struct read, call));
}

static const struct call_events read_events = {
	.on_message = read_on_message,
	.on_end = read_on_end,
	.on_writable = read_on_writable,
	.on_closed = read_on_closed,
};

int bytestream_read(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	struct read *read = calloc(1, sizeof(*read));
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;
	uint64_t tenant;

	if (read)
		status = access_caller(&reapi->cas->access, request, SCOPE_READ, &read->caller, why, why_size);
	else
		snprintf(why, why_size, RPC_TEXT_MEMORY);
	tenant = status == GRPC_OK ? callers_tenant(&read->caller) : 0;
	if (!callers_admit(reapi, tenant, why, why_size))
		status = GRPC_RESOURCE_EXHAUSTED;
	if (status != GRPC_OK) {
		free(read);
		return status;
	}
	read->reapi = reapi;
	callers_open(reapi, tenant, &read->place);
	call_accept(&read->call, request->stream, request->head, READ_REQUEST_BYTES_MAX, &read_events, read);
	asking_begin(&read->asking, reapi, &read->call);
	return 0;
}
