/*
 * Of content: large files. Their recipes are fetched several at a time and expanded into chunks, which are waited for
 * like small files; but those that a former version holds, as its own recipe says, are copied from there.
 */
#include "gateway/context/content_private.h"

#include "proto/recipe.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define KNOWN_CHUNKS_MAX (1u << 18)      /* of a former version: what is beyond is fetched */

/* A blob that one fetch of one blob brings. */
struct copy {
	uint8_t *data;
	size_t size;
};

/* The chunks of a former version: sorted by digest. */
struct known {
	struct known_chunk *chunks;
	size_t count, capacity;
};

/* ---- fetched recipes ---- */

static int on_copy(void *context, size_t index, struct span blob)
{
	struct copy *copy = (struct copy *)context + index;

	free(copy->data);
	copy->data = malloc(blob.size ? blob.size : 1);
	if (!copy->data)
		return -ENOMEM;
	memcpy(copy->data, blob.data, blob.size);
	copy->size = blob.size;
	return 0;
}

static struct span copy_span(const struct copy *copy)
{
	return span_make(copy->data, copy->size);
}

/* ---- former versions ---- */

static int compare_known(const void *a, const void *b)
{
	return memcmp(((const struct known_chunk *)a)->digest.hash, ((const struct known_chunk *)b)->digest.hash,
	              DIGEST_HASH_BYTES);
}

static bool known_add(struct known *known, const struct digest *digest, uint64_t offset)
{
	if (known->count == known->capacity) {
		size_t capacity = known->capacity ? 2 * known->capacity : 1024;
		struct known_chunk *grown;

		if (capacity > KNOWN_CHUNKS_MAX)
			return false;
		grown = realloc(known->chunks, capacity * sizeof(*grown));
		if (!grown)
			return false;
		known->chunks = grown;
		known->capacity = capacity;
	}
	known->chunks[known->count++] = (struct known_chunk){ .digest = *digest, .offset = offset };
	return true;
}

static const struct known_chunk *known_find(const struct known *known, const struct digest *digest)
{
	struct known_chunk key = { .digest = *digest };
	const struct known_chunk *found;

	if (!known->count)
		return NULL;
	found = bsearch(&key, known->chunks, known->count, sizeof(*known->chunks), compare_known);
	return found && found->digest.size == digest->size ? found : NULL;
}

/*
 * The chunks of a former version, as far as its recipe is to be had: the others are fetched. False: it ends here, as where anything
 * behind lies is not known.
 */
static bool known_read(struct content *content, struct known *known, const struct digest *recipe, uint64_t *offset,
                       uint32_t level)
{
	struct recipe_reader reader;
	struct copy copy = { 0 };
	struct digest entry;
	bool whole = content_fetch(content, recipe, 1, on_copy, &copy) == 0 && recipe_open(&reader, copy_span(&copy)) &&
	             reader.head.level <= level;

	while (whole && recipe_next(&reader, &entry)) {
		if (reader.head.level == 1) {
			whole = known_read(content, known, &entry, offset, 0);
		} else {
			whole = known_add(known, &entry, *offset);
			*offset += entry.size;
		}
	}
	free(copy.data);
	return whole && !reader.failed;
}

static struct known known_make(struct content *content, const struct content_file *file)
{
	struct known known = { 0 };
	uint64_t offset = 0;
	struct stat stat;

	if (file->before_fd < 0 || fstat(file->before_fd, &stat) || (uint64_t)stat.st_size != file->before_size)
		return known;
	known_read(content, &known, &file->before_recipe, &offset, 1);
	if (known.count)
		qsort(known.chunks, known.count, sizeof(*known.chunks), compare_known);
	return known;
}

/* ---- chunks ---- */

static int malformed(const struct content *content, const struct content_file *file)
{
	return WHY_RAISE(content->options.why, -EBADMSG, file->path, "malformed recipe");
}

/* The chunks of one level-0 recipe, which holds the file's bytes from `offset` on. `*size` gets how many. */
static int expand_chunks(struct content *content, struct content_file *file, struct span blob, uint64_t offset,
                         const struct known *known, uint64_t *size)
{
	struct recipe_reader reader;
	struct digest chunk;

	if (!recipe_open(&reader, blob) || reader.head.level != 0 || reader.head.file_size > file->size - offset)
		return malformed(content, file);
	*size = reader.head.file_size;
	while (recipe_next(&reader, &chunk)) {
		const struct known_chunk *found = known_find(known, &chunk);
		bool reused = false;
		int r;

		if (chunk.size > CONTENT_BLOB_BYTES_MAX)
			return malformed(content, file);
		r = found ? content_file_reuse(content, file, found, offset, &reused) : 0;
		if (!r && !reused)
			r = content_want(content, file, &chunk, offset);
		if (r)
			return r;
		offset += chunk.size;
	}
	return reader.failed ? malformed(content, file) : 0;
}

static int expand_parts(struct content *content, struct content_file *file, struct recipe_reader *reader,
                        const struct known *known)
{
	uint64_t offset = 0;
	struct digest part;

	while (recipe_next(reader, &part)) {
		struct copy copy = { 0 };
		uint64_t size = 0;
		int r = content_fetch(content, &part, 1, on_copy, &copy);

		if (!r)
			r = expand_chunks(content, file, copy_span(&copy), offset, known, &size);
		free(copy.data);
		if (r)
			return r;
		offset += size;
	}
	return reader->failed || offset != file->size ? malformed(content, file) : 0;
}

static int expand(struct content *content, struct content_file *file, struct span blob, const struct known *known)
{
	struct recipe_reader reader;
	uint64_t size;

	if (!recipe_open(&reader, blob) || reader.head.file_size != file->size)
		return malformed(content, file);
	if (reader.head.level == 1)
		return expand_parts(content, file, &reader, known);
	return expand_chunks(content, file, blob, 0, known, &size);
}

static int file_expand(struct content *content, struct content_file *file, struct span recipe)
{
	struct known known = known_make(content, file);
	int r;

	file->expanding = true;
	r = expand(content, file, recipe, &known);
	file->expanding = false;
	free(known.chunks);
	if (!r && file->remaining == 0)
		content_file_destroy(file);
	return r;
}

int content_recipe_flush(struct content *content)
{
	struct digest digests[CONTENT_RECIPES];
	struct copy copies[CONTENT_RECIPES] = { 0 };
	size_t count = content->recipes_count;
	int r;

	if (count == 0)
		return 0;
	content->recipes_count = 0;
	for (size_t i = 0; i < count; i++)
		digests[i] = content->recipes[i]->recipe;
	r = content_fetch(content, digests, count, on_copy, copies);
	for (size_t i = 0; i < count; i++) {
		if (!r)
			r = file_expand(content, content->recipes[i], copy_span(&copies[i]));
		free(copies[i].data);
	}
	return r;
}

int content_recipe_add(struct content *content, struct content_file *file)
{
	uint64_t bytes = file->recipe.size;

	if (file->recipe.size > RECIPE_BYTES_MAX)
		return malformed(content, file);
	for (size_t i = 0; i < content->recipes_count; i++)
		bytes += content->recipes[i]->recipe.size;
	if (content->recipes_count == CONTENT_RECIPES || bytes > CONTENT_BATCH_BYTES) {
		int r = content_recipe_flush(content);

		if (r)
			return r;
	}
	content->recipes[content->recipes_count++] = file;
	return 0;
}
