/*
 * Shows that a build's requests can be said to another daemon: what an answer's references are is learned from the
 * other daemon's answer, wherever they stand, and every one is rewritten in the requests that name it. The hex below
 * was made by BuildKit v0.32.2's own Go types, MarshalVT; the other daemon's answer is the same one with other
 * references in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/buildkit_refs.h"
#include "proto/pb.h"
#include "tests/unit/proto/hex.h"

#define FIRST  "4p57vd19pfrv1fndpzjh34jv0"
#define SECOND "zzz7vd19pfrv1fndpzjh34jv1"
#define THIRD  "abcdefghijklmnopqrstuvwx2"
#define OTHER  "0000000000000000000000000"

#define REF_DEPRECATED                                                                                                 \
	"0a1934703537766431397066727631666e64707a6a6833346a76301a1b0a1934703537766431397066727631666e64707a6a"         \
	"6833346a7630"
#define REFS_DEPRECATED                                                                                                \
	"1a2c122a0a280a0b6c696e75782f616d643634121934703537766431397066727631666e64707a6a6833346a7630"
#define REF                                                                                                            \
	"1a2a52060a016b1201761a200a1934703537766431397066727631666e64707a6a6833346a763012030a0164"
#define REF_NONE "1a021a00"
/* One platform, and two attestations of it. */
#define REFS                                                                                                           \
	"1a870162520a0b6c696e75782f616d64363412430a201a1b0a197a7a7a37766431397066727631666e64707a6a6833346a76"         \
	"311201700a1f08011a1b0a196162636465666768696a6b6c6d6e6f7071727374757677783222310a2f0a0b6c696e75782f61"         \
	"6d64363412200a1934703537766431397066727631666e64707a6a6833346a763012030a0164"
#define RETURN    "0a221a200a1934703537766431397066727631666e64707a6a6833346a763012030a0164"
#define READ_FILE "0a1934703537766431397066727631666e64707a6a6833346a7630120166"
#define CONTAINER "0a0163121f1a012fba011934703537766431397066727631666e64707a6a6833346a7630"

/* `hex` with every `id` in it replaced, whatever stands around it. */
static struct buffer with(const char *hex, const char *id, const char *other)
{
	struct buffer bytes = from_hex(hex);

	for (size_t i = 0; i + BUILDKIT_REF_BYTES <= bytes.size; i++)
		if (memcmp(bytes.data + i, id, BUILDKIT_REF_BYTES) == 0)
			memcpy(bytes.data + i, other, BUILDKIT_REF_BYTES);
	return bytes;
}

static enum buildkit_refs_outcome learn(struct buildkit_ref_map *map, const struct buffer *told,
                                        const struct buffer *now)
{
	return buildkit_refs_learn(map, buffer_span(told), buffer_span(now));
}

static enum buildkit_refs_outcome learn_hex(struct buildkit_ref_map *map, const char *told_hex, const char *now_hex)
{
	struct buffer told = from_hex(told_hex), now = from_hex(now_hex);
	enum buildkit_refs_outcome outcome = learn(map, &told, &now);

	buffer_fini(&told);
	buffer_fini(&now);
	return outcome;
}

static void assert_pair(const struct buildkit_ref_map *map, const char *told, const char *now)
{
	for (size_t i = 0; i < map->count; i++)
		if (memcmp(map->pairs[i].told, told, BUILDKIT_REF_BYTES) == 0) {
			assert_memory_equal(map->pairs[i].now, now, BUILDKIT_REF_BYTES);
			return;
		}
	fail_msg("%s was not learned", told);
}

static void every_form_of_an_answer(void **state)
{
	static const char *const answers[] = { REF_DEPRECATED, REFS_DEPRECATED, REF, REFS };

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct buffer told = from_hex(answers[i]), now = with(answers[i], FIRST, OTHER);
		struct buildkit_ref_map map = { 0 };

		assert_int_equal(learn(&map, &told, &now), BUILDKIT_REFS_LEARNED);
		assert_pair(&map, FIRST, OTHER);
		assert_int_equal(map.count, i == 3 ? 3 : 1);
		buffer_fini(&told);
		buffer_fini(&now);
	}
}

/* The second attestation's reference is told from the first's by its place. */
static void attestations(void **state)
{
	struct buffer told = from_hex(REFS), now = with(REFS, SECOND, OTHER);
	struct buildkit_ref_map map = { 0 };

	assert_int_equal(learn(&map, &told, &now), BUILDKIT_REFS_LEARNED);
	assert_pair(&map, FIRST, FIRST);
	assert_pair(&map, SECOND, OTHER);
	assert_pair(&map, THIRD, THIRD);
	buffer_fini(&told);
	buffer_fini(&now);
}

static void put_platform(struct buffer *refs, const char *platform, const char *id)
{
	struct buffer ref = buffer_heap(4096);
	size_t mark = pb_begin(refs, 1);

	pb_put_text(&ref, 1, id);
	pb_put_text(refs, 1, platform);
	pb_put_bytes_always(refs, 2, buffer_span(&ref));
	pb_end(refs, mark);
	buffer_fini(&ref);
}

/* SolveResponse{result: {refs: {...}}} of `count` platforms, in the order given. */
static struct buffer answer_with(const char *const *platforms, const char *const *ids, size_t count)
{
	struct buffer out = buffer_heap(1 << 20);
	size_t result = pb_begin(&out, 3), refs = pb_begin(&out, 4);

	for (size_t i = 0; i < count; i++)
		put_platform(&out, platforms[i], ids[i]);
	pb_end(&out, refs);
	pb_end(&out, result);
	return out;
}

/* Go writes maps in any order: platforms are found by name. */
static void platforms_in_any_order(void **state)
{
	static const char *const there[] = { "linux/amd64", "linux/arm64" };
	static const char *const back[] = { "linux/arm64", "linux/amd64" };
	static const char *const told_ids[] = { FIRST, SECOND }, *const now_ids[] = { THIRD, OTHER };
	struct buffer told = answer_with(there, told_ids, 2), now = answer_with(back, now_ids, 2);
	struct buildkit_ref_map map = { 0 };

	assert_int_equal(learn(&map, &told, &now), BUILDKIT_REFS_LEARNED);
	assert_pair(&map, FIRST, OTHER);
	assert_pair(&map, SECOND, THIRD);
	buffer_fini(&told);
	buffer_fini(&now);
}

/* A second daemon is lost as well: the client still knows the first one's references. */
static void learned_anew(void **state)
{
	struct buffer told = from_hex(REF), now = with(REF, FIRST, OTHER), later = with(REF, FIRST, THIRD);
	struct buildkit_ref_map map = { 0 };

	assert_int_equal(learn(&map, &told, &now), BUILDKIT_REFS_LEARNED);
	assert_int_equal(learn(&map, &told, &later), BUILDKIT_REFS_LEARNED);
	assert_int_equal(map.count, 1);
	assert_pair(&map, FIRST, THIRD);
	buffer_fini(&told);
	buffer_fini(&now);
	buffer_fini(&later);
}

static void an_empty_result(void **state)
{
	struct buildkit_ref_map map = { 0 };

	assert_int_equal(learn_hex(&map, REF_NONE, REF_NONE), BUILDKIT_REFS_LEARNED);
	assert_int_equal(learn_hex(&map, "", ""), BUILDKIT_REFS_LEARNED);
	assert_int_equal(map.count, 0);
}

static void answers_that_differ(void **state)
{
	static const char *const platform[] = { "linux/arm64" }, *const id[] = { FIRST };
	struct buffer other_platform = answer_with(platform, id, 1), told = from_hex(REFS_DEPRECATED);
	struct buildkit_ref_map map = { 0 };

	assert_int_equal(learn_hex(&map, REF, REFS), BUILDKIT_REFS_DIFFER);
	assert_int_equal(learn_hex(&map, REF, REF_NONE), BUILDKIT_REFS_DIFFER);
	assert_int_equal(learn_hex(&map, REF, REFS_DEPRECATED), BUILDKIT_REFS_DIFFER);
	assert_int_equal(learn(&map, &told, &other_platform), BUILDKIT_REFS_DIFFER);
	assert_int_equal(learn_hex(&map, "1a031a010a", REF), BUILDKIT_REFS_MALFORMED);
	assert_int_equal(learn_hex(&map, "1a050a03616263", "1a050a03616263"), BUILDKIT_REFS_DIFFER);
	assert_int_equal(map.count, 0);
	buffer_fini(&other_platform);
	buffer_fini(&told);
}

/* A reference that could not be told from what surrounds it is none that is known how to rewrite. */
static void a_length_inside_a_reference(void **state)
{
	struct buffer told = with(REF, FIRST, "aaaaaaaaaaaaaaaaaaaaaaa\x19z");
	struct buildkit_ref_map map = { 0 };

	assert_int_equal(learn(&map, &told, &told), BUILDKIT_REFS_DIFFER);
	buffer_fini(&told);
}

static void malformed_answers(void **state)
{
	static const char *const cases[] = {
		"0801",                          /* ref as a number */
		"1801",                          /* result as a number */
		"1a05",                          /* beyond the end */
		"1a020801",                      /* Result: refDeprecated as a number */
		"1a021001",                      /* refsDeprecated as a number */
		"1a021801",                      /* ref as a number */
		"1a041a020801",                  /* its id as a number */
		"1a022001",                      /* refs as a number */
		"1a0422020801",                  /* its pair as a number */
		"1a0622040a020801",              /* its key as a number */
		"1a0622040a021001",              /* its value as a number */
		"1a0612040a021001",              /* deprecated, its value as a number */
		"1a0822060a0412020801",          /* its Ref's id as a number */
		"1a026001",                      /* attestations as a number */
		"1a046202" "1001",               /* their value as a number */
		"1a066204" "12020801",           /* an attestation as a number */
		"1a086206" "12040a021801",       /* its ref as a number */
		"1a0a6208" "12060a041a020801",   /* its ref's id as a number */
	};
	struct buildkit_ref_map map = { 0 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(learn_hex(&map, cases[i], REF), BUILDKIT_REFS_MALFORMED);
		assert_int_equal(learn_hex(&map, REF, cases[i]), BUILDKIT_REFS_MALFORMED);
	}
	assert_int_equal(map.count, 0);
}

static void many(size_t count, size_t first, struct buffer *answer)
{
	static char names[BUILDKIT_REFS_MAX + 1][16], ids[BUILDKIT_REFS_MAX + 1][BUILDKIT_REF_BYTES + 1];
	const char *platforms[BUILDKIT_REFS_MAX + 1], *refs[BUILDKIT_REFS_MAX + 1];

	for (size_t i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "platform-%zu", i);
		snprintf(ids[i], sizeof(ids[i]), "%025zu", first + i);
		platforms[i] = names[i];
		refs[i] = ids[i];
	}
	*answer = answer_with(platforms, refs, count);
}

static void the_bound(void **state)
{
	struct buffer largest, too_large, one = from_hex(REF);
	struct buildkit_ref_map map = { 0 };

	many(BUILDKIT_REFS_MAX, 0, &largest);
	many(BUILDKIT_REFS_MAX + 1, 0, &too_large);
	assert_int_equal(learn(&map, &too_large, &too_large), BUILDKIT_REFS_FULL);
	assert_int_equal(map.count, 0);
	assert_int_equal(learn(&map, &largest, &largest), BUILDKIT_REFS_LEARNED);
	assert_int_equal(map.count, BUILDKIT_REFS_MAX);
	assert_int_equal(learn(&map, &one, &one), BUILDKIT_REFS_FULL);
	assert_int_equal(learn(&map, &largest, &largest), BUILDKIT_REFS_LEARNED);       /* those it has */
	assert_int_equal(map.count, BUILDKIT_REFS_MAX);
	buffer_fini(&largest);
	buffer_fini(&too_large);
	buffer_fini(&one);
}

static struct buildkit_ref_map map_of(const char *told, const char *now)
{
	struct buildkit_ref_map map = { .count = 1 };

	memcpy(map.pairs[0].told, told, BUILDKIT_REF_BYTES);
	memcpy(map.pairs[0].now, now, BUILDKIT_REF_BYTES);
	return map;
}

static void every_request(void **state)
{
	static const char *const requests[] = { RETURN, READ_FILE, CONTAINER, REF, REFS_DEPRECATED, REFS };
	struct buildkit_ref_map map = map_of(FIRST, OTHER);

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct buffer message = from_hex(requests[i]), expected = with(requests[i], FIRST, OTHER);

		assert_int_equal(buildkit_refs_rewrite(&map, message.data, message.size), 1);
		assert_true(span_equal(buffer_span(&message), buffer_span(&expected)));
		assert_int_equal(buildkit_refs_rewrite(&map, message.data, message.size), 0);
		buffer_fini(&message);
		buffer_fini(&expected);
	}
}

/* Only whole strings: not in a longer one, not at the end of one, not where the message ends before it. */
static void what_stays(void **state)
{
	static const char *const cases[] = { "\x1a" FIRST "x", "\x1ax" FIRST, FIRST, "\x19" FIRST, "\x19" SECOND };
	struct buildkit_ref_map map = map_of(FIRST, OTHER), none = { 0 };
	uint8_t bytes[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = i == 3 ? strlen(cases[i]) - 1 : strlen(cases[i]);

		memcpy(bytes, cases[i], size);
		assert_int_equal(buildkit_refs_rewrite(&map, bytes, size), 0);
		assert_memory_equal(bytes, cases[i], size);
	}
	memcpy(bytes, "\x19" FIRST, 26);
	assert_int_equal(buildkit_refs_rewrite(&none, bytes, 26), 0);
	assert_int_equal(buildkit_refs_rewrite(&map, NULL, 0), 0);
	assert_int_equal(buildkit_refs_rewrite(&map, bytes, 26), 1);
}

/* A reference that is the old one of one pair and the new one of another is rewritten once. */
static void in_one_pass(void **state)
{
	struct buildkit_ref_map map = map_of(FIRST, SECOND);
	char bytes[] = "\x19" FIRST "\x19" SECOND "\x19" FIRST;

	memcpy(map.pairs[1].told, SECOND, BUILDKIT_REF_BYTES);
	memcpy(map.pairs[1].now, THIRD, BUILDKIT_REF_BYTES);
	map.count = 2;
	assert_int_equal(buildkit_refs_rewrite(&map, (uint8_t *)bytes, strlen(bytes)), 3);
	assert_string_equal(bytes, "\x19" SECOND "\x19" THIRD "\x19" SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_of_an_answer),
		cmocka_unit_test(attestations),
		cmocka_unit_test(platforms_in_any_order),
		cmocka_unit_test(learned_anew),
		cmocka_unit_test(an_empty_result),
		cmocka_unit_test(answers_that_differ),
		cmocka_unit_test(a_length_inside_a_reference),
		cmocka_unit_test(malformed_answers),
		cmocka_unit_test(the_bound),
		cmocka_unit_test(every_request),
		cmocka_unit_test(what_stays),
		cmocka_unit_test(in_one_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
