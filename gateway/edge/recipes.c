/* Recipes by their digests. */
#include "gateway/edge/recipes.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/err.h"
#include "proto/recipe.h"

#define BUCKETS_MIN 256u

static size_t bucket_of(const struct recipes *recipes, const struct digest *digest, size_t count)
{
	return (size_t)digest_hash(digest, &recipes->secret) & (count - 1);
}

static void record_free(struct recipe_record *record)
{
	free(record->blobs);
	free(record);
}

void recipes_fini(struct recipes *recipes)
{
	for (size_t i = 0; i < recipes->buckets_count; i++) {
		struct recipe_record *record = recipes->buckets[i];

		while (record) {
			struct recipe_record *next = record->next;

			record_free(record);
			record = next;
		}
	}
	free(recipes->buckets);
	*recipes = (struct recipes){ 0 };
}

const struct recipe_record *recipes_find(const struct recipes *recipes, const struct digest *digest)
{
	const struct recipe_record *record;

	if (!recipes->buckets_count)
		return NULL;
	record = recipes->buckets[bucket_of(recipes, digest, recipes->buckets_count)];
	while (record && !digest_equal(&record->digest, digest))
		record = record->next;
	return record;
}

static int grow(struct recipes *recipes)
{
	size_t count = recipes->buckets_count ? recipes->buckets_count * 2 : BUCKETS_MIN;
	struct recipe_record **buckets = calloc(count, sizeof(struct recipe_record *));

	if (!buckets)
		return ERR_RAISE(-ENOMEM);
	if (!recipes->buckets_count)
		recipes->secret = digest_secret_make();
	for (size_t i = 0; i < recipes->buckets_count; i++) {
		struct recipe_record *record = recipes->buckets[i];

		while (record) {
			struct recipe_record *next = record->next;
			size_t to = bucket_of(recipes, &record->digest, count);

			record->next = buckets[to];
			buckets[to] = record;
			record = next;
		}
	}
	free(recipes->buckets);
	recipes->buckets = buckets;
	recipes->buckets_count = count;
	return 0;
}

static int record_read(struct recipe_record *record, struct span blob)
{
	size_t room = blob.size / DIGEST_HASH_BYTES + 1;         /* an entry is longer than a hash */
	struct recipe_reader reader;

	if (!recipe_open(&reader, blob))
		return ERR_RAISE(-EBADMSG);
	record->are_recipes = reader.head.level > 0;
	record->blobs = malloc(room * sizeof(*record->blobs));
	if (!record->blobs)
		return ERR_RAISE(-ENOMEM);
	while (record->count < room && recipe_next(&reader, &record->blobs[record->count]))
		record->count++;
	return reader.failed ? ERR_RAISE(-EBADMSG) : 0;
}

int recipes_add(struct recipes *recipes, const struct digest *digest, struct span blob)
{
	struct recipe_record *record;
	size_t to;
	int r = 0;

	if (recipes_find(recipes, digest))
		return 0;
	if (recipes->count * 2 >= recipes->buckets_count)
		r = grow(recipes);
	if (r < 0)
		return r;
	record = calloc(1, sizeof(*record));
	if (!record)
		return ERR_RAISE(-ENOMEM);
	record->digest = *digest;
	r = record_read(record, blob);
	if (r == 0 && recipes->blobs + record->count > RECIPES_BLOBS_MAX)
		r = -EFBIG;
	if (r < 0) {
		record_free(record);
		return ERR_RAISE(r);
	}
	to = bucket_of(recipes, digest, recipes->buckets_count);
	record->next = recipes->buckets[to];
	recipes->buckets[to] = record;
	recipes->count++;
	recipes->blobs += record->count;
	return 0;
}
