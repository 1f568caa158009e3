/* What contents are likely to resemble: what their files held before. */
#include "gateway/edge/giver_private.h"

#include <stdlib.h>
#include <string.h>
#include "chunker/sha256.h"
#include "gateway/base/check.h"

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

/* Its file's chunks go whole. */
static void bases_lose(struct giver *giver, const struct digest *digest)
{
	if (digest_set_add(&giver->formers_lost, digest) < 0)
		giver_unfit(giver, "the edge is out of memory");
}

static void bases_on_recipe(struct store_read *read)
{
	struct giver *giver = container_of(read, struct giver, former_load);

	if (read->result != STORE_OK || recipes_add(&giver->recipes, &read->digest, read->blob) < 0)
		bases_lose(giver, &read->digest);
	free(read->buffer);
	read->buffer = NULL;
	giver->former_loading = false;
	if (giver->state != GIVER_OVER)
		bases_load(giver);
	giver_wake(giver);
}

/* One after the other; the chunks that they are for wait (giver_push.c). A read may complete inside its start. */
static void bases_load(struct giver *giver)
{
	while (!giver->former_loading && giver->former_next < giver->formers.count) {
		const struct digest *digest = &giver->formers.items[giver->former_next++];

		if (recipes_find(&giver->recipes, digest))
			continue;
		giver->former_load = (struct store_read){
			.scope = giver->service->scope, .digest = *digest, .fn = bases_on_recipe,
			.buffer = malloc(digest->size + STORE_READ_EXTRA_BYTES),
		};
		if (!giver->former_load.buffer) {
			bases_lose(giver, digest);
			continue;
		}
		giver->former_loading = true;
		store_read(giver->service->cas->store, &giver->former_load);
	}
}

bool giver_bases_loaded(const struct giver *giver)
{
	return !giver->former_loading && giver->former_next == giver->formers.count;
}

bool giver_bases_ready(const struct giver *giver, const struct digest *blob)
{
	const struct digest *lacking = bases_lacking(&giver->bases, &giver->recipes, blob);

	return !lacking || digest_set_has(&giver->formers_lost, lacking);
}

/* ---- what is read ---- */

void giver_bases_begin(struct fetch *fetch, struct span path)
{
	struct giver *giver = fetch->giver;
	struct stat_entry_key key = former_key(path);

	fetch->put_bytes = 0;
	fetch->has_former = giver->formers_table && stat_table_find(giver->formers_table, &key, &fetch->former);
	if (!fetch->has_former || !fetch->former.recipe || recipes_find(&giver->recipes, &fetch->former.digest))
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
	return bases_find(&giver->bases, &giver->recipes, blob, bases, UPLOADER_BASES_MAX);
}

/* ---- what the next version of them may resemble ---- */

void giver_bases_learn(struct giver *giver)
{
	struct buffer path = buffer_heap(TREE_PATH_MAX + 1);

	for (uint32_t i = 0; giver->formers_table && i < giver->listing.count; i++) {
		const struct listing_entry *entry = listing_at(&giver->listing, i);
		struct content_name name = listing_content(entry);
		struct stat_entry_key key;

		/* What was not read now is as it was when it was. */
		if (!(entry->flags & LISTING_DATA) || entry->state != GIVER_ENTRY_READ || !name.digest.size)
			continue;
		buffer_clear(&path);
		listing_path(&giver->listing, i, &path);
		key = former_key(buffer_span(&path));
		stat_table_learn(giver->formers_table, &key, &name);
	}
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
	digest_set_fini(&giver->formers_lost);
}
