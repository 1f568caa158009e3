/*
 * Shows that a caller who does not read holds his slot, at a bound of memory, and loses nothing, as long as the action may run;
 * and that he may leave.
 */
#include "tests/unit/pool/execute_rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <cmocka.h>

#define FLOOD_MESSAGES 400u
#define FLOOD_BYTES    65536u

/* A slot in a thread of its own: a ring belongs to the thread that made it. */
struct flood {
	pthread_t thread;
	atomic_uint sent;
	uint64_t sum;
	bool cancelled;                  /* is to be told so */
};

static void *flood_run(void *context)
{
	static uint8_t data[FLOOD_BYTES];
	struct flood *flood = context;
	struct stand_in *flooding = stand_in_attach(gateway, 1);
	uint64_t id = stand_in_take(flooding).id;

	for (unsigned i = 0; i < FLOOD_MESSAGES; i++) {
		for (unsigned j = 0; j < FLOOD_BYTES; j += 64)
			data[j] = (uint8_t)(i + j);
		flood->sum = sum_of(flood->sum, (size_t)i * FLOOD_BYTES, span_make(data, FLOOD_BYTES));
		stand_in_output_bytes(flooding, id, 1, span_make(data, FLOOD_BYTES));
		atomic_fetch_add(&flood->sent, 1);
	}
	if (flood->cancelled)
		assert_int_equal(stand_in_take_cancel(flooding), id);
	stand_in_finish(flooding, id, 0, NULL);
	rig_until((struct gauges){ .slots = 1 });
	stand_in_lose(flooding);
	return NULL;
}

/* The slot is the flood's from now on. */
static void flood_start(struct flood *flood)
{
	stand_in_lose(slot);
	rig_until((struct gauges){ 0 });
	assert_int_equal(pthread_create(&flood->thread, NULL, flood_run, flood), 0);
	rig_until((struct gauges){ .slots = 1 });
}

static void flood_join(struct flood *flood)
{
	pthread_join(flood->thread, NULL);
	rig_until((struct gauges){ 0 });
	slot = stand_in_attach(gateway, 1);
}

struct standstill {
	struct flood *flood;
	unsigned last, same;
};

/* For a tenth of a second nothing more was taken. When that is so too early, the test is weaker, but does not fail. */
static bool stands_still(struct gateway_parts *parts, void *context)
{
	struct standstill *standstill = context;
	unsigned sent = atomic_load(&standstill->flood->sent);

	standstill->same = sent == standstill->last ? standstill->same + 1 : 0;
	standstill->last = sent;
	return sent > 0 && standstill->same == 100;
}

static void a_caller_that_does_not_read_holds_the_slot(void **state)
{
	struct digest action = action_upload(client, "flood", NULL);
	struct flood flood = { 0 };
	struct standstill standstill = { .flood = &flood };
	struct caller caller;

	flood_start(&flood);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	gateway_thread_until(gateway, stands_still, &standstill);
	assert_true(standstill.last < FLOOD_MESSAGES / 2);
	caller_finish(&caller);
	flood_join(&flood);
	assert_true(caller.done);
	assert_int_equal(caller.output_size[0], (size_t)FLOOD_MESSAGES * FLOOD_BYTES);
	assert_true(caller.output_sum[0] == flood.sum);
	/* What is kept of it is its beginning; so the result is not cached, and says why. */
	assert_int_equal(caller.stdout_digest.size, EXECUTE_OUTPUT_BYTES_MAX);
	assert_non_null(strstr(caller.message, "not kept"));
	rig_run(client, &action, 1, "short\n", 0);
	rig_hit(client, &action, 1);
}

/* No longer than the action may run: its slot has an end, and the caller what is kept of the output, once he reads. */
static void a_caller_that_does_not_read_is_not_waited_for_too_long(void **state)
{
	struct digest action = action_upload_timed(client, "flood for a second", 1);
	struct flood flood = { 0 };
	struct standstill standstill = { .flood = &flood };
	struct caller caller;

	flood_start(&flood);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	gateway_thread_until(gateway, stands_still, &standstill);
	flood_join(&flood);
	caller_finish(&caller);
	assert_true(caller.done);
	assert_int_equal(caller.output_size[0], EXECUTE_OUTPUT_BYTES_MAX);
	assert_int_equal(caller.stdout_digest.size, EXECUTE_OUTPUT_BYTES_MAX);
}

/* It goes away instead: the slot goes on at once. */
static void a_caller_that_does_not_read_may_leave(void **state)
{
	struct client *lazy = gateway_thread_client(gateway, NULL);
	struct digest action = action_upload(lazy, "flood and leave", NULL);
	struct flood flood = { .cancelled = true };
	struct standstill standstill = { .flood = &flood };

	flood_start(&flood);
	caller_ask(lazy, &action);
	stand_in_resolve(control, 1, NULL);
	gateway_thread_until(gateway, stands_still, &standstill);
	client_close(lazy);
	flood_join(&flood);
	rig_run(client, &action, 1, "next\n", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_caller_that_does_not_read_holds_the_slot, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_caller_that_does_not_read_is_not_waited_for_too_long, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_caller_that_does_not_read_may_leave, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
