/*
 * upstream: the gateway that an edge belongs to: where it is, and what the edge shows it. Connections to it are their
 * openers'; each is one more of the same credential: a channel of the one link that all of them ride (gateway/link/link.h), and
 * so survives the loss of sockets, or, without links, a socket of its own. A link that is lost is followed by another one.
 *
 * On the ring's thread; upstream_init() blocks (files).
 */
#pragma once

#include "gateway/client/client.h"
#include "gateway/link/link.h"
#include "gateway/net/conn.h"
#include "proto/grpc.h"

#define UPSTREAM_TEXT_MAX 640            /* a sentence about it */

/*
 * buildx's remote driver asks anew every second while the answer is UNAVAILABLE, gives up after 20, and does not tell its user
 * why. So after half of that time whoever asks right after a failure gets an answer that it does tell.
 */
#define UPSTREAM_PATIENCE_NS 10000000000ull
#define UPSTREAM_RETRY_NS    2000000000ull

struct upstream {
	struct ring *ring;
	struct address address;
	char name[ADDRESS_TEXT_MAX];     /* in full, for users: "grpcs://gateway:8372" */
	char authority[ADDRESS_TEXT_MAX];        /* host and port, for calls of the edge's own */
	struct tls_context *tls;         /* NULL: not encrypted */
	const char *server_name;         /* borrowed */
	uint64_t connect_timeout_ns;
	struct header credential[2];     /* for each call: the token, the instance */
	size_t credential_count;
	char *authorization;             /* the first one's value */
	unsigned link_conns;             /* 0: no links */
	uint64_t link_timeout_ns;
	const char *token;               /* borrowed */
	struct link *link;               /* NULL: none yet */
	bool link_up;                    /* it was, at least once */
	bool lost_seen;                  /* by upstream_reach() */
	unsigned links_open;             /* with those that are being closed */
	uint64_t connections, connections_failed;        /* ever; of them those that never were ready */
	uint64_t failing_since_ns, failed_ns;    /* the first and the last failure in a row; 0: none */
	char failure[UPSTREAM_TEXT_MAX]; /* the last one */
};

/* From what a client's command is told; its texts live as long as `upstream`. 0, or -errno with `why`. */
int upstream_init(struct upstream *upstream, struct ring *ring, const struct client_config *config, char *why, size_t why_size);
/* No connection is left: ends the link; upstream_idle() once it has gone. */
void upstream_close(struct upstream *upstream);
static inline bool upstream_idle(const struct upstream *upstream)
{
	return upstream->links_open == 0;
}
void upstream_fini(struct upstream *upstream);           /* idle */

/* As conn_connect(); `config` says what is the opener's: events, owner, windows. */
int upstream_connect(struct upstream *upstream, struct conn **conn, const struct conn_config *config, char *why,
                     size_t why_size);
/* To be told by each opener: it is ready; it has gone. */
void upstream_ready(struct upstream *upstream);
void upstream_closed(struct upstream *upstream, const struct conn *conn);
/*
 * The link is down: what is under way waits for it, but nothing new is to be begun. Counts as a failure. False: go ahead; a
 * link that was never up tells by itself.
 */
bool upstream_is_down(struct upstream *upstream, char *why, size_t why_size);
/*
 * Whether the gateway is within reach, for who asks about once a second and needs no connection: a link that is not there is
 * begun, so that a later call may find it up. Without links nothing is tried for this: true until calls fail for long.
 */
bool upstream_reach(struct upstream *upstream);
/* NULL, or why it cannot be reached: it was just tried, and for UPSTREAM_PATIENCE_NS none of the tries has succeeded. */
const char *upstream_unreachable(const struct upstream *upstream);
/* Why such a connection ended, while it ends. */
void upstream_describe(const struct upstream *upstream, const struct conn *conn, char *text, size_t size);

/*
 * The header fields of a caller's request with the edge's credential in the place of his. NULL: no memory. The caller frees
 * it; the fields are borrowed.
 */
struct header *upstream_headers(const struct upstream *upstream, const struct grpc_request *head, size_t *count);
