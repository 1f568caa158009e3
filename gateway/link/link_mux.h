/*
 * link_mux: what both ends of a link do with a core: paths (calls of Carry) carry its frames, channels (socketpairs) make and
 * take them. Embedded in the client's link and in the gateway's. What differs is theirs: who makes paths, who opens channels,
 * and what follows when a link cannot go on.
 *
 * Handlers note what happened; the *turn* (from the loop) decides and sends: frames from channels are made only when a path
 * has room for them, so what is kept here is little more than what is under way.
 *
 *	OPEN -> CLOSING -> (on_gone)
 */
#pragma once

#include "gateway/link/link_channel.h"
#include "gateway/link/link_core.h"
#include "gateway/ring/ring.h"
#include "proto/call.h"

#define LINK_SILENCE_NS    6000000000ull         /* under way, and no word from the peer: the path is dead */
#define LINK_PROBE_NS      10000000000ull        /* of silence, before the client asks if the gateway is there */
#define LINK_TICK_NS       1000000000ull         /* how often time-outs are looked at */
#define LINK_TICK_NS_MIN   10000000ull           /* likewise, however short they are: a peer may ask for a millisecond */
#define LINK_HOLD_NS       500000000ull          /* what a lost path had waits so long for its return, while others go on */
#define LINK_ACK_BYTES     (32u << 10)           /* arrived: told at once */
#define LINK_ACK_DELAY_NS  20000000ull           /* less than that: perhaps a frame of ours takes it along */

struct link_mux;
struct link_path;

struct link_path_events {
	/*
	 * The peer's first message on this path: a hello or a welcome has to be in it. 0, and the path is attached
	 * (link_mux_attach) or was before; or a negative errno: the path has been given up.
	 */
	int (*on_greeting)(struct link_path *path, const struct link_message *message);
	/* It said what no peer of ours says, before it was attached. It is deaf from now on. */
	void (*on_fault)(struct link_path *path);
	/* The call has ended, last event. The path is detached. */
	void (*on_closed)(struct link_path *path, enum grpc_status status, struct span message);
};

/* One call of Carry. Embedded in its owner. */
struct link_path {
	const struct link_path_events *events;
	struct link_mux *mux;                    /* NULL: not attached */
	struct call call;
	unsigned number;                         /* 0 to LINK_PATHS_MAX - 1 */
	bool greeted;                            /* the peer's first message has come */
	bool over_owed;                          /* left: the goodbye waits for room in the call */
	bool deaf;                               /* given up: what still comes is dropped */
	uint64_t heard_ns;                       /* when the peer's last message came */
	uint64_t probed_ns;                      /* a probe is not answered yet; 0: none */
	uint64_t told_received, told_taken;      /* what the peer knows of what arrived */
	size_t owed_bytes;                       /* arrived since */
	bool owes_now;                           /* it asked */
};

enum link_trouble {
	LINK_TROUBLE_NONE,
	LINK_TROUBLE_RULES,                      /* the peer broke them */
	LINK_TROUBLE_MEMORY,
	LINK_TROUBLE_OVER,                       /* the peer says that the link is over: no trouble at all */
};

struct link_mux_events {
	/* Server: the peer opened a channel; `fd` is whose it is from now on. 0, or negative: refused, and the fd was closed. */
	int (*on_channel)(struct link_mux *mux, int fd);
	/* From the turn: the link cannot go on. Once. */
	void (*on_trouble)(struct link_mux *mux, enum link_trouble trouble);
	/* Words of this path were awaited for too long; to be given up. */
	void (*on_dead)(struct link_mux *mux, struct link_path *path);
	/* Every tick; `now_ns`. */
	void (*on_tick)(struct link_mux *mux, uint64_t now_ns);
	/* From the turn: the last channel has gone. */
	void (*on_idle)(struct link_mux *mux);
	/* From the turn: frames wait, and no path has room. Optional. */
	void (*on_crowded)(struct link_mux *mux);
	/* After link_mux_close(): nothing is in flight any more, the mux may be freed. */
	void (*on_gone)(struct link_mux *mux);
};

struct link_mux {
	struct link_core core;
	struct ring *ring;
	const struct link_mux_events *events;
	bool server;
	bool closing, gone;
	bool idle_owed;                          /* on_idle */
	enum link_trouble trouble;
	bool trouble_told;
	struct link_path *paths[LINK_PATHS_MAX];
	struct link_channels channels;
	struct op turn, ack, tick, hold;
	uint64_t tick_ns, silence_ns;
};

struct link_mux_config {
	struct ring *ring;
	const struct link_mux_events *events;
	bool server;
	uint64_t tick_ns, silence_ns;            /* 0: the defaults */
};

/* How often a link looks at its time-outs that may be without a path for so long. */
uint64_t link_mux_tick_ns(uint64_t timeout_ns);
void link_mux_init(struct link_mux *mux, const struct link_mux_config *config);
/* Closes the channels, drops what is kept; on_gone follows from the loop. All paths are detached. Idempotent. */
void link_mux_close(struct link_mux *mux);
/* The turn comes soon. */
void link_mux_wake(struct link_mux *mux);
/* The link cannot go on: on_trouble follows. The first reason counts. */
void link_mux_fail(struct link_mux *mux, enum link_trouble trouble);

/* ---- paths ---- */

extern const struct call_events link_path_call_events;

/* The path is up and takes frames: in its number's place, which has to be free. */
void link_mux_attach(struct link_mux *mux, struct link_path *path);
/*
 * What still comes on this path is dropped. What was under way goes elsewhere: when a path comes and says what it has, or after
 * LINK_HOLD_NS. Idempotent.
 */
void link_path_detach(struct link_path *path);
/*
 * Client: detaches it, says that the link is over, as soon as the call has room (over_owed until then), and half-closes it.
 */
void link_path_leave(struct link_path *path);
unsigned link_mux_paths(const struct link_mux *mux);     /* attached now */
/* A greeting: `received` and, for a resumed link, `ahead` are for the caller to fill in. Never refused on a new call. */
void link_path_send(struct link_path *path, const struct link_message *message);

/* ---- channels ---- */

/* Client: opens one. The user's end of it, or -errno as link_channel_open(). */
int link_mux_open_channel(struct link_mux *mux);
/* All of them are closed at once. */
void link_mux_close_channels(struct link_mux *mux);
