/* References of results: where they stand in an answer, and their rewriting. */
#include "proto/buildkit_refs.h"

#include "proto/pb.h"

enum { RESPONSE_FIELD_REF = 1, RESPONSE_FIELD_RESULT = 3 };
enum {
	RESULT_FIELD_REF_DEPRECATED = 1,
	RESULT_FIELD_REFS_DEPRECATED = 2,
	RESULT_FIELD_REF = 3,
	RESULT_FIELD_REFS = 4,
	RESULT_FIELD_ATTESTATIONS = 12,
};
enum { REFS_FIELD_PAIR = 1 };
enum { REF_FIELD_ID = 1 };
enum { PAIR_FIELD_KEY = 1, PAIR_FIELD_VALUE = 2 };
enum { ATTESTATIONS_FIELD_ATTESTATION = 1, ATTESTATION_FIELD_REF = 3 };

enum place_kind {
	PLACE_RESPONSE,                  /* the answer's own, deprecated */
	PLACE_RESULT,
	PLACE_PLATFORM,                  /* by key */
	PLACE_ATTESTATION,               /* by key and index */
};

struct place {
	enum place_kind kind;
	struct span key;
	uint32_t index;
};

struct placed_ref {
	struct place place;
	struct span id;
};

struct ref_list {
	struct placed_ref refs[BUILDKIT_REFS_MAX];
	size_t count;
	enum buildkit_refs_outcome fault;
};

static bool list_fail(struct ref_list *list, enum buildkit_refs_outcome fault)
{
	list->fault = fault;
	return false;
}

/* Told from what surrounds it by its length, and no part of it can be taken for the length of another. */
static bool ref_is_plain(const uint8_t *id)
{
	return !memchr(id, BUILDKIT_REF_BYTES, BUILDKIT_REF_BYTES);
}

/* An empty id is a result without anything in it (scratch): there is nothing to be named. */
static bool list_add(struct ref_list *list, struct place place, const struct pb_field *id)
{
	if (id->wire != PB_BYTES)
		return list_fail(list, BUILDKIT_REFS_MALFORMED);
	if (id->bytes.size == 0)
		return true;
	if (id->bytes.size != BUILDKIT_REF_BYTES || !ref_is_plain(id->bytes.data))
		return list_fail(list, BUILDKIT_REFS_DIFFER);
	if (list->count == BUILDKIT_REFS_MAX)
		return list_fail(list, BUILDKIT_REFS_FULL);
	list->refs[list->count++] = (struct placed_ref){ .place = place, .id = id->bytes };
	return true;
}

/* The end of a message's fields: well or not. */
static bool list_end(struct ref_list *list, const struct pb_reader *reader)
{
	return !reader->failed || list_fail(list, BUILDKIT_REFS_MALFORMED);
}

/* A Ref. */
static bool list_ref(struct ref_list *list, struct place place, struct pb_reader reader)
{
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == REF_FIELD_ID && !list_add(list, place, &field))
			return false;
	return list_end(list, &reader);
}

static bool list_attestations(struct ref_list *list, struct place place, struct pb_reader reader)
{
	struct pb_field field, inner;

	while (pb_next(&reader, &field)) {
		struct pb_reader attestation = pb_enter(&reader, &field);

		if (field.number != ATTESTATIONS_FIELD_ATTESTATION)
			continue;
		while (pb_next(&attestation, &inner))
			if (inner.number == ATTESTATION_FIELD_REF &&
			    !list_ref(list, place, pb_enter(&attestation, &inner)))
				return false;
		if (!list_end(list, &attestation))
			return false;
		place.index++;
	}
	return list_end(list, &reader);
}

/* A pair of a map, whose key comes first in every encoding that was seen, but does not have to. */
static bool read_pair(struct pb_reader reader, struct span *key, struct pb_field *value)
{
	struct pb_field field;

	*key = (struct span){ 0 };
	*value = (struct pb_field){ .number = PAIR_FIELD_VALUE, .wire = PB_BYTES };
	while (pb_next(&reader, &field)) {
		if (field.number == PAIR_FIELD_KEY)
			pb_as_bytes(&reader, &field, key);
		else if (field.number == PAIR_FIELD_VALUE)
			*value = field;
	}
	return !reader.failed && value->wire == PB_BYTES;
}

/* The pair that `field` of the Result is, or one inside it. */
static bool list_pair(struct ref_list *list, uint32_t number, const struct pb_reader *reader,
                      const struct pb_field *field)
{
	struct pb_reader pair = pb_enter(reader, field);
	struct pb_field value;
	struct place place = { .kind = number == RESULT_FIELD_ATTESTATIONS ? PLACE_ATTESTATION : PLACE_PLATFORM };

	if (!read_pair(pair, &place.key, &value))
		return list_fail(list, BUILDKIT_REFS_MALFORMED);
	if (number == RESULT_FIELD_REFS_DEPRECATED)
		return list_add(list, place, &value);
	if (number == RESULT_FIELD_REFS)
		return list_ref(list, place, pb_enter(&pair, &value));
	return list_attestations(list, place, pb_enter(&pair, &value));
}

/* RefMap and RefMapDeprecated. */
static bool list_pairs(struct ref_list *list, uint32_t number, struct pb_reader reader)
{
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == REFS_FIELD_PAIR && !list_pair(list, number, &reader, &field))
			return false;
	return list_end(list, &reader);
}

static bool list_result_field(struct ref_list *list, const struct pb_reader *reader, const struct pb_field *field)
{
	switch (field->number) {
	case RESULT_FIELD_REF_DEPRECATED:
		return list_add(list, (struct place){ .kind = PLACE_RESULT }, field);
	case RESULT_FIELD_REF:
		return list_ref(list, (struct place){ .kind = PLACE_RESULT }, pb_enter(reader, field));
	case RESULT_FIELD_REFS_DEPRECATED:
	case RESULT_FIELD_REFS:
		return list_pairs(list, field->number, pb_enter(reader, field));
	case RESULT_FIELD_ATTESTATIONS:
		return list_pair(list, field->number, reader, field);
	default:
		return true;
	}
}

static bool list_result(struct ref_list *list, struct pb_reader reader)
{
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (!list_result_field(list, &reader, &field))
			return false;
	return list_end(list, &reader);
}

static bool list_response(struct ref_list *list, struct span response)
{
	struct pb_reader reader = pb_reader_make(response);
	struct pb_field field;

	list->count = 0;
	while (pb_next(&reader, &field)) {
		if (field.number == RESPONSE_FIELD_REF &&
		    !list_add(list, (struct place){ .kind = PLACE_RESPONSE }, &field))
			return false;
		if (field.number == RESPONSE_FIELD_RESULT && !list_result(list, pb_enter(&reader, &field)))
			return false;
	}
	return list_end(list, &reader);
}

static bool place_equal(const struct place *a, const struct place *b)
{
	return a->kind == b->kind && a->index == b->index && span_equal(a->key, b->key);
}

static const struct placed_ref *list_find(const struct ref_list *list, const struct place *place)
{
	for (size_t i = 0; i < list->count; i++)
		if (place_equal(&list->refs[i].place, place))
			return &list->refs[i];
	return NULL;
}

/* Where its pair is, or map->count. */
static size_t map_find(const struct buildkit_ref_map *map, const uint8_t *told)
{
	size_t i = 0;

	while (i < map->count && memcmp(map->pairs[i].told, told, BUILDKIT_REF_BYTES) != 0)
		i++;
	return i;
}

static bool map_put(struct buildkit_ref_map *map, struct span told, struct span now)
{
	size_t i = map_find(map, told.data);

	if (i == BUILDKIT_REFS_MAX)
		return false;
	if (i == map->count)
		memcpy(map->pairs[map->count++].told, told.data, BUILDKIT_REF_BYTES);
	memcpy(map->pairs[i].now, now.data, BUILDKIT_REF_BYTES);
	return true;
}

enum buildkit_refs_outcome buildkit_refs_learn(struct buildkit_ref_map *map, struct span told, struct span now)
{
	struct ref_list before, after;
	struct buildkit_ref_map learned = *map;

	if (!list_response(&before, told))
		return before.fault;
	if (!list_response(&after, now))
		return after.fault;
	if (before.count != after.count)
		return BUILDKIT_REFS_DIFFER;
	for (size_t i = 0; i < before.count; i++) {
		const struct placed_ref *ref = list_find(&after, &before.refs[i].place);

		if (!ref)
			return BUILDKIT_REFS_DIFFER;
		if (!map_put(&learned, before.refs[i].id, ref->id))
			return BUILDKIT_REFS_FULL;
	}
	*map = learned;
	return BUILDKIT_REFS_LEARNED;
}

/*
 * What was written is not looked at again, so that a new reference which is also an old one stays. A place is
 * compared with the map only when a whole plain reference could be there: at most once in 26 bytes, whatever the
 * message is made of.
 */
size_t buildkit_refs_rewrite(const struct buildkit_ref_map *map, uint8_t *message, size_t size)
{
	uint8_t *p = message, *end;
	size_t count = 0;

	if (map->count == 0 || size == 0)
		return 0;
	end = message + size;
	while ((size_t)(end - p) > BUILDKIT_REF_BYTES) {
		size_t i;

		p = memchr(p, BUILDKIT_REF_BYTES, (size_t)(end - p) - BUILDKIT_REF_BYTES);
		if (!p)
			break;
		p++;
		i = ref_is_plain(p) ? map_find(map, p) : map->count;
		if (i == map->count)
			continue;
		memcpy(p, map->pairs[i].now, BUILDKIT_REF_BYTES);
		p += BUILDKIT_REF_BYTES;
		count++;
	}
	return count;
}
