/* requests: REAPI's calls as the tests make them: a request in, its answer out. Requests are freed here. */
#pragma once

#include "gateway/client/client.h"
#include "proto/reapi_cas.h"
#include "tests/unit/cas/gateway_thread.h"

struct answer {
	enum grpc_status status;
	char text[512];
	struct buffer body;              /* of the message, when there was one */
};
struct answer ask_method(struct client *client, const char *path, struct buffer request);
void answer_fini(struct answer *answer);
/* The call ends with this status and a text that has `says` in it. */
void ask_refused(struct client *client, const char *path, struct buffer request, enum grpc_status status, const char *says);

struct digest digest_made(struct span bytes);
/* Bytes that no compressor likes, the same for the same seed. */
struct buffer noise(size_t size, uint32_t seed);

struct buffer request_find(const struct digest *digests, size_t count, const char *instance);
struct buffer request_update(const struct digest *digests, const struct span *blobs, size_t count, bool zstd);
/* How many of them are missing. */
size_t find_missing(struct client *client, const struct digest *digests, size_t count);
/* A BatchReadBlobs; `zstd`: of a client that takes it, and says so unpacked. */
struct buffer request_read(const struct digest *digests, size_t count, bool zstd);
/* Puts a blob of at most a batch. */
struct digest send_blob(struct client *client, struct span blob);

/* "[INSTANCE/][uploads/UUID/]{blobs,compressed-blobs/zstd}/HASH/SIZE"; `uuid` NULL: a read. */
char *resource_name(char *out, size_t size, const char *uuid, bool zstd, const struct digest *digest);
struct buffer write_message(const char *name, int64_t offset, struct span data, bool finish);
/* The whole of it in messages of `step` bytes. The status; `committed` when it is OK. */
enum grpc_status write_all(struct client *client, const char *name, struct span data, size_t step, int64_t *committed,
                           char *text, size_t text_size);
/* Of a WriteResponse. */
int64_t committed_of(struct span message);
/* What comes of a Read, one after the other; to be freed. */
struct buffer read_all(struct client *client, const char *name, int64_t offset, int64_t limit, enum grpc_status *status);
/* The call of a Read, asked for and not waited for. */
struct client_call *read_open(struct client *client, const char *name, int64_t offset, int64_t limit);
/*
 * A client to be closed, one at a time, whose window is full of so many reads of a blob of more than 4 MiB, which it does not
 * take: it hears no other call's answer.
 */
#define FULL_CLIENT_READS 4
struct client *full_client(struct gateway_thread *gateway, const struct digest *digest);
int64_t query_committed(struct client *client, const char *name, bool *complete);
