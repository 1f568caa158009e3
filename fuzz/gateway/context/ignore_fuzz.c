/*
 * ignore: a .dockerignore (up to the first NUL) and a path. Whatever the patterns, judging ends, and what is pruned
 * hides nothing: below a pruned directory every path is excluded.
 */
#include "gateway/context/ignore.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static void walk(const struct ignore *ignore, struct span path)
{
	size_t state_bytes = ignore_state_bytes(ignore);
	uint8_t *states = malloc(2 * state_bytes);
	const uint8_t *parent = NULL;
	bool pruned = false;

	REQUIRE(states);
	for (size_t i = 1, depth = 0; i <= path.size; i++) {
		uint8_t *state = states + (depth % 2) * state_bytes;
		enum ignore_verdict verdict;

		if (i < path.size && path.data[i] != '/')
			continue;
		verdict = ignore_judge(ignore, span_make(path.data, i), parent, state);
		REQUIRE(verdict == ignore_judge(ignore, span_make(path.data, i), parent, NULL));
		REQUIRE(!pruned || verdict != IGNORE_INCLUDED);
		pruned = pruned || verdict == IGNORE_PRUNED;
		parent = state;
		depth++;
	}
	free(states);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
	struct span text = span_make(data, nul ? (size_t)(nul - data) : size);
	struct span path = nul ? span_make(nul + 1, size - text.size - 1) : span_make("a/b", 3);
	struct ignore *ignore;
	char why[200];

	if (ignore_create(&ignore, text, why, sizeof(why)))
		return 0;
	/* A walk only ever names paths without empty components. */
	if (path.size && path.data[0] != '/')
		walk(ignore, path);
	ignore_destroy(ignore);
	return 0;
}
