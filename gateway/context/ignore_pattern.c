/* Compiles and runs one pattern. */
#include "gateway/context/ignore_pattern.h"

#include "proto/escape.h"

#include <errno.h>
#include <stdlib.h>

#define NOT_UTF8 0xfffdu /* what stands for a byte that is in no UTF-8 sequence, in patterns and in paths */

enum kind {
	KIND_EXACT,
	KIND_PREFIX,
	KIND_SUFFIX,
	KIND_AUTOMATON,
};

enum token_kind {
	TOKEN_RUNE,
	TOKEN_ANY,                       /* one rune, not '/' */
	TOKEN_STAR,                      /* any number of those */
	TOKEN_DIRECTORIES,               /* nothing, or anything that ends in '/' */
	TOKEN_REST,                      /* anything; the last token */
	TOKEN_CLASS,
	TOKEN_BEGIN,                     /* nothing, at the path's start only */
};

struct range {
	uint32_t low, high;
};

struct token {
	enum token_kind kind;
	bool negated;                    /* class */
	uint32_t rune;
	uint32_t first, count;           /* class: ranges */
};

struct ignore_pattern {
	enum kind kind;
	struct span text;                /* what is compared; for the automaton, the literal text that it begins with */
	struct token *tokens;
	size_t tokens_count;
	struct range *ranges;
	size_t ranges_count;
	uint8_t storage[];
};

static struct span after(struct span text, size_t count)
{
	return span_make(text.data + count, text.size - count);
}

static uint32_t take_rune(struct span *text)
{
	size_t length = utf8_sequence(*text);
	uint32_t rune;

	if (length == 0) {
		*text = after(*text, 1);
		return NOT_UTF8;
	}
	rune = length == 1 ? text->data[0] : text->data[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++)
		rune = rune << 6 | (text->data[i] & 0x3fu);
	*text = after(*text, length);
	return rune;
}

/* A pattern that is being read. */
struct compiler {
	struct ignore_pattern *pattern;
	struct span rest;
	size_t literal_bytes;            /* of the literal text at the pattern's start */
	bool literal;                    /* there was nothing else so far */
	const char *regular; /* what Docker's regular expressions would take for an operator, if there is any */
	const char *fault;
};

static bool refuse(struct compiler *compiler, const char *fault)
{
	compiler->fault = fault;
	return false;
}

static struct token *add_token(struct compiler *compiler, enum token_kind kind)
{
	struct token *token = &compiler->pattern->tokens[compiler->pattern->tokens_count++];

	*token = (struct token){ .kind = kind };
	if (kind != TOKEN_RUNE)
		compiler->literal = false;
	return token;
}

static void add_literal(struct compiler *compiler, struct span rune)
{
	struct span text = rune;
	uint32_t value = take_rune(&text);

	add_token(compiler, TOKEN_RUNE)->rune = value;
	/* Paths with any other stray byte match, too: their bytes say nothing. */
	if (value == NOT_UTF8)
		compiler->literal = false;
	if (compiler->literal) {
		memcpy(compiler->pattern->storage + compiler->literal_bytes, rune.data, rune.size);
		compiler->literal_bytes += rune.size;
	}
}

static struct span rune_span(struct span text)
{
	size_t length = utf8_sequence(text);

	return span_make(text.data, length ? length : 1);
}

static bool is_alphanumeric(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* The character after a backslash. Docker's regular expressions take punctuation as it is, and letters for classes. */
static bool take_escaped(struct compiler *compiler, struct span *rune)
{
	compiler->rest = after(compiler->rest, 1);
	if (compiler->rest.size == 0)
		return refuse(compiler, "ends in a backslash");
	if (compiler->rest.data[0] >= 0x80 || is_alphanumeric(compiler->rest.data[0]))
		return refuse(compiler, "has a backslash before something that needs none");
	*rune = span_make(compiler->rest.data, 1);
	compiler->rest = after(compiler->rest, 1);
	return true;
}

/* One end of a range. */
static bool take_class_rune(struct compiler *compiler, uint32_t *rune)
{
	struct span escaped;
	uint8_t first;

	if (compiler->rest.size == 0)
		return refuse(compiler, "has a '[' without a ']'");
	first = compiler->rest.data[0];
	if (first == '-' || first == ']')
		return refuse(compiler, "has a malformed class in brackets");
	if (first == '*' || first == '?')
		return refuse(compiler, "has '*' or '?' in brackets");
	if (first == '[' && compiler->rest.size > 1 && compiler->rest.data[1] == ':')
		return refuse(compiler, "has '[:' in brackets");
	if (first == '\\') {
		if (!take_escaped(compiler, &escaped))
			return false;
		*rune = escaped.data[0];
	} else {
		if (utf8_sequence(compiler->rest) == 0)
			return refuse(compiler, "has a class that is not UTF-8");
		*rune = take_rune(&compiler->rest);
	}
	return compiler->rest.size || refuse(compiler, "has a '[' without a ']'");
}

static bool take_class(struct compiler *compiler)
{
	struct token *token = add_token(compiler, TOKEN_CLASS);
	struct ignore_pattern *pattern = compiler->pattern;

	compiler->rest = after(compiler->rest, 1);
	token->first = (uint32_t)pattern->ranges_count;
	if (compiler->rest.size && compiler->rest.data[0] == '^') {
		token->negated = true;
		compiler->rest = after(compiler->rest, 1);
	}
	while (!(token->count && compiler->rest.size && compiler->rest.data[0] == ']')) {
		struct range range;

		if (!take_class_rune(compiler, &range.low))
			return false;
		range.high = range.low;
		if (compiler->rest.data[0] == '-') {
			compiler->rest = after(compiler->rest, 1);
			if (!take_class_rune(compiler, &range.high))
				return false;
		}
		if (range.low > range.high)
			return refuse(compiler, "has a range that is upside down");
		pattern->ranges[pattern->ranges_count++] = range;
		token->count++;
	}
	compiler->rest = after(compiler->rest, 1);
	return true;
}

static bool take_star(struct compiler *compiler, bool first, enum kind *kind)
{
	compiler->rest = after(compiler->rest, 1);
	if (compiler->rest.size == 0 || compiler->rest.data[0] != '*') {
		add_token(compiler, TOKEN_STAR);
		*kind = KIND_AUTOMATON;
		return true;
	}
	compiler->rest = after(compiler->rest, 1);
	if (compiler->rest.size && compiler->rest.data[0] == '/')
		compiler->rest = after(compiler->rest, 1);
	if (compiler->rest.size) {
		add_token(compiler, TOKEN_DIRECTORIES);
		*kind = KIND_AUTOMATON;
	} else {
		add_token(compiler, TOKEN_REST);
		*kind = *kind == KIND_EXACT ? KIND_PREFIX : KIND_AUTOMATON;
	}
	if (first)
		*kind = KIND_SUFFIX;
	return true;
}

static size_t skip_digits(struct span text, size_t at)
{
	while (at < text.size && text.data[at] >= '0' && text.data[at] <= '9')
		at++;
	return at;
}

/* "{2}", "{2,}", "{2,3}" */
static bool is_repetition(struct span text)
{
	size_t at = skip_digits(text, 1);

	if (at == 1)
		return false;
	if (at < text.size && text.data[at] == ',')
		at = skip_digits(text, at + 1);
	return at < text.size && text.data[at] == '}';
}

static bool take_literal(struct compiler *compiler)
{
	struct span rune = rune_span(compiler->rest);

	if (rune.data[0] == '|')
		compiler->regular = "has both '|' and wildcards";
	if (rune.data[0] == '{' && is_repetition(compiler->rest))
		compiler->regular = "has both a count in braces and wildcards";
	add_literal(compiler, rune);
	compiler->rest = after(compiler->rest, rune.size);
	return true;
}

static bool take_token(struct compiler *compiler, bool first, enum kind *kind)
{
	struct span rune;

	switch (compiler->rest.data[0]) {
	case '*':
		return take_star(compiler, first, kind);
	case '?':
		add_token(compiler, TOKEN_ANY);
		break;
	case '[':
		*kind = KIND_AUTOMATON;
		return take_class(compiler);
	case '\\':
		*kind = KIND_AUTOMATON;
		if (!take_escaped(compiler, &rune))
			return false;
		add_literal(compiler, rune);
		return true;
	case '^':
		/* Where everything is compared it is itself; in Docker's regular expressions, the path's start. */
		add_token(compiler, TOKEN_BEGIN);
		compiler->rest = after(compiler->rest, 1);
		return true;
	case ']':
		*kind = KIND_AUTOMATON;
		return take_literal(compiler);
	default:
		return take_literal(compiler);
	}
	*kind = KIND_AUTOMATON;
	compiler->rest = after(compiler->rest, 1);
	return true;
}

static bool compile(struct compiler *compiler, struct span text)
{
	struct ignore_pattern *pattern = compiler->pattern;
	bool first = true;

	while (compiler->rest.size) {
		if (!take_token(compiler, first, &pattern->kind))
			return false;
		first = false;
	}
	if (pattern->kind == KIND_AUTOMATON && compiler->regular)
		return refuse(compiler, compiler->regular);
	if (pattern->kind == KIND_AUTOMATON) {
		pattern->text = span_make(pattern->storage, compiler->literal_bytes);
		return true;
	}
	if (pattern->kind == KIND_PREFIX)
		text.size -= 2;
	if (pattern->kind == KIND_SUFFIX)
		text = after(text, 2);
	memcpy(pattern->storage, text.data, text.size);
	pattern->text = span_make(pattern->storage, text.size);
	return true;
}

int ignore_pattern_create(struct ignore_pattern **out, struct span text, const char **fault)
{
	struct ignore_pattern *pattern;
	struct compiler compiler = { .rest = text, .literal = true };

	if (text.size == 0 || text.size > IGNORE_PATTERN_BYTES_MAX) {
		*fault = text.size ? "is too long" : "is empty";
		return -EINVAL;
	}
	pattern = calloc(1, sizeof(*pattern) + text.size);
	if (!pattern)
		return -ENOMEM;
	pattern->tokens = calloc(text.size, sizeof(pattern->tokens[0]));
	pattern->ranges = calloc(text.size, sizeof(pattern->ranges[0]));
	compiler.pattern = pattern;
	if (!pattern->tokens || !pattern->ranges) {
		ignore_pattern_destroy(pattern);
		return -ENOMEM;
	}
	if (!compile(&compiler, text)) {
		ignore_pattern_destroy(pattern);
		*fault = compiler.fault;
		return -EINVAL;
	}
	*out = pattern;
	return 0;
}

void ignore_pattern_destroy(struct ignore_pattern *pattern)
{
	if (!pattern)
		return;
	free(pattern->tokens);
	free(pattern->ranges);
	free(pattern);
}

/* Which tokens may come next, one flag each, and one for the end. */
struct states {
	uint8_t now[IGNORE_PATTERN_BYTES_MAX + 1], next[IGNORE_PATTERN_BYTES_MAX + 1];
};

/* What may be nothing leads on at once. */
static void enter(const struct ignore_pattern *pattern, uint8_t *set, size_t at, bool begin)
{
	for (; at < pattern->tokens_count; at++) {
		enum token_kind kind = pattern->tokens[at].kind;

		if (kind == TOKEN_BEGIN) {
			if (!begin)
				return;
			continue;
		}
		set[at] = 1;
		if (kind != TOKEN_STAR && kind != TOKEN_DIRECTORIES && kind != TOKEN_REST)
			return;
	}
	set[at] = 1;
}

static bool in_class(const struct ignore_pattern *pattern, const struct token *token, uint32_t rune)
{
	for (uint32_t i = 0; i < token->count; i++) {
		const struct range *range = &pattern->ranges[token->first + i];

		if (rune >= range->low && rune <= range->high)
			return !token->negated;
	}
	return token->negated;
}

/* Where the token leads when it meets `rune`. Go's "." does not match a line feed. */
static void step(const struct ignore_pattern *pattern, uint8_t *next, size_t at, uint32_t rune)
{
	const struct token *token = &pattern->tokens[at];

	switch (token->kind) {
	case TOKEN_RUNE:
		if (rune == token->rune)
			enter(pattern, next, at + 1, false);
		return;
	case TOKEN_ANY:
		if (rune != '/')
			enter(pattern, next, at + 1, false);
		return;
	case TOKEN_STAR:
		if (rune != '/')
			enter(pattern, next, at, false);
		return;
	case TOKEN_DIRECTORIES:
		if (rune != '\n')
			next[at] = 1;    /* inside of it: it may no longer be nothing */
		if (rune == '/')
			enter(pattern, next, at + 1, false);
		return;
	case TOKEN_REST:
		if (rune != '\n')
			enter(pattern, next, at, false);
		return;
	case TOKEN_CLASS:
		if (in_class(pattern, token, rune))
			enter(pattern, next, at + 1, false);
		return;
	case TOKEN_BEGIN:
		return;
	}
}

static bool run(const struct ignore_pattern *pattern, struct span path)
{
	struct states states;
	size_t count = pattern->tokens_count;

	memset(states.now, 0, count + 1);
	enter(pattern, states.now, 0, true);
	while (path.size) {
		uint32_t rune = take_rune(&path);

		memset(states.next, 0, count + 1);
		for (size_t at = 0; at < count; at++) {
			if (states.now[at])
				step(pattern, states.next, at, rune);
		}
		memcpy(states.now, states.next, count + 1);
	}
	return states.now[count];
}

static bool starts_with(struct span text, struct span start)
{
	return text.size >= start.size && (start.size == 0 || memcmp(text.data, start.data, start.size) == 0);
}

/* "**" + '/' + x matches x itself, too. */
static bool suffix_matches(struct span suffix, struct span path)
{
	if (path.size >= suffix.size && span_equal(after(path, path.size - suffix.size), suffix))
		return true;
	return suffix.size && suffix.data[0] == '/' && span_equal(path, after(suffix, 1));
}

bool ignore_pattern_matches(const struct ignore_pattern *pattern, struct span path)
{
	switch (pattern->kind) {
	case KIND_EXACT:
		return span_equal(pattern->text, path);
	case KIND_PREFIX:
		return starts_with(path, pattern->text);
	case KIND_SUFFIX:
		return suffix_matches(pattern->text, path);
	case KIND_AUTOMATON:
		return starts_with(path, pattern->text) && run(pattern, path);
	}
	return false;
}

bool ignore_pattern_may_match_below(const struct ignore_pattern *pattern, struct span path)
{
	struct span text = pattern->text;

	if (pattern->kind == KIND_SUFFIX)
		return true;
	if (text.size > path.size)
		return starts_with(text, path) && text.data[path.size] == '/';
	return pattern->kind != KIND_EXACT && starts_with(path, text);
}
