/*
 * reapi: the storage half of the Remote Execution API v2 on the gateway's port: Capabilities, ContentAddressableStorage,
 * ByteStream, ActionCache. One of these a gateway, on its reactor. Blobs are those of gateway/cas; one that is longer than
 * a record is cut, and kept as a pair (gateway/cas/pair.h). The instance name of a request is a sub-scope of its tenant.
 */
#pragma once

#include "gateway/pool/execute.h"
#include "gateway/reapi/budget.h"
#include "gateway/reapi/verifier.h"
#include "gateway/tenant/quota.h"

#define REAPI_CALLS_MAX        16384     /* at a time, waiting or not; more are refused, to be tried again */
#define REAPI_TENANT_CALLS_MAX (REAPI_CALLS_MAX / 4 * 3) /* of one tenant */
#define REAPI_BATCH_BYTES      (4u << 20)        /* of blobs in a BatchUpdateBlobs or BatchReadBlobs */
#define REAPI_BATCH_BLOBS_MAX  (32u << 10)       /* in either: an answer has a text for each */
#define REAPI_BATCH_ADVERTISED (REAPI_BATCH_BYTES - (256u << 10))  /* leaves room for digests in a message of 4 MiB */
#define REAPI_MESSAGE_BYTES_MAX (5u << 20)
#define REAPI_BATCH_MESSAGE_BYTES_MAX (8u << 20) /* a BatchUpdateBlobs: clients count blobs' bytes alone, and each has a digest of 80 */
#define REAPI_BLOB_BYTES_MAX   (64ull << 30)     /* what recipes of this profile can list is more */
#define REAPI_UPLOAD_BYTES     (256u << 20)      /* of memory for blobs that come in */
#define REAPI_DOWNLOAD_BYTES   (128u << 20)      /* and for those that go out */
#define REAPI_WAITING_BYTES    (64u << 20)       /* of messages that wait, for that memory or for the disk */
#define REAPI_EXPANDERS_BYTES  (512u << 20)      /* of decompressors; streaming clients' take 2 MiB, mostly untouched, up to 8 */
#define REAPI_BATCHES_BYTES    (256u << 20)      /* of BatchUpdateBlobs calls that are in memory, most in line */
#define REAPI_WRITE_IDLE_NS    60000000000u      /* a write in which nothing comes ends, as does a call whose request does not come */
#define REAPI_CROWDED_NS       10000000000u     /* the same while others are refused for lack of memory */
#define REAPI_READ_IDLE_NS     120000000000u     /* as does a read of which nothing is taken */
#define REAPI_ORPHAN_NS        600000000000u     /* how long a broken write can be gone on with */
#define REAPI_ORPHANS_MAX      64
#define REAPI_RESULT_BYTES_MAX (1u << 20)        /* an ActionResult */
#define REAPI_KEYS_MAX         64                /* results of which it is asked at a time what their action would meet here */
#define REAPI_KEY_WAIT_NS      5000000000u       /* and how long the executor host is waited for; the wait in line counts */

struct reapi_counters {
	uint64_t blobs_asked, blobs_missing, uploads, uploads_known, uploads_refused, uploads_expired, uploads_resumed,
	         bytes_received, downloads, bytes_sent, results_hit, results_missed, results_stored, splits, splices, web_requests, web_refused;
};

struct reapi {
	struct cas *cas;
	struct pool *pool;
	struct execute_service *execute; /* whose actions' output can be read; NULL: of none */
	/* What follows is reapi_init()'s. */
	struct reapi_counters counters;
	unsigned open;                   /* calls, and what goes on after them */
	struct budget uploads, downloads, expanders;
	struct verifier verifier;        /* of uploads that are not cut */
	uint64_t waiting_bytes, batches_bytes;
	struct list writes;              /* ByteStream writes, in the order in which they began */
	struct list batches;             /* BatchUpdateBlobs that come */
	struct quota callers;            /* callers.h */
	struct list askings;             /* calls whose request is to come (asking.h) */
	struct list sendings;            /* what is being sent (sending.h) */
	struct list web;                 /* requests of HTTP clients (web.h) */
	struct list orphans;             /* uploads without a call, the one that was left longest ago first */
	size_t orphans_count;
	struct gate keys;
	uint64_t key_wait_ns;
	uint64_t crowded_ns;             /* when a call was last refused, or a write for lack of memory */
	struct op sweep;                 /* the timer that looks for idle ones; in flight while there are any */
	bool closing;
};

/* The first three fields are the caller's to fill in, before. */
void reapi_init(struct reapi *reapi);
/* No call comes any more: what waits for a client that may return is given up, so that it becomes idle. */
void reapi_close(struct reapi *reapi);
/* Something may idle from now on: it is looked at again and again until there is nothing left. */
void reapi_watch(struct reapi *reapi);
bool reapi_idle(const struct reapi *reapi);

/* struct server_method.start of each path of proto/reapi_cas.h; `context` is the struct reapi. */
int reapi_start(void *context, const struct server_request *request, char *why, size_t why_size);
