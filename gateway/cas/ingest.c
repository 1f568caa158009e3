/*
 * Files into the store. A file's bytes are copied into a block: a small file's into a piece of a shared one that is
 * reserved by its size hint, a large one's into a block of its own, which is left behind when it is full, all but the
 * chunk that has not ended. What is complete (a whole small file, a chunk) is a *piece* of the open *batch*:
 *
 *	open -> sealed -> hashed and put (one a turn of the loop) -> landed: blocks are released, files are told
 *
 * A recipe is put with the batch that has its last chunk, so a file costs one round through the store.
 */
#include "gateway/cas/ingest.h"

#include <errno.h>
#include <stdlib.h>

#include "chunker/profile.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/cas/recipe_maker.h"

#define BATCH_PIECES_MAX  256
/* A file of RECIPE_PART_ENTRIES chunks or more may end with two blobs more; so many can be open at a time. */
#define BATCH_RECIPES_MAX (BATCH_PIECES_MAX + 3 * INGEST_BLOCKS_MAX)
#define BATCHES_MAX       4
/* What is hashed at a time: about 200 us by OpenSSL with SHA instructions; lanes want more pieces to be busy. */
#define HASH_BYTES        (256u << 10)
#define HASH_BYTES_LANES  (512u << 10)

_Static_assert(PROFILE_WHOLE_MAX == RECIPE_WHOLE_MAX, "one bound");
_Static_assert(INGEST_BLOCK_BYTES > RECIPE_WHOLE_MAX, "a small file fits a block");

enum file_state {
	FILE_NONE,
	FILE_OPEN,
	FILE_ENDING,                     /* its last piece waits for a batch */
	FILE_ENDED,                      /* its pieces are on their way */
	FILE_NAMING,                     /* to be told */
};

struct ingest_block {
	struct list link;                /* while it is free */
	uint32_t refs;                   /* pieces, files that write, and the ingest while it fills it with small files */
	size_t used;                     /* shared: reserved so far */
	uint8_t data[INGEST_BLOCK_BYTES];
};

struct piece {
	struct ingest_file *file;        /* NULL: abandoned */
	struct ingest_block *block;      /* NULL: of no bytes */
	struct span data;
	bool last;
};

struct batch {
	struct ingest *ingest;
	struct list link;                /* idle or sealed */
	struct store_put put;
	size_t bytes;
	uint64_t hold_turn;              /* of the ingest's, when its blobs were held */
	unsigned pieces_count, recipes_count;
	struct piece pieces[BATCH_PIECES_MAX];
	struct buffer recipes[BATCH_RECIPES_MAX];
	struct store_item items[BATCH_PIECES_MAX + BATCH_RECIPES_MAX];
};

struct ingest {
	struct cas *cas;
	struct scope scope;
	struct ingest_events events;
	void *owner;
	struct store_hold *hold;
	uint64_t hold_turn;              /* holds there have been */
	bool closing, running, posted;
	bool room_wanted, room_made;
	struct post turn;
	struct op timer;
	size_t hash_bytes;
	struct list files, ending, naming;       /* begun or ended; FILE_ENDING; FILE_NAMING */
	struct list blocks_free;
	unsigned blocks_count;
	struct ingest_block *filling;            /* shared by small files */
	struct batch *batches[BATCHES_MAX];
	unsigned batches_count, batches_out;     /* out: sealed, or in the store's hands */
	struct batch *open;
	struct list batches_idle, sealed, refused;       /* refused: for want of room in the store */
	uint64_t patience_ns, full_since_ns;     /* full_since: 0: it is not */
	struct op again;
	struct ingest_totals totals;
	struct sha256_job jobs[BATCH_PIECES_MAX];
};

static void ingest_on_turn(struct post *post);
static void ingest_on_timer(struct op *op, int32_t res);
static void ingest_on_again(struct op *op, int32_t res);

/* ---- the ingest ---- */

struct ingest *ingest_create(struct cas *cas, const struct scope *scope, const struct ingest_events *events, void *owner)
{
	struct ingest *ingest = calloc(1, sizeof(*ingest));

	if (!ingest)
		return NULL;
	ingest->cas = cas;
	cas->ingests_open++;
	ingest->scope = *scope;
	ingest->events = *events;
	ingest->owner = owner;
	ingest->turn.fn = ingest_on_turn;
	ingest->timer.fn = ingest_on_timer;
	ingest->again.fn = ingest_on_again;
	ingest->hash_bytes = cas->hasher->backend == SHA256_OPENSSL ? HASH_BYTES : HASH_BYTES_LANES;
	list_init(&ingest->files);
	list_init(&ingest->ending);
	list_init(&ingest->naming);
	list_init(&ingest->blocks_free);
	list_init(&ingest->batches_idle);
	list_init(&ingest->sealed);
	list_init(&ingest->refused);
	return ingest;
}

static void batch_free(struct batch *batch)
{
	for (unsigned i = 0; i < batch->recipes_count; i++)
		buffer_fini(&batch->recipes[i]);
	free(batch);
}

/* What nobody uses goes back, but for one of each. */
static void ingest_trim(struct ingest *ingest, unsigned keep)
{
	while (ingest->blocks_count > keep && !list_empty(&ingest->blocks_free)) {
		free(container_of(list_take(&ingest->blocks_free), struct ingest_block, link));
		ingest->blocks_count--;
	}
	while (ingest->batches_count > keep && !list_empty(&ingest->batches_idle)) {
		struct batch *batch = container_of(list_take(&ingest->batches_idle), struct batch, link);
		unsigned i = 0;

		while (ingest->batches[i] != batch)
			i++;
		ingest->batches[i] = ingest->batches[--ingest->batches_count];
		batch_free(batch);
	}
}

static void ingest_close_join(struct ingest *ingest)
{
	if (ingest->running || ingest->posted || op_in_flight(&ingest->timer) || op_in_flight(&ingest->again) || ingest->batches_out)
		return;
	ingest_trim(ingest, 0);
	CHECK(ingest->blocks_count == 0);
	CHECK(ingest->batches_count == 0);
	ingest->cas->ingests_open--;
	free(ingest);
}

static void ingest_schedule(struct ingest *ingest)
{
	if (ingest->posted)
		return;
	ingest->posted = true;
	ring_post(ingest->cas->ring, &ingest->turn);
}

void *ingest_owner(const struct ingest *ingest)
{
	return ingest->owner;
}

void ingest_set_hold(struct ingest *ingest, struct store_hold *hold)
{
	ingest->hold = hold;
	ingest->hold_turn++;
}

const struct ingest_totals *ingest_totals(const struct ingest *ingest)
{
	return &ingest->totals;
}

size_t ingest_memory(const struct ingest *ingest)
{
	size_t bytes = sizeof(*ingest) + ingest->blocks_count * sizeof(struct ingest_block) +
	               ingest->batches_count * sizeof(struct batch);

	list_for_each(link, &ingest->files) {
		const struct ingest_file *file = container_of(link, struct ingest_file, link);

		if (file->maker)
			bytes += sizeof(*file->maker) + file->maker->entries.capacity + file->maker->parts.capacity;
	}
	return bytes;
}

/* ---- blocks ---- */

static void block_unref(struct ingest *ingest, struct ingest_block *block)
{
	if (!block)
		return;
	CHECK(block->refs > 0);
	if (--block->refs == 0)
		list_append(&ingest->blocks_free, &block->link);
}

static void filling_leave(struct ingest *ingest)
{
	block_unref(ingest, ingest->filling);
	ingest->filling = NULL;
}

/* With one reference, the caller's. NULL: none left, or no memory. */
static struct ingest_block *block_take(struct ingest *ingest)
{
	struct list *link = list_take(&ingest->blocks_free);
	struct ingest_block *block;

	if (!link && ingest->filling && ingest->filling->refs == 1) {
		filling_leave(ingest);
		link = list_take(&ingest->blocks_free);
	}
	if (link) {
		block = container_of(link, struct ingest_block, link);
	} else {
		if (ingest->blocks_count == INGEST_BLOCKS_MAX)
			return NULL;
		block = malloc(sizeof(*block));
		if (!block)
			return NULL;
		ingest->blocks_count++;
		block->link = (struct list){ 0 };
	}
	block->refs = 1;
	block->used = 0;
	return block;
}

/* ---- batches ---- */

static void batch_seal(struct ingest *ingest)
{
	list_append(&ingest->sealed, &ingest->open->link);
	ingest->open = NULL;
	ingest->batches_out++;
	ingest_schedule(ingest);
}

/* The open batch, with room for a piece. NULL: all are out, or no memory. */
static struct batch *batch_open(struct ingest *ingest)
{
	struct list *link;

	if (ingest->open)
		return ingest->open;
	link = list_take(&ingest->batches_idle);
	if (link) {
		ingest->open = container_of(link, struct batch, link);
	} else if (ingest->batches_count < BATCHES_MAX) {
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
	ingest->open->pieces_count = ingest->open->recipes_count = 0;
	return ingest->open;
}

static void batch_add(struct ingest *ingest, const struct piece *piece)
{
	struct batch *batch = ingest->open;

	CHECK(batch->pieces_count < BATCH_PIECES_MAX);
	batch->pieces[batch->pieces_count++] = *piece;
	batch->bytes += piece->data.size;
	piece->file->pieces_out++;
	if (piece->block)
		piece->block->refs++;
	if (batch->bytes >= ingest->hash_bytes || batch->pieces_count == BATCH_PIECES_MAX) {
		batch_seal(ingest);
	} else if (!op_in_flight(&ingest->timer)) {
		ring_timer(ingest->cas->ring, &ingest->timer, INGEST_DELAY_NS);
	}
}

static void batch_add_recipe(struct batch *batch, const struct buffer *blob, const struct digest *digest)
{
	struct store_item *item = &batch->items[batch->put.count++];

	CHECK(batch->recipes_count < BATCH_RECIPES_MAX);
	batch->recipes[batch->recipes_count++] = *blob;
	*item = (struct store_item){ .digest = *digest, .data = buffer_span(blob) };
}

/* ---- a file ---- */

static void file_drop(struct ingest_file *file)
{
	block_unref(file->ingest, file->block);
	file->block = NULL;
	file->have = file->capacity = file->fed = 0;
	if (file->maker)
		recipe_maker_fini(file->maker);
	free(file->maker);
	file->maker = NULL;
}

static void file_name(struct ingest_file *file)
{
	file_drop(file);
	file->state = FILE_NAMING;
	list_remove(&file->link);
	list_append(&file->ingest->naming, &file->link);
	ingest_schedule(file->ingest);
}

void ingest_file_begin(struct ingest *ingest, struct ingest_file *file, uint64_t size_hint)
{
	CHECK(file->state == FILE_NONE);
	CHECK(!ingest->closing);
	*file = (struct ingest_file){ .ingest = ingest, .state = FILE_OPEN, .size_hint = size_hint };
	list_append(&ingest->files, &file->link);
	ingest->totals.files++;
}

/* Nothing fits. Waits for what is on its way to give memory back; when that is nothing, the file is given up. */
static void file_refuse(struct ingest_file *file)
{
	struct ingest *ingest = file->ingest;

	if (ingest->open && ingest->open->pieces_count)
		batch_seal(ingest);
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
	struct piece piece = {
		.file = file, .block = size ? file->block : NULL, .data = span_make(file->data, size), .last = last,
	};

	file->ingest->totals.chunks += size > 0;
	batch_add(file->ingest, &piece);
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

		if (!batch_open(file->ingest))
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
		filling_leave(ingest);
	if (!ingest->filling)
		ingest->filling = block_take(ingest);
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
	struct ingest_block *block = block_take(file->ingest);

	if (!block)
		return false;
	CHECK(file->have < INGEST_BLOCK_BYTES);
	if (file->have)
		memcpy(block->data, file->data, file->have);
	block_unref(file->ingest, file->block);
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

	CHECK(file->state == FILE_OPEN);
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
	block_unref(file->ingest, block);
	file->block = NULL;
}

/* The last piece goes into a batch. False: none is free. */
static bool file_finish(struct ingest_file *file)
{
	struct ingest *ingest = file->ingest;

	if (!file->result && !(file_cut(file) && batch_open(ingest))) {
		if (!file->result && ingest->batches_out)
			return false;
		if (!file->result)
			file->result = ERR_RAISE(-ENOMEM);
	}
	if (file->result)
		file_drop(file);
	else
		file_ship_last(file);
	file->state = FILE_ENDED;
	list_remove(&file->link);
	list_append(&ingest->files, &file->link);
	if (file->pieces_out == 0)
		file_name(file);
	return true;
}

void ingest_file_end(struct ingest_file *file)
{
	CHECK(file->state == FILE_OPEN);
	if (file_finish(file))
		return;
	file->state = FILE_ENDING;
	list_remove(&file->link);
	list_append(&file->ingest->ending, &file->link);
}

static void batch_forget(struct batch *batch, const struct ingest_file *file)
{
	for (unsigned i = 0; i < batch->pieces_count; i++)
		if (batch->pieces[i].file == file)
			batch->pieces[i].file = NULL;
}

static void file_detach(struct ingest_file *file)
{
	struct ingest *ingest = file->ingest;

	for (unsigned i = 0; file->pieces_out && i < ingest->batches_count; i++)
		batch_forget(ingest->batches[i], file);
	file->pieces_out = 0;
	file_drop(file);
	list_remove(&file->link);
	file->state = FILE_NONE;
	file->ingest = NULL;
}

void ingest_file_abandon(struct ingest_file *file)
{
	if (file->state == FILE_NONE)
		return;
	/* The memory that it gives up may be what others wait for. */
	file->ingest->room_made = true;
	if (file->ingest->room_wanted)
		ingest_schedule(file->ingest);
	file_detach(file);
}

void ingest_set_patience(struct ingest *ingest, uint64_t patience_ns)
{
	ingest->patience_ns = patience_ns;
}

void ingest_flush(struct ingest *ingest)
{
	if (ingest->open && ingest->open->pieces_count)
		batch_seal(ingest);
}

/* ---- into the store ---- */

/* A part or the recipe itself, until there is no more. */
static int file_make_recipe(struct ingest_file *file, struct batch *batch)
{
	struct buffer blob;
	struct digest digest;
	int r;

	do {
		r = recipe_maker_finish(file->maker, &blob, &digest);
		if (r > 0)
			batch_add_recipe(batch, &blob, &digest);
	} while (r == RECIPE_MAKER_PART);
	if (r < 0)
		return r;
	file->name = (struct content_name){ .digest = digest, .size = file->bytes, .recipe = true };
	return 0;
}

static int file_take(struct ingest_file *file, struct batch *batch, const struct piece *piece, const struct digest *digest)
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
		batch_add_recipe(batch, &blob, &part);
	if (r < 0)
		return r;
	return piece->last ? file_make_recipe(file, batch) : 0;
}

static void batch_hash(struct batch *batch)
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
static void batch_fail(struct batch *batch, int result)
{
	for (unsigned i = 0; i < batch->pieces_count; i++) {
		struct ingest_file *file = batch->pieces[i].file;

		if (file && !file->result)
			file->result = result;
	}
}

static void batch_hold(struct batch *batch)
{
	struct store_hold *hold = batch->ingest->hold;
	int r = 0;

	batch->hold_turn = batch->ingest->hold_turn;
	for (size_t i = 0; hold && r == 0 && i < batch->put.count; i++)
		r = store_hold_blobs(hold, &batch->items[i].digest, 1);
	if (r < 0)
		batch_fail(batch, r);
}

static void batch_tell(struct batch *batch)
{
	struct ingest *ingest = batch->ingest;
	struct ingest_file *files[BATCH_PIECES_MAX];

	ingest->full_since_ns = 0;
	if (!ingest->events.on_put || ingest->closing)
		return;
	for (unsigned i = 0; i < batch->pieces_count; i++)
		files[i] = batch->pieces[i].file;
	ingest->events.on_put(ingest, batch->put.items, files, batch->put.count, batch->pieces_count);
}

/* True: it is offered again. */
static bool batch_waits(struct batch *batch)
{
	struct ingest *ingest = batch->ingest;
	uint64_t now = ring_now_ns(ingest->cas->ring);

	if (batch->put.result != STORE_FULL || ingest->closing || ingest->patience_ns == 0)
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
	struct batch *batch = container_of(put, struct batch, put);
	struct ingest *ingest = batch->ingest;

	if (batch_waits(batch))
		return;
	if (put->result != STORE_OK) {
		batch_fail(batch, put->result);
	} else {
		if (batch->hold_turn != ingest->hold_turn)       /* the hold that it began with may have ended */
			batch_hold(batch);
		batch_tell(batch);
	}
	ingest->totals.bytes_new += put->bytes_new;
	for (unsigned i = 0; i < batch->pieces_count; i++) {
		struct ingest_file *file = batch->pieces[i].file;

		block_unref(ingest, batch->pieces[i].block);
		if (!file)
			continue;
		file->pieces_out--;
		if (file->result && file->state == FILE_OPEN)
			file_drop(file);
		if (file->pieces_out == 0 && file->state == FILE_ENDED)
			file_name(file);
	}
	for (unsigned i = 0; i < batch->recipes_count; i++)
		buffer_fini(&batch->recipes[i]);
	batch->pieces_count = batch->recipes_count = 0;
	list_append(&ingest->batches_idle, &batch->link);
	ingest->batches_out--;
	ingest->room_made = true;
	ingest_schedule(ingest);
}

static void batch_store(struct batch *batch)
{
	struct ingest *ingest = batch->ingest;

	batch_hash(batch);
	batch->put = (struct store_put){
		.scope = ingest->scope, .items = batch->items, .count = batch->pieces_count, .fn = batch_on_put,
	};
	for (unsigned i = 0; i < batch->pieces_count; i++) {
		const struct piece *piece = &batch->pieces[i];
		struct ingest_file *file = piece->file;
		int r = file && !file->result ? file_take(file, batch, piece, &batch->items[i].digest) : 0;

		if (r < 0)
			file->result = r;
	}
	batch_hold(batch);
	ingest->totals.batches++;
	store_put(ingest->cas->store, &batch->put);
}

/* ---- the loop ---- */

static void ingest_finish_ending(struct ingest *ingest)
{
	list_for_each_safe(link, after, &ingest->ending)
		if (!file_finish(container_of(link, struct ingest_file, link)))
			break;
}

static bool ingest_pending(const struct ingest *ingest)
{
	return ingest->batches_out || (ingest->open && ingest->open->pieces_count) || !list_empty(&ingest->files) ||
	       !list_empty(&ingest->ending) || !list_empty(&ingest->naming);
}

/* Events. A handler may do anything, also destroy the ingest. */
static void ingest_tell(struct ingest *ingest)
{
	while (!ingest->closing && !list_empty(&ingest->naming)) {
		struct ingest_file *file = container_of(list_take(&ingest->naming), struct ingest_file, link);

		file->state = FILE_NONE;
		ingest->events.on_named(file);
	}
	if (!ingest->closing && ingest->room_wanted && ingest->room_made) {
		ingest->room_wanted = false;
		ingest->events.on_room(ingest);
	}
}

static void ingest_on_turn(struct post *post)
{
	struct ingest *ingest = container_of(post, struct ingest, turn);
	struct list *link;

	ingest->posted = false;
	ingest->running = true;
	link = list_take(&ingest->sealed);
	if (link)
		batch_store(container_of(link, struct batch, link));
	if (!list_empty(&ingest->sealed))
		ingest_schedule(ingest);         /* the others' turn first */
	ingest_finish_ending(ingest);
	ingest_tell(ingest);
	ingest->running = false;
	if (ingest->closing) {
		ingest_close_join(ingest);
		return;
	}
	if (!ingest_pending(ingest)) {
		filling_leave(ingest);
		ingest_trim(ingest, 1);
	}
}

static void ingest_on_timer(struct op *op, int32_t res)
{
	struct ingest *ingest = container_of(op, struct ingest, timer);

	if (ingest->closing)
		ingest_close_join(ingest);
	else
		ingest_flush(ingest);
}

static void ingest_on_again(struct op *op, int32_t res)
{
	struct ingest *ingest = container_of(op, struct ingest, again);
	struct list refused, *link;

	if (ingest->closing) {
		ingest_close_join(ingest);
		return;
	}
	if (ingest->events.on_full)
		ingest->events.on_full(ingest);
	list_init(&refused);
	while ((link = list_take(&ingest->refused)))
		list_append(&refused, link);
	while ((link = list_take(&refused))) {
		struct batch *batch = container_of(link, struct batch, link);

		batch_hold(batch);               /* by the present hold: it may be another one */
		store_put(ingest->cas->store, &batch->put);
	}
}

static void batch_discard(struct ingest *ingest, struct batch *batch)
{
	for (unsigned i = 0; i < batch->pieces_count; i++)
		block_unref(ingest, batch->pieces[i].block);
	batch->pieces_count = 0;
	list_append(&ingest->batches_idle, &batch->link);
}

void ingest_destroy(struct ingest *ingest)
{
	struct list *lists[3], *link;

	if (!ingest)
		return;
	CHECK(!ingest->closing);
	lists[0] = &ingest->files;
	lists[1] = &ingest->ending;
	lists[2] = &ingest->naming;
	for (size_t i = 0; i < 3; i++)
		while (!list_empty(lists[i]))
			file_detach(container_of(lists[i]->next, struct ingest_file, link));
	filling_leave(ingest);
	if (ingest->open)
		batch_discard(ingest, ingest->open);
	ingest->open = NULL;
	while ((link = list_take(&ingest->sealed))) {
		batch_discard(ingest, container_of(link, struct batch, link));
		ingest->batches_out--;
	}
	while ((link = list_take(&ingest->refused))) {
		struct batch *batch = container_of(link, struct batch, link);

		for (unsigned i = 0; i < batch->recipes_count; i++)
			buffer_fini(&batch->recipes[i]);
		batch->recipes_count = 0;
		batch_discard(ingest, batch);
		ingest->batches_out--;
	}
	ingest->closing = true;
	ring_cancel(ingest->cas->ring, &ingest->timer);
	ring_cancel(ingest->cas->ring, &ingest->again);
	ingest_close_join(ingest);
}
