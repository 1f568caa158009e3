/*
 * Shows when a probe gives a peer up: after two questions in a row that had no answer in time, also where they never went out;
 * and that an answer in between counts, and so does whatever else comes. The engine's output is the test's, which plays the peer.
 */
#include "gateway/session/session_health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "proto/h2.h"

#define MS 1000000ull

struct fixture {
	struct ring *ring;
	struct h2 *h2, *peer;
	struct health_probe probe;
	unsigned silent, stopped, answers, open;
	bool deaf;                       /* the peer takes nothing */
	bool dumb;                       /* it takes all, and answers nothing */
};

static void on_output(void *owner)
{
	(void)owner;
}

static int on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct fixture *fixture = owner;
	struct grpc_request head;

	assert_true(grpc_request_parse(&head, request));
	fixture->answers++;
	return health_answer(stream, &head, &fixture->open);
}

static const struct h2_events client_events = { .on_output = on_output };
static const struct h2_events peer_events = { .on_output = on_output, .on_stream = on_stream };

static void on_silent(struct health_probe *probe)
{
	container_of(probe, struct fixture, probe)->silent++;
}

static void on_stopped(struct health_probe *probe)
{
	container_of(probe, struct fixture, probe)->stopped++;
}

static void carry(struct h2 *from, struct h2 *to)
{
	struct span bytes;

	while ((bytes = h2_output(from)).size)
		if (to)
			assert_int_equal(h2_feed(to, bytes), 0);
}

static void turn(struct fixture *fixture)
{
	if (!fixture->deaf) {
		carry(fixture->h2, fixture->dumb ? NULL : fixture->peer);
		carry(fixture->peer, fixture->h2);
	}
	ring_run(fixture->ring, 1 * MS);
}

/* For ten times as long as two questions have. */
static void turns(struct fixture *fixture)
{
	uint64_t since_ns = ring_now_ns(fixture->ring);

	while (ring_now_ns(fixture->ring) - since_ns < 300 * MS)
		turn(fixture);
}

static void begin(struct fixture *fixture)
{
	const struct h2_config client = { .events = &client_events, .owner = fixture };
	const struct h2_config server = { .server = true, .events = &peer_events, .owner = fixture };
	const struct ring_config ring = { .engine = RING_ENGINE_EPOLL };

	*fixture = (struct fixture){ 0 };
	assert_int_equal(ring_create(&fixture->ring, &ring), 0);
	assert_int_equal(h2_create(&fixture->h2, &client), 0);
	assert_int_equal(h2_create(&fixture->peer, &server), 0);
	fixture->probe = (struct health_probe){
		.ring = fixture->ring, .on_silent = on_silent, .interval_ns = 5 * MS, .timeout_ns = 10 * MS,
	};
	health_probe_start(&fixture->probe, fixture->h2);
}

static void end(struct fixture *fixture)
{
	health_probe_stop(&fixture->probe, on_stopped);
	h2_destroy(fixture->h2);
	h2_destroy(fixture->peer);
	while (!fixture->stopped)
		ring_run(fixture->ring, UINT64_MAX);
	assert_int_equal(fixture->stopped, 1);
	assert_int_equal(fixture->open, 0);
	ring_destroy(fixture->ring);
}

static void who_answers_lives(void **state)
{
	struct fixture fixture;

	begin(&fixture);
	turns(&fixture);
	assert_true(fixture.answers > 2);
	assert_int_equal(fixture.silent, 0);
	end(&fixture);
}

static void who_does_not_answer_is_given_up(void **state)
{
	struct fixture fixture;

	begin(&fixture);
	fixture.dumb = true;
	turns(&fixture);
	assert_int_equal(fixture.silent, 1);
	assert_int_equal(fixture.answers, 0);
	end(&fixture);
}

/* Nor does the cancel of the first question go out, which is what its end waits for. */
static void who_takes_nothing_is_given_up(void **state)
{
	struct fixture fixture;

	begin(&fixture);
	turn(&fixture);
	fixture.deaf = true;
	turns(&fixture);
	assert_int_equal(fixture.silent, 1);
	end(&fixture);
}

/* It takes all again after the first miss: the count begins anew with its next answer. */
static void who_was_deaf_for_a_while_lives(void **state)
{
	struct fixture fixture;

	begin(&fixture);
	fixture.deaf = true;
	while (fixture.probe.misses == 0)
		turn(&fixture);
	fixture.deaf = false;
	turns(&fixture);
	assert_int_equal(fixture.silent, 0);
	assert_int_equal(fixture.probe.misses, 0);
	end(&fixture);
}

/* Its answer waits behind other things, as on a link that a build's files fill: while these come it lives, and not longer. */
static void who_says_other_things_lives(void **state)
{
	static const uint8_t pong[] = { 0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8 };
	struct fixture fixture;
	uint64_t since_ns;

	begin(&fixture);
	fixture.dumb = true;
	since_ns = ring_now_ns(fixture.ring);
	while (ring_now_ns(fixture.ring) - since_ns < 300 * MS) {
		turn(&fixture);
		assert_int_equal(h2_feed(fixture.h2, span_make(pong, sizeof(pong))), 0);
	}
	assert_int_equal(fixture.silent, 0);
	turns(&fixture);
	assert_int_equal(fixture.silent, 1);
	end(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_answers_lives),
		cmocka_unit_test(who_does_not_answer_is_given_up),
		cmocka_unit_test(who_takes_nothing_is_given_up),
		cmocka_unit_test(who_was_deaf_for_a_while_lives),
		cmocka_unit_test(who_says_other_things_lives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
