/*
 * whole_blob: a blob of any length by the SHA-256 of all its bytes, over ByteStream: what files of other REAPI clients
 * are, which have no recipe. Blocking; digests are checked.
 */
#pragma once

#include "gateway/client/client.h"
#include "proto/digest.h"

/*
 * `visit` gets its bytes in order; one that returns non-zero ends it with that value. 0; -ENOENT: it is not there; -EBADMSG:
 * other bytes came; else -errno. `why` gets one sentence.
 */
int whole_blob_read(struct client *client, const struct digest *digest,
                    int (*visit)(void *context, uint64_t offset, struct span bytes), void *context, char *why, size_t why_size);

/* The file `fd` from its beginning; it must not change meanwhile. 0; -EREMOTEIO: refused, with `status`; else -errno. */
int whole_blob_write(struct client *client, const struct digest *digest, int fd, enum grpc_status *status, char *why,
                     size_t why_size);
