/* The header fields of a DiffCopy call. */
#include "gateway/broker/diffcopy_head.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/err.h"

/* What gRPC writes on each call by itself. */
static bool header_is_own(struct span name)
{
	return span_is(name, "content-type") || span_is(name, "te") || span_is(name, "grpc-accept-encoding") ||
	       span_is(name, "grpc-encoding") || span_is(name, "user-agent");
}

bool diffcopy_header_selects(struct span name)
{
	static const char *const fields[] = { "dir-name", "include-patterns", "exclude-patterns", "followpaths" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		size_t size = strlen(fields[i]);

		if (name.size >= size && memcmp(name.data, fields[i], size) == 0 &&
		    (name.size == size || span_is(span_make(name.data + size, name.size - size), "-encoded")))
			return true;
	}
	return false;
}

/*
 * The Dockerfile and the ignore file are looked at by calls of their own, which are no news to whoever reads the account.
 * Source: moby/buildkit frontend/dockerui/config.go, namedcontext.go.
 */
int diffcopy_head_read(struct diffcopy_head *head, const struct grpc_request *request)
{
	size_t paths = 0;
	bool ignore_file = false;

	*head = (struct diffcopy_head){ .metadata = malloc((request->headers_count + 1) * sizeof(*head->metadata)) };
	if (!head->metadata)
		return ERR_RAISE(-ENOMEM);
	for (size_t i = 0; i < request->headers_count; i++) {
		const struct header *header = &request->headers[i];

		if (span_is(header->name, "dir-name"))
			head->directory = header->value;
		if (span_is(header->name, "followpaths")) {
			paths++;
			ignore_file = span_is(header->value, ".dockerignore");
		}
		if (!header_is_own(header->name))
			head->metadata[head->metadata_count++] = *header;
	}
	head->always_sent = span_is(head->directory, "dockerfile") || (paths == 1 && ignore_file);
	return 0;
}

void diffcopy_head_fini(struct diffcopy_head *head)
{
	free(head->metadata);
	head->metadata = NULL;
	head->metadata_count = 0;
}
