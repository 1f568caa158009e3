/*
 * blob_box: outputs on their way to the gateway: small blobs together, long ones through ByteStream. Each is named by the
 * SHA-256 of all its bytes. Blocking.
 */
#pragma once

#include <sys/stat.h>

#include "gateway/client/client.h"
#include "gateway/context/why.h"
#include "proto/digest.h"

struct blob_box;

/* `status` gets what the gateway refuses something with. NULL: no memory. Both are borrowed. */
struct blob_box *blob_box_create(struct client *client, enum grpc_status *status, struct why why);
/* What was not flushed is dropped. NULL is accepted. */
void blob_box_destroy(struct blob_box *box);

/*
 * Each: 0; -EREMOTEIO: refused, with `status`; else -errno. `path` is what the sentence names. `stat` gets the file's; it is
 * at `name` in the directory, and never a symlink's.
 */
int blob_box_put_file(struct blob_box *box, int dir_fd, const char *name, const char *path, struct stat *stat,
                      struct digest *digest);
int blob_box_put_bytes(struct blob_box *box, const char *path, struct span bytes, struct digest *digest);
/* All of it is at the gateway then, not yet durable. */
int blob_box_flush(struct blob_box *box);
