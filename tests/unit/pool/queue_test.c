/*
 * Shows who waits for a slot: places are told, tenants take turns and are counted apart, and the queue has an end. And that a
 * gateway which is told to stop waits for what runs and what is queued.
 */
#include "tests/unit/pool/execute_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void positions_are_told_and_told_again(void **state)
{
	struct digest actions[4];
	struct caller callers[4];
	char name[16];

	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "position %d", i);
		actions[i] = action_upload(client, name, NULL);
	}
	for (uint32_t i = 0; i < 4; i++) {
		callers[i] = caller_ask(client, &actions[i]);
		stand_in_resolve(control, 1, NULL);
		if (i)
			caller_until_position(&callers[i], i);
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct assignment job = stand_in_take(slot);

		snprintf(name, sizeof(name), "position %u", i);
		assert_string_equal(job.argument, name);
		stand_in_finish(slot, job.id, 0, NULL);
		caller_finish(&callers[i]);
		for (uint32_t j = 0; j < i; j++)
			assert_int_equal(callers[i].positions[j], i - j);
		assert_int_equal(callers[i].positions_count, i);
	}
}

/* Two tenants, one with a job that runs and three that wait, one with a job that waits. */
static void count_of_tenants(struct gateway_parts *parts, void *context)
{
	unsigned firsts = 0, others = 0;
	struct pool_status status;

	for (uint32_t tenant = 0; tenant < 16; tenant++) {
		pool_tenant_status(parts->pool, tenant, &status);
		assert_int_equal(status.slots, 1);
		assert_int_equal(status.jobs_total, 0);
		if (status.slots_busy == 1 && status.queued == 3)
			firsts++;
		else if (status.slots_busy == 0 && status.queued == 1)
			others++;
		else
			assert_int_equal(status.slots_busy + status.queued, 0);
	}
	assert_int_equal(firsts, 1);
	assert_int_equal(others, 1);
}

static void tenants_take_turns(void **state)
{
	struct client *other = gateway_thread_client(gateway, "token-a");
	static const char *const order[] = { "first", "a 1", "b 1", "a 2", "a 3" };
	struct caller callers[5];
	struct digest action;

	for (int i = 0; i < 5; i++) {
		struct client *from = i == 4 ? other : client;
		static const char *const names[] = { "first", "a 1", "a 2", "a 3", "b 1" };

		action = action_upload(from, names[i], NULL);
		callers[i] = caller_ask(from, &action);
		stand_in_resolve(control, 1, NULL);
		if (i)
			caller_until_position(&callers[i], i == 4 ? 2 : (uint32_t)i);
	}
	gateway_thread_call(gateway, count_of_tenants, NULL);
	for (int i = 0; i < 5; i++) {
		struct assignment job = stand_in_take(slot);

		assert_string_equal(job.argument, order[i]);
		assert_string_equal(job.tenant, i == 2 ? "acme" : "default");
		stand_in_finish(slot, job.id, 0, NULL);
	}
	for (int i = 0; i < 5; i++)
		caller_finish(&callers[i]);
	client_close(other);
}

static void the_queue_has_an_end(void **state)
{
	struct client *clients[2] = { gateway_thread_client(gateway, NULL), gateway_thread_client(gateway, NULL) };
	struct digest action = action_upload_unshared(client, "queue");
	struct caller *callers = calloc(POOL_QUEUE_TENANT_MAX + 1, sizeof(*callers)), last;

	for (uint32_t i = 0; i < POOL_QUEUE_TENANT_MAX + 1; i++) {
		callers[i] = caller_ask(clients[i % 2], &action);
		stand_in_resolve(control, 1, NULL);
	}
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = POOL_QUEUE_TENANT_MAX, .open = POOL_QUEUE_TENANT_MAX + 1 });
	last = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&last);
	assert_int_equal(last.status, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(last.why, "queue of actions is full"));
	client_close(clients[0]);                /* half of them, the running one too */
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = POOL_QUEUE_TENANT_MAX / 2, .open = POOL_QUEUE_TENANT_MAX / 2 + 1 });
	client_close(clients[1]);
	rig_until((struct gauges){ .slots = 1, .busy = 1, .open = 1 });
	stand_in_finish(slot, stand_in_take(slot).id, 0, NULL);
	rig_until((struct gauges){ .slots = 1 });
	free(callers);
}

static void a_drain_waits_for_what_runs(void **state)
{
	struct digest actions[3] = { action_upload(client, "runs", NULL), action_upload(client, "waits", NULL),
	                             action_upload(client, "resolves", NULL) };
	struct caller callers[3];
	struct assignment job;

	for (int i = 0; i < 3; i++) {
		callers[i] = caller_ask(client, &actions[i]);
		if (i < 2)
			stand_in_resolve(control, 1, NULL);
	}
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = 1, .open = 3 });
	gateway_thread_drain(gateway);
	stand_in_resolve(control, 1, NULL);      /* it is still asked, and its answer taken */
	rig_until((struct gauges){ .slots = 1, .busy = 1, .queued = 2, .open = 3 });
	for (int i = 0; i < 3; i++) {
		job = stand_in_take(slot);
		stand_in_finish(slot, job.id, 0, NULL);
		caller_finish(&callers[i]);
		assert_true(callers[i].done);
	}
	assert_int_equal(stand_in_ended(slot), GRPC_OK);
	assert_int_equal(stand_in_ended(control), GRPC_OK);
}

static void a_drain_sends_idle_executors_home(void **state)
{
	struct stand_in *second = stand_in_attach(gateway, 2);

	gateway_thread_drain(gateway);
	assert_int_equal(stand_in_ended(slot), GRPC_OK);
	assert_int_equal(stand_in_ended(second), GRPC_OK);
	assert_int_equal(stand_in_ended(control), GRPC_OK);
	stand_in_lose(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(positions_are_told_and_told_again, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(tenants_take_turns, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(the_queue_has_an_end, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_drain_waits_for_what_runs, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_drain_sends_idle_executors_home, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
