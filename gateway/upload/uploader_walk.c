/* What an upload asks about: what was fed, directories from the root down, and the blobs that they name. */
#include "gateway/upload/uploader_private.h"

#include <errno.h>

#include "gateway/base/err.h"

#define UPLOADER_LIST 4096               /* digests a list: several small ones overlap, one large one does not */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- lists ---- */

bool uploader_list_idle(const struct uploader_list *list)
{
	return list->answered == list->digests.count;
}

static void list_clear(struct uploader_list *list)
{
	list->digests.count = list->asked = list->answered = 0;
}

/* A list that still grows is asked about when there is a whole request of it, or nothing of it is under way. */
static void list_ask(struct uploader *uploader, struct uploader_list *list, bool grows)
{
	while (list->asked < list->digests.count && uploader_may_send(uploader)) {
		size_t count = least(list->digests.count - list->asked, UPLOADER_LIST);

		if (grows && count < UPLOADER_LIST && list->asked > list->answered)
			return;
		if (!uploader_send_list(uploader, list->number, list->digests.items + list->asked, count, false))
			return;
		uploader_flight_add(uploader, (struct uploader_flight){ .kind = UPLOADER_FLIGHT_LIST, .list = list, .count = count });
		list->asked += count;
		uploader->totals.blobs_asked += count;
	}
}

void uploader_ask(struct uploader *uploader)
{
	bool walking = uploader->state == UPLOADER_WALKING && (uploader->level.count || !uploader_list_idle(&uploader->directories));

	list_ask(uploader, &uploader->directories, false);
	list_ask(uploader, &uploader->fed, uploader->state == UPLOADER_FEEDING);
	/* Of the blobs, whole requests only until all are found. */
	if (!walking || uploader->blobs.digests.count - uploader->blobs.asked >= UPLOADER_LIST)
		list_ask(uploader, &uploader->blobs, walking);
}

void uploader_miss(struct uploader *uploader, const struct digest *digest)
{
	if (digest->size > SLUICE_PACK_BYTES) {
		uploader_fail(uploader, ERR_RAISE(-EFBIG), GRPC_OK, "a blob of this tree is longer than 4 MiB");
		return;
	}
	if (digest_vector_add(&uploader->missing, digest) < 0) {
		uploader_fail_memory(uploader);
		return;
	}
	uploader->bytes_total += digest->size;
	uploader->missing_bytes += digest->size + UPLOADER_BLOB_HEAD;
}

static void take_promised(struct uploader *uploader, const struct uploader_list *list, const struct digest *digest)
{
	if (digest_set_add(&uploader->promised, digest) < 0) {
		uploader_fail_memory(uploader);
		return;
	}
	uploader->totals.blobs_promised++;
	if (list == &uploader->fed && uploader->config.events->on_promised)
		uploader->config.events->on_promised(uploader, digest, 1);
}

static void take_present(struct uploader *uploader, const struct uploader_list *list, const struct digest *digest,
                         bool promised)
{
	if (promised)
		take_promised(uploader, list, digest);
	else if (list == &uploader->fed && uploader->config.events->on_stored &&
	         digest_vector_add(&uploader->told, digest) < 0)
		uploader_fail_memory(uploader);
}

static int want_recipe(struct uploader *uploader, const struct digest *recipe);

/* Of a recipe that waited for this answer the chunks are asked about now. */
static void take_absent_blob(struct uploader *uploader, const struct digest *digest)
{
	int r;

	uploader_miss(uploader, digest);
	if (!digest_set_has(&uploader->recipes_first, digest) || uploader->state >= UPLOADER_OVER)
		return;
	r = want_recipe(uploader, digest);
	if (r < 0)
		uploader_fail(uploader, r, GRPC_OK, "the tree cannot be read back: %s", err_text(r));
}

static void take_absent(struct uploader *uploader, const struct uploader_list *list, const struct digest *digest)
{
	uploader->totals.blobs_lacking += list != &uploader->directories;
	if (list != &uploader->directories)
		take_absent_blob(uploader, digest);
	else if (digest_vector_add(&uploader->level, digest) < 0)
		uploader_fail_memory(uploader);
}

void uploader_take_answer(struct uploader *uploader, struct uploader_flight *flight, struct span message)
{
	struct uploader_list *list = flight->list;
	struct push_answer answer;
	size_t first;

	if (!message.data || !message_decode(&push_answer_type, message, &answer)) {
		uploader_fail(uploader, ERR_RAISE(-EPROTO), GRPC_OK, "the gateway sent an answer to something else");
		return;
	}
	first = list->answered;
	list->answered += flight->count;
	uploader->totals.blobs_answered += flight->count;
	uploader->told.count = 0;
	for (size_t i = 0; i < flight->count && uploader->state < UPLOADER_ENDING; i++) {
		struct digest digest = list->digests.items[first + i];   /* the list may grow and move */

		if (bit_list_get(answer.present, i))
			take_present(uploader, list, &digest, bit_list_get(answer.promised, i));
		else
			take_absent(uploader, list, &digest);
	}
	/* Nothing is kept of a feed that goes on for long. */
	if (list == &uploader->fed && uploader_list_idle(list))
		list_clear(list);
	if (uploader->told.count && uploader->state < UPLOADER_OVER)
		uploader->config.events->on_stored(uploader, uploader->told.items, uploader->told.count);
	if (uploader->config.events->on_answered && uploader->state < UPLOADER_OVER)
		uploader->config.events->on_answered(uploader);
}

/* ---- down from the root ---- */

static int uploader_want(struct uploader *uploader, const struct digest *digest)
{
	int added;

	if (digest->size == 0)
		return 0;
	added = digest_set_add(&uploader->seen, digest);
	if (added <= 0)
		return added;
	return digest_vector_add(&uploader->blobs.digests, digest);
}

static bool assumed(struct uploader *uploader, const struct digest *blob)
{
	struct uploader_source *source = uploader->config.source;

	return (uploader->assume && source->ops->known(source, blob)) || digest_set_has(&uploader->comparison.there, blob);
}

static int want_recipe(struct uploader *uploader, const struct digest *recipe)
{
	struct uploader_source *source = uploader->config.source;
	struct digest_vector recipes = { 0 };
	struct uploader_parts parts;
	int r = source->ops->recipe_children(source, recipe, &parts);

	/* Lent until the source is asked again, so recipes are put aside. */
	for (size_t i = 0; r >= 0 && i < parts.count; i++) {
		if (assumed(uploader, &parts.blobs[i]))
			continue;
		r = parts.are_recipes ? digest_vector_add(&recipes, &parts.blobs[i]) : uploader_want(uploader, &parts.blobs[i]);
	}
	for (size_t i = 0; r >= 0 && i < recipes.count; i++) {
		r = uploader_want(uploader, &recipes.items[i]);
		if (r >= 0)
			r = want_recipe(uploader, &recipes.items[i]);
	}
	digest_vector_fini(&recipes);
	return r < 0 ? r : 0;
}

static int take_directories(struct uploader *uploader, const struct uploader_children *children)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < children->directories_count; i++) {
		const struct digest *child = &children->directories[i];

		if (child->size == 0 || assumed(uploader, child))
			continue;
		/* Once each: a tree that repeats itself at every level would double at every level. */
		r = digest_set_add(&uploader->reached, child);
		if (r > 0 && digest_set_has(&uploader->comparison.differing, child))
			r = digest_vector_add(&uploader->differing, child);
		else if (r > 0)
			r = digest_vector_add(&uploader->directories.digests, child);
	}
	return r;
}

static int take_contents(struct uploader *uploader, const struct uploader_children *children, struct digest_vector *recipes)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < children->contents_count; i++) {
		const struct digest *content = &children->contents[i];

		if (assumed(uploader, content))
			continue;
		if (children->recipes[i] && comparison_helps(&uploader->comparison)) {
			/* Where most is there, the chunks of a recipe that is there most likely are: the commit tells. */
			r = digest_set_add(&uploader->recipes_first, content);
		} else if (children->recipes[i]) {
			/* A recipe that was fed says nothing of its chunks: they are gone through all the same, once. */
			r = digest_set_add(&uploader->reached, content);
			if (r > 0)
				r = digest_vector_add(recipes, content);
		}
		if (r >= 0)
			r = uploader_want(uploader, content);
	}
	return r;
}

static int descend(struct uploader *uploader, const struct digest *directory)
{
	struct uploader_source *source = uploader->config.source;
	struct digest_vector recipes = { 0 };
	struct uploader_children children;
	int r = uploader_want(uploader, directory);

	if (r >= 0)
		r = source->ops->children(source, directory, &children);
	if (r >= 0)
		r = take_directories(uploader, &children);
	if (r >= 0)
		r = take_contents(uploader, &children, &recipes);
	for (size_t i = 0; r >= 0 && i < recipes.count; i++)
		r = want_recipe(uploader, &recipes.items[i]);
	digest_vector_fini(&recipes);
	return r < 0 ? r : 0;
}

void uploader_walk_begin(struct uploader *uploader, bool settled)
{
	if (!settled) {
		digest_set_fini(&uploader->seen);
		digest_set_fini(&uploader->reached);
	}
	list_clear(&uploader->directories);
	list_clear(&uploader->blobs);
	uploader->level.count = uploader->differing.count = 0;
	if (digest_vector_add(&uploader->level, &uploader->root) < 0)
		uploader_fail_memory(uploader);
}

static void swap(struct digest_vector *one, struct digest_vector *other)
{
	struct digest_vector aside = *one;

	*one = *other;
	*other = aside;
}

/*
 * What is gone into without a question: with `assume` all directories that are not known to be there, else those that a base has
 * another of.
 */
static void next_level(struct uploader *uploader)
{
	if (uploader->assume) {
		swap(&uploader->level, &uploader->directories.digests);
		list_clear(&uploader->directories);
	} else {
		swap(&uploader->level, &uploader->differing);
	}
}

bool uploader_walk(struct uploader *uploader)
{
	while (uploader->level.count) {
		if (!uploader_list_idle(&uploader->directories))
			return false;
		list_clear(&uploader->directories);
		for (size_t i = 0; i < uploader->level.count; i++) {
			int r = descend(uploader, &uploader->level.items[i]);

			if (r < 0) {
				uploader_fail(uploader, r, GRPC_OK, "the tree cannot be read back: %s", err_text(r));
				return false;
			}
		}
		uploader->level.count = 0;
		next_level(uploader);
	}
	return uploader_list_idle(&uploader->directories) && uploader_list_idle(&uploader->blobs) &&
	       uploader_list_idle(&uploader->fed);
}
