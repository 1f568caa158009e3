/* Directories read, names found in them. */
#include "gateway/cas/push_below.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/reapi_cas.h"

/* ---- the question ---- */

static int take_names(struct push_below *below, const struct message_list *names)
{
	struct message_cursor cursor = { 0 };
	struct span name;

	if (names->count == 0)
		return -EINVAL;
	if (names->count > SLUICE_LIST_MAX - below->count)
		return -E2BIG;
	while (message_list_next(names, &cursor, &name))
		below->names[below->count++] = name;
	return 0;
}

static int take_directory(struct push_below *below, struct span element, uint64_t *bytes)
{
	struct digest *directory = &below->directories[below->directories_count];
	struct push_below_names asked;
	int r;

	if (!message_decode(&push_below_names_type, element, &asked) || !digest_list_next(&asked.directory, directory) ||
	    asked.directory.size)
		return -EINVAL;
	if (directory->size > SLUICE_BASES_BYTES - *bytes)
		return -E2BIG;
	*bytes += directory->size;
	r = take_names(below, &asked.names);
	below->ends[below->directories_count++] = below->count;
	return r;
}

static bool make_room(struct push_below *below, size_t directories)
{
	below->names = malloc(SLUICE_LIST_MAX * sizeof(*below->names));
	below->found = calloc(SLUICE_LIST_MAX, sizeof(*below->found));
	below->directories = malloc(directories * sizeof(*below->directories));
	below->ends = malloc(directories * sizeof(*below->ends));
	return below->names && below->found && below->directories && below->ends;
}

int push_below_take(struct push_below *below, const struct message_list *list)
{
	struct message_cursor cursor = { 0 };
	struct span element;
	uint64_t bytes = 0;
	int r = 0;

	*below = (struct push_below){ 0 };
	if (list->count == 0)
		return -EINVAL;
	if (list->count > SLUICE_LIST_MAX)
		return -E2BIG;
	if (!make_room(below, list->count)) {
		push_below_fini(below);
		return ERR_RAISE(-ENOMEM);
	}
	while (r == 0 && message_list_next(list, &cursor, &element))
		r = take_directory(below, element, &bytes);
	if (r < 0)
		push_below_fini(below);
	return r;
}

/* ---- the answer ---- */

/* Both in one order: a name that is asked for out of it is not found. */
static void find_names(struct push_below *below, size_t first, size_t end, const struct message_list *directories)
{
	struct message_cursor cursor = { 0 };
	struct reapi_node node;
	struct span element;

	while (first < end && message_list_next(directories, &cursor, &element)) {
		if (!message_decode(&reapi_node_type, element, &node))
			return;
		while (first < end && span_compare(below->names[first], node.name) < 0)
			first++;
		if (first < end && span_equal(below->names[first], node.name))
			below->found[first++] = node.digest;
	}
}

/* They come in any order; what is no Directory has no names in it. */
static void below_on_blob(struct blob_reads *reads, size_t place, struct span blob)
{
	struct push_below *below = container_of(reads, struct push_below, reads);
	struct reapi_directory directory;

	if (blob.data && message_decode(&reapi_directory_type, blob, &directory))
		find_names(below, place ? below->ends[place - 1] : 0, below->ends[place], &directory.directories);
}

static void below_on_read(struct blob_reads *reads)
{
	struct push_below *below = container_of(reads, struct push_below, reads);

	below->result = reads->result;
	below->fn(below);
}

void push_below_start(struct push_below *below, struct store *store, const struct scope *scope,
                      void (*fn)(struct push_below *below))
{
	below->fn = fn;
	below->reads = (struct blob_reads){
		.store = store, .scope = *scope, .digests = below->directories, .count = below->directories_count,
		.on_blob = below_on_blob, .fn = below_on_read,
	};
	blob_reads_start(&below->reads);
}

void push_below_fini(struct push_below *below)
{
	CHECK(below->reads.under_way == 0);
	free(below->found);
	free(below->names);
	free(below->directories);
	free(below->ends);
	*below = (struct push_below){ 0 };
}
