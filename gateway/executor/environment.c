/* environment: see environment.h. */
#include "gateway/executor/environment.h"

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "proto/buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#define DESCRIPTION_BYTES_MAX 65536

/* Lengths before texts: two inputs never run into each other. */
static void put(struct buffer *out, const char *name, struct span value)
{
	char head[64];

	snprintf(head, sizeof(head), "%s %zu\n", name, value.size);
	buffer_put_text(out, head);
	buffer_put(out, value.data, value.size);
}

static void put_text(struct buffer *out, const char *name, const char *value)
{
	put(out, name, span_text(value ? value : ""));
}

static int put_file(struct buffer *out, const char *name, const char *path)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct sha256_stream stream;
	uint8_t data[65536], hash[SHA256_BYTES];
	ssize_t got;

	if (fd < 0)
		return ERR_RAISE(-errno);
	sha256_stream_init(&stream);
	while ((got = read(fd, data, sizeof(data))) != 0) {
		if (got < 0 && errno != EINTR)
			return ERR_RAISE(-errno);
		if (got > 0)
			sha256_stream_update(&stream, data, (size_t)got);
	}
	sha256_stream_final(&stream, hash);
	put(out, name, span_make(hash, sizeof(hash)));
	return 0;
}

int environment_key(const struct environment_input *input, struct digest *key)
{
	struct buffer description = buffer_heap(DESCRIPTION_BYTES_MAX);
	struct utsname name;
	int r = 0;

	CHECK(input->packages_path || input->image_digest);
	CHECK(uname(&name) == 0);
	buffer_put_text(&description, "sluice environment 1\n");
	put_text(&description, "image", input->image_digest);
	put_text(&description, "runtime", input->runtime);
	put_text(&description, "machine", input->machine ? input->machine : name.machine);
	put(&description, "mounts", input->mounts);
	if (input->packages_path)
		r = put_file(&description, "packages", input->packages_path);
	if (!r && description.failed)
		r = ERR_RAISE(-E2BIG);
	if (!r) {
		key->size = description.size;
		sha256_once(description.data, description.size, key->hash);
	}
	buffer_fini(&description);
	return r;
}
