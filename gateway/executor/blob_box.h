/*
 * blob_box: outputs on their way to the gateway: small blobs together, long ones through ByteStream. Each is named by the
 * SHA-256 of all its bytes. Blocking.
 */
#pragma once

#include <sys/stat.h>

#include "gateway/client/client.h"
#include "gateway/context/why.h"
#include "proto/digest.h"

#define BLOB_BOX_WAIT_NS 120000000000u

struct blob_box;

/* Asked between messages, and heard soon. */
typedef bool blob_box_cancelled_fn(void *context);

/*
 * `status` gets what the gateway refuses something with. NULL: no memory. Both are borrowed. `cancelled` may be NULL; else it takes
 * what comes on other calls of the client meanwhile.
 */
struct blob_box *blob_box_create(struct client *client, enum grpc_status *status, struct why why, blob_box_cancelled_fn *cancelled,
                                 void *context);
/* What was not flushed is dropped. NULL is accepted. */
void blob_box_destroy(struct blob_box *box);

/*
 * Each: 0; -EREMOTEIO: refused, with `status`; -ECANCELED; else -errno. What a gateway has no room for just now is sent again, for
 * BLOB_BOX_WAIT_NS in all. `path` is what the sentence names. `stat` gets the file's; it is
 * at `name` in the directory, and never a symlink's.
 */
int blob_box_put_file(struct blob_box *box, int dir_fd, const char *name, const char *path, struct stat *stat,
                      struct digest *digest);
int blob_box_put_bytes(struct blob_box *box, const char *path, struct span bytes, struct digest *digest);
/* All of it is at the gateway then, not yet durable. */
int blob_box_flush(struct blob_box *box);
