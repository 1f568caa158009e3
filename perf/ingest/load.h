/* load: what the parts of the client of perf/ingest share. See load.c. */
#pragma once

#include "chunker/sha256.h"
#include "gateway/net/conn.h"
#include "proto/buffer.h"
#include "proto/call.h"
#include "proto/digest.h"

#define CONNECTIONS_MAX 16
#define STREAMS_MAX     16

struct body {
	struct buffer message;           /* as its way sends it, or asks for it */
	struct buffer digests;           /* digest list of its blobs */
	struct digest digest;            /* of the message: stream-put, stream-get */
	size_t data_bytes, blobs;
};

/* What is done, once the bodies are there. */
struct way {
	const char *name;
	size_t body_bytes;               /* of blobs in a body, at most */
	void (*encode)(struct body *body, const struct sha256_job *jobs, size_t count);
	void (*start)(void);             /* NULL: step() does */
	bool (*step)(void);              /* between turns of the ring; true: all is done */
};

struct link_end {                        /* one connection */
	struct conn *conn;
	bool ready;
	struct call call;
	unsigned in_flight;
	struct exchange {
		struct link_end *end;
		struct stream *stream;
		struct call call;        /* of REAPI's */
		bool busy;
		struct body *body;
		size_t sent, received;
		bool ended;
	} exchanges[STREAMS_MAX];
};

extern struct load {
	const struct way *way;
	struct ring *ring;
	struct body *bodies;
	size_t bodies_count, next, done;
	struct link_end ends[CONNECTIONS_MAX];
	unsigned connections, streams, ends_closed;
	uint64_t stamp, data_bytes, data_bytes_max, bytes_received;
} load;

static inline struct digest job_digest(const struct sha256_job *job)
{
	struct digest digest = { .size = job->size };

	memcpy(digest.hash, job->digest, sizeof(digest.hash));
	return digest;
}

/* Fills in load.bodies from the files below `tree`. */
void make_bodies(const char *tree);
/* The next one that nobody has taken; NULL: none is left. */
struct body *next_body(void);

extern const struct way batch_put, batch_get, stream_put, stream_get, small_put;
