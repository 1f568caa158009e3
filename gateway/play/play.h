/*
 * play: a daemon's FileSync/DiffCopy call, answered from the store: an edge at the other end of the session has named and
 * pushed the context (Context/Give, asker.h), and what the daemon is told and given is played from its tree.
 *
 *	ASKING -> SAME, AHEAD -> PLAYING <-> REPAIRING        any -> ENDING -> OVER -> (freed)
 *	   |        '----> LEAVING -> PLAIN (what the daemon has not heard of comes from the client)
 *	   '----> (the same call as a plain DiffCopy of the client's, diffcopy.h)
 *
 * Before the root comes, the one of the last time may be played as far as it is the same (play_same.c), or, of a context that
 * is lacking, entries and contents as the edge reads them (play_ahead.c). A context that its edge calls unfit, or that does not
 * come, before the first STAT: the call is carried as if there were no edge; behind some of the last root: the rest is. A part
 * that the store loses while it is played is pushed again by the edge, and the play goes on.
 *
 * Back-pressure: entries are taken from the tree, and files from the store, as the daemon takes packets. An entry stays in
 * memory with 48 bytes, without its name.
 *
 * On the ring's thread. Source: DESIGN.md "How an edge build flows"; fsutil send.go, stat.go.
 */
#pragma once

#include "gateway/broker/diffcopy.h"
#include "gateway/play/recent.h"
#include "gateway/play/stable.h"

#define PLAY_FILES_MAX 64                /* files under way, a call; the others wait as entries */

struct play_counters {
	uint64_t plays, unfit, repairs;
	uint64_t plays_ahead, files_ahead;       /* that began before their root came; given before that */
	uint64_t plays_same;             /* that began with the root that was known */
};

/* One a gateway. */
struct play_service {
	struct stable *stable;           /* the owner's; NULL: no keys but the clients' */
	struct recent roots;             /* a context's last root, by its play's key */
	struct play_counters counters;
};

void play_service_fini(struct play_service *service);

/*
 * Inside on_stream of the daemon's `stream`, as diffcopy_open(); `edge` is the client's engine, behind which Context/Give
 * is exposed. `lineage`: under whose key the daemon keeps the context, with mtimes as it says; NULL: under the client's
 * own, with the client's mtimes. Of the session `client` is set, and with a lineage `restat`.
 */
int play_open(struct play_service *service, struct diffcopy_session *session, struct stream *stream,
              const struct grpc_request *head, struct h2 *edge, struct lineage *lineage);
