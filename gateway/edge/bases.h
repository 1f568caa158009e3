/*
 * bases: what the blobs of a context that is given are likely to resemble: what their files held when they were committed last.
 * So an uploader can tell them by that (gateway/upload/uploader.h). All of it is a hint. Pure.
 */
#pragma once

#include "gateway/base/digest_map.h"
#include "gateway/cas/content_name.h"
#include "gateway/edge/recipes.h"

struct base_hint {
	struct digest blob;
	struct content_name former;
	uint64_t offset;                 /* of the blob in its file */
	bool as_named;                   /* it is like the former name's own blob, a recipe, too; not like its bytes */
};

struct bases {
	struct digest_map hints;         /* of struct base_hint */
};

void bases_fini(struct bases *bases);                    /* all-zero is accepted, and has none */

/* `blob`: of the bytes from `offset` on of a file that held `former`. The first one told of a blob counts. May be dropped. */
void bases_add(struct bases *bases, const struct digest *blob, const struct content_name *former, uint64_t offset);
/* `blob` is a file's recipe, which resembles the former one. */
void bases_add_recipe(struct bases *bases, const struct digest *blob, const struct content_name *former);

/*
 * At most `max` blobs of the former content, in order: of a recipe's, those whose bytes lay where the blob's lie now. `recipes` is
 * where former recipes are to be found. How many.
 */
size_t bases_find(const struct bases *bases, const struct recipes *recipes, const struct digest *blob, struct digest *found,
                  size_t max);
