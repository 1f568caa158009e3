/*
 * session_rig: a client as buildx is one and a daemon as buildkitd is one, with a gateway's session and broker between them:
 * outer connections are engines back to back, inner ones are nests (whose ends cross, so that one nest plays each part);
 * the store and the memory of stats are real ones. For tests.
 */
#pragma once

#include "gateway/session/session.h"
#include "proto/fsutil.h"
#include "tests/unit/store/fixture.h"

#define RIG_FILES_MAX    4096
#define RIG_SESSIONS_MAX 8

/* An entry of a client's directory. Its bytes follow from its seed. */
struct rig_file {
	char path[64];
	char link[64];                   /* it is a further name of this file, with all that this has; empty: it is its own */
	uint64_t size;
	int64_t mtime_ns;
	uint32_t seed;
	bool directory;
	uint64_t sent_size;              /* what the client really sends, when `odd` */
	bool odd;
};

struct rig_tree {
	struct rig_file files[RIG_FILES_MAX];
	uint32_t count;
};

/* Two engines, and what each of them says carried to the other. */
struct rig_wire {
	struct h2 *client, *server;
	bool cut;
};

struct rig_client;
/* An edge's Context/Give, inside on_stream: takes the stream over. */
typedef void rig_give_fn(struct rig_client *client, struct stream *stream, const struct grpc_request *head);

/* A client's process: one outer connection, one session, one tree. */
struct rig_client {
	struct rig *rig;
	struct rig_wire wire;
	struct nest nest;
	struct rig_tree *tree;
	const char *shared_key;
	struct session *session;         /* the gateway's; NULL once closed */
	bool deaf;                       /* answers no DiffCopy packets */
	bool hung;                       /* nor anything else inside the session */
	bool full;                       /* takes nothing of what other calls bring, beyond a message each */
	size_t streams_max;              /* refuses more at a time; 0: as many as there may be */
	uint64_t stop_after_bytes;       /* sends no more content than this; 0: all */
	uint64_t bytes_sent, files_sent;
	size_t piece_bytes;              /* of content in a packet; 0: as fsutil */
	uint32_t stats_ahead;            /* of files that it has sent, at most; 0: all at once */
	uint64_t *bytes_before;          /* out, of each STAT: what it had sent of content; NULL: not wanted */
	bool told_all;                   /* every STAT of its last DiffCopy was taken */
	bool stopped;                    /* at stop_after_bytes */
	unsigned calls_open, health_checks;
	struct rig_sender *senders;
	struct rig_upload *uploads;
	uint64_t upload_bytes;           /* what it has on stdin; it says it once */
	uint64_t uploaded_bytes;         /* of it said so far */
	unsigned uploads_asked, uploads_cancelled;
	bool upload_pauses;              /* says no more than one message until it is false again, see rig_upload_go_on() */
	rig_give_fn *give;               /* NULL: it is no edge */
	void *giver;
	bool closed;
	enum grpc_status status;
	char message[256];
};

/* A daemon: one outer connection from the gateway, at which sessions arrive. */
struct rig_daemon {
	struct rig *rig;
	struct rig_wire wire;
	struct nest nest;
	bool session_open, closed;
	char id[64], shared_key[64];
};

/* A DiffCopy call of a daemon: as fsutil's receiver, it asks for what `wants` says and checks every byte. */
struct rig_copy {
	struct rig *rig;
	struct call call;
	const struct rig_tree *expected;
	bool (*wants)(const struct rig_file *file);      /* NULL: each regular one */
	bool lazy;                       /* takes nothing until it is false again, see rig_copy_go_on() */
	uint32_t stats;
	bool stats_ended, fin_sent, fin_received, closed;
	enum grpc_status status;
	char message[256];
	struct { uint64_t received; bool asked, ended; } *files;
	uint32_t asked, ended;
	bool late_requests;              /* asks only when all STATs have come */
	bool sleeps_then;                /* and becomes lazy */
	bool stays;                      /* sends no FIN */
	bool careless;                   /* does not look at content */
	const char *directory;           /* dir-name; NULL: "context" */
	const char *followed;            /* followpaths, one; NULL: none */
	uint64_t received;               /* of content */
	uint64_t *bytes_before;          /* out, of each STAT: what had come of content; NULL: not wanted */
	int64_t *mtimes;                 /* out, before `wants` is asked: what the STATs say; NULL: the expected ones */
};

/* A daemon's Upload/Pull: it checks every byte. */
struct rig_pull {
	struct rig *rig;
	struct call call;
	uint64_t received;
	bool lazy;                       /* takes nothing until rig_pull_go_on() */
	bool closed;
	enum grpc_status status;
	char message[256];
};

struct rig {
	struct fixture fixture;
	struct cas cas;
	struct sha256 hasher;
	struct stat_memory *memory;
	struct diffcopy_service service;
	struct spool_room spools;
	struct play_service play;
	/* The daemon's calls of which the owner of the session takes some himself; as session_events.on_call. NULL: none. */
	int (*on_call)(struct rig *rig, struct session *session, struct stream *stream, const struct grpc_request *head);
	rig_give_fn *give;               /* of the clients that start from now on */
	void *giver;
	uint64_t probe_interval_ns, probe_timeout_ns;    /* of their sessions; 0: the defaults */
	bool stable;                     /* they would have stable keys */
	bool other;                      /* they are another tenant's */
	struct siblings *siblings;       /* their sessions are of one connection; NULL: each of its own */
	struct rig_client clients[RIG_SESSIONS_MAX];
	struct rig_daemon daemons[RIG_SESSIONS_MAX];
	unsigned clients_count, daemons_count;
	unsigned executor_closed;        /* times on_executor_closed came */
	bool finish_on_loss;             /* and then the session is finished */
};

void rig_init(struct rig *rig);
/* Checks that nothing is left open. */
void rig_fini(struct rig *rig);
/* The store's content is gone, the memory of stats stays. */
void rig_lose_store(struct rig *rig);
/* The memory is saved and loaded anew. */
void rig_reopen_memory(struct rig *rig);

/* The stable keys are closed and opened anew; with what was made of their folder in between. */
void rig_reopen_stable(struct rig *rig, const char *command);

/* `files` files in directories, of sizes around every bound of naming and packing, `seed` for all. */
void rig_tree_make(struct rig_tree *tree, uint32_t files, uint32_t seed);
/* A file becomes a further name of one before it: a hard link. */
void rig_tree_link(struct rig_tree *tree, uint32_t further, uint32_t first);

/* A sender that is over; returns the next. */
struct rig_sender *rig_sender_free(struct rig_sender *sender);
/* The bytes of a file. With RIG_EDITED a byte in the first hundred is another one. */
#define RIG_EDITED (1u << 31)
void rig_content(uint32_t seed, uint64_t offset, uint8_t *out, size_t size);

struct rig_client *rig_client_start(struct rig *rig, struct rig_tree *tree, const char *shared_key);
void rig_client_end(struct rig_client *client);          /* half-closes, and waits for the end */
void rig_client_vanish(struct rig_client *client);
struct rig_daemon *rig_daemon_start(struct rig *rig);
void rig_daemon_vanish(struct rig_daemon *daemon);
/* Carries the client's session to the daemon, and waits until it is there. */
void rig_carry(struct rig_client *client, struct rig_daemon *daemon);
void rig_copy_start(struct rig_copy *copy, struct rig_daemon *daemon, const struct rig_tree *expected);
void rig_copy_go_on(struct rig_copy *copy);
void rig_copy_fini(struct rig_copy *copy);
/* A packet of the test's own. */
void rig_copy_send(struct rig_copy *copy, struct span packet);
/* Asks for the client's stream of that name. `pull` is zero but for `lazy`. */
void rig_pull_start(struct rig_pull *pull, struct rig_daemon *daemon, const char *path);
void rig_pull_go_on(struct rig_pull *pull);
void rig_pull_fini(struct rig_pull *pull);
void rig_upload_go_on(struct rig_client *client);

/* Runs everything until `*done`; fails after 60 s. */
void rig_until(struct rig *rig, const bool *done);
/* One turn of everything. Fails the test 60 s after the first with this `since` (0 then). */
void rig_turn(struct rig *rig, uint64_t *since);
/* Runs everything until it holds. */
#define rig_wait(rig, condition)                                                                                       \
	do {                                                                                                           \
		uint64_t since_ = 0;                                                                                   \
		while (!(condition))                                                                                   \
			rig_turn(rig, &since_);                                                                        \
	} while (0)
