/* A row a key; the one used longest ago makes room. A call of a build looks once through all of them. */
#include "gateway/play/recent.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"

struct recent_row {
	alignas(max_align_t) uint8_t value[RECENT_VALUE_BYTES_MAX];
	uint8_t key[RECENT_KEY_BYTES];
	uint64_t used, owner;
};

static struct recent_row *recent_row(const struct recent *recent, const uint8_t *key)
{
	for (uint32_t i = 0; i < recent->count; i++)
		if (memcmp(recent->rows[i].key, key, RECENT_KEY_BYTES) == 0)
			return &recent->rows[i];
	return NULL;
}

/* The one that makes room for one more of this owner. */
static struct recent_row *recent_oldest(const struct recent *recent, uint64_t owner)
{
	struct recent_row *oldest = NULL, *own = NULL;
	uint32_t owned = 0;

	for (uint32_t i = 0; i < recent->count; i++) {
		struct recent_row *row = &recent->rows[i];

		if (!oldest || row->used < oldest->used)
			oldest = row;
		if (row->owner != owner)
			continue;
		owned++;
		if (!own || row->used < own->used)
			own = row;
	}
	return owned >= RECENT_SHARE ? own : oldest;
}

const void *recent_find(struct recent *recent, const uint8_t key[static RECENT_KEY_BYTES])
{
	struct recent_row *row = recent_row(recent, key);

	if (!row)
		return NULL;
	row->used = ++recent->clock;
	return row->value;
}

void recent_remember(struct recent *recent, uint64_t owner, const uint8_t key[static RECENT_KEY_BYTES], const void *value,
                     size_t bytes)
{
	struct recent_row *row = recent_row(recent, key);

	CHECK(bytes <= RECENT_VALUE_BYTES_MAX);
	if (!recent->rows)
		recent->rows = calloc(RECENT_MAX, sizeof(*recent->rows));
	if (!recent->rows)
		return;
	if (!row)
		row = recent->count < RECENT_MAX ? &recent->rows[recent->count++] : recent_oldest(recent, owner);
	row->used = ++recent->clock;
	row->owner = owner;
	memcpy(row->key, key, RECENT_KEY_BYTES);
	memcpy(row->value, value, bytes);
}

void recent_forget(struct recent *recent, const uint8_t key[static RECENT_KEY_BYTES])
{
	struct recent_row *row = recent_row(recent, key);

	if (row)
		*row = recent->rows[--recent->count];
}

void recent_fini(struct recent *recent)
{
	free(recent->rows);
	*recent = (struct recent){ 0 };
}
