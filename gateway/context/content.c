/*
 * content: the files of a tree, each added in the way that suits its size; and the batch, the pieces of files that wait
 * for the same fetch.
 */
#include "gateway/context/content_private.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct content *content_create(const struct content_options *options)
{
	struct content *content = calloc(1, sizeof(*content));

	if (!content)
		return NULL;
	content->options = *options;
	list_init(&content->files);
	memset(content->table, 0xff, sizeof(content->table));
	return content;
}

void content_destroy(struct content *content)
{
	if (!content)
		return;
	list_for_each_safe(link, after, &content->files)
		content_file_abandon(content, container_of(link, struct content_file, link));
	free(content);
}

const struct content_totals *content_totals(const struct content *content)
{
	return &content->totals;
}

static int on_blob(void *context, size_t index, struct span blob)
{
	struct content *content = context;
	int32_t next;
	int r = 0;

	CHECK(index < content->blobs_count && blob.size == content->blobs[index].size);
	content->blobs_seen++;
	content->totals.bytes_fetched += blob.size;
	for (int32_t at = content->first[index]; at >= 0 && !r; at = next) {
		struct piece *piece = &content->pieces[at];

		next = piece->next;
		r = content_file_write(content, piece->file, blob, piece->offset);
	}
	return r;
}

int content_fetch(struct content *content, const struct digest *digests, size_t count,
                  int (*visit)(void *context, size_t index, struct span blob), void *context)
{
	struct source *source = content->options.source;

	return source->fetch(source, digests, count, visit, context, content->options.why.text,
	                     content->options.why.size);
}

static int flush_pieces(struct content *content)
{
	int r;

	if (content->blobs_count == 0)
		return 0;
	content->blobs_seen = 0;
	r = content_fetch(content, content->blobs, content->blobs_count, on_blob, content);
	if (!r)
		CHECK(content->blobs_seen == content->blobs_count);
	content->pieces_count = content->blobs_count = 0;
	content->blobs_bytes = 0;
	memset(content->table, 0xff, sizeof(content->table));
	if (content->options.progress)
		content->options.progress(content->options.context, content->totals.files, content->totals.bytes);
	return r;
}

/* The blob's place in the table: it is there, or a free slot. Half of the slots are free, so the loop ends. */
static int16_t *table_find(struct content *content, const struct digest *digest)
{
	uint32_t slot;

	memcpy(&slot, digest->hash, sizeof(slot));
	for (;; slot++) {
		int16_t *at = &content->table[slot & (TABLE_SLOTS - 1)];

		if (*at < 0 || digest_equal(&content->blobs[*at], digest))
			return at;
	}
}

int content_want(struct content *content, struct content_file *file, const struct digest *digest, uint64_t offset)
{
	int16_t *slot = table_find(content, digest);
	bool full = content->pieces_count == CONTENT_BATCH_PIECES;
	size_t at;

	if (full || (*slot < 0 && content->blobs_count && content->blobs_bytes + digest->size > CONTENT_BATCH_BYTES)) {
		int r = flush_pieces(content);

		if (r)
			return r;
		slot = table_find(content, digest);
	}
	if (*slot < 0) {
		*slot = (int16_t)content->blobs_count;
		content->blobs[content->blobs_count] = *digest;
		content->first[content->blobs_count++] = -1;
		content->blobs_bytes += digest->size;
	}
	at = content->pieces_count++;
	content->pieces[at] = (struct piece){ .file = file, .offset = offset, .next = content->first[*slot] };
	content->first[*slot] = (int32_t)at;
	return 0;
}

struct streamed {
	struct content *content;
	struct content_file *file;
};

static int on_piece(void *context, uint64_t offset, struct span bytes)
{
	struct streamed *streamed = context;

	streamed->content->totals.bytes_fetched += bytes.size;
	return content_file_write(streamed->content, streamed->file, bytes, offset);
}

/* A file of another client's: one blob, longer than a fetch would bring. */
static int add_streamed(struct content *content, struct content_file *file, const struct digest *digest)
{
	struct source *source = content->options.source;
	struct streamed streamed = { .content = content, .file = file };

	return source->stream(source, digest, on_piece, &streamed, content->options.why.text,
	                      content->options.why.size);
}

int content_add(struct content *content, const char *path, const struct tree_node *node, const struct tree_node *before,
                int before_fd)
{
	struct content_file *file;

	CHECK(node->kind == TREE_FILE);
	file = content_file_create(content, path, node);
	if (!file || !node->recipe || !before || !before->recipe) {
		if (before_fd >= 0)
			close(before_fd);
	} else {
		file->before_fd = before_fd;
		file->before_recipe = before->digest;
		file->before_size = before->file_size;
	}
	if (!file)
		return ERR_RAISE(-ENOMEM);
	if (node->recipe)
		return content_recipe_add(content, file);
	if (node->file_size == 0)
		return content_file_empty(content, file);
	if (node->file_size > CONTENT_BATCH_BYTES && content->options.source->stream)
		return add_streamed(content, file, &node->digest);
	if (node->file_size > CONTENT_BLOB_BYTES_MAX)
		return WHY_RAISE(content->options.why, -EFBIG, path, "a file without a recipe is longer than %u bytes",
		                 CONTENT_BLOB_BYTES_MAX);
	return content_want(content, file, &node->digest, 0);
}

int content_finish(struct content *content)
{
	int r = content_recipe_flush(content);

	if (!r)
		r = flush_pieces(content);
	if (!r)
		CHECK(list_empty(&content->files));
	return r;
}
