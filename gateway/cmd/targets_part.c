/* What a target is made of. */
#include "gateway/cmd/targets_private.h"

#include "gateway/base/check.h"

const struct target_command *targets_command(const struct targets *targets, size_t index)
{
	CHECK(index < targets->count);
	return &targets->items[index]->command;
}

/* "." and ".." and "//", which a .dockerignore's reader cleans away. */
static bool has_odd_parts(struct span line)
{
	if (line.size && line.data[0] == '.')
		return true;
	for (size_t i = 0; i + 1 < line.size; i++)
		if (line.data[i] == '/' && (line.data[i + 1] == '/' || line.data[i + 1] == '.'))
			return true;
	return false;
}

/* May what the pattern matches lie below `path`? A guess on the safe side: literal text decides, before any operator. */
static bool pattern_reaches(struct span line, struct span path)
{
	size_t literal = 0, common;

	if (line.size && line.data[0] == '!')
		return false;
	while (line.size && line.data[0] == '/')
		line = span_make(line.data + 1, line.size - 1);
	while (literal < line.size && !memchr("*?[\\", line.data[literal], 4))
		literal++;
	if (has_odd_parts(line))
		return true;
	common = literal < path.size ? literal : path.size;
	if (memcmp(line.data, path.data, common) != 0)
		return false;
	return literal < path.size ? literal < line.size : line.size > path.size;
}

static bool may_hold(const struct target *target, struct span path)
{
	struct span rest = buffer_span(&target->lines);

	while (rest.size) {
		const uint8_t *end = memchr(rest.data, '\n', rest.size);
		size_t size = (size_t)(end - rest.data);

		if (pattern_reaches(span_make(rest.data, size), path))
			return true;
		rest = span_make(end + 1, rest.size - size - 1);
	}
	return false;
}

static enum target_part part_of(struct targets *targets, const struct target *target, struct span path)
{
	if (!target->patterns)
		return TARGETS_NO_PART;
	switch (targets_judge(targets, target, path)) {
	case IGNORE_PRUNED:
		return TARGETS_WHOLE;
	case IGNORE_EXCLUDED:
		return TARGETS_PART;
	case IGNORE_INCLUDED:
		break;
	}
	return may_hold(target, path) ? TARGETS_MAY_HOLD : TARGETS_NO_PART;
}

enum target_part targets_part(struct targets *targets, size_t index, const char *path)
{
	enum target_part best = TARGETS_NO_PART;
	struct span span = span_text(path);
	size_t depth = 0;

	CHECK(index < targets->count);
	targets->visits++;
	targets->stack[depth++] = targets->items[index];
	targets->items[index]->visit = targets->visits;
	while (depth && best != TARGETS_WHOLE) {
		struct target *target = targets->stack[--depth];
		enum target_part part = part_of(targets, target, span);

		best = part > best ? part : best;
		for (size_t i = 0; i < target->needs_count; i++) {
			struct target *need = target->needs[i].target;

			if (need->visit == targets->visits)
				continue;
			need->visit = targets->visits;
			targets->stack[depth++] = need;
		}
	}
	return best;
}
