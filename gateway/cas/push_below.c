/* Directories read, names found in them. */
#include "gateway/cas/push_below.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "proto/reapi_cas.h"

/* ---- the question ---- */

static bool decode(struct span element, struct digest *directory, struct message_list *names)
{
	struct push_below_names asked;

	if (!message_decode(&push_below_names_type, element, &asked) || !digest_list_next(&asked.directory, directory) ||
	    asked.directory.size || asked.names.count == 0)
		return false;
	*names = asked.names;
	return true;
}

/* How many names there are, within the bounds. */
static int count_names(const struct message_list *list, size_t *count)
{
	struct message_cursor cursor = { 0 };
	struct message_list names;
	struct digest directory;
	struct span element;
	uint64_t bytes = 0;

	*count = 0;
	while (message_list_next(list, &cursor, &element)) {
		if (!decode(element, &directory, &names))
			return -EINVAL;
		if (names.count > SLUICE_LIST_MAX - *count || directory.size > SLUICE_BASES_BYTES - bytes)
			return -E2BIG;
		*count += names.count;
		bytes += directory.size;
	}
	return 0;
}

static void take_names(struct push_below *below, const struct message_list *list)
{
	struct message_cursor cursor = { 0 }, inner;
	struct message_list names;
	struct span element, name;

	while (message_list_next(list, &cursor, &element) &&
	       decode(element, &below->directories[below->directories_count], &names)) {
		inner = (struct message_cursor){ 0 };
		while (message_list_next(&names, &inner, &name))
			below->names[below->count++] = name;
		below->ends[below->directories_count++] = below->count;
	}
}

static bool make_room(struct push_below *below, size_t directories, size_t names)
{
	below->names = malloc(names * sizeof(*below->names));
	below->found = calloc(names, sizeof(*below->found));
	below->directories = malloc(directories * sizeof(*below->directories));
	below->ends = malloc(directories * sizeof(*below->ends));
	return below->names && below->found && below->directories && below->ends;
}

int push_below_take(struct push_below *below, const struct message_list *list)
{
	size_t names;
	int r;

	*below = (struct push_below){ 0 };
	r = list->count ? count_names(list, &names) : -EINVAL;
	if (r < 0)
		return r;
	if (!make_room(below, list->count, names)) {
		push_below_fini(below);
		return ERR_RAISE(-ENOMEM);
	}
	take_names(below, list);
	return 0;
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
