/*
 * REAPI's ways to carry the same bytes: batch-put and batch-get with a message of up to 1 MiB of small blobs a call, stream-put
 * and stream-get with a large blob a call, whose data is that of several packs, small-put with one of the packs' blobs a call. As
 * many calls at a time as load.streams says.
 */
#include "gateway/base/check.h"
#include "perf/bench.h"
#include "perf/ingest/load.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"

#define BATCH_BYTES        (1u << 20)
#define BLOB_BYTES         (16u << 20)
#define WRITE_BYTES        (64u << 10)   /* of data in a WriteRequest */
#define ANSWER_BYTES_MAX   (8u << 20)
#define RESOURCE_BYTES_MAX 256

/* ---- bodies ---- */

static void encode_batch_update(struct body *body, const struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct digest digest = job_digest(&jobs[i]);
		size_t mark = pb_begin(&body->message, 2);

		message_put_digest(&body->message, 1, &digest);
		pb_put_bytes(&body->message, 2, span_make(jobs[i].data, jobs[i].size));
		pb_end(&body->message, mark);
	}
}

static void encode_batch_read(struct body *body, const struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct digest digest = job_digest(&jobs[i]);

		message_put_digest(&body->message, 2, &digest);
	}
}

static void encode_blob(struct body *body, const struct sha256_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		buffer_put(&body->message, jobs[i].data, jobs[i].size);
	body->digest.size = body->message.size;
	sha256_once(body->message.data, body->message.size, body->digest.hash);
}

static size_t resource_name(char text[static RESOURCE_BYTES_MAX], const struct body *body, bool upload)
{
	char hex[DIGEST_HEX_BYTES], uuid[64] = "";

	digest_hex(&body->digest, hex);
	if (upload)
		snprintf(uuid, sizeof(uuid), "uploads/00000000-0000-4000-8000-%012zx/", (size_t)(body - load.bodies));
	return (size_t)snprintf(text, RESOURCE_BYTES_MAX, "%sblobs/%.*s/%llu", uuid, DIGEST_HEX_BYTES, hex,
	                        (unsigned long long)body->digest.size);
}

/* ---- answers ---- */

/* A BatchUpdateBlobsResponse or BatchReadBlobsResponse: each blob has a status. Returns the bytes of data. */
static size_t check_batch(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field, inner, status;
	size_t bytes = 0;

	while (pb_next(&reader, &field)) {
		struct pb_reader response = pb_enter(&reader, &field);

		while (pb_next(&response, &inner)) {
			struct pb_reader codes;

			if (inner.number == 2 && load.way == &batch_get)
				bytes += inner.bytes.size;
			if (inner.number != (load.way == &batch_get ? 3u : 2u))
				continue;
			codes = pb_enter(&response, &inner);
			while (pb_next(&codes, &status))
				CHECK(status.number != 1 || status.value == GRPC_OK);
		}
		CHECK(!response.failed);
	}
	CHECK(!reader.failed);
	return bytes;
}

static void on_message(struct call *call, struct span message)
{
	struct exchange *exchange = call->owner;
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	if (load.way == &batch_put || load.way == &batch_get) {
		exchange->received += check_batch(message);
		return;
	}
	while (pb_next(&reader, &field)) {
		if (load.way == &stream_get && field.number == 10)
			exchange->received += field.bytes.size;
		if (load.way == &stream_put && field.number == 1)
			CHECK(field.value == exchange->body->digest.size);
	}
	CHECK(!reader.failed);
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct exchange *exchange = call->owner;

	if (status != GRPC_OK) {
		fprintf(stderr, "load: %s: %.*s\n", grpc_status_name(status), (int)message.size, (const char *)message.data);
		exit(1);
	}
	if (load.way == &batch_get || load.way == &stream_get)
		CHECK(exchange->received == exchange->body->data_bytes);
	load.bytes_received += exchange->received;
	load.done++;
	exchange->ended = true;
}

/* ---- what is sent ---- */

static void write_more(struct exchange *exchange)
{
	const struct body *body = exchange->body;
	char name[RESOURCE_BYTES_MAX];

	while (exchange->sent < body->message.size && call_has_room(&exchange->call)) {
		uint8_t storage[RESOURCE_BYTES_MAX + 64];
		struct buffer head = buffer_over(storage, sizeof(storage));
		size_t left = body->message.size - exchange->sent, size = left < WRITE_BYTES ? left : WRITE_BYTES;
		struct span parts[2];

		if (exchange->sent == 0)
			pb_put_bytes(&head, 1, span_make(name, resource_name(name, body, true)));
		pb_put_int64(&head, 2, (int64_t)exchange->sent);
		pb_put_bool(&head, 3, size == left);
		storage[head.size++] = 10 << 3 | PB_BYTES;
		head.size = (size_t)(pb_varint_write(storage + head.size, size) - storage);
		parts[0] = buffer_span(&head);
		parts[1] = span_make(body->message.data + exchange->sent, size);
		CHECK(!head.failed && call_send_parts(&exchange->call, parts, 2) == CALL_SENT);
		exchange->sent += size;
		if (size == left)
			call_end(&exchange->call);
	}
}

static bool is_write(void)
{
	return load.way == &stream_put || load.way == &small_put;
}

static void on_writable(struct call *call)
{
	if (is_write())
		write_more(call->owner);
}

static void send_one(struct exchange *exchange, struct span message)
{
	CHECK(call_send(&exchange->call, message, 0) == CALL_SENT);
	call_end(&exchange->call);
}

static void send_read(struct exchange *exchange)
{
	char name[RESOURCE_BYTES_MAX];
	uint8_t storage[RESOURCE_BYTES_MAX + 8];
	struct buffer request = buffer_over(storage, sizeof(storage));

	pb_put_bytes(&request, 1, span_make(name, resource_name(name, exchange->body, false)));
	send_one(exchange, buffer_span(&request));
}

static const char *method(void)
{
	if (load.way == &batch_put)
		return REAPI_BATCH_UPDATE;
	if (load.way == &batch_get)
		return REAPI_BATCH_READ;
	return is_write() ? BYTESTREAM_WRITE : BYTESTREAM_READ;
}

static void start(struct exchange *exchange)
{
	static const struct call_events events = { .on_message = on_message, .on_writable = on_writable, .on_closed = on_closed };

	call_fini(&exchange->call);
	exchange->busy = exchange->ended = false;
	exchange->body = next_body();
	if (!exchange->body)
		return;
	exchange->busy = true;
	exchange->sent = exchange->received = 0;
	CHECK(call_start(&exchange->call, conn_h2(exchange->end->conn), method(), span_text("127.0.0.1"), 0, NULL, 0, ANSWER_BYTES_MAX,
	                 &events, exchange) == 0);
	if (is_write())
		write_more(exchange);
	else if (load.way == &stream_get)
		send_read(exchange);
	else
		send_one(exchange, buffer_span(&exchange->body->message));
}

/* New ones are started from the loop: not from inside the end of the one before. */
static bool step(void)
{
	for (unsigned i = 0; i < load.connections; i++)
		for (unsigned k = 0; k < load.streams; k++)
			if (!load.ends[i].exchanges[k].busy || load.ends[i].exchanges[k].ended)
				start(&load.ends[i].exchanges[k]);
	return load.done == load.bodies_count;
}

const struct way batch_put = { "batch-put", BATCH_BYTES, encode_batch_update, NULL, step };
const struct way batch_get = { "batch-get", BATCH_BYTES, encode_batch_read, NULL, step };
const struct way stream_put = { "stream-put", BLOB_BYTES, encode_blob, NULL, step };
const struct way small_put = { "small-put", 1, encode_blob, NULL, step };
const struct way stream_get = { "stream-get", BLOB_BYTES, encode_blob, NULL, step };
