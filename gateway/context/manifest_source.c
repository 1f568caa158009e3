/* A manifest's blobs for an uploader: where they are, what the gateway has of them, and their bytes, read by workers. */
#include "gateway/context/manifest_source.h"

#include <errno.h>

#include "gateway/base/check.h"
#include "gateway/base/list.h"

#define PIECES       (4 * BLOB_READER_BATCH)     /* handed to the manifest at a time */
#define INLINE_BYTES 262144              /* read at once: shorter than waking a thread is worth */

static struct manifest_source *source_of(struct uploader_source *source)
{
	return container_of(source, struct manifest_source, source);
}

static int source_children(struct uploader_source *source, const struct digest *directory, struct uploader_children *children)
{
	struct manifest_children found;
	int r = manifest_children(source_of(source)->manifest, directory, &found);

	if (r)
		return r;
	*children = (struct uploader_children){
		.directories = found.directories, .directories_count = found.directories_count,
		.contents = found.contents, .recipes = found.recipes, .contents_count = found.contents_count,
	};
	return 0;
}

static int source_recipe_children(struct uploader_source *source, const struct digest *recipe, struct uploader_parts *parts)
{
	return manifest_recipe_children(source_of(source)->manifest, recipe, &parts->blobs, &parts->are_recipes, &parts->count);
}

static bool source_known(struct uploader_source *source, const struct digest *blob)
{
	struct manifest_source *from = source_of(source);

	return manifest_known(from->manifest, from->gateway_id, blob);
}

/* Only of what was assumed to be at the gateway: when that proves wrong, so does this. */
static size_t source_bases(struct uploader_source *source, const struct digest *blob,
                           struct digest bases[static UPLOADER_BASES_MAX])
{
	struct manifest_source *from = source_of(source);

	return source->assume ? manifest_bases(from->manifest, from->gateway_id, blob, bases, UPLOADER_BASES_MAX) : 0;
}

/* Without the memory to find out, reading tells. */
static bool source_has(struct uploader_source *source, const struct digest *blob)
{
	enum lookup_kind kind;
	uint32_t row;

	return manifest_find(source_of(source)->manifest, blob, &row, &kind) != -ENOENT;
}

/* ---- reading ---- */

/* `reader` NULL: the manifest's own. */
static int read_pieces(struct manifest *manifest, struct blob_reader *reader, struct uploader_read *read)
{
	struct blob_piece pieces[PIECES];
	int r = 0;

	for (size_t i = 0; r == 0 && i < read->count; i += PIECES) {
		size_t count = read->count - i < PIECES ? read->count - i : PIECES;

		for (size_t j = 0; j < count; j++)
			pieces[j] = (struct blob_piece){ .digest = read->pieces[i + j].digest, .buffer = read->pieces[i + j].buffer };
		r = reader ? manifest_read_beside(manifest, reader, pieces, count, read->why, sizeof(read->why)) :
		             manifest_read_many(manifest, pieces, count, read->why, sizeof(read->why));
	}
	return r;
}

/* Contents were not kept: what they looked like the gateway knows. */
static void read_bases(struct manifest *manifest, struct uploader_read *read)
{
	for (size_t i = 0; i < read->bases_count; i++)
		read->bases[i].stale = manifest_read_base(manifest, &read->bases[i].digest, read->bases[i].buffer) != 0;
}

/* Which of them is stale does not matter: the whole manifest is. */
static void read_end(struct manifest_source *source, struct uploader_read *read, int r)
{
	if (r == 0)
		read_bases(source->manifest, read);
	read->done(read, r == -ESTALE ? UPLOADER_READ_STALE : r);
}

static int32_t reading_work(struct op *op)
{
	struct manifest_reading *reading = container_of(op, struct manifest_reading, work);

	return read_pieces(reading->source->manifest, reading->reader, reading->read);
}

static void reading_on_done(struct op *op, int32_t res)
{
	struct manifest_reading *reading = container_of(op, struct manifest_reading, work);
	struct uploader_read *read = reading->read;

	reading->read = NULL;
	read_end(reading->source, read, res);
}

static bool is_short(const struct uploader_read *read)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < read->count; i++)
		bytes += read->pieces[i].digest.size;
	return bytes <= INLINE_BYTES;
}

/* One that is free, with a reader; NULL: no memory for that. */
static struct manifest_reading *reading_begin(struct manifest_source *source)
{
	struct manifest_reading *reading = NULL;

	for (size_t i = 0; i < UPLOADER_PACKS_MAX; i++)
		if (!source->readings[i].read)
			reading = &source->readings[i];
	CHECK(reading);
	if (!reading->reader)
		reading->reader = manifest_reader(source->manifest);
	return reading->reader ? reading : NULL;
}

static void source_read(struct uploader_source *from, struct uploader_read *read)
{
	struct manifest_source *source = source_of(from);
	struct manifest_reading *reading = is_short(read) ? NULL : reading_begin(source);

	if (!reading) {
		read_end(source, read, read_pieces(source->manifest, NULL, read));
		return;
	}
	reading->read = read;
	reading->work.fn = reading_on_done;
	ring_work(source->ring, &reading->work, reading_work);
}

static const struct uploader_source_ops source_ops = {
	.children = source_children,
	.recipe_children = source_recipe_children,
	.known = source_known,
	.bases = source_bases,
	.has = source_has,
	.read = source_read,
};

void manifest_source_init(struct manifest_source *source, struct ring *ring, struct manifest *manifest, struct span gateway_id,
                          bool assume)
{
	*source = (struct manifest_source){
		.source = { .ops = &source_ops, .assume = assume }, .ring = ring, .manifest = manifest, .gateway_id = gateway_id,
	};
	for (size_t i = 0; i < UPLOADER_PACKS_MAX; i++)
		source->readings[i].source = source;
}

void manifest_source_fini(struct manifest_source *source)
{
	for (size_t i = 0; i < UPLOADER_PACKS_MAX; i++) {
		CHECK(!source->readings[i].read);
		blob_reader_destroy(source->readings[i].reader);
	}
}
