/* progress_draw: how steps look; the state that progress.c keeps for it. */
#pragma once

#include "gateway/cmd/progress.h"

struct progress_vertex {
	struct progress *progress;
	unsigned index;                  /* from 1 */
	char name[64], detail[256], text[512];
	uint64_t started_ns, ended_ns, shown_ns;
	uint64_t done, total;
	enum progress_unit unit;
	bool ended;
	enum progress_outcome outcome;
};

struct progress {
	enum progress_mode mode;
	const char *title;
	unsigned steps, columns, rows, lines; /* `lines`: how many of the terminal's are ours now */
	int fd;
	bool color, fixed_size;
	int mid_line;                    /* the stream of output that ended without a newline; 0: none */
	uint64_t (*now)(void);
	uint64_t started_ns, drawn_ns;
	int log_error;                   /* the first one of an action's output; 0: none */
	struct progress_vertex vertices[PROGRESS_VERTICES_MAX];
	unsigned count;
};

/* All of it: 0; or as much as `fd` takes before it fails: -errno. Where it is not blocking and takes no more: `waits`, or -EAGAIN. */
int progress_write(int fd, const void *data, size_t size, bool waits);

/* In place, over what was drawn last. */
void progress_draw_tty(struct progress *progress, uint64_t now);
/* Takes our lines off the terminal. */
void progress_draw_clear(struct progress *progress);

/* Plain lines. */
void progress_draw_begin(const struct progress_vertex *vertex);
void progress_draw_update(const struct progress_vertex *vertex);
void progress_draw_end(const struct progress_vertex *vertex);

/* JSON lines. */
void progress_draw_json_vertex(const struct progress_vertex *vertex);
void progress_draw_json_status(const struct progress_vertex *vertex);
/* 0, or -errno: it was not written, or not all. */
int progress_draw_json_log(const struct progress_vertex *vertex, int stream, struct span output);
