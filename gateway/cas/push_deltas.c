/* Bases read, edits applied. */
#include "gateway/cas/push_deltas.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/delta.h"

static void deltas_step(struct push_deltas *deltas);

static void read_end(struct push_delta_read *read)
{
	free(read->base);
	free(read->read.buffer);
	read->base = NULL;
	read->read.buffer = NULL;
	read->delta = NULL;
	read->deltas->under_way--;
}

static void read_apply(struct push_delta_read *read)
{
	struct push_delta *delta = read->delta;

	delta->made = delta_apply(span_make(read->base, read->base_bytes), delta->edits, delta->data, (size_t)delta->digest.size);
	read_end(read);
}

static void read_on_base(struct store_read *store_read);

/* The next base, or what they make. */
static void read_next(struct push_delta_read *read)
{
	struct push_deltas *deltas = read->deltas;
	struct digest base;

	if (deltas->result < 0) {
		read_end(read);
		return;
	}
	if (!digest_list_next(&read->delta->bases, &base)) {
		read_apply(read);
		return;
	}
	free(read->read.buffer);
	read->read = (struct store_read){
		.scope = deltas->scope, .digest = base, .fn = read_on_base,
		.buffer = malloc((size_t)base.size + STORE_READ_EXTRA_BYTES),
	};
	if (!read->read.buffer) {
		deltas->result = ERR_RAISE(-ENOMEM);
		read_end(read);
		return;
	}
	store_read(deltas->store, &read->read);
}

static void read_on_base(struct store_read *store_read)
{
	struct push_delta_read *read = container_of(store_read, struct push_delta_read, read);
	struct push_deltas *deltas = read->deltas;

	if (store_read->result == STORE_OK) {
		CHECK(store_read->blob.size <= read->delta->bases_bytes - read->base_bytes);
		if (store_read->blob.size)
			memcpy(read->base + read->base_bytes, store_read->blob.data, store_read->blob.size);
		read->base_bytes += store_read->blob.size;
		read_next(read);
	} else {
		if (store_read->result < 0)
			deltas->result = store_read->result;
		read_end(read);
	}
	deltas_step(deltas);
}

static void read_start(struct push_delta_read *read, struct push_delta *delta)
{
	read->delta = delta;
	read->base_bytes = 0;
	read->base = malloc(delta->bases_bytes ? delta->bases_bytes : 1);
	read->deltas->under_way++;
	if (!read->base)
		read->deltas->result = ERR_RAISE(-ENOMEM);
	read_next(read);
}

static struct push_delta_read *idle_read(struct push_deltas *deltas)
{
	for (size_t i = 0; i < PUSH_DELTAS_READS_MAX; i++)
		if (!deltas->reads[i].delta)
			return &deltas->reads[i];
	return NULL;
}

/* A read may complete inside its start: then the step that started it goes on. */
static void deltas_step(struct push_deltas *deltas)
{
	if (deltas->stepping)
		return;
	deltas->stepping = true;
	while (deltas->next < deltas->count && deltas->result == 0) {
		struct push_delta_read *read = idle_read(deltas);

		if (!read)
			break;
		read_start(read, &deltas->items[deltas->next++]);
	}
	deltas->stepping = false;
	if (deltas->under_way || deltas->told)
		return;
	deltas->told = true;
	deltas->fn(deltas);
}

static void take(struct push_deltas *deltas, struct span pack)
{
	struct packed_delta packed;
	bool failed = false;
	uint8_t *data = deltas->bytes;

	for (size_t i = 0; i < deltas->count && delta_next(&pack, &packed, &failed); i++) {
		deltas->items[i] = (struct push_delta){
			.digest = packed.digest, .bases = packed.bases, .edits = packed.edits,
			.bases_bytes = (size_t)packed.bases_bytes, .data = data,
		};
		data += packed.digest.size;
	}
}

void push_deltas_start(struct push_deltas *deltas, struct store *store, const struct scope *scope, struct span pack, size_t count,
                       size_t bytes, void (*fn)(struct push_deltas *deltas))
{
	*deltas = (struct push_deltas){
		.store = store, .scope = *scope, .count = count, .fn = fn,
		.items = calloc(count ? count : 1, sizeof(*deltas->items)), .bytes = malloc(bytes ? bytes : 1),
	};
	for (size_t i = 0; i < PUSH_DELTAS_READS_MAX; i++)
		deltas->reads[i].deltas = deltas;
	if (deltas->items && deltas->bytes)
		take(deltas, pack);
	else
		deltas->result = ERR_RAISE(-ENOMEM);
	deltas_step(deltas);
}

void push_deltas_fini(struct push_deltas *deltas)
{
	CHECK(deltas->under_way == 0);
	free(deltas->items);
	free(deltas->bytes);
	*deltas = (struct push_deltas){ 0 };
}
