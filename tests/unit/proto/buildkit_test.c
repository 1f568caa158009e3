/*
 * Shows that BytesMessage and the smaller messages of BuildKit are read as its daemon writes them: the hex below was
 * made by BuildKit v0.32.2's own Go types, MarshalVT. Then what is refused, and that usage records get a prefix and
 * keep the rest, what is not known included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/buildkit.h"
#include "proto/pb.h"
#include "tests/unit/proto/hex.h"

#define WORKERS                                                                                                        \
	"0a540a02773112070a026f731201781a0e0a05616d64363412056c696e75781a160a0361726d12056c696e75781a02763722"         \
	"01312a0166220208012a140a0170120776302e33322e321a01722203312e3232030a0164"
#define INFO "0a0412027631"
#define PONG                                                                                                           \
	"0a0c0a087265616466696c65100112130a0465786563100118012201612a01623201631a040a027731"
#define USAGE                                                                                                          \
	"0a320a01611001180120802032080880e2cfaa0610053a060881e2cfaa0640034a01645207726567756c6172580162017062"         \
	"01710a110a016220ffffffffffffffffff012a016f"
#define HISTORY        "0801120172180122016628ffffffffffffffffff01"
#define UPDATE_HISTORY "0a0172100118012001"
#define LETTERS        "6162636465666768696a6b6c6d"

static void bytes_messages(void **state)
{
	static const struct {
		const char *hex, *data;
	} cases[] = {
		{ "0a03616263", "abc" },
		{ "", "" },
		{ "0a00", "" },
		{ "0a0161" "0a026263", "bc" },   /* the last counts */
		{ "1005" "0a0161" "1a0162", "a" }, /* unknown ones */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer message = from_hex(cases[i].hex);
		struct span data;

		assert_true(bytes_message_decode(buffer_span(&message), &data));
		assert_true(span_is(data, cases[i].data));
		buffer_fini(&message);
	}
}

/* In three parts, cut anywhere: together they bring what the whole brings, and the next message is read as the first was. */
static void bytes_messages_in_parts(void **state)
{
	static const char *const cases[] = {
		"0a0d" LETTERS, "0a8d00" LETTERS, "0a0d" LETTERS "1005", "1005" "0a0d" LETTERS, "0a03616263", "", "0a00",
		"0a0161" "0a026263", "1005" "0a0161" "1a0162",
	};
	struct bytes_message_reader reader = { 0 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer message = from_hex(cases[i]);
		struct span whole;

		assert_true(bytes_message_decode(buffer_span(&message), &whole));
		for (size_t first = 0; first <= message.size; first++) {
			for (size_t second = first; second <= message.size; second++) {
				const size_t ends[] = { first, second, message.size };
				struct buffer got = buffer_heap(100);
				size_t at = 0;

				for (size_t part = 0; part < 3; at = ends[part++]) {
					size_t size = ends[part] - at, left = message.size - ends[part];
					uint8_t *exact = malloc(size ? size : 1);
					struct span data;

					if (size)
						memcpy(exact, message.data + at, size);
					/* What ended the message was its last part. */
					if (part == 0 || at < message.size) {
						assert_true(bytes_message_part(&reader, span_make(exact, size), left, &data));
						buffer_put(&got, data.data, data.size);
					}
					free(exact);
				}
				assert_true(span_equal(buffer_span(&got), whole) && !reader.passing);
				buffer_fini(&got);
			}
		}
		buffer_fini(&message);
	}
	bytes_message_reader_fini(&reader);
}

static void malformed_bytes_messages(void **state)
{
	static const char *const cases[] = { "0801", "0a", "0a0461", "0a01610a" };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer message = from_hex(cases[i]);
		struct span data;

		assert_false(bytes_message_decode(buffer_span(&message), &data));
		buffer_fini(&message);
	}
}

static void heads_of_bytes_messages(void **state)
{
	uint8_t head[BYTES_MESSAGE_HEAD_MAX];

	assert_int_equal(bytes_message_head(head, 0), 0);
	assert_hex(span_make(head, bytes_message_head(head, 3)), "0a03");
	assert_hex(span_make(head, bytes_message_head(head, 16397)), "0a8d8001");
	assert_int_equal(bytes_message_head(head, UINT32_MAX), BYTES_MESSAGE_HEAD_MAX);
}

/* The next of a list, decoded. */
static void next(const struct message_type *type, const struct message_list *list, struct message_cursor *cursor,
                 void *out)
{
	struct span element;

	assert_true(message_list_next(list, cursor, &element));
	assert_true(message_decode(type, element, out));
}

static void workers(void **state)
{
	struct buffer bytes = from_hex(WORKERS);
	struct message_cursor cursor = { 0 }, platforms = { 0 };
	struct buildkit_list_workers_response response;
	struct buildkit_worker_record worker;
	struct buildkit_platform platform;
	struct buildkit_version version;
	struct span label;

	assert_true(message_decode(&buildkit_list_workers_response_type, buffer_span(&bytes), &response));
	assert_int_equal(response.records.count, 1);
	next(&buildkit_worker_record_type, &response.records, &cursor, &worker);
	assert_true(span_is(worker.id, "w1"));
	assert_true(message_map_find(&worker.labels, "os", &label));
	assert_true(span_is(label, "x"));
	assert_int_equal(worker.gc_policies.count, 1);
	assert_int_equal(worker.cdi_devices.count, 1);
	assert_int_equal(worker.platforms.count, 2);
	next(&buildkit_platform_type, &worker.platforms, &platforms, &platform);
	assert_true(span_is(platform.os, "linux"));
	assert_true(span_is(platform.architecture, "amd64"));
	next(&buildkit_platform_type, &worker.platforms, &platforms, &platform);
	assert_true(span_is(platform.architecture, "arm"));
	assert_true(span_is(platform.variant, "v7"));
	assert_true(span_is(platform.os_version, "1"));
	assert_int_equal(platform.os_features.count, 1);
	assert_true(message_decode(&buildkit_version_type, worker.version, &version));
	assert_true(span_is(version.package, "p"));
	assert_true(span_is(version.version, "v0.32.2"));
	assert_true(span_is(version.revision, "r"));
	assert_true(span_is(version.dockerfile_version, "1.2"));
	buffer_fini(&bytes);
}

static void info(void **state)
{
	struct buffer bytes = from_hex(INFO);
	struct buildkit_info_response response;
	struct buildkit_version version;

	assert_true(message_decode(&buildkit_info_response_type, buffer_span(&bytes), &response));
	assert_true(message_decode(&buildkit_version_type, response.version, &version));
	assert_true(span_is(version.version, "v1"));
	buffer_fini(&bytes);
}

static void pong(void **state)
{
	struct buffer bytes = from_hex(PONG);
	struct message_cursor frontend = { 0 }, llb = { 0 };
	struct buildkit_pong_response response;
	struct buildkit_capability capability;

	assert_true(message_decode(&buildkit_pong_response_type, buffer_span(&bytes), &response));
	assert_int_equal(response.workers.count, 1);
	next(&buildkit_capability_type, &response.frontend_capabilities, &frontend, &capability);
	assert_true(span_is(capability.id, "readfile"));
	assert_true(capability.enabled && !capability.deprecated);
	next(&buildkit_capability_type, &response.llb_capabilities, &llb, &capability);
	assert_true(span_is(capability.id, "exec"));
	assert_true(capability.enabled && capability.deprecated);
	assert_true(span_is(capability.disabled_reason, "a"));
	assert_true(span_is(capability.disabled_reason_message, "b"));
	assert_true(span_is(capability.disabled_alternative, "c"));
	buffer_fini(&bytes);
}

static void history_requests(void **state)
{
	struct buffer bytes = from_hex(HISTORY), update_bytes = from_hex(UPDATE_HISTORY);
	struct buildkit_update_history_request update;
	struct buildkit_history_request request;

	assert_true(message_decode(&buildkit_history_request_type, buffer_span(&bytes), &request));
	assert_true(request.active_only && request.early_exit);
	assert_true(span_is(request.ref, "r"));
	assert_int_equal(request.filters.count, 1);
	assert_int_equal(request.limit, -1);
	assert_true(message_decode(&buildkit_update_history_request_type, buffer_span(&update_bytes), &update));
	assert_true(span_is(update.ref, "r"));
	assert_true(update.pinned && update.delete && update.finalize);
	buffer_fini(&bytes);
	buffer_fini(&update_bytes);
}

/* What is written again is what came: no field is lost or moved. Without lists, whose elements are the caller's. */
static void written_again(void **state)
{
	static const struct {
		const struct message_type *type;
		const char *hex;
	} cases[] = {
		{ &buildkit_version_type, "0a0170120776302e33322e321a01722203312e32" },
		{ &buildkit_info_response_type, INFO },
		{ &buildkit_capability_type, "0a0465786563100118012201612a0162320163" },
		{ &buildkit_platform_type, "0a0361726d12056c696e75781a027637220131" },
		{ &buildkit_update_history_request_type, UPDATE_HISTORY },
		{ &buildkit_usage_record_type, "0a016220ffffffffffffffffff012a016f" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i].hex), again = buffer_heap(4096);
		void *message = malloc(cases[i].type->size);

		assert_true(message_decode(cases[i].type, buffer_span(&bytes), message));
		message_encode(cases[i].type, &again, message);
		assert_hex(buffer_span(&again), cases[i].hex);
		free(message);
		buffer_fini(&bytes);
		buffer_fini(&again);
	}
}

static void usage(void **state)
{
	struct buffer bytes = from_hex(USAGE);
	struct message_cursor cursor = { 0 };
	struct buildkit_disk_usage_response response;
	struct buildkit_usage_record record;

	assert_true(message_decode(&buildkit_disk_usage_response_type, buffer_span(&bytes), &response));
	next(&buildkit_usage_record_type, &response.records, &cursor, &record);
	assert_true(span_is(record.id, "a"));
	assert_true(record.mutable && record.in_use && record.shared);
	assert_int_equal(record.size_bytes, 4096);
	assert_int_equal(record.usage_count, 3);
	assert_true(span_is(record.description, "d"));
	assert_true(span_is(record.record_type, "regular"));
	assert_int_equal(record.parents.count, 2);
	assert_true(record.created_at.data && record.last_used_at.data);
	next(&buildkit_usage_record_type, &response.records, &cursor, &record);
	assert_true(record.size_bytes == -1);
	assert_true(span_is(record.parent, "o"));
	assert_null(record.created_at.data);
	buffer_fini(&bytes);
}

/* Two daemons' answers in one, every id with its daemon's name. */
static void usage_of_two_daemons(void **state)
{
	static const char *const ids[] = { "one/a", "one/b", "two/a", "two/b" };
	static const char *const parents[] = { "one/p", "one/q", NULL, NULL, "two/p", "two/q", NULL, NULL };
	struct buffer bytes = from_hex(USAGE), merged = buffer_heap(4096);
	struct message_cursor cursor = { 0 };
	struct buildkit_disk_usage_response response;

	assert_true(buildkit_disk_usage_put(&merged, buffer_span(&bytes), span_text("one/")));
	assert_true(buildkit_disk_usage_put(&merged, buffer_span(&bytes), span_text("two/")));
	assert_true(message_decode(&buildkit_disk_usage_response_type, buffer_span(&merged), &response));
	assert_int_equal(response.records.count, 4);
	for (size_t i = 0; i < 4; i++) {
		struct message_cursor at = { 0 };
		struct buildkit_usage_record record;
		struct span parent;

		next(&buildkit_usage_record_type, &response.records, &cursor, &record);
		assert_true(span_is(record.id, ids[i]));
		assert_true(record.size_bytes == (i % 2 ? -1 : 4096));
		for (size_t j = 2 * i; j < 2 * i + 2 && parents[j]; j++) {
			assert_true(message_list_next(&record.parents, &at, &parent));
			assert_true(span_is(parent, parents[j]));
		}
		assert_false(message_list_next(&record.parents, &at, &parent));
	}
	buffer_fini(&bytes);
	buffer_fini(&merged);
}

/* Without a prefix a record comes out as it went in, also what is not known (field 100), also with an empty id. */
static void usage_keeps_the_rest(void **state)
{
	static const char *const cases[] = { "0a01611001180120802032080880e2cfaa0610056201706201710a0162a20601ff",
					     "0a0020051d010203042a00" };
	struct buffer out = buffer_heap(4096);

	for (size_t i = 0; i < 2; i++) {
		struct buffer record = from_hex(cases[i]);

		buffer_clear(&out);
		assert_true(buildkit_usage_record_put(&out, buffer_span(&record), (struct span){ 0 }));
		assert_hex(buffer_span(&out), cases[i]);
		buffer_fini(&record);
	}
	buffer_clear(&out);
	assert_true(buildkit_usage_record_put(&out, span_make("\x0a\0", 2), span_text("p")));
	assert_hex(buffer_span(&out), "0a00");
	buffer_fini(&out);
}

static void malformed_usage(void **state)
{
	static const char *const cases[] = {
		"0801",                          /* a record as a number */
		"0a020801",                      /* its id as a number */
		"0a0362",                        /* beyond the end */
		"0a020a05",                      /* its id beyond the end */
		"0a036a0000",                    /* field number 0 */
		"0a030a0161" "0a04" "0a0161" "2a", /* the second record's parent is cut */
	};
	struct buffer out = buffer_heap(4096);

	buffer_put_text(&out, "before");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i]);

		assert_false(buildkit_disk_usage_put(&out, buffer_span(&bytes), span_text("p")));
		assert_true(span_is(buffer_span(&out), "before"));
		buffer_fini(&bytes);
	}
	buffer_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_messages),
		cmocka_unit_test(bytes_messages_in_parts),
		cmocka_unit_test(malformed_bytes_messages),
		cmocka_unit_test(heads_of_bytes_messages),
		cmocka_unit_test(workers),
		cmocka_unit_test(info),
		cmocka_unit_test(pong),
		cmocka_unit_test(history_requests),
		cmocka_unit_test(written_again),
		cmocka_unit_test(usage),
		cmocka_unit_test(usage_of_two_daemons),
		cmocka_unit_test(usage_keeps_the_rest),
		cmocka_unit_test(malformed_usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
