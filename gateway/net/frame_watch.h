/*
 * frame_watch: tells whether a peer is in the middle of a frame, or of a header block of several, so that one who never
 * ends it can be cut off: until its end the engine has nothing to say about it. The middle of a DATA frame does not
 * count: bodies may be slow. Pure; looks at nothing but frame headers (RFC 9113 section 4.1).
 */
#pragma once

#include "proto/span.h"

#define FRAME_WATCH_HEAD_BYTES    9
#define FRAME_WATCH_PREFACE_BYTES 24

struct frame_watch {
	uint8_t head[FRAME_WATCH_HEAD_BYTES];
	uint8_t head_size;
	bool data;                       /* the frame is DATA */
	bool block;                      /* a header block has begun and not ended */
	uint32_t left;                   /* of the preface, or of the frame's payload */
};

/* `server`: a client's preface comes first. */
struct frame_watch frame_watch_make(bool server);
void frame_watch_feed(struct frame_watch *watch, struct span data);

static inline bool frame_watch_unfinished(const struct frame_watch *watch)
{
	return watch->head_size > 0 || watch->block || (watch->left > 0 && !watch->data);
}
