/*
 * Shows gRPC's wire rules by table: message prefixes in every split, time-outs both ways, percent-encoding, status
 * codes, and which requests are gRPC at all.
 */
#include "proto/grpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

#define HEADER(n, v) { .name = { (const uint8_t *)(n), sizeof(n) - 1 }, .value = { (const uint8_t *)(v), sizeof(v) - 1 } }

static void test_reader_in_every_split(void **state)
{
	struct buffer wire = buffer_heap(1 << 20);
	static const char *const messages[] = { "hello", "", "w", "a somewhat longer message" };
	uint8_t prefix[GRPC_PREFIX_BYTES];

	for (size_t i = 0; i < 4; i++) {
		grpc_prefix(prefix, i == 2, (uint32_t)strlen(messages[i]));
		buffer_put(&wire, prefix, sizeof(prefix));
		buffer_put_text(&wire, messages[i]);
	}
	for (size_t step = 1; step <= wire.size; step++) {
		struct grpc_reader reader;
		size_t count = 0;

		grpc_reader_init(&reader, 100);
		for (size_t at = 0; at < wire.size; at += step) {
			struct span data = span_make(wire.data + at, wire.size - at < step ? wire.size - at : step);

			while (data.size) {
				struct span message;
				bool compressed;
				enum grpc_read read = grpc_reader_feed(&reader, &data, &message, &compressed);

				if (read == GRPC_READ_MORE) {
					assert_int_equal(data.size, 0);
					continue;
				}
				assert_int_equal(read, GRPC_READ_MESSAGE);
				assert_true(span_is(message, messages[count]));
				assert_int_equal(compressed, count == 2);
				assert_true(grpc_reader_idle(&reader));
				count++;
			}
		}
		assert_int_equal(count, 4);
		grpc_reader_fini(&reader);
	}
	buffer_fini(&wire);
}

static enum grpc_read read_prefix(const char *bytes, size_t size)
{
	struct grpc_reader reader;
	struct span data = span_make(bytes, size), message;
	bool compressed;
	enum grpc_read read;

	grpc_reader_init(&reader, 100);
	read = grpc_reader_feed(&reader, &data, &message, &compressed);
	assert_int_equal(grpc_reader_idle(&reader), read == GRPC_READ_MESSAGE || size == 0);
	assert_true(reader.body.capacity <= 100);
	grpc_reader_fini(&reader);
	return read;
}

static void test_reader_refuses(void **state)
{
	assert_int_equal(read_prefix("\0\0\0\0\x64", 5), GRPC_READ_MORE);
	assert_int_equal(read_prefix("\0\0\0\0\x65", 5), GRPC_READ_TOO_LARGE);
	assert_int_equal(read_prefix("\0\xff\xff\xff\xff", 5), GRPC_READ_TOO_LARGE);
	assert_int_equal(read_prefix("\2\0\0\0\0", 5), GRPC_READ_BAD_FLAG);
	assert_int_equal(read_prefix("\xff\0\0\0\0", 5), GRPC_READ_BAD_FLAG);
	assert_int_equal(read_prefix("\0\0\0\0\0", 5), GRPC_READ_MESSAGE);
	assert_int_equal(read_prefix("\0\0\0\0", 4), GRPC_READ_MORE);
	assert_int_equal(read_prefix("", 0), GRPC_READ_MORE);
}

static void test_timeouts(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t ns;
	} cases[] = {
		{ "1n", true, 1 }, { "100m", true, 100000000 }, { "5u", true, 5000 }, { "2S", true, 2000000000 },
		{ "3M", true, 180000000000 }, { "1H", true, 3600000000000 }, { "0S", true, 0 }, { "00000001S", true, 1000000000 },
		{ "99999999H", true, UINT64_MAX }, { "99999999S", true, 99999999000000000 },
		{ "", false, 0 }, { "S", false, 0 }, { "1", false, 0 }, { "1s", false, 0 }, { "1h", false, 0 },
		{ "123456789S", false, 0 }, { "-1S", false, 0 }, { "+1S", false, 0 }, { " 1S", false, 0 }, { "1 S", false, 0 },
		{ "1.5S", false, 0 }, { "1SS", false, 0 }, { "0x1S", false, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t ns = 77;

		if (grpc_timeout_parse(span_text(cases[i].text), &ns) != cases[i].ok || (cases[i].ok && ns != cases[i].ns))
			fail_msg("\"%s\" gave %llu", cases[i].text, (unsigned long long)ns);
		if (!cases[i].ok)
			assert_int_equal(ns, 77);
	}
}

/* What is sent reads back as the same or, for want of digits, as a little more; never as less. */
static void test_timeout_round_trip(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {
		{ 0, "0n" }, { 1, "1n" }, { 99999999, "99999999n" }, { 100000000, "100000u" }, { 100000001, "100001u" },
		{ 1500000000, "1500000u" }, { 3600000000000, "3600000m" }, { UINT64_MAX, "5124096H" },
	};
	char text[16];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = grpc_timeout_format(cases[i].ns, text);

		assert_string_equal(text, cases[i].text);
		assert_int_equal(size, strlen(text));
	}
	for (uint64_t ns = 1; ns < UINT64_MAX / 3; ns = ns * 3 + 1) {
		uint64_t read;
		size_t size = grpc_timeout_format(ns, text);

		assert_true(grpc_timeout_parse(span_make(text, size), &read));
		assert_true(read >= ns);
		assert_true(read - ns <= ns / 10000 + 1);
	}
}

static void test_message_encoding(void **state)
{
	static const struct {
		const char *plain, *wire;
	} cases[] = {
		{ "", "" }, { "plain text ~", "plain text ~" }, { "100%", "100%25" }, { "\n", "%0A" },
		{ "\xc3\xa9", "%C3%A9" }, { "\x7f\x1f", "%7F%1F" },
	};
	static const struct {
		const char *wire, *plain;
	} odd[] = { { "%", "%" }, { "%4", "%4" }, { "%zz", "%zz" }, { "a%", "a%" }, { "%c3%a9", "\xc3\xa9" }, { "%%41", "%A" } };
	uint8_t storage[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer buffer = buffer_over(storage, sizeof(storage));

		grpc_message_encode(&buffer, span_text(cases[i].plain));
		assert_true(span_is(buffer_span(&buffer), cases[i].wire));
		buffer_clear(&buffer);
		grpc_message_decode(&buffer, span_text(cases[i].wire));
		assert_true(span_is(buffer_span(&buffer), cases[i].plain));
	}
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		struct buffer buffer = buffer_over(storage, sizeof(storage));

		grpc_message_decode(&buffer, span_text(odd[i].wire));
		assert_true(span_is(buffer_span(&buffer), odd[i].plain));
	}
}

/* A full buffer cuts between characters of the encoding, never inside one. */
static void test_message_encoding_is_cut(void **state)
{
	uint8_t storage[7];
	struct buffer buffer = buffer_over(storage, sizeof(storage));

	grpc_message_encode(&buffer, span_text("a%%%b"));
	assert_true(span_is(buffer_span(&buffer), "a%25%25"));
}

static void test_status(void **state)
{
	assert_string_equal(grpc_status_name(GRPC_OK), "OK");
	assert_string_equal(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
	assert_string_equal(grpc_status_name(17), "UNKNOWN");
	assert_string_equal(grpc_status_name((enum grpc_status)-1), "UNKNOWN");
	assert_int_equal(grpc_status_from_h2(0), GRPC_INTERNAL);
	assert_int_equal(grpc_status_from_h2(7), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_from_h2(8), GRPC_CANCELLED);
	assert_int_equal(grpc_status_from_h2(11), GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(grpc_status_from_h2(12), GRPC_PERMISSION_DENIED);
	assert_int_equal(grpc_status_from_h2(H2_CARRIER_CLOSED), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_status_from_h2(0xffffffff), GRPC_INTERNAL);
}

static bool parse(struct grpc_request *request, const char *method, const struct header *headers, size_t count)
{
	const struct h2_request head = { .method = span_text(method), .path = span_text("/s/m"),
		                         .authority = span_text("a"), .headers = headers, .headers_count = count };

	return grpc_request_parse(request, &head);
}

static void test_requests(void **state)
{
	static const struct {
		const char *type;
		bool ok;
	} types[] = {
		{ "application/grpc", true }, { "application/grpc+proto", true }, { "application/grpc;charset=x", true },
		{ "application/grpc-web", false }, { "application/grp", false }, { "text/plain", false }, { "", false },
		{ "application/json", false }, { "application/gr+c+proto", false },
	};
	const struct header full[] = {
		HEADER("content-type", "application/grpc"), HEADER("grpc-timeout", "1S"), HEADER("grpc-encoding", "zstd"),
		HEADER("grpc-accept-encoding", "identity, deflate ,zstd"), HEADER("authorization", "Bearer t"),
	};
	const struct header strange[] = {
		HEADER("content-type", "application/grpc"), HEADER("grpc-timeout", "soon"), HEADER("grpc-encoding", "gzip"),
		HEADER("grpc-accept-encoding", "xzstd,zstdx,"),
	};
	struct grpc_request request;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		const struct header header = { .name = span_text("content-type"), .value = span_text(types[i].type) };

		assert_int_equal(parse(&request, "POST", &header, 1), types[i].ok);
	}
	assert_false(parse(&request, "GET", full, 5));
	assert_false(parse(&request, "POST", full + 1, 4));
	assert_true(parse(&request, "POST", full, 5));
	assert_true(request.sends_zstd && request.accepts_zstd && !request.unknown_compressor);
	assert_int_equal(request.timeout_ns, 1000000000);
	assert_true(span_is(request.authorization, "Bearer t"));
	assert_true(span_is(request.path, "/s/m"));
	assert_true(parse(&request, "POST", strange, 4));
	assert_true(request.unknown_compressor && !request.sends_zstd && !request.accepts_zstd);
	assert_int_equal(request.timeout_ns, 0);
}

static void test_status_numbers(void **state)
{
	static const struct {
		const char *text;
		enum grpc_status status;
	} rows[] = {
		{ "0", GRPC_OK }, { "00", GRPC_OK }, { "5", GRPC_NOT_FOUND }, { "05", GRPC_NOT_FOUND }, { "10", GRPC_ABORTED },
		{ "16", GRPC_UNAUTHENTICATED }, { "17", GRPC_UNKNOWN }, { "99", GRPC_UNKNOWN }, { "", GRPC_UNKNOWN },
		{ "000", GRPC_UNKNOWN }, { "1x", GRPC_UNKNOWN }, { "/", GRPC_UNKNOWN }, { "0:", GRPC_UNKNOWN }, { " 0", GRPC_UNKNOWN },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(grpc_status_parse(span_text(rows[i].text)), rows[i].status);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_numbers),
		cmocka_unit_test(test_reader_in_every_split),
		cmocka_unit_test(test_reader_refuses),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_timeout_round_trip),
		cmocka_unit_test(test_message_encoding),
		cmocka_unit_test(test_message_encoding_is_cut),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
