/* Recipes of files that are still coming. */
#include "gateway/cas/recipe_maker.h"

#include <errno.h>

#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/pb.h"

#define HEAD_BYTES 3                     /* and the file size, see proto/recipe.c */
#define ENTRY_BYTES_MAX (DIGEST_HASH_BYTES + PB_VARINT_BYTES_MAX)

void recipe_maker_init(struct recipe_maker *maker, uint32_t profile)
{
	*maker = (struct recipe_maker){
		.profile = profile,
		.entries = buffer_heap(RECIPE_BYTES_MAX + ENTRY_BYTES_MAX),
		.parts = buffer_heap(RECIPE_BYTES_MAX),
	};
}

void recipe_maker_fini(struct recipe_maker *maker)
{
	buffer_fini(&maker->entries);
	buffer_fini(&maker->parts);
	*maker = (struct recipe_maker){ 0 };
}

/* A blob of a head and entries, and its name. */
static int make_blob(const struct recipe_head *head, struct span entries, struct buffer *blob, struct digest *digest)
{
	struct buffer made = buffer_heap(HEAD_BYTES + PB_VARINT_BYTES_MAX + entries.size);

	recipe_begin(&made, head);
	buffer_put(&made, entries.data, entries.size);
	if (made.failed) {
		buffer_fini(&made);
		return ERR_RAISE(-ENOMEM);
	}
	sha256_once(made.data, made.size, digest->hash);
	digest->size = made.size;
	*blob = made;
	return 0;
}

/* Hands out the first `size` bytes of the entries, `count` chunks of `bytes` in all, as a part. */
static int take_part(struct recipe_maker *maker, size_t size, uint32_t count, uint64_t bytes, struct buffer *blob,
                     struct digest *digest)
{
	struct recipe_head head = { .profile = maker->profile, .file_size = bytes };
	struct buffer made;
	int r;

	if (maker->parts.size + ENTRY_BYTES_MAX + HEAD_BYTES + PB_VARINT_BYTES_MAX > RECIPE_BYTES_MAX)
		return ERR_RAISE(-EFBIG);
	r = make_blob(&head, span_make(maker->entries.data, size), &made, digest);
	if (r)
		return r;
	recipe_add(&maker->parts, digest);
	if (maker->parts.failed) {
		buffer_fini(&made);
		return ERR_RAISE(-ENOMEM);
	}
	memmove(maker->entries.data, maker->entries.data + size, maker->entries.size - size);
	maker->entries.size -= size;
	maker->count -= count;
	maker->bytes -= bytes;
	*blob = made;
	return RECIPE_MAKER_PART;
}

int recipe_maker_add(struct recipe_maker *maker, const struct digest *chunk, struct buffer *blob, struct digest *digest)
{
	recipe_add(&maker->entries, chunk);
	if (maker->entries.failed)
		return ERR_RAISE(-ENOMEM);
	maker->count++;
	maker->bytes += chunk->size;
	maker->file_bytes += chunk->size;
	if (maker->split)
		return maker->count < RECIPE_PART_ENTRIES ?
		       RECIPE_MAKER_NONE :
		       take_part(maker, maker->entries.size, maker->count, maker->bytes, blob, digest);
	if (maker->count == RECIPE_PART_ENTRIES) {
		maker->first_end = maker->entries.size;
		maker->first_bytes = maker->bytes;
	}
	if (HEAD_BYTES + pb_varint_size(maker->file_bytes) + maker->entries.size <= RECIPE_BYTES_MAX)
		return RECIPE_MAKER_NONE;
	/* An entry has 33 bytes at least: between one part's and two parts' worth of chunks are here. */
	CHECK(maker->count > RECIPE_PART_ENTRIES && maker->count < 2 * RECIPE_PART_ENTRIES);
	maker->split = true;
	return take_part(maker, maker->first_end, RECIPE_PART_ENTRIES, maker->first_bytes, blob, digest);
}

int recipe_maker_finish(struct recipe_maker *maker, struct buffer *blob, struct digest *digest)
{
	struct recipe_head head = {
		.profile = maker->profile, .level = maker->split, .file_size = maker->file_bytes,
	};
	int r;

	CHECK(maker->file_bytes > 0);
	if (maker->split && maker->count)
		return take_part(maker, maker->entries.size, maker->count, maker->bytes, blob, digest);
	r = make_blob(&head, buffer_span(maker->split ? &maker->parts : &maker->entries), blob, digest);
	return r ? r : RECIPE_MAKER_DONE;
}
