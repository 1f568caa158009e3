/* workers: one queue, one mutex; the longest wait in it is for a queue operation. */
#include "gateway/ring/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include "gateway/base/check.h"
#include "gateway/base/err.h"
#include "gateway/ring/ring.h"

enum {
	THREADS_MAX = 64,
	OVERTAKES_MAX = 16,              /* of a slow one that might run */
	QUEUED = 1,                      /* op->done while it is in the queue: its link may be in other lists later */
};

struct workers {
	pthread_mutex_t mutex;
	pthread_cond_t work;
	struct list queue, slow;
	uint32_t queued, idle, threads, threads_max; /* queued: in both */
	uint32_t slow_running, slow_max;
	uint32_t overtakes;              /* since the last slow one was taken */
	bool ending;
	workers_done_fn *done;
	void *context;
	pthread_t thread[THREADS_MAX];
};

/* NULL: there is none that may run now. */
static struct op *take_op(struct workers *workers)
{
	bool may_be_slow = !list_empty(&workers->slow) && workers->slow_running < workers->slow_max;
	struct op *op;

	if (may_be_slow && (list_empty(&workers->queue) || workers->overtakes == OVERTAKES_MAX)) {
		op = container_of(list_take(&workers->slow), struct op, link);
		workers->slow_running++;
		workers->overtakes = 0;
	} else if (!list_empty(&workers->queue)) {
		op = container_of(list_take(&workers->queue), struct op, link);
		workers->overtakes += may_be_slow;
	} else {
		return NULL;
	}
	workers->queued--;
	op->done = 0;
	return op;
}

/* NULL: the pool ends. Called and returns with the mutex held. */
static struct op *next_op(struct workers *workers)
{
	struct op *op;

	while (!(op = take_op(workers)) && !workers->ending) {
		workers->idle++;
		pthread_cond_wait(&workers->work, &workers->mutex);
		workers->idle--;
	}
	return op;
}

static void *worker_main(void *argument)
{
	struct workers *workers = argument;
	struct op *op;

	pthread_mutex_lock(&workers->mutex);
	while ((op = next_op(workers))) {
		bool slow = op->slow;

		pthread_mutex_unlock(&workers->mutex);
		op->res = op->work(op);
		workers->done(workers->context, op);
		pthread_mutex_lock(&workers->mutex);
		workers->slow_running -= slow;
	}
	pthread_mutex_unlock(&workers->mutex);
	return NULL;
}

/* Signals are the main thread's business. */
static int start_thread(struct workers *workers)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&workers->thread[workers->threads], NULL, worker_main, workers);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return ERR_RAISE(-r);
	workers->threads++;
	return 0;
}

int workers_create(struct workers **out, uint32_t threads_max, workers_done_fn *done, void *context)
{
	struct workers *workers = calloc(1, sizeof(*workers));

	if (!workers)
		return ERR_RAISE(-ENOMEM);
	CHECK(threads_max > 0);
	pthread_mutex_init(&workers->mutex, NULL);
	pthread_cond_init(&workers->work, NULL);
	list_init(&workers->queue);
	list_init(&workers->slow);
	workers->threads_max = threads_max < THREADS_MAX ? threads_max : THREADS_MAX;
	workers->slow_max = workers->threads_max > 1 ? workers->threads_max - 1 : 1;
	workers->done = done;
	workers->context = context;
	*out = workers;
	return 0;
}

void workers_destroy(struct workers *workers)
{
	if (!workers)
		return;
	CHECK(list_empty(&workers->queue));
	CHECK(list_empty(&workers->slow));
	pthread_mutex_lock(&workers->mutex);
	workers->ending = true;
	pthread_cond_broadcast(&workers->work);
	pthread_mutex_unlock(&workers->mutex);
	for (uint32_t i = 0; i < workers->threads; i++)
		pthread_join(workers->thread[i], NULL);
	pthread_cond_destroy(&workers->work);
	pthread_mutex_destroy(&workers->mutex);
	free(workers);
}

int workers_give(struct workers *workers, struct op *op)
{
	int r = 0;

	pthread_mutex_lock(&workers->mutex);
	if (workers->queued >= workers->idle && workers->threads < workers->threads_max)
		r = start_thread(workers);
	if (r == 0 || workers->threads > 0) {
		op->done = QUEUED;
		list_append(op->slow ? &workers->slow : &workers->queue, &op->link);
		workers->queued++;
		pthread_cond_signal(&workers->work);
		r = 0;
	}
	pthread_mutex_unlock(&workers->mutex);
	return r ? -EAGAIN : 0;
}

bool workers_take_back(struct workers *workers, struct op *op)
{
	bool queued;

	pthread_mutex_lock(&workers->mutex);
	queued = op->done == QUEUED;
	if (queued) {
		list_remove(&op->link);
		op->done = 0;
		workers->queued--;
	}
	pthread_mutex_unlock(&workers->mutex);
	return queued;
}
