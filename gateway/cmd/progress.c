/* progress: keeps the state of each step; how it looks is progress_draw.c's. */
#include "gateway/cmd/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/cmd/progress_draw.h"

enum {
	TTY_INTERVAL_MS = 100,
	PLAIN_INTERVAL_MS = 2000,
	COLUMNS_DEFAULT = 80,
	ROWS_DEFAULT = 24,
};

static const char *const mode_choices[] = {
	[PROGRESS_AUTO] = "auto", [PROGRESS_PLAIN] = "plain", [PROGRESS_TTY] = "tty", [PROGRESS_QUIET] = "quiet",
	[PROGRESS_RAWJSON] = "rawjson", NULL,
};

static const struct option progress_options[] = {
	{ .name = "progress", .kind = OPTION_CHOICE, .offset = offsetof(struct progress_options, mode),
	  .choices = mode_choices, .environment = "SLUICE_PROGRESS", .key = "progress", .fallback = "auto",
	  .help = "how to show what is being done; NO_COLOR is respected" },
};

const struct option_group progress_options_group = OPTION_GROUP("Progress", progress_options);

/* Whose steps stand on the terminal: whoever prints something there knows of no progress. NULL: nobody's. */
static struct progress *standing;

bool progress_for_people(enum progress_mode mode)
{
	return mode != PROGRESS_QUIET && mode != PROGRESS_RAWJSON;
}

static uint64_t monotonic_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool is_terminal(int fd)
{
	const char *term = getenv("TERM");

	return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

/* Asked at each redraw: windows are resized. */
static void measure(struct progress *progress)
{
	struct winsize size;

	if (progress->fixed_size)
		return;
	if (ioctl(progress->fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0)
		size = (struct winsize){ .ws_col = COLUMNS_DEFAULT, .ws_row = ROWS_DEFAULT };
	progress->columns = size.ws_col;
	progress->rows = size.ws_row;
}

struct progress *progress_create(const struct progress_config *config)
{
	struct progress *progress = calloc(1, sizeof(*progress));
	const char *no_color = getenv("NO_COLOR");

	CHECK(progress);
	progress->mode = config->mode;
	progress->title = config->title ? config->title : "sluice";
	progress->steps = config->steps;
	progress->fd = config->fd ? config->fd : STDERR_FILENO;
	progress->now = config->now ? config->now : monotonic_now;
	progress->fixed_size = config->columns != 0;
	progress->columns = config->columns;
	progress->rows = config->rows ? config->rows : ROWS_DEFAULT;
	if (progress->mode == PROGRESS_AUTO)
		progress->mode = is_terminal(progress->fd) ? PROGRESS_TTY : PROGRESS_PLAIN;
	progress->color = config->columns ? config->color : isatty(progress->fd);
	if (no_color && *no_color)
		progress->color = false;
	progress->started_ns = progress->now();
	standing = progress;
	return progress;
}

static bool same_file(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* What an action wrote last has no newline: what we say next begins with one, where it would stand on that line. */
static void end_line(struct progress *progress)
{
	if (progress->mid_line && same_file(progress->mid_line, progress->fd))
		(void)progress_write(progress->fd, "\n", 1, false);
	progress->mid_line = 0;
}

void progress_make_way(void)
{
	if (!standing)
		return;
	end_line(standing);
	if (standing->mode == PROGRESS_TTY)
		progress_draw_clear(standing);
}

/* ---- when something is shown ---- */

static void redraw(struct progress *progress, uint64_t now)
{
	measure(progress);
	progress_draw_tty(progress, now);
	progress->drawn_ns = now;
}

/* Text of an action that stands on an unfinished line is not to be written over. */
static bool redraw_allowed(const struct progress *progress)
{
	return progress->mode == PROGRESS_TTY && !progress->mid_line;
}

static void redraw_now(struct progress *progress)
{
	if (redraw_allowed(progress))
		redraw(progress, progress->now());
}

uint64_t progress_tick(struct progress *progress)
{
	uint64_t interval = (uint64_t)TTY_INTERVAL_MS * 1000000, now = progress->now();
	bool running = false;

	if (!redraw_allowed(progress))
		return UINT64_MAX;
	for (unsigned i = 0; i < progress->count; i++)
		running |= !progress->vertices[i].ended;
	if (!running)
		return UINT64_MAX;
	if (now - progress->drawn_ns >= interval)
		redraw(progress, now);
	return progress->drawn_ns + interval - now;
}

/* ---- steps ---- */

struct progress_vertex *progress_begin(struct progress *progress, const char *name)
{
	struct progress_vertex *vertex;

	if (progress->count == PROGRESS_VERTICES_MAX)
		return &progress->vertices[PROGRESS_VERTICES_MAX - 1];
	vertex = &progress->vertices[progress->count++];
	*vertex = (struct progress_vertex){ .progress = progress, .index = progress->count, .unit = PROGRESS_NONE };
	snprintf(vertex->name, sizeof(vertex->name), "%s", name);
	vertex->started_ns = vertex->shown_ns = progress->now();
	if (progress->mode == PROGRESS_PLAIN)
		progress_draw_begin(vertex);
	else if (progress->mode == PROGRESS_RAWJSON)
		progress_draw_json_vertex(vertex);
	else
		redraw_now(progress);
	return vertex;
}

void progress_update(struct progress_vertex *vertex, uint64_t done, uint64_t total, enum progress_unit unit,
                     const char *detail)
{
	struct progress *progress = vertex->progress;
	uint64_t now, interval;

	if (vertex->ended || progress->mode == PROGRESS_QUIET)
		return;
	vertex->done = done;
	vertex->total = total;
	vertex->unit = unit;
	snprintf(vertex->detail, sizeof(vertex->detail), "%s", detail ? detail : "");
	if (progress->mode == PROGRESS_TTY) {
		progress_tick(progress);
		return;
	}
	now = progress->now();
	interval = (uint64_t)(progress->mode == PROGRESS_PLAIN ? PLAIN_INTERVAL_MS : TTY_INTERVAL_MS) * 1000000;
	if (now - vertex->shown_ns < interval)
		return;
	vertex->shown_ns = now;
	if (progress->mode == PROGRESS_PLAIN)
		progress_draw_update(vertex);
	else
		progress_draw_json_status(vertex);
}

void progress_end(struct progress_vertex *vertex, enum progress_outcome outcome, const char *text)
{
	struct progress *progress = vertex->progress;

	if (vertex->ended)
		return;
	vertex->ended = true;
	vertex->outcome = outcome;
	vertex->ended_ns = progress->now();
	snprintf(vertex->text, sizeof(vertex->text), "%s", text ? text : "");
	if (progress_for_people(progress->mode))
		end_line(progress);
	if (progress->mode == PROGRESS_PLAIN) {
		progress_draw_end(vertex);
	} else if (progress->mode == PROGRESS_RAWJSON) {
		progress_draw_json_status(vertex);
		progress_draw_json_vertex(vertex);
	} else {
		redraw_now(progress);
	}
}

static int log_through(struct progress *progress, int stream, struct span output)
{
	int r;

	if (progress->mode == PROGRESS_TTY)
		progress_draw_clear(progress);
	r = progress_write(stream, output.data, output.size, true);
	progress->mid_line = output.data[output.size - 1] == '\n' ? 0 : stream;
	redraw_now(progress);
	return r;
}

void progress_log(struct progress_vertex *vertex, int stream, struct span output)
{
	struct progress *progress = vertex->progress;
	int r;

	CHECK(stream == STDOUT_FILENO || stream == STDERR_FILENO);
	if (output.size == 0)
		return;
	r = progress->mode == PROGRESS_RAWJSON ? progress_draw_json_log(vertex, stream, output) : log_through(progress, stream, output);
	if (r < 0 && progress->log_error == 0)
		progress->log_error = r;
}

int progress_log_error(const struct progress *progress)
{
	return progress->log_error;
}

void progress_destroy(struct progress *progress)
{
	if (!progress)
		return;
	redraw_now(progress);
	if (standing == progress)
		standing = NULL;
	free(progress);
}
