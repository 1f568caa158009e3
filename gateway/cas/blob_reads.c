/* Slots that are kept busy. */
#include "gateway/cas/blob_reads.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/err.h"

static void reads_step(struct blob_reads *reads);

static void one_on_read(struct store_read *read)
{
	struct blob_one_read *one = container_of(read, struct blob_one_read, read);
	struct blob_reads *reads = one->reads;

	if (read->result < 0)
		reads->result = read->result;
	else
		/* The empty blob is there, too. */
		reads->on_blob(reads, one->place, read->result != STORE_OK ? (struct span){ 0 } :
		               read->blob.data ? read->blob : span_make(read->buffer, 0));
	free(read->buffer);
	one->busy = false;
	reads->under_way--;
	reads_step(reads);
}

static struct blob_one_read *idle(struct blob_reads *reads)
{
	for (size_t i = 0; i < BLOB_READS_MAX; i++)
		if (!reads->one[i].busy)
			return &reads->one[i];
	return NULL;
}

static void one_start(struct blob_one_read *one, size_t place)
{
	struct blob_reads *reads = one->reads;

	/* What is made of a blob, or told of it, shows its bytes: to who may only write it is as one that nobody has. */
	if (!scope_may(&reads->scope, SCOPE_READ)) {
		reads->on_blob(reads, place, (struct span){ 0 });
		return;
	}
	one->read = (struct store_read){
		.scope = reads->scope, .digest = reads->digests[place], .fn = one_on_read,
		.buffer = malloc((size_t)reads->digests[place].size + STORE_READ_EXTRA_BYTES),
	};
	if (!one->read.buffer) {
		reads->result = ERR_RAISE(-ENOMEM);
		return;
	}
	one->place = place;
	one->busy = true;
	reads->under_way++;
	store_read(reads->store, &one->read);
}

/* A read may complete inside its start: then the step that started it goes on. */
static void reads_step(struct blob_reads *reads)
{
	struct blob_one_read *one;

	if (reads->stepping)
		return;
	reads->stepping = true;
	while (reads->next < reads->count && reads->result == 0 && (one = idle(reads)))
		one_start(one, reads->next++);
	reads->stepping = false;
	if (reads->under_way || reads->told)
		return;
	reads->told = true;
	reads->fn(reads);
}

void blob_reads_start(struct blob_reads *reads)
{
	for (size_t i = 0; i < BLOB_READS_MAX; i++)
		reads->one[i].reads = reads;
	reads_step(reads);
}
