/* link_private: what link.c (life, events) and link_connect.c (its conns) share of a client's link. */
#pragma once

#include "gateway/link/link.h"
#include "gateway/link/link_mux.h"

#define LINK_RETRY_NS_FIRST 50000000ull          /* after a second failure in a row; doubles */
#define LINK_RETRY_NS_MAX   1000000000ull
#define LINK_BRIEF_NS       1000000000ull        /* a path that was lost sooner; behind a second one in a row LINK_RETRY_NS_FIRST pass */
#define LINK_FAREWELL_NS    1000000000ull        /* for a goodbye to get into the socket; behind what filled the call, to the gateway */
#define LINK_FAREWELL_STEP_NS 1000000ull
#define LINK_WIDEN_BYTES    (4u << 20)           /* traffic that is worth another conn, each */

enum link_state {
	LINK_CONNECTING,                         /* it was never up */
	LINK_UP,                                 /* a path is there */
	LINK_DOWN,                               /* none is; it tries to come back */
	LINK_LOST,                               /* on_lost was called */
	LINK_CLOSING,                            /* link_close(): waits until everything has landed */
};

/* A conn of the link, with a call of Carry on it, or its empty place. */
struct link_conn {
	struct link_path path;
	struct link *link;
	struct conn *conn;                       /* NULL: none */
	bool call_open;                          /* path.call waits for its on_closed */
	bool ready;                              /* connected, at least once; since: */
	uint64_t ready_ns;
	bool attached;                           /* it is a path of the link */
	bool farewell;                           /* the goodbye is on its way */
	bool answer;                             /* and behind so much that only the gateway's answer tells that it got there */
	enum grpc_status status;                 /* how the call ended, when the gateway said so */
	char text[CALL_STATUS_TEXT_MAX + 1];
};

struct link {
	struct link_mux mux;
	struct ring *ring;
	struct link_config config;
	enum link_state state;
	uint8_t id[LINK_ID_BYTES];
	bool attempted;                          /* a first hello has gone out */
	bool welcomed;                           /* the gateway knows the link */
	bool mux_gone;
	bool ending;                             /* the gateway was told, as far as it can be */
	char *authorization, *server_name;
	char authority[ADDRESS_TEXT_MAX], name[ADDRESS_TEXT_MAX];
	struct link_conn conns[LINK_PATHS_MAX];
	unsigned wanted;                         /* conns, by the traffic so far */
	unsigned failures;                       /* attempts in a row that came to nothing */
	unsigned brief;                          /* paths in a row that were */
	uint64_t down_since_ns, timeout_ns, farewell_ns;
	struct op step, retry, resolve;
	struct address_resolved resolved[ADDRESS_RESOLVED_MAX], resolving[ADDRESS_RESOLVED_MAX];
	int resolved_count;                      /* 0: not yet */
	bool stale;                              /* to be resolved again before the next attempt */
	char resolve_why[256];
	char reason[LINK_REASON_MAX];
	enum conn_end end;
	int error;
	uint64_t received, sent, handshake_received, handshake_sent;     /* of conns that have gone */
	uint64_t paths_total, paths_lost, resumes;
};

/* link.c */
void link_lose(struct link *link, enum conn_end end, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void link_note(struct link *link, enum conn_end end, int error, const char *reason);
/* The first path, or the first after a time without. */
void link_came_up(struct link *link);
/* A path was lost that had been attached. */
void link_path_lost(struct link *link);
void link_wake(struct link *link);

/* link_connect.c */
extern const struct link_path_events link_conn_path_events;
/* Opens the conns that are wanted and not there, as far as that makes sense now. */
void link_connect(struct link *link);
void link_on_resolved(struct op *op, int32_t res);
void link_on_retry(struct op *op, int32_t res);
/*
 * From the loop, not from inside an event of its conn. Says goodbye where the gateway may have heard a hello, be it welcomed or not;
 * else closes the conn.
 */
void link_conn_farewell(struct link_conn *conn);
/*
 * Likewise from the loop. True: the goodbye has gone out, or it is `late`, and the conn ends by itself; nobody waits for an answer, but
 * behind what is still under way. False: to be asked again.
 */
bool link_conn_ended(struct link_conn *conn, bool late);
