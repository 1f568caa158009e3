/*
 * forward: one call carried from a client's stream to a stream of an executor's connection: header fields, bytes,
 * half-close, trailers, resets and the client's own deadline go through as they are. Embedded in its owner.
 *
 *	HELD -> OPEN -> (gone)           forward_open(); HELD or OPEN -> ANSWERED -> (gone)       forward_finish()
 *	OPEN -> HELD                     the executor's connection was lost, and the owner wants the call kept (on_lost)
 *
 * While it is held nothing is known of it at an executor: the request's header fields are kept, and so is what the client
 * sends within its window. Only for the sake of a whole first message is the window opened, and what that lets in is
 * charged to the owner's account. The owner may send response headers and messages of its own meanwhile.
 *
 * Back-pressure: a byte is acknowledged to the peer that sent it when the other stream's out-queue has taken it. What is
 * held here is what a peer had in its window: at most the two receive windows.
 *
 * Loop context: the events of both streams come on one ring's thread. Source: DESIGN.md decision 5 (unknown services,
 * methods, fields, metadata and trailers pass untouched), gRPC's PROTOCOL-HTTP2.md.
 */
#pragma once

#include "gateway/base/list.h"
#include "proto/grpc.h"

#define FORWARD_MESSAGE_BYTES_MAX (16u << 20)    /* as BuildKit's own clients and daemons */
#define FORWARD_OWN_BYTES_MAX     (64u << 10)    /* of messages of ours that wait for the client to read */

struct forward;

struct forward_events {
	/*
	 * Held: the client's first message is whole, or there will be none (empty then, also when it is compressed). Once.
	 * NULL: nobody waits for it.
	 */
	void (*on_first)(struct forward *forward, struct span message);
	/* Held: the client has half-closed, after on_first. Optional. */
	void (*on_end)(struct forward *forward);
	/* By messages: one of the executor's, before it goes on to the client. Optional. */
	void (*on_message)(struct forward *forward, struct span message);
	/*
	 * The executor has answered all; what the owner puts now goes out before its trailers (by messages). `text` is borrowed,
	 * still percent-encoded. Optional.
	 */
	void (*on_status)(struct forward *forward, enum grpc_status status, struct span text);
	/*
	 * The executor's connection ended under a call whose request is kept, and of whose answer the client has nothing (by
	 * messages: some whole ones). True: it is held again, to be opened elsewhere; the client notices nothing. Optional.
	 */
	bool (*on_lost)(struct forward *forward);
	/* What the client reads when that connection is lost; borrowed until the next call. Optional: its name and what to do. */
	const char *(*lost_text)(struct forward *forward);
	/* What waited for the client to read has gone out. Optional. */
	void (*on_drained)(struct forward *forward);
	/* Last: both streams have closed. The owner may be freed. */
	void (*on_gone)(struct forward *forward);
};

/* What the forwards of one owner keep beyond the peers' windows. */
struct forward_account {
	size_t bytes, bytes_max;
};

/* One of the two streams, and what waits to go out on it. */
struct side {
	struct forward *forward;
	struct side *other;
	struct stream *stream;           /* NULL: closed, or not open yet */
	struct buffer waiting;           /* came on the other stream, and this one's queue was full */
	size_t waiting_sent;
	size_t credited;                 /* of `waiting`: acknowledged already, and charged to the account */
	bool ending;                     /* nothing comes after `waiting` */
	bool ended;                      /* and that was said */
};

enum forward_state {
	FORWARD_HELD,
	FORWARD_OPEN,
	FORWARD_ANSWERED,                /* by us; an executor's stream, if there was one, is being reset */
};

struct forward {
	enum forward_state state;
	const struct forward_events *events;
	struct forward_account *account;
	const struct stream_events *before_events;       /* of the client's stream, when it was taken over */
	void *before_owner;
	const char *executor;            /* its name, once open */
	struct side client, upstream;
	struct header *head;             /* path, authority, then the fields; until it is open, or as long as it keeps */
	size_t head_count;
	struct buffer kept;              /* keeps: the request's bytes as the client sent them */
	bool keeps;
	bool headers_sent;               /* to the client */
	bool by_messages;                /* the executor's bytes go on as whole messages, ours may come in between */
	bool first_told;
	bool lost;                       /* the executor's connection ended under it */
	bool broke;                      /* the executor gave the call up without an answer */
	bool left;                       /* the client went before it had its answer */
	struct grpc_reader reader;       /* by messages */
	size_t owed;                     /* by messages: bytes of the executor's that are not acknowledged yet */
	struct header *trailers;         /* for the client, behind `waiting`; one allocation with their bytes */
	size_t trailers_count;
};

/* Inside on_stream of `from`: takes it over, held, until both streams have closed. 0, or -ENOMEM and `from` is as before. */
int forward_init(struct forward *forward, const struct forward_events *events, struct forward_account *account,
                 struct stream *from, const struct grpc_request *request);
/* Held, before any of the request has come: it is kept whole, to be sent again, unless it is of more than `bytes_max`. */
void forward_keep(struct forward *forward, size_t bytes_max);
/* What on_lost would be asked for: it can be opened anew. */
bool forward_may_reopen(const struct forward *forward);
/* Held: the first header field of that name; empty when there is none. Borrowed until it is open. */
struct span forward_header(const struct forward *forward, const char *name);
/* Held: what is opened on `to`, whose executor's name lives as long as `to`. 0 or h2_open()'s errors; then it is held still. */
int forward_open(struct forward *forward, struct h2 *to, const char *executor);

/* Held, and still inside on_stream: as if it had not been taken over; `from` is the caller's to refuse. No event. */
void forward_abandon(struct forward *forward);

/* Response headers to the client now, with one more field unless `more` is NULL; those of the executor are dropped. */
void forward_start(struct forward *forward, const struct header *more);
/* A message of ours, held or by messages. False: dropped, as the client does not read or the call is over. */
bool forward_put(struct forward *forward, struct span message);
/* Something waits for the client to read. */
static inline bool forward_waits(const struct forward *forward)
{
	return forward->client.waiting.size > 0;
}
/* The answer is ours, behind what was put: the executor's stream is reset. `text` may be NULL. Later ones do nothing. */
void forward_finish(struct forward *forward, enum grpc_status status, const char *text);
/* One message and OK. */
void forward_reply(struct forward *forward, struct span message);
/* The client's stream is there and no answer has ended it. */
bool forward_answerable(const struct forward *forward);
