/* Looking into trees. */
#include "gateway/context/browse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/digest_set.h"
#include "gateway/base/err.h"
#include "gateway/context/content.h"
#include "proto/recipe.h"

/* Chunks are handed on in order, so those that are fetched at a time are held until all are there: */
#define BROWSE_BATCH       64
#define BROWSE_BATCH_BYTES (8u << 20)    /* unless a single one is longer */

struct listing {
	int (*visit)(void *context, const struct tree_node *node);
	void *context;
	char *why;
	size_t why_size;
};

static int list_blob(void *context, size_t index, struct span blob)
{
	struct listing *listing = context;
	struct tree_reader *reader = calloc(1, sizeof(*reader));
	struct tree_node node;
	int r = 0;

	if (!reader)
		return ERR_RAISE(-ENOMEM);
	if (tree_open(reader, blob))
		while (r == 0 && tree_next(reader, &node))
			r = listing->visit(listing->context, &node);
	if (reader->failed) {
		snprintf(listing->why, listing->why_size, "a directory of this tree is malformed: %s", reader->fault);
		r = ERR_RAISE(-EBADMSG);
	}
	tree_close(reader);
	free(reader);
	return r;
}

int browse_list(struct source *source, const struct digest *directory,
                int (*visit)(void *context, const struct tree_node *node), void *context, char *why, size_t why_size)
{
	struct listing listing = { .visit = visit, .context = context, .why = why, .why_size = why_size };

	if (directory->size == 0)                /* the empty directory needs no message */
		return 0;
	return source->fetch(source, directory, 1, list_blob, &listing, why, why_size);
}

struct finding {
	struct span name;
	struct tree_node *node;
	struct browse_target *target;
	bool found;
};

static void keep_target(struct finding *finding, struct span target)
{
	CHECK(target.size <= sizeof(finding->target->bytes));
	memcpy(finding->target->bytes, target.data, target.size);
	finding->node->target = span_make(finding->target->bytes, target.size);
}

static int find_name(void *context, const struct tree_node *node)
{
	struct finding *finding = context;

	if (!span_equal(node->name, finding->name))
		return 0;
	finding->found = true;
	*finding->node = (struct tree_node){
		.kind = node->kind, .mode = node->mode, .digest = node->digest, .recipe = node->recipe, .file_size = node->file_size,
		.major = node->major, .minor = node->minor,
	};
	if (node->kind == TREE_SYMLINK && finding->target)
		keep_target(finding, node->target);
	return 0;
}

int browse_find(struct source *source, const struct digest *root, const char *path, struct tree_node *node,
                struct browse_target *target, char *why, size_t why_size)
{
	struct tree_node at = { .kind = TREE_DIRECTORY, .digest = *root };
	const char *rest = path;

	while (*rest) {
		struct digest directory = at.digest;
		struct finding finding = { .node = &at, .target = target };
		size_t length = strcspn(rest, "/");
		int r;

		finding.name = span_make(rest, length);
		rest += length + strspn(rest + length, "/");
		if (length == 0 || span_is(finding.name, "."))
			continue;
		if (at.kind != TREE_DIRECTORY) {
			snprintf(why, why_size, "%s: something before its end is not a directory", path);
			return ERR_RAISE(-ENOTDIR);
		}
		r = browse_list(source, &directory, find_name, &finding, why, why_size);
		if (r)
			return r == -ENOENT ? -ESTALE : r;
		if (!finding.found) {
			snprintf(why, why_size, "%s: not in this tree", path);
			return -ENOENT;
		}
	}
	*node = at;
	return 0;
}

/* ---- content ---- */

struct reading {
	struct source *source;
	int (*visit)(void *context, struct span data);
	void *context;
	struct span *held;
	char *why;
	size_t why_size;
};

static int hold_blob(void *context, size_t index, struct span blob)
{
	struct reading *reading = context;
	uint8_t *copy = malloc(blob.size ? blob.size : 1);

	if (!copy)
		return ERR_RAISE(-ENOMEM);
	memcpy(copy, blob.data, blob.size);
	reading->held[index] = span_make(copy, blob.size);
	return 0;
}

static int read_batch(struct reading *reading, const struct digest *digests, size_t count)
{
	struct span held[BROWSE_BATCH] = { 0 };
	int r;

	reading->held = held;
	r = reading->source->fetch(reading->source, digests, count, hold_blob, reading, reading->why, reading->why_size);
	for (size_t i = 0; i < count; i++) {
		if (r == 0)
			r = reading->visit(reading->context, held[i]);
		free((void *)held[i].data);
	}
	return r;
}

struct recipe_entries {
	struct digest_vector digests;
	uint32_t level;
};

static int take_recipe(void *context, size_t index, struct span blob)
{
	struct recipe_entries *entries = context;
	struct recipe_reader reader;
	struct digest entry;

	if (!recipe_open(&reader, blob))
		return ERR_RAISE(-EBADMSG);
	while (recipe_next(&reader, &entry))
		if (digest_vector_add(&entries->digests, &entry) < 0)
			return ERR_RAISE(-ENOMEM);
	entries->level = reader.head.level;
	return reader.failed ? ERR_RAISE(-EBADMSG) : 0;
}

static size_t batch_size(const struct digest_vector *digests, size_t begin)
{
	uint64_t bytes = 0;
	size_t end = begin;

	while (end < digests->count && end - begin < BROWSE_BATCH) {
		bytes += digests->items[end].size;
		if (end > begin && bytes > BROWSE_BATCH_BYTES)
			break;
		end++;
	}
	return end - begin;
}

/* `level_max`: a recipe of recipes holds recipes of chunks, and nothing goes deeper. */
static int read_recipe(struct reading *reading, const struct digest *recipe, uint32_t level_max)
{
	struct recipe_entries entries = { 0 };
	const struct digest_vector *digests = &entries.digests;
	int r = reading->source->fetch(reading->source, recipe, 1, take_recipe, &entries, reading->why, reading->why_size);

	if (r == 0 && entries.level > level_max)
		r = ERR_RAISE(-EBADMSG);
	if (r == -EBADMSG)
		snprintf(reading->why, reading->why_size, "a recipe of this file is malformed");
	for (size_t i = 0; r == 0 && i < digests->count;) {
		size_t count = entries.level ? 1 : batch_size(digests, i);

		r = entries.level ? read_recipe(reading, &digests->items[i], 0) : read_batch(reading, digests->items + i, count);
		i += count;
	}
	digest_vector_fini(&entries.digests);
	return r;
}

static int visit_piece(void *context, uint64_t offset, struct span bytes)
{
	const struct reading *reading = context;

	return reading->visit(reading->context, bytes);
}

int browse_read(struct source *source, const struct tree_node *file,
                int (*visit)(void *context, struct span data), void *context, char *why, size_t why_size)
{
	struct reading reading = { .source = source, .visit = visit, .context = context, .why = why, .why_size = why_size };

	if (file->file_size == 0 && file->digest.size == 0)
		return 0;
	if (file->recipe)
		return read_recipe(&reading, &file->digest, 1);
	if (file->file_size > CONTENT_BATCH_BYTES && source->stream)     /* of another client: longer than a fetch would bring */
		return source->stream(source, &file->digest, visit_piece, &reading, why, why_size);
	return read_batch(&reading, &file->digest, 1);
}
