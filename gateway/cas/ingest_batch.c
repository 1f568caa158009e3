/* Batches: pieces that are hashed together and put with one call of the store, and the recipes made of them. */
#include "gateway/cas/ingest_private.h"

#include <stdlib.h>

#include "gateway/base/check.h"

struct ingest_batch *ingest_batch_open(struct ingest *ingest)
{
	struct list *link;

	if (ingest->open)
		return ingest->open;
	link = list_take(&ingest->batches_idle);
	if (link) {
		ingest->open = container_of(link, struct ingest_batch, link);
	} else if (ingest->batches_count < INGEST_BATCHES_MAX) {
		ingest->open = malloc(sizeof(*ingest->open));
		if (!ingest->open)
			return NULL;
		ingest->open->ingest = ingest;
		ingest->open->link = (struct list){ 0 };
		ingest->batches[ingest->batches_count++] = ingest->open;
	} else {
		return NULL;
	}
	ingest->open->bytes = 0;
	ingest->open->putting = false;
	ingest->open->pieces_count = ingest->open->recipes_count = 0;
	return ingest->open;
}

void ingest_batch_seal(struct ingest *ingest)
{
	if (!ingest->open || ingest->open->pieces_count == 0)
		return;
	list_append(&ingest->sealed, &ingest->open->link);
	ingest->open = NULL;
	ingest->batches_out++;
	ingest_schedule(ingest);
}

void ingest_batch_add(struct ingest *ingest, const struct ingest_piece *piece)
{
	struct ingest_batch *batch = ingest->open;

	CHECK(batch->pieces_count < INGEST_BATCH_PIECES_MAX);
	batch->pieces[batch->pieces_count++] = *piece;
	batch->bytes += piece->data.size;
	piece->file->pieces_out++;
	if (piece->block)
		piece->block->refs++;
	if (batch->bytes >= ingest->hash_bytes || batch->pieces_count == INGEST_BATCH_PIECES_MAX) {
		ingest_batch_seal(ingest);
	} else if (!op_in_flight(&ingest->timer)) {
		ring_timer(ingest->cas->ring, &ingest->timer, INGEST_DELAY_NS);
	}
}

void ingest_batch_add_recipe(struct ingest_batch *batch, const struct buffer *blob, const struct digest *digest)
{
	struct store_item *item = &batch->items[batch->put.count++];

	CHECK(batch->recipes_count < INGEST_BATCH_RECIPES_MAX);
	batch->recipes[batch->recipes_count++] = *blob;
	*item = (struct store_item){ .digest = *digest, .data = buffer_span(blob) };
}

void ingest_batch_forget(struct ingest_batch *batch, const struct ingest_file *file)
{
	for (unsigned i = 0; i < batch->pieces_count; i++)
		if (batch->pieces[i].file == file)
			batch->pieces[i].file = NULL;
}

void ingest_batch_release(struct ingest_batch *batch)
{
	struct ingest *ingest = batch->ingest;

	for (unsigned i = 0; i < batch->pieces_count; i++)
		ingest_block_unref(ingest, batch->pieces[i].block);
	for (unsigned i = 0; i < batch->recipes_count; i++)
		buffer_fini(&batch->recipes[i]);
	batch->pieces_count = batch->recipes_count = 0;
	list_append(&ingest->batches_idle, &batch->link);
}

static void batches_discard(struct ingest *ingest, struct list *batches)
{
	struct list *link;

	while ((link = list_take(batches))) {
		ingest_batch_release(container_of(link, struct ingest_batch, link));
		ingest->batches_out--;
	}
}

void ingest_batches_discard(struct ingest *ingest)
{
	if (ingest->open)
		ingest_batch_release(ingest->open);
	ingest->open = NULL;
	batches_discard(ingest, &ingest->sealed);
	batches_discard(ingest, &ingest->refused);
}

void ingest_batches_trim(struct ingest *ingest, unsigned keep)
{
	while (ingest->batches_count > keep && !list_empty(&ingest->batches_idle)) {
		struct ingest_batch *batch = container_of(list_take(&ingest->batches_idle), struct ingest_batch, link);
		unsigned i = 0;

		while (ingest->batches[i] != batch)
			i++;
		ingest->batches[i] = ingest->batches[--ingest->batches_count];
		free(batch);
	}
}
