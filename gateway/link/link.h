/*
 * link: the client's side of a resumable link to a gateway (`sluice.v1.Link/Carry`). A link carries *channels*: ordered
 * byte streams that survive the loss of sockets. Each end of a channel is one end of a socketpair, so whoever uses it
 * sees a connected fd and speaks HTTP/2 over it: conn_adopt(), or client_config.fd, here; server_adopt() at the gateway.
 *
 * A link rides 1 to LINK_PATHS_MAX conns (*paths*). Frames are numbered over the whole link, acknowledged, and kept until
 * then; when a path is lost, what it had not delivered goes again over the others, or over the next. A byte is delivered
 * once, in order, or the link is lost.
 *
 *	CONNECTING -> UP <-> DOWN -> LOST, each -> CLOSING -> (freed)
 *
 * Memory: what is not acknowledged is at most LINK_REPLAY_BYTES_MAX; past it the channels' sockets are not read
 * (back-pressure). What waits for a channel's reader is at most its credit.
 *
 * Loop context: on the ring's thread. Events come from the loop, never from inside a link_*() call. The name is resolved on
 * a worker thread.
 */
#pragma once

#include "gateway/net/conn.h"

#define LINK_PATHS_MAX          4
#define LINK_CHANNELS_MAX       128              /* open at a time */
#define LINK_TIMEOUT_NS         60000000000ull   /* default: how long a link without a path is kept */
#define LINK_REASON_MAX         768

struct link;

struct link_events {
	/* The first path is up, or one after a time without any. */
	void (*on_up)(struct link *link);
	/* The last path was lost; the link tries to come back. `reason` says how it was lost, in one sentence. */
	void (*on_down)(struct link *link, const char *reason);
	/*
	 * It does not come back: the first connection could not be made, the gateway does not know the link (it was
	 * restarted, or other credentials are used), it broke the rules, or there was no path for `timeout_ns`. All
	 * channels have been closed: their readers see the end of the stream. `reason` is a sentence for the user. The link is
	 * still to be closed.
	 */
	void (*on_lost)(struct link *link, const char *reason);
	/* Last event, after link_close(): the link is gone after the return. */
	void (*on_closed)(struct link *link);
};

/* Texts are copied; `tls` is borrowed until on_closed. */
struct link_config {
	struct address address;
	struct tls_context *tls;         /* a client's; NULL: plain */
	const char *server_name;         /* to expect in the certificate; NULL: the address's host */
	const char *token;               /* bearer; NULL: none */
	unsigned conns;                  /* 1 to LINK_PATHS_MAX; 0: 1 */
	bool conns_at_once;              /* all of them from the start; else the second and further ones when there is traffic for them */
	uint64_t timeout_ns;             /* how long to try to come back; 0: LINK_TIMEOUT_NS. The gateway may allow less */
	uint64_t connect_timeout_ns;     /* of one attempt; 0: 10 s */
	uint64_t silence_ns;             /* a path on which nothing is acknowledged for so long is given up; 0: 6 s */
	const struct link_events *events;        /* each of them is optional, but for on_closed */
	void *owner;
};

/* Starts connecting. 0, or -EINVAL, -ENOMEM with `why`; later failures come with on_lost. */
int link_open(struct link **link, struct ring *ring, const struct link_config *config, char *why, size_t why_size);

/*
 * A new channel: a connected non-blocking socket, the caller's to close. Whoever speaks HTTP/2 over it should set
 * conn_config.stall_timeout_ns beyond `timeout_ns`: a link that is down takes no bytes. May be called before the link is up: what is
 * written goes out with the first path. -EAGAIN: LINK_CHANNELS_MAX are open; -EPIPE: the link is lost or is closing;
 * -EMFILE and the like. When the reader sees its end although the link is not lost, the gateway has closed the channel.
 */
int link_channel_open(struct link *link);

/*
 * Tells the gateway that the link is over, and ends it; channels that are open are closed. Idempotent; at any time, also
 * from inside an event. on_closed follows from the loop.
 */
void link_close(struct link *link);

void *link_owner(const struct link *link);
bool link_is_up(const struct link *link);
bool link_is_lost(const struct link *link);
const char *link_reason(const struct link *link);        /* why it is lost or was down last; "" when it never was */
/* How the conn ended that the reason speaks of, for callers with sentences of their own; CONN_END_NONE: the gateway said it. */
enum conn_end link_how_ended(const struct link *link);
int link_conn_error(const struct link *link);

/* Bytes of the TCP streams of all its conns so far, TLS included; of these the TLS handshakes' (conn.h). */
void link_bytes(const struct link *link, uint64_t *received, uint64_t *sent, uint64_t *handshake_received,
                uint64_t *handshake_sent);

/* Of the fastest of its conns, as conn_line_rate() says. */
uint64_t link_line_rate(const struct link *link);

/* All since link_open(), but for `paths` and `channels`, which are now. */
struct link_status {
	uint64_t paths, channels;
	uint64_t channels_total, paths_total, paths_lost, resumes;
	uint64_t frames_sent, frames_received, bytes_sent, bytes_received;       /* of channels' data, each byte once */
	uint64_t bytes_resent;                   /* handed to a second path, as the first was lost before it told that it had them */
	uint64_t bytes_duplicate;                /* arrived a second time, and were thrown away */
};
void link_status(const struct link *link, struct link_status *status);
