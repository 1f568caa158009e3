/*
 * h2_private: what the parts of h2 share. h2.c: the connection's life, feed and output. h2_events.c: what nghttp2 tells.
 * h2_stream.c: a stream's own operations. h2_frame.c: the frame whose payload goes out from where it lies. Nobody else includes it.
 */
#pragma once

#include "proto/h2.h"
#include "proto/queue.h"

#include <nghttp2/nghttp2.h>

#define H2_FRAME_HEAD_BYTES 9
#define H2_PSEUDO_MAX 8                          /* pseudo-header fields of a block; RFC 9113 knows six */

/*
 * Frames that cost us work and carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, refused ones) are
 * paid from a credit. It is full again whenever all our output was fetched, and each DATA frame of ours earns what an
 * honest receiver may answer to it. There is no clock here, so a peer is held to what our output can carry away.
 */
#define H2_CONTROL_CREDIT 1000

#define H2_FIELDS_FEW (4 + STREAM_HEADERS_MAX)   /* that are sent without an allocation */

struct h2_stream {
	struct stream base;
	struct h2 *h2;
	struct h2_stream *previous, *next;       /* h2->streams */
	struct h2_stream *writable_previous, *writable_next;
	int32_t id;
	struct queue out;
	struct loan *loan;                       /* goes out behind `out` */
	size_t unconsumed;                       /* given to on_data, not yet stream_consumed() */
	nghttp2_nv *trailers;                    /* owned copy, waiting until `out` has drained */
	size_t trailers_count;
	bool attached;                           /* a consumer took it: it gets events, on_close among them */
	bool headers_done;                       /* our header block was submitted */
	bool ending;                             /* our side ends once `out` has drained */
	bool deferred;                           /* nghttp2 waits for nghttp2_session_resume_data() */
	bool write_short;                        /* the consumer waits for on_writable */
	bool writable_queued;                    /* member of h2->writable */
	bool reset;                              /* we gave it up: no event but on_close */
	bool peer_ended;
	bool local_ended;                        /* our END_STREAM has left */
};

/*
 * A DATA frame whose payload is handed out from where it lies (config.pieces). nghttp2 is done with it; until the last byte
 * is out nothing else may go. When its stream goes first, what is left of the payload is copied aside.
 */
struct h2_frame {
	uint8_t head[H2_FRAME_HEAD_BYTES];
	bool head_due;
	bool lost;                               /* no memory to keep it aside: the connection cannot go on */
	struct h2_stream *stream;                /* NULL: the payload is in `aside` */
	size_t left;                             /* of the payload, not handed out yet */
	size_t lent;                             /* handed out last, taken off its place at the next h2_output() */
	uint8_t *aside;
	size_t aside_at;
};

/* The header block that is being received. RFC 9113 4.3: there is one at a time on a connection. */
struct h2_block {
	struct header *fields;                   /* grows as blocks ask for it, up to config.headers_max */
	nghttp2_rcbuf **held;                    /* name and value of each field */
	size_t count, capacity;
	size_t pseudo_count;
	size_t bytes;                            /* as RFC 9113 6.5.2 counts them: 32 more a field */
	bool too_many;
};

struct h2 {
	nghttp2_session *session;
	struct h2_config config;                 /* defaults filled in */
	struct h2_stream *streams;
	size_t streams_count;
	struct h2_stream *writable_first, *writable_last;
	struct h2_block block;
	struct h2_frame frame;
	struct h2_fault fault;
	bool entered;                            /* inside h2_feed, h2_output or the end of the carrier */
	bool announced;                          /* on_output was called, h2_output was not yet */
	bool draining;
	bool peer_goaway;
	bool peer_left;                          /* its GOAWAY made nghttp2 end the session: no fault */
	bool closed;                             /* the carrier is gone; the session is not used any more */
	int64_t control_credit;
	uint64_t resets, completed, copied_bytes, received_bytes;
};

extern const struct stream_transport h2_stream_transport;

struct h2_stream *h2_stream_create(struct h2 *h2);
/* Unlinks and frees; on_close (if a consumer took it) is the last thing it hears. */
void h2_stream_close(struct h2_stream *stream, uint32_t code);
/* The next piece of h2->frame; size 0: it has gone out whole. */
struct span h2_frame_output(struct h2 *h2);
void h2_frame_fini(struct h2_frame *frame);
/* nghttp2's send_data_callback. */
int h2_frame_begin(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t size,
                   nghttp2_data_source *source, void *user_data);
/* What is left of the frame lies in a stream that goes: it is kept aside. */
void h2_frame_rescue(struct h2_stream *stream);
/* Up to `room` bytes of what the stream sends next, queue before loan, in one piece. */
struct span h2_stream_front(const struct h2_stream *stream, size_t room);
/* Takes them off; the second tells of room, and that a loan is over, when consumers are told next. */
void h2_stream_skip(struct h2_stream *stream, size_t size);
void h2_stream_drop(struct h2_stream *stream, size_t size);
/* Tells each consumer that waits for room and has some. */
void h2_streams_deliver_writable(struct h2 *h2);
/* The data provider of every stream. */
nghttp2_data_provider h2_stream_provider(struct h2_stream *stream);

/* True when a field list is within what a peer must take; counts as RFC 9113 6.5.2 does. */
bool h2_fields_fit(const struct h2 *h2, const struct header *headers, size_t count);
nghttp2_nv h2_field(struct span name, struct span value, bool sensitive);
/* Room for `count` fields: `few`, or memory of their own when they are more; NULL: none. h2_fields_free() after use. */
nghttp2_nv *h2_fields(nghttp2_nv few[static H2_FIELDS_FEW], size_t count);
void h2_fields_free(nghttp2_nv *fields, const nghttp2_nv *few);

/* The connection ends: GOAWAY, and nothing received is looked at any more. The first reason stays. */
void h2_fail(struct h2 *h2, uint32_t code, const char *reason);
bool h2_failed(const struct h2 *h2);

void h2_block_clear(struct h2_block *block);
void h2_block_fini(struct h2_block *block);

/* What turns nghttp2's callbacks into events; NULL: out of memory. Freed by the caller. */
nghttp2_session_callbacks *h2_callbacks_create(void);

/* Something may have been queued: says so to the owner, unless it will look anyway. */
void h2_announce(struct h2 *h2);
