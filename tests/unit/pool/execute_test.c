/*
 * Shows what becomes of an action, over real sockets, with a stand-in for the executor host that does what the test
 * says: output comes as it is made and the result at the end; a success is answered from the cache, for other clients of
 * the tenant too, but not in another environment, for another tenant, or when what it names is gone; failures are not
 * cached. GetActionResult finds what ran on the same terms. Equal actions share one run, and an operation is found and
 * cancelled by its name. And each way in which it goes wrong: the slot dies, the host dies, the caller leaves, breaks
 * off or does not read, the queue is full, the gateway is told to stop.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "chunker/sha256.h"
#include "gateway/cas/closure.h"
#include "gateway/context/download.h"
#include "gateway/context/upload.h"
#include "gateway/context/whole_blob.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"
#include "stand_in.h"
#include "tests/unit/store/index_delay.h"

static struct gateway_thread *gateway;
static struct client *client;
static struct stand_in *control, *slot;

static int setup_with(uint64_t linger_ns, const struct index_engine *index)
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

static int setup(void **state)
{
	return setup_with(0, NULL);
}

static int setup_lingering(void **state)
{
	return setup_with(1000000000, NULL);
}

static int setup_late(void **state)
{
	return setup_with(0, &index_late);
}

static int teardown(void **state)
{
	client_close(client);
	if (slot)
		stand_in_lose(slot);
	if (control)
		stand_in_lose(control);
	gateway_thread_stop(gateway, true);
	return 0;
}

struct gauges {
	uint32_t queued, busy, slots;
	unsigned open;
	uint64_t lost;
};

static bool gauges_are(struct gateway_parts *parts, void *context)
{
	const struct gauges *wanted = context;
	struct pool_status status;

	pool_status(parts->pool, &status);
	return status.queued == wanted->queued && status.slots_busy == wanted->busy && status.slots == wanted->slots &&
	       parts->execute.open == wanted->open && status.jobs_lost == wanted->lost;
}

static void wait_for(struct gauges gauges)
{
	gateway_thread_until(gateway, gauges_are, &gauges);
}

/* One whole run: with `output` on stdout and this exit code. */
static struct caller run(struct client *from, const struct digest *action, uint8_t environment, const char *output, int exit_code)
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

static struct caller hit(struct client *from, const struct digest *action, uint8_t environment)
{
	struct caller caller = caller_ask(from, action);

	stand_in_resolve(control, environment, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	assert_true(caller.cached);
	return caller;
}

static void output_comes_and_then_the_result(void **state)
{
	struct small_tree tree;
	struct assignment job;
	struct digest root, action;
	struct caller caller;

	small_tree_make(&tree, "input a", "input b");
	commit_whole(client, &tree);
	root = tree.digests[3];
	small_tree_free(&tree);
	action = action_upload(client, "cc", &root);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	assert_string_equal(job.argument, "cc");
	assert_string_equal(job.tenant, "default");
	assert_true(digest_equal(&job.root, &root));
	caller_until_started(&caller);
	stand_in_output(slot, job.id, 1, "hello, ");
	caller_until_output(&caller, 7);         /* it is here before the job ends */
	stand_in_output(slot, job.id, 2, "warning\n");
	stand_in_output(slot, job.id, 1, "world\n");
	stand_in_finish(slot, job.id, 7, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_OK);
	assert_string_equal(caller.output[0], "hello, world\n");
	assert_string_equal(caller.output[1], "warning\n");
	assert_string_equal(caller.stdout_raw, "hello, world\n");
	assert_int_equal(caller.exit_code, 7);
	assert_int_equal(caller.positions_count, 0);
	wait_for((struct gauges){ .slots = 1 });
}

static void success_is_cached_and_only_where_it_holds(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL), *other = gateway_thread_client(gateway, "token-a");
	struct digest failing = action_upload(client, "false", NULL), action = action_upload(client, "true", NULL);
	struct caller caller;

	run(client, &failing, 1, "no\n", 1);
	run(client, &failing, 1, "no\n", 1);     /* so it was not cached */
	run(client, &action, 1, "yes\n", 0);
	caller = hit(client, &action, 1);
	assert_string_equal(caller.stdout_raw, "yes\n");
	caller = hit(second, &action, 1);
	assert_string_equal(caller.stdout_raw, "yes\n");
	run(client, &action, 2, "other\n", 0);   /* another environment */
	caller = hit(client, &action, 2);
	assert_string_equal(caller.stdout_raw, "other\n");
	caller = hit(client, &action, 1);
	assert_string_equal(caller.stdout_raw, "yes\n");
	action_upload(other, "true", NULL);      /* the same digest, another tenant */
	run(other, &action, 1, "theirs\n", 0);
	client_close(second);
	client_close(other);
}

static struct client_call *result_ask(struct client *from, const struct digest *action, const char *instance)
{
	struct reapi_get_result_request request = { .instance_name = span_text(instance), .action_digest = *action };
	struct buffer bytes = buffer_heap(512);
	struct client_call *call;

	message_encode(&reapi_get_result_request_type, &bytes, &request);
	assert_int_equal(client_call_open(&call, from, REAPI_GET_RESULT, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&bytes), 0), CLIENT_OK);
	client_send_end(call);
	buffer_fini(&bytes);
	flush(from);
	return call;
}

/* What it says on stdout; NULL: there is none. */
static void result_expect(struct client_call *call, const char *output)
{
	struct reapi_action_result result;
	struct span message;
	const char *text;
	int r = client_receive(call, &message, UINT64_MAX);

	if (output) {
		assert_int_equal(r, CLIENT_OK);
		assert_true(message_decode(&reapi_action_result_type, message, &result));
		assert_true(span_is(result.stdout_raw, output));
	} else {
		assert_int_equal(r, CLIENT_END);
		assert_int_equal(client_call_status(call, &text), GRPC_NOT_FOUND);
	}
	client_call_close(call);
}

/* `environment` 0: the host is not asked. */
static void expect_result(struct client *from, const struct digest *action, uint8_t environment, const char *output)
{
	struct client_call *call = result_ask(from, action, "");

	if (environment)
		stand_in_resolve(control, environment, NULL);
	result_expect(call, output);
}

static void bring_result(const struct digest *action, const char *output)
{
	struct reapi_action_result result = { .stdout_raw = span_text(output) };
	struct buffer bytes = buffer_heap(512), request = buffer_heap(1024);
	struct client_call *call;
	struct span message;

	message_encode(&reapi_action_result_type, &bytes, &result);
	message_encode(&reapi_update_result_request_type, &request,
	               &(struct reapi_update_result_request){ .action_digest = *action, .action_result = buffer_span(&bytes) });
	assert_int_equal(client_call_open(&call, client, REAPI_UPDATE_RESULT, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&request), 0), CLIENT_OK);
	client_send_end(call);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_OK);
	client_call_close(call);
	buffer_fini(&bytes);
	buffer_fini(&request);
}

static void one_key_at_a_time(struct gateway_parts *parts, void *context)
{
	parts->reapi.keys.max = 1;
}

/* A client that looks before it asks for a run, as Bazel does. */
static void what_ran_is_found_by_its_action(void **state)
{
	struct client *other = gateway_thread_client(gateway, "token-a");
	struct digest action = action_upload(client, "look", NULL), failing = action_upload(client, "look and fail", NULL);
	struct digest unshared = action_upload_unshared(client, "look"), nowhere = { .size = 10, .hash = { 7 } };
	struct client_call *call, *calls[3];

	expect_result(client, &nowhere, 0, NULL);
	expect_result(client, &action, 1, NULL);
	run(client, &action, 1, "yes\n", 0);
	expect_result(client, &action, 1, "yes\n");
	expect_result(client, &action, 2, NULL); /* another image stands behind the name now */
	run(client, &action, 2, "other\n", 0);
	expect_result(client, &action, 2, "other\n");
	expect_result(client, &action, 1, "yes\n");
	call = result_ask(client, &action, "");
	stand_in_resolve(control, 1, "no image of that name");
	result_expect(call, NULL);
	/* Other instances have no such Action, and another tenant its own, of which there is no result. */
	result_expect(result_ask(client, &action, "other"), NULL);
	expect_result(other, &action, 0, NULL);
	action_upload(other, "look", NULL);
	expect_result(other, &action, 1, NULL);
	run(client, &failing, 1, "no\n", 1);
	expect_result(client, &failing, 1, NULL);
	run(client, &unshared, 1, "never\n", 0);
	expect_result(client, &unshared, 0, NULL);
	gateway_thread_call(gateway, one_key_at_a_time, NULL);
	for (int i = 0; i < 3; i++)
		calls[i] = result_ask(client, &action, "");
	for (int i = 0; i < 3; i++)
		stand_in_resolve(control, 1, NULL);
	for (int i = 0; i < 3; i++)
		result_expect(calls[i], "yes\n");
	bring_result(&action, "brought\n");      /* goes first, wherever it ran */
	expect_result(client, &action, 0, "brought\n");
	stand_in_lose(control);
	control = NULL;
	wait_for((struct gauges){ .slots = 1 });
	expect_result(client, &failing, 0, NULL);
	client_close(other);
}

static void short_key_wait(struct gateway_parts *parts, void *context)
{
	parts->reapi.keys.max = 1;
	parts->reapi.key_wait_ns = 50000000;
}

static void usual_key_wait(struct gateway_parts *parts, void *context)
{
	parts->reapi.key_wait_ns = REAPI_KEY_WAIT_NS;
}

static bool host_is_gone(struct gateway_parts *parts, void *context)
{
	char why[256];

	return pool_ready(parts->pool, why, sizeof(why)) != GRPC_OK;
}

/* A host that is there and says nothing: neither who asks it nor who waits behind him waits for ever. */
static void a_silent_host_is_waited_for_so_long(void **state)
{
	struct digest action = action_upload(client, "silence", NULL);
	struct client_call *calls[4];

	run(client, &action, 1, "yes\n", 0);
	gateway_thread_call(gateway, short_key_wait, NULL);
	for (int i = 0; i < 4; i++)
		calls[i] = result_ask(client, &action, "");
	for (int i = 0; i < 4; i++)
		result_expect(calls[i], NULL);
	gateway_thread_call(gateway, usual_key_wait, NULL);
	stand_in_resolve(control, 2, NULL);      /* to nobody any more */
	stand_in_lose(control);
	gateway_thread_until(gateway, host_is_gone, NULL);
	control = stand_in_attach(gateway, 0);   /* that was asked nothing yet */
	expect_result(client, &action, 1, "yes\n");
}

static bool nobody_waits_behind(struct gateway_parts *parts, void *context)
{
	return list_empty(&parts->reapi.keys.waiting);
}

static bool one_waits_behind(struct gateway_parts *parts, void *context)
{
	return !nobody_waits_behind(parts, context);
}

static void count_connections(struct gateway_parts *parts, void *context)
{
	struct server_status status;

	server_status(parts->server, &status);
	*(uint64_t *)context = status.connections;
}

static bool one_has_left(struct gateway_parts *parts, void *context)
{
	uint64_t now;

	count_connections(parts, &now);
	return now < *(const uint64_t *)context;
}

/* Who waits for his turn and goes away is not asked for: the host would be asked once more, by nobody. */
static void who_has_left_takes_no_turn(void **state)
{
	struct client *lazy = gateway_thread_client(gateway, NULL);
	struct digest action = action_upload(client, "leave", NULL);
	struct client_call *first, *left;
	uint64_t connections;

	run(client, &action, 1, "yes\n", 0);
	gateway_thread_call(gateway, one_key_at_a_time, NULL);
	first = result_ask(client, &action, "");
	left = result_ask(lazy, &action, "");
	gateway_thread_until(gateway, one_waits_behind, NULL);
	gateway_thread_call(gateway, count_connections, &connections);
	client_call_close(left);
	client_close(lazy);
	gateway_thread_until(gateway, one_has_left, &connections);
	stand_in_resolve(control, 1, NULL);
	result_expect(first, "yes\n");
	gateway_thread_until(gateway, nobody_waits_behind, NULL);
	expect_result(client, &action, 1, "yes\n");
}

/* The index fails for look-ups of `broken`; it is the gateway's thread that sets it and looks. */
static struct digest broken;
static struct index_engine index_breaking;

static void breaking_get(struct index *index, struct index_get *get)
{
	if (get->table == INDEX_BLOBS && memcmp(get->keys, broken.hash, sizeof(broken.hash)) == 0) {
		get->result = -EIO;
		get->fn(get);
	} else {
		index_lmdb.get(index, get);
	}
}

static void break_index(struct gateway_parts *parts, void *context)
{
	broken = *(const struct digest *)context;
}

static int setup_breaking(void **state)
{
	broken = (struct digest){ 0 };
	index_breaking = index_lmdb;
	index_breaking.get = breaking_get;
	return setup_with(0, &index_breaking);
}

static void expect_failure(const struct digest *action, struct digest unreadable)
{
	struct client_call *call;
	struct span message;
	const char *text;

	gateway_thread_call(gateway, break_index, &unreadable);
	call = result_ask(client, action, "");
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_UNAVAILABLE);
	assert_non_null(strstr(text, "disk"));
	client_call_close(call);
	gateway_thread_call(gateway, break_index, &(struct digest){ 0 });
}

/* A disk that fails is no answer to whether there is a result. */
static void a_failure_of_the_store_is_no_miss(void **state)
{
	struct digest action = action_upload(client, "read", NULL);
	struct reapi_action_result brought = { .stdout_raw = span_text("brought\n") };
	uint8_t storage[512];
	struct buffer command = buffer_over(storage, 256), result = buffer_over(storage + 256, 256);

	pb_put_bytes_always(&command, 1, span_text("read"));
	message_encode(&reapi_action_result_type, &result, &brought);
	run(client, &action, 1, "yes\n", 0);
	expect_failure(&action, action);
	expect_failure(&action, digest_of(buffer_span(&command)));
	expect_result(client, &action, 1, "yes\n");
	bring_result(&action, "brought\n");
	expect_failure(&action, digest_of(buffer_span(&result)));
	expect_result(client, &action, 0, "brought\n");
}

static int check_blob(void *context, size_t index, struct span blob)
{
	assert_int_equal(blob.size, 5000);
	assert_int_equal(blob.data[0], 'x');
	return 0;
}

static void long_output_is_a_blob(void **state)
{
	struct digest action = action_upload(client, "long", NULL);
	struct download *download;
	struct caller caller;
	char text[5001], why[512];

	memset(text, 'x', 5000);
	text[5000] = 0;
	caller = run(client, &action, 1, text, 0);
	assert_string_equal(caller.stdout_raw, "");
	assert_int_equal(caller.stdout_digest.size, 5000);
	caller = hit(client, &action, 1);
	assert_int_equal(caller.stdout_digest.size, 5000);
	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	assert_int_equal(download_source(download)->fetch(download_source(download), &caller.stdout_digest, 1, check_blob, NULL,
	                                                  why, sizeof(why)), 0);
	download_destroy(download);
}

/* The executor names a tree that nobody has; and a result names output that nobody has. */
static void a_result_whose_output_is_gone_is_no_hit(void **state)
{
	struct digest action = action_upload(client, "tree", NULL), nowhere = { .size = 99, .hash = { 5 } };
	struct small_tree tree;

	for (int i = 0; i < 2; i++) {
		struct caller caller = caller_ask(client, &action);
		struct assignment job;

		stand_in_resolve(control, 1, NULL);
		job = stand_in_take(slot);
		stand_in_finish(slot, job.id, 0, &nowhere);
		caller_finish(&caller);
		assert_true(caller.done && !caller.cached);
		assert_true(digest_equal(&caller.changes, &nowhere));
		expect_result(client, &action, 1, NULL);
	}
	/* One that is there is a hit. */
	small_tree_make(&tree, "changed a", "changed b");
	commit_whole(client, &tree);
	action = action_upload(client, "whole tree", NULL);
	for (int i = 0; i < 2; i++) {
		struct caller caller = caller_ask(client, &action);

		stand_in_resolve(control, 1, NULL);
		if (i == 0)
			stand_in_finish(slot, stand_in_take(slot).id, 0, &tree.digests[3]);
		caller_finish(&caller);
		assert_int_equal(caller.cached, i == 1);
		assert_true(digest_equal(&caller.changes, &tree.digests[3]));
	}
	small_tree_free(&tree);
}

struct forged {
	struct store_note note;
	atomic_bool done;
};

static void on_note(struct store_note *note)
{
	atomic_store(&container_of(note, struct forged, note)->done, true);
}

static void keep_note(struct gateway_parts *parts, void *context)
{
	struct forged *forged = context;

	assert_int_equal(store_scope(parts->store, span_text("default"), span_text(""), SCOPE_ALL, &forged->note.scope), 0);
	forged->note.fn = on_note;
	store_note_put(parts->store, &forged->note);
}

static bool note_is_kept(struct gateway_parts *parts, void *context)
{
	return atomic_load(&((struct forged *)context)->done);
}

/* Also fixes what the key is made of. */
static void a_result_whose_stdout_is_gone_is_no_hit(void **state)
{
	static const char tag[] = "sluice action cache 1";
	struct digest action = action_upload(client, "stdout", NULL), result_digest;
	struct reapi_action_result result = { .stdout_digest = { .size = 9000, .hash = { 3 } } };
	struct buffer bytes = buffer_heap(4096), value;
	struct forged forged = { .note.key_size = 32 };
	uint8_t key[sizeof(tag) + 64];
	enum grpc_status status;
	struct span blob;
	char why[512];

	memcpy(key, tag, sizeof(tag));
	memcpy(key + sizeof(tag), action.hash, 32);
	memset(key + sizeof(tag) + 32, 1, 32);
	sha256_once(key, sizeof(key), forged.note.key);
	for (int i = 0; i < 2; i++) {
		result.stdout_digest = i ? (struct digest){ 0 } : (struct digest){ .size = 9000, .hash = { 3 } };
		result.stdout_raw = span_text(i ? "forged" : "");
		buffer_clear(&bytes);
		message_encode(&reapi_action_result_type, &bytes, &result);
		blob = buffer_span(&bytes);
		assert_int_equal(upload_blobs(client, &blob, &result_digest, 1, &status, why, sizeof(why)), UPLOAD_OK);
		value = buffer_over(forged.note.value, sizeof(forged.note.value));
		digest_list_put(&value, &result_digest);
		forged.note.value_size = value.size;
		atomic_store(&forged.done, false);
		gateway_thread_call(gateway, keep_note, &forged);
		gateway_thread_until(gateway, note_is_kept, &forged);
		if (i == 0)
			run(client, &action, 1, "real\n", 0);
		else
			assert_string_equal(hit(client, &action, 1).stdout_raw, "forged");
	}
	buffer_fini(&bytes);
}

static void the_executor_may_refuse(void **state)
{
	struct digest action = action_upload(client, "refuse", NULL);
	struct caller caller = caller_ask(client, &action);
	struct assignment job;

	stand_in_resolve(control, 1, "no image \"x\" here");
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_string_equal(caller.why, "no image \"x\" here");
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	stand_in_refuse(slot, job.id, GRPC_DEADLINE_EXCEEDED, "ran longer");
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(caller.why, "ran longer");
	wait_for((struct gauges){ .slots = 1 });
}

static void a_slot_may_die_at_any_moment(void **state)
{
	struct digest action = action_upload(client, "die", NULL);

	for (int when = 0; when < 2; when++) {
		struct caller caller = caller_ask(client, &action);

		stand_in_resolve(control, 1, NULL);
		if (when == 1)
			stand_in_output(slot, stand_in_take(slot).id, 1, "so far\n");
		else
			caller_until_started(&caller);   /* given out; the slot has said nothing yet */
		stand_in_lose(slot);
		slot = NULL;
		caller_finish(&caller);
		assert_int_equal(caller.status, GRPC_UNAVAILABLE);
		assert_non_null(strstr(caller.why, "died under the action"));
		wait_for((struct gauges){ .lost = 1 + (uint64_t)when });
		slot = stand_in_attach(gateway, 1);
	}
	run(client, &action, 1, "at last\n", 0);
}

static void who_waits_is_told_when_the_host_dies(void **state)
{
	struct digest actions[2] = { action_upload(client, "waits", NULL), action_upload(client, "resolves", NULL) };
	struct caller waiting, resolving;

	stand_in_lose(slot);
	slot = NULL;
	wait_for((struct gauges){ 0 });
	waiting = caller_ask(client, &actions[0]);
	stand_in_resolve(control, 1, NULL);
	caller_until_position(&waiting, 1);
	resolving = caller_ask(client, &actions[1]);
	wait_for((struct gauges){ .queued = 1, .open = 2 });
	stand_in_lose(control);
	control = NULL;
	caller_finish(&waiting);
	assert_int_equal(waiting.status, GRPC_UNAVAILABLE);
	assert_non_null(strstr(waiting.why, "host was lost"));
	caller_finish(&resolving);
	assert_int_equal(resolving.status, GRPC_UNAVAILABLE);
	resolving = caller_ask(client, &actions[1]);
	caller_finish(&resolving);
	assert_int_equal(resolving.status, GRPC_UNAVAILABLE);
	assert_non_null(strstr(resolving.why, "not connected"));
	wait_for((struct gauges){ .lost = 1 });
	control = stand_in_attach(gateway, 0);
	slot = stand_in_attach(gateway, 1);
	run(client, &actions[0], 1, "again\n", 0);
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
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = 1, .open = 3 });
	caller_leave(&resolving);
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = 1, .open = 2 });
	caller_leave(&waiting);
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = 0, .open = 1 });
	caller_leave(&running);
	assert_int_equal(stand_in_take_cancel(slot), job.id);
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = 0, .open = 1 });
	stand_in_output(slot, job.id, 1, "too late\n");
	stand_in_finish(slot, job.id, 137, NULL);
	wait_for((struct gauges){ .slots = 1 });
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
	stand_in_finish(slot, jobs[0].id, 0, NULL);
	caller_finish(&two);
	assert_true(two.done && !two.cached);
	assert_string_equal(two.output[0], "before after\n");
	hit(client, &action, 1);
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
	wait_for((struct gauges){ .slots = 2 });
	stand_in_lose(other_slot);
	client_close(second);
}

/* One that may be answered from the cache is under way: who wants a run does not join it. The index answers late. */
static void who_skips_the_cache_gets_a_run(void **state)
{
	struct digest action = action_upload(client, "anew", NULL);
	struct caller one, two, three;
	struct assignment job;

	run(client, &action, 1, "old\n", 0);
	one = caller_ask(client, &action);
	wait_for((struct gauges){ .slots = 1, .open = 1 });
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
	assert_string_equal(hit(client, &action, 1).stdout_raw, "new\n");
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
	wait_for((struct gauges){ .slots = 1 });
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
	wait_for((struct gauges){ .slots = 1 });
}

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
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = POOL_QUEUE_TENANT_MAX, .open = POOL_QUEUE_TENANT_MAX + 1 });
	last = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&last);
	assert_int_equal(last.status, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(last.why, "queue of actions is full"));
	client_close(clients[0]);                /* half of them, the running one too */
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = POOL_QUEUE_TENANT_MAX / 2, .open = POOL_QUEUE_TENANT_MAX / 2 + 1 });
	client_close(clients[1]);
	wait_for((struct gauges){ .slots = 1, .busy = 1, .open = 1 });
	stand_in_finish(slot, stand_in_take(slot).id, 0, NULL);
	wait_for((struct gauges){ .slots = 1 });
	free(callers);
}

/* As long as may be: it must arrive, and the next one too. */
static void a_long_command_breaks_nothing(void **state)
{
	struct buffer command = buffer_heap(EXECUTE_COMMAND_BYTES_MAX);
	struct digest action = action_upload(client, "after", NULL), longest;
	struct assignment job;
	struct caller caller;
	char argument[1000];

	memset(argument, 'l', sizeof(argument));
	while (command.size + sizeof(argument) + 16 < EXECUTE_COMMAND_BYTES_MAX)
		pb_put_bytes(&command, 1, span_make(argument, sizeof(argument)));
	while (command.size + 3 <= EXECUTE_COMMAND_BYTES_MAX)
		pb_put_bytes(&command, 1, span_text("l"));
	longest = action_upload_command(client, buffer_span(&command), NULL);
	caller = caller_ask(client, &longest);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	assert_true(job.arguments_count > 1000);
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	assert_true(caller.done);
	run(client, &action, 1, "fine\n", 0);
	wait_for((struct gauges){ .slots = 1 });
	/* A byte more is refused. */
	pb_put_bytes(&command, 1, span_text("l"));
	buffer_fini(&command);
	command = buffer_heap(2 * EXECUTE_COMMAND_BYTES_MAX);
	while (command.size <= EXECUTE_COMMAND_BYTES_MAX)
		pb_put_bytes(&command, 1, span_make(argument, sizeof(argument)));
	longest = action_upload_command(client, buffer_span(&command), NULL);
	caller = caller_ask(client, &longest);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(caller.why, "longer than 1 MiB"));
	buffer_fini(&command);
}

static void what_is_not_there_is_said(void **state)
{
	struct digest nowhere = { .size = 10, .hash = { 1 } };
	struct span blob = span_text("\x0a\x7f");
	struct caller caller = caller_ask(client, &nowhere);
	struct buffer action = buffer_heap(4096);
	enum grpc_status status;
	struct digest digest;
	char why[512];

	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(caller.why, "Action is not in the store"));
	assert_int_equal(caller.missing_count, 1);
	assert_string_equal(caller.missing, "blobs/0100000000000000000000000000000000000000000000000000000000000000/10");
	assert_int_equal(upload_blobs(client, &blob, &digest, 1, &status, why, sizeof(why)), UPLOAD_OK);
	caller = caller_ask(client, &digest);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
	message_put_digest(&action, 1, &nowhere);
	blob = buffer_span(&action);
	assert_int_equal(upload_blobs(client, &blob, &digest, 1, &status, why, sizeof(why)), UPLOAD_OK);
	caller = caller_ask(client, &digest);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(caller.why, "Command is not in the store"));
	assert_int_equal(caller.missing_count, 1);
	buffer_fini(&action);
	digest = action_upload(client, "inputs", &nowhere);
	caller = caller_ask(client, &digest);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_non_null(strstr(caller.why, "inputs are not all in the store"));
	assert_int_equal(caller.missing_count, 1);
	assert_string_equal(caller.missing, "blobs/0100000000000000000000000000000000000000000000000000000000000000/10");
}

/* An Action whose tree names one file so many times. */
static struct digest action_with_files(const char *argument, const struct digest *file, unsigned count)
{
	struct buffer directory = buffer_heap(4u << 20);
	enum grpc_status status;
	struct digest root;
	struct span blob;
	char name[16], why[512];

	for (unsigned i = 0; i < count; i++) {
		size_t mark = pb_begin(&directory, 1);

		snprintf(name, sizeof(name), "%06u", i);
		pb_put_text(&directory, 1, name);
		message_put_digest(&directory, 2, file);
		pb_end(&directory, mark);
	}
	blob = buffer_span(&directory);
	assert_int_equal(upload_blobs(client, &blob, &root, 1, &status, why, sizeof(why)), UPLOAD_OK);
	buffer_fini(&directory);
	return action_upload(client, argument, &root);
}

/* Inputs of more than a record are looked for as pairs, so many of them; with more it is said what is too much. */
static void long_inputs_have_a_bound(void **state)
{
	enum { BYTES = 5 << 20 };
	struct digest file = { .size = BYTES }, action;
	uint8_t *data = calloc(1, BYTES);
	int fd = memfd_create("long", 0);
	enum grpc_status status;
	struct caller caller;
	char why[512];

	sha256_once(data, BYTES, file.hash);
	assert_int_equal(write(fd, data, BYTES), BYTES);
	action = action_with_files("long and missing", &file, 2);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_FAILED_PRECONDITION);
	assert_true(caller.missing_count > 0);
	assert_int_equal(whole_blob_write(client, &file, fd, &status, why, sizeof(why)), 0);
	run(client, &action, 1, "long\n", 0);
	action = action_with_files("too many long ones", &file, CLOSURE_MISSING_MAX + 1);
	caller = caller_ask(client, &action);
	stand_in_resolve(control, 1, NULL);
	caller_finish(&caller);
	assert_int_equal(caller.status, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(caller.why, "more than 16384 inputs"));
	close(fd);
	free(data);
}

/* ---- a caller that does not read ---- */

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
	wait_for((struct gauges){ .slots = 1 });
	stand_in_lose(flooding);
	return NULL;
}

/* The slot is the flood's from now on. */
static void flood_start(struct flood *flood)
{
	stand_in_lose(slot);
	wait_for((struct gauges){ 0 });
	assert_int_equal(pthread_create(&flood->thread, NULL, flood_run, flood), 0);
	wait_for((struct gauges){ .slots = 1 });
}

static void flood_join(struct flood *flood)
{
	pthread_join(flood->thread, NULL);
	wait_for((struct gauges){ 0 });
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
	run(client, &action, 1, "short\n", 0);
	hit(client, &action, 1);
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
	run(client, &action, 1, "next\n", 0);
}

/* ---- the end ---- */

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
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = 1, .open = 3 });
	gateway_thread_drain(gateway);
	stand_in_resolve(control, 1, NULL);      /* it is still asked, and its answer taken */
	wait_for((struct gauges){ .slots = 1, .busy = 1, .queued = 2, .open = 3 });
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

/* ---- whom the executor acts for ---- */

static void an_executor_has_the_scope_of_its_job(void **state)
{
	struct client *other = gateway_thread_client(gateway, "token-a");
	struct digest action = action_upload(other, "scope", NULL);
	struct small_tree tree;
	struct assignment job;
	struct caller caller;
	struct push_response response;
	struct client_call *call;
	struct buffer request;

	small_tree_make(&tree, "scope a", "scope b");
	commit_whole(other, &tree);
	expect_status(slot->client, request_list(2, tree.digests, 4, false), GRPC_PERMISSION_DENIED, "no assignment");
	caller = caller_ask(other, &action);
	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	call = push_open(slot->client);
	request = request_list(2, tree.digests, 4, false);
	assert_true(ask(call, &request, &response));
	for (size_t i = 0; i < 4; i++)
		assert_true(answered_bit(&response, i));
	client_call_close(call);
	expect_status(control->client, request_list(2, tree.digests, 4, false), GRPC_PERMISSION_DENIED, "no assignment");
	stand_in_finish(slot, job.id, 0, NULL);
	caller_finish(&caller);
	expect_status(slot->client, request_list(2, tree.digests, 4, false), GRPC_PERMISSION_DENIED, "no assignment");
	client_close(other);
	small_tree_free(&tree);
}

static void an_odd_hello_is_refused(void **state)
{
	struct client *stranger = gateway_thread_client(gateway, NULL);
	struct digest action = action_upload(client, "odd", NULL);
	static const struct executor_hello hellos[] = { { .slot = 0, .slots = 1 }, { .slot = POOL_SLOTS_MAX + 1 } };

	for (size_t i = 0; i < 2; i++) {
		struct buffer bytes = buffer_heap(256);
		struct client_call *call;
		struct span message;
		const char *text;

		message_nest(&executor_hello_type, &bytes, 1, &hellos[i]);
		assert_int_equal(client_call_open(&call, stranger, SLUICE_ATTACH, NULL, 0), 0);
		assert_int_equal(client_send(call, buffer_span(&bytes), 0), CLIENT_OK);
		assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
		assert_int_equal(client_call_status(call, &text), GRPC_INVALID_ARGUMENT);
		client_call_close(call);
		buffer_fini(&bytes);
	}
	client_close(stranger);
	run(client, &action, 1, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(output_comes_and_then_the_result, setup, teardown),
		cmocka_unit_test_setup_teardown(success_is_cached_and_only_where_it_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(what_ran_is_found_by_its_action, setup, teardown),
		cmocka_unit_test_setup_teardown(a_silent_host_is_waited_for_so_long, setup, teardown),
		cmocka_unit_test_setup_teardown(who_has_left_takes_no_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failure_of_the_store_is_no_miss, setup_breaking, teardown),
		cmocka_unit_test_setup_teardown(long_output_is_a_blob, setup, teardown),
		cmocka_unit_test_setup_teardown(a_result_whose_output_is_gone_is_no_hit, setup, teardown),
		cmocka_unit_test_setup_teardown(a_result_whose_stdout_is_gone_is_no_hit, setup, teardown),
		cmocka_unit_test_setup_teardown(the_executor_may_refuse, setup, teardown),
		cmocka_unit_test_setup_teardown(a_slot_may_die_at_any_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(who_waits_is_told_when_the_host_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(callers_may_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(two_with_the_same_action_share_it, setup, teardown),
		cmocka_unit_test_setup_teardown(who_skips_the_cache_gets_a_run, setup_late, teardown),
		cmocka_unit_test_setup_teardown(an_operation_is_found_again, setup, teardown),
		cmocka_unit_test_setup_teardown(an_operation_is_cancelled_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(a_broken_connection_leaves_it_for_a_while, setup_lingering, teardown),
		cmocka_unit_test_setup_teardown(positions_are_told_and_told_again, setup, teardown),
		cmocka_unit_test_setup_teardown(tenants_take_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(the_queue_has_an_end, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_command_breaks_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_there_is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(long_inputs_have_a_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(a_caller_that_does_not_read_holds_the_slot, setup, teardown),
		cmocka_unit_test_setup_teardown(a_caller_that_does_not_read_may_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(a_drain_waits_for_what_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(a_drain_sends_idle_executors_home, setup, teardown),
		cmocka_unit_test_setup_teardown(an_executor_has_the_scope_of_its_job, setup, teardown),
		cmocka_unit_test_setup_teardown(an_odd_hello_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
