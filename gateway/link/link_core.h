/*
 * link_core: what a link is at either end, without effects: frames get their numbers here, are kept until the peer has them,
 * go again when their path is lost, and those of the peer are put in order. Bytes and times in, decisions out.
 *
 * A frame is *pending* until link_core_next() gives it to a path, then *under way* on that path until the peer says that it
 * arrived (per path, in the order given). When its path goes down it is *held*, as some of those may have arrived: until the
 * peer says what it has (link_core_resume), or for a moment (link_core_release); then it is pending again. It is kept until the
 * peer has everything before it as well, so the bound on what is kept also bounds what the peer must put in order.
 */
#pragma once

#include "gateway/base/list.h"
#include "gateway/link/link.h"
#include "gateway/link/link_window.h"
#include "proto/sluice_v1.h"

#define LINK_REPLAY_BYTES_MAX   (8u << 20)       /* data of kept frames, beyond which no LINK_DATA is taken */
#define LINK_REPLAY_FRAMES_MAX  4096             /* kept frames, likewise */
#define LINK_CONTROL_FRAMES_MAX (8 * LINK_CHANNELS_MAX)  /* kept frames of other kinds: a few a channel */
#define LINK_AHEAD_FRAMES_MAX   (LINK_REPLAY_FRAMES_MAX + LINK_CONTROL_FRAMES_MAX)
#define LINK_AHEAD_BYTES_MAX    (LINK_REPLAY_BYTES_MAX + LINK_FRAME_BYTES)
#define LINK_FRAME_OVERHEAD     64               /* what a frame costs beside its data, for the window */

enum link_frame_state {
	LINK_FRAME_PENDING,                      /* in `pending` */
	LINK_FRAME_UNDER_WAY,                    /* in a path's list; held, when that is down */
	LINK_FRAME_ARRIVED,                      /* the peer has it, but not all before it */
};

struct link_frame {
	struct list all;                         /* kept, in their order */
	struct list where;
	enum link_frame_state state;
	uint64_t sequence, credit;
	uint32_t channel, kind;
	struct link_window_mark mark;
	size_t size, capacity;
	uint8_t data[];
};

struct link_core_path {
	bool up;
	struct list under_way;
	uint64_t given, taken;                   /* frames: to this path; of these arrived, as the peer says */
	uint64_t arrived;                        /* frames of the peer's on this path */
	uint64_t progress_ns;                    /* when `taken` moved last, or something was given to a path that had nothing */
	struct link_window window;
};

struct link_core_counters {
	uint64_t frames_sent, frames_received, bytes_sent, bytes_received, bytes_resent, bytes_duplicate;
};

struct link_core {
	/* The next frame in order; the data is borrowed. 0, or a negative errno that link_core_receive() hands up. */
	int (*deliver)(struct link_core *core, const struct link_message *frame);
	struct list frames, pending;
	uint64_t sequence;                       /* of the next new frame */
	uint64_t fresh;                          /* of the next one that no path has had yet */
	uint64_t kept_bytes;
	uint32_t kept_frames;
	struct list ahead;                       /* frames of the peer's that wait for earlier ones */
	uint64_t ahead_bytes;
	uint32_t ahead_frames;
	uint64_t expected;                       /* the peer's next in order */
	struct link_core_path paths[LINK_PATHS_MAX];
	struct link_core_counters counters;
};

void link_core_init(struct link_core *core, int (*deliver)(struct link_core *core, const struct link_message *frame));
void link_core_fini(struct link_core *core);

/* ---- sending ---- */

/* Room for another LINK_DATA; frames of other kinds are always taken. */
bool link_core_has_room(const struct link_core *core);
/* A frame with room for `capacity` bytes of data, the caller's until link_core_push(); free(3) undoes it. NULL: no memory. */
struct link_frame *link_frame_create(uint32_t kind, uint32_t channel, size_t capacity);
/* Numbers the frame and makes it pending. */
void link_core_push(struct link_core *core, struct link_frame *frame);
bool link_core_pending(const struct link_core *core);
/* The path is up and its window is open. */
bool link_core_path_open(const struct link_core *core, unsigned path);
/*
 * The next pending frame, under way on this path from now on: the caller hands it to the path, whose order has to be the
 * order of these calls. NULL: none is pending. The path is open.
 */
const struct link_frame *link_core_next(struct link_core *core, unsigned path, uint64_t now_ns);

/* ---- paths ---- */

/* A new path in this place; an earlier one there has to be down. What was held for it is pending. */
void link_core_path_up(struct link_core *core, unsigned path, uint64_t now_ns);
/* What was under way is held. Idempotent. */
void link_core_path_down(struct link_core *core, unsigned path);
/* What is held is pending again. False: there was nothing. */
bool link_core_release(struct link_core *core);
/* Something has been under way, with no word of it, since this time; UINT64_MAX: nothing is. */
uint64_t link_core_waiting_since(const struct link_core *core, unsigned path);

/* ---- what the peer says ---- */

/* `received` and `taken` of a message of that path. 0, or -EPROTO: it claims what was not sent, or takes its word back. */
int link_core_acknowledge(struct link_core *core, unsigned path, uint64_t received, uint64_t taken, uint64_t now_ns);
/*
 * `received` and `ahead` of a hello or welcome: what of the held and pending frames needs not be sent again. What was held is
 * pending after it. 0 or -EPROTO.
 */
int link_core_resume(struct link_core *core, uint64_t received, struct span ahead);
/*
 * A frame came in on this path: it is delivered, and those that waited for it; or it waits; or it is here already and is
 * dropped. 0, -EPROTO (further ahead than a peer may be), -ENOMEM, or what `deliver` said.
 */
int link_core_receive(struct link_core *core, unsigned path, const struct link_message *frame);

/* ---- what we say ---- */

static inline uint64_t link_core_received(const struct link_core *core)
{
	return core->expected;
}
/* For a hello or welcome: at most LINK_RUNS_MAX pairs. */
void link_core_put_ahead(const struct link_core *core, struct buffer *ahead);
