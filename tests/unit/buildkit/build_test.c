/*
 * Shows what is kept of a build and of where builds ran, and how sluice's own lines of progress read. Pure: messages in,
 * numbers and messages out.
 */
#include "gateway/buildkit/build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/buildkit/refs.h"
#include "gateway/buildkit/vertex.h"
#include "proto/buildkit_status.h"
#include "proto/pb.h"

static struct build *make(const char *exporters[], size_t count)
{
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct buildkit_solve_request solve;
	struct build *build;

	pb_put_text(&out, 1, "the-ref");
	pb_put_text(&out, 5, "the-session");
	for (size_t i = 0; i < count; i++) {
		size_t mark = pb_begin(&out, 13);

		pb_put_text(&out, 1, exporters[i]);
		pb_end(&out, mark);
	}
	assert_false(out.failed);
	assert_true(buildkit_solve_request_decode(buffer_span(&out), &solve));
	build = build_create(&solve, "acme", "alice", 7);
	assert_non_null(build);
	return build;
}

static void a_build_is_described(void **state)
{
	const char *exporters[] = { "local", "oci" };
	struct build *build = make(exporters, 2);

	(void)state;
	assert_string_equal(build->ref, "the-ref");
	assert_string_equal(build->session, "the-session");
	assert_string_equal(build->exporters, "local,oci");
	assert_string_equal(build->tenant, "acme");
	assert_string_equal(build->subject, "alice");
	assert_int_equal(build->asked_wall_ns, 7);
	build_set_shared_key(build, span_text("app:0123"));
	assert_string_equal(build->directory, "app");
	build_set_shared_key(build, span_text("a:b:0123"));
	assert_string_equal(build->directory, "a:b");
	build_set_shared_key(build, span_text("plain"));
	assert_string_equal(build->directory, "plain");
	build_destroy(build);
}

/* More exporters, and longer names, than there is room for. */
static bool wants_real_times(const char *frontend_attribute, const char *exporter_attribute, const char *value)
{
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct buildkit_solve_request solve;
	struct build *build;
	size_t mark;
	bool wants;

	pb_put_text(&out, 1, "the-ref");
	if (frontend_attribute)
		message_put_pair(&out, 7, &(struct message_pair){ .key = span_text(frontend_attribute), .value = span_text(value) });
	mark = pb_begin(&out, 13);
	pb_put_text(&out, 1, "oci");
	if (exporter_attribute)
		message_put_pair(&out, 2, &(struct message_pair){ .key = span_text(exporter_attribute), .value = span_text(value) });
	pb_end(&out, mark);
	assert_false(out.failed);
	assert_true(buildkit_solve_request_decode(buffer_span(&out), &solve));
	build = build_create(&solve, "acme", "alice", 7);
	assert_non_null(build);
	wants = build->real_times;
	build_destroy(build);
	return wants;
}

/* Its result depends on mtimes: these are to be the client's. */
static void a_build_may_want_real_times(void **state)
{
	(void)state;
	assert_false(wants_real_times(NULL, NULL, ""));
	assert_false(wants_real_times("build-arg:OTHER", "name", "1"));
	assert_true(wants_real_times("build-arg:SOURCE_DATE_EPOCH", NULL, "1700000000"));
	assert_true(wants_real_times(NULL, "rewrite-timestamp", "true"));
	assert_false(wants_real_times(NULL, "rewrite-timestamp", "false"));
	assert_true(wants_real_times(NULL, "source-date-epoch", "0"));
}

static void what_is_too_long_is_cut(void **state)
{
	const char *exporters[] = { "a-very-long-exporter-type-indeed", "another-very-long-exporter-type", "third" };
	char key[600];
	struct build *build = make(exporters, 3);

	(void)state;
	assert_true(strlen(build->exporters) < sizeof(build->exporters));
	memset(key, 'x', sizeof(key));
	build_set_shared_key(build, span_make(key, sizeof(key)));
	assert_int_equal(strlen(build->directory), BUILD_DIRECTORY_MAX - 1);
	build_destroy(build);
}

static void tell(struct build *build, const char *digest, bool cached, bool completed, const char *error)
{
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct buildkit_vertex vertex = {
		.digest = span_text(digest), .cached = cached, .completed = completed, .completed_ns = 5, .error = span_text(error),
	};

	buildkit_status_put_vertex(&out, &vertex);
	assert_false(out.failed);
	build_take_status(build, buffer_span(&out));
}

/* Each step counts once, when it has ended, however often it is told. */
static void steps_are_counted(void **state)
{
	struct build *build = make(NULL, 0);

	(void)state;
	tell(build, "sha256:a", false, false, "");
	assert_int_equal(build->steps, 0);
	for (unsigned i = 0; i < 3; i++)
		tell(build, "sha256:a", false, true, "");
	tell(build, "sha256:b", true, true, "");
	tell(build, "sha256:c", false, true, "exit code: 7");
	assert_int_equal(build->steps, 3);
	assert_int_equal(build->steps_cached, 1);
	assert_int_equal(build->steps_failed, 1);
	build_take_status(build, span_text("\x0a\xff"));         /* malformed: counts nothing */
	assert_int_equal(build->steps, 3);
	build_destroy(build);
}

static void refs_are_remembered_for_a_while(void **state)
{
	struct refs refs = { 0 };
	char ref[32];

	(void)state;
	assert_null(refs_find(&refs, "acme", "r0"));
	for (unsigned i = 0; i < REFS_MAX + 10; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		refs_remember(&refs, "acme", ref, i % 2 ? "one" : "two", 0);
	}
	assert_null(refs_find(&refs, "acme", "r9"));
	assert_string_equal(refs_find(&refs, "acme", "r10"), "two");
	assert_string_equal(refs_find(&refs, "acme", "r11"), "one");
	assert_null(refs_find(&refs, "other", "r11"));
	/* One that is told anew takes no second place; one that another executor ran, too, does. */
	refs_remember(&refs, "acme", "r10", "two", 0);
	assert_non_null(refs_find(&refs, "acme", "r10"));
	refs_remember(&refs, "acme", "r12", "three", 0);
	assert_null(refs_find(&refs, "acme", "r10"));
	assert_string_equal(refs_find(&refs, "acme", "r12"), "three");
	refs_remember(&refs, "acme", "r12", "two", 0);
	assert_string_equal(refs_find(&refs, "acme", "r12"), "two");
	assert_non_null(refs_find(&refs, "acme", "r11"));
	refs_remember(&refs, "acme", "", "one", 0);
	assert_null(refs_find(&refs, "acme", ""));
	refs_fini(&refs);
}

/* What is taken stays, whatever others build; and what they list pushes out no builds. */
static void refs_that_are_taken_stay(void **state)
{
	struct refs refs = { 0 };
	char ref[32];

	(void)state;
	refs_remember(&refs, "acme", "runs", "one", 0);
	assert_true(refs_take(&refs, "acme", "runs", "one", 0));
	refs_remember(&refs, "acme", "kept", "one", 0);
	assert_true(refs_take(&refs, "acme", "kept", "one", 0));
	refs_leave(&refs, "acme", "kept", "one", 7);
	refs_remember(&refs, "acme", "over", "one", 0);
	for (unsigned i = 0; i < REFS_MAX + 10; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		refs_note(&refs, "rival", ref, "two", 6);
	}
	assert_string_equal(refs_find(&refs, "acme", "over"), "one");
	assert_string_equal(refs_find(&refs, "rival", ref), "two");
	assert_null(refs_find(&refs, "rival", "r9"));
	for (unsigned i = 0; i < REFS_MAX; i++) {
		snprintf(ref, sizeof(ref), "b%u", i);
		refs_remember(&refs, "rival", ref, "two", 6);
	}
	assert_true(refs_taken(&refs, "acme", "runs", "one", 6));
	assert_true(refs_taken(&refs, "acme", "kept", "one", 6));
	assert_null(refs_find(&refs, "acme", "over"));
	for (unsigned i = 0; i < REFS_MAX; i++) {
		snprintf(ref, sizeof(ref), "c%u", i);
		refs_remember(&refs, "rival", ref, "two", 7);
	}
	assert_true(refs_taken(&refs, "acme", "runs", "one", 7));
	assert_null(refs_find(&refs, "acme", "kept"));
	refs_leave(&refs, "acme", "runs", "one", 9);
	refs_fini(&refs);
}

/* At each executor by itself, and for as long as one of those that run there does. */
static void refs_are_taken(void **state)
{
	struct refs refs = { 0 };

	(void)state;
	assert_false(refs_taken(&refs, "acme", "r", "one", 0));
	assert_false(refs_take(&refs, "acme", "r", "one", 0));
	assert_false(refs_taken(&refs, "acme", "r", "one", 0));
	refs_remember(&refs, "acme", "r", "one", 0);
	assert_false(refs_taken(&refs, "acme", "r", "one", 0));
	assert_true(refs_take(&refs, "acme", "r", "one", 0));
	refs_remember(&refs, "acme", "r", "two", 0);
	assert_true(refs_take(&refs, "acme", "r", "two", 0));
	refs_leave(&refs, "acme", "r", "two", 7);
	assert_true(refs_taken(&refs, "acme", "r", "one", 1u << 30));
	assert_true(refs_taken(&refs, "acme", "r", "two", 6));
	assert_false(refs_taken(&refs, "acme", "r", "two", 7));
	assert_false(refs_taken(&refs, "other", "r", "one", 0));
	assert_false(refs_taken(&refs, "acme", "", "one", 0));
	refs_remember(&refs, "acme", "r", "one", 0);
	assert_true(refs_take(&refs, "acme", "r", "one", 0));
	refs_leave(&refs, "acme", "r", "one", 7);
	assert_true(refs_taken(&refs, "acme", "r", "one", 1u << 30));
	refs_leave(&refs, "acme", "r", "one", 9);
	assert_true(refs_taken(&refs, "acme", "r", "one", 8));
	assert_false(refs_taken(&refs, "acme", "r", "one", 9));
	refs_fini(&refs);
}

/* Of its last taker, when it is known of all that took it at one time. */
static void a_ref_has_a_keeper(void **state)
{
	struct refs refs = { 0 };

	(void)state;
	assert_int_equal(refs_keeper(&refs, "acme", "r", "one"), 0);
	refs_remember(&refs, "acme", "r", "one", 0);
	assert_true(refs_take(&refs, "acme", "r", "one", 41));
	assert_int_equal(refs_keeper(&refs, "acme", "r", "one"), 0);
	refs_leave(&refs, "acme", "r", "one", 7);
	assert_int_equal(refs_keeper(&refs, "acme", "r", "one"), 41);
	assert_true(refs_taken(&refs, "acme", "r", "one", 6));
	refs_let_go(&refs, "acme", "r", "one");
	assert_false(refs_taken(&refs, "acme", "r", "one", 6));

	assert_true(refs_take(&refs, "acme", "r", "one", 42));
	assert_true(refs_take(&refs, "acme", "r", "one", 43));
	refs_leave(&refs, "acme", "r", "one", 7);
	refs_leave(&refs, "acme", "r", "one", 7);
	assert_int_equal(refs_keeper(&refs, "acme", "r", "one"), 0);
	assert_true(refs_take(&refs, "acme", "r", "one", 44));
	assert_true(refs_take(&refs, "acme", "r", "one", 44));
	refs_leave(&refs, "acme", "r", "one", 7);
	refs_leave(&refs, "acme", "r", "one", 7);
	assert_int_equal(refs_keeper(&refs, "acme", "r", "one"), 44);
	refs_fini(&refs);
}

static void many_are_remembered(struct refs *refs, unsigned from, unsigned count)
{
	char ref[32];

	for (unsigned i = from; i < from + count; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		refs_remember(refs, "acme", ref, "one", 1);
	}
}

/* One that runs is not forgotten, however many come and go; when there is room for no other, the others are not remembered. */
static void what_runs_is_not_forgotten(void **state)
{
	struct refs refs = { 0 };
	char ref[32];

	(void)state;
	many_are_remembered(&refs, 0, REFS_MAX);
	assert_true(refs_take(&refs, "acme", "r1", "one", 0));
	many_are_remembered(&refs, REFS_MAX, 2 * REFS_MAX);
	assert_true(refs_taken(&refs, "acme", "r1", "one", UINT64_MAX));
	assert_null(refs_find(&refs, "acme", "r2"));
	for (unsigned i = 2 * REFS_MAX + 1; i < 3 * REFS_MAX; i++) {
		snprintf(ref, sizeof(ref), "r%u", i);
		assert_true(refs_take(&refs, "acme", ref, "one", 0));
	}
	many_are_remembered(&refs, 3 * REFS_MAX, 1);
	assert_null(refs_find(&refs, "acme", "r12288"));
	assert_false(refs_take(&refs, "acme", "r12288", "one", 0));
	refs_leave(&refs, "acme", "r1", "one", 0);
	many_are_remembered(&refs, 3 * REFS_MAX, 1);
	assert_string_equal(refs_find(&refs, "acme", "r12288"), "one");
	assert_null(refs_find(&refs, "acme", "r1"));
	refs_fini(&refs);
}

static bool is_taken_at(const struct refs *refs, unsigned executor)
{
	char name[32];

	snprintf(name, sizeof(name), "e%u", executor);
	return refs_taken(refs, "acme", "r", name, 0);
}

/* Places of one bucket, forgotten one after the other, are those that came first, and the others are still found. */
static void executors_of_one_ref_are_told_apart(void **state)
{
	enum { EXECUTORS = 50 };
	struct refs refs = { 0 };
	char name[32];

	(void)state;
	for (unsigned i = 0; i < EXECUTORS; i++) {
		snprintf(name, sizeof(name), "e%u", i);
		refs_remember(&refs, "acme", "r", name, 0);
		assert_true(refs_take(&refs, "acme", "r", name, 0));
		if (i % 5)
			refs_leave(&refs, "acme", "r", name, 1);
	}
	many_are_remembered(&refs, 0, REFS_MAX - EXECUTORS);
	for (unsigned i = 0; i < EXECUTORS; i++)
		assert_true(is_taken_at(&refs, i));
	many_are_remembered(&refs, REFS_MAX, 8);
	for (unsigned i = 0; i < EXECUTORS; i++)
		assert_int_equal(is_taken_at(&refs, i), i >= 10 || i % 5 == 0);
	assert_string_equal(refs_find(&refs, "acme", "r"), "e49");
	assert_non_null(refs_find(&refs, "acme", "r0"));
	many_are_remembered(&refs, 2 * REFS_MAX, 2 * REFS_MAX);
	for (unsigned i = 0; i < EXECUTORS; i++)
		assert_int_equal(is_taken_at(&refs, i), i % 5 == 0);
	assert_string_equal(refs_find(&refs, "acme", "r"), "e45");
	refs_fini(&refs);
}

static void our_lines_are_read_as_vertices(void **state)
{
	uint8_t storage[VERTEX_MESSAGE_BYTES_MAX];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct buildkit_vertex read;
	struct vertex vertex, other;
	struct span rest;
	bool failed = false;

	(void)state;
	vertex_init(&vertex, "waiting", "the-ref", "[sluice] waiting", 1000000007);
	vertex_init(&other, "waiting", "another", "[sluice] waiting", 1000000007);
	assert_string_not_equal(vertex.digest, other.digest);
	vertex_started(&vertex, &out);
	rest = buffer_span(&out);
	assert_true(buildkit_vertex_next(&rest, &read, &failed));
	assert_true(span_is(read.name, "[sluice] waiting") && span_is(read.digest, vertex.digest));
	assert_true(read.started && !read.completed);
	assert_int_equal(read.started_ns, 1000000007);
	buffer_clear(&out);
	vertex_completed(&vertex, "cancelled", 2000000000, &out);
	rest = buffer_span(&out);
	assert_true(buildkit_vertex_next(&rest, &read, &failed));
	assert_true(read.completed && span_is(read.error, "cancelled"));
	assert_int_equal(read.started_ns, 1000000007);
	buffer_clear(&out);
	vertex_log(&vertex, "2nd in queue", 5, &out);
	assert_non_null(memmem(out.data, out.size, "2nd in queue\n", 13));
	assert_false(out.failed || failed);
}

static void ordinals(void **state)
{
	static const struct {
		uint32_t number;
		const char *text;
	} cases[] = { { 1, "1st" }, { 2, "2nd" }, { 3, "3rd" }, { 4, "4th" }, { 11, "11th" }, { 12, "12th" }, { 13, "13th" },
	              { 21, "21st" }, { 102, "102nd" }, { 111, "111th" }, { 4294967295u, "4294967295th" } };
	char text[16];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(vertex_ordinal(cases[i].number, text), cases[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_build_is_described),
		cmocka_unit_test(a_build_may_want_real_times),
		cmocka_unit_test(what_is_too_long_is_cut),
		cmocka_unit_test(steps_are_counted),
		cmocka_unit_test(refs_are_remembered_for_a_while),
		cmocka_unit_test(refs_that_are_taken_stay),
		cmocka_unit_test(refs_are_taken),
		cmocka_unit_test(a_ref_has_a_keeper),
		cmocka_unit_test(what_runs_is_not_forgotten),
		cmocka_unit_test(executors_of_one_ref_are_told_apart),
		cmocka_unit_test(our_lines_are_read_as_vertices),
		cmocka_unit_test(ordinals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
