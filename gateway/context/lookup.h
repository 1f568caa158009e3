/*
 * lookup: from a digest to where its bytes are in a table: a directory, a small file, a recipe or part of one, a chunk.
 * Made when it is first needed, and only for what is asked. Of equal blobs the first is found. Pure.
 */
#pragma once

#include "gateway/context/table.h"

enum lookup_kind {
	LOOKUP_DIRECTORY = 1,    /* number: the directory's */
	LOOKUP_WHOLE = 2,        /* number: the row's */
	LOOKUP_RECIPE = 4,       /* number: the row's */
	LOOKUP_PART = 8,         /* number: the row's; index: of the part */
	LOOKUP_CHUNK = 16,       /* number: the row's; index: of the chunk */
};
#define LOOKUP_CONTENTS (LOOKUP_WHOLE | LOOKUP_RECIPE | LOOKUP_PART | LOOKUP_CHUNK)

struct lookup_place {
	enum lookup_kind kind;
	uint32_t number, index;
};

struct lookup;

/* `kinds`: of enum lookup_kind. The table must not change meanwhile. 0 or -ENOMEM. */
int lookup_create(struct lookup **lookup, const struct table *table, uint32_t kinds);
void lookup_destroy(struct lookup *lookup);

bool lookup_find(const struct lookup *lookup, const struct digest *digest, struct lookup_place *place);
