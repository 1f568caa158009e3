/*
 * targets: a file of targets (up to the first NUL) and paths, a line each. Whatever it is, it is taken whole or refused with
 * a sentence that names the file; what is taken has each target after those that it needs, and a target is affected
 * exactly when it has a reason.
 */
#include "gateway/cmd/targets.h"

#include <stdlib.h>

#include "gateway/cmd/command.h"

const struct command *const command_table[] = { NULL };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

static bool was_before(const struct targets *targets, size_t index, const char *name)
{
	for (size_t i = 0; i < index; i++)
		if (strcmp(targets_name(targets, i), name) == 0)
			return true;
	return false;
}

static void touch_lines(struct targets *targets, struct span lines)
{
	char *text = malloc(lines.size + 1), *rest = text, *line;

	REQUIRE(text);
	if (lines.size)
		memcpy(text, lines.data, lines.size);
	text[lines.size] = '\0';
	while ((line = strsep(&rest, "\n")))
		if (*line && *line != '/')
			REQUIRE(targets_touch(targets, line) == 0);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
	struct span text = span_make(data, nul ? (size_t)(nul - data) : size);
	struct span paths = nul ? span_make(nul + 1, size - text.size - 1) : span_text("a/b\nsrc/main.c");
	struct targets *targets = NULL;
	char why[512];

	if (targets_parse(&targets, text, "file", why, sizeof(why))) {
		REQUIRE(!targets && strncmp(why, "file:", 5) == 0);
		return 0;
	}
	touch_lines(targets, paths);
	targets_settle(targets);
	for (size_t i = 0; i < targets_count(targets); i++) {
		struct target_reason reason = targets_reason(targets, i);

		REQUIRE(targets_affected(targets, i) == (reason.paths_count > 0 || reason.needs_count > 0));
		for (size_t j = 0; j < reason.needs_count; j++)
			REQUIRE(was_before(targets, i, reason.needs[j]));
	}
	targets_destroy(targets);
	return 0;
}
