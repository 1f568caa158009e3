/*
 * Shows what callers of one action are to each other: they share one run, find its operation again, look at it and cancel it by
 * its name; and they may leave, or break off, at any step.
 */
#include "tests/unit/pool/execute_rig.h"
#include "tests/unit/store/index_delay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static int setup_lingering(void **state)
{
	return rig_setup_with(1000000000, NULL);
}

static int setup_patient(void **state)
{
	return rig_setup_with(EXECUTE_LINGER_NS, NULL);
}

static int setup_late(void **state)
{
	return rig_setup_with(0, &index_late);
}

static void callers_may_leave(void **state)
{
	struct digest action = action_upload_unshared(client, "leave");
	struct caller running = caller_ask(client, &action), waiting, resolving;
	struct assignment job;

	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	waiting = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_until_position(&waiting, 1);
	resolving = caller_ask(client, &action);
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = 1, .open = 3 });
	caller_leave(&resolving);
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = 1, .open = 2 });
	caller_leave(&waiting);
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = 0, .open = 1 });
	caller_leave(&running);
	assert_int_equal(stand_in_take_cancel(slot), job.id);
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = 0, .open = 1 });
	stand_in_output(slot, job.id, 1, "too late\n");
	stand_in_finish(slot, job.id, 137, NULL);
	rig_until((struct gauges){ .slots = 1 });
	/* The answer to the one that left while resolving, then output of a job long gone: neither disturbs the next. */
	stand_in_resolve(control, 1, NULL);
	running = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	stand_in_output(slot, job.id, 1, "much too late\n");
	stand_in_finish(slot, job.id, 1, NULL);
	job = stand_in_take(slot);
	stand_in_output(slot, job.id, 1, "right\n");
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&running);
	assert_string_equal(running.output[0], "right\n");
	assert_int_equal(running.exit_code, 0);
}

static void two_with_the_same_action_share_it(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL);
	struct digest action = action_upload(client, "same", NULL), never = action_upload_unshared(client, "never");
	struct caller one = caller_ask(client, &action), two, three;
	struct stand_in *other_slot;
	struct assignment jobs[2];

	stand_in_resolve(control, 1, NULL);
	jobs[0] = stand_in_take(slot);
	other_slot = stand_in_attach(gateway, 2);
	stand_in_output(slot, jobs[0].id, 1, "before ");
	caller_until_output(&one, 7);
	two = caller_ask(second, &action);
	stand_in_resolve(control, 1, NULL);
	caller_until_output(&two, 7);            /* what came before he did */
	assert_string_equal(one.name, two.name);
	three = caller_ask(second, &action);     /* in another environment it is another one */
	stand_in_resolve(control, 2, NULL);
	jobs[1] = stand_in_take(other_slot);
	stand_in_finish(other_slot, jobs[1].id, 1, NULL);
	caller_finish(&three);
	assert_int_equal(three.exit_code, 1);
	assert_string_not_equal(three.name, one.name);
	caller_leave(&one);                      /* the other one still waits */
	stand_in_output(slot, jobs[0].id, 1, "after\n");
	stand_in_finish_in(slot, jobs[0].id, 1);
	caller_finish(&two);
	assert_true(two.done && !two.cached);
	assert_string_equal(two.output[0], "before after\n");
	rig_hit(client, &action, 1);
	/* One whose result is not to be kept is nobody else's. */
	one = caller_ask(client, &never);
	stand_in_resolve(control, 1, NULL);
	two = caller_ask(second, &never);
	stand_in_resolve(control, 1, NULL);
	caller_until_started(&one);
	caller_until_started(&two);
	assert_string_not_equal(one.name, two.name);
	caller_leave(&one);
	caller_leave(&two);
	stand_in_finish(slot, stand_in_take(slot).id, 0, NULL);
	stand_in_finish(other_slot, stand_in_take(other_slot).id, 0, NULL);
	rig_until((struct gauges){ .slots = 2 });
	stand_in_lose(other_slot);
	client_close(second);
}

/* One that may be answered from the cache is under way: who wants a run does not join it. The index answers late. */
static void who_skips_the_cache_gets_a_run(void **state)
{
	struct digest action = action_upload(client, "anew", NULL);
	struct caller one, two, three;
	struct assignment job;

	rig_run(client, &action, 1, "old\n", 0);
	one = caller_ask(client, &action);
	rig_until((struct gauges){ .slots = 1, .open = 1 });
	two = caller_ask_anew(client, &action);
	stand_in_resolve_two(control, 1);
	caller_finish(&one);
	assert_true(one.done && one.cached);
	caller_until_started(&two);
	job = stand_in_take(slot);
	three = caller_ask_anew(client, &action);        /* of one that runs there is no doubt */
	stand_in_resolve(control, 1, NULL);
	caller_until_started(&three);
	assert_string_equal(two.name, three.name);
	stand_in_output(slot, job.id, 1, "new\n");
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&two);
	caller_finish(&three);
	assert_true(two.done && !two.cached && three.done);
	assert_string_equal(two.stdout_raw, "new\n");
	assert_string_equal(rig_hit(client, &action, 1).stdout_raw, "new\n");
}

static void an_operation_is_found_again(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL), *other = gateway_thread_client(gateway, "token-a");
	struct digest action = action_upload(client, "again", NULL);
	struct caller one = caller_ask(client, &action), two, three, stranger;
	struct assignment job;

	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	stand_in_output(slot, job.id, 2, "so far, ");
	caller_until_started(&one);
	two = caller_wait(second, &one);
	caller_until_stderr(&two, 8);
	assert_string_equal(two.name, one.name);
	stranger = caller_wait(other, &one);     /* the name alone is not enough */
	caller_finish(&stranger);
	assert_int_equal(stranger.status, GRPC_NOT_FOUND);
	caller_leave(&one);
	stand_in_output(slot, job.id, 2, "and so on");
	stand_in_finish(slot, job.id, 3, NULL);
	caller_finish(&two);
	assert_string_equal(two.output[1], "so far, and so on");
	three = caller_wait(second, &one);       /* it is over: its end is still known */
	caller_finish(&three);
	assert_true(three.done && !three.cached);
	assert_int_equal(three.exit_code, 3);
	snprintf(one.name, sizeof(one.name), "operations/none");
	three = caller_wait(second, &one);
	caller_finish(&three);
	assert_int_equal(three.status, GRPC_NOT_FOUND);
	client_close(second);
	client_close(other);
}

/* Whether it waits, runs or has ended; nobody else's. */
static void an_operation_is_looked_at(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL), *other = gateway_thread_client(gateway, "token-a");
	struct digest actions[2] = { action_upload(client, "look", NULL), action_upload(client, "look queued", NULL) };
	struct caller running = caller_ask(client, &actions[0]), queued, seen;
	struct assignment job;

	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	caller_until_started(&running);
	queued = caller_ask(client, &actions[1]);
	stand_in_resolve(control, 1, NULL);
	caller_until_position(&queued, 1);
	seen = caller_look(second, &queued);
	assert_int_equal(seen.stage, REAPI_STAGE_QUEUED);
	seen = caller_look(second, &running);
	assert_true(seen.stage == REAPI_STAGE_EXECUTING && !seen.done && seen.status == GRPC_OK);
	assert_string_equal(seen.name, running.name);
	assert_int_equal(caller_look(other, &running).status, GRPC_NOT_FOUND);
	stand_in_output(slot, job.id, 1, "looked at\n");
	stand_in_finish(slot, job.id, 3, NULL);
	caller_finish(&running);
	seen = caller_look(second, &running);
	assert_true(seen.done && seen.exit_code == 3);
	assert_string_equal(seen.stdout_raw, "looked at\n");
	caller_leave(&queued);
	stand_in_finish(slot, stand_in_take(slot).id, 0, NULL);
	rig_until((struct gauges){ .slots = 1 });
	client_close(second);
	client_close(other);
}

static void an_operation_is_cancelled_by_name(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL), *other = gateway_thread_client(gateway, "token-a");
	struct digest actions[2] = { action_upload(client, "cancel", NULL), action_upload(client, "cancel queued", NULL) };
	struct caller running = caller_ask(client, &actions[0]), queued;
	struct assignment job;

	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	caller_until_started(&running);
	queued = caller_ask(client, &actions[1]);
	stand_in_resolve(control, 1, NULL);
	caller_until_position(&queued, 1);
	assert_int_equal(caller_cancel(other, &running), GRPC_NOT_FOUND);
	assert_int_equal(caller_cancel(second, &queued), GRPC_OK);
	caller_finish(&queued);
	assert_int_equal(queued.status, GRPC_CANCELLED);
	assert_int_equal(caller_cancel(second, &running), GRPC_OK);
	assert_int_equal(stand_in_take_cancel(slot), job.id);
	stand_in_finish(slot, job.id, 137, NULL);
	caller_finish(&running);
	assert_int_equal(running.status, GRPC_CANCELLED);
	assert_int_equal(caller_cancel(second, &running), GRPC_OK);      /* it has ended: nothing happens */
	rig_until((struct gauges){ .slots = 1 });
	client_close(second);
	client_close(other);
}

/* A caller in a process of its own, which dies when his action runs, without a word. */
struct mortal {
	pid_t pid;
	int fd;                          /* the operation's name, when it runs */
};

static struct mortal mortal_ask(const struct digest *action)
{
	struct mortal mortal;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	mortal.pid = fork();
	if (mortal.pid == 0) {
		struct caller caller = caller_ask(gateway_thread_client(gateway, NULL), action);

		caller_until_started(&caller);
		_exit(write(fds[1], caller.name, sizeof(caller.name)) == sizeof(caller.name) ? 0 : 1);
	}
	close(fds[1]);
	mortal.fd = fds[0];
	return mortal;
}

static struct caller mortal_dies(struct mortal *mortal)
{
	struct caller caller = { 0 };
	int status;

	assert_int_equal(read(mortal->fd, caller.name, sizeof(caller.name)), sizeof(caller.name));
	close(mortal->fd);
	assert_int_equal(waitpid(mortal->pid, &status, 0), mortal->pid);
	assert_int_equal(status, 0);
	return caller;
}

/* Somebody comes again in time; and nobody does. */
static void a_broken_connection_leaves_it_for_a_while(void **state)
{
	struct digest actions[2] = { action_upload(client, "linger", NULL), action_upload(client, "left alone", NULL) };
	struct mortal mortal = mortal_ask(&actions[0]);
	struct caller caller, former;
	struct assignment job;

	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	former = mortal_dies(&mortal);
	former.action = actions[0];
	caller = caller_wait(client, &former);
	caller_until_started(&caller);
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	mortal = mortal_ask(&actions[1]);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	mortal_dies(&mortal);
	assert_int_equal(stand_in_take_cancel(slot), job.id);
	stand_in_finish(slot, job.id, 137, NULL);
	rig_until((struct gauges){ .slots = 1 });
}

/* It is over here, or where he is: he resets the call then. Either way he asks for the operation with a call of its own. */
static void a_call_whose_time_is_over_leaves_it_for_a_while(void **state)
{
	static const char *const timeouts[] = { "1S", "100S" };
	struct caller timed, again;
	struct assignment job;
	struct digest action;

	for (int i = 0; i < 2; i++) {
		action = action_upload(client, timeouts[i], NULL);
		timed = caller_ask_timed(client, &action, timeouts[i]);
		stand_in_resolve(control, 1, NULL);
		job = stand_in_take(slot);
		caller_until_started(&timed);
		if (i) {
			caller_leave(&timed);
		} else {
			caller_finish(&timed);
			assert_int_equal(timed.status, GRPC_DEADLINE_EXCEEDED);
		}
		again = caller_wait(client, &timed);
		stand_in_finish(slot, job.id, 0, NULL);
		caller_finish(&again);
		assert_true(again.done);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(callers_may_leave, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(two_with_the_same_action_share_it, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(who_skips_the_cache_gets_a_run, setup_late, rig_teardown),
		cmocka_unit_test_setup_teardown(an_operation_is_found_again, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_operation_is_looked_at, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_operation_is_cancelled_by_name, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_broken_connection_leaves_it_for_a_while, setup_lingering, rig_teardown),
		cmocka_unit_test_setup_teardown(a_call_whose_time_is_over_leaves_it_for_a_while, setup_patient, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
