/* Reading a tokens file. */
#include "gateway/tenant/tokens.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"


static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct span take_line(struct span *text)
{
	const uint8_t *end = memchr(text->data, '\n', text->size);
	struct span line = span_make(text->data, end ? (size_t)(end - text->data) : text->size);
	size_t taken = line.size + (end ? 1 : 0);

	*text = span_make(text->data + taken, text->size - taken);
	return line;
}

static struct span take_word(struct span *line)
{
	struct span word;
	size_t n = 0;

	while (line->size && is_blank(line->data[0]))
		*line = span_make(line->data + 1, line->size - 1);
	while (n < line->size && !is_blank(line->data[n]))
		n++;
	word = span_make(line->data, n);
	*line = span_make(line->data + n, line->size - n);
	return word;
}

static int digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool parse_hash(uint8_t hash[static TOKEN_HASH_BYTES], struct span text)
{
	if (text.size != 2 * TOKEN_HASH_BYTES)
		return false;
	for (size_t i = 0; i < TOKEN_HASH_BYTES; i++) {
		int high = digit(text.data[2 * i]), low = digit(text.data[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		hash[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* NULL, or what is wrong. */
static const char *parse_row(struct token_row *row, struct span line)
{
	struct span hash = take_word(&line), tenant = take_word(&line), rights = take_word(&line);

	if (!parse_hash(row->hash, hash))
		return "the first word must be the SHA-256 of a token, 64 hexadecimal digits (printf %s TOKEN | sha256sum)";
	if (!tenant_name_valid(tenant))
		return "the second word must be a tenant's name: 1 to 128 letters, digits, or any of . _ - @";
	if (!tenant_rights_parse(rights, &row->rights))
		return "the third word must be rights: all, or read,write,commit,execute";
	if (take_word(&line).size)
		return "there is more than a hash, a tenant and rights";
	memcpy(row->tenant, tenant.data, tenant.size);
	row->tenant[tenant.size] = '\0';
	return NULL;
}

static bool is_empty(struct span line)
{
	struct span word = take_word(&line);

	return word.size == 0 || word.data[0] == '#';
}

static int line_failure(size_t number, const char *fault, char *why, size_t why_size)
{
	snprintf(why, why_size, "line %zu: %s", number, fault);
	return ERR_RAISE(-EINVAL);
}

/* By hash; equal hashes stand side by side then. */
static int compare_rows(const void *a, const void *b)
{
	const struct token_row *left = a, *right = b;

	return memcmp(left->hash, right->hash, TOKEN_HASH_BYTES);
}

static bool has_duplicates(struct token_row *rows, size_t count)
{
	if (count)
		qsort(rows, count, sizeof(*rows), compare_rows);
	for (size_t i = 1; i < count; i++)
		if (compare_rows(&rows[i - 1], &rows[i]) == 0)
			return true;
	return false;
}

static size_t count_lines(struct span text)
{
	size_t count = 0;

	while (text.size) {
		count += !is_empty(take_line(&text));
	}
	return count;
}

int tokens_parse(struct token_row **out, size_t *out_count, struct span text, char *why, size_t why_size)
{
	size_t room = count_lines(text), count = 0;
	CLEANUP(free_p) struct token_row *rows = NULL;

	if (room > TENANT_TOKENS_MAX) {
		snprintf(why, why_size, "more than %d tokens", TENANT_TOKENS_MAX);
		return ERR_RAISE(-EINVAL);
	}
	rows = calloc(room + 1, sizeof(*rows));
	if (!rows)
		return ERR_RAISE(-ENOMEM);
	for (size_t number = 1; text.size; number++) {
		struct span line = take_line(&text);
		const char *fault = is_empty(line) ? NULL : parse_row(&rows[count++], line);

		if (fault)
			return line_failure(number, fault, why, why_size);
	}
	if (has_duplicates(rows, count)) {
		snprintf(why, why_size, "the same token is there twice");
		return ERR_RAISE(-EINVAL);
	}
	*out = rows;
	*out_count = count;
	rows = NULL;
	return 0;
}
