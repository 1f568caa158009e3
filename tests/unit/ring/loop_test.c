/*
 * The loop itself: timers in order of their deadlines and cancelled ones, turns that do not wait longer than asked,
 * posts from other threads and from handlers, work on other threads, and its cancel before it began.
 */
#include "tests/unit/ring/tests.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/time.h>
#include "tests/unit/ring/fixture.h"

static void test_turn_timeouts(void **state)
{
	struct fixture *fixture = *state;
	uint64_t start_ns = ring_now_ns(fixture->ring), wall_s = ring_wall_ns(fixture->ring) / 1000000000;
	uint8_t random[2][64] = { 0 };
	struct timespec wall;

	assert_int_equal(ring_run(fixture->ring, 0), 0);
	assert_int_equal(ring_run(fixture->ring, 5000000), 0);
	assert_true(ring_now_ns(fixture->ring) - start_ns >= 5000000);
	clock_gettime(CLOCK_REALTIME, &wall);    /* time() may be a tick behind, and in the second before */
	assert_true((uint64_t)wall.tv_sec - wall_s <= 10);
	ring_random(fixture->ring, random[0], sizeof(random[0]));
	ring_random(fixture->ring, random[1], sizeof(random[1]));
	assert_memory_not_equal(random[0], random[1], sizeof(random[0]));
}

struct timer {
	struct call call;
	uint64_t deadline_ns;
};

static uint64_t last_deadline_ns;
static unsigned timers_fired;

static void timer_on_timeout(struct op *op, int32_t res)
{
	struct timer *timer = container_of(op, struct timer, call.op);

	if (res == 0) {
		assert_true(op->deadline_ns >= last_deadline_ns);
		last_deadline_ns = op->deadline_ns;
		timers_fired++;
	}
	call_on_completion(&timer->call.op, res);
}

/* Random deadlines within 20 ms, a third cancelled at random: the rest fire once, in order and not early. */
static void test_timer_order(void **state)
{
	enum { COUNT = 1000 };
	struct fixture *fixture = *state;
	struct timer *timers = calloc(COUNT, sizeof(*timers));
	unsigned kept = 0;
	uint64_t random = 42;

	last_deadline_ns = timers_fired = 0;
	for (int i = 0; i < COUNT; i++) {
		random = random * 6364136223846793005 + 1442695040888963407;
		timers[i].call.op.fn = timer_on_timeout;
		timers[i].deadline_ns = ring_now_ns(fixture->ring) + (random >> 33) % 20000000;
		ring_timer(fixture->ring, &timers[i].call.op, (random >> 33) % 20000000);
	}
	for (int i = 0; i < COUNT; i++) {
		random = random * 6364136223846793005 + 1442695040888963407;
		if ((random >> 33) % 3 == 0)
			ring_cancel(fixture->ring, &timers[i].call.op);
	}
	for (int i = 0; i < COUNT; i++) {
		int32_t res = call_wait(fixture->ring, &timers[i].call);

		assert_int_equal(timers[i].call.completions, 1);
		assert_int_equal(res, timers[i].call.op.cancelled ? -ECANCELED : 0);
		if (res == 0)
			assert_true(ring_now_ns(fixture->ring) >= timers[i].deadline_ns);
		kept += res == 0;
	}
	assert_int_equal(timers_fired, kept);
	assert_true(kept > COUNT / 2 && kept < COUNT);
	free(timers);
}

static void test_timer_far_away(void **state)
{
	struct fixture *fixture = *state;
	struct call far, near;

	ring_timer(fixture->ring, &call_init(&far)->op, UINT64_MAX);
	ring_timer(fixture->ring, &call_init(&near)->op, 1000000);
	assert_false(near.done);
	assert_int_equal(ring_run(fixture->ring, UINT64_MAX), 1);
	assert_true(near.done && near.res == 0);
	ring_cancel(fixture->ring, &far.op);
	assert_int_equal(call_wait(fixture->ring, &far), -ECANCELED);
}

static void on_alarm(int number)
{
}

/* A signal ends a wait that has no other end; the main loop looks at its flag then. */
static void test_signal_ends_wait(void **state)
{
	struct fixture *fixture = *state;
	struct sigaction action = { .sa_handler = on_alarm }, before;
	struct itimerval soon = { .it_value.tv_usec = 20000, .it_interval.tv_usec = 20000 }, off = { 0 };

	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(ring_run(fixture->ring, UINT64_MAX), 0);
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &before, NULL);
}

enum { SENDERS = 4, POSTS = 2000 };

struct message {
	struct post post;
	unsigned sender, number;
};

static unsigned messages_seen, next_number[SENDERS];

static void message_on_post(struct post *post)
{
	struct message *message = container_of(post, struct message, post);

	handler_enter();
	assert_int_equal(message->number, next_number[message->sender]);
	next_number[message->sender]++;
	messages_seen++;
	free(message);
	handler_leave();
}

struct sender {
	struct ring *ring;
	unsigned number;
};

static void *send_posts(void *argument)
{
	struct sender *sender = argument;

	for (unsigned i = 0; i < POSTS; i++) {
		struct message *message = malloc(sizeof(*message));

		*message = (struct message){ .post.fn = message_on_post, .sender = sender->number, .number = i };
		ring_post(sender->ring, &message->post);
	}
	return NULL;
}

/* All arrive, each sender's in order, and a ring that waits without end is woken. */
static void test_posts(void **state)
{
	struct fixture *fixture = *state;
	struct sender senders[SENDERS];
	pthread_t threads[SENDERS];

	messages_seen = 0;
	memset(next_number, 0, sizeof(next_number));
	for (unsigned i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ .ring = fixture->ring, .number = i };
		pthread_create(&threads[i], NULL, send_posts, &senders[i]);
	}
	while (messages_seen < SENDERS * POSTS)
		ring_run(fixture->ring, UINT64_MAX);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(ring_counters(fixture->ring)->posts, SENDERS * POSTS);
}

struct bouncer {
	struct post post;
	struct ring *ring;
	unsigned left;
};

static void bouncer_on_post(struct post *post)
{
	struct bouncer *bouncer = container_of(post, struct bouncer, post);

	handler_enter();
	if (--bouncer->left > 0)
		ring_post(bouncer->ring, post);
	handler_leave();
}

/* From the ring's own thread: not lost, and one a turn, so that it cannot keep the rest from running. */
static void test_post_to_self(void **state)
{
	struct fixture *fixture = *state;
	struct bouncer bouncer = { .post.fn = bouncer_on_post, .ring = fixture->ring, .left = 10 };

	ring_post(fixture->ring, &bouncer.post);
	for (int i = 0; i < 10; i++)
		assert_int_equal(ring_run(fixture->ring, UINT64_MAX), 1);
	assert_int_equal(bouncer.left, 0);
}

struct job {
	struct call call;
	pthread_t thread;
	sem_t *begun, *proceed;
	int32_t result;
};

static int32_t job_work(struct op *op)
{
	struct job *job = container_of(op, struct job, call.op);

	job->thread = pthread_self();
	if (job->begun) {
		sem_post(job->begun);
		sem_wait(job->proceed);
	}
	return job->result;
}

static void test_work(void **state)
{
	enum { JOBS = 100 };
	struct fixture *fixture = *state;
	struct job *jobs = calloc(JOBS, sizeof(*jobs));

	for (int i = 0; i < JOBS; i++) {
		jobs[i].result = i % 2 ? i : -i;
		ring_work(fixture->ring, &call_init(&jobs[i].call)->op, job_work);
	}
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(call_wait(fixture->ring, &jobs[i].call), jobs[i].result);
		assert_false(pthread_equal(jobs[i].thread, pthread_self()));
	}
	assert_int_equal(ring_counters(fixture->ring)->works, JOBS);
	free(jobs);
}

/* Names that no server answers for hold one of two threads, however many there are; other work goes on. */
static void test_slow_work_leaves_a_thread(void **state)
{
	enum { SLOW = 4 };
	struct fixture *fixture = *state;
	sem_t begun, proceed;
	struct job slow[SLOW], job = { .result = 7 };

	sem_init(&begun, 0, 0);
	sem_init(&proceed, 0, 0);
	for (int i = 0; i < SLOW; i++) {
		slow[i] = (struct job){ .begun = &begun, .proceed = &proceed, .result = i + 1 };
		ring_work_slow(fixture->ring, &call_init(&slow[i].call)->op, job_work);
	}
	sem_wait(&begun);
	ring_work(fixture->ring, &call_init(&job.call)->op, job_work);
	assert_int_equal(call_wait(fixture->ring, &job.call), 7);
	assert_int_equal(sem_trywait(&begun), -1);
	ring_cancel(fixture->ring, &slow[SLOW - 1].call.op);
	assert_int_equal(call_wait(fixture->ring, &slow[SLOW - 1].call), -ECANCELED);
	for (int i = 0; i < SLOW - 1; i++) {
		sem_post(&proceed);
		assert_int_equal(call_wait(fixture->ring, &slow[i].call), i + 1);
	}
	sem_destroy(&begun);
	sem_destroy(&proceed);
}

/* Both workers are busy: the third job is cancelled before it begins, the two run to their end. */
static void test_work_cancel(void **state)
{
	struct fixture *fixture = *state;
	sem_t begun, proceed;
	struct job jobs[3] = { { .begun = &begun, .proceed = &proceed, .result = 1 },
		               { .begun = &begun, .proceed = &proceed, .result = 2 },
		               { .result = 3 } };

	sem_init(&begun, 0, 0);
	sem_init(&proceed, 0, 0);
	for (int i = 0; i < 3; i++)
		ring_work(fixture->ring, &call_init(&jobs[i].call)->op, job_work);
	sem_wait(&begun);
	sem_wait(&begun);
	for (int i = 0; i < 3; i++)
		ring_cancel(fixture->ring, &jobs[i].call.op);
	assert_int_equal(call_wait(fixture->ring, &jobs[2].call), -ECANCELED);
	assert_false(jobs[0].call.done || jobs[1].call.done);
	sem_post(&proceed);
	sem_post(&proceed);
	assert_int_equal(call_wait(fixture->ring, &jobs[0].call), 1);
	assert_int_equal(call_wait(fixture->ring, &jobs[1].call), 2);
	sem_destroy(&begun);
	sem_destroy(&proceed);
}

int run_loop_tests(void)
{
	const struct CMUnitTest tests[] = {
		fixture_test(test_turn_timeouts), fixture_test(test_timer_order), fixture_test(test_timer_far_away),
		fixture_test(test_signal_ends_wait), fixture_test(test_posts), fixture_test(test_post_to_self),
		fixture_test(test_work), fixture_test(test_work_cancel),
		fixture_test(test_slow_work_leaves_a_thread),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
