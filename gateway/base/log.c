/* log: builds one line on the stack and writes it with one write(2). */
#include "gateway/base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/visible.h"

enum {
	LOG_LINE_MAX = 16384,
	LOG_TAIL_MAX = 32,               /* kept free for the mark of a cut line, the closing brace and the newline */
};

static struct {
	int fd;
	atomic_int least;
	bool json;
} setup = { .fd = STDERR_FILENO, .least = LOG_INFO };

struct line {
	char text[LOG_LINE_MAX];
	size_t size, limit;
	bool full;                       /* something did not fit; nothing is added any more */
};

void log_setup(int fd, enum log_level least, bool json)
{
	setup.fd = fd;
	setup.json = json;
	atomic_store(&setup.least, (int)least);
}

static void line_put(struct line *line, const char *bytes, size_t size)
{
	if (line->full || size > line->limit - line->size) {
		line->full = true;
		return;
	}
	memcpy(line->text + line->size, bytes, size);
	line->size += size;
}

static __attribute__((format(printf, 2, 3))) void line_format(struct line *line, const char *format, ...)
{
	char text[64];
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	CHECK(n >= 0 && (size_t)n < sizeof(text));
	line_put(line, text, (size_t)n);
}

/*
 * Inside quotes. A byte that may not be shown becomes \xNN; in JSON its backslash is itself escaped, so that the line stays
 * valid JSON and the reader sees the same spelling.
 */
static void line_put_escaped(struct line *line, struct span text)
{
	for (size_t i = 0; i < text.size;) {
		size_t length = visible_length(span_make(text.data + i, text.size - i));
		uint8_t byte = text.data[i];

		if (byte == '"' || byte == '\\')
			line_format(line, "\\%c", byte);
		else if (length == 0)
			line_format(line, setup.json ? "\\\\x%02x" : "\\x%02x", byte);
		else
			line_put(line, (const char *)text.data + i, length);
		i += length ? length : 1;
	}
}

static bool text_is_bare(struct span text)
{
	if (text.size == 0)
		return false;
	for (size_t i = 0; i < text.size; i++)
		if (text.data[i] <= ' ' || text.data[i] >= 0x7f || text.data[i] == '"' || text.data[i] == '\\' ||
		    text.data[i] == '=')
			return false;
	return true;
}

static void line_put_text(struct line *line, struct span text)
{
	if (!setup.json && text_is_bare(text)) {
		line_put(line, (const char *)text.data, text.size);
		return;
	}
	line_put(line, "\"", 1);
	line_put_escaped(line, text);
	line_put(line, "\"", 1);
}

static void line_put_field(struct line *line, const struct log_field *field)
{
	if (setup.json) {
		line_put(line, ",\"", 2);
		line_put_escaped(line, span_text(field->key));
		line_put(line, "\":", 2);
	} else {
		line_put(line, " ", 1);
		line_put(line, field->key, strlen(field->key));
		line_put(line, "=", 1);
	}
	switch (field->kind) {
	case LOG_FIELD_U64:
		line_format(line, "%" PRIu64, field->number);
		break;
	case LOG_FIELD_I64:
		line_format(line, "%" PRId64, (int64_t)field->number);
		break;
	case LOG_FIELD_SPAN:
		line_put_text(line, field->text);
		break;
	}
}

static void line_begin(struct line *line, enum log_level level, const char *event)
{
	static const char *const names[] = { "debug", "info", "warning", "error" };
	struct timespec now;
	struct tm utc;
	char time[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &utc);
	if (!setup.json) {
		line_format(line, "%s.%03ldZ %-7s ", time, now.tv_nsec / 1000000, names[level]);
		line_put(line, event, strlen(event));
		return;
	}
	line_format(line, "{\"time\":\"%s.%03ldZ\",", time, now.tv_nsec / 1000000);
	line_format(line, "\"level\":\"%s\",\"event\":", names[level]);
	line_put_text(line, span_text(event));
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
	struct line line = { .limit = LOG_LINE_MAX - LOG_TAIL_MAX };
	ssize_t written;

	if ((int)level < atomic_load_explicit(&setup.least, memory_order_relaxed))
		return;
	line_begin(&line, level, event);
	for (size_t i = 1; i < count && !line.full; i++) {
		size_t before = line.size;

		line_put_field(&line, &fields[i]);
		if (line.full)
			line.size = before;     /* a field is there whole or not at all */
	}
	line.limit = LOG_LINE_MAX;
	if (line.full) {
		line.full = false;
		line_format(&line, setup.json ? ",\"cut\":1" : " cut=1");
	}
	if (setup.json)
		line_put(&line, "}", 1);
	line_put(&line, "\n", 1);
	/* Nobody to tell when the log itself cannot be written. */
	written = write(setup.fd, line.text, line.size);
	(void)written;
}
