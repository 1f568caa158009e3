/*
 * Shows how an Action and its Command become an Assignment: every field arrives, the Action's platform comes before the
 * Command's, time-outs are rounded up and bounded, and what is malformed is refused with a sentence, not ignored.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/pool/task.h"
#include "proto/pb.h"
#include "proto/reapi.h"
#include "proto/sluice_v1.h"

struct property {
	const char *name, *value;
};

static void put_platform(struct buffer *out, uint32_t number, const struct property *properties)
{
	size_t mark = pb_begin(out, number);

	for (; properties->name; properties++) {
		struct reapi_variable property = { .name = span_text(properties->name), .value = span_text(properties->value) };

		message_nest(&reapi_variable_type, out, 1, &property);
	}
	pb_end(out, mark);
}

static const char *take_timeout(struct task *task, uint64_t seconds, uint64_t nanos)
{
	uint8_t storage[256];
	struct buffer action = buffer_over(storage, sizeof(storage));
	size_t mark = pb_begin(&action, 6);

	pb_put_varint(&action, 1, seconds);
	pb_put_varint(&action, 2, nanos);
	pb_end(&action, mark);
	return task_take_action(task, buffer_span(&action));
}

static void timeouts_have_bounds(void **state)
{
	struct task task;

	assert_null(task_take_action(&task, (struct span){ 0 }));
	assert_int_equal(task.timeout_ms, TASK_TIMEOUT_MAX_MS);
	assert_null(take_timeout(&task, 0, 0));
	assert_int_equal(task.timeout_ms, TASK_TIMEOUT_MAX_MS);
	assert_null(take_timeout(&task, 0, 1));
	assert_int_equal(task.timeout_ms, 1);            /* not 0, which would be none */
	assert_null(take_timeout(&task, 90, 500000000));
	assert_int_equal(task.timeout_ms, 90500);
	assert_null(take_timeout(&task, 86400, 0));
	assert_null(take_timeout(&task, 86400, 999999999));
	assert_int_equal(task.timeout_ms, TASK_TIMEOUT_MAX_MS);
	assert_non_null(take_timeout(&task, 86401, 0));
	assert_non_null(take_timeout(&task, (uint64_t)-1, 0));
	assert_non_null(take_timeout(&task, 0, (uint64_t)-1));
	assert_non_null(take_timeout(&task, 1, 1000000000));
}

/* Each string of a Command in turn, with one byte of it, from the first to the last, a NUL. */
static void strings_with_a_nul_are_refused(void **state)
{
	enum { ARGUMENT, NAME, VALUE, DIRECTORY, FILE_OUT, DIRECTORY_OUT, PATH_OUT, IMAGE, PLACES };

	for (unsigned place = 0; place < PLACES; place++) {
		for (unsigned nul = 0; nul <= 3; nul++) {
			char text[4] = "abc";
			const struct span odd = span_make(text, 3), even = span_text("x");
			struct reapi_variable variable = { .name = place == NAME ? odd : even, .value = place == VALUE ? odd : even };
			struct reapi_variable image = { .name = span_text("image"), .value = place == IMAGE ? odd : even };
			uint8_t storage[512];
			struct buffer command = buffer_over(storage, sizeof(storage));
			struct task task;
			const char *fault;
			size_t mark;

			text[nul] = 0;
			pb_put_bytes_always(&command, 1, even);
			pb_put_bytes_always(&command, 1, place == ARGUMENT ? odd : even);
			message_nest(&reapi_variable_type, &command, 2, &variable);
			pb_put_bytes_always(&command, 3, place == FILE_OUT ? odd : even);
			pb_put_bytes_always(&command, 4, place == DIRECTORY_OUT ? odd : even);
			mark = pb_begin(&command, 5);
			message_nest(&reapi_variable_type, &command, 1, &image);
			pb_end(&command, mark);
			pb_put_bytes_always(&command, 6, place == DIRECTORY ? odd : even);
			pb_put_bytes_always(&command, 7, place == PATH_OUT ? odd : even);
			assert_null(task_take_action(&task, (struct span){ 0 }));
			fault = task_take_command(&task, buffer_span(&command));
			if (nul == 3)
				assert_null(fault);
			else
				assert_non_null(strstr(fault ? fault : "", "NUL byte"));
		}
	}
}

static void everything_arrives(void **state)
{
	static const struct property of_command[] = {
		{ "image", "debian" }, { "network", "true" }, { "pids", "7" }, { "OSFamily", "linux" }, { NULL, NULL } };
	static const struct property of_action[] = { { "image", "alpine" }, { "memory-bytes", "1048576" }, { "cpu-millis", "250" },
	                                             { NULL, NULL } };
	uint8_t storage[4][1024];
	struct buffer action = buffer_over(storage[0], 1024), command = buffer_over(storage[1], 1024),
	              assignment = buffer_over(storage[2], 1024);
	struct reapi_variable variable = { .name = span_text("CC"), .value = span_text("gcc") };
	struct message_cursor cursor = { 0 };
	struct executor_assignment got;
	struct executor_variable got_variable;
	struct digest root = { .size = 123, .hash = { 9 } }, command_digest = { .size = 5, .hash = { 8 } }, found;
	struct span element;
	struct task task;

	message_put_digest(&action, 1, &command_digest);
	message_put_digest(&action, 2, &root);
	pb_put_bool(&action, 7, true);
	put_platform(&action, 10, of_action);
	pb_put_text(&command, 1, "make");
	pb_put_bytes_always(&command, 1, span_text(""));
	message_nest(&reapi_variable_type, &command, 2, &variable);
	pb_put_text(&command, 6, "src");
	put_platform(&command, 5, of_command);
	assert_null(task_take_action(&task, buffer_span(&action)));
	assert_true(digest_equal(&task.command_digest, &command_digest));
	assert_true(task.do_not_cache);
	assert_null(task_take_command(&task, buffer_span(&command)));
	task_encode(&task, 77, "acme", 5, &assignment);
	assert_false(assignment.failed);
	assert_true(message_decode(&executor_assignment_type, buffer_span(&assignment), &got));
	assert_int_equal(got.id, 77);
	assert_true(span_is(got.tenant, "acme"));
	assert_int_equal(got.instance, 5);
	assert_true(digest_list_next(&got.root, &found) && digest_equal(&found, &root));
	assert_true(span_is(got.working_directory, "src"));
	assert_true(span_is(got.image, "alpine"));
	assert_true(got.network);
	assert_int_equal(got.pids, 7);
	assert_int_equal(got.memory_bytes, 1048576);
	assert_int_equal(got.cpu_millis, 250);
	assert_int_equal(got.arguments.count, 2);
	assert_true(message_list_next(&got.arguments, &cursor, &element) && span_is(element, "make"));
	assert_true(message_list_next(&got.arguments, &cursor, &element) && element.size == 0);
	cursor = (struct message_cursor){ 0 };
	assert_true(message_list_next(&got.environment, &cursor, &element));
	assert_true(message_decode(&executor_variable_type, element, &got_variable));
	assert_true(span_is(got_variable.name, "CC") && span_is(got_variable.value, "gcc"));
}

static const char *take_properties(struct task *task, const struct property *platform)
{
	static uint8_t storage[512];
	struct buffer command = buffer_over(storage, sizeof(storage));

	pb_put_text(&command, 1, "true");
	put_platform(&command, 5, platform);
	task_take_action(task, (struct span){ 0 });
	return task_take_command(task, buffer_span(&command));
}

static void a_limit_that_is_no_number_is_refused(void **state)
{
	static const char *const values[] = { "", "x", "-1", "1e9", "18446744073709551616", " 7" };
	static const char *const names[] = { "memory-bytes", "cpu-millis", "pids" };
	struct task task;

	for (size_t i = 0; i < 6; i++)
		for (size_t j = 0; j < 3; j++) {
			const struct property platform[] = { { names[j], values[i] }, { NULL, NULL } };
			uint8_t storage[256];
			struct buffer command = buffer_over(storage, sizeof(storage));
			const char *fault;

			pb_put_text(&command, 1, "true");
			put_platform(&command, 5, platform);
			task_take_action(&task, (struct span){ 0 });
			fault = task_take_command(&task, buffer_span(&command));
			assert_non_null(fault);
			assert_non_null(strstr(fault, names[j]));
		}
}

/* The most that there may be, and one more: as a quota for the runtime that would have wrapped. */
static void limits_have_bounds(void **state)
{
	static const struct {
		const char *name;
		uint64_t most;
	} limits[] = { { "memory-bytes", 1ull << 62 }, { "cpu-millis", 1000000 }, { "pids", 4194304 } };
	struct task task;

	for (size_t i = 0; i < 3; i++)
		for (uint64_t more = 0; more < 2; more++) {
			char value[32];
			const struct property platform[] = { { limits[i].name, value }, { NULL, NULL } };
			const char *fault;

			snprintf(value, sizeof(value), "%llu", (unsigned long long)(limits[i].most + more));
			fault = take_properties(&task, platform);
			assert_int_equal(fault != NULL, more);
			snprintf(value, sizeof(value), "%llu", (unsigned long long)limits[i].most);
			assert_true(!fault || strstr(fault, value));
		}
}

static void a_network_is_asked_for_or_not(void **state)
{
	static const struct {
		const char *value;
		bool good, network;
	} cases[] = { { "true", true, true }, { "false", true, false }, { "", false, false }, { "host", false, false } };
	struct task task;

	for (size_t i = 0; i < 4; i++) {
		const struct property platform[] = { { "network", cases[i].value }, { NULL, NULL } };
		uint8_t storage[256];
		struct buffer command = buffer_over(storage, sizeof(storage));

		pb_put_text(&command, 1, "true");
		put_platform(&command, 5, platform);
		task_take_action(&task, (struct span){ 0 });
		assert_int_equal(task_take_command(&task, buffer_span(&command)) == NULL, cases[i].good);
		assert_int_equal(task.network, cases[i].network);
	}
}

static void malformed_blobs_are_refused(void **state)
{
	uint8_t storage[64];
	struct buffer bytes = buffer_over(storage, sizeof(storage));
	struct task task;

	assert_non_null(task_take_action(&task, span_text("\x0a\x7f")));
	task_take_action(&task, (struct span){ 0 });
	assert_non_null(task_take_command(&task, span_text("\x0a\x7f")));
	assert_non_null(strstr(task_take_command(&task, (struct span){ 0 }), "no arguments"));
	pb_put_text(&bytes, 1, "true");
	pb_put_text(&bytes, 5, "\x0a\x7f");              /* the platform */
	assert_non_null(task_take_command(&task, buffer_span(&bytes)));
}

static void other_clients_words_are_understood(void **state)
{
	static const struct property good[] = {
		{ "container-image", "docker://debian/12" }, { "OSFamily", "Linux" }, { "Pool", "default" }, { "cache-silo-key", "x" },
		{ "dockerNetwork", "standard" }, { "sluice-outputs", "changes" }, { NULL, NULL } };
	static const struct {
		struct property platform[2];
		const char *fault;
	} bad[] = {
		{ { { "OSFamily", "Windows" } }, "OSFamily" }, { { { "Pool", "gpu" } }, "Pool" }, { { { "ISA", "mips" } }, "ISA" },
		{ { { "dockerNetwork", "host" } }, "dockerNetwork" }, { { { "sluice-outputs", "all" } }, "sluice-outputs" },
		{ { { "gpu", "1" } }, "platform property \"gpu\"" }, { { { "", "" } }, "platform property" },
	};
	struct task task;

	assert_null(take_properties(&task, good));
	assert_true(span_is(task.image, "debian/12"));
	assert_true(task.network && task.changes);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *fault = take_properties(&task, bad[i].platform);

		assert_non_null(fault);
		assert_non_null(strstr(fault, bad[i].fault));
	}
}

/* REAPI's lexicon of platform properties has names for the ISAs; others are in use. */
static void the_machine_has_several_names(void **state)
{
#if defined(__x86_64__)
	static const char *const names[] = { "x86-64", "x86_64", "amd64", "k8" };
#elif defined(__aarch64__)
	static const char *const names[] = { "arm-a64", "arm64", "aarch64", "arm-v8" };
#else
	static const char *const names[] = { NULL };
#endif
	struct task task;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && names[i]; i++) {
		const struct property platform[] = { { "ISA", names[i] }, { NULL, NULL } };

		assert_null(take_properties(&task, platform));
	}
}

static void outputs_arrive_as_they_are_named(void **state)
{
	uint8_t storage[2][1024];

	for (int paths = 0; paths < 2; paths++) {
		struct buffer command = buffer_over(storage[0], 1024), assignment = buffer_over(storage[1], 1024);
		struct executor_assignment got;
		struct task task;

		pb_put_text(&command, 1, "cc");
		pb_put_text(&command, 3, "a.o");
		pb_put_text(&command, 4, "dir");
		if (paths)
			pb_put_text(&command, 7, "any");
		pb_put_text(&command, 8, "unix_mode");
		task_take_action(&task, (struct span){ 0 });
		assert_null(task_take_command(&task, buffer_span(&command)));
		task_encode(&task, 1, "acme", 1, &assignment);
		assert_true(message_decode(&executor_assignment_type, buffer_span(&assignment), &got));
		assert_int_equal(got.output_paths.count, paths);
		assert_int_equal(got.output_files.count, !paths);        /* the old lists count where there are no paths */
		assert_int_equal(got.output_directories.count, !paths);
		assert_true(got.unix_modes && !got.changes);
	}
}

/* An output without what it was asked for would be taken for one with it. */
static void an_unknown_node_property_is_refused(void **state)
{
	uint8_t storage[256];
	struct buffer command = buffer_over(storage, sizeof(storage));
	const char *fault;
	struct task task;

	pb_put_text(&command, 1, "cc");
	pb_put_text(&command, 8, "unix_mode");
	task_take_action(&task, (struct span){ 0 });
	assert_null(task_take_command(&task, buffer_span(&command)));
	pb_put_text(&command, 8, "mtime");
	fault = task_take_command(&task, buffer_span(&command));
	assert_non_null(fault);
	assert_non_null(strstr(fault, "node property \"mtime\""));
}

static void outputs_have_a_bound(void **state)
{
	struct buffer command = buffer_heap(1 << 20);
	struct task task;

	pb_put_text(&command, 1, "cc");
	for (unsigned i = 0; i < TASK_OUTPUTS_MAX; i++)
		pb_put_text(&command, 3 + i % 2, "x");
	task_take_action(&task, (struct span){ 0 });
	assert_null(task_take_command(&task, buffer_span(&command)));
	pb_put_text(&command, 7, "one more");
	assert_non_null(task_take_command(&task, buffer_span(&command)));
	buffer_fini(&command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timeouts_have_bounds),
		cmocka_unit_test(strings_with_a_nul_are_refused),
		cmocka_unit_test(everything_arrives),
		cmocka_unit_test(other_clients_words_are_understood),
		cmocka_unit_test(the_machine_has_several_names),
		cmocka_unit_test(outputs_arrive_as_they_are_named),
		cmocka_unit_test(an_unknown_node_property_is_refused),
		cmocka_unit_test(outputs_have_a_bound),
		cmocka_unit_test(a_limit_that_is_no_number_is_refused),
		cmocka_unit_test(limits_have_bounds),
		cmocka_unit_test(a_network_is_asked_for_or_not),
		cmocka_unit_test(malformed_blobs_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
