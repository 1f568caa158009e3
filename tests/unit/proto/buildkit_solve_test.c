/*
 * Shows that a build's requests are read as buildx and buildctl write them: the hex below was made by BuildKit
 * v0.32.2's own Go types, MarshalVT. Then which requests count as the probe for capabilities, where exporters come
 * from, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/buildkit_solve.h"
#include "proto/pb.h"
#include "tests/unit/proto/hex.h"

/* Ref, Session, an empty Cache, Internal: as buildx sends it (58 bytes). */
#define PROBE                                                                                                          \
	"0a1934703537766431397066727631666e64707a6a6833346a76302a197a7a7a37766431397066727631666e64707a6a6833"         \
	"346a763142005801"
/* Everything that a request can hold but a source policy and the deprecated exporter. */
#define SOLVE                                                                                                          \
	"0a017212030a01642a0173320d646f636b657266696c652e76303a160a0866696c656e616d65120a446f636b657266696c65"         \
	"422022120a056c6f63616c12090a04646573741201782a0a0a0872656769737472794a016552060a02696e120058016a150a"         \
	"05696d616765120c0a04707573681204747275656a070a056c6f63616c70017a0170800107880101"
#define SOLVE_OLD                                                                                                      \
	"0a01721a05696d616765220c0a0470757368120474727565420e0a01611201621a060a016d12016e"
#define SOLVE_RESPONSE "0a060a016b120176"
#define LLB_RESPONSE                                                                                                   \
	"0a1934703537766431397066727631666e64707a6a6833346a76301a1b0a1934703537766431397066727631666e64707a6a"         \
	"6833346a7630"
#define LLB_RETURN "0a221a200a1934703537766431397066727631666e64707a6a6833346a763012030a0164"

static void assert_found(const struct message_list *map, const char *key, const char *expected)
{
	struct span value;

	assert_true(message_map_find(map, key, &value));
	assert_true(span_is(value, expected));
}

static void a_build(void **state)
{
	struct buffer bytes = from_hex(SOLVE);
	struct buildkit_solve_request request;
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter exporter;

	assert_true(buildkit_solve_request_decode(buffer_span(&bytes), &request));
	assert_true(span_is(request.ref, "r"));
	assert_true(span_is(request.session, "s"));
	assert_true(span_is(request.frontend, "dockerfile.v0"));
	assert_found(&request.frontend_attributes, "filename", "Dockerfile");
	assert_int_equal(request.definition.size, 3);
	assert_int_equal(request.entitlements.count, 1);
	assert_found(&request.frontend_inputs, "in", "");
	assert_true(request.internal && request.enable_session_exporter && request.proxy_network);
	assert_null(request.source_policy.data);
	assert_true(span_is(request.source_policy_session, "p"));
	assert_int_equal(request.compatibility_version, 7);
	assert_true(buildkit_exporter_next(&request, &cursor, &exporter));
	assert_true(span_is(exporter.type, "image"));
	assert_found(&exporter.attributes, "push", "true");
	assert_true(buildkit_exporter_next(&request, &cursor, &exporter));
	assert_true(span_is(exporter.type, "local"));
	assert_int_equal(exporter.attributes.count, 0);
	assert_false(buildkit_exporter_next(&request, &cursor, &exporter));
	buffer_fini(&bytes);
}

static void caches(void **state)
{
	struct buffer bytes = from_hex(SOLVE);
	struct message_cursor exports = { 0 }, imports = { 0 };
	struct buildkit_cache_options options;
	struct buildkit_solve_request request;
	struct buildkit_exporter entry;
	struct span element;

	assert_true(buildkit_solve_request_decode(buffer_span(&bytes), &request));
	assert_true(message_decode(&buildkit_cache_options_type, request.cache, &options));
	assert_true(message_list_next(&options.exports, &exports, &element));
	assert_true(message_decode(&buildkit_exporter_type, element, &entry));
	assert_true(span_is(entry.type, "local"));
	assert_found(&entry.attributes, "dest", "x");
	assert_true(message_list_next(&options.imports, &imports, &element));
	assert_true(message_decode(&buildkit_exporter_type, element, &entry));
	assert_true(span_is(entry.type, "registry"));
	buffer_fini(&bytes);
}

static void an_old_client(void **state)
{
	struct buffer bytes = from_hex(SOLVE_OLD);
	struct buildkit_solve_request request;
	struct buildkit_cache_options options;
	struct message_cursor cursor = { 0 };
	struct buildkit_exporter exporter;

	assert_true(buildkit_solve_request_decode(buffer_span(&bytes), &request));
	assert_true(buildkit_exporter_next(&request, &cursor, &exporter));
	assert_true(span_is(exporter.type, "image"));
	assert_found(&exporter.attributes, "push", "true");
	assert_false(buildkit_exporter_next(&request, &cursor, &exporter));
	assert_true(message_decode(&buildkit_cache_options_type, request.cache, &options));
	assert_true(span_is(options.export_ref, "a"));
	assert_int_equal(options.import_refs.count, 1);
	assert_found(&options.export_attributes, "m", "n");
	buffer_fini(&bytes);
}

/* The new list goes before the deprecated one, as at the daemon; a client sends both. */
static void exporters_of_both_kinds(void **state)
{
	static const struct {
		const char *hex, *type;
	} cases[] = {
		{ "1a016f" "6a030a016e", "n" },
		{ "1a016f" "6a00", "" },
		{ "1a016f", "o" },
		{ "22060a016b120176", NULL },    /* attributes of nothing */
		{ "", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i].hex);
		struct buildkit_solve_request request;
		struct message_cursor cursor = { 0 };
		struct buildkit_exporter exporter;

		assert_true(buildkit_solve_request_decode(buffer_span(&bytes), &request));
		assert_int_equal(buildkit_exporter_next(&request, &cursor, &exporter), cases[i].type != NULL);
		if (cases[i].type)
			assert_true(span_is(exporter.type, cases[i].type));
		assert_false(buildkit_exporter_next(&request, &cursor, &exporter));
		buffer_fini(&bytes);
	}
}

static void the_probe(void **state)
{
	static const char *const probes[] = { PROBE, "5801", PROBE "800107", "58005801" };
	/* A probe, and one thing more, each. */
	static const char *const others[] = {
		SOLVE, SOLVE_OLD, "",
		"4200",                          /* not internal */
		PROBE "5800",                    /* not internal, in the end */
		PROBE "1200",                    /* a definition, even an empty one */
		PROBE "1a0161",                  /* an exporter, deprecated */
		PROBE "2200",                    /* its attributes */
		PROBE "320161",                  /* a frontend */
		PROBE "3a00",                    /* attributes */
		PROBE "42020a00",                /* a cache with something in it */
		PROBE "4a0161",                  /* an entitlement */
		PROBE "5200",                    /* an input */
		PROBE "6200",                    /* a source policy */
		PROBE "6a00",                    /* an exporter */
		PROBE "7001",                    /* the session's exporter */
		PROBE "7a0161",                  /* a source policy's session */
		PROBE "880101",                  /* a network */
		PROBE "900101",                  /* what is not known */
		PROBE "0801", PROBE "0a", PROBE "0a05", PROBE "5a00", PROBE "4001",  /* malformed */
	};

	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		struct buffer bytes = from_hex(probes[i]);

		assert_true(buildkit_solve_is_probe(buffer_span(&bytes)));
		buffer_fini(&bytes);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct buffer bytes = from_hex(others[i]);

		assert_false(buildkit_solve_is_probe(buffer_span(&bytes)));
		buffer_fini(&bytes);
	}
}

static void malformed_requests(void **state)
{
	static const char *const cases[] = {
		"0801", "1001", "1801", "2001", "2801", "3001", "3801", "4001", "4801", "5001", /* wrong wire types */
		"5a00", "6001", "6801", "7200", "7801", "820100", "8a0100",
		"3a020801",                      /* an attribute's name as a number */
		"22021001",                      /* an exporter's attribute's value as a number */
		"52030a0561",                    /* an input's name beyond its end */
		"6a020801",                      /* an exporter's type as a number */
		"6a0412021001",                  /* an exporter's attribute's value as a number */
		"0a0561",                        /* beyond the end */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i]);
		struct buildkit_solve_request request;

		assert_false(buildkit_solve_request_decode(buffer_span(&bytes), &request));
		buffer_fini(&bytes);
	}
}

static void answers(void **state)
{
	struct buffer solve = from_hex(SOLVE_RESPONSE), llb = from_hex(LLB_RESPONSE), returned = from_hex(LLB_RETURN);
	struct buildkit_solve_response solve_response;
	struct buildkit_llb_solve_response llb_response;
	struct buildkit_llb_return_request request;

	assert_true(message_decode(&buildkit_solve_response_type, buffer_span(&solve), &solve_response));
	assert_found(&solve_response.exporter_response, "k", "v");
	assert_true(message_decode(&buildkit_llb_solve_response_type, buffer_span(&llb), &llb_response));
	assert_true(span_is(llb_response.ref, "4p57vd19pfrv1fndpzjh34jv0"));
	assert_int_equal(llb_response.result.size, 27);
	assert_true(message_decode(&buildkit_llb_return_request_type, buffer_span(&returned), &request));
	assert_int_equal(request.result.size, 34);
	assert_null(request.error.data);
	buffer_fini(&solve);
	buffer_fini(&llb);
	buffer_fini(&returned);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_build),       cmocka_unit_test(caches),
		cmocka_unit_test(an_old_client), cmocka_unit_test(exporters_of_both_kinds),
		cmocka_unit_test(the_probe),     cmocka_unit_test(malformed_requests),
		cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
