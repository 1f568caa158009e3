/*
 * A file's bytes are copied into a block: a small file's into a piece of a shared one that is reserved by its size hint, a
 * large one's into a block of its own, which is left behind when it is full, all but the chunk that has not ended. What is
 * complete (a whole small file, a chunk) is a piece of the open batch.
 */
#include "gateway/cas/ingest_private.h"

#include <errno.h>
#include <stdlib.h>

#include "chunker/profile.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/cas/recipe_maker.h"

_Static_assert(PROFILE_WHOLE_MAX == RECIPE_WHOLE_MAX, "one bound");
_Static_assert(INGEST_BLOCK_BYTES > RECIPE_WHOLE_MAX, "a small file fits a block");

/* Gives its memory up. */
static void file_drop(struct ingest_file *file)
{
	ingest_block_unref(file->ingest, file->block);
	file->block = NULL;
	file->have = file->capacity = file->fed = 0;
	if (file->maker)
		recipe_maker_fini(file->maker);
	free(file->maker);
	file->maker = NULL;
}

/* The owner is told in a turn of the loop. */
static void file_name(struct ingest_file *file)
{
	file_drop(file);
	file->state = INGEST_FILE_NAMING;
	list_remove(&file->link);
	list_append(&file->ingest->naming, &file->link);
	ingest_schedule(file->ingest);
}

void ingest_file_begin(struct ingest *ingest, struct ingest_file *file, uint64_t size_hint)
{
	CHECK(file->state == INGEST_FILE_NONE);
	CHECK(!ingest->closing);
	*file = (struct ingest_file){ .ingest = ingest, .state = INGEST_FILE_OPEN, .size_hint = size_hint };
	list_append(&ingest->files, &file->link);
	ingest->totals.files++;
}

/* Nothing fits. Waits for what is on its way to give memory back; when that is nothing, the file is given up. */
static void file_refuse(struct ingest_file *file)
{
	struct ingest *ingest = file->ingest;

	ingest_batch_seal(ingest);
	if (ingest->batches_out) {
		ingest->room_wanted = true;
		ingest->room_made = false;
		ingest->totals.refusals++;
		return;
	}
	ingest->totals.crowded++;
	file->result = INGEST_CROWDED;
	file_drop(file);
}

/* The first `size` pending bytes are complete. The batch is open. */
static void file_ship(struct ingest_file *file, size_t size, bool last)
{
	struct ingest_piece piece = {
		.file = file, .block = size ? file->block : NULL, .data = span_make(file->data, size), .last = last,
	};

	file->ingest->totals.chunks += size > 0;
	ingest_batch_add(file->ingest, &piece);
	file->fed = 0;
	if (size == 0)
		return;                          /* an empty file has no block */
	file->data += size;
	file->have -= size;
	file->capacity -= size;
}

static bool file_begin_cutting(struct ingest_file *file)
{
	file->maker = malloc(sizeof(*file->maker));
	if (!file->maker) {
		file->result = ERR_RAISE(-ENOMEM);
		file_drop(file);
		return false;
	}
	file->cut = true;
	file->ingest->totals.files_cut++;
	file->profile = profile_for(file->data, file->have);
	recipe_maker_init(file->maker, file->profile);
	cutter_init(&file->cutter, profile_fastcdc(file->profile));
	CHECK(file->cutter.fastcdc->max <= INGEST_BLOCK_BYTES);
	return true;
}

/* Ships the chunks that have ended. False: not all, no batch is free; or the file was given up. */
static bool file_cut(struct ingest_file *file)
{
	if (file->bytes <= RECIPE_WHOLE_MAX)
		return true;
	if (!file->cut && !file_begin_cutting(file))
		return false;
	while (file->fed < file->have) {
		size_t length;

		if (!ingest_batch_open(file->ingest))
			return false;
		length = cutter_feed(&file->cutter, file->data + file->fed, file->have - file->fed);
		if (length)
			file_ship(file, length, false);
		else
			file->fed = file->have;
	}
	return true;
}

/* A place among other small files. */
static bool file_reserve(struct ingest_file *file, size_t size)
{
	struct ingest *ingest = file->ingest;

	if (ingest->filling && INGEST_BLOCK_BYTES - ingest->filling->used < size)
		ingest_block_leave(ingest);
	if (!ingest->filling)
		ingest->filling = ingest_block_take(ingest);
	if (!ingest->filling)
		return false;
	file->block = ingest->filling;
	file->block->refs++;
	file->data = file->block->data + file->block->used;
	file->block->used += size;
	file->capacity = size;
	return true;
}

/* A block of its own; what is pending moves there. */
static bool file_move(struct ingest_file *file)
{
	struct ingest_block *block = ingest_block_take(file->ingest);

	if (!block)
		return false;
	CHECK(file->have < INGEST_BLOCK_BYTES);
	if (file->have)
		memcpy(block->data, file->data, file->have);
	ingest_block_unref(file->ingest, file->block);
	file->block = block;
	file->data = block->data;
	file->capacity = INGEST_BLOCK_BYTES;
	return true;
}

/* Room for some of `wanted` more bytes. 0: refused or given up. */
static size_t file_room(struct ingest_file *file, size_t wanted)
{
	bool placed = true;

	if (!file->block && file->size_hint <= RECIPE_WHOLE_MAX && wanted <= RECIPE_WHOLE_MAX)
		placed = file_reserve(file, wanted > file->size_hint ? wanted : (size_t)file->size_hint);
	else if (file->have == file->capacity)
		placed = file_cut(file) && file_move(file);
	if (!placed) {
		if (!file->result)
			file_refuse(file);
		return 0;
	}
	return file->capacity - file->have < wanted ? file->capacity - file->have : wanted;
}

size_t ingest_file_write(struct ingest_file *file, struct span data)
{
	size_t taken = 0;

	CHECK(file->state == INGEST_FILE_OPEN);
	while (taken < data.size && !file->result) {
		size_t size = file_room(file, data.size - taken);

		if (size == 0)
			break;
		memcpy(file->data + file->have, data.data + taken, size);
		file->have += size;
		file->bytes += size;
		file->ingest->totals.bytes += size;
		taken += size;
		file_cut(file);
	}
	return file->result ? data.size : taken;
}

static void file_ship_last(struct ingest_file *file)
{
	struct ingest_block *block = file->block;
	size_t length = file->cut ? cutter_finish(&file->cutter) : file->have;

	CHECK(length == file->have);
	/* What a small file did not need of its place is the next one's. */
	if (block && block == file->ingest->filling && file->data + file->capacity == block->data + block->used)
		block->used -= file->capacity - file->have;
	file_ship(file, length, true);
	ingest_block_unref(file->ingest, block);
	file->block = NULL;
}

bool ingest_file_finish(struct ingest_file *file)
{
	struct ingest *ingest = file->ingest;

	if (!file->result && !(file_cut(file) && ingest_batch_open(ingest))) {
		if (!file->result && ingest->batches_out)
			return false;
		if (!file->result)
			file->result = ERR_RAISE(-ENOMEM);
	}
	if (file->result)
		file_drop(file);
	else
		file_ship_last(file);
	file->state = INGEST_FILE_ENDED;
	list_remove(&file->link);
	list_append(&ingest->files, &file->link);
	if (file->pieces_out == 0)
		file_name(file);
	return true;
}

void ingest_file_end(struct ingest_file *file)
{
	CHECK(file->state == INGEST_FILE_OPEN);
	if (ingest_file_finish(file))
		return;
	file->state = INGEST_FILE_ENDING;
	list_remove(&file->link);
	list_append(&file->ingest->ending, &file->link);
}

/* ---- its pieces on their way ---- */

/* A part or the recipe itself, until there is no more. */
static int file_make_recipe(struct ingest_file *file, struct ingest_batch *batch)
{
	struct buffer blob;
	struct digest digest;
	int r;

	do {
		r = recipe_maker_finish(file->maker, &blob, &digest);
		if (r > 0)
			ingest_batch_add_recipe(batch, &blob, &digest);
	} while (r == RECIPE_MAKER_PART);
	if (r < 0)
		return r;
	file->name = (struct content_name){ .digest = digest, .size = file->bytes, .recipe = true };
	return 0;
}

int ingest_file_hashed(struct ingest_file *file, struct ingest_batch *batch, const struct ingest_piece *piece,
                       const struct digest *digest)
{
	struct buffer blob;
	struct digest part;
	int r = 0;

	if (!file->cut) {
		file->name = (struct content_name){ .digest = *digest, .size = file->bytes };
		return 0;
	}
	if (piece->data.size)
		r = recipe_maker_add(file->maker, digest, &blob, &part);
	if (r == RECIPE_MAKER_PART)
		ingest_batch_add_recipe(batch, &blob, &part);
	if (r < 0)
		return r;
	return piece->last ? file_make_recipe(file, batch) : 0;
}

void ingest_file_landed(struct ingest_file *file)
{
	file->pieces_out--;
	if (file->result && file->state == INGEST_FILE_OPEN)
		file_drop(file);
	if (file->pieces_out == 0 && file->state == INGEST_FILE_ENDED)
		file_name(file);
}

/* ---- given up ---- */

void ingest_file_detach(struct ingest_file *file)
{
	struct ingest *ingest = file->ingest;

	for (unsigned i = 0; file->pieces_out && i < ingest->batches_count; i++)
		ingest_batch_forget(ingest->batches[i], file);
	file->pieces_out = 0;
	file_drop(file);
	list_remove(&file->link);
	file->state = INGEST_FILE_NONE;
	file->ingest = NULL;
}

void ingest_file_abandon(struct ingest_file *file)
{
	if (file->state == INGEST_FILE_NONE)
		return;
	/* The memory that it gives up may be what others wait for. */
	file->ingest->room_made = true;
	if (file->ingest->room_wanted)
		ingest_schedule(file->ingest);
	ingest_file_detach(file);
}
