/* A row a context; the one used longest ago makes room. A call of a build looks once through all of them. */
#include "gateway/play/roots.h"

#include <stdlib.h>

struct roots_row {
	uint8_t key[ROOTS_KEY_BYTES];
	struct digest root;
	uint64_t used;
};

static struct roots_row *roots_row(const struct roots *roots, const uint8_t *key)
{
	for (uint32_t i = 0; i < roots->count; i++)
		if (memcmp(roots->rows[i].key, key, ROOTS_KEY_BYTES) == 0)
			return &roots->rows[i];
	return NULL;
}

static struct roots_row *roots_oldest(const struct roots *roots)
{
	struct roots_row *oldest = roots->rows;

	for (uint32_t i = 1; i < roots->count; i++)
		if (roots->rows[i].used < oldest->used)
			oldest = &roots->rows[i];
	return oldest;
}

bool roots_find(struct roots *roots, const uint8_t key[static ROOTS_KEY_BYTES], struct digest *root)
{
	struct roots_row *row = roots_row(roots, key);

	if (!row)
		return false;
	row->used = ++roots->clock;
	*root = row->root;
	return true;
}

void roots_remember(struct roots *roots, const uint8_t key[static ROOTS_KEY_BYTES], const struct digest *root)
{
	struct roots_row *row = roots_row(roots, key);

	if (!roots->rows)
		roots->rows = calloc(ROOTS_MAX, sizeof(*roots->rows));
	if (!roots->rows)
		return;
	if (!row)
		row = roots->count < ROOTS_MAX ? &roots->rows[roots->count++] : roots_oldest(roots);
	*row = (struct roots_row){ .root = *root, .used = ++roots->clock };
	memcpy(row->key, key, ROOTS_KEY_BYTES);
}

void roots_fini(struct roots *roots)
{
	free(roots->rows);
	*roots = (struct roots){ 0 };
}
