/* Questions, and what answers say of our directories. */
#include "gateway/upload/comparison.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/err.h"
#include "proto/delta.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"
#include "proto/sluice_v1.h"
#include "proto/tree.h"

#define SAVES_PERCENT 10                 /* or it goes whole */

void comparison_fini(struct comparison *comparison)
{
	digest_set_fini(&comparison->there);
	digest_set_fini(&comparison->differing);
	digest_set_fini(&comparison->seen);
	based_fini(&comparison->based);
	buffer_fini(&comparison->names);
	free(comparison->pairs);
	*comparison = (struct comparison){ 0 };
}

/* ---- what is to be compared ---- */

static int add_pair(struct comparison *comparison, const struct digest *ours, const struct digest *above, struct span name)
{
	struct comparison_pair *moved;
	size_t room;
	int r;

	if (ours->size == 0 || comparison->count - comparison->first == COMPARISON_PENDING_MAX)
		return 0;
	r = digest_set_add(&comparison->seen, ours);
	if (r <= 0)
		return r;
	if (comparison->count == comparison->room) {
		room = comparison->room * 2 + 64;
		moved = realloc(comparison->pairs, room * sizeof(*moved));
		if (!moved)
			return ERR_RAISE(-ENOMEM);
		comparison->pairs = moved;
		comparison->room = room;
	}
	comparison->pairs[comparison->count++] = (struct comparison_pair){
		.ours = *ours, .above = *above, .name = comparison->names.size, .name_size = name.size,
	};
	buffer_put(&comparison->names, name.data, name.size);
	return comparison->names.failed ? ERR_RAISE(-ENOMEM) : 0;
}

int comparison_begin(struct comparison *comparison, const struct digest *base, const struct digest *root)
{
	*comparison = (struct comparison){ .base = *base, .names = buffer_heap(SIZE_MAX) };
	return add_pair(comparison, root, &(struct digest){ 0 }, (struct span){ 0 });
}

/* ---- questions ---- */

static void put_list(struct buffer *out, uint32_t number, const struct digest *digest)
{
	uint8_t storage[DIGEST_HASH_BYTES + PB_VARINT_BYTES_MAX];
	struct buffer list = buffer_over(storage, sizeof(storage));

	digest_list_put(&list, digest);
	pb_put_bytes(out, number, buffer_span(&list));
}

/* As many as fit, those of one directory together. Always one at least: a directory is shorter than all bases may be. */
static void put_names(struct comparison *comparison, struct buffer *request)
{
	uint64_t bytes = 0;
	size_t names = 0;

	while (comparison->asked < comparison->count && names < COMPARISON_NAMES_MAX) {
		const struct digest *above = &comparison->pairs[comparison->asked].above;
		size_t mark;

		if (above->size > SLUICE_BASES_BYTES - bytes)
			return;
		bytes += above->size;
		mark = pb_begin(request, 2);
		put_list(request, 1, above);
		for (; comparison->asked < comparison->count && names < COMPARISON_NAMES_MAX; names++, comparison->asked++) {
			const struct comparison_pair *pair = &comparison->pairs[comparison->asked];

			if (!digest_equal(&pair->above, above))
				break;
			pb_put_bytes_always(request, 2, span_make(comparison->names.data + pair->name, pair->name_size));
		}
		pb_end(request, mark);
	}
}

void comparison_ask(struct comparison *comparison, struct buffer *request)
{
	size_t mark = pb_begin(request, 5);

	put_list(request, 1, &comparison->base);
	if (comparison->pairs[comparison->first].above.size == 0)
		comparison->asked = comparison->first + 1;
	else
		put_names(comparison, request);
	pb_end(request, mark);
}

/* ---- answers ---- */

struct held {
	struct delta_copies copies;
	const uint8_t *target;
	bool more;
};

/* Whether a node lies wholly in what is copied. In order. */
static bool is_held(struct held *held, struct span node)
{
	uint64_t begin = (uint64_t)(node.data - held->target), end = begin + node.size;

	while (held->more && held->copies.end < end)
		held->more = delta_copies_next(&held->copies);
	return held->more && held->copies.begin <= begin;
}

static struct held held_begin(struct span target, struct span edits)
{
	struct held held = { .copies = { .rest = edits }, .target = target.data };

	held.more = delta_copies_next(&held.copies);
	return held;
}

static int look_at_files(struct comparison *comparison, const struct message_list *files, struct held held)
{
	struct message_cursor cursor = { 0 };
	struct reapi_node node;
	struct span element;
	int r = 0;

	while (r >= 0 && message_list_next(files, &cursor, &element))
		if (is_held(&held, element) && message_decode(&reapi_node_type, element, &node) && node.digest.size)
			r = digest_set_add(&comparison->there, &node.digest);
	return r < 0 ? r : 0;
}

static int look_at_directories(struct comparison *comparison, const struct message_list *directories, const struct digest *there,
                               struct held held)
{
	struct message_cursor cursor = { 0 };
	struct reapi_node node;
	struct span element;
	int r = 0;

	while (r >= 0 && message_list_next(directories, &cursor, &element)) {
		bool is = is_held(&held, element);

		if (!message_decode(&reapi_node_type, element, &node) || node.digest.size == 0)
			continue;
		r = is ? digest_set_add(&comparison->there, &node.digest) : add_pair(comparison, &node.digest, there, node.name);
	}
	return r < 0 ? r : 0;
}

static int look_at(struct comparison *comparison, const struct digest *ours, const struct digest *there, struct span target,
                   struct span edits)
{
	struct reapi_directory directory;
	int r;

	if (!message_decode(&reapi_directory_type, target, &directory))
		return 0;                        /* nothing is known of what it holds */
	r = digest_set_add(&comparison->differing, ours);
	if (r >= 0)
		r = look_at_files(comparison, &directory.files, held_begin(target, edits));
	if (r >= 0)
		r = look_at_directories(comparison, &directory.directories, there, held_begin(target, edits));
	if (r >= 0 && edits.size <= target.size - target.size * SAVES_PERCENT / 100)
		based_add(&comparison->based, ours, there, edits);
	return r;
}

/* `there` is another directory of the same name, whose signature came. */
static int compare(struct comparison *comparison, const struct digest *ours, const struct delta_signature *signature,
                   const struct digest *there, int (*encode)(void *owner, const struct digest *directory, struct buffer *out),
                   void *owner)
{
	struct buffer target = buffer_heap(TREE_DIRECTORY_BYTES_MAX), edits = buffer_heap(2 * TREE_DIRECTORY_BYTES_MAX);
	int r = encode(owner, ours, &target);

	if (r == 0 && delta_encode_signed(&edits, signature, 1, buffer_span(&target)))
		r = look_at(comparison, ours, there, buffer_span(&target), buffer_span(&edits));
	buffer_fini(&target);
	buffer_fini(&edits);
	return r;
}

/* What the pairs of a question are there, in order. */
struct answer {
	struct span digests, hashes;
	bool of_base;                    /* the question was about the base itself */
};

static bool next_there(const struct comparison *comparison, struct answer *answer, struct digest *there,
                       struct delta_signature *signature)
{
	size_t size;

	if (answer->of_base)
		*there = comparison->base;
	else if (!digest_list_next(&answer->digests, there))
		return false;
	size = there->size <= SLUICE_BASES_BYTES ? delta_signature_size(there->size) : SIZE_MAX;
	if (size > answer->hashes.size)
		return false;
	*signature = (struct delta_signature){ .hashes = span_make(answer->hashes.data, size), .size = there->size };
	if (size)
		answer->hashes = span_make(answer->hashes.data + size, answer->hashes.size - size);
	return true;
}

int comparison_take(struct comparison *comparison, struct span message,
                    int (*encode)(void *owner, const struct digest *directory, struct buffer *out), void *owner)
{
	struct push_signed told;
	struct answer answer;
	size_t first = comparison->first, asked = comparison->asked;
	int r = 0;

	if (!message_decode(&push_signed_type, message, &told))
		return -EPROTO;
	answer = (struct answer){
		.digests = told.digests, .hashes = told.hashes, .of_base = comparison->pairs[first].above.size == 0,
	};
	comparison->first = asked;
	for (size_t i = first; r >= 0 && i < asked; i++) {
		struct digest ours = comparison->pairs[i].ours, there;
		struct delta_signature signature;

		if (!bit_list_get(told.present, i - first))
			continue;
		if (!next_there(comparison, &answer, &there, &signature)) {
			comparison->first = comparison->asked = comparison->count;
			return 0;
		}
		if (digest_equal(&ours, &there))
			r = digest_set_add(&comparison->there, &ours);
		else
			r = compare(comparison, &ours, &signature, &there, encode, owner);
	}
	return r < 0 ? r : 0;
}
