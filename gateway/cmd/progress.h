/*
 * progress: what a command is doing, as people know it from buildx. Everything goes to one descriptor (stderr):
 *
 *	tty      one line a step, redrawn in place:  => [2/4] send 41 kB of 1.1 GB               3.2s
 *	plain    a line when a step starts, now and then while it runs, and when it ends: #2 send 41 kB of 1.1 GB
 *	quiet    nothing
 *	rawjson  one JSON object a line, shaped like BuildKit's SolveStatus
 *
 * A *vertex* is one step. Steps may overlap. Redraws are limited to ten a second, plain lines to one in two seconds a
 * step, so progress_update() may be called for each file. One thread.
 */
#pragma once

#include "gateway/cmd/options.h"
#include "proto/span.h"

enum { PROGRESS_VERTICES_MAX = 64 };

enum progress_mode { PROGRESS_AUTO, PROGRESS_PLAIN, PROGRESS_TTY, PROGRESS_QUIET, PROGRESS_RAWJSON };

enum progress_unit { PROGRESS_BYTES, PROGRESS_FILES, PROGRESS_CHUNKS, PROGRESS_ENTRIES, PROGRESS_NONE };

struct progress;
struct progress_vertex;

/* --progress, for a command's list of groups. */
struct progress_options {
	int mode;                        /* enum progress_mode */
};
extern const struct option_group progress_options_group;

/* Whether a line for people may go to stderr beside what is drawn: with quiet and rawjson none may. */
bool progress_for_people(enum progress_mode mode);

struct progress_config {
	enum progress_mode mode;
	const char *title;               /* "sluice push"; borrowed */
	unsigned steps;                  /* how many vertices there will be; 0: not known */
	/* For tests; 0 and NULL otherwise. */
	int fd;                          /* in place of stderr */
	unsigned columns, rows;          /* in place of the terminal's */
	bool color;                      /* with `columns`: as if the terminal had colours */
	uint64_t (*now)(void);           /* nanoseconds, in place of CLOCK_MONOTONIC */
};

/* Never NULL. With AUTO: tty on a terminal that can, else plain. Colours unless NO_COLOR is set. */
struct progress *progress_create(const struct progress_config *config);
/* Draws the last state and leaves it standing; vertices that have not ended are marked as such. NULL is accepted. */
void progress_destroy(struct progress *progress);
/*
 * Before anything else is printed to the terminal: steps that stand there are taken off, and drawn again below what is printed,
 * which the next frame, drawn in place, would cover. It begins on a line of its own.
 */
void progress_make_way(void);

/*
 * A step starts. `name` is copied. The vertex belongs to `progress`. Never NULL: steps beyond PROGRESS_VERTICES_MAX
 * share the last one.
 */
struct progress_vertex *progress_begin(struct progress *progress, const char *name);

/* `total` 0: not known. `detail`, e.g. a path, is copied; NULL: none. */
void progress_update(struct progress_vertex *vertex, uint64_t done, uint64_t total, enum progress_unit unit,
                     const char *detail);

enum progress_outcome { PROGRESS_DONE, PROGRESS_CACHED, PROGRESS_ERROR };

/* The step ends; `text`: the error, or NULL. Ending twice does nothing. */
void progress_end(struct progress_vertex *vertex, enum progress_outcome outcome, const char *text);

/*
 * Output of an action, unchanged, to our own `stream` (1 or 2); the steps are drawn again below it. With rawjson it
 * becomes an object among the others. What cannot be written is lost; progress_log_error() tells.
 */
void progress_log(struct progress_vertex *vertex, int stream, struct span output);
/* 0, or the -errno of the first output that could not be written. Of what is drawn errors are nobody's concern. */
int progress_log_error(const struct progress *progress);

/*
 * Redraws when it is due, so that seconds count on while nothing happens. Returns in how many nanoseconds it wants to
 * be called again; UINT64_MAX when there is nothing to redraw.
 */
uint64_t progress_tick(struct progress *progress);
