/* Ref to executor. */
#include "gateway/buildkit/refs.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"

/* FNV-1a; a table of the tenant's own refs is nothing to attack. */
static uint64_t mix(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 1099511628211ull;
	return hash;
}

uint64_t refs_hash(const char *tenant, const char *text)
{
	uint64_t hash = mix(14695981039346656037ull, tenant) * 1099511628211ull;

	hash = mix(hash, text);
	return hash ? hash : 1;
}

void refs_fini(struct refs *refs)
{
	free(refs->entries);
	*refs = (struct refs){ 0 };
}

static uint16_t *bucket_of(const struct refs *refs, uint64_t key)
{
	return (uint16_t *)&refs->buckets[key % REFS_BUCKETS];
}

/* `executor` NULL: whichever was remembered last. */
static struct ref_entry *refs_entry(const struct refs *refs, const char *tenant, const char *ref, const char *executor)
{
	uint64_t key = refs_hash(tenant, ref);
	struct ref_entry *last = NULL;

	for (uint16_t place = ref[0] ? *bucket_of(refs, key) : 0; place; place = refs->following[place - 1]) {
		struct ref_entry *entry = &refs->entries[place - 1];

		if (refs->keys[place - 1] == key && strcmp(entry->ref, ref) == 0 && (!executor || strcmp(entry->executor, executor) == 0) &&
		    (!last || entry->remembered > last->remembered))
			last = entry;
	}
	return last;
}

static void refs_forget(struct refs *refs, uint32_t index)
{
	uint16_t *at = bucket_of(refs, refs->keys[index]);

	while (*at != index + 1)
		at = &refs->following[*at - 1];
	*at = refs->following[index];
}

static bool is_taken(const struct ref_entry *entry, uint64_t now_ns)
{
	return entry->takers > 0 || entry->kept_until_ns > now_ns;
}

/* In the place of the one that came first of those that are not taken, unless there is room. NULL: all are. */
static struct ref_entry *refs_make(struct refs *refs, bool listed, uint64_t key, uint64_t now_ns)
{
	struct refs_places *places = listed ? &refs->listed : &refs->built;
	uint32_t first = listed ? REFS_MAX : 0, max = listed ? REFS_LISTED_MAX : REFS_MAX;

	for (uint32_t i = 0; i < max; i++) {
		uint32_t index = first + places->next, used = first + places->count;

		places->next = (places->next + 1) % max;
		if (is_taken(&refs->entries[index], now_ns))
			continue;
		if (index < used)
			refs_forget(refs, index);
		else
			places->count++;
		refs->entries[index] = (struct ref_entry){ 0 };
		refs->keys[index] = key;
		refs->following[index] = *bucket_of(refs, key);
		*bucket_of(refs, key) = (uint16_t)(index + 1);
		return &refs->entries[index];
	}
	return NULL;
}

static void refs_add(struct refs *refs, bool listed, const char *tenant, const char *ref, const char *executor, uint64_t now_ns)
{
	struct ref_entry *entry;

	if (!ref[0])
		return;
	if (!refs->entries)
		refs->entries = calloc(REFS_MAX + REFS_LISTED_MAX, sizeof(*refs->entries));
	if (!refs->entries)
		return;
	entry = refs_entry(refs, tenant, ref, executor);
	if (!entry) {
		entry = refs_make(refs, listed, refs_hash(tenant, ref), now_ns);
		if (!entry)
			return;
		snprintf(entry->ref, sizeof(entry->ref), "%s", ref);
		snprintf(entry->executor, sizeof(entry->executor), "%s", executor);
	}
	entry->remembered = ++refs->remembered;
}

void refs_remember(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t now_ns)
{
	refs_add(refs, false, tenant, ref, executor, now_ns);
}

void refs_note(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t now_ns)
{
	refs_add(refs, true, tenant, ref, executor, now_ns);
}

bool refs_take(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint32_t process)
{
	struct ref_entry *entry = refs_entry(refs, tenant, ref, executor);

	if (!entry)
		return false;
	entry->process = entry->takers == 0 || entry->process == process ? process : 0;
	entry->takers++;
	return true;
}

void refs_leave(struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t kept_until_ns)
{
	struct ref_entry *entry = refs_entry(refs, tenant, ref, executor);

	CHECK(entry);
	CHECK(entry->takers > 0);
	if (--entry->takers == 0)
		entry->kept_until_ns = kept_until_ns;
}

bool refs_taken(const struct refs *refs, const char *tenant, const char *ref, const char *executor, uint64_t now_ns)
{
	const struct ref_entry *entry = refs_entry(refs, tenant, ref, executor);

	return entry && is_taken(entry, now_ns);
}

uint32_t refs_keeper(const struct refs *refs, const char *tenant, const char *ref, const char *executor)
{
	const struct ref_entry *entry = refs_entry(refs, tenant, ref, executor);

	return entry && entry->takers == 0 ? entry->process : 0;
}

void refs_let_go(struct refs *refs, const char *tenant, const char *ref, const char *executor)
{
	struct ref_entry *entry = refs_entry(refs, tenant, ref, executor);

	CHECK(entry);
	CHECK(entry->takers == 0);
	entry->kept_until_ns = 0;
}

const char *refs_find(const struct refs *refs, const char *tenant, const char *ref)
{
	const struct ref_entry *entry = refs_entry(refs, tenant, ref, NULL);

	return entry ? entry->executor : NULL;
}
