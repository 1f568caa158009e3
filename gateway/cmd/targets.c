/* Reads targets, puts them in order, and judges paths by their patterns. */
#include "gateway/cmd/targets_private.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/base/units.h"
#include "gateway/cmd/action.h"
#include "gateway/cmd/clean.h"
#include "gateway/cmd/config_file.h"
#include "gateway/cmd/outputs.h"
#include "gateway/cmd/suggest.h"
#include "proto/tree.h"

#define SEPARATOR '\n'                   /* of keys: the one character that no name can hold */

static const struct config_format targets_format = {
	.separator = SEPARATOR, .mappings = true, .bytes_max = TARGETS_BYTES_MAX, .keys_max = 4 * TARGETS_MAX,
};

/* ---- reading ---- */

static bool refuse_text(char *why, size_t why_size, const char *text)
{
	snprintf(why, why_size, "%s", text);
	return false;
}

/* Room for one more. */
static bool grow(void **items, size_t *capacity, size_t count, size_t size)
{
	size_t wanted = *capacity ? 2 * *capacity : 16;
	void *moved;

	if (count < *capacity)
		return true;
	moved = realloc(*items, wanted * size);
	if (!moved)
		return false;
	*items = moved;
	*capacity = wanted;
	return true;
}

/* It stands in tables, on lines of its own and in terminals. */
static bool shows_as_it_is(const char *name)
{
	char shown[TARGETS_NAME_MAX + 1];

	snprintf(shown, sizeof(shown), "%s", name);
	clean_text(shown);
	return strcmp(shown, name) == 0;
}

static bool begin_target(struct targets *targets, const char *name, unsigned line, char *why, size_t why_size)
{
	struct target *target;

	if (targets->count == TARGETS_MAX)
		return refuse_text(why, why_size, "one target too many");
	if (strlen(name) > TARGETS_NAME_MAX)
		return refuse_text(why, why_size, "the name of a target is too long");
	if (!shows_as_it_is(name))
		return refuse_text(why, why_size, "the name of a target holds a control character or is no UTF-8");
	if (!grow((void **)&targets->items, &targets->capacity, targets->count, sizeof(*targets->items)))
		return refuse_text(why, why_size, "out of memory");
	target = calloc(1, sizeof(*target));
	if (target)
		target->name = strdup(name);
	if (!target || !target->name) {
		free(target);
		return refuse_text(why, why_size, "out of memory");
	}
	target->line = line;
	target->lines = buffer_heap(IGNORE_BYTES_MAX);
	targets->items[targets->count++] = target;
	return true;
}

/* Alone first, so that a fault has its line; with the others of the target when all are there. */
static bool add_pattern(struct targets *targets, struct target *target, const struct config_entry *entry, char *why,
                        size_t why_size)
{
	struct ignore *alone;
	char fault[200] = "";
	const char *text;

	if (!*entry->value || *entry->value == '#' || strpbrk(entry->value, "\r\n"))
		return refuse_text(why, why_size, "a pattern is empty, begins with # or holds a line feed");
	if (ignore_create(&alone, span_text(entry->value), fault, sizeof(fault))) {
		text = strchr(fault, ':');
		snprintf(why, why_size, "`%s`:%s", entry->value, text ? text + 1 : " out of memory");
		return false;
	}
	ignore_destroy(alone);
	if (target->lines_count == IGNORE_PATTERNS_MAX || targets->patterns_count == TARGETS_PATTERNS_MAX)
		return refuse_text(why, why_size, "one pattern too many");
	buffer_put(&target->lines, entry->value, strlen(entry->value));
	buffer_put(&target->lines, "\n", 1);
	target->lines_count++;
	targets->patterns_count++;
	return target->lines.failed ? refuse_text(why, why_size, "the patterns of a target are too long") : true;
}

static bool add_need(struct targets *targets, struct target *target, const struct config_entry *entry, char *why, size_t why_size)
{
	char *name;

	if (!*entry->value)
		return refuse_text(why, why_size, "the name of a target is empty");
	if (targets->needs_count == TARGETS_NEEDS_MAX)
		return refuse_text(why, why_size, "one need too many");
	name = strdup(entry->value);
	if (!name || !grow((void **)&target->needs, &target->needs_capacity, target->needs_count, sizeof(*target->needs))) {
		free(name);
		return refuse_text(why, why_size, "out of memory");
	}
	target->needs[target->needs_count++] = (struct need){ .name = name, .line = entry->line };
	targets->needs_count++;
	return true;
}

static bool add_text(struct targets *targets, struct option_list *list, const struct config_entry *entry, char *why, size_t why_size)
{
	const char **items;
	char *text;

	if (targets->texts_count == TARGETS_TEXTS_MAX)
		return refuse_text(why, why_size, "one argument, output or variable too many");
	text = strdup(entry->value);
	items = text ? realloc(list->items, (list->count + 1) * sizeof(*items)) : NULL;
	if (!items) {
		free(text);
		return refuse_text(why, why_size, "out of memory");
	}
	list->items = items;
	list->items[list->count++] = text;
	targets->texts_count++;
	return true;
}

static bool set_text(char **member, const struct config_entry *entry, char *why, size_t why_size)
{
	if (entry->item || !*entry->value)
		return refuse_text(why, why_size, "one value is wanted, not none and no list");
	*member = strdup(entry->value);
	return *member ? true : refuse_text(why, why_size, "out of memory");
}

static bool take_run(struct targets *targets, struct target *target, const struct config_entry *entry, char *why, size_t why_size)
{
	if (!entry->item && !*entry->value)
		return refuse_text(why, why_size, "`run` is a command: a line for the shell, or a list of arguments");
	target->command.shell = !entry->item;
	return add_text(targets, &target->command.arguments, entry, why, why_size);
}

static bool take_member(struct targets *targets, struct target *target, const char *member, const struct config_entry *entry,
                        char *why, size_t why_size)
{
	if (strcmp(member, "paths") == 0)
		return add_pattern(targets, target, entry, why, why_size);
	if (strcmp(member, "needs") == 0)
		return add_need(targets, target, entry, why, why_size);
	if (strcmp(member, "run") == 0)
		return take_run(targets, target, entry, why, why_size);
	if (strcmp(member, "outputs") == 0 && !outputs_path_valid(entry->value))
		return refuse_text(why, why_size, "an output is a path below the tree, such as build/app");
	if (strcmp(member, "outputs") == 0)
		return add_text(targets, &target->command.outputs, entry, why, why_size);
	if (strcmp(member, "env") == 0 && !action_variable_valid(entry->value))
		return refuse_text(why, why_size, "a variable is NAME=VALUE or NAME");
	if (strcmp(member, "env") == 0)
		return add_text(targets, &target->command.environment, entry, why, why_size);
	if (strcmp(member, "image") == 0)
		return set_text(&target->image, entry, why, why_size);
	if (strcmp(member, "workdir") == 0 && *entry->value && !action_directory_valid(entry->value))
		return refuse_text(why, why_size, "`workdir` is a path in the tree, without a slash before it");
	if (strcmp(member, "workdir") == 0)
		return set_text(&target->working_directory, entry, why, why_size);
	if (strcmp(member, "timeout") == 0)
		return units_parse_duration(entry->value, &target->command.timeout_ns) && target->command.timeout_ns ? true :
		       refuse_text(why, why_size, "`timeout` is a time, such as 10m");
	snprintf(why, why_size, "unknown key `%s` of target `%s`: it has `paths`, `needs`, `run`, `outputs`, `env`, `image`, "
	         "`workdir` and `timeout`", member, target->name);
	return false;
}

/* "targets", then the name of a target, then what is said of it. */
static bool take_entry(void *context, const struct config_entry *entry, char *why, size_t why_size)
{
	struct targets *targets = context;
	const char *name = strchr(entry->key, SEPARATOR), *member = name ? strchr(name + 1, SEPARATOR) : NULL;
	struct target *target = targets->count ? targets->items[targets->count - 1] : NULL;

	if (strcmp(entry->key, "targets") != 0 && strncmp(entry->key, "targets\n", 8) != 0) {
		snprintf(why, why_size, "unknown key `%.*s`; the file begins with `targets:`", (int)strcspn(entry->key, "\n"),
		         entry->key);
		return false;
	}
	if (!name)
		return entry->value ? refuse_text(why, why_size, "`targets` is a mapping, of names to what they are made of") : true;
	if (!member && entry->value) {
		snprintf(why, why_size, "target `%s` is to have `paths:`, `needs:` or both below it", name + 1);
		return false;
	}
	if (!member)
		return begin_target(targets, name + 1, entry->line, why, why_size);
	CHECK(target);
	if (entry->value && !strchr(member + 1, SEPARATOR))
		return take_member(targets, target, member + 1, entry, why, why_size);
	snprintf(why, why_size, "unknown key `%.*s` of target `%s`: it has `paths` and `needs`, each a list, and what it runs",
	         (int)strcspn(member + 1, "\n"), member + 1, target->name);
	return false;
}

/* ---- what needs what ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct target *const *)a)->name, (*(struct target *const *)b)->name);
}

static struct target *find(const struct targets *targets, const char *name)
{
	struct target key = { .name = (char *)name }, *pointer = &key, **found;

	found = bsearch(&pointer, targets->by_name, targets->count, sizeof(*targets->by_name), by_name);
	return found ? *found : NULL;
}

static int refuse_need(const struct targets *targets, const struct target *target, const struct need *need,
                       const char *file, char *why, size_t why_size)
{
	const char *near = NULL;
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < targets->count; i++)
		if (targets->items[i] != target && suggest_nearer(need->name, targets->items[i]->name, &best))
			near = targets->items[i]->name;
	snprintf(why, why_size, near ? "%s:%u: target `%s` needs `%s`, which is not there; did you mean `%s`?" :
	         "%s:%u: target `%s` needs `%s`, which is not there", file, need->line, target->name, need->name, near);
	return -EINVAL;
}

static int resolve(struct targets *targets, const char *file, char *why, size_t why_size)
{
	/* Taken as it is, a file that was emptied would say of every change that nothing is affected. */
	if (targets->count == 0) {
		snprintf(why, why_size, "%s: there is no target in it; it begins with `targets:`, and names below that", file);
		return -EINVAL;
	}
	targets->by_name = malloc(targets->count * sizeof(struct target *));
	if (!targets->by_name)
		return ERR_RAISE(-ENOMEM);
	memcpy(targets->by_name, targets->items, targets->count * sizeof(struct target *));
	qsort(targets->by_name, targets->count, sizeof(struct target *), by_name);
	for (size_t i = 0; i < targets->count; i++) {
		struct target *target = targets->items[i];

		for (size_t j = 0; j < target->needs_count; j++) {
			target->needs[j].target = find(targets, target->needs[j].name);
			if (!target->needs[j].target)
				return refuse_need(targets, target, &target->needs[j], file, why, why_size);
		}
	}
	return 0;
}

/* The walk's stack, from where the circle begins to its end. */
static int refuse_cycle(struct target *const *stack, size_t depth, const struct need *need, const char *file, char *why,
                        size_t why_size)
{
	size_t at = 0, used;

	while (stack[at] != need->target)
		at++;
	used = (size_t)snprintf(why, why_size, "%s:%u: targets that need each other: ", file, need->line);
	for (; at < depth && used < why_size; at++)
		used += (size_t)snprintf(why + used, why_size - used, "`%s` needs ", stack[at]->name);
	if (used < why_size)
		snprintf(why + used, why_size - used, "`%s`", need->target->name);
	return -EINVAL;
}

/* Depth first, without recursion: appends to `order` what is needed before what needs it. */
static int walk(struct target *begin, struct target **stack, struct target **order, size_t *ordered, const char *file,
                char *why, size_t why_size)
{
	size_t depth = 0;

	if (begin->mark == MARK_DONE)
		return 0;
	stack[depth++] = begin;
	begin->mark = MARK_OPEN;
	while (depth) {
		struct target *target = stack[depth - 1];
		struct need *need = target->next < target->needs_count ? &target->needs[target->next++] : NULL;

		if (!need) {
			target->mark = MARK_DONE;
			order[(*ordered)++] = target;
			depth--;
		} else if (need->target->mark == MARK_OPEN) {
			return refuse_cycle(stack, depth, need, file, why, why_size);
		} else if (need->target->mark == MARK_NONE) {
			need->target->mark = MARK_OPEN;
			stack[depth++] = need->target;
		}
	}
	return 0;
}

static int put_in_order(struct targets *targets, const char *file, char *why, size_t why_size)
{
	struct target **stack = malloc((targets->count + 1) * sizeof(*stack));
	struct target **order = malloc((targets->count + 1) * sizeof(*order));
	size_t ordered = 0;
	int r = stack && order ? 0 : ERR_RAISE(-ENOMEM);

	for (size_t i = 0; r == 0 && i < targets->count; i++)
		r = walk(targets->items[i], stack, order, &ordered, file, why, why_size);
	free(stack);
	if (r) {
		free(order);
		return r;
	}
	CHECK(ordered == targets->count);
	free(targets->items);
	targets->items = order;
	return 0;
}

/* ---- life ---- */

static int compile(struct targets *targets)
{
	size_t most_needs = 0, most_state = 1;
	char why[200];

	for (size_t i = 0; i < targets->count; i++) {
		struct target *target = targets->items[i];

		if (target->lines_count && ignore_create(&target->patterns, buffer_span(&target->lines), why, sizeof(why)))
			return ERR_RAISE(-ENOMEM);
		target->command.image = target->image;
		target->command.working_directory = target->working_directory;
		if (target->patterns && ignore_state_bytes(target->patterns) > most_state)
			most_state = ignore_state_bytes(target->patterns);
		most_needs = target->needs_count > most_needs ? target->needs_count : most_needs;
	}
	targets->affected_needs = malloc((most_needs + 1) * sizeof(*targets->affected_needs));
	targets->states = malloc(2 * most_state);
	targets->stack = malloc((targets->count + 1) * sizeof(*targets->stack));
	return targets->affected_needs && targets->states && targets->stack ? 0 : ERR_RAISE(-ENOMEM);
}

static int finish(struct targets **out, struct targets *targets, int r, const char *file, char *why, size_t why_size)
{
	if (r == 0)
		r = resolve(targets, file, why, why_size);
	if (r == 0)
		r = put_in_order(targets, file, why, why_size);
	if (r == 0)
		r = compile(targets);
	if (r) {
		if (!*why)
			snprintf(why, why_size, "%s: %s", file, err_text(r));
		targets_destroy(targets);
		return r;
	}
	*out = targets;
	return 0;
}

int targets_read(struct targets **out, const char *path, char *why, size_t why_size)
{
	struct targets *targets = calloc(1, sizeof(*targets));

	*why = '\0';
	if (!targets)
		return ERR_RAISE(-ENOMEM);
	return finish(out, targets, config_file_read(path, &targets_format, take_entry, targets, why, why_size), path, why,
	              why_size);
}

int targets_parse(struct targets **out, struct span text, const char *name, char *why, size_t why_size)
{
	struct targets *targets = calloc(1, sizeof(*targets));

	*why = '\0';
	if (!targets)
		return ERR_RAISE(-ENOMEM);
	return finish(out, targets, config_text_read(text, name, &targets_format, take_entry, targets, why, why_size), name,
	              why, why_size);
}

static void texts_free(struct option_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free((char *)list->items[i]);
	free(list->items);
}

static void target_destroy(struct target *target)
{
	ignore_destroy(target->patterns);
	buffer_fini(&target->lines);
	for (size_t i = 0; i < target->needs_count; i++)
		free(target->needs[i].name);
	for (size_t i = 0; i < target->paths_count; i++)
		free(target->paths[i]);
	texts_free(&target->command.arguments);
	texts_free(&target->command.outputs);
	texts_free(&target->command.environment);
	free(target->image);
	free(target->working_directory);
	free(target->needs);
	free(target->name);
	free(target);
}

void targets_destroy(struct targets *targets)
{
	if (!targets)
		return;
	for (size_t i = 0; i < targets->count; i++)
		target_destroy(targets->items[i]);
	free(targets->items);
	free(targets->by_name);
	free(targets->affected_needs);
	free(targets->states);
	free(targets->stack);
	free(targets);
}

/* ---- paths ---- */

/* As a .dockerignore would leave it out: by the patterns that match it or a directory that it is in. */
enum ignore_verdict targets_judge(struct targets *targets, const struct target *target, struct span path)
{
	size_t state_bytes = ignore_state_bytes(target->patterns);
	const uint8_t *parent = NULL;
	enum ignore_verdict verdict = IGNORE_INCLUDED;

	for (size_t i = 1, depth = 0; i <= path.size; i++) {
		uint8_t *state = targets->states + (depth % 2) * state_bytes;

		if (i < path.size && path.data[i] != '/')
			continue;
		verdict = ignore_judge(target->patterns, span_make(path.data, i), parent, state);
		parent = state;
		depth++;
	}
	return verdict;
}

static bool is_input(struct targets *targets, const struct target *target, struct span path)
{
	return targets_judge(targets, target, path) != IGNORE_INCLUDED;
}

int targets_touch(struct targets *targets, const char *path)
{
	struct span span = span_text(path);

	for (size_t i = 0; i < targets->count; i++) {
		struct target *target = targets->items[i];

		if (!target->patterns || target->more || !is_input(targets, target, span))
			continue;
		target->affected = true;
		target->more = target->paths_count == TARGETS_REASONS_MAX;
		if (target->more)
			continue;
		target->paths[target->paths_count] = strdup(path);
		if (!target->paths[target->paths_count])
			return ERR_RAISE(-ENOMEM);
		target->paths_count++;
	}
	return 0;
}

/* In the order of needs, so that one pass is enough. */
void targets_settle(struct targets *targets)
{
	for (size_t i = 0; i < targets->count; i++) {
		struct target *target = targets->items[i];

		for (size_t j = 0; j < target->needs_count; j++)
			target->affected |= target->needs[j].target->affected;
	}
}

/* ---- what is asked ---- */

size_t targets_count(const struct targets *targets)
{
	return targets->count;
}

const char *targets_name(const struct targets *targets, size_t index)
{
	CHECK(index < targets->count);
	return targets->items[index]->name;
}

bool targets_affected(const struct targets *targets, size_t index)
{
	CHECK(index < targets->count);
	return targets->items[index]->affected;
}

struct target_reason targets_reason(struct targets *targets, size_t index)
{
	const struct target *target = targets->items[index];
	struct target_reason reason = {
		.paths = (const char *const *)target->paths, .paths_count = target->paths_count, .more = target->more,
		.needs = targets->affected_needs,
	};

	CHECK(index < targets->count);
	for (size_t i = 0; i < target->needs_count; i++)
		if (target->needs[i].target->affected)
			targets->affected_needs[reason.needs_count++] = target->needs[i].target->name;
	return reason;
}
