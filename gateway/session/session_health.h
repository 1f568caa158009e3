/*
 * session_health: grpc.health.v1.Health/Check, both ways, on a nested session. The daemon asks every 5 s whether the client is
 * there and is answered here, so that a slow link fails no build; we ask the client ourselves, on a clock that allows for its link.
 * On the ring's thread. Source: moby/buildkit session/grpc.go (monitorHealth), grpc-proto health.proto.
 */
#pragma once

#include "gateway/ring/ring.h"
#include "proto/call.h"

#define HEALTH_CHECK_PATH        "/grpc.health.v1.Health/Check"
#define HEALTH_MESSAGE_BYTES_MAX 4096
#define HEALTH_ANSWERS_MAX       64              /* that wait for their end, a session */

/*
 * Takes the stream over inside on_stream and says SERVING, at once: header fields come also where nothing else gets through, since
 * no window holds them up. 0, -ENOMEM, or -EAGAIN: too many are open.
 */
int health_answer(struct stream *stream, const struct grpc_request *head, unsigned *open);

/*
 * A probe asks in turn; each answer, whatever it says, is a sign of life, and so is whatever else comes meanwhile: over a slow link an
 * answer may be long in coming behind what a build reads. `on_silent` comes once, when PROBE_MISSES_MAX in a row had none within the
 * time. One that cannot go out, behind a carrier that nobody reads, has none.
 */
#define HEALTH_PROBE_INTERVAL_NS 10000000000u
#define HEALTH_PROBE_TIMEOUT_NS  20000000000u
#define HEALTH_PROBE_MISSES_MAX  2

struct health_probe {
	/* The owner's, before the start. */
	struct ring *ring;
	void (*on_silent)(struct health_probe *probe);
	uint64_t interval_ns, timeout_ns;        /* 0: those above */
	/* The probe's. */
	struct h2 *h2;
	struct op timer;
	struct call call;
	bool asking;                             /* the call has not ended */
	bool overdue;                            /* it was cancelled */
	bool timed;                              /* the timer is for an answer, not for the next question */
	uint64_t received_bytes;         /* what had come of the peer when that began */
	unsigned misses;
	void (*on_stopped)(struct health_probe *probe);
};

/* `h2` is a client engine, and lives until the probe has stopped or its carrier has ended. */
void health_probe_start(struct health_probe *probe, struct h2 *h2);
/* Asks no more; `on_stopped` comes once nothing is in flight, perhaps inline. */
void health_probe_stop(struct health_probe *probe, void (*on_stopped)(struct health_probe *probe));
