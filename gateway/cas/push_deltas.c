/* Bases read, edits applied. */
#include "gateway/cas/push_deltas.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/delta.h"

static void deltas_on_base(struct blob_reads *reads, size_t place, struct span blob)
{
	struct push_deltas *deltas = container_of(reads, struct push_deltas, reads);
	const struct push_delta_base *base = &deltas->places[place];

	if (!blob.data)
		deltas->items[base->delta].lacking = true;
	else if (blob.size)
		memcpy(base->data, blob.data, blob.size);
}

static void deltas_on_read(struct blob_reads *reads)
{
	struct push_deltas *deltas = container_of(reads, struct push_deltas, reads);

	deltas->result = reads->result;
	for (size_t i = 0; i < deltas->count && deltas->result == 0; i++) {
		struct push_delta *delta = &deltas->items[i];

		delta->made = !delta->lacking && delta_apply(delta->base, delta->edits, delta->data, (size_t)delta->digest.size);
	}
	free(deltas->bases_bytes);
	deltas->bases_bytes = NULL;
	deltas->fn(deltas);
}

/* The bases of a delta lie one behind the other: together they are its base. */
static void take(struct push_deltas *deltas, struct span pack)
{
	uint8_t *data = deltas->bytes, *base_data = deltas->bases_bytes;
	struct packed_delta packed;
	bool failed = false;
	size_t bases = 0;

	for (size_t i = 0; i < deltas->count && delta_next(&pack, &packed, &failed); i++) {
		deltas->items[i] = (struct push_delta){
			.digest = packed.digest, .edits = packed.edits, .data = data,
			.base = span_make(base_data, (size_t)packed.bases_bytes),
		};
		data += packed.digest.size;
		for (; digest_list_next(&packed.bases, &deltas->bases[bases]); bases++) {
			deltas->places[bases] = (struct push_delta_base){ .data = base_data, .delta = i };
			base_data += deltas->bases[bases].size;
		}
	}
	deltas->reads.count = bases;
}

static size_t some(size_t size)
{
	return size ? size : 1;
}

void push_deltas_start(struct push_deltas *deltas, struct store *store, const struct scope *scope, struct span pack,
                       const struct push_deltas_shape *shape, void (*fn)(struct push_deltas *deltas))
{
	*deltas = (struct push_deltas){
		.count = shape->deltas, .fn = fn,
		.items = calloc(some(shape->deltas), sizeof(*deltas->items)),
		.bytes = malloc(some(shape->bytes)), .bases_bytes = malloc(some(shape->bases_bytes)),
		.bases = malloc((shape->bases + 1) * sizeof(*deltas->bases)),
		.places = malloc((shape->bases + 1) * sizeof(*deltas->places)),
		.reads = { .store = store, .scope = *scope, .on_blob = deltas_on_base, .fn = deltas_on_read },
	};
	deltas->reads.digests = deltas->bases;
	if (deltas->items && deltas->bytes && deltas->bases_bytes && deltas->bases && deltas->places)
		take(deltas, pack);
	else
		deltas->reads.result = ERR_RAISE(-ENOMEM);
	blob_reads_start(&deltas->reads);
}

void push_deltas_fini(struct push_deltas *deltas)
{
	CHECK(deltas->reads.under_way == 0);
	free(deltas->items);
	free(deltas->bytes);
	free(deltas->bases_bytes);
	free(deltas->bases);
	free(deltas->places);
	*deltas = (struct push_deltas){ 0 };
}
