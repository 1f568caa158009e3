/* SERVING, said for a client; and the question, asked of it. */
#include "gateway/session/session_health.h"

#include <errno.h>
#include <stdlib.h>
#include "gateway/base/err.h"

/* HealthCheckResponse{status: SERVING} */
static const uint8_t serving[] = { 0x08, 0x01 };

static void ignore_message(struct call *call, struct span message)
{
}

/* ---- answering ---- */

struct answer {
	struct call call;
	unsigned *open;
};

static void answer_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct answer *answer = container_of(call, struct answer, call);

	(*answer->open)--;
	call_fini(call);
	free(answer);
}

static const struct call_events answer_events = { .on_message = ignore_message, .on_closed = answer_on_closed };

int health_answer(struct stream *stream, const struct grpc_request *head, unsigned *open)
{
	struct answer *answer;

	if (*open >= HEALTH_ANSWERS_MAX)
		return -EAGAIN;
	answer = calloc(1, sizeof(*answer));
	if (!answer)
		return ERR_RAISE(-ENOMEM);
	answer->open = open;
	(*open)++;
	call_accept(&answer->call, stream, head, HEALTH_MESSAGE_BYTES_MAX, &answer_events, answer);
	/* What is asked makes no difference, and it may be long in coming: its bytes need a window that other calls fill. */
	call_send(&answer->call, span_make(serving, sizeof(serving)), 0);
	call_finish(&answer->call, GRPC_OK, NULL);
	return 0;
}

/* ---- asking ---- */

static void probe_join(struct health_probe *probe)
{
	void (*on_stopped)(struct health_probe *probe) = probe->on_stopped;

	if (!on_stopped || probe->asking || op_in_flight(&probe->timer))
		return;
	probe->on_stopped = NULL;
	on_stopped(probe);
}

/* Also UNIMPLEMENTED is a sign of life; only a client whose session has ended gives none. */
static void probe_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct health_probe *probe = container_of(call, struct health_probe, call);

	probe->asking = false;
	if (!probe->overdue)
		probe->misses = 0;
	call_fini(call);
	probe_join(probe);
}

static const struct call_events probe_events = { .on_message = ignore_message, .on_closed = probe_on_closed };

static void probe_ask(struct health_probe *probe)
{
	static const struct span empty = { (const uint8_t *)"", 0 };

	probe->overdue = false;
	if (call_start(&probe->call, probe->h2, HEALTH_CHECK_PATH, span_text("localhost"), 0, NULL, 0, HEALTH_MESSAGE_BYTES_MAX,
	               &probe_events, probe) < 0)
		return;                          /* its streams are all taken: it is alive; or it has ended, which others see */
	probe->asking = true;
	call_send(&probe->call, empty, 0);
	call_end(&probe->call);
}

/* The time for an answer begins. */
static void probe_wait(struct health_probe *probe)
{
	probe->timed = probe->asking;
	probe->received_bytes = h2_received_bytes(probe->h2);
}

static void probe_miss(struct health_probe *probe)
{
	bool cancelled = probe->overdue;

	probe->overdue = true;
	probe->misses++;
	if (!cancelled)
		call_cancel(&probe->call);
	if (probe->misses == HEALTH_PROBE_MISSES_MAX)
		probe->on_silent(probe);
}

static void probe_on_timer(struct op *op, int32_t res)
{
	struct health_probe *probe = container_of(op, struct health_probe, timer);

	if (probe->on_stopped) {
		probe_join(probe);
		return;
	}
	if (probe->timed && probe->asking) {
		probe->timed = false;
		if (h2_received_bytes(probe->h2) == probe->received_bytes)
			probe_miss(probe);
		else
			probe->misses = 0;       /* the question stays asked, and has its time anew */
	} else {
		/* While nothing can be sent, the last question does not end, nor can one be asked: its time is over all the same. */
		if (!probe->asking)
			probe_ask(probe);
		probe_wait(probe);
	}
	if (!probe->on_stopped)
		ring_timer(probe->ring, op, probe->timed ? probe->timeout_ns : probe->interval_ns);
}

void health_probe_start(struct health_probe *probe, struct h2 *h2)
{
	probe->h2 = h2;
	if (!probe->interval_ns)
		probe->interval_ns = HEALTH_PROBE_INTERVAL_NS;
	if (!probe->timeout_ns)
		probe->timeout_ns = HEALTH_PROBE_TIMEOUT_NS;
	probe->timer.fn = probe_on_timer;
	ring_timer(probe->ring, &probe->timer, probe->interval_ns);
}

void health_probe_stop(struct health_probe *probe, void (*on_stopped)(struct health_probe *probe))
{
	probe->on_stopped = on_stopped;
	if (op_in_flight(&probe->timer))
		ring_cancel(probe->ring, &probe->timer);
	if (probe->asking)
		call_cancel(&probe->call);
	probe_join(probe);
}
