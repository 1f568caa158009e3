/*
 * presence: which blobs of any size are there: those of one record by a look-up, longer ones by their pair and the closure
 * of its recipe, which costs one look-up as long as its mark is fresh.
 */
#pragma once

#include "gateway/cas/cas.h"
#include "gateway/cas/closure.h"
#include "gateway/cas/pair.h"

struct presence {
	struct cas *cas;
	struct scope scope;
	const struct digest *digests;
	size_t count;
	bool *present;                   /* out */
	struct store_hold *hold;         /* NULL: none. Longer blobs are held by it, by their recipes: they stay as told */
	void (*fn)(struct presence *presence);   /* inline or later */
	int result;                      /* 0 or -errno */
	/* The rest is presence's. */
	uint32_t *places;
	size_t at;                       /* the next blob that is looked at */
	size_t slice;                    /* of the look-up under way */
	bool running, waiting;
	unsigned row;                    /* of longer ones that were looked for one behind the other */
	struct post turn;                /* the loop's, after so many */
	struct store_lookup lookup;
	struct pair pair;
	struct closure closure;
};

/*
 * The first seven fields are the caller's. No cancel: who loses interest waits for `fn`. What is there is true of one
 * moment; to keep it so hold the blobs of one record before.
 */
void presence_look(struct presence *presence);
