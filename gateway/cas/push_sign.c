/* Blobs read, their blocks hashed. */
#include "gateway/cas/push_sign.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/delta.h"

/* They come in any order: each has its place. */
static void sign_on_blob(struct blob_reads *reads, size_t place, struct span blob)
{
	struct push_sign *sign = container_of(reads, struct push_sign, reads);
	struct buffer out = buffer_over(sign->hashes.data + sign->offsets[place], delta_signature_size(reads->digests[place].size));

	sign->present[place] = blob.data != NULL;
	if (!blob.data)
		return;
	delta_sign(&out, blob);
	CHECK(!out.failed && out.size == out.capacity);
}

/* Places of what is absent are closed. */
static void sign_on_read(struct blob_reads *reads)
{
	struct push_sign *sign = container_of(reads, struct push_sign, reads);
	size_t at = 0;

	sign->result = reads->result;
	for (size_t i = 0; i < reads->count && sign->result == 0; i++) {
		size_t size = delta_signature_size(reads->digests[i].size);

		if (!sign->present[i] || !size)
			continue;
		memmove(sign->hashes.data + at, sign->hashes.data + sign->offsets[i], size);
		at += size;
	}
	sign->hashes.size = at;
	sign->fn(sign);
}

void push_sign_start(struct push_sign *sign, struct store *store, const struct scope *scope, const struct digest *digests,
                     size_t count, void (*fn)(struct push_sign *sign))
{
	size_t size = 0;

	*sign = (struct push_sign){
		.fn = fn, .present = calloc(count ? count : 1, sizeof(*sign->present)),
		.offsets = malloc((count + 1) * sizeof(*sign->offsets)), .hashes = buffer_heap(SLUICE_BASES_BYTES),
		.reads = {
			.store = store, .scope = *scope, .digests = digests, .count = count, .on_blob = sign_on_blob,
			.fn = sign_on_read,
		},
	};
	for (size_t i = 0; sign->offsets && i < count; i++) {
		sign->offsets[i] = size;
		size += delta_signature_size(digests[i].size);
	}
	if (!sign->present || !sign->offsets || !buffer_reserve(&sign->hashes, size + 1))
		sign->reads.result = ERR_RAISE(-ENOMEM);
	blob_reads_start(&sign->reads);
}

void push_sign_fini(struct push_sign *sign)
{
	CHECK(sign->reads.under_way == 0);
	free(sign->present);
	free(sign->offsets);
	buffer_fini(&sign->hashes);
	*sign = (struct push_sign){ 0 };
}
