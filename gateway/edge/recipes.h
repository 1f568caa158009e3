/*
 * recipes: which blobs the recipes of a listing's files name: in memory, while a context is given. Pure.
 */
#pragma once

#include "gateway/base/digest_hash.h"

#define RECIPES_BLOBS_MAX (1u << 22)     /* chunks and parts, of all: 256 GiB of content */

struct recipe_record {
	struct digest digest;
	bool are_recipes;                /* it lists parts */
	uint32_t count;
	struct digest *blobs;
	struct recipe_record *next;      /* in its bucket */
};

struct recipes {
	struct recipe_record **buckets;
	size_t buckets_count, count, blobs;
	struct digest_secret secret;     /* made with the first buckets */
};

void recipes_fini(struct recipes *recipes);              /* all-zero is accepted, and has none */
/* Reads a recipe; one that is there already is left. 0; -EBADMSG: it is none; -EFBIG: past the bound; -ENOMEM. */
int recipes_add(struct recipes *recipes, const struct digest *digest, struct span blob);
/* NULL: not there. */
const struct recipe_record *recipes_find(const struct recipes *recipes, const struct digest *digest);
