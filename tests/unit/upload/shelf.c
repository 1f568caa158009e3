/* A tree in memory. */
#include "shelf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "chunker/sha256.h"
#include "gateway/base/list.h"
#include "proto/recipe.h"
#include "proto/tree.h"

#define READ_DELAY_NS 2000000u

/* ---- making it ---- */

static size_t shelf_put(struct shelf *shelf, struct buffer blob)
{
	size_t place = shelf->count++;

	assert_true(place < SHELF_BLOBS && !blob.failed);
	shelf->blobs[place] = blob;
	shelf->digests[place].size = blob.size;
	sha256_once(blob.data, blob.size, shelf->digests[place].hash);
	shelf->bytes += blob.size;
	return place;
}

/* Half of it repeats, so that it can be compressed. */
static struct buffer made_up(uint32_t *seed, size_t size)
{
	struct buffer bytes = buffer_heap(1 << 20);
	uint8_t *data = buffer_reserve(&bytes, size);

	for (size_t i = 0; i < size; i++) {
		*seed = *seed * 1664525u + 1013904223u;
		data[i] = i % 2 ? 'x' : (uint8_t)(*seed >> 24);
	}
	bytes.size = size;
	return bytes;
}

static size_t shelf_put_content(struct shelf *shelf, struct buffer blob)
{
	if (!shelf->edit_only || shelf->edit_only == shelf->count + 1)
		blob.data[blob.size / 2] ^= shelf->edit;
	return shelf_put(shelf, blob);
}

static size_t shelf_put_directory(struct shelf *shelf, size_t number)
{
	struct tree_node nodes[SHELF_FILES] = { 0 };
	struct tree_directory directory = { .mode = 0755 };
	struct buffer encoded = buffer_heap(1 << 20);
	char names[SHELF_FILES][16];

	for (size_t i = 0; i < SHELF_FILES; i++) {
		size_t place = number * SHELF_FILES + i;

		snprintf(names[i], sizeof(names[i]), "f%02zu", i);
		nodes[i] = (struct tree_node){ .kind = TREE_FILE, .name = span_text(names[i]), .mode = 0644,
		                               .digest = shelf->digests[place], .file_size = shelf->digests[place].size };
	}
	assert_int_equal(tree_encode(&encoded, &directory, nodes, SHELF_FILES), 0);
	return shelf_put(shelf, encoded);
}

static void shelf_put_root(struct shelf *shelf, const size_t *directories, uint64_t large_size)
{
	struct tree_node nodes[SHELF_DIRECTORIES + 3] = { 0 };
	struct tree_directory directory = { .mode = 0755 };
	struct buffer encoded = buffer_heap(1 << 20);
	char names[SHELF_DIRECTORIES][16];

	for (size_t i = 0; i < SHELF_DIRECTORIES; i++) {
		snprintf(names[i], sizeof(names[i]), "d%02zu", i);
		nodes[i] = (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text(names[i]),
		                               .digest = shelf->digests[directories[i]] };
	}
	nodes[SHELF_DIRECTORIES] = (struct tree_node){ .kind = TREE_DIRECTORY, .name = span_text("e-again"),
	                                               .digest = shelf->digests[directories[0]] };
	nodes[SHELF_DIRECTORIES + 1] = (struct tree_node){ .kind = TREE_FILE, .name = span_text("large"), .mode = 0644,
	                                                   .recipe = true, .digest = shelf->digests[shelf->recipe],
	                                                   .file_size = large_size };
	nodes[SHELF_DIRECTORIES + 2] = (struct tree_node){ .kind = TREE_FILE, .name = span_text("mark"), .mode = 0644,
	                                                   .digest = shelf->digests[shelf->mark],
	                                                   .file_size = shelf->digests[shelf->mark].size };
	assert_int_equal(tree_encode(&encoded, &directory, nodes, SHELF_DIRECTORIES + 3), 0);
	shelf->root = shelf_put(shelf, encoded);
}

static void shelf_fill(struct shelf *shelf, uint32_t seed, uint32_t mark)
{
	size_t directories[SHELF_DIRECTORIES], first;
	struct buffer recipe = buffer_heap(1 << 20);
	uint64_t large_size = 0;

	for (size_t i = 0; i < SHELF_DIRECTORIES * SHELF_FILES; i++)
		shelf_put_content(shelf, made_up(&seed, 1000 + i * 7919 % 60000));
	shelf->mark = shelf_put_content(shelf, made_up(&mark, 100));
	first = shelf->count;
	for (size_t i = 0; i < SHELF_CHUNKS; i++) {
		shelf_put_content(shelf, made_up(&seed, 100000 + i));
		large_size += 100000 + i;
	}
	shelf->contents = shelf->count;
	shelf->chunks = SHELF_CHUNKS;
	recipe_begin(&recipe, &(struct recipe_head){ .profile = 1, .file_size = large_size });
	for (size_t i = 0; i < SHELF_CHUNKS; i++)
		recipe_add(&recipe, &shelf->digests[first + i]);
	shelf->recipe = shelf_put(shelf, recipe);
	for (size_t i = 0; i < SHELF_DIRECTORIES; i++)
		directories[i] = shelf_put_directory(shelf, i);
	shelf_put_root(shelf, directories, large_size);
}

/* ---- the source ---- */

static struct shelf *shelf_of(struct uploader_source *source)
{
	return container_of(source, struct shelf, source);
}

static const struct buffer *shelf_find(const struct shelf *shelf, const struct digest *digest)
{
	for (size_t i = 0; i < shelf->count; i++)
		if (digest_equal(&shelf->digests[i], digest))
			return &shelf->blobs[i];
	return NULL;
}

static int shelf_children(struct uploader_source *source, const struct digest *directory, struct uploader_children *children)
{
	struct shelf *shelf = shelf_of(source);
	const struct buffer *blob = shelf_find(shelf, directory);
	struct tree_reader reader;
	struct tree_node node;
	size_t contents = 0, directories = SHELF_FILES + 2;

	if (!blob)
		return -ENOENT;
	assert_true(tree_open(&reader, buffer_span(blob)));
	*children = (struct uploader_children){ .contents = shelf->lent, .recipes = shelf->lent_recipes };
	while (tree_next(&reader, &node)) {
		if (node.kind == TREE_DIRECTORY) {
			shelf->lent[directories++] = node.digest;
		} else {
			shelf->lent_recipes[contents] = node.recipe;
			shelf->lent[contents++] = node.digest;
		}
	}
	tree_close(&reader);
	children->contents_count = contents;
	children->directories = shelf->lent + SHELF_FILES + 2;
	children->directories_count = directories - (SHELF_FILES + 2);
	return 0;
}

static int shelf_recipe_children(struct uploader_source *source, const struct digest *recipe, struct uploader_parts *parts)
{
	struct shelf *shelf = shelf_of(source);

	if (!digest_equal(recipe, &shelf->digests[shelf->recipe]))
		return -ENOENT;
	memcpy(shelf->lent, shelf->digests + shelf->contents - shelf->chunks, shelf->chunks * sizeof(*shelf->lent));
	*parts = (struct uploader_parts){ .blobs = shelf->lent, .count = shelf->chunks };
	return 0;
}

static bool shelf_known(struct uploader_source *source, const struct digest *blob)
{
	struct shelf *shelf = shelf_of(source);

	return shelf->known && !digest_equal(blob, shelf->unknown);
}

static bool shelf_has(struct uploader_source *source, const struct digest *blob)
{
	return shelf_find(shelf_of(source), blob);
}

/* In the same place. Of each second one the directory's or chunk's neighbour follows, as of a file that was cut elsewhere. */
static size_t shelf_bases(struct uploader_source *source, const struct digest *blob,
                          struct digest bases[static UPLOADER_BASES_MAX])
{
	struct shelf *shelf = shelf_of(source);
	size_t i = 0;

	if (!shelf->former)
		return 0;
	while (!digest_equal(&shelf->digests[i], blob))
		i++;
	bases[0] = shelf->former->digests[i];
	if (i % 2 == 0)
		return 1;
	bases[1] = shelf->former->digests[i - 1];
	return 2;
}

/* Those of a comparison are nothing that it ever had. */
static void shelf_read_bases(struct shelf *shelf, struct uploader_read *read)
{
	for (size_t i = 0; i < read->bases_count; i++) {
		const struct buffer *blob = shelf->former ? shelf_find(shelf->former, &read->bases[i].digest) : NULL;

		assert_true(blob || !shelf->former);
		read->bases[i].stale = !blob || shelf->former_lost;
		if (!read->bases[i].stale)
			memcpy(read->bases[i].buffer, blob->data, blob->size);
	}
}

static int shelf_read_all(struct shelf *shelf, struct uploader_read *read)
{
	int r = shelf->error;

	shelf->error = 0;
	shelf_read_bases(shelf, read);
	for (size_t i = 0; i < read->count && r >= 0; i++) {
		const struct buffer *blob = shelf_find(shelf, &read->pieces[i].digest);

		if (!blob)
			return -ENOENT;
		if (shelf->stale && digest_equal(&read->pieces[i].digest, shelf->stale)) {
			read->pieces[i].stale = true;
			strcpy(read->why, "it has gone");
			r = UPLOADER_READ_STALE;
		}
		memcpy(read->pieces[i].buffer, blob->data, blob->size);
	}
	return r;
}

static void shelf_on_timer(struct op *op, int32_t res)
{
	struct shelf_read *later = container_of(op, struct shelf_read, timer);
	struct uploader_read *read = later->read;

	later->read = NULL;
	later->shelf->reading--;
	read->done(read, shelf_read_all(later->shelf, read));
}

static void shelf_read(struct uploader_source *source, struct uploader_read *read)
{
	struct shelf *shelf = shelf_of(source);

	for (size_t i = 0; shelf->later && i < UPLOADER_PACKS_MAX; i++) {
		struct shelf_read *later = &shelf->reads[i];

		if (later->read)
			continue;
		later->read = read;
		later->shelf = shelf;
		later->timer.fn = shelf_on_timer;
		ring_timer(shelf->ring, &later->timer, READ_DELAY_NS);
		shelf->reading++;
		if (shelf->reading > shelf->reading_max)
			shelf->reading_max = shelf->reading;
		return;
	}
	assert_false(shelf->later);              /* more reads at a time than there may be */
	read->done(read, shelf_read_all(shelf, read));
}

static int shelf_encode(struct uploader_source *source, const struct digest *directory, struct buffer *out)
{
	const struct buffer *blob = shelf_find(shelf_of(source), directory);

	if (!blob)
		return -ENOENT;
	buffer_put(out, blob->data, blob->size);
	return 0;
}

static const struct uploader_source_ops shelf_ops = {
	.children = shelf_children,
	.recipe_children = shelf_recipe_children,
	.known = shelf_known,
	.has = shelf_has,
	.bases = shelf_bases,
	.read = shelf_read,
	.encode = shelf_encode,
};

void shelf_make_marked(struct shelf *shelf, struct ring *ring, uint32_t seed, uint32_t mark)
{
	*shelf = (struct shelf){ .source.ops = &shelf_ops, .ring = ring };
	shelf_fill(shelf, seed, mark);
}

void shelf_make(struct shelf *shelf, struct ring *ring, uint32_t seed)
{
	shelf_make_marked(shelf, ring, seed, seed);
}

void shelf_make_edited(struct shelf *shelf, struct ring *ring, uint32_t seed, uint8_t edit)
{
	*shelf = (struct shelf){ .source.ops = &shelf_ops, .ring = ring, .edit = edit };
	shelf_fill(shelf, seed, seed);
}

void shelf_make_touched(struct shelf *shelf, struct ring *ring, uint32_t seed, size_t place)
{
	*shelf = (struct shelf){ .source.ops = &shelf_ops, .ring = ring, .edit = 1, .edit_only = place + 1 };
	shelf_fill(shelf, seed, seed);
}

void shelf_fini(struct shelf *shelf)
{
	for (size_t i = 0; i < shelf->count; i++)
		buffer_fini(&shelf->blobs[i]);
}
