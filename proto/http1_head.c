/* Request lines and fields. */
#include "proto/http1_head.h"

/* RFC 9110 section 5.6.2, "tchar". */
static bool is_token_byte(uint8_t c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c && strchr("!#$%&'*+-.^_`|~", c);
}

static bool is_token(struct span text)
{
	for (size_t i = 0; i < text.size; i++)
		if (!is_token_byte(text.data[i]))
			return false;
	return text.size > 0;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c;
}

static bool equal_folded(struct span text, const char *word)
{
	if (text.size != strlen(word))
		return false;
	for (size_t i = 0; i < text.size; i++)
		if (lower(text.data[i]) != (uint8_t)word[i])
			return false;
	return true;
}

static struct span trimmed(struct span text)
{
	while (text.size && (text.data[0] == ' ' || text.data[0] == '\t'))
		text = span_make(text.data + 1, text.size - 1);
	while (text.size && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
		text.size--;
	return text;
}

/* The next line without its CRLF off the front. False: there is none, or a CR or LF alone. */
static bool take_line(struct span *rest, struct span *line)
{
	const uint8_t *end = rest->size ? memchr(rest->data, '\n', rest->size) : NULL;
	size_t size = end ? (size_t)(end - rest->data) : 0;

	if (!end || size == 0 || end[-1] != '\r' || memchr(rest->data, '\r', size - 1))
		return false;
	*line = span_make(rest->data, size - 1);
	*rest = span_make(end + 1, rest->size - size - 1);
	return true;
}

static struct span take_word(struct span *rest)
{
	const uint8_t *space = rest->size ? memchr(rest->data, ' ', rest->size) : NULL;
	struct span word = span_make(rest->data, space ? (size_t)(space - rest->data) : rest->size);

	*rest = span_make(rest->data + word.size + (space != NULL), rest->size - word.size - (space != NULL));
	return word;
}

/* RFC 9112 section 3.2: "/path", or "http://host/path" as to a proxy. */
static bool target_parse(struct http1_head *head, struct span target)
{
	static const char *const schemes[] = { "http://", "https://" };

	for (size_t i = 0; i < target.size; i++)
		if (target.data[i] <= ' ' || target.data[i] >= 0x7f)
			return false;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t size = strlen(schemes[i]);
		const uint8_t *slash;

		if (target.size <= size || memcmp(target.data, schemes[i], size) != 0)
			continue;
		slash = memchr(target.data + size, '/', target.size - size);
		if (!slash)
			return false;
		target = span_make(slash, (size_t)(target.data + target.size - slash));
		break;
	}
	head->target = target;
	return target.size > 0 && target.data[0] == '/';
}

static unsigned request_line(struct http1_head *head, struct span line, const char **why)
{
	struct span target, version;

	head->method = take_word(&line);
	target = take_word(&line);
	version = line;
	*why = "the request line is not METHOD /path HTTP/1.1";
	if (!is_token(head->method) || head->method.size > HTTP1_METHOD_MAX || !target_parse(head, target))
		return 400;
	if (version.size != 8 || memcmp(version.data, "HTTP/", 5) != 0 || version.data[6] != '.')
		return 400;
	head->old = span_is(version, "HTTP/1.0");
	*why = "HTTP/1.1 and HTTP/2 are spoken here";
	return head->old || span_is(version, "HTTP/1.1") ? 0 : 505;
}

bool http1_length_parse(struct span text, uint64_t *length)
{
	*length = 0;
	if (text.size == 0 || text.size > 18)
		return false;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		*length = *length * 10 + (text.data[i] - '0');
	}
	return true;
}

static unsigned field_length(struct http1_head *head, struct span value, const char **why)
{
	*why = "Content-Length is no number, or there are two";
	if (head->sized || !http1_length_parse(value, &head->content_length))
		return 400;
	head->sized = true;
	return 0;
}

static unsigned field_encoding(struct http1_head *head, struct span value, const char **why)
{
	*why = "of transfer encodings there is chunked, once";
	if (head->chunked)
		return 400;
	head->chunked = true;
	return equal_folded(value, "chunked") ? 0 : 501;
}

static unsigned field_host(struct http1_head *head, struct span value, const char **why)
{
	*why = "there are two Host fields";
	if (head->authority.data)
		return 400;
	head->authority = value;
	return 0;
}

static unsigned field_expect(struct http1_head *head, struct span value, const char **why)
{
	*why = "of expectations there is 100-continue";
	head->expects = true;
	return equal_folded(value, "100-continue") ? 0 : 417;
}

static unsigned field_connection(struct http1_head *head, struct span value, const char **why)
{
	(void)why;
	while (value.size) {
		const uint8_t *comma = memchr(value.data, ',', value.size);
		size_t size = comma ? (size_t)(comma - value.data) : value.size;

		if (equal_folded(trimmed(span_make(value.data, size)), "close"))
			head->closes = true;
		value = span_make(value.data + size + (comma != NULL), value.size - size - (comma != NULL));
	}
	return 0;
}

static const struct {
	const char *name;
	unsigned (*take)(struct http1_head *head, struct span value, const char **why);
} fields[] = {
	{ "content-length", field_length }, { "transfer-encoding", field_encoding }, { "host", field_host },
	{ "expect", field_expect }, { "connection", field_connection },
};

static bool value_good(struct span value)
{
	for (size_t i = 0; i < value.size; i++)
		if ((value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
			return false;
	return true;
}

/* No space before the colon and no continuation lines (RFC 9112 section 5): a space is no byte of a name. */
static unsigned field_line(struct http1_head *head, struct span line, uint8_t *text, const char **why)
{
	const uint8_t *colon = line.size ? memchr(line.data, ':', line.size) : NULL;
	struct span name = span_make(line.data, colon ? (size_t)(colon - line.data) : 0), value;
	unsigned status = 0;

	*why = "a header field is not name: value";
	if (!colon || !is_token(name))
		return 400;
	value = trimmed(span_make(colon + 1, line.size - name.size - 1));
	if (!value_good(value))
		return 400;
	*why = "there are too many header fields";
	if (head->headers_count == STREAM_HEADERS_MAX)
		return 431;
	for (size_t i = 0; i < name.size; i++)
		text[i] = lower(text[i]);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && !status; i++)
		if (span_is(name, fields[i].name))
			status = fields[i].take(head, value, why);
	head->headers[head->headers_count++] = (struct header){ .name = name, .value = value };
	return status;
}

unsigned http1_head_parse(struct http1_head *head, uint8_t *text, size_t size, const char **why)
{
	struct span rest = span_make(text, size), line;
	unsigned status;

	memset(head, 0, sizeof(*head));
	*why = "a line does not end with CR LF";
	if (!take_line(&rest, &line))
		return 400;
	status = request_line(head, line, why);
	while (!status) {
		*why = "a line does not end with CR LF";
		if (!take_line(&rest, &line))
			return 400;
		if (line.size == 0)
			break;
		status = field_line(head, line, text + (line.data - text), why);
	}
	if (status)
		return status;
	*why = "a request has both Content-Length and Transfer-Encoding, or the latter in HTTP/1.0";
	if (head->chunked && (head->sized || head->old))
		return 400;
	*why = "the Host field is missing";
	if (!head->old && !head->authority.data)
		return 400;
	if (head->old)
		head->closes = true, head->expects = false;
	return 0;
}
