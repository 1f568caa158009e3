/*
 * Shows how executors join, are lost, come back, are refused for what they cannot do, and are drained; both ring engines.
 * Nothing waits for time but for time-outs.
 */
#include "tests/unit/buildkitd/executors_rig.h"
#include "tests/unit/buildkitd/ping_counter.h"
#include "tests/unit/net/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- joining, and being lost ---- */

static void an_executor_joins(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct executors_answers answers;
	struct executors_status status;

	executors_answers(fixture->executors, "acme", &answers);
	assert_int_equal(answers.pong.size, 0);
	rig_add(fixture, 0, "acme", 0);
	assert_true(rig_is(fixture, 0, EXECUTOR_JOINING));
	assert_string_not_equal(executor_why(fixture->executor[0]), "");
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY));
	assert_string_equal(executor_why(fixture->executor[0]), "");
	assert_ptr_equal(executors_find(fixture->executors, "acme", "daemon-0"), fixture->executor[0]);
	assert_null(executors_find(fixture->executors, "other", "daemon-0"));
	executors_answers(fixture->executors, "acme", &answers);
	assert_true(answers.list_workers.size && answers.info.size && answers.pong.size);
	executors_answers(fixture->executors, "other", &answers);
	assert_int_equal(answers.pong.size, 0);
	executors_status(fixture->executors, &status);
	assert_int_equal(status.executors, 1);
	assert_int_equal(status.executors_ready, 1);
	assert_int_equal(status.slots, EXECUTOR_SLOTS_DEFAULT);
	/* Its build has ended well, and health goes on being asked, what it can do is not. */
	DAEMON_UNTIL(fixture, fixture->daemons[0].checks >= 5);
	assert_int_equal(fixture->daemons[0].asked, 1);
	assert_int_equal(fixture->daemons[0].builds, 1);
	assert_int_equal(fixture->daemons[0].returns, 1);
	assert_int_equal(fixture->daemons[0].open_builds, 0);
	rig_end(fixture);
}

static void what_is_not_ready_says_why(void **state)
{
	struct fixture *fixture = rig_begin(state);

	fixture->daemons[0].not_serving = true;
	fixture->daemons[1].no_workers = true;
	fixture->daemons[2].malformed = true;
	fixture->daemons[3].no_info = fixture->daemons[3].no_health = true;      /* old, and ready */
	for (unsigned i = 0; i < 4; i++)
		rig_add(fixture, i, "acme", 0);
	DAEMON_UNTIL(fixture, strstr(executor_why(fixture->executor[0]), "not serving"));
	DAEMON_UNTIL(fixture, strstr(executor_why(fixture->executor[1]), "the workers are ill"));
	DAEMON_UNTIL(fixture, strstr(executor_why(fixture->executor[2]), "malformed"));
	assert_true(rig_is(fixture, 0, EXECUTOR_JOINING));
	assert_true(rig_is(fixture, 1, EXECUTOR_JOINING));
	assert_true(rig_is(fixture, 2, EXECUTOR_REFUSED));
	DAEMON_UNTIL(fixture, rig_is(fixture, 3, EXECUTOR_READY));
	/* And they are asked again. */
	fixture->daemons[0].not_serving = fixture->daemons[1].no_workers = false;
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY) && rig_is(fixture, 1, EXECUTOR_READY));
	rig_end(fixture);
}

static void lost_and_back(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder, *next;
	struct executors_status status;

	rig_add_ready(fixture, 0, "acme", 2);
	holder = rig_request(fixture, 0, "acme", 0);
	assert_int_equal(holder->granted, 1);
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, holder->lost);
	assert_true(rig_is(fixture, 0, EXECUTOR_LOST));
	assert_string_not_equal(holder->why, "");
	/* Nobody is sent there meanwhile; the answers stay. */
	next = rig_request(fixture, 1, "acme", 0);
	assert_int_equal(next->granted, 0);
	assert_int_equal(next->position, 1);
	executors_status(fixture->executors, &status);
	assert_int_equal(status.executors_lost, 1);
	assert_int_equal(status.executors_ready, 0);
	assert_int_equal(status.waiting, 1);
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY));
	assert_int_equal(next->granted, 1);
	assert_int_equal(holder->lost, 1);
	/* It may have become another one: asked anew. */
	assert_int_equal(fixture->daemons[0].asked, 2);
	assert_int_equal(executor_leases(fixture->executor[0]), 2);
	rig_end(fixture);
}

static void not_serving_is_lost(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder;

	rig_add_ready(fixture, 0, "acme", 2);
	holder = rig_request(fixture, 0, "acme", 0);
	fixture->daemons[0].not_serving = true;
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_LOST));
	assert_int_equal(holder->lost, 1);
	fixture->daemons[0].not_serving = false;
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY));
	/* Over the same connection, so it is the same daemon. */
	assert_int_equal(fixture->daemons[0].asked, 1);
	fixture->daemons[0].not_serving = true;
	DAEMON_UNTIL(fixture, holder->lost == 2);
	rig_end(fixture);
}

static void a_suspect_is_asked_before_it_gets_a_lease(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder, *next;

	rig_add_ready(fixture, 0, "acme", 2);
	holder = rig_request(fixture, 0, "acme", 0);
	executor_suspect(fixture->executor[0], "a build's connection broke");
	assert_int_equal(holder->lost, 1);
	assert_string_equal(holder->why, "a build's connection broke");
	assert_true(rig_is(fixture, 0, EXECUTOR_LOST));
	next = rig_request(fixture, 1, "acme", 0);
	assert_int_equal(next->granted, 0);
	DAEMON_UNTIL(fixture, next->granted);
	assert_int_equal(fixture->daemons[0].asked, 2);
	assert_int_equal(holder->lost, 1);
	rig_end(fixture);
}

static void who_does_not_answer_is_lost(void **state)
{
	struct fixture *fixture = rig_begin_with(state, 0, 100 * MS);
	unsigned checks;

	rig_add_ready(fixture, 0, "acme", 2);
	fixture->daemons[0].silent = true;
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_LOST));
	assert_non_null(strstr(executor_why(fixture->executor[0]), "did not answer in time"));
	/* And asked again over another connection. */
	checks = fixture->daemons[0].checks;
	DAEMON_UNTIL(fixture, fixture->daemons[0].checks > checks);
	fixture->daemons[0].silent = false;
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY));
	rig_end(fixture);
}

/* grpc-go ends a connection that pings more than once in five minutes. */
static void nobody_is_pinged(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct executor_config config = { .name = "counted", .tenant = "acme" };
	struct ping_counter counter;
	char bound[64];
	int fd;

	fixture->daemons[0].tcp = true;
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	config.address = daemon_stand_in_address(&fixture->daemons[0]);
	ping_counter_start(&counter, (uint16_t)atoi(config.address.port));
	snprintf(config.address.port, sizeof(config.address.port), "%u", counter.port);
	assert_int_equal(executors_add(fixture->executors, &fixture->executor[0], &config), 0);
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY) && fixture->daemons[0].checks >= 30);
	assert_int_equal(ping_counter_pings(&counter), 0);
	/* It does count. */
	snprintf(bound, sizeof(bound), "grpc://127.0.0.1:%u", counter.port);
	fd = wire_connect(bound);
	wire_send(fd, wire_preface);
	wire_send(fd, wire_ping);
	DAEMON_UNTIL(fixture, ping_counter_pings(&counter) == 1);
	close(fd);
	daemon_stand_in_stop(&fixture->daemons[0]);
	ping_counter_stop(&counter);
	rig_end(fixture);
}

/* ---- capabilities ---- */

static void who_can_less_is_refused(void **state)
{
	struct fixture *fixture = rig_begin(state);

	fixture->daemons[0].capability = "llb.special";
	fixture->daemons[0].platform = "arm64";
	fixture->daemons[2].capability = "llb.special";
	fixture->daemons[2].platform = "arm64";
	fixture->daemons[3].capability = "llb.other";
	rig_add_ready(fixture, 0, "acme", 0);
	rig_add(fixture, 1, "acme", 0);
	DAEMON_UNTIL(fixture, rig_is(fixture, 1, EXECUTOR_REFUSED));
	assert_non_null(strstr(executor_why(fixture->executor[1]), "LLB capability llb.special"));
	assert_non_null(strstr(executor_why(fixture->executor[1]), "platform linux/arm64"));
	assert_null(strstr(executor_why(fixture->executor[1]), "llb.base"));
	assert_null(strstr(executor_why(fixture->executor[1]), "llb.disabled"));
	rig_add_ready(fixture, 2, "acme", 0);
	/* Another tenant has a set of its own. */
	rig_add_ready(fixture, 3, "other", 0);
	/* Those who could more go; then it may join. */
	executor_drain(fixture->executor[0], rig_on_gone, fixture);
	DAEMON_UNTIL(fixture, fixture->gone == 1);
	assert_true(rig_is(fixture, 1, EXECUTOR_REFUSED));
	executor_drain(fixture->executor[2], rig_on_gone, fixture);
	DAEMON_UNTIL(fixture, rig_is(fixture, 1, EXECUTOR_READY));
	rig_end(fixture);
}

static void who_stays_away_keeps_nobody_out(void **state)
{
	struct fixture *fixture = rig_begin(state);

	fixture->daemons[0].capability = "llb.special";
	rig_add_ready(fixture, 0, "acme", 0);
	rig_add(fixture, 1, "acme", 0);
	DAEMON_UNTIL(fixture, rig_is(fixture, 1, EXECUTOR_REFUSED));
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_LOST));
	assert_true(rig_is(fixture, 1, EXECUTOR_REFUSED));
	DAEMON_UNTIL(fixture, rig_is(fixture, 1, EXECUTOR_READY));
	/* Who can more than that joins as any other. */
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY));
	rig_end(fixture);
}

static void who_can_more_joins(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct executors_answers before, after;

	rig_add_ready(fixture, 0, "acme", 0);
	executors_answers(fixture->executors, "acme", &before);
	fixture->daemons[1].capability = "llb.special";
	rig_add_ready(fixture, 1, "acme", 0);
	/* But clients are not told of what only one can. */
	executors_answers(fixture->executors, "acme", &after);
	assert_int_equal(before.pong.size, after.pong.size);
	/* A single daemon that was replaced by a lesser one is what there is. */
	executor_drain(fixture->executor[0], NULL, NULL);
	daemon_stand_in_stop(&fixture->daemons[1]);
	DAEMON_UNTIL(fixture, rig_is(fixture, 1, EXECUTOR_LOST));
	fixture->daemons[1].capability = NULL;
	daemon_stand_in_start(&fixture->daemons[1], fixture->ring);
	DAEMON_UNTIL(fixture, rig_is(fixture, 1, EXECUTOR_READY));
	rig_end(fixture);
}

/* ---- drain, and the end ---- */

static void a_drained_one_ends_with_its_last_lease(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *holder, *next, *last;
	struct executor_config config = { .name = "daemon-0", .tenant = "acme" };

	rig_add_ready(fixture, 0, "acme", 4);
	rig_add_ready(fixture, 1, "acme", 1);
	holder = rig_request(fixture, 0, "acme", 3);
	next = rig_request(fixture, 1, "acme", 3);
	assert_true(rig_has(fixture, holder, 0) && rig_has(fixture, next, 0));
	config.address = daemon_stand_in_address(&fixture->daemons[0]);
	assert_int_equal(executors_add(fixture->executors, NULL, &config), -EEXIST);
	executor_drain(fixture->executor[0], rig_on_gone, fixture);
	assert_true(rig_is(fixture, 0, EXECUTOR_DRAINING));
	last = rig_request(fixture, 2, "acme", 3);
	assert_true(rig_has(fixture, last, 1));
	lease_release(&holder->lease);
	assert_int_equal(executor_leases(fixture->executor[0]), 1);
	/* It is still looked after: who is there hears of its loss. */
	daemon_stand_in_stop(&fixture->daemons[0]);
	DAEMON_UNTIL(fixture, next->lost);
	assert_int_equal(fixture->gone, 0);
	/* Its name is free already. */
	assert_int_equal(executors_add(fixture->executors, NULL, &config), 0);
	lease_release(&next->lease);
	DAEMON_UNTIL(fixture, fixture->gone);
	rig_end(fixture);
}

static void who_waits_for_the_last_one_is_told(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *running, *waiting;

	rig_add_ready(fixture, 0, "acme", 1);
	running = rig_request(fixture, 0, "acme", 0);
	waiting = rig_request(fixture, 1, "acme", 0);
	executor_drain(fixture->executor[0], NULL, NULL);
	assert_int_equal(waiting->refused, 1);
	assert_int_equal(running->refused + running->lost, 0);
	assert_int_equal(rig_request(fixture, 2, "acme", 0)->refused, 1);
	rig_end(fixture);
}

static void closing_refuses_who_waits(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct holder *running, *waiting;
	struct executor_config config = { .name = "late", .tenant = "acme" };

	rig_add_ready(fixture, 0, "acme", 1);
	running = rig_request(fixture, 0, "acme", 0);
	waiting = rig_request(fixture, 1, "acme", 0);
	executors_close(fixture->executors);
	assert_int_equal(waiting->refused, 1);
	assert_int_equal(rig_request(fixture, 2, "acme", 0)->refused, 1);
	assert_int_equal(executors_add(fixture->executors, NULL, &config), -ESHUTDOWN);
	assert_int_equal(running->refused + running->lost, 0);
	for (unsigned i = 0; i < 20; i++)
		ring_run(fixture->ring, 10 * MS);
	assert_false(executors_idle(fixture->executors));
	lease_release(&running->lease);
	rig_end(fixture);
}

/* A name that has to be looked up, which a worker does; and one that does not exist. */
static void names_are_resolved_off_the_loop(void **state)
{
	struct fixture *fixture = rig_begin(state);
	struct executor_config config = { .name = "by-name", .tenant = "acme" };
	struct executor *nowhere;
	struct conn_config conn = { 0 };
	struct conn *none;
	char why[512];

	fixture->daemons[0].tcp = true;
	daemon_stand_in_start(&fixture->daemons[0], fixture->ring);
	config.address = daemon_stand_in_address(&fixture->daemons[0]);
	snprintf(config.address.host, sizeof(config.address.host), "localhost");
	assert_int_equal(executors_add(fixture->executors, &fixture->executor[0], &config), 0);
	assert_int_equal(executor_connect(fixture->executor[0], &none, &conn, why, sizeof(why)), -EHOSTUNREACH);
	DAEMON_UNTIL(fixture, rig_is(fixture, 0, EXECUTOR_READY));
	config.name = "nowhere";
	snprintf(config.address.host, sizeof(config.address.host), "nowhere.invalid");
	assert_int_equal(executors_add(fixture->executors, &nowhere, &config), 0);
	DAEMON_UNTIL(fixture, strstr(executor_why(nowhere), "nowhere.invalid"));
	assert_int_equal(executor_state(nowhere), EXECUTOR_JOINING);
	rig_end(fixture);
}

int main(void)
{
	static const enum ring_engine uring = RING_ENGINE_URING, epoll = RING_ENGINE_EPOLL;
#define BOTH(test) cmocka_unit_test_prestate(test, (void *)&uring), cmocka_unit_test_prestate(test, (void *)&epoll)
	const struct CMUnitTest tests[] = {
		BOTH(an_executor_joins),
		BOTH(what_is_not_ready_says_why),
		BOTH(lost_and_back),
		BOTH(not_serving_is_lost),
		BOTH(a_suspect_is_asked_before_it_gets_a_lease),
		BOTH(who_does_not_answer_is_lost),
		BOTH(nobody_is_pinged),
		BOTH(who_can_less_is_refused),
		BOTH(who_stays_away_keeps_nobody_out),
		BOTH(who_can_more_joins),
		BOTH(a_drained_one_ends_with_its_last_lease),
		BOTH(who_waits_for_the_last_one_is_told),
		BOTH(closing_refuses_who_waits),
		BOTH(names_are_resolved_off_the_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
