/* progress_draw: builds each frame, and each line, in one buffer and writes it with one write(2). */
#include "gateway/cmd/progress_draw.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "gateway/base/units.h"
#include "gateway/cmd/clean.h"
#include "gateway/cmd/json.h"

#define COLOR_DONE  "\x1b[34m"
#define COLOR_ERROR "\x1b[31m"
#define COLOR_NONE  "\x1b[0m"

enum {
	FRAME_MAX = 64 << 10,
	LINE_MAX_BYTES = 1024,
	TIME_COLUMNS = 9,                /* at the right edge */
	LOG_PIECE_MAX = 48 << 10,        /* of output in one JSON line; a multiple of 3 for base64 */
};

struct frame {
	char text[FRAME_MAX];
	size_t size;
};

static __attribute__((format(printf, 2, 3))) void put(struct frame *frame, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(frame->text + frame->size, sizeof(frame->text) - frame->size, format, arguments);
	va_end(arguments);
	if (n > 0 && (size_t)n < sizeof(frame->text) - frame->size)
		frame->size += (size_t)n;
}

int progress_write(int fd, const void *data, size_t size, bool waits)
{
	const char *bytes = data;

	while (size) {
		ssize_t n = write(fd, bytes, size);

		if (n < 0 && errno == EAGAIN && !waits)
			return -EAGAIN;
		if (n < 0 && errno == EAGAIN)    /* whoever gave us the descriptor has made it non-blocking */
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
		else if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			bytes += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

/* What cannot be drawn is lost; the work goes on. */
static void flush(const struct progress *progress, const struct frame *frame)
{
	(void)progress_write(progress->fd, frame->text, frame->size, false);
}

/* How many columns; continuation bytes of UTF-8 take none. */
static size_t columns_of(const char *text)
{
	size_t columns = 0;

	for (; *text; text++)
		columns += ((unsigned char)*text & 0xc0) != 0x80;
	return columns;
}

static void cut(char *text, size_t columns)
{
	for (; *text; text++) {
		if (((unsigned char)*text & 0xc0) == 0x80)
			continue;
		if (columns-- == 0) {
			*text = '\0';
			return;
		}
	}
}

/* "41 kB of 1.1 GB", "12 of 40 files"; empty when there is no number. */
static void format_amount(const struct progress_vertex *vertex, char *text, size_t size)
{
	static const char *const names[] = {
		[PROGRESS_FILES] = "files", [PROGRESS_CHUNKS] = "chunks", [PROGRESS_ENTRIES] = "entries",
	};
	char done[24], total[24];

	*text = '\0';
	if (vertex->unit == PROGRESS_NONE)
		return;
	if (vertex->unit == PROGRESS_BYTES) {
		units_format_bytes(vertex->done, done);
		if (vertex->total)
			snprintf(text, size, "%s of %s", done, units_format_bytes(vertex->total, total));
		else
			snprintf(text, size, "%s", done);
	} else if (vertex->total) {
		snprintf(text, size, "%" PRIu64 " of %" PRIu64 " %s", vertex->done, vertex->total, names[vertex->unit]);
	} else {
		snprintf(text, size, "%" PRIu64 " %s", vertex->done, names[vertex->unit]);
	}
}

static uint64_t elapsed(const struct progress_vertex *vertex, uint64_t now)
{
	return (vertex->ended ? vertex->ended_ns : now) - vertex->started_ns;
}

/* ---- tty ---- */

static void format_step(const struct progress_vertex *vertex, char line[static LINE_MAX_BYTES])
{
	const struct progress *progress = vertex->progress;
	unsigned steps = progress->steps > progress->count ? progress->steps : progress->count;
	const char *mark = "";
	char amount[96];

	if (vertex->ended && vertex->outcome == PROGRESS_CACHED)
		mark = "CACHED ";
	else if (vertex->ended && vertex->outcome == PROGRESS_ERROR)
		mark = "ERROR ";
	format_amount(vertex, amount, sizeof(amount));
	snprintf(line, LINE_MAX_BYTES, " => %s[%u/%u] %s%s%s%s%s", mark, vertex->index, steps, vertex->name,
	         *amount ? " " : "", amount, vertex->ended ? (*vertex->text ? ": " : "") : (*vertex->detail ? " " : ""),
	         vertex->ended ? vertex->text : vertex->detail);
	clean_text(line);
}

/* One line, its time at the right edge, never wider than the terminal: a wrapped line would spoil the next redraw. */
static void put_line(struct frame *frame, const struct progress *progress, char *line, uint64_t ns, const char *color)
{
	size_t width = progress->columns > TIME_COLUMNS + 10 ? progress->columns - 1 - TIME_COLUMNS : 10;
	char duration[24];
	size_t used;

	cut(line, width);
	used = columns_of(line);
	put(frame, "\x1b[2K%s%s%*s%*s%s\n", progress->color ? color : "", line, (int)(width - used), "", TIME_COLUMNS,
	    units_format_duration(ns, duration), progress->color && *color ? COLOR_NONE : "");
}

static void put_step(struct frame *frame, const struct progress_vertex *vertex, uint64_t now)
{
	const char *color = "";
	char line[LINE_MAX_BYTES];

	if (vertex->ended)
		color = vertex->outcome == PROGRESS_ERROR ? COLOR_ERROR : COLOR_DONE;
	format_step(vertex, line);
	put_line(frame, vertex->progress, line, elapsed(vertex, now), color);
}

static void put_up(struct frame *frame, struct progress *progress)
{
	if (progress->lines)
		put(frame, "\x1b[%uA\r", progress->lines);
}

void progress_draw_clear(struct progress *progress)
{
	static struct frame frame;

	if (!progress->lines)
		return;
	frame.size = 0;
	put_up(&frame, progress);
	put(&frame, "\x1b[J");
	progress->lines = 0;
	flush(progress, &frame);
}

void progress_draw_tty(struct progress *progress, uint64_t now)
{
	static struct frame frame;
	unsigned room = progress->rows > 2 ? progress->rows - 2 : 1;
	unsigned first = progress->count > room ? progress->count - room : 0, ended = 0;
	char line[LINE_MAX_BYTES];

	if (progress->count == 0)
		return;
	for (unsigned i = 0; i < progress->count; i++)
		ended += progress->vertices[i].ended;
	frame.size = 0;
	put_up(&frame, progress);
	snprintf(line, sizeof(line), "[+] %s (%u/%u)", progress->title, ended,
	         progress->steps > progress->count ? progress->steps : progress->count);
	put_line(&frame, progress, line, now - progress->started_ns, "");
	for (unsigned i = first; i < progress->count; i++)
		put_step(&frame, &progress->vertices[i], now);
	/* Steps are never taken away: no line of the last frame is left below. */
	progress->lines = 1 + progress->count - first;
	flush(progress, &frame);
}

/* ---- plain ---- */

static __attribute__((format(printf, 2, 3))) void plain(const struct progress *progress, const char *format, ...)
{
	static struct frame frame;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(frame.text, LINE_MAX_BYTES - 1, format, arguments);
	va_end(arguments);
	clean_text(frame.text);
	frame.size = strlen(frame.text);
	frame.text[frame.size++] = '\n';
	flush(progress, &frame);
}

void progress_draw_begin(const struct progress_vertex *vertex)
{
	plain(vertex->progress, "#%u %s", vertex->index, vertex->name);
}

void progress_draw_update(const struct progress_vertex *vertex)
{
	char amount[96], duration[24];

	format_amount(vertex, amount, sizeof(amount));
	plain(vertex->progress, "#%u %s%s%s%s%s %s", vertex->index, vertex->name, *amount ? " " : "", amount,
	      *vertex->detail ? " " : "", vertex->detail, units_format_duration(vertex->shown_ns - vertex->started_ns, duration));
}

void progress_draw_end(const struct progress_vertex *vertex)
{
	static const char *const marks[] = { [PROGRESS_DONE] = "DONE", [PROGRESS_CACHED] = "CACHED" };
	char amount[96], duration[24];

	format_amount(vertex, amount, sizeof(amount));
	units_format_duration(elapsed(vertex, 0), duration);
	if (vertex->outcome == PROGRESS_ERROR)
		plain(vertex->progress, "#%u ERROR: %s", vertex->index, *vertex->text ? vertex->text : "failed");
	else
		plain(vertex->progress, "#%u %s %s%s%s%s%s", vertex->index, marks[vertex->outcome], amount,
		      *amount ? " " : "", duration, *vertex->text ? " " : "", vertex->text);
}

/* ---- rawjson ---- */

static int print_json_line(const struct progress *progress, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t size = text ? strlen(text) : 0;
	int r = -ENOMEM;

	if (text) {
		text[size] = '\n';       /* in place of its NUL: the length is told */
		r = progress_write(progress->fd, text, size + 1, true);
	}
	free(text);
	json_decref(object);
	return r;
}

/* RFC 3339 of a moment of the monotonic clock: readers order by it. */
static json_t *timestamp(const struct progress *progress, uint64_t ns)
{
	struct timespec real;
	struct tm parts;
	char day[32], text[64];
	uint64_t now = progress->now(), moment;

	clock_gettime(CLOCK_REALTIME, &real);
	moment = (uint64_t)real.tv_sec * 1000000000 + (uint64_t)real.tv_nsec - (now - ns);
	real.tv_sec = (time_t)(moment / 1000000000);
	gmtime_r(&real.tv_sec, &parts);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(text, sizeof(text), "%s.%09" PRIu64 "Z", day, moment % 1000000000);
	return json_string(text);
}

static json_t *vertex_digest(const struct progress_vertex *vertex)
{
	return json_sprintf("step:%u", vertex->index);
}

void progress_draw_json_vertex(const struct progress_vertex *vertex)
{
	const struct progress *progress = vertex->progress;
	json_t *entry = json_object();

	json_object_set_new(entry, "digest", vertex_digest(vertex));
	json_set_text(entry, "name", vertex->name);
	json_object_set_new(entry, "started", timestamp(progress, vertex->started_ns));
	if (vertex->ended) {
		json_object_set_new(entry, "completed", timestamp(progress, vertex->ended_ns));
		if (vertex->outcome == PROGRESS_CACHED)
			json_object_set_new(entry, "cached", json_true());
		if (vertex->outcome == PROGRESS_ERROR)
			json_set_text(entry, "error", *vertex->text ? vertex->text : "failed");
	}
	print_json_line(progress, json_pack("{s:[o]}", "vertexes", entry));
}

void progress_draw_json_status(const struct progress_vertex *vertex)
{
	static const char *const units[] = { "bytes", "files", "chunks", "entries", "" };
	const struct progress *progress = vertex->progress;
	json_t *entry;

	if (vertex->unit == PROGRESS_NONE)
		return;
	entry = json_object();
	json_set_text(entry, "id", units[vertex->unit]);
	json_object_set_new(entry, "vertex", vertex_digest(vertex));
	json_set_text(entry, "name", vertex->detail);
	json_set_u64(entry, "current", vertex->done);
	json_set_u64(entry, "total", vertex->total);
	json_object_set_new(entry, "timestamp",
	                    timestamp(progress, vertex->ended ? vertex->ended_ns : vertex->shown_ns));
	print_json_line(progress, json_pack("{s:[o]}", "statuses", entry));
}

static int print_json_log(const struct progress_vertex *vertex, int stream, struct span piece)
{
	const struct progress *progress = vertex->progress;
	unsigned char *base64 = malloc((piece.size + 2) / 3 * 4 + 1);
	json_t *entry = json_object();

	if (base64) {
		EVP_EncodeBlock(base64, piece.data, (int)piece.size);
		json_object_set_new(entry, "vertex", vertex_digest(vertex));
		json_object_set_new(entry, "stream", json_integer(stream));
		json_set_text(entry, "data", (const char *)base64);
		json_object_set_new(entry, "timestamp", timestamp(progress, progress->now()));
	}
	free(base64);
	return print_json_line(progress, json_pack("{s:[o]}", "logs", entry));
}

int progress_draw_json_log(const struct progress_vertex *vertex, int stream, struct span output)
{
	int r = 0;

	while (output.size && r == 0) {
		size_t size = output.size < LOG_PIECE_MAX ? output.size : LOG_PIECE_MAX;

		r = print_json_log(vertex, stream, span_make(output.data, size));
		output = span_make(output.data + size, output.size - size);
	}
	return r;
}
