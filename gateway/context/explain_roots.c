/* A difference walk, then recipes in batches: first of what was, then of what is. */
#include "gateway/context/explain_roots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/digest_set.h"
#include "gateway/base/err.h"
#include "gateway/context/difference.h"
#include "proto/recipe.h"

#define ROOTS_BATCH 64                   /* recipes in one fetch */

/* A recipe that is to be read, and whose it is. */
struct waiting_recipe {
	struct digest digest;
	size_t entry;
	bool part;                       /* of a recipe of recipes: lists chunks, or it is malformed */
};

struct recipes {
	struct waiting_recipe *items;
	size_t count, capacity;
};

struct explain_roots {
	struct source *source;
	struct explain_entry *entries;
	size_t count, capacity;
	struct explain_roots_totals totals;
	struct digest_set known;         /* what the former tree has, as far as it differs; then what was counted */
	struct recipes before, after;
	struct recipes *reading;         /* the ones that are read now */
	size_t reading_first;
	bool counting;                   /* of the newer tree: what is not known is new */
};

static bool grow(void **items, size_t *capacity, size_t count, size_t size)
{
	size_t wanted = *capacity ? 2 * *capacity : 64;
	void *moved;

	if (count < *capacity)
		return true;
	moved = realloc(*items, wanted * size);
	if (!moved)
		return false;
	*items = moved;
	*capacity = wanted;
	return true;
}

static int recipes_add(struct recipes *recipes, const struct digest *digest, size_t entry, bool part)
{
	if (!grow((void **)&recipes->items, &recipes->capacity, recipes->count, sizeof(*recipes->items)))
		return ERR_RAISE(-ENOMEM);
	recipes->items[recipes->count++] = (struct waiting_recipe){ .digest = *digest, .entry = entry, .part = part };
	return 0;
}

/* ---- chunks ---- */

/* `chunk`: a piece of content; else a recipe, whose bytes count as well. */
static int take_blob(struct explain_roots *roots, const struct digest *digest, size_t number, bool chunk)
{
	struct explain_entry *entry;
	int added = digest->size ? digest_set_add(&roots->known, digest) : 0;

	if (added < 0)
		return ERR_RAISE(added);
	if (!roots->counting || digest->size == 0)
		return 0;
	entry = &roots->entries[number];
	entry->chunks += chunk;
	if (added) {
		entry->bytes_raw += digest->size;
		entry->chunks_sent += chunk;
		roots->totals.bytes_new += digest->size;
		roots->totals.chunks_new += chunk;
	} else if (chunk) {
		roots->totals.bytes_shared += digest->size;
		roots->totals.chunks_shared++;
	}
	return 0;
}

static int visit_recipe(void *context, size_t index, struct span blob)
{
	struct explain_roots *roots = context;
	struct waiting_recipe waiting = roots->reading->items[roots->reading_first + index];
	struct recipe_reader reader;
	struct digest digest;
	int r = 0;

	if (!recipe_open(&reader, blob) || (waiting.part && reader.head.level))
		return -EBADMSG;
	while (r == 0 && recipe_next(&reader, &digest)) {
		r = take_blob(roots, &digest, waiting.entry, reader.head.level == 0);
		if (r == 0 && reader.head.level)
			r = recipes_add(roots->reading, &digest, waiting.entry, true);
	}
	return r ? r : reader.failed ? -EBADMSG : 0;
}

static int read_recipes(struct explain_roots *roots, struct recipes *recipes, char *why, size_t why_size)
{
	struct digest digests[ROOTS_BATCH];
	int r = 0;

	roots->reading = recipes;
	/* The list may grow while it is read: by parts. */
	for (size_t i = 0; r == 0 && i < recipes->count;) {
		size_t count = recipes->count - i < ROOTS_BATCH ? recipes->count - i : ROOTS_BATCH;

		for (size_t j = 0; j < count; j++)
			digests[j] = recipes->items[i + j].digest;
		roots->reading_first = i;
		r = roots->source->fetch(roots->source, digests, count, visit_recipe, roots, why, why_size);
		if (r == -EBADMSG && !*why)
			snprintf(why, why_size, "a recipe is malformed");
		i += count;
	}
	return r;
}

/* ---- what differs ---- */

static enum explain_why why_of(uint32_t kinds)
{
	if (kinds & DIFFERENCE_TYPE)
		return EXPLAIN_RETYPED;
	if (kinds & DIFFERENCE_ADDED)
		return EXPLAIN_NEW;
	if (kinds & DIFFERENCE_REMOVED)
		return EXPLAIN_REMOVED;
	if (kinds & (DIFFERENCE_CONTENT | DIFFERENCE_HARDLINK))
		return EXPLAIN_EDITED;
	if (kinds & DIFFERENCE_MODE)
		return EXPLAIN_MODE;
	return kinds & DIFFERENCE_XATTRS ? EXPLAIN_XATTRS : EXPLAIN_EDITED;
}

static int note_former(struct explain_roots *roots, const struct tree_node *node)
{
	int r;

	if (!node || node->kind == TREE_SYMLINK || node->digest.size == 0)
		return 0;
	r = digest_set_add(&roots->known, &node->digest);
	if (r >= 0)
		r = node->recipe ? recipes_add(&roots->before, &node->digest, 0, false) : 0;
	return r;
}

static struct explain_entry *add_entry(struct explain_roots *roots, const struct difference_change *change)
{
	const struct tree_node *node = change->after ? change->after : change->before;
	struct explain_entry *entry;
	char *path;

	if (!grow((void **)&roots->entries, &roots->capacity, roots->count, sizeof(*roots->entries)))
		return NULL;
	path = strdup(change->path);
	if (!path)
		return NULL;
	entry = &roots->entries[roots->count++];
	*entry = (struct explain_entry){
		.path = path, .directory = node->kind == TREE_DIRECTORY, .why = why_of(change->kinds),
		.bytes = change->after && node->kind == TREE_FILE ? node->file_size : 0,
	};
	return entry;
}

/* Files of the newer tree wait until all of the former one's are known; a whole one waits as a recipe of itself would. */
static int visit_change(void *context, const struct difference_change *change)
{
	struct explain_roots *roots = context;
	bool removal = change->kinds & DIFFERENCE_REMOVED;
	struct explain_entry *entry;
	int r = note_former(roots, change->before);

	if (r < 0)
		return ERR_RAISE(r);
	if (removal && change->kinds & DIFFERENCE_TYPE)
		return 0;                                /* told by the addition */
	entry = add_entry(roots, change);
	if (!entry)
		return ERR_RAISE(-ENOMEM);
	if (removal)
		return 0;
	if (entry->directory) {
		entry->bytes = entry->bytes_raw = change->after->digest.size;
		roots->totals.directories_new++;
		roots->totals.directories_bytes += entry->bytes;
		return 0;
	}
	if (change->after->kind != TREE_FILE || (change->before && change->before->kind == TREE_FILE &&
	    digest_equal(&change->before->digest, &change->after->digest)))
		return 0;
	return recipes_add(&roots->after, &change->after->digest, roots->count - 1, !change->after->recipe);
}

/* Whole files are counted here and leave the list; in it `part` says that it is one. */
static int count_whole(struct explain_roots *roots)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < roots->after.count; i++) {
		struct waiting_recipe *item = &roots->after.items[i];

		r = take_blob(roots, &item->digest, item->entry, item->part);
		if (!item->part)
			roots->after.items[kept++] = *item;
	}
	roots->after.count = kept;
	return r;
}

static int by_new_bytes(const void *a, const void *b)
{
	const struct explain_entry *one = a, *other = b;

	if (one->bytes_raw != other->bytes_raw)
		return one->bytes_raw > other->bytes_raw ? -1 : 1;
	return strcmp(one->path, other->path);
}

static int find_out(struct explain_roots *roots, const struct digest *before, const struct digest *after, char *why,
                    size_t why_size)
{
	int r = difference_walk(&(struct difference_options){
		.source = roots->source, .before = before, .after = after, .inside_removed = true, .visit = visit_change,
		.context = roots,
	}, NULL, why, why_size);

	if (r == 0)
		r = read_recipes(roots, &roots->before, why, why_size);
	roots->counting = true;
	if (r == 0)
		r = count_whole(roots);
	if (r == 0)
		r = read_recipes(roots, &roots->after, why, why_size);
	if (roots->count)
		qsort(roots->entries, roots->count, sizeof(*roots->entries), by_new_bytes);
	return r;
}

int explain_roots_create(struct explain_roots **out, struct source *source, const struct digest *before,
                         const struct digest *after, char *why, size_t why_size)
{
	struct explain_roots *roots = calloc(1, sizeof(*roots));
	int r;

	*why = '\0';
	if (!roots) {
		snprintf(why, why_size, "out of memory");
		return ERR_RAISE(-ENOMEM);
	}
	roots->source = source;
	r = find_out(roots, before, after, why, why_size);
	if (r) {
		if (!*why)
			snprintf(why, why_size, "%s", err_text(r));
		explain_roots_destroy(roots);
		return r;
	}
	*out = roots;
	return 0;
}

void explain_roots_destroy(struct explain_roots *roots)
{
	if (!roots)
		return;
	for (size_t i = 0; i < roots->count; i++)
		free((void *)roots->entries[i].path);
	free(roots->entries);
	free(roots->before.items);
	free(roots->after.items);
	digest_set_fini(&roots->known);
	free(roots);
}

const struct explain_entry *explain_roots_entries(const struct explain_roots *roots, size_t *count)
{
	*count = roots->count;
	return roots->entries;
}

const struct explain_roots_totals *explain_roots_totals(const struct explain_roots *roots)
{
	return &roots->totals;
}
