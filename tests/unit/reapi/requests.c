/* REAPI's calls for tests. */
#include "requests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "chunker/sha256.h"
#include "proto/pb.h"
#include "proto/zstd_message.h"

#define MESSAGE_MAX (16u << 20)
#define STREAM_WINDOW_BYTES (4u << 20)   /* of a client's; its connection has as much as four of them */

void answer_fini(struct answer *answer)
{
	buffer_fini(&answer->body);
}

static void answer_end(struct answer *answer, struct client_call *call)
{
	const char *text;

	answer->status = client_call_status(call, &text);
	snprintf(answer->text, sizeof(answer->text), "%s", text);
	client_call_close(call);
}

struct answer ask_method(struct client *client, const char *path, struct buffer request)
{
	struct answer answer = { .body = buffer_heap(MESSAGE_MAX) };
	struct client_call *call;
	struct span message;

	assert_false(request.failed);
	assert_int_equal(client_call_open(&call, client, path, NULL, 0), 0);
	client_send(call, buffer_span(&request), 0);
	client_send_end(call);
	buffer_fini(&request);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		buffer_put(&answer.body, message.data, message.size);
	answer_end(&answer, call);
	return answer;
}

void ask_refused(struct client *client, const char *path, struct buffer request, enum grpc_status status, const char *says)
{
	struct answer answer = ask_method(client, path, request);

	if (answer.status != status || !strstr(answer.text, says))
		fail_msg("%s: %s: %s", path, grpc_status_name(answer.status), answer.text);
	answer_fini(&answer);
}

struct digest digest_made(struct span bytes)
{
	struct digest digest = { .size = bytes.size };

	sha256_once(bytes.data, bytes.size, digest.hash);
	return digest;
}

struct buffer noise(size_t size, uint32_t seed)
{
	struct buffer bytes = buffer_heap(size);
	uint8_t *at = buffer_reserve(&bytes, size);
	uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < size; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		at[i] = (uint8_t)(state >> 24);
	}
	bytes.size = size;
	return bytes;
}

struct buffer request_find(const struct digest *digests, size_t count, const char *instance)
{
	struct buffer request = buffer_heap(MESSAGE_MAX);

	pb_put_text(&request, 1, instance);
	for (size_t i = 0; i < count; i++)
		message_put_digest(&request, 2, &digests[i]);
	return request;
}

struct buffer request_read(const struct digest *digests, size_t count, bool zstd)
{
	struct buffer request = request_find(digests, count, "");

	if (zstd)
		pb_put_varint_always(&request, 3, REAPI_ZSTD);
	return request;
}

struct buffer request_update(const struct digest *digests, const struct span *blobs, size_t count, bool zstd)
{
	struct buffer request = buffer_heap(MESSAGE_MAX);

	for (size_t i = 0; i < count; i++) {
		struct buffer packed = buffer_heap(MESSAGE_MAX);
		bool smaller = zstd && zstd_message_deflate(&packed, blobs[i], 1);
		size_t mark = pb_begin(&request, 2);

		message_put_digest(&request, 1, &digests[i]);
		pb_put_bytes(&request, 2, smaller ? buffer_span(&packed) : blobs[i]);
		pb_put_varint(&request, 3, smaller ? REAPI_ZSTD : REAPI_IDENTITY);
		pb_end(&request, mark);
		buffer_fini(&packed);
	}
	return request;
}

size_t find_missing(struct client *client, const struct digest *digests, size_t count)
{
	struct answer answer = ask_method(client, REAPI_FIND_MISSING, request_find(digests, count, ""));
	struct reapi_find_missing_request missing;       /* the response's field has the same number */
	size_t found;

	assert_int_equal(answer.status, GRPC_OK);
	assert_true(message_decode(&reapi_find_missing_request_type, buffer_span(&answer.body), &missing));
	found = missing.blob_digests.count;
	answer_fini(&answer);
	return found;
}

struct digest send_blob(struct client *client, struct span blob)
{
	struct digest digest = digest_made(blob);
	struct answer answer = ask_method(client, REAPI_BATCH_UPDATE, request_update(&digest, &blob, 1, false));

	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	assert_int_equal(find_missing(client, &digest, 1), 0);
	return digest;
}

char *resource_name(char *out, size_t size, const char *uuid, bool zstd, const struct digest *digest)
{
	char hex[DIGEST_HEX_BYTES];

	digest_hex(digest, hex);
	snprintf(out, size, "%s%s%s%s/%.*s/%llu", uuid ? "uploads/" : "", uuid ? uuid : "", uuid ? "/" : "",
	         zstd ? "compressed-blobs/zstd" : "blobs", DIGEST_HEX_BYTES, hex, (unsigned long long)digest->size);
	return out;
}

struct buffer write_message(const char *name, int64_t offset, struct span data, bool finish)
{
	struct buffer request = buffer_heap(MESSAGE_MAX);

	pb_put_text(&request, 1, name);
	pb_put_int64(&request, 2, offset);
	pb_put_bool(&request, 3, finish);
	pb_put_bytes(&request, 10, data);
	return request;
}

int64_t committed_of(struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;
	int64_t committed = 0;

	while (pb_next(&reader, &field))
		if (field.number == 1)
			pb_as_int64(&reader, &field, &committed);
	return committed;
}

enum grpc_status write_all(struct client *client, const char *name, struct span data, size_t step, int64_t *committed,
                           char *text, size_t text_size)
{
	struct answer answer = { 0 };
	struct client_call *call;
	struct span message;
	size_t at = 0;
	int r;

	assert_int_equal(client_call_open(&call, client, BYTESTREAM_WRITE, NULL, 0), 0);
	do {
		size_t size = data.size - at < step ? data.size - at : step;
		struct span part = size ? span_make(data.data + at, size) : (struct span){ 0 };
		struct buffer request = write_message(name, (int64_t)at, part, at + size == data.size);

		r = client_send(call, buffer_span(&request), 0);
		buffer_fini(&request);
		at += size;
	} while (r == CLIENT_OK && at < data.size);
	client_send_end(call);
	*committed = 0;
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		*committed = committed_of(message);
	answer_end(&answer, call);
	snprintf(text, text_size, "%s", answer.text);
	return answer.status;
}

static struct buffer request_bytes(const char *name, int64_t offset, int64_t limit)
{
	struct buffer request = buffer_heap(4096);

	pb_put_text(&request, 1, name);
	pb_put_int64(&request, 2, offset);
	pb_put_int64(&request, 3, limit);
	return request;
}

struct client_call *read_open(struct client *client, const char *name, int64_t offset, int64_t limit)
{
	struct buffer request = request_bytes(name, offset, limit);
	struct client_call *call;

	assert_int_equal(client_call_open(&call, client, BYTESTREAM_READ, NULL, 0), 0);
	client_send(call, buffer_span(&request), 0);
	buffer_fini(&request);
	return call;
}

struct buffer read_all(struct client *client, const char *name, int64_t offset, int64_t limit, enum grpc_status *status)
{
	struct client_call *call = read_open(client, name, offset, limit);
	struct buffer bytes = buffer_heap(256u << 20);
	struct answer answer = { 0 };
	struct span message;
	struct pb_field field;

	client_send_end(call);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK) {
		struct pb_reader reader = pb_reader_make(message);

		while (pb_next(&reader, &field))
			if (field.number == 10)
				buffer_put(&bytes, field.bytes.data, field.bytes.size);
	}
	answer_end(&answer, call);
	*status = answer.status;
	return bytes;
}

static void unread_on_message(struct call *call, struct span message)
{
}

static void unread_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	call_fini(call);
}

static const struct call_events unread_events = { .on_message = unread_on_message, .on_closed = unread_on_closed };

struct client *full_client(struct gateway_thread *gateway, const struct digest *digest)
{
	static struct call reads[FULL_CLIENT_READS];
	struct client *client = gateway_thread_client(gateway, NULL);
	uint64_t received = 0;
	struct buffer request;
	char name[512];

	request = request_bytes(resource_name(name, sizeof(name), NULL, false, digest), 0, 0);
	for (unsigned i = 0; i < FULL_CLIENT_READS; i++) {
		reads[i] = (struct call){ 0 };
		assert_int_equal(client_call_start(client, &reads[i], BYTESTREAM_READ, MESSAGE_MAX, &unread_events, NULL), 0);
		call_shut(&reads[i]);
		call_send(&reads[i], buffer_span(&request), 0);
	}
	for (int tries = 0; received < FULL_CLIENT_READS * STREAM_WINDOW_BYTES; tries++) {
		assert_true(tries < 20000);
		client_wait(client, NULL, 0, NULL, 1000000);
		received = 0;
		for (unsigned i = 0; i < FULL_CLIENT_READS; i++)
			received += reads[i].bytes_received;
	}
	buffer_fini(&request);
	return client;
}

int64_t query_committed(struct client *client, const char *name, bool *complete)
{
	struct buffer request = buffer_heap(4096);
	struct answer answer;
	struct pb_reader reader;
	struct pb_field field;
	int64_t committed;

	pb_put_text(&request, 1, name);
	answer = ask_method(client, BYTESTREAM_QUERY, request);
	if (answer.status != GRPC_OK)
		fail_msg("%s", answer.text);
	committed = committed_of(buffer_span(&answer.body));
	*complete = false;
	reader = pb_reader_make(buffer_span(&answer.body));
	while (pb_next(&reader, &field))
		if (field.number == 2)
			pb_as_bool(&reader, &field, complete);
	answer_fini(&answer);
	return committed;
}
