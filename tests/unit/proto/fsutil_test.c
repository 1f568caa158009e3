/*
 * Shows that Packets and Stats are read and written as fsutil does: every packet in the table below was made by
 * fsutil's own Go types (as buildkit v0.32.2 requires it), MarshalVT, and is both decoded and written again byte for
 * byte. Then each refusal, every place where a message may be cut, and the order and form of paths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/fsutil.h"
#include "proto/pb.h"
#include "tests/unit/proto/hex.h"

#define PACKET_STAT_FILE                                                                                               \
	"122d0a086469722f66696c6510a40318e807206428f0a20430959a97ece39fe7cb17520b0a06757365722e61120176"
#define PACKET_STAT_DIRECTORY "12160a0364697210ed8380800830ffffffffffffffffff01"
#define PACKET_STAT_SYMLINK   "12120a016c10ff8380403a086469722f66696c65"
#define PACKET_STAT_DEVICE    "120d0a016e1080838021400148ac02"
#define PACKET_STAT_EMPTY     "1200"
#define PACKET_STAT_END       ""
#define PACKET_REQ            "080118ac02"
#define PACKET_REQ_FIRST      "0801"
#define PACKET_DATA           "080218ac02220568656c6c6f"
#define PACKET_DATA_END       "080218ac02"
#define PACKET_FIN            "0803"
#define PACKET_ERR            "080422026e6f"

static const char *const packets[] = {
	PACKET_STAT_FILE, PACKET_STAT_DIRECTORY, PACKET_STAT_SYMLINK, PACKET_STAT_DEVICE, PACKET_STAT_EMPTY,
	PACKET_STAT_END,  PACKET_REQ,            PACKET_REQ_FIRST,    PACKET_DATA,        PACKET_DATA_END,
	PACKET_FIN,       PACKET_ERR,
};

static struct fsutil_packet decode(const struct buffer *bytes)
{
	struct fsutil_packet packet;

	assert_true(fsutil_packet_decode(buffer_span(bytes), &packet));
	return packet;
}

static void packets_without_a_stat(void **state)
{
	static const struct {
		const char *hex;
		uint32_t type, id;
		const char *data;
	} cases[] = {
		{ PACKET_STAT_END, FSUTIL_STAT, 0, "" },    { PACKET_REQ, FSUTIL_REQ, 300, "" },
		{ PACKET_REQ_FIRST, FSUTIL_REQ, 0, "" },    { PACKET_DATA, FSUTIL_DATA, 300, "hello" },
		{ PACKET_DATA_END, FSUTIL_DATA, 300, "" },  { PACKET_FIN, FSUTIL_FIN, 0, "" },
		{ PACKET_ERR, FSUTIL_ERR, 0, "no" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i].hex);
		struct fsutil_packet packet = decode(&bytes);

		assert_int_equal(packet.type, cases[i].type);
		assert_int_equal(packet.id, cases[i].id);
		assert_true(span_is(packet.data, cases[i].data));
		assert_false(packet.has_stat);
		buffer_fini(&bytes);
	}
}

/* The data of a DATA packet is where it was received. */
static void nothing_is_copied(void **state)
{
	struct buffer bytes = from_hex(PACKET_DATA);

	assert_ptr_equal(decode(&bytes).data.data, bytes.data + bytes.size - 5);
	buffer_fini(&bytes);
}

static void a_file(void **state)
{
	struct buffer bytes = from_hex(PACKET_STAT_FILE);
	struct fsutil_packet packet = decode(&bytes);
	struct message_cursor cursor = { 0 };
	struct message_pair xattr;
	struct fsutil_stat stat;

	assert_int_equal(packet.type, FSUTIL_STAT);
	assert_true(packet.has_stat);
	assert_true(fsutil_stat_decode(packet.stat, &stat));
	assert_true(span_is(stat.path, "dir/file"));
	assert_int_equal(stat.mode, 0644);
	assert_int_equal(stat.uid, 1000);
	assert_int_equal(stat.gid, 100);
	assert_int_equal(stat.size, 70000);
	assert_true(stat.mod_time_ns == 1700000000123456789);
	assert_int_equal(stat.linkname.size, 0);
	assert_int_equal(stat.xattrs.count, 1);
	assert_true(message_map_next(&stat.xattrs, &cursor, &xattr));
	assert_true(span_is(xattr.key, "user.a"));
	assert_true(span_is(xattr.value, "v"));
	assert_false(message_map_next(&stat.xattrs, &cursor, &xattr));
	assert_true(fsutil_stat_is_regular(&stat));
	assert_true(fsutil_stat_has_data(&stat));
	buffer_fini(&bytes);
}

static void other_entries(void **state)
{
	struct buffer bytes[] = { from_hex(PACKET_STAT_DIRECTORY), from_hex(PACKET_STAT_SYMLINK),
				  from_hex(PACKET_STAT_DEVICE), from_hex(PACKET_STAT_EMPTY) };
	struct fsutil_stat stats[4];

	for (size_t i = 0; i < 4; i++) {
		struct fsutil_packet packet = decode(&bytes[i]);

		assert_true(packet.has_stat);
		assert_true(fsutil_stat_decode(packet.stat, &stats[i]));
		assert_int_equal(fsutil_stat_is_regular(&stats[i]), i == 3);
	}
	assert_true(stats[0].mode == (FSUTIL_MODE_DIRECTORY | 0755));
	assert_true(stats[0].mod_time_ns == -1);
	assert_true(stats[1].mode == (FSUTIL_MODE_SYMLINK | 0777));
	assert_true(span_is(stats[1].linkname, "dir/file"));
	assert_true(stats[2].mode == (FSUTIL_MODE_DEVICE | FSUTIL_MODE_CHARACTER | 0600));
	assert_int_equal(stats[2].device_major, 1);
	assert_int_equal(stats[2].device_minor, 300);
	assert_int_equal(stats[3].path.size, 0);
	for (size_t i = 0; i < 4; i++)
		buffer_fini(&bytes[i]);
}

/* Go's ModeType, and which entries may be asked for. */
static void what_is_regular(void **state)
{
	static const uint32_t types[] = { FSUTIL_MODE_DIRECTORY, FSUTIL_MODE_SYMLINK,   FSUTIL_MODE_DEVICE,
					  FSUTIL_MODE_FIFO,      FSUTIL_MODE_SOCKET,    FSUTIL_MODE_CHARACTER,
					  FSUTIL_MODE_IRREGULAR };
	struct fsutil_stat stat = { .mode = FSUTIL_MODE_SETUID | FSUTIL_MODE_SETGID | FSUTIL_MODE_STICKY | 0777 };

	assert_true(FSUTIL_MODE_TYPE == 0x8f280000u);
	assert_true(fsutil_stat_has_data(&stat));
	stat.linkname = span_text("first");
	assert_true(fsutil_stat_is_regular(&stat));
	assert_false(fsutil_stat_has_data(&stat));
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_false(fsutil_stat_is_regular(&(struct fsutil_stat){ .mode = types[i] | 0644 }));
}

static void written_as_fsutil_does(void **state)
{
	uint8_t out[FSUTIL_HEAD_BYTES_MAX];
	struct buffer stat_packet = from_hex(PACKET_STAT_FILE);

	assert_hex(span_make(out, fsutil_write_req(out, 300)), PACKET_REQ);
	assert_hex(span_make(out, fsutil_write_req(out, 0)), PACKET_REQ_FIRST);
	assert_hex(span_make(out, fsutil_write_fin(out)), PACKET_FIN);
	assert_hex(span_make(out, fsutil_write_data_end(out, 300)), PACKET_DATA_END);
	assert_hex(span_make(out, fsutil_write_data_head(out, 300, 5)), "080218ac022205");
	assert_hex(span_make(out, fsutil_write_error_head(out, 2)), "08042202");
	assert_hex(span_make(out, fsutil_write_stat_head(out, stat_packet.size - 2)), "122d");
	buffer_fini(&stat_packet);
}

static void the_longest_heads_fit(void **state)
{
	uint8_t out[FSUTIL_HEAD_BYTES_MAX];

	assert_int_equal(fsutil_write_req(out, UINT32_MAX), 2 + 6);
	assert_int_equal(fsutil_write_data_head(out, UINT32_MAX, UINT32_MAX), 2 + 6 + 6);
	assert_int_equal(fsutil_write_error_head(out, UINT32_MAX), 2 + 6);
	assert_int_equal(fsutil_write_stat_head(out, UINT32_MAX), 6);
}

static void stats_are_written_as_fsutil_does(void **state)
{
	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		struct buffer bytes = from_hex(packets[i]), again = buffer_heap(4096);
		struct fsutil_packet packet = decode(&bytes);
		struct fsutil_stat stat;

		if (packet.has_stat) {
			assert_true(fsutil_stat_decode(packet.stat, &stat));
			fsutil_stat_put(&again, &stat);
			assert_int_equal(again.size, packet.stat.size);
			assert_true(span_equal(buffer_span(&again), packet.stat));
		}
		buffer_fini(&again);
		buffer_fini(&bytes);
	}
}

static void many_xattrs(void **state)
{
	struct buffer elements = buffer_heap(4096), bytes = buffer_heap(4096);
	struct fsutil_stat stat = { .path = span_text("f"), .xattrs = { .number = FSUTIL_STAT_FIELD_XATTRS } }, out;
	static const char *const names[] = { "user.a", "user.b", "" };
	struct message_cursor cursor = { 0 };
	struct message_pair xattr;

	for (size_t i = 0; i < 3; i++) {
		xattr = (struct message_pair){ span_text(names[i]), span_text(names[2 - i]) };
		message_put_pair(&elements, FSUTIL_STAT_FIELD_XATTRS, &xattr);
		stat.xattrs.count++;
	}
	stat.xattrs.message = buffer_span(&elements);
	fsutil_stat_put(&bytes, &stat);
	assert_true(fsutil_stat_decode(buffer_span(&bytes), &out));
	assert_int_equal(out.xattrs.count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(message_map_next(&out.xattrs, &cursor, &xattr));
		assert_true(span_is(xattr.key, names[i]));
		assert_true(span_is(xattr.value, names[2 - i]));
	}
	assert_false(message_map_next(&out.xattrs, &cursor, &xattr));
	buffer_fini(&elements);
	buffer_fini(&bytes);
}

static void readers_differ_on_two_stats(void **state)
{
	struct buffer twice = from_hex(PACKET_STAT_EMPTY PACKET_STAT_EMPTY);
	struct fsutil_packet packet;

	assert_false(fsutil_packet_decode(buffer_span(&twice), &packet));
	buffer_fini(&twice);
}

static void the_last_scalar_counts(void **state)
{
	struct buffer bytes = from_hex("0801" "0802" "1801" "1805" "220161" "220162");
	struct fsutil_packet packet = decode(&bytes);

	assert_int_equal(packet.type, FSUTIL_DATA);
	assert_int_equal(packet.id, 5);
	assert_true(span_is(packet.data, "b"));
	buffer_fini(&bytes);
}

static void unknown_things_are_left_alone(void **state)
{
	struct buffer field = from_hex("0803" "7a0161" "f80705"), type = from_hex("0809");
	struct buffer stat_bytes = from_hex("0a0161" "7a0161");
	struct fsutil_stat stat;

	assert_int_equal(decode(&field).type, FSUTIL_FIN);
	assert_int_equal(decode(&type).type, 9);
	assert_true(fsutil_stat_decode(buffer_span(&stat_bytes), &stat));
	assert_true(span_is(stat.path, "a"));
	buffer_fini(&field);
	buffer_fini(&type);
	buffer_fini(&stat_bytes);
}

static void refused_packets(void **state)
{
	static const char *const cases[] = {
		"0a00",                          /* type as bytes */
		"1001",                          /* stat as a number */
		"1a00",                          /* id as bytes */
		"2001",                          /* data as a number */
		"22056162",                      /* data beyond the end */
		"08",                            /* a field without a value */
		"08ffffffffffffffffff02",        /* more than 64 bits */
		"0001",                          /* field number 0 */
		"0b0c",                          /* a group */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i]);
		struct fsutil_packet packet;

		assert_false(fsutil_packet_decode(buffer_span(&bytes), &packet));
		buffer_fini(&bytes);
	}
}

static void refused_stats(void **state)
{
	static const char *const cases[] = {
		"0801", "1200", "1a00", "2200", "2a00", "3200", "3801", "4200", "4a00", "5001", /* wrong wire types */
		"0a056162",                      /* path beyond the end */
		"5203" "0a0561",                 /* an xattr's name beyond its entry */
		"5202" "0801",                   /* an xattr's name as a number */
		"5202" "1001",                   /* an xattr's value as a number */
		"5205" "0a",                     /* an entry beyond the end */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i]);
		struct fsutil_stat stat;

		assert_false(fsutil_stat_decode(buffer_span(&bytes), &stat));
		buffer_fini(&bytes);
	}
}

/* Cut between two fields it is a shorter message; anywhere else it is refused. */
static void every_cut(void **state)
{
	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		struct buffer whole = from_hex(packets[i]);

		for (size_t cut = 0; cut < whole.size; cut++) {
			uint8_t *exact = malloc(cut ? cut : 1);
			struct pb_reader reader;
			struct pb_field field;
			struct fsutil_packet packet;

			memcpy(exact, whole.data, cut);
			reader = pb_reader_make(span_make(exact, cut));
			while (pb_next(&reader, &field))
				;
			assert_int_equal(fsutil_packet_decode(span_make(exact, cut), &packet), !reader.failed);
			free(exact);
		}
		buffer_fini(&whole);
	}
}

/* Content may be passed on as it comes, once the head is there whole; and only what is content in the whole message, too. */
static void content_that_begins(void **state)
{
	static const uint32_t ids[] = { 0, 1, 127, 128, 300, UINT32_MAX };
	static const size_t sizes[] = { 1, 127, 128, FSUTIL_DATA_BYTES_MAX };

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]) * sizeof(sizes) / sizeof(sizes[0]); i++) {
		const uint32_t id = ids[i % (sizeof(ids) / sizeof(ids[0]))];
		const size_t bytes = sizes[i / (sizeof(ids) / sizeof(ids[0]))];
		uint8_t *message = calloc(1, FSUTIL_HEAD_BYTES_MAX + bytes);
		size_t head = fsutil_write_data_head(message, id, bytes), size = head + bytes;

		for (size_t cut = 0; cut <= size; cut += cut < head + 3 || cut >= size - 3 ? 1 : 61) {
			struct span data;
			uint32_t read;
			uint8_t *exact = malloc(cut ? cut : 1);

			memcpy(exact, message, cut);
			assert_int_equal(fsutil_data_begins(span_make(exact, cut), size - cut, &read, &data), cut >= head);
			if (cut >= head)
				assert_true(read == id && data.data == exact + head && data.size == cut - head);
			/* Another length than the message has: more follows its content, or less. */
			assert_false(fsutil_data_begins(span_make(exact, cut), size - cut + 1, &read, &data));
			assert_false(cut < size && fsutil_data_begins(span_make(exact, cut), size - cut - 1, &read, &data));
			free(exact);
		}
		free(message);
	}
}

static void no_content_begins(void **state)
{
	static const char *const others[] = {
		PACKET_STAT_FILE, PACKET_STAT_END, PACKET_REQ, PACKET_DATA_END, PACKET_FIN, PACKET_ERR,
		"08021801" "2200",                       /* the end, told at length */
		"18ac02" "0802" "220568656c6c6f",        /* another order */
		"0802" "18ac02" "18ac02" "220568656c6c6f",
		"0802" "18ffffffff10" "220161",          /* an id that is longer than it may be */
		"0802" "18ffffffffff00" "220161",
		"0803" "18ac02" "220568656c6c6f",        /* content of what is none */
		"0802" "18ac02" "2a0568656c6c6f",
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct buffer message = from_hex(others[i]);
		struct span data;
		uint32_t id;

		for (size_t cut = 0; cut <= message.size; cut++)
			if (fsutil_data_begins(span_make(message.data, cut), message.size - cut, &id, &data))
				fail_msg("%s at %zu", others[i], cut);
		buffer_fini(&message);
	}
}

static void clean_paths(void **state)
{
	static const char *const clean[] = { "a", "a/b", ".a", "..a/b..", "a/.../b", "a b/\xff" };
	static const char *const unclean[] = { "",     "/",    "/a",   "a/",    "a//b", ".",     "..",
					       "../a", "a/..", "./a",  "a/./b", "a/.",  "a/../b" };

	for (size_t i = 0; i < sizeof(clean) / sizeof(clean[0]); i++)
		assert_true(fsutil_path_is_clean(span_text(clean[i])));
	for (size_t i = 0; i < sizeof(unclean) / sizeof(unclean[0]); i++)
		assert_false(fsutil_path_is_clean(span_text(unclean[i])));
	assert_false(fsutil_path_is_clean(span_make("a\0b", 3)));
}

static void the_order_of_paths(void **state)
{
	static const char *const sorted[] = { "",    "a",   "a/a", "a/a/z", "a/b", "a\x01",
					      "a b", "a-b", "ab",  "b",     "\xff" };
	size_t count = sizeof(sorted) / sizeof(sorted[0]);

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			int order = fsutil_path_compare(span_text(sorted[i]), span_text(sorted[j]));

			assert_int_equal(order, (i > j) - (i < j));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_without_a_stat),
		cmocka_unit_test(nothing_is_copied),
		cmocka_unit_test(a_file),
		cmocka_unit_test(other_entries),
		cmocka_unit_test(what_is_regular),
		cmocka_unit_test(written_as_fsutil_does),
		cmocka_unit_test(the_longest_heads_fit),
		cmocka_unit_test(stats_are_written_as_fsutil_does),
		cmocka_unit_test(many_xattrs),
		cmocka_unit_test(readers_differ_on_two_stats),
		cmocka_unit_test(the_last_scalar_counts),
		cmocka_unit_test(unknown_things_are_left_alone),
		cmocka_unit_test(refused_packets),
		cmocka_unit_test(refused_stats),
		cmocka_unit_test(every_cut),
		cmocka_unit_test(content_that_begins),
		cmocka_unit_test(no_content_begins),
		cmocka_unit_test(clean_paths),
		cmocka_unit_test(the_order_of_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
