/* A process, its pipes and its time. */
#include "gateway/executor/watch.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/client/client.h"

struct watching {
	struct watch *watch;
	uint64_t deadline_ns;            /* of its time, then of the pipes' rest */
	bool killed, ended, timed_out;
};

static void watch_close(struct watch *watch, uint32_t i)
{
	if (watch->pipes[i] >= 0)
		close(watch->pipes[i]);
	watch->pipes[i] = -1;
}

/* Hands on what a pipe holds; closes it at its end. */
static void watch_forward(struct watch *watch, uint32_t i)
{
	static uint8_t data[WATCH_OUTPUT_BYTES];
	ssize_t size = read(watch->pipes[i], data, sizeof(data));

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size > 0)
		watch->output(watch->context, i + 1, span_make(data, (size_t)size));
	else
		watch_close(watch, i);
}

static void watching_kill(struct watching *watching)
{
	watching->killed = true;
	watching->deadline_ns = UINT64_MAX;
	watching->watch->kill(watching->watch->context);
}

static void watching_look(struct watching *watching)
{
	struct watch *watch = watching->watch;
	bool cancelled = watch->cancelled(watch->context), late = clock_now_ns() >= watching->deadline_ns;

	if (watching->ended) {
		for (uint32_t i = 0; late && i < 2; i++)
			watch_close(watch, i);           /* somebody else holds it: not any of its processes, they are gone */
	} else if (!watching->killed && (cancelled || late)) {
		watching->timed_out = !cancelled;
		watching_kill(watching);
	}
}

static void watching_turn(struct watching *watching)
{
	struct watch *watch = watching->watch;
	const int fds[3] = { watch->pipes[0], watch->pipes[1], watching->ended ? -1 : watch->end_fd };
	uint64_t now = clock_now_ns(), deadline = watching->deadline_ns;
	bool ready[3] = { false };

	client_wait(watch->client, fds, 3, ready, deadline == UINT64_MAX ? deadline : now < deadline ? deadline - now : 0);
	watching_look(watching);
	for (uint32_t i = 0; i < 2; i++)
		if (ready[i] && watch->pipes[i] >= 0)
			watch_forward(watch, i);
	if (ready[2]) {
		watching->ended = true;
		watching->deadline_ns = clock_now_ns() + WATCH_DRAIN_NS;
	}
}

bool watch_run(struct watch *watch)
{
	struct watching watching = {
		.watch = watch, .deadline_ns = watch->timeout_ns ? clock_now_ns() + watch->timeout_ns : UINT64_MAX,
	};

	while (!watching.ended || watch->pipes[0] >= 0 || watch->pipes[1] >= 0)
		watching_turn(&watching);
	return watching.timed_out;
}
