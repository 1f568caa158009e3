/* One mutex, held for a few instructions a directory. */
#include "gateway/context/scan_crew.h"

#include "gateway/base/check.h"
#include "gateway/context/scan.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct helper {
	struct scan_crew *crew;
	unsigned number;
	pthread_t thread;
};

struct scan_crew {
	struct scan_crew_options options;
	pthread_mutex_t mutex;
	pthread_cond_t changed;                  /* something was offered, or all is over */
	struct scan_job offered[SCAN_OFFERED_MAX];
	unsigned offered_count;
	unsigned threads_max;                    /* as many as could be started */
	unsigned started, idle;                  /* threads, the caller's included */
	bool over;
	int failure;
	atomic_bool failed;                      /* failure, for those without the mutex */
	struct helper helpers[SCAN_THREADS_MAX];

	pthread_mutex_t progress_mutex;
	uint64_t entries, files_read, bytes_read;
	uint64_t progress_entries, progress_bytes; /* when to report next */
};

struct scan_crew *scan_crew_create(const struct scan_crew_options *options)
{
	struct scan_crew *crew = calloc(1, sizeof(*crew));

	CHECK(options->threads > 0 && options->threads <= SCAN_THREADS_MAX);
	if (!crew)
		return NULL;
	crew->options = *options;
	crew->threads_max = options->threads;
	pthread_mutex_init(&crew->mutex, NULL);
	pthread_mutex_init(&crew->progress_mutex, NULL);
	pthread_cond_init(&crew->changed, NULL);
	return crew;
}

void scan_crew_destroy(struct scan_crew *crew)
{
	if (!crew)
		return;
	pthread_cond_destroy(&crew->changed);
	pthread_mutex_destroy(&crew->progress_mutex);
	pthread_mutex_destroy(&crew->mutex);
	free(crew);
}

void scan_job_fini(struct scan_job *job)
{
	if (job->fd >= 0)
		close(job->fd);
	free(job->path);
	*job = (struct scan_job){ .fd = -1 };
}

static void *helper_main(void *argument)
{
	struct helper *helper = argument;

	helper->crew->options.walk(helper->crew->options.context, helper->number);
	return NULL;
}

/* With the mutex held. Without another thread the scan takes longer, that is all. Signals are the first thread's. */
static void start_helper(struct scan_crew *crew)
{
	struct helper *helper = &crew->helpers[crew->started];
	sigset_t all, before;

	*helper = (struct helper){ .crew = crew, .number = crew->started };
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&helper->thread, NULL, helper_main, helper) == 0)
		crew->started++;
	else
		crew->threads_max = crew->started;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool scan_crew_offer(struct scan_crew *crew, const struct scan_job *job)
{
	struct scan_job offered = *job;
	bool taken;

	if (crew->options.threads == 1)
		return false;
	offered.path = malloc(job->path_size + 1);
	if (!offered.path)
		return false;
	memcpy(offered.path, job->path, job->path_size);
	pthread_mutex_lock(&crew->mutex);
	taken = !crew->over && crew->offered_count < SCAN_OFFERED_MAX;
	if (taken) {
		crew->offered[crew->offered_count++] = offered;
		if (crew->idle == 0 && crew->started < crew->threads_max)
			start_helper(crew);
		else if (crew->idle > 0)
			pthread_cond_signal(&crew->changed);
	}
	pthread_mutex_unlock(&crew->mutex);
	if (!taken)
		free(offered.path);
	return taken;
}

/* With the mutex held: nobody walks who could still offer something. */
static void end(struct scan_crew *crew)
{
	crew->over = true;
	pthread_cond_broadcast(&crew->changed);
}

bool scan_crew_take(struct scan_crew *crew, struct scan_job *job)
{
	bool taken = false;

	pthread_mutex_lock(&crew->mutex);
	crew->idle++;
	while (!crew->over && crew->offered_count == 0) {
		if (crew->idle == crew->started)
			end(crew);
		else
			pthread_cond_wait(&crew->changed, &crew->mutex);
	}
	if (!crew->over) {
		crew->idle--;
		*job = crew->offered[--crew->offered_count];
		taken = true;
	}
	pthread_mutex_unlock(&crew->mutex);
	return taken;
}

void scan_crew_fail(struct scan_crew *crew, int r, const char *why)
{
	CHECK(r < 0);
	pthread_mutex_lock(&crew->mutex);
	if (!crew->failure) {
		crew->failure = r;
		if (crew->options.why.size)
			snprintf(crew->options.why.text, crew->options.why.size, "%s", why);
		atomic_store_explicit(&crew->failed, true, memory_order_relaxed);
		end(crew);
	}
	pthread_mutex_unlock(&crew->mutex);
}

bool scan_crew_failed(const struct scan_crew *crew)
{
	return atomic_load_explicit(&crew->failed, memory_order_relaxed);
}

static void report(struct scan_crew *crew)
{
	crew->progress_entries = crew->entries + SCAN_PROGRESS_ENTRIES;
	crew->progress_bytes = crew->bytes_read + SCAN_PROGRESS_BYTES;
	crew->options.progress(crew->options.progress_context, crew->entries, crew->files_read, crew->bytes_read);
}

void scan_crew_count(struct scan_crew *crew, uint64_t entries, uint64_t files_read, uint64_t bytes_read)
{
	if (!crew->options.progress)
		return;
	pthread_mutex_lock(&crew->progress_mutex);
	crew->entries += entries;
	crew->files_read += files_read;
	crew->bytes_read += bytes_read;
	if (crew->entries >= crew->progress_entries || crew->bytes_read >= crew->progress_bytes)
		report(crew);
	pthread_mutex_unlock(&crew->progress_mutex);
}

int scan_crew_run(struct scan_crew *crew, const struct scan_job *root)
{
	crew->offered[crew->offered_count++] = *root;
	crew->started = 1;
	crew->options.walk(crew->options.context, 0);
	for (unsigned i = 1; i < crew->started; i++)
		pthread_join(crew->helpers[i].thread, NULL);
	while (crew->offered_count)
		scan_job_fini(&crew->offered[--crew->offered_count]);
	if (!crew->failure && crew->options.progress)
		report(crew);
	return crew->failure;
}
