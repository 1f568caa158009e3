/* Shows what is read out of a daemon's answers, which sets cover which, and how what is missing is named. */
#include "gateway/buildkitd/executor_capabilities.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/pb.h"

struct answers {
	struct buffer workers, pong;
};

static struct answers answers_make(void)
{
	return (struct answers){ buffer_heap(8u << 20), buffer_heap(8u << 20) };
}

static void answers_fini(struct answers *answers)
{
	buffer_fini(&answers->workers);
	buffer_fini(&answers->pong);
}

static void put_capability(struct answers *answers, uint32_t kind, const char *id, bool enabled)
{
	size_t mark = pb_begin(&answers->pong, kind);

	pb_put_text(&answers->pong, 1, id);
	pb_put_bool(&answers->pong, 2, enabled);
	pb_put_text(&answers->pong, 5, "why it is disabled");
	pb_end(&answers->pong, mark);
}

static void put_worker(struct answers *answers, const char *system, const char *architecture, const char *variant)
{
	size_t worker = pb_begin(&answers->workers, 1), platform;

	pb_put_text(&answers->workers, 1, "id");
	platform = pb_begin(&answers->workers, 3);
	pb_put_text(&answers->workers, 1, architecture);
	pb_put_text(&answers->workers, 2, system);
	pb_put_text(&answers->workers, 3, variant);
	pb_end(&answers->workers, platform);
	pb_end(&answers->workers, worker);
}

static bool parse(struct capabilities *set, const struct answers *answers, char *why, size_t why_size)
{
	return capabilities_parse(set, buffer_span(&answers->workers), buffer_span(&answers->pong), why, why_size);
}

static void sets_are_sorted_texts(void **state)
{
	struct answers answers = answers_make();
	struct capabilities set;
	char why[128];

	put_capability(&answers, 2, "source.local", true);
	put_capability(&answers, 2, "exec.mount.cache", true);
	put_capability(&answers, 2, "source.local", true);
	put_capability(&answers, 2, "source.off", false);
	put_capability(&answers, 1, "gateway.\n\x80 exec", true);
	put_worker(&answers, "linux", "arm64", "v8");
	put_worker(&answers, "linux", "amd64", "");
	assert_true(parse(&set, &answers, why, sizeof(why)));
	assert_int_equal(set.count, 5);
	assert_string_equal(set.texts[0], "LLB capability exec.mount.cache");
	assert_string_equal(set.texts[1], "LLB capability source.local");
	assert_string_equal(set.texts[2], "frontend capability gateway.???exec");
	assert_string_equal(set.texts[3], "platform linux/amd64");
	assert_string_equal(set.texts[4], "platform linux/arm64/v8");
	capabilities_fini(&set);
	answers_fini(&answers);
}

static void what_is_missing_is_named(void **state)
{
	struct answers all = answers_make(), few = answers_make();
	struct capabilities have, need;
	char missing[400], why[128], id[32];

	for (unsigned i = 0; i < 8; i++) {
		snprintf(id, sizeof(id), "cap.%u", i);
		put_capability(&all, 2, id, true);
		put_capability(&few, 2, id, i < 3);
	}
	assert_true(parse(&need, &all, why, sizeof(why)) && parse(&have, &few, why, sizeof(why)));
	assert_true(capabilities_cover(&need, &have, missing, sizeof(missing)));
	assert_string_equal(missing, "");
	assert_true(capabilities_cover(&need, &need, missing, sizeof(missing)));
	assert_false(capabilities_cover(&have, &need, missing, sizeof(missing)));
	assert_string_equal(missing, "LLB capability cap.3, LLB capability cap.4, LLB capability cap.5 and 2 more");
	capabilities_fini(&have);
	capabilities_fini(&need);
	answers_fini(&all);
	answers_fini(&few);
}

static void what_is_malformed_is_refused(void **state)
{
	struct answers answers = answers_make();
	struct capabilities set = { 0 };
	char why[128] = "", id[32];

	put_capability(&answers, 1, "x", true);
	put_worker(&answers, "linux", "amd64", "");
	for (size_t cut = 1; cut < answers.workers.size; cut++) {
		struct span workers = span_make(answers.workers.data, cut);

		assert_false(capabilities_parse(&set, workers, buffer_span(&answers.pong), why, sizeof(why)));
		assert_string_not_equal(why, "");
	}
	for (size_t cut = 1; cut < answers.pong.size; cut++) {
		struct span pong = span_make(answers.pong.data, cut);

		assert_false(capabilities_parse(&set, buffer_span(&answers.workers), pong, why, sizeof(why)));
	}
	for (unsigned i = 0; i < CAPABILITIES_MAX; i++) {
		snprintf(id, sizeof(id), "cap.%u", i);
		put_capability(&answers, 2, id, true);
	}
	assert_false(parse(&set, &answers, why, sizeof(why)));
	assert_non_null(strstr(why, "more capabilities than are read"));
	assert_null(set.texts);
	answers_fini(&answers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_are_sorted_texts),
		cmocka_unit_test(what_is_missing_is_named),
		cmocka_unit_test(what_is_malformed_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
