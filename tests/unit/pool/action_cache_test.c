/*
 * Shows what is answered without a run: a success, for other clients of the tenant too, but not in another environment, for
 * another tenant, or when what it names is gone; failures are not cached, nor what met another environment than it asked for.
 * GetActionResult finds what ran on the same terms, and waits so long for a host that is silent.
 */
#include "chunker/sha256.h"
#include "gateway/context/download.h"
#include "gateway/context/upload.h"
#include "gateway/store/index.h"
#include "proto/pb.h"
#include "proto/reapi_cas.h"
#include "tests/unit/pool/execute_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void success_is_cached_and_only_where_it_holds(void **state)
{
	struct client *second = gateway_thread_client(gateway, NULL), *other = gateway_thread_client(gateway, "token-a");
	struct digest failing = action_upload(client, "false", NULL), action = action_upload(client, "true", NULL);
	struct caller caller;

	rig_run(client, &failing, 1, "no\n", 1);
	rig_run(client, &failing, 1, "no\n", 1);     /* so it was not cached */
	rig_run(client, &action, 1, "yes\n", 0);
	caller = rig_hit(client, &action, 1);
	assert_string_equal(caller.stdout_raw, "yes\n");
	caller = rig_hit(second, &action, 1);
	assert_string_equal(caller.stdout_raw, "yes\n");
	rig_run(client, &action, 2, "other\n", 0);   /* another environment */
	caller = rig_hit(client, &action, 2);
	assert_string_equal(caller.stdout_raw, "other\n");
	caller = rig_hit(client, &action, 1);
	assert_string_equal(caller.stdout_raw, "yes\n");
	action_upload(other, "true", NULL);      /* the same digest, another tenant */
	rig_run(other, &action, 1, "theirs\n", 0);
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

/*
 * While it waits another image comes to stand behind the name, or the host has other packages: who waits gets what ran, and nobody
 * gets it later, in neither environment.
 */
static void what_met_another_environment_is_not_kept(void **state)
{
	static const uint8_t elsewhere[] = { 2, 0 };
	struct caller caller, other;
	struct assignment job;
	char name[16];

	for (int i = 0; i < 2; i++) {
		struct digest action;

		snprintf(name, sizeof(name), "elsewhere %d", i);
		action = action_upload(client, name, NULL);
		caller = caller_ask(client, &action);
		stand_in_resolve(control, 1, NULL);
		job = stand_in_take(slot);
		other = caller_ask(client, &action);
		stand_in_resolve(control, 1, NULL);
		caller_until_started(&other);
		stand_in_output(slot, job.id, 1, "elsewhere\n");
		stand_in_finish_in(slot, job.id, elsewhere[i]);
		caller_finish(&caller);
		caller_finish(&other);
		assert_true(caller.done && !caller.cached && other.done);
		assert_string_equal(caller.stdout_raw, "elsewhere\n");
		expect_result(client, &action, 1, NULL);
		expect_result(client, &action, 2, NULL);
		rig_run(client, &action, 2, "second\n", 0);
		rig_run(client, &action, 1, "first\n", 0);
		assert_string_equal(rig_hit(client, &action, 2).stdout_raw, "second\n");
		assert_string_equal(rig_hit(client, &action, 1).stdout_raw, "first\n");
	}
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

/* Who doubts a result that somebody brought asks for a run, or joins one: that one's counts from then on. One that fails does not. */
static void a_run_replaces_what_was_brought(void **state)
{
	struct digest action = action_upload(client, "doubt", NULL);
	struct caller one, two;
	struct assignment job;

	for (int i = 0; i < 3; i++) {
		bring_result(&action, "brought\n");
		expect_result(client, &action, 0, "brought\n");
		one = i == 1 ? caller_ask_anew(client, &action) : caller_ask(client, &action);
		stand_in_resolve(control, 1 + (uint8_t)i, NULL);
		job = stand_in_take(slot);
		if (i == 2) {
			two = caller_ask_anew(client, &action);
			stand_in_resolve(control, 1 + (uint8_t)i, NULL);
			caller_until_started(&two);
		}
		stand_in_output(slot, job.id, 1, "ran\n");
		stand_in_finish(slot, job.id, 0, NULL);
		caller_finish(&one);
		assert_true(one.done && !one.cached);
		if (i == 2)
			caller_finish(&two);
		if (i == 0)
			expect_result(client, &action, 0, "brought\n");
		else
			expect_result(client, &action, 1 + (uint8_t)i, "ran\n");
	}
	bring_result(&action, "brought\n");
	one = caller_ask_anew(client, &action);
	stand_in_resolve(control, 1, NULL);
	stand_in_finish(slot, stand_in_take(slot).id, 1, NULL);
	caller_finish(&one);
	expect_result(client, &action, 0, "brought\n");
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
	rig_run(client, &action, 1, "yes\n", 0);
	expect_result(client, &action, 1, "yes\n");
	expect_result(client, &action, 2, NULL); /* another image stands behind the name now */
	rig_run(client, &action, 2, "other\n", 0);
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
	rig_run(client, &failing, 1, "no\n", 1);
	expect_result(client, &failing, 1, NULL);
	rig_run(client, &unshared, 1, "never\n", 0);
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
	rig_until((struct gauges){ .slots = 1 });
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

	rig_run(client, &action, 1, "yes\n", 0);
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

static bool one_is_asked_for(struct gateway_parts *parts, void *context)
{
	return parts->reapi.keys.busy == 1;
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

	rig_run(client, &action, 1, "yes\n", 0);
	gateway_thread_call(gateway, one_key_at_a_time, NULL);
	first = result_ask(client, &action, "");
	gateway_thread_until(gateway, one_is_asked_for, NULL);   /* of two connections nothing says which comes first */
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
	return rig_setup_with(0, &index_breaking);
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
	rig_run(client, &action, 1, "yes\n", 0);
	expect_failure(&action, action);
	expect_failure(&action, digest_of(buffer_span(&command)));
	expect_result(client, &action, 1, "yes\n");
	bring_result(&action, "brought\n");
	expect_failure(&action, digest_of(buffer_span(&result)));
	expect_result(client, &action, 0, "brought\n");
}

static int check_blob(void *context, size_t index, struct span blob)
{
	assert_int_equal(blob.size, *(const uint64_t *)context);
	assert_int_equal(blob.data[0], 'x');
	return 0;
}

static void output_is_there(struct digest digest)
{
	struct download *download;
	char why[512];

	assert_int_equal(download_create(&download, client, why, sizeof(why)), 0);
	assert_int_equal(download_source(download)->fetch(download_source(download), &digest, 1, check_blob, &digest.size, why,
	                                                  sizeof(why)), 0);
	download_destroy(download);
}

/* For who looks at digests alone; what there is none of has none. */
static void short_output_is_a_blob_too(void **state)
{
	struct digest action = action_upload(client, "short", NULL);
	struct caller caller = caller_ask(client, &action);
	struct assignment job;

	stand_in_resolve(control, 1, NULL);
	job = stand_in_take(slot);
	stand_in_output(slot, job.id, 2, "x: error\n");
	stand_in_finish(slot, job.id, 1, NULL);
	caller_finish(&caller);
	assert_string_equal(caller.stderr_raw, "x: error\n");
	assert_int_equal(caller.stderr_digest.size, 9);
	assert_int_equal(caller.stdout_digest.size, 0);
	output_is_there(caller.stderr_digest);
	rig_run(client, &action, 1, "x", 0);
	caller = rig_hit(client, &action, 1);
	assert_string_equal(caller.stdout_raw, "x");
	assert_int_equal(caller.stdout_digest.size, 1);
	output_is_there(caller.stdout_digest);
}

static void long_output_is_a_blob(void **state)
{
	struct digest action = action_upload(client, "long", NULL);
	struct caller caller;
	char text[5001];

	memset(text, 'x', 5000);
	text[5000] = 0;
	caller = rig_run(client, &action, 1, text, 0);
	assert_string_equal(caller.stdout_raw, "");
	assert_int_equal(caller.stdout_digest.size, 5000);
	caller = rig_hit(client, &action, 1);
	assert_int_equal(caller.stdout_digest.size, 5000);
	output_is_there(caller.stdout_digest);
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
			rig_run(client, &action, 1, "real\n", 0);
		else
			assert_string_equal(rig_hit(client, &action, 1).stdout_raw, "forged");
	}
	buffer_fini(&bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(success_is_cached_and_only_where_it_holds, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(what_met_another_environment_is_not_kept, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(what_ran_is_found_by_its_action, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_run_replaces_what_was_brought, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_silent_host_is_waited_for_so_long, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(who_has_left_takes_no_turn, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_failure_of_the_store_is_no_miss, setup_breaking, rig_teardown),
		cmocka_unit_test_setup_teardown(short_output_is_a_blob_too, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(long_output_is_a_blob, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_result_whose_output_is_gone_is_no_hit, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_result_whose_stdout_is_gone_is_no_hit, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
