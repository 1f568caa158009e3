/*
 * A batch into the store: hashed, held, and put together with the recipes of the files that end in it, so that a file costs
 * one round through the store. What a full store refuses waits, as long as the owner is patient.
 */
#include "gateway/cas/ingest_private.h"

#include <errno.h>
#include "gateway/base/err.h"

static void batch_hash(struct ingest_batch *batch)
{
	struct ingest *ingest = batch->ingest;

	for (unsigned i = 0; i < batch->pieces_count; i++)
		ingest->jobs[i] = (struct sha256_job){
			.data = batch->pieces[i].data.data, .size = batch->pieces[i].data.size,
		};
	sha256_batch(ingest->cas->hasher, ingest->jobs, batch->pieces_count);
	for (unsigned i = 0; i < batch->pieces_count; i++) {
		struct store_item *item = &batch->items[i];

		item->data = batch->pieces[i].data;
		item->digest.size = item->data.size;
		memcpy(item->digest.hash, ingest->jobs[i].digest, sizeof(item->digest.hash));
	}
}

/* Fails what is in the batch, with whatever it was that failed first. */
static void batch_fail(struct ingest_batch *batch, int result)
{
	for (unsigned i = 0; i < batch->pieces_count; i++) {
		struct ingest_file *file = batch->pieces[i].file;

		if (file && !file->result)
			file->result = result;
	}
}

static void batch_hold(struct ingest_batch *batch)
{
	struct store_hold *hold = batch->ingest->hold;
	int r = 0;

	for (size_t i = 0; hold && r == 0 && i < batch->put.count; i++)
		r = store_hold_blobs(hold, &batch->items[i].digest, 1);
	if (r < 0)
		batch_fail(batch, r);
}

/* What is there already was looked for when the put began: it must not go before that ends. */
void ingest_hold_batches(struct ingest *ingest)
{
	for (unsigned i = 0; i < ingest->batches_count; i++)
		if (ingest->batches[i]->putting)
			batch_hold(ingest->batches[i]);
}

static void batch_put(struct ingest_batch *batch)
{
	batch_hold(batch);
	batch->putting = true;
	store_put(batch->ingest->cas->store, &batch->put);
}

static void batch_tell(struct ingest_batch *batch)
{
	struct ingest *ingest = batch->ingest;
	struct ingest_file *files[INGEST_BATCH_PIECES_MAX];

	ingest->full_since_ns = 0;
	if (!ingest->events.on_put || ingest->closing)
		return;
	for (unsigned i = 0; i < batch->pieces_count; i++)
		files[i] = batch->pieces[i].file;
	ingest->events.on_put(ingest, batch->put.items, files, batch->put.count, batch->pieces_count);
}

/* There may be room a little later: in the store, or for one more of its files. */
static bool passes(int result)
{
	return result == STORE_FULL || err_no_descriptors(result) || result == -ENOMEM;
}

/* True: it is offered again. */
static bool batch_waits(struct ingest_batch *batch)
{
	struct ingest *ingest = batch->ingest;
	uint64_t now = ring_now_ns(ingest->cas->ring);

	if (!passes(batch->put.result) || ingest->closing || ingest->patience_ns == 0)
		return false;
	if (!ingest->full_since_ns)
		ingest->full_since_ns = now;
	if (now - ingest->full_since_ns > ingest->patience_ns)
		return false;
	list_append(&ingest->refused, &batch->link);
	if (!op_in_flight(&ingest->again))
		ring_timer(ingest->cas->ring, &ingest->again, INGEST_FULL_NS);
	return true;
}

/* The bytes have been read for the last time. Told is from the next turn: this may come from inside any store call. */
static void batch_on_put(struct store_put *put)
{
	struct ingest_batch *batch = container_of(put, struct ingest_batch, put);
	struct ingest *ingest = batch->ingest;

	batch->putting = false;
	if (batch_waits(batch))
		return;
	if (put->result != STORE_OK)
		batch_fail(batch, put->result);
	else
		batch_tell(batch);
	ingest->totals.bytes_new += put->bytes_new;
	for (unsigned i = 0; i < batch->pieces_count; i++)
		if (batch->pieces[i].file)
			ingest_file_landed(batch->pieces[i].file);
	ingest_batch_release(batch);
	ingest->batches_out--;
	ingest->room_made = true;
	ingest_schedule(ingest);
}

void ingest_put_batch(struct ingest_batch *batch)
{
	struct ingest *ingest = batch->ingest;

	batch_hash(batch);
	batch->put = (struct store_put){
		.scope = ingest->scope, .items = batch->items, .count = batch->pieces_count, .fn = batch_on_put,
	};
	for (unsigned i = 0; i < batch->pieces_count; i++) {
		const struct ingest_piece *piece = &batch->pieces[i];
		struct ingest_file *file = piece->file;
		int r = file && !file->result ? ingest_file_hashed(file, batch, piece, &batch->items[i].digest) : 0;

		if (r < 0)
			file->result = r;
	}
	ingest->totals.batches++;
	batch_put(batch);
}

void ingest_put_again(struct ingest *ingest)
{
	struct list refused, *link;

	list_init(&refused);
	while ((link = list_take(&ingest->refused)))
		list_append(&refused, link);
	while ((link = list_take(&refused)))
		batch_put(container_of(link, struct ingest_batch, link));
}
