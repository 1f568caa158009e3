/*
 * Shows that progress is read and written as BuildKit does: the hex below was made by BuildKit v0.32.2's own Go types,
 * MarshalVT. Then times at their ends, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/buildkit_status.h"
#include "proto/pb.h"
#include "tests/unit/proto/hex.h"

/* Two vertexes (the first with inputs and a progress group), a status, a log, a warning. */
#define STATUS                                                                                                         \
	"0a330a087368613235363a6112087368613235363a621a016e20012a080880e2cfaa06100532060881e2cfaa063a01654203"         \
	"0a01670a0a0a087368613235363a6312260a016912087368613235363a611a016e2001280232080880e2cfaa0610053a0208"         \
	"01420208021a1e0a087368613235363a61120c0880e2cfaa0610ff93ebdc03180122026d0a220f0a087368613235363a6110"         \
	"011a0173"
/* The same, as far as it is written here. */
#define STATUS_OURS                                                                                                    \
	"0a240a087368613235363a611a016e20012a080880e2cfaa06100532060881e2cfaa063a01650a0a0a087368613235363a63"         \
	"1a1e0a087368613235363a61120c0880e2cfaa0610ff93ebdc03180122026d0a"

#define TIME_NS 1700000000000000000

static void vertexes(void **state)
{
	struct buffer bytes = from_hex(STATUS);
	struct span rest = buffer_span(&bytes);
	struct buildkit_vertex vertex;
	bool failed = false;

	assert_true(buildkit_vertex_next(&rest, &vertex, &failed));
	assert_true(span_is(vertex.digest, "sha256:a"));
	assert_true(span_is(vertex.name, "n"));
	assert_true(span_is(vertex.error, "e"));
	assert_true(vertex.cached && vertex.started && vertex.completed);
	assert_true(vertex.started_ns == TIME_NS + 5);
	assert_true(vertex.completed_ns == TIME_NS + 1000000000);
	assert_true(buildkit_vertex_next(&rest, &vertex, &failed));
	assert_true(span_is(vertex.digest, "sha256:c"));
	assert_false(vertex.cached || vertex.started || vertex.completed);
	assert_int_equal(vertex.error.size, 0);
	assert_false(buildkit_vertex_next(&rest, &vertex, &failed));
	assert_false(failed);
	assert_false(buildkit_vertex_next(&rest, &vertex, &failed));
	buffer_fini(&bytes);
}

static void written_as_buildkit_does(void **state)
{
	struct buffer out = buffer_heap(4096);

	buildkit_status_put_vertex(&out, &(struct buildkit_vertex){ .digest = span_text("sha256:a"),
								    .name = span_text("n"),
								    .error = span_text("e"),
								    .cached = true,
								    .started = true,
								    .started_ns = TIME_NS + 5,
								    .completed = true,
								    .completed_ns = TIME_NS + 1000000000 });
	buildkit_status_put_vertex(&out, &(struct buildkit_vertex){ .digest = span_text("sha256:c") });
	buildkit_status_put_log(&out, &(struct buildkit_vertex_log){ .vertex = span_text("sha256:a"),
								     .timestamp_ns = TIME_NS + 999999999,
								     .stream = BUILDKIT_LOG_STDOUT,
								     .message = span_text("m\n") });
	assert_hex(buffer_span(&out), STATUS_OURS);
	buffer_fini(&out);
}

static int64_t completed_ns(const char *hex)
{
	struct buffer bytes = from_hex(hex);
	struct span rest = buffer_span(&bytes);
	struct buildkit_vertex vertex;
	bool failed = false;

	assert_true(buildkit_vertex_next(&rest, &vertex, &failed));
	assert_true(vertex.completed);
	buffer_fini(&bytes);
	return vertex.completed_ns;
}

static void times(void **state)
{
	assert_true(completed_ns("0a023200") == 0);                                     /* set, and 1970 */
	assert_true(completed_ns("0a0f320d08ffffffffffffffffff011005") == -1000000000 + 5);
	assert_true(completed_ns("0a0c320a08ffffffffffffffff7f") == INT64_MAX);
	assert_true(completed_ns("0a0d320b0880808080808080808001") == INT64_MIN);
}

static void times_come_back(void **state)
{
	static const int64_t cases[] = { 0, 1, -1, 999999999, -999999999, 1000000000, -1000000000, TIME_NS, INT64_MAX,
					 INT64_MIN };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer out = buffer_heap(4096);
		struct buildkit_vertex vertex = { .started = true, .started_ns = cases[i] };
		struct span rest;
		bool failed = false;

		buildkit_status_put_vertex(&out, &vertex);
		rest = buffer_span(&out);
		assert_true(buildkit_vertex_next(&rest, &vertex, &failed));
		assert_true(vertex.started && !vertex.completed);
		assert_true(vertex.started_ns == cases[i]);
		buffer_fini(&out);
	}
}

static void status_requests(void **state)
{
	struct buildkit_status_request request;

	assert_true(message_decode(&buildkit_status_request_type, span_make("\x0a\x01r", 3), &request));
	assert_true(span_is(request.ref, "r"));
}

/* The vertexes before the fault are yielded. */
static void malformed_responses(void **state)
{
	static const char *const cases[] = {
		"0a030a0161" "0801",             /* a vertex as a number */
		"0a030a0161" "0a04",             /* beyond the end */
		"0a030a0161" "0a020801",         /* its digest as a number */
		"0a030a0161" "0a022000" "0a022200", /* cached as bytes */
		"0a030a0161" "0a022801",         /* started as a number */
		"0a030a0161" "0a0432020a00",     /* completed: seconds as bytes */
		"0a030a0161" "0a0432021200",     /* completed: nanos as bytes */
		"0a030a0161" "0a03320108",       /* completed: cut */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer bytes = from_hex(cases[i]);
		struct span rest = buffer_span(&bytes);
		struct buildkit_vertex vertex;
		bool failed = false;

		assert_true(buildkit_vertex_next(&rest, &vertex, &failed));
		assert_true(span_is(vertex.digest, "a"));
		while (buildkit_vertex_next(&rest, &vertex, &failed))
			;
		assert_true(failed);
		buffer_fini(&bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vertexes),        cmocka_unit_test(written_as_buildkit_does),
		cmocka_unit_test(times),           cmocka_unit_test(times_come_back),
		cmocka_unit_test(status_requests), cmocka_unit_test(malformed_responses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
