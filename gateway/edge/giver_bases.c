/* What contents are likely to resemble: what their files held before. */
#include "gateway/edge/giver_private.h"

#include <stdlib.h>
#include "gateway/base/check.h"

/* ---- former recipes ---- */

static void bases_load(struct giver *giver);

static void bases_on_recipe(struct store_read *read)
{
	struct giver *giver = container_of(read, struct giver, former_load);

	if (read->result == STORE_OK)
		(void)recipes_add(&giver->recipes, &read->digest, read->blob);   /* without it the file's chunks go whole */
	free(read->buffer);
	read->buffer = NULL;
	giver->former_loading = false;
	if (giver->state != GIVER_OVER)
		bases_load(giver);
	giver_wake(giver);
}

/* One after the other; what goes ahead of the root does not wait for them. A read may complete inside its start. */
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
	struct stat_entry_key key = stat_former_key(path);

	fetch->put_bytes = 0;
	fetch->has_former = giver->table && stat_table_find(giver->table, &key, &fetch->former);
	if (!fetch->has_former || !fetch->former.recipe || recipes_find(&giver->recipes, &fetch->former.digest))
		return;
	if (digest_vector_add(&giver->formers, &fetch->former.digest) == 0)
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

	for (uint32_t i = 0; giver->table && i < giver->listing.count; i++) {
		const struct listing_entry *entry = listing_at(&giver->listing, i);
		struct content_name name = listing_content(entry);
		struct stat_entry_key key;

		/* What was not read now is as it was when it was. */
		if (!(entry->flags & LISTING_DATA) || entry->state != GIVER_ENTRY_READ || !name.digest.size)
			continue;
		buffer_clear(&path);
		listing_path(&giver->listing, i, &path);
		key = stat_former_key(buffer_span(&path));
		stat_table_learn(giver->table, &key, &name);
	}
	buffer_fini(&path);
}

void giver_bases_fini(struct giver *giver)
{
	CHECK(!giver->former_loading);
	bases_fini(&giver->bases);
	digest_vector_fini(&giver->formers);
}
