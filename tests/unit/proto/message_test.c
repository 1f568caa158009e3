/*
 * Shows that the table-driven codec writes what protobuf says (known bytes), reads it back, skips unknown fields, refuses
 * wrong wire types, malformed pairs of a map and bad digests, and that digest lists and bit lists hold their limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/pb.h"
#include "proto/reapi.h"
#include "proto/reapi_cas.h"
#include "proto/sluice_v1.h"

static void known_bytes(void **state)
{
	const uint8_t expected[] = { 0x0a, 1, 't', 0x10, 1, 0x22, 1, 'n' };
	struct pin_request in = { .root = span_text("t"), .expires_unix_seconds = 1, .note = span_text("n") };
	struct pin_request out;
	struct buffer bytes = buffer_heap(4096);

	message_encode(&pin_request_type, &bytes, &in);
	assert_int_equal(bytes.size, sizeof(expected));
	assert_memory_equal(bytes.data, expected, sizeof(expected));
	assert_true(message_decode(&pin_request_type, buffer_span(&bytes), &out));
	assert_true(span_equal(out.root, in.root));
	assert_int_equal(out.expires_unix_seconds, 1);
	assert_false(out.remove);
	buffer_fini(&bytes);
}

/* Numbers of fields as proto/sluice.v1.proto has them: each member, another value. */
static void builds_are_numbered_as_documented(void **state)
{
	struct build_line line = {
		.subject = span_text("a"), .ref = span_text("b"), .directory = span_text("c"), .executor = span_text("d"),
		.queued_unix_ns = 5, .started_unix_ns = 6, .ended_unix_ns = 7, .queue_ns = 8, .files = 9, .files_changed = 10,
		.bytes_from_client = 11, .bytes_from_store = 12, .bytes_to_executor = 13, .steps_cached = 14,
		.steps_executed = 15, .replays = 16, .result = 17, .fault = 18, .status = 19, .error = span_text("t"),
	};
	struct builds_request request = { .limit = 1, .within_ns = 2, .failed_only = true };
	struct buffer bytes = buffer_heap(4096), expected = buffer_heap(4096);

	for (uint32_t i = 1; i <= 4; i++)
		pb_put_bytes(&expected, i, span_make(&"abcd"[i - 1], 1));
	for (uint32_t i = 5; i <= 19; i++)
		pb_put_varint(&expected, i, i);
	pb_put_text(&expected, 20, "t");
	message_encode(&build_line_type, &bytes, &line);
	assert_true(span_equal(buffer_span(&bytes), buffer_span(&expected)));
	buffer_clear(&bytes);
	message_encode(&builds_request_type, &bytes, &request);
	assert_true(span_is(buffer_span(&bytes), "\x08\x01\x10\x02\x18\x01"));
	buffer_fini(&bytes);
	buffer_fini(&expected);
}

static void negative_exit_code_survives(void **state)
{
	struct executor_finished in = { .id = 3, .exit_code = -1 }, out;
	struct buffer bytes = buffer_heap(4096);

	message_encode(&executor_finished_type, &bytes, &in);
	assert_true(message_decode(&executor_finished_type, buffer_span(&bytes), &out));
	assert_int_equal(out.exit_code, -1);
	buffer_fini(&bytes);
}

static void unknown_fields_are_skipped(void **state)
{
	const uint8_t bytes[] = { 0xf8, 0x07, 5, 0x18, 1 };       /* field 127 = 5, remove = true */
	struct pin_request out;

	assert_true(message_decode(&pin_request_type, span_make(bytes, sizeof(bytes)), &out));
	assert_true(out.remove);
}

static void wrong_wire_type_is_malformed(void **state)
{
	const uint8_t bytes[] = { 0x08, 1 };                      /* root as a varint */
	const uint8_t list[] = { 0x10, 1 };                       /* rejected as a varint */
	struct pin_request pin;
	struct push_stored stored;

	assert_false(message_decode(&pin_request_type, span_make(bytes, sizeof(bytes)), &pin));
	assert_false(message_decode(&push_stored_type, span_make(list, sizeof(list)), &stored));
}

static void lists_walk_only_their_field(void **state)
{
	struct buffer elements = buffer_heap(4096), bytes = buffer_heap(4096);
	struct message_cursor cursor = { 0 };
	struct reapi_command in = { 0 }, out;
	struct span element;

	pb_put_bytes_always(&elements, 1, span_text("sh"));
	pb_put_bytes_always(&elements, 1, span_text(""));
	in.arguments.message = buffer_span(&elements);
	in.working_directory = span_text("w");
	message_encode(&reapi_command_type, &bytes, &in);
	assert_true(message_decode(&reapi_command_type, buffer_span(&bytes), &out));
	assert_int_equal(out.arguments.count, 2);
	assert_true(message_list_next(&out.arguments, &cursor, &element));
	assert_true(span_is(element, "sh"));
	assert_true(message_list_next(&out.arguments, &cursor, &element));
	assert_int_equal(element.size, 0);
	assert_false(message_list_next(&out.arguments, &cursor, &element));
	assert_false(message_list_next(&out.arguments, &cursor, &element));
	buffer_fini(&elements);
	buffer_fini(&bytes);
}

struct mapped {
	struct message_list map;
	int64_t number;
};
MESSAGE_TYPE(mapped_type, struct mapped, MESSAGE_FIELD(struct mapped, map, 1, MESSAGE_MAP),
	     MESSAGE_FIELD(struct mapped, number, 2, MESSAGE_INT64));

static void maps(void **state)
{
	static const struct message_pair pairs[] = { { { (const uint8_t *)"a", 1 }, { (const uint8_t *)"1", 1 } },
						     { { (const uint8_t *)"b", 1 }, { 0 } },
						     { { (const uint8_t *)"a", 1 }, { (const uint8_t *)"2", 1 } } };
	struct buffer elements = buffer_heap(4096), bytes = buffer_heap(4096);
	struct message_cursor cursor = { 0 };
	struct mapped in = { .number = -5 }, out;
	struct message_pair pair;
	struct span value;

	for (size_t i = 0; i < 3; i++)
		message_put_pair(&elements, 1, &pairs[i]);
	in.map.message = buffer_span(&elements);
	message_encode(&mapped_type, &bytes, &in);
	assert_true(message_decode(&mapped_type, buffer_span(&bytes), &out));
	assert_true(out.number == -5);
	assert_int_equal(out.map.count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(message_map_next(&out.map, &cursor, &pair));
		assert_true(span_equal(pair.key, pairs[i].key));
		assert_true(span_equal(pair.value, pairs[i].value));
	}
	assert_false(message_map_next(&out.map, &cursor, &pair));
	assert_true(message_map_find(&out.map, "a", &value));
	assert_true(span_is(value, "2"));
	assert_true(message_map_find(&out.map, "b", &value));
	assert_int_equal(value.size, 0);
	assert_false(message_map_find(&out.map, "c", &value));
	assert_false(message_map_find(&(struct message_list){ 0 }, "a", &value));
	buffer_fini(&elements);
	buffer_fini(&bytes);
}

static void malformed_pairs(void **state)
{
	const uint8_t name[] = { 0x0a, 2, 0x08, 1 }, value[] = { 0x0a, 2, 0x10, 1 }, cut[] = { 0x0a, 2, 0x0a, 5 };
	const uint8_t number[] = { 0x08, 1 };
	struct mapped out;

	assert_false(message_decode(&mapped_type, span_make(name, sizeof(name)), &out));
	assert_false(message_decode(&mapped_type, span_make(value, sizeof(value)), &out));
	assert_false(message_decode(&mapped_type, span_make(cut, sizeof(cut)), &out));
	assert_false(message_decode(&mapped_type, span_make(number, sizeof(number)), &out));
}

/* A repeated enum comes packed, or value by value, or both; what is no set of ours is none of the bits. */
static void sets_come_packed_or_not(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		uint32_t set;
	} good[] = {
		{ "\x1a\x01\x01", 3, 2 }, { "\x18\x01", 2, 2 }, { "\x18\x00\x18\x03", 4, 9 }, { "\x1a\x02\x00\x01\x18\x1f", 6, 0x80000003 },
		{ "\x1a\x00", 2, 0 }, { "\x18\x20", 2, 0 }, { "\x1a\x03\x80\x02\x01", 5, 2 },
	};
	static const struct span bad[] = { { (const uint8_t *)"\x1a\x01\x80", 3 }, { (const uint8_t *)"\x1d\0\0\0\0", 5 } };
	struct reapi_batch_read_request in = { .compressors = 3 }, out;
	struct buffer bytes = buffer_heap(4096);

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(message_decode(&reapi_batch_read_request_type, span_make(good[i].bytes, good[i].size), &out));
		assert_int_equal(out.compressors, good[i].set);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(message_decode(&reapi_batch_read_request_type, bad[i], &out));
	message_encode(&reapi_batch_read_request_type, &bytes, &in);
	assert_int_equal(bytes.size, 4);
	assert_memory_equal(bytes.data, "\x1a\x02\x00\x01", 4);
	buffer_fini(&bytes);
}

static void digests_are_checked(void **state)
{
	struct reapi_execute_request in = { .action_digest = digest_empty }, out;
	struct buffer bytes = buffer_heap(4096);

	message_encode(&reapi_execute_request_type, &bytes, &in);
	assert_true(message_decode(&reapi_execute_request_type, buffer_span(&bytes), &out));
	assert_true(digest_equal(&out.action_digest, &digest_empty));
	bytes.data[6] = 'G';                                      /* no hex digit */
	assert_false(message_decode(&reapi_execute_request_type, buffer_span(&bytes), &out));
	buffer_fini(&bytes);
}

static void digest_lists(void **state)
{
	struct buffer list = buffer_heap(1 << 20);
	struct digest digest = { .size = 300 }, out;
	struct span rest;

	digest.hash[31] = 7;
	digest_list_put(&list, &digest);
	digest_list_put(&list, &digest_empty);
	assert_int_equal(list.size, 32 + 2 + 32 + 1);
	assert_int_equal(digest_list_count(buffer_span(&list)), 2);
	for (size_t cut = 1; cut < list.size; cut++)
		if (cut != 34)
			assert_true(digest_list_count(span_make(list.data, cut)) == SIZE_MAX);
	rest = buffer_span(&list);
	assert_true(digest_list_next(&rest, &out));
	assert_true(digest_equal(&out, &digest));
	for (size_t i = 2; i < SLUICE_LIST_MAX; i++)
		digest_list_put(&list, &digest_empty);
	assert_int_equal(digest_list_count(buffer_span(&list)), SLUICE_LIST_MAX);
	digest_list_put(&list, &digest_empty);
	assert_true(digest_list_count(buffer_span(&list)) == SIZE_MAX);
	buffer_fini(&list);
}

static void bit_lists(void **state)
{
	bool bits[20] = { [0] = true, [9] = true };
	struct buffer bytes = buffer_heap(4096);
	struct push_answer answer;

	bit_list_put(&bytes, 1, bits, 20);
	assert_true(message_decode(&push_answer_type, buffer_span(&bytes), &answer));
	assert_int_equal(answer.present.size, 2);
	for (size_t i = 0; i < 30; i++)
		assert_int_equal(bit_list_get(answer.present, i), i < 20 && bits[i]);
	buffer_fini(&bytes);
}

static void packs(void **state)
{
	struct buffer bytes = buffer_heap(4096);
	struct packed_blob blob;
	bool failed = false;
	struct span rest;

	pack_put(&bytes, &digest_empty, span_text(""));
	pack_put(&bytes, &digest_empty, span_text("abc"));
	rest = buffer_span(&bytes);
	assert_true(pack_next(&rest, &blob, &failed));
	assert_true(digest_equal(&blob.digest, &digest_empty));
	assert_true(pack_next(&rest, &blob, &failed));
	assert_true(span_is(blob.data, "abc"));
	assert_false(pack_next(&rest, &blob, &failed));
	assert_false(failed);
	rest = span_make(bytes.data, bytes.size - 1);
	assert_true(pack_next(&rest, &blob, &failed));
	assert_false(pack_next(&rest, &blob, &failed));
	assert_true(failed);
	buffer_fini(&bytes);
}

/* Blobs and deltas stand among each other, and each walk sees its own. */
static void packs_with_deltas(void **state)
{
	struct digest bases[SLUICE_BASES_MAX + 1];
	struct buffer bytes = buffer_heap(4096), list = buffer_heap(4096);
	struct packed_delta delta;
	struct packed_blob blob;
	bool failed = false;
	struct span rest;
	size_t mark;

	for (size_t i = 0; i < SLUICE_BASES_MAX + 1; i++)
		bases[i] = (struct digest){ .hash = { (uint8_t)i }, .size = 1000 * i };
	delta_put(&bytes, &bases[1], bases, 1, span_text("edits"));
	pack_put(&bytes, &digest_empty, span_text("abc"));
	delta_put(&bytes, &bases[2], bases, SLUICE_BASES_MAX, span_text(""));
	rest = buffer_span(&bytes);
	assert_true(delta_next(&rest, &delta, &failed));
	assert_true(digest_equal(&delta.digest, &bases[1]));
	assert_int_equal(delta.bases_bytes, 0);
	assert_true(span_is(delta.edits, "edits"));
	assert_true(delta_next(&rest, &delta, &failed));
	assert_int_equal(delta.bases_bytes, 6000);
	assert_int_equal(delta.edits.size, 0);
	assert_false(delta_next(&rest, &delta, &failed));
	assert_false(failed);
	rest = buffer_span(&bytes);
	assert_true(pack_next(&rest, &blob, &failed));
	assert_true(span_is(blob.data, "abc"));
	assert_false(pack_next(&rest, &blob, &failed));
	assert_false(failed);

	/* No base, too many, too long, cut short. */
	for (size_t count = 0; count <= SLUICE_BASES_MAX + 1; count++) {
		buffer_clear(&bytes);
		buffer_clear(&list);
		digest_list_put(&list, &bases[0]);
		mark = pb_begin(&bytes, 2);
		pb_put_bytes(&bytes, 1, buffer_span(&list));
		buffer_clear(&list);
		for (size_t i = 0; i < count; i++)
			digest_list_put(&list, &bases[i]);
		pb_put_bytes(&bytes, 2, span_make(list.data, list.size));
		pb_end(&bytes, mark);
		rest = buffer_span(&bytes);
		assert_int_equal(delta_next(&rest, &delta, &failed), count >= 1 && count <= SLUICE_BASES_MAX);
		assert_int_equal(failed, count == 0 || count > SLUICE_BASES_MAX);
	}
	bases[1].size = SLUICE_BASES_BYTES;
	for (uint64_t more = 0; more < 2; more++) {
		buffer_clear(&bytes);
		bases[0].size = more;
		delta_put(&bytes, &bases[2], bases, 2, span_text("x"));
		rest = buffer_span(&bytes);
		assert_int_equal(delta_next(&rest, &delta, &failed), more == 0);
	}
	rest = span_make(bytes.data, bytes.size - 1);
	assert_false(delta_next(&rest, &delta, &failed));
	assert_true(failed);
	buffer_fini(&bytes);
	buffer_fini(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packs_with_deltas),
		cmocka_unit_test(known_bytes),
		cmocka_unit_test(builds_are_numbered_as_documented),
		cmocka_unit_test(negative_exit_code_survives),
		cmocka_unit_test(unknown_fields_are_skipped),
		cmocka_unit_test(wrong_wire_type_is_malformed),
		cmocka_unit_test(lists_walk_only_their_field),
		cmocka_unit_test(maps),
		cmocka_unit_test(malformed_pairs),
		cmocka_unit_test(sets_come_packed_or_not),
		cmocka_unit_test(digests_are_checked),
		cmocka_unit_test(digest_lists),
		cmocka_unit_test(bit_lists),
		cmocka_unit_test(packs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
