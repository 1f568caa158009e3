/* What contents are likely to resemble: what their files held before. */
#include "gateway/edge/giver_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "chunker/sha256.h"
#include "gateway/base/check.h"
#include "proto/recipe.h"

/* ---- the table ---- */

static void bases_on_table(struct stat_request *request)
{
	struct giver *giver = container_of(request, struct giver, formers_request);

	giver->formers_pending = false;
	giver->formers_table = request->table;
	giver_read_tables(giver);
}

/*
 * Of whichever directory of this name, as stable keys are: a checkout has another path every time, and a wrong hint costs little.
 * The shared key is "directory:client" (buildx).
 */
void giver_bases_open(struct giver *giver, struct span shared_key, struct span directory, uint32_t uid)
{
	const uint8_t *colon = memrchr(shared_key.data, ':', shared_key.size);
	struct sha256_stream hash;
	uint8_t key[STAT_KEY_BYTES];

	if (colon)
		shared_key.size = (size_t)(colon - shared_key.data);
	sha256_stream_init(&hash);
	stat_key_field(&hash, span_text("former contents"));
	sha256_stream_update(&hash, (const uint8_t *)&uid, sizeof(uid));
	stat_key_field(&hash, shared_key);
	stat_key_field(&hash, directory);
	sha256_stream_final(&hash, key);
	giver->formers_pending = true;
	giver->formers_request.fn = bases_on_table;
	stat_memory_get(giver->service->memory, &giver->formers_request, key);
}

void giver_bases_close(struct giver *giver)
{
	if (giver->formers_pending)
		stat_request_cancel(&giver->formers_request);
	giver->formers_pending = false;
}

/* In a table of its own: a path is enough. */
static struct stat_entry_key former_key(struct span path)
{
	return stat_entry_key(path, 0, 0);
}

/* ---- former recipes ---- */

static void bases_load(struct giver *giver);

static void bases_on_recipe(struct store_read *read)
{
	struct giver *giver = container_of(read, struct giver, former_load);

	if (read->result == STORE_OK)
		(void)recipes_add(&giver->former_recipes, &read->digest, read->blob);    /* without it its file's chunks go whole */
	free(read->buffer);
	read->buffer = NULL;
	giver->former_loading = false;
	if (giver->state != GIVER_OVER)
		bases_load(giver);
	giver_wake(giver);
}

/* One after the other; what is sent with the root waits for all (giver_push_load()). A read may complete inside its start. */
static void bases_load(struct giver *giver)
{
	while (!giver->former_loading && giver->former_next < giver->formers.count) {
		const struct digest *digest = &giver->formers.items[giver->former_next++];

		if (recipes_find(&giver->former_recipes, digest))
			continue;
		giver->former_load = (struct store_read){
			.scope = giver->service->scope, .digest = *digest, .fn = bases_on_recipe,
			.buffer = malloc(digest->size + STORE_READ_EXTRA_BYTES),
		};
		if (!giver->former_load.buffer)
			continue;
		giver->former_loading = true;
		store_read(giver->service->cas->store, &giver->former_load);
	}
}

bool giver_bases_loaded(const struct giver *giver)
{
	return !giver->former_loading && giver->former_next == giver->formers.count;
}

/* ---- what is read ---- */

void giver_bases_begin(struct fetch *fetch, struct span path)
{
	struct giver *giver = fetch->giver;
	struct stat_entry_key key = former_key(path);

	fetch->put_bytes = 0;
	fetch->has_former = giver->formers_table && stat_table_find(giver->formers_table, &key, &fetch->former);
	if (!fetch->has_former || !fetch->former.recipe ||
	    recipes_find(&giver->former_recipes, &fetch->former.digest))
		return;
	if (digest_vector_add(&giver->formers, &fetch->former.digest) < 0)
		fetch->has_former = false;
	bases_load(giver);
}

void giver_bases_put(struct fetch *fetch, const struct digest *blob)
{
	if (fetch->has_former)
		bases_add(&fetch->giver->bases, blob, &fetch->former, fetch->put_bytes);
	fetch->put_bytes += blob->size;
}

void giver_bases_named(struct fetch *fetch, const struct content_name *name)
{
	if (fetch->has_former && name->recipe)
		bases_add_recipe(&fetch->giver->bases, &name->digest, &fetch->former);
}

size_t giver_bases_find(const struct giver *giver, const struct digest *blob, struct digest bases[static UPLOADER_BASES_MAX])
{
	return bases_find(&giver->bases, &giver->former_recipes, blob, bases, UPLOADER_BASES_MAX);
}

/* ---- directories ---- */

/* As of a recipe: it resembles the former blob itself. What such a file would be read as does not fit, and is no base then. */
static struct content_name directory_name(const struct digest *digest)
{
	return (struct content_name){ .digest = *digest, .size = RECIPE_WHOLE_MAX + 1, .recipe = true };
}

static bool is_new(const struct giver *giver, const struct digest *digest)
{
	return digest->size && (!giver->known || !known_has(giver->known, digest));
}

static struct stat_entry_key key_of(const struct giver *giver, uint32_t number, struct buffer *path)
{
	buffer_clear(path);
	if (number != LISTING_NONE)
		listing_path(&giver->listing, number, path);
	return former_key(buffer_span(path));
}

static void find_directory(struct giver *giver, uint32_t number, const struct digest *digest, struct buffer *path)
{
	struct stat_entry_key key = key_of(giver, number, path);
	struct content_name former;

	if (stat_table_find(giver->formers_table, &key, &former))
		bases_add_recipe(&giver->bases, digest, &former);
}

void giver_bases_directories(struct giver *giver)
{
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);

	if (giver->formers_table && is_new(giver, &giver->listing.root))
		find_directory(giver, LISTING_NONE, &giver->listing.root, &path);
	for (uint32_t i = 0; giver->formers_table && i < giver->listing.count; i++) {
		const struct listing_entry *entry = listing_at(&giver->listing, i);
		struct digest digest = listing_digest(entry);

		if (S_ISDIR(entry->mode) && is_new(giver, &digest))
			find_directory(giver, i, &digest, &path);
	}
	buffer_fini(&path);
}

/* ---- what the next version of them may resemble ---- */

static void learn(struct giver *giver, uint32_t number, const struct content_name *name, struct buffer *path)
{
	struct stat_entry_key key = key_of(giver, number, path);

	stat_table_learn(giver->formers_table, &key, name);
}

static void learn_entry(struct giver *giver, uint32_t number, struct buffer *path)
{
	const struct listing_entry *entry = listing_at(&giver->listing, number);
	struct digest digest = listing_digest(entry);
	struct content_name name = S_ISDIR(entry->mode) ? directory_name(&digest) : listing_content(entry);

	/* A file that was not read now is as it was when it was. */
	if (S_ISDIR(entry->mode) ? is_new(giver, &digest) :
	    (entry->flags & LISTING_DATA) && entry->state == GIVER_ENTRY_READ && digest.size)
		learn(giver, number, &name, path);
}

void giver_bases_learn(struct giver *giver)
{
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);
	struct content_name root = directory_name(&giver->listing.root);

	if (giver->formers_table && root.digest.size)
		learn(giver, LISTING_NONE, &root, &path);
	for (uint32_t i = 0; giver->formers_table && i < giver->listing.count; i++)
		learn_entry(giver, i, &path);
	buffer_fini(&path);
}

void giver_bases_fini(struct giver *giver)
{
	CHECK(!giver->former_loading);
	if (giver->formers_table)
		stat_table_save(giver->formers_table);
	stat_table_unref(giver->formers_table);
	bases_fini(&giver->bases);
	digest_vector_fini(&giver->formers);
	recipes_fini(&giver->former_recipes);
}
