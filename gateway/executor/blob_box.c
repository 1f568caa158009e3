/* Small blobs lie one after the other in a box, which goes out when it is full. */
#include "gateway/executor/blob_box.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "chunker/sha256.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/beneath.h"
#include "gateway/context/upload.h"
#include "gateway/context/whole_blob.h"
#include "proto/sluice_v1.h"

#define BOX_BYTES SLUICE_PACK_BYTES      /* and the longest blob that goes into it */
#define BOX_BLOBS 1024
#define PAUSE_MIN_NS 50000000u           /* twice as long each time */
#define PAUSE_MAX_NS 2000000000u

struct blob_box {
	struct client *client;
	enum grpc_status *status;
	struct why why;
	blob_box_cancelled_fn *cancelled;
	void *context;
	uint64_t pause_ns, waited_ns;
	uint8_t *bytes;
	size_t size, count;
	struct span blobs[BOX_BLOBS];
	struct digest digests[BOX_BLOBS];
};

struct blob_box *blob_box_create(struct client *client, enum grpc_status *status, struct why why, blob_box_cancelled_fn *cancelled,
                                 void *context)
{
	struct blob_box *box = calloc(1, sizeof(*box));

	if (!box)
		return NULL;
	*box = (struct blob_box){
		.client = client, .status = status, .why = why, .cancelled = cancelled, .context = context, .pause_ns = PAUSE_MIN_NS,
		.bytes = malloc(BOX_BYTES),
	};
	if (box->bytes)
		return box;
	free(box);
	return NULL;
}

void blob_box_destroy(struct blob_box *box)
{
	if (!box)
		return;
	free(box->bytes);
	free(box);
}

static int fail(const struct blob_box *box, const char *path, const char *what)
{
	int r = -errno;

	return WHY_RAISE(box->why, r, path, "%s: %s", what, strerror(-r));
}

static int refused(struct blob_box *box, int r)
{
	if (r == UPLOAD_INTERRUPTED)
		return ERR_RAISE(-EINTR);
	return r > 0 ? ERR_RAISE(-EREMOTEIO) : r;
}

static bool is_cancelled(struct blob_box *box)
{
	return box->cancelled && box->cancelled(box->context);
}

/* Where it pays to try again the gateway says so; not when its store is full. */
static bool is_crowded(const struct blob_box *box)
{
	return *box->status == GRPC_RESOURCE_EXHAUSTED && strstr(box->why.text, "try again");
}

/* Whether what ended with `*r` is to be sent again, some time later. */
static bool box_waits(struct blob_box *box, int *r)
{
	if (*r != -EREMOTEIO || !is_crowded(box) || box->waited_ns >= BLOB_BOX_WAIT_NS) {
		box->pause_ns = PAUSE_MIN_NS;
		return false;
	}
	client_wait(box->client, NULL, 0, NULL, box->pause_ns);
	box->waited_ns += box->pause_ns;
	box->pause_ns = 2 * box->pause_ns < PAUSE_MAX_NS ? 2 * box->pause_ns : PAUSE_MAX_NS;
	*box->status = GRPC_OK;
	*box->why.text = 0;
	if (!is_cancelled(box))
		return true;
	*r = -ECANCELED;
	return false;
}

int blob_box_flush(struct blob_box *box)
{
	size_t count = box->count;
	int r;

	if (is_cancelled(box))
		return -ECANCELED;
	if (count == 0)
		return 0;
	box->size = box->count = 0;
	do
		r = refused(box, upload_hashed_blobs(box->client, box->blobs, box->digests, count, box->status, box->why.text,
		                                     box->why.size));
	while (box_waits(box, &r));
	return r;
}

static int write_whole(struct blob_box *box, const struct digest *digest, int fd)
{
	int r;

	do
		r = whole_blob_write(box->client, digest, fd, box->status, box->why.text, box->why.size);
	while (box_waits(box, &r));
	return r;
}

/* Room for `size` bytes, at most BOX_BYTES, that box_take() then counts in. */
static int box_room(struct blob_box *box, size_t size, uint8_t **room)
{
	if (box->size + size > BOX_BYTES || box->count == BOX_BLOBS) {
		int r = blob_box_flush(box);

		if (r)
			return r;
	}
	*room = box->bytes + box->size;
	return 0;
}

static void box_take(struct blob_box *box, size_t size, struct digest *digest)
{
	size_t at = box->count;

	sha256_once(box->bytes + box->size, size, digest->hash);
	digest->size = size;
	if (size == 0)
		return;                          /* every store has it */
	box->blobs[at] = span_make(box->bytes + box->size, size);
	box->digests[at] = *digest;
	box->count++;
	box->size += size;
}

static int read_small(struct blob_box *box, int fd, const char *path, size_t size, struct digest *digest)
{
	uint8_t *room;
	int r = box_room(box, size, &room);

	if (r)
		return r;
	for (size_t have = 0; have < size;) {
		ssize_t got = pread(fd, room + have, size - have, (off_t)have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(box, path, "cannot read");
		if (got == 0)
			return WHY_RAISE(box->why, -ESTALE, path, "became shorter while it was read");
		have += (size_t)got;
	}
	box_take(box, size, digest);
	return 0;
}

/* Read twice: its name has to be known before it goes out. */
static int hash_file(struct blob_box *box, int fd, const char *path, struct digest *digest)
{
	struct sha256_stream stream;
	uint8_t *room;
	int r = blob_box_flush(box);

	if (r)
		return r;
	room = box->bytes;
	sha256_stream_init(&stream);
	digest->size = 0;
	for (;;) {
		ssize_t got = pread(fd, room, BOX_BYTES, (off_t)digest->size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(box, path, "cannot read");
		if (got == 0)
			break;
		sha256_stream_update(&stream, room, (size_t)got);
		digest->size += (size_t)got;
	}
	sha256_stream_final(&stream, digest->hash);
	return 0;
}

int blob_box_put_file(struct blob_box *box, int dir_fd, const char *name, const char *path, struct stat *stat,
                     struct digest *digest)
{
	CLEANUP(fd_closep) int fd = beneath_open(dir_fd, name, O_RDONLY | O_NONBLOCK, 0);
	int r;

	if (fd < 0) {
		errno = -fd;
		return fail(box, path, "cannot open");
	}
	if (fstat(fd, stat))
		return fail(box, path, "cannot stat");
	if (stat->st_size <= (off_t)BOX_BYTES)
		return read_small(box, fd, path, (size_t)stat->st_size, digest);
	r = hash_file(box, fd, path, digest);
	return r ? r : write_whole(box, digest, fd);
}

/* Longer than a record they go out from a file without a name. */
int blob_box_put_bytes(struct blob_box *box, const char *path, struct span bytes, struct digest *digest)
{
	CLEANUP(fd_closep) int fd = -1;
	uint8_t *room;
	int r;

	if (bytes.size <= BOX_BYTES) {
		r = box_room(box, bytes.size, &room);
		if (r)
			return r;
		memcpy(room, bytes.data, bytes.size);
		box_take(box, bytes.size, digest);
		return 0;
	}
	fd = memfd_create("blob", MFD_CLOEXEC);
	if (fd < 0 || write(fd, bytes.data, bytes.size) != (ssize_t)bytes.size)
		return fail(box, path, "no room for what is said of it");
	digest->size = bytes.size;
	sha256_once(bytes.data, bytes.size, digest->hash);
	return write_whole(box, digest, fd);
}
