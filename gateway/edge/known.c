/* Sets of shortened digests. */
#include "gateway/edge/known.h"

#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"

#define SLOTS_MIN 1024u

void known_init(struct known *known)
{
	list_init(&known->sets);
	known->count = 0;
}

static void set_free(struct known *known, struct known_set *set)
{
	list_remove(&set->link);
	known->count--;
	free(set->slots);
	free(set);
}

void known_fini(struct known *known)
{
	list_for_each_safe(link, after, &known->sets) {
		struct known_set *set = container_of(link, struct known_set, link);

		CHECK(set->users == 0);
		set_free(known, set);
	}
}

static struct known_set *find(const struct known *known, const uint8_t *key)
{
	list_for_each(link, &known->sets) {
		struct known_set *set = container_of(link, struct known_set, link);

		if (memcmp(set->key, key, KNOWN_KEY_BYTES) == 0)
			return set;
	}
	return NULL;
}

static void make_room(struct known *known)
{
	list_for_each_safe(link, after, &known->sets) {
		struct known_set *set = container_of(link, struct known_set, link);

		if (known->count < KNOWN_SETS_MAX)
			return;
		if (set->users == 0)
			set_free(known, set);
	}
}

struct known_set *known_get(struct known *known, const uint8_t key[static KNOWN_KEY_BYTES])
{
	struct known_set *set = find(known, key);

	if (!set) {
		make_room(known);
		set = calloc(1, sizeof(*set));
		if (!set)
			return NULL;
		memcpy(set->key, key, KNOWN_KEY_BYTES);
		set->secret = digest_secret_make();
		known->count++;
	}
	set->users++;
	list_remove(&set->link);
	list_append(&known->sets, &set->link);
	return set;
}

void known_put(struct known_set *set)
{
	if (!set)
		return;
	CHECK(set->users > 0);
	set->users--;
}

/* Never 0, which is a free slot. */
static uint64_t shorten(const struct known_set *set, const struct digest *digest)
{
	uint64_t value = digest_hash(digest, &set->secret);

	return value ? value : 1;
}

static uint64_t *slot_of(uint64_t *slots, size_t capacity, uint64_t value)
{
	size_t i = (size_t)value & (capacity - 1);

	while (slots[i] && slots[i] != value)
		i = (i + 1) & (capacity - 1);
	return &slots[i];
}

bool known_has(const struct known_set *set, const struct digest *digest)
{
	uint64_t value = shorten(set, digest);

	return set->capacity && *slot_of(set->slots, set->capacity, value) == value;
}

static bool grow(struct known_set *set)
{
	size_t capacity = set->capacity ? set->capacity * 2 : SLOTS_MIN;
	uint64_t *slots = calloc(capacity, sizeof(*slots));

	if (!slots)
		return false;
	for (size_t i = 0; i < set->capacity; i++)
		if (set->slots[i])
			*slot_of(slots, capacity, set->slots[i]) = set->slots[i];
	free(set->slots);
	set->slots = slots;
	set->capacity = capacity;
	return true;
}

void known_add(struct known_set *set, const struct digest *digest)
{
	uint64_t value = shorten(set, digest), *slot;

	if (set->count == KNOWN_BLOBS_MAX)
		known_forget(set);
	if (set->count * 2 >= set->capacity && !grow(set))
		return;
	slot = slot_of(set->slots, set->capacity, value);
	set->count += *slot == 0;
	*slot = value;
}

void known_forget(struct known_set *set)
{
	free(set->slots);
	set->slots = NULL;
	set->capacity = set->count = 0;
}
