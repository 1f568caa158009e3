/*
 * content_name: what a plain file's content is called in the store: a blob by its own digest when it is at most
 * RECIPE_WHOLE_MAX bytes long, else its recipe's (proto/recipe.h). The same bytes have the same name whoever names them:
 * `sluice push`, or the gateway itself (gateway/cas/ingest.h).
 */
#pragma once

#include "proto/digest.h"

struct content_name {
	struct digest digest;            /* of the file itself, or of its recipe */
	uint64_t size;                   /* of the file */
	bool recipe;
};
