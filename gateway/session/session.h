/*
 * session: one Control/Session, terminated: towards buildx we are the inner HTTP/2 client, towards the daemon the inner
 * server. The two sides live apart: the client's is answered at once, the executor's is opened when there is one, and
 * may be lost and opened anew at another one without the client noticing.
 *
 *	HELD <-> CARRIED -> ENDING -> (freed)
 *
 * Of the daemon's inner calls Health/Check is answered here, FileSync/DiffCopy goes to the broker, or is played from the store
 * when an edge is behind it (play.h), of Upload/Pull is kept what came (spool.h), all others are carried to the client
 * untouched. The client is probed by a timer of our own.
 *
 * On the ring's thread. Source: DESIGN.md "How a stock buildx build flows" 4; moby/buildkit session/.
 */
#pragma once

#include "gateway/broker/diffcopy.h"
#include "gateway/play/play.h"
#include "gateway/session/nest.h"
#include "gateway/session/relay.h"
#include "gateway/session/session_health.h"
#include "gateway/session/siblings.h"
#include "gateway/session/spool.h"

#define SESSION_PATH "/moby.buildkit.v1.Control/Session"

struct session;

enum { SESSION_PASS = 1 };                       /* on_call: not ours */

struct session_events {
	/*
	 * A call of the executor's, other than a health check, while the client is there: 0, taken over; SESSION_PASS, to be dealt
	 * with as if there were no such event; or -errno, refused. As h2_events.on_stream. Optional.
	 */
	int (*on_call)(struct session *session, struct stream *stream, const struct grpc_request *head);
	/*
	 * The executor's side has ended though the client's goes on: its connection was lost, or the daemon has ended the
	 * session (`status`, `message` as it said them). The session is HELD again: session_carry() elsewhere, or session_finish().
	 */
	void (*on_executor_closed)(struct session *session, enum grpc_status status, struct span message);
	/* It was not ready, and is now; may be NULL. */
	void (*on_ready)(struct session *session);
	/* Last: the client's side has ended, for whatever reason, and the executor's after it. Freed after the return. */
	void (*on_closed)(struct session *session);
};

struct session_config {
	struct ring *ring;
	struct diffcopy_service *broker;         /* NULL: DiffCopy is carried like the rest */
	struct spool_room *spools;               /* NULL: Upload/Pull is carried like the rest, and comes once */
	struct siblings *siblings;               /* of the client's connection; outlives it. NULL: it has none */
	struct play_service *play;               /* with a broker: contexts that an edge gives. NULL: none are asked for */
	struct scope scope;                      /* whose bytes they are */
	struct span tenant, subject;             /* for the trust key; borrowed during session_accept() */
	const struct header *headers;            /* more of them for the executor; borrowed during session_accept() */
	size_t headers_count;
	/* Of the client's health checks, as health_probe's. A client behind a link may be away for as long as the link waits for it. */
	uint64_t probe_interval_ns, probe_timeout_ns;
	const struct session_events *events;
	void *owner;
};

/*
 * Inside on_stream: takes the client's stream over, until on_closed. 0 or -ENOMEM, and the stream is as before.
 */
int session_accept(struct session **session, const struct session_config *config, struct stream *stream,
                   const struct grpc_request *head);
/*
 * Of an edge's session with stable keys it is looked up first which key its directory has: until then it is not to be
 * carried.
 */
bool session_is_ready(const struct session *session);
/*
 * A build of it wants the client's own mtimes and nothing else, as its result is to be the same bit by bit. To be said
 * before the session is carried.
 */
void session_want_real_times(struct session *session);
/*
 * Opens it at an executor, with the client's own header fields and the config's; but an edge's directory goes by its
 * stable key, if it has one (stable.h), and what is between the edge and us stays here. Only while HELD and ready. 0, or
 * as call_start().
 */
int session_carry(struct session *session, struct h2 *executor);
/* Ends the client's side with a status; on_closed follows. May be called again. */
void session_finish(struct session *session, enum grpc_status status, const char *text);

/* The client's inner engine, to open calls on; NULL when it has gone. Calls on it end before on_closed, or with it. */
struct h2 *session_client(struct session *session);
/* While somebody uses it on_closed does not come. session_unuse() may bring it, and not from inside an event of the session's. */
void session_use(struct session *session);
void session_unuse(struct session *session);

void *session_owner(const struct session *session);
bool session_is_held(const struct session *session);     /* no executor, and the client is there */
/* What the client announced; borrowed while the session lives. */
struct span session_id(const struct session *session);           /* x-docker-expose-session-uuid */
struct span session_shared_key(const struct session *session);   /* x-docker-expose-session-sharedkey */
/* Its directory goes by its name, whichever machine it lies on: an edge's, with stable keys. */
bool session_is_stable(const struct session *session);
/* The directory of that name is this session's, as sibling_takes() has it: what was seen of it is evidence. */
bool session_takes_directory(struct session *session, struct span directory);
/* The client exposes this method ("/moby.filesync.v1.FileSync/DiffCopy"), in any case of letters. */
bool session_exposes(const struct session *session, const char *method);
/* Another executor would get all that this one got of streams which the client says once (Upload/Pull). */
bool session_can_repeat(const struct session *session);
/* The client was given a result (FileSend). */
bool session_has_sent(const struct session *session);
/* What has gone through its DiffCopy calls since it was last asked; what comes is counted from 0. */
struct diffcopy_totals session_take_totals(struct session *session);
