/*
 * link_channel: a channel's end that is ours: one end of a socketpair, read when there is room for frames, written as the
 * peer's come in. Its user has the other end. And the table of a link's channels.
 *
 * Each direction ends by itself: what the user sent last is followed by LINK_END, the peer's LINK_END becomes a shutdown.
 * The channel is gone when both have ended, when either side resets it, or with the link.
 */
#pragma once

#include "gateway/link/link_core.h"
#include "gateway/link/link_credit.h"
#include "gateway/ring/ring.h"

struct link_mux;

struct link_channel {
	struct link_mux *mux;
	uint32_t id;
	int fd;
	struct op poll, send;
	struct link_credit credit;
	struct buffer incoming, sending;         /* from the peer: collected; in flight to the user */
	struct list ready;                       /* its user has sent something */
	struct list dirty;                       /* something came in for its user, or it may be over */
	bool end_sent;                           /* LINK_END: the user sends no more */
	bool end_received, shut;                 /* the peer sends no more; and the user was told */
	bool closing;                            /* waits until its ops have landed */
};

struct link_channels {
	struct link_channel *table[LINK_CHANNELS_MAX];
	unsigned count;                          /* in the table */
	unsigned landing;                        /* out of it, with ops in flight */
	uint32_t last;                           /* the highest number so far */
	uint64_t total;
	uint64_t granted;                        /* the windows of all (link_credit.h) */
	struct list ready, dirty;
	struct link_frame *spare;                /* to read into */
};

void link_channels_init(struct link_channels *channels);
void link_channels_fini(struct link_channels *channels);         /* none is open or landing */
struct link_channel *link_channels_find(const struct link_channels *channels, uint32_t id);

/* A new one with this number; `user` gets the other end. 0, -EAGAIN (the table is full), -ENOMEM, -EMFILE… */
int link_channel_create(struct link_channel **channel, struct link_mux *mux, uint32_t id, int *user);
/* Now, whatever it still had. The number is free when this returns, the memory later. */
void link_channel_close(struct link_channel *channel);

/*
 * The next frame that is made of what users sent, pushed into the core; every channel in its turn. At most `bytes_max` of data,
 * which is what the path has room for. False: nobody has sent anything that may go.
 */
bool link_channels_read(struct link_mux *mux, size_t bytes_max);
/* Lets what came in go to the users. */
void link_channels_flush(struct link_mux *mux);
/* Now and then: an idle channel holds no memory. */
void link_channels_trim(struct link_mux *mux);
/* A frame of the peer's for this channel. 0, -EPROTO, -ENOMEM. */
int link_channel_take(struct link_channel *channel, const struct link_message *frame);
