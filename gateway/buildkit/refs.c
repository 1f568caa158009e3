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

/* `executor` NULL: whichever was remembered last. */
static struct ref_entry *refs_entry(const struct refs *refs, const char *tenant, const char *ref, const char *executor)
{
	uint64_t key = refs_hash(tenant, ref);
	struct ref_entry *last = NULL;

	for (uint32_t i = 0; i < refs->count && ref[0]; i++) {
		struct ref_entry *entry = &refs->entries[i];

		if (refs->keys[i] == key && strcmp(entry->ref, ref) == 0 && (!executor || strcmp(entry->executor, executor) == 0) &&
		    (!last || entry->remembered > last->remembered))
			last = entry;
	}
	return last;
}

/* The one that came first of those that no build runs of, unless there is room. NULL: one runs of each. */
static struct ref_entry *refs_make(struct refs *refs)
{
	struct ref_entry *entry;

	for (uint32_t i = 0; i < REFS_MAX; i++) {
		entry = &refs->entries[refs->next];
		refs->next = (refs->next + 1) % REFS_MAX;
		if (entry->takers)
			continue;
		if (refs->count < REFS_MAX)
			refs->count++;
		*entry = (struct ref_entry){ 0 };
		return entry;
	}
	return NULL;
}

void refs_remember(struct refs *refs, const char *tenant, const char *ref, const char *executor)
{
	struct ref_entry *entry;

	if (!ref[0])
		return;
	if (!refs->entries)
		refs->entries = calloc(REFS_MAX, sizeof(*refs->entries));
	if (!refs->entries)
		return;
	entry = refs_entry(refs, tenant, ref, executor);
	if (!entry) {
		entry = refs_make(refs);
		if (!entry)
			return;
		refs->keys[entry - refs->entries] = refs_hash(tenant, ref);
		snprintf(entry->ref, sizeof(entry->ref), "%s", ref);
		snprintf(entry->executor, sizeof(entry->executor), "%s", executor);
	}
	entry->remembered = ++refs->remembered;
}

bool refs_take(struct refs *refs, const char *tenant, const char *ref, const char *executor)
{
	struct ref_entry *entry = refs_entry(refs, tenant, ref, executor);

	if (entry)
		entry->takers++;
	return entry;
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

	return entry && (entry->takers > 0 || entry->kept_until_ns > now_ns);
}

const char *refs_find(const struct refs *refs, const char *tenant, const char *ref)
{
	const struct ref_entry *entry = refs_entry(refs, tenant, ref, NULL);

	return entry ? entry->executor : NULL;
}
