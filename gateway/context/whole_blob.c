/* ByteStream's Read and Write, from the client's side. */
#include "gateway/context/whole_blob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/base/err.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"

#define WHOLE_BLOB_PIECE_BYTES (256u << 10)      /* of a write's message */
#define WHOLE_BLOB_NAME_BYTES  192

static void put_blob_name(char *out, size_t size, const struct digest *digest)
{
	char hex[DIGEST_HEX_BYTES];

	digest_hex(digest, hex);
	snprintf(out, size, "blobs/%.*s/%llu", DIGEST_HEX_BYTES, hex, (unsigned long long)digest->size);
}

static int whole_blob_ended(struct client_call *call, int outcome, enum grpc_status *status, char *why, size_t why_size)
{
	const char *text;

	if (outcome == CLIENT_INTERRUPTED) {
		snprintf(why, why_size, "interrupted");
		return -EINTR;
	}
	*status = client_call_status(call, &text);
	if (*status == GRPC_OK)
		return 0;
	snprintf(why, why_size, "%s: %s", grpc_status_name(*status), text);
	return *status == GRPC_NOT_FOUND ? -ENOENT : *status == GRPC_UNAVAILABLE ? -ECONNRESET : -EREMOTEIO;
}

/* ---- reading ---- */

static bool response_data(struct span message, struct span *data)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	*data = (struct span){ 0 };
	while (pb_next(&reader, &field))
		if (field.number == 10 && !pb_as_bytes(&reader, &field, data))
			return false;
	return !reader.failed;
}

static int read_all(struct client_call *call, const struct digest *digest,
                    int (*visit)(void *context, uint64_t offset, struct span bytes), void *context, char *why, size_t why_size)
{
	struct sha256_stream stream;
	uint8_t hash[SHA256_BYTES];
	enum grpc_status status;
	uint64_t offset = 0;
	struct span message, data;
	int r;

	sha256_stream_init(&stream);
	while ((r = client_receive(call, &message, UINT64_MAX)) == CLIENT_OK) {
		if (!response_data(message, &data) || data.size > digest->size - offset) {
			snprintf(why, why_size, "the gateway sent a malformed answer");
			return ERR_RAISE(-EPROTO);
		}
		sha256_stream_update(&stream, data.data, data.size);
		r = data.size ? visit(context, offset, data) : 0;
		if (r)
			return r;
		offset += data.size;
	}
	r = whole_blob_ended(call, r, &status, why, why_size);
	if (r)
		return r;
	sha256_stream_final(&stream, hash);
	if (offset == digest->size && memcmp(hash, digest->hash, sizeof(hash)) == 0)
		return 0;
	snprintf(why, why_size, "a blob of %llu bytes arrived with other bytes than its digest says", (unsigned long long)digest->size);
	return ERR_RAISE(-EBADMSG);
}

int whole_blob_read(struct client *client, const struct digest *digest,
                    int (*visit)(void *context, uint64_t offset, struct span bytes), void *context, char *why, size_t why_size)
{
	struct bytestream_read_request request = { 0 };
	char name[WHOLE_BLOB_NAME_BYTES];
	uint8_t storage[256];
	struct buffer bytes = buffer_over(storage, sizeof(storage));
	struct client_call *call;
	int r;

	put_blob_name(name, sizeof(name), digest);
	request.resource_name = span_text(name);
	message_encode(&bytestream_read_request_type, &bytes, &request);
	r = client_call_open(&call, client, BYTESTREAM_READ, NULL, 0);
	if (r < 0) {
		snprintf(why, why_size, "%s", client_error(client));
		return r;
	}
	client_send(call, buffer_span(&bytes), 0);       /* when it fails, so does the next */
	client_send_end(call);
	r = read_all(call, digest, visit, context, why, why_size);
	client_call_close(call);
	return r;
}

/* ---- writing ---- */

static void put_upload_name(char *out, size_t size, const struct digest *digest)
{
	uint8_t random[16] = { 0 };
	size_t used = (size_t)snprintf(out, size, "uploads/");

	(void)!getrandom(random, sizeof(random), 0);     /* two of one name would only hinder each other */
	for (size_t i = 0; i < sizeof(random); i++)
		used += (size_t)snprintf(out + used, size - used, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", random[i]);
	used += (size_t)snprintf(out + used, size - used, "/");
	put_blob_name(out + used, size - used, digest);
}

static int read_piece(int fd, uint8_t *data, uint64_t offset, size_t size, char *why, size_t why_size)
{
	for (size_t have = 0; have < size;) {
		ssize_t got = pread(fd, data + have, size - have, (off_t)(offset + have));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			int r = got < 0 ? -errno : -ESTALE;

			snprintf(why, why_size, got < 0 ? "cannot be read: %s" : "became shorter while it was read%s", got < 0 ? strerror(-r) : "");
			return ERR_RAISE(r);
		}
		have += (size_t)got;
	}
	return 0;
}

/* CLIENT_END early: the gateway has it, or refuses it. */
static int write_all(struct client_call *call, const struct digest *digest, int fd, char *why, size_t why_size)
{
	uint8_t *data = malloc(WHOLE_BLOB_PIECE_BYTES);
	struct buffer bytes = buffer_heap(WHOLE_BLOB_PIECE_BYTES + 512);
	char name[WHOLE_BLOB_NAME_BYTES];
	struct bytestream_write_request request = { 0 };
	int r = data ? CLIENT_OK : ERR_RAISE(-ENOMEM);

	put_upload_name(name, sizeof(name), digest);
	request.resource_name = span_text(name);
	for (uint64_t offset = 0; r == CLIENT_OK && !request.finish_write; offset += request.data.size) {
		size_t size = digest->size - offset < WHOLE_BLOB_PIECE_BYTES ? digest->size - offset : WHOLE_BLOB_PIECE_BYTES;

		r = read_piece(fd, data, offset, size, why, why_size);
		if (r)
			break;
		request.write_offset = (int64_t)offset;
		request.data = span_make(data, size);
		request.finish_write = offset + size == digest->size;
		buffer_clear(&bytes);
		message_encode(&bytestream_write_request_type, &bytes, &request);
		r = bytes.failed ? ERR_RAISE(-ENOMEM) : client_send(call, buffer_span(&bytes), 0);
	}
	free(data);
	buffer_fini(&bytes);
	return r;
}

int whole_blob_write(struct client *client, const struct digest *digest, int fd, enum grpc_status *status, char *why,
                     size_t why_size)
{
	struct client_call *call;
	struct span message;
	int r = client_call_open(&call, client, BYTESTREAM_WRITE, NULL, 0);

	*status = GRPC_OK;
	if (r < 0) {
		snprintf(why, why_size, "%s", client_error(client));
		return r;
	}
	r = write_all(call, digest, fd, why, why_size);
	if (r == CLIENT_OK)
		client_send_end(call);
	while (r == CLIENT_OK)
		r = client_receive(call, &message, UINT64_MAX);
	if (r > 0)
		r = whole_blob_ended(call, r, status, why, why_size);
	client_call_close(call);
	return r;
}
