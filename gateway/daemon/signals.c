/* A thread that waits for signals and posts them. */
#include "gateway/daemon/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "gateway/base/err.h"

struct signals {
	struct ring *ring;
	void (*fn)(void *context, int signal);
	void *context;
	pthread_t thread;
	struct post post;
	atomic_uint pending;             /* bit a signal, set by the thread, taken by the post */
	atomic_bool posted, ending;
};

static void signals_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGCHLD);
	sigaddset(set, SIGUSR1);         /* ours: wakes the thread to end */
}

void signals_block(void)
{
	sigset_t set;

	signals_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void signals_on_post(struct post *post)
{
	struct signals *signals = container_of(post, struct signals, post);
	unsigned pending;

	atomic_store(&signals->posted, false);
	pending = atomic_exchange(&signals->pending, 0);
	for (int number = 1; number < 32 && !atomic_load(&signals->ending); number++)
		if (pending >> number & 1)
			signals->fn(signals->context, number);
}

static void *signals_wait(void *context)
{
	struct signals *signals = context;
	sigset_t set;
	int number;

	signals_set(&set);
	while (sigwait(&set, &number) == 0 && !atomic_load(&signals->ending)) {
		if (number == SIGUSR1)
			continue;
		atomic_fetch_or(&signals->pending, 1u << number);
		if (!atomic_exchange(&signals->posted, true))
			ring_post(signals->ring, &signals->post);
	}
	return NULL;
}

int signals_create(struct signals **signals, struct ring *ring, void (*fn)(void *context, int signal), void *context)
{
	struct signals *made = calloc(1, sizeof(*made));
	int r;

	if (!made)
		return ERR_RAISE(-ENOMEM);
	*made = (struct signals){ .ring = ring, .fn = fn, .context = context, .post.fn = signals_on_post };
	r = pthread_create(&made->thread, NULL, signals_wait, made);
	if (r) {
		free(made);
		return ERR_RAISE(-r);
	}
	*signals = made;
	return 0;
}

void signals_destroy(struct signals *signals)
{
	if (!signals)
		return;
	atomic_store(&signals->ending, true);
	pthread_kill(signals->thread, SIGUSR1);
	pthread_join(signals->thread, NULL);
	while (atomic_load(&signals->posted))    /* the ring still has our post */
		ring_run(signals->ring, UINT64_MAX);
	free(signals);
}
