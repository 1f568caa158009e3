/*
 * executor_capabilities: any answers of a daemon become a set or are refused with a reason. A set is sorted, has each text
 * once, printable and ended, covers itself and nothing, and what covers it all but for one names that one.
 * Input: the length of the first answer in two bytes, ListWorkers, Pong.
 */
#include "gateway/buildkitd/executor_capabilities.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static void check(const struct capabilities *set)
{
	struct capabilities none = { 0 }, less = *set;
	char missing[400];

	for (size_t i = 0; i < set->count; i++) {
		REQUIRE(memchr(set->texts[i], '\0', CAPABILITY_TEXT_MAX));
		for (const char *at = set->texts[i]; *at; at++)
			REQUIRE(*at >= ' ' && *at < 127);
		REQUIRE(i == 0 || strcmp(set->texts[i - 1], set->texts[i]) < 0);
	}
	REQUIRE(set->count <= CAPABILITIES_MAX);
	REQUIRE(capabilities_cover(set, set, missing, sizeof(missing)) && !missing[0]);
	REQUIRE(capabilities_cover(set, &none, missing, sizeof(missing)));
	if (!set->count)
		return;
	less.count--;
	REQUIRE(capabilities_cover(set, &less, missing, sizeof(missing)));
	REQUIRE(!capabilities_cover(&less, set, missing, sizeof(missing)));
	REQUIRE(strcmp(missing, set->texts[less.count]) == 0);
	REQUIRE(!capabilities_cover(&none, set, missing, sizeof(missing)) && missing[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct capabilities set = { 0 };
	char why[128] = "";
	size_t first;

	if (size < 2)
		return 0;
	first = (size_t)data[0] << 8 | data[1];
	if (first > size - 2)
		first = size - 2;
	if (capabilities_parse(&set, span_make(data + 2, first), span_make(data + 2 + first, size - 2 - first), why, sizeof(why)))
		check(&set);
	else
		REQUIRE(why[0] && !set.texts);
	capabilities_fini(&set);
	return 0;
}
