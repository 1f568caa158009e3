#include "tests/unit/pool/execute_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct gateway_thread *gateway;
struct client *client;
struct stand_in *control, *slot;

int rig_setup_with(uint64_t linger_ns, const struct index_engine *index)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){
		.executors = true, .linger_ns = linger_ns, .index = index,
		/* SHA-256 of "token-a" */
		.tokens = "a70bf50e531ce1a817561f2f5d5b6645d4e806becf58ccc5e8cf6b8045a090a8 acme all\n" });
	client = gateway_thread_client(gateway, NULL);
	control = stand_in_attach(gateway, 0);
	slot = stand_in_attach(gateway, 1);
	return 0;
}

int rig_setup(void **state)
{
	return rig_setup_with(0, NULL);
}

int rig_teardown(void **state)
{
	client_close(client);
	if (slot)
		stand_in_lose(slot);
	if (control)
		stand_in_lose(control);
	gateway_thread_stop(gateway, true);
	return 0;
}

static bool gauges_are(struct gateway_parts *parts, void *context)
{
	const struct gauges *wanted = context;
	struct pool_status status;

	pool_status(parts->pool, &status);
	return status.queued == wanted->queued && status.slots_busy == wanted->busy && status.slots == wanted->slots &&
	       parts->execute.open == wanted->open && status.jobs_lost == wanted->lost;
}

void rig_until(struct gauges gauges)
{
	gateway_thread_until(gateway, gauges_are, &gauges);
}

struct caller rig_run(struct client *from, const struct digest *action, uint8_t environment, const char *output, int exit_code)
{
	struct caller caller = caller_ask(from, action);
	struct assignment job;

	stand_in_resolve(control, environment, NULL);
	job = stand_in_take(slot);
	if (output)
		stand_in_output(slot, job.id, 1, output);
	stand_in_finish(slot, job.id, exit_code, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	assert_false(caller.cached);
	assert_int_equal(caller.exit_code, exit_code);
	return caller;
}

struct caller rig_hit(struct client *from, const struct digest *action, uint8_t environment)
{
	struct caller caller = caller_ask(from, action);

	stand_in_resolve(control, environment, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	assert_true(caller.cached);
	return caller;
}
