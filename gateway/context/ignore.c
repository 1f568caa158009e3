/* Reads a .dockerignore and judges paths by it. */
#include "gateway/context/ignore.h"

#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/context/ignore_pattern.h"
#include "proto/escape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct rule {
	struct ignore_pattern *pattern;
	bool exception;
};

struct ignore {
	struct rule *rules;
	size_t count, capacity;
};

static struct span after(struct span text, size_t count)
{
	return span_make(text.data + count, text.size - count);
}

/* Unicode's White_Space, as Go's strings.TrimSpace takes it. */
static size_t space_size(struct span text)
{
	static const char *const spaces[] = {
	    "\t",	    "\n",	    "\v",	    "\f",	    "\r",	    " ",
	    "\xc2\x85",	    "\xc2\xa0",	    "\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
	    "\xe2\x81\x9f", "\xe3\x80\x80",
	};

	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		size_t size = strlen(spaces[i]);

		if (text.size >= size && memcmp(text.data, spaces[i], size) == 0)
			return size;
	}
	/* U+2000 to U+200A */
	if (text.size >= 3 && memcmp(text.data, "\xe2\x80", 2) == 0 && text.data[2] >= 0x80 && text.data[2] <= 0x8a)
		return 3;
	return 0;
}

static size_t space_size_at_end(struct span text)
{
	for (size_t size = 1; size <= 3 && size <= text.size; size++) {
		if (space_size(after(text, text.size - size)) == size)
			return size;
	}
	return 0;
}

static struct span trim(struct span text)
{
	size_t size;

	while ((size = space_size(text)))
		text = after(text, size);
	while ((size = space_size_at_end(text)))
		text.size -= size;
	return text;
}

static struct span take_component(struct span *path)
{
	const uint8_t *slash = path->size ? memchr(path->data, '/', path->size) : NULL;
	struct span component = *path;

	if (slash)
		component.size = (size_t)(slash - path->data);
	*path = after(*path, component.size + (slash != NULL));
	return component;
}

/* Takes the last name off what is there beyond `start`; false when there is none, or it is "..". */
static bool clean_back(struct buffer *out, size_t start)
{
	size_t at = out->size;

	while (at > start && out->data[at - 1] != '/')
		at--;
	if (out->size == start || span_is(span_make(out->data + at, out->size - at), ".."))
		return false;
	out->size = at > start ? at - 1 : start;
	return true;
}

/* Go's path/filepath.Clean: the shortest path of the same meaning, by its text alone. */
static void clean(struct buffer *out, struct span path)
{
	size_t begin = out->size, start = begin;
	bool rooted = path.size && path.data[0] == '/';

	if (rooted)
		buffer_put(out, "/", 1);
	start = out->size;
	while (path.size) {
		struct span component = take_component(&path);

		if (component.size == 0 || span_is(component, "."))
			continue;
		if (span_is(component, "..") && (clean_back(out, start) || rooted))
			continue;
		if (out->size > start)
			buffer_put(out, "/", 1);
		buffer_put(out, component.data, component.size);
	}
	if (out->size == begin)
		buffer_put(out, ".", 1);
}

/* What Docker makes of a line when it reads the file: "!" and a clean path without a leading slash. */
static void normalise(struct buffer *out, struct span line)
{
	struct span path;
	size_t start;

	if (line.data[0] == '!') {
		buffer_put(out, "!", 1);
		line = trim(after(line, 1));
	}
	start = out->size;
	if (line.size == 0)
		return;
	clean(out, line);
	path = span_make(out->data + start, out->size - start);
	if (path.size > 1 && path.data[0] == '/') {
		memmove(out->data + start, out->data + start + 1, path.size - 1);
		out->size--;
	}
}

static int add_rule(struct ignore *ignore, struct ignore_pattern *pattern, bool exception)
{
	if (ignore->count == ignore->capacity) {
		size_t capacity = ignore->capacity * 2 + 16;
		struct rule *moved = realloc(ignore->rules, capacity * sizeof(*moved));

		if (!moved)
			return -ENOMEM;
		ignore->rules = moved;
		ignore->capacity = capacity;
	}
	ignore->rules[ignore->count++] = (struct rule){ .pattern = pattern, .exception = exception };
	return 0;
}

/* And what it makes of that when it compiles it, which trims and cleans once more. */
static int add_line(struct ignore *ignore, struct span line, const char **fault)
{
	uint8_t storage[2][IGNORE_PATTERN_BYTES_MAX + 8];
	struct buffer first = buffer_over(storage[0], sizeof(storage[0]));
	struct buffer text = buffer_over(storage[1], sizeof(storage[1]));
	struct ignore_pattern *pattern;
	struct span path;
	bool exception;
	int r;

	if (line.size > IGNORE_PATTERN_BYTES_MAX) {
		*fault = "is too long";
		return -EINVAL;
	}
	normalise(&first, line);
	path = trim(buffer_span(&first));
	if (path.size == 0)
		return 0;
	clean(&text, path);
	path = buffer_span(&text);
	exception = path.data[0] == '!';
	if (exception)
		path = after(path, 1);
	if (path.size == 0) {
		*fault = "is an exception of nothing";
		return -EINVAL;
	}
	if (ignore->count == IGNORE_PATTERNS_MAX) {
		*fault = "is one pattern too many";
		return -E2BIG;
	}
	r = ignore_pattern_create(&pattern, path, fault);
	if (r)
		return r;
	r = add_rule(ignore, pattern, exception);
	if (r)
		ignore_pattern_destroy(pattern);
	return r;
}

static struct span take_line(struct span *text)
{
	const uint8_t *end = memchr(text->data, '\n', text->size);
	struct span line = *text;

	if (end)
		line.size = (size_t)(end - text->data);
	*text = after(*text, line.size + (end != NULL));
	if (line.size && line.data[line.size - 1] == '\r')
		line.size--;
	return line;
}

static int add_lines(struct ignore *ignore, struct span text, char *why, size_t why_size)
{
	for (unsigned number = 1; text.size; number++) {
		struct span line = take_line(&text);
		const char *fault = "is too long";
		int r = line.size > IGNORE_LINE_BYTES_MAX ? -EINVAL : 0;

		if (number == 1 && line.size >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0)
			line = after(line, 3);           /* byte order mark */
		if (line.size && line.data[0] == '#')
			continue;
		line = trim(line);
		if (!r && line.size)
			r = add_line(ignore, line, &fault);
		if (r == -ENOMEM)
			return r;
		if (r) {
			snprintf(why, why_size, "line %u: the pattern %s", number, fault);
			return r;
		}
	}
	return 0;
}

int ignore_create(struct ignore **out, struct span text, char *why, size_t why_size)
{
	struct ignore *ignore = calloc(1, sizeof(*ignore));
	int r;

	if (!ignore)
		return ERR_RAISE(-ENOMEM);
	if (text.size > IGNORE_BYTES_MAX) {
		snprintf(why, why_size, "longer than %u bytes", IGNORE_BYTES_MAX);
		r = -E2BIG;
	} else {
		r = add_lines(ignore, text, why, why_size);
	}
	if (r) {
		ignore_destroy(ignore);
		return ERR_RAISE(r);
	}
	*out = ignore;
	return 0;
}

void ignore_destroy(struct ignore *ignore)
{
	if (!ignore)
		return;
	for (size_t i = 0; i < ignore->count; i++)
		ignore_pattern_destroy(ignore->rules[i].pattern);
	free(ignore->rules);
	free(ignore);
}

/* A bit for each pattern: it has matched the path or one of its parents. */
size_t ignore_state_bytes(const struct ignore *ignore)
{
	return ignore->count / 8 + 1;
}

static bool exception_below(const struct ignore *ignore, struct span path)
{
	for (size_t i = 0; i < ignore->count; i++) {
		if (ignore->rules[i].exception && ignore_pattern_may_match_below(ignore->rules[i].pattern, path))
			return true;
	}
	return false;
}

enum ignore_verdict ignore_judge(const struct ignore *ignore, struct span path, const uint8_t *parent, uint8_t *state)
{
	bool excluded = false;

	if (state)
		memset(state, 0, ignore_state_bytes(ignore));
	for (size_t i = 0; i < ignore->count; i++) {
		const struct rule *rule = &ignore->rules[i];
		uint8_t bit = (uint8_t)(1u << i % 8);
		bool matches = parent && parent[i / 8] & bit;

		/*
		 * A pattern that could change nothing here is not asked, and its state stays clear, for what is
		 * below, too: so do fsutil and moby/patternmatcher (MatchesUsingParentResults).
		 */
		if (!matches && rule->exception == excluded)
			matches = ignore_pattern_matches(rule->pattern, path);
		if (!matches)
			continue;
		if (state)
			state[i / 8] |= bit;
		excluded = !rule->exception;
	}
	if (!excluded)
		return IGNORE_INCLUDED;
	return exception_below(ignore, path) ? IGNORE_EXCLUDED : IGNORE_PRUNED;
}
