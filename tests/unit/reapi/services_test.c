/*
 * Shows what is said to be served and is, and to whom: capabilities, the services that reflection lists, no digest function but
 * SHA-256; that instances and rights are kept apart, and that a question makes no instance; that a request that does not come ends,
 * as does an answer that nobody takes, whatever it is of; and that a tenant leaves room for others. With an index that answers late
 * when started with "late".
 */
#include "tests/unit/reapi/blobs_rig.h"

#include <errno.h>
#include <string.h>

#include "gateway/reapi/asking.h"
#include "gateway/reapi/callers.h"
#include "gateway/reapi/sending.h"
#include "proto/pb.h"

/* Of CacheCapabilities, by their numbers: values, and lengths of messages. */
static void ask_capabilities(struct client *from, uint64_t seen[static 16])
{
	struct answer answer = ask_method(from, REAPI_CAPABILITIES, buffer_heap(1));
	struct pb_reader reader = pb_reader_make(buffer_span(&answer.body));
	struct pb_field field;

	assert_int_equal(answer.status, GRPC_OK);
	while (pb_next(&reader, &field)) {
		struct pb_reader cache = pb_enter(&reader, &field);
		struct pb_field inner;

		if (field.number != 1)
			continue;
		while (pb_next(&cache, &inner))
			if (inner.number < 16)
				seen[inner.number] = inner.wire == PB_VARINT ? inner.value : inner.bytes.size;
	}
	answer_fini(&answer);
}

static void capabilities_say_what_there_is(void **state)
{
	uint64_t seen[16] = { 0 };
	struct answer answer;

	ask_capabilities(client, seen);
	assert_int_equal(seen[1], REAPI_SHA256);
	assert_int_equal(seen[4], REAPI_BATCH_ADVERTISED);
	assert_int_equal(seen[6], REAPI_ZSTD);
	assert_true(seen[9] && seen[10]);
	assert_int_equal(seen[11], 4);           /* 1: 524288 */
	/* Nothing runs actions here, and nobody is told so. */
	answer = ask_method(client, GRPC_HEALTH, buffer_heap(1));
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
}

/* A client that is told so brings results, each behind its blobs: it takes the right to either. */
static void who_may_bring_results_is_told(void **state)
{
	static const struct {
		const char *token;
		bool may;
	} callers[] = { { NULL, true }, { "reader", false }, { "writer", false }, { "committer", false }, { "keeper", true } };

	for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++) {
		struct client *caller = gateway_thread_client(gateway, callers[i].token);
		uint64_t seen[16] = { 0 };

		ask_capabilities(caller, seen);
		assert_int_equal(seen[2], callers[i].may ? 2 : 0);       /* 1: true */
		client_close(caller);
	}
}

static void only_sha256_is_served(void **state)
{
	struct buffer request = request_find(&digest_empty, 1, "");

	pb_put_varint(&request, 3, 9);           /* BLAKE3 */
	ask_refused(client, REAPI_FIND_MISSING, request, GRPC_INVALID_ARGUMENT, "SHA-256");
	assert_int_equal(find_missing(client, &digest_empty, 1), 0);
}

static void instances_and_rights_are_kept_apart(void **state)
{
	struct client *reader = gateway_thread_client(gateway, "reader"), *writer = gateway_thread_client(gateway, "writer");
	struct span blob = span_text("whose is it");
	struct digest digest = digest_made(blob);
	struct buffer request = buffer_heap(4096);
	struct answer answer;

	send_blob(writer, blob);
	assert_int_equal(find_missing(reader, &digest, 1), 0);
	assert_int_equal(find_missing(client, &digest, 1), 1);           /* another tenant */
	answer = ask_method(writer, REAPI_FIND_MISSING, request_find(&digest, 1, "team/a"));
	assert_int_equal(answer.status, GRPC_OK);
	assert_true(answer.body.size > 0);
	answer_fini(&answer);
	ask_refused(reader, REAPI_BATCH_UPDATE, request_update(&digest, &blob, 1, false), GRPC_PERMISSION_DENIED, "write");
	message_put_digest(&request, 2, &digest);
	ask_refused(writer, REAPI_UPDATE_RESULT, request, GRPC_PERMISSION_DENIED, "commit");
	client_close(reader);
	client_close(writer);
}

static void find_name(struct gateway_parts *parts, void *context)
{
	struct scope scope;

	*(int *)context = store_scope_find(parts->store, span_text("default"), span_text("asked/only"), SCOPE_ALL, &scope);
}

/* The store keeps names for ever, and so many: one that is only asked for is none. Nothing is there, but what is everywhere. */
static void a_question_makes_no_instance(void **state)
{
	static const char *const paths[] = { REAPI_GET_RESULT, REAPI_SPLIT, REAPI_GET_TREE };
	struct digest digests[2] = { digest_empty, digest_made(span_text("nowhere")) };
	struct reapi_find_missing_request missing;       /* the response's field has the same number */
	char name[256] = "asked/only/";
	struct message_cursor cursor = { 0 };
	struct digest named;
	struct span element;
	enum grpc_status status;
	struct answer answer;
	struct buffer got, request;
	bool complete;
	int found;

	answer = ask_method(client, REAPI_FIND_MISSING, request_find(digests, 2, "asked/only"));
	assert_int_equal(answer.status, GRPC_OK);
	assert_true(message_decode(&reapi_find_missing_request_type, buffer_span(&answer.body), &missing));
	assert_int_equal(missing.blob_digests.count, 1);
	assert_true(message_list_next(&missing.blob_digests, &cursor, &element) && message_digest(element, &named));
	assert_true(digest_equal(&named, &digests[1]));
	answer_fini(&answer);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		request = buffer_heap(4096);
		pb_put_text(&request, 1, "asked/only");
		message_put_digest(&request, 2, &digests[1]);
		ask_refused(client, paths[i], request, GRPC_NOT_FOUND, "");
	}
	/* What is everywhere is there, too; of a batch each is told by itself. */
	request = buffer_heap(4096);
	pb_put_text(&request, 1, "asked/only");
	message_put_digest(&request, 2, &digests[0]);
	message_put_digest(&request, 2, &digests[1]);
	answer = ask_method(client, REAPI_BATCH_READ, request);
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	resource_name(name + strlen(name), sizeof(name) - strlen(name), NULL, false, &digests[0]);
	got = read_all(client, name, 0, 0, &status);
	assert_int_equal(status, GRPC_OK);
	assert_int_equal(got.size, 0);
	buffer_fini(&got);
	name[strlen("asked/only/")] = 0;
	resource_name(name + strlen(name), sizeof(name) - strlen(name), NULL, false, &digests[1]);
	got = read_all(client, name, 0, 0, &status);
	assert_int_equal(status, GRPC_NOT_FOUND);
	buffer_fini(&got);
	name[strlen("asked/only/")] = 0;
	resource_name(name + strlen(name), sizeof(name) - strlen(name), "w", false, &digests[1]);
	assert_int_equal(query_committed(client, name, &complete), 0);
	assert_false(complete);
	gateway_thread_call(gateway, find_name, &found);
	assert_int_equal(found, -ENOENT);
}

static void services_are_listed(void **state)
{
	const char *const paths[] = { GRPC_REFLECTION, GRPC_REFLECTION_ALPHA };

	for (int i = 0; i < 2; i++) {
		struct buffer request = buffer_heap(100);
		struct answer answer;

		pb_put_bytes_always(&request, 7, span_text("*"));
		answer = ask_method(client, paths[i], request);
		assert_int_equal(answer.status, GRPC_OK);
		assert_non_null(memmem(answer.body.data, answer.body.size, "google.bytestream.ByteStream", 28));
		answer_fini(&answer);
	}
}

static bool all_are_awaited(struct gateway_parts *parts, void *context)
{
	unsigned count = 0;

	list_for_each(link, &parts->reapi.askings)
		count += container_of(link, struct asking, link)->call->bytes_received == *(size_t *)context;
	return count == 1;
}

static void almost_a_minute_passes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	askings_sweep(&parts->reapi, now);       /* what has come until now is seen here */
	askings_sweep(&parts->reapi, now + REAPI_WRITE_IDLE_NS - 30000000000u);
}

static void a_minute_passes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	askings_sweep(&parts->reapi, now);
	askings_sweep(&parts->reapi, now + REAPI_WRITE_IDLE_NS);
}

static void ten_seconds_pass(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	askings_sweep(&parts->reapi, now);
	parts->reapi.crowded_ns = now + 1;       /* they still are */
	askings_sweep(&parts->reapi, now + REAPI_CROWDED_NS);
	parts->reapi.crowded_ns = 0;
}

static void others_come(struct gateway_parts *parts, void *context)
{
	parts->reapi.open += *(unsigned *)context;
}

struct half {
	struct call call;
	bool closed;
	enum grpc_status status;
};

static void half_on_message(struct call *call, struct span message)
{
}

static void half_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct half *half = call->owner;

	half->closed = true;
	half->status = status;
}

/* What has come of it is in memory. */
static void requests_that_do_not_come_end(void **state)
{
	static const char *const paths[] = { REAPI_FIND_MISSING, REAPI_BATCH_UPDATE, REAPI_CAPABILITIES, REAPI_GET_TREE, BYTESTREAM_READ,
	                                     BYTESTREAM_QUERY, GRPC_REFLECTION };
	static const struct call_events events = { .on_message = half_on_message, .on_closed = half_on_closed };
	unsigned more = REAPI_CALLS_MAX - 1, fewer = 0u - more;
	struct half half = { 0 };
	struct client_call *call;
	struct span message;
	size_t received = 0;
	const char *text;

	gateway_thread_until(gateway, blobs_are_idle, NULL);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		assert_int_equal(client_call_open(&call, client, paths[i], NULL, 0), 0);
		client_run_until(client, gateway, all_are_awaited, &received);
		gateway_thread_call(gateway, almost_a_minute_passes, NULL);
		client_run_until(client, gateway, all_are_awaited, &received);
		gateway_thread_call(gateway, a_minute_passes, NULL);
		assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
		assert_int_equal(client_call_status(call, &text), GRPC_DEADLINE_EXCEEDED);
		assert_non_null(strstr(text, "did not come"));
		client_call_close(call);
		gateway_thread_until(gateway, blobs_are_idle, NULL);
	}
	assert_int_equal(client_call_start(client, &half.call, REAPI_FIND_MISSING, 1000, &events, &half), 0);
	assert_int_equal(call_send_begin(&half.call, 1u << 20), CALL_SENT);
	call_send_more(&half.call, span_text("only the beginning"));
	received = 5 + strlen("only the beginning");
	client_run_until(client, gateway, all_are_awaited, &received);
	gateway_thread_call(gateway, a_minute_passes, NULL);
	for (int tries = 0; !half.closed; tries++) {
		assert_true(tries < 20000);
		client_wait(client, NULL, 0, NULL, 1000000);
	}
	assert_int_equal(half.status, GRPC_DEADLINE_EXCEEDED);
	call_fini(&half.call);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	/* Others are refused: it has to be quicker. */
	received = 0;
	gateway_thread_call(gateway, others_come, &more);
	assert_int_equal(client_call_open(&call, client, REAPI_FIND_MISSING, NULL, 0), 0);
	client_run_until(client, gateway, all_are_awaited, &received);
	ask_refused(client, REAPI_CAPABILITIES, buffer_heap(1), GRPC_RESOURCE_EXHAUSTED, "too many calls");
	gateway_thread_call(gateway, ten_seconds_pass, NULL);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &text), GRPC_DEADLINE_EXCEEDED);
	client_call_close(call);
	gateway_thread_call(gateway, others_come, &fewer);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
}

static struct quota_place tenants_calls[REAPI_TENANT_CALLS_MAX];

static void a_tenant_comes(struct gateway_parts *parts, void *context)
{
	static const struct access_caller acme = { .identity = { .tenant = "acme" } };

	for (size_t i = 0; i < REAPI_TENANT_CALLS_MAX; i++)
		callers_open(&parts->reapi, callers_tenant(&acme), &tenants_calls[i]);
}

static void it_leaves(struct gateway_parts *parts, void *context)
{
	for (size_t i = 0; i < REAPI_TENANT_CALLS_MAX; i++)
		callers_close(&parts->reapi, &tenants_calls[i]);
	assert_true(list_empty(&parts->reapi.callers.tenants));
}

/* Whatever it asks for, and whoever asks; others get their answers. */
static void a_tenant_leaves_room_for_others(void **state)
{
	static const char *const paths[] = { REAPI_FIND_MISSING, REAPI_GET_TREE, BYTESTREAM_READ, BYTESTREAM_WRITE };
	struct client *reader = gateway_thread_client(gateway, "reader"), *writer = gateway_thread_client(gateway, "writer");

	gateway_thread_until(gateway, blobs_are_idle, NULL);
	gateway_thread_call(gateway, a_tenant_comes, NULL);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		ask_refused(writer, paths[i], buffer_heap(1), GRPC_RESOURCE_EXHAUSTED, "this tenant has too many calls");
	ask_refused(reader, REAPI_FIND_MISSING, buffer_heap(1), GRPC_RESOURCE_EXHAUSTED, "this tenant has too many calls");
	assert_int_equal(find_missing(client, &digest_empty, 1), 0);
	gateway_thread_call(gateway, it_leaves, NULL);
	assert_int_equal(find_missing(writer, &digest_empty, 1), 0);
	client_close(writer);
	client_close(reader);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
}

static bool all_are_answered(struct gateway_parts *parts, void *context)
{
	unsigned count = 0;

	list_for_each(link, &parts->reapi.sendings)
		count++;
	return count == FULL_CLIENT_READS + *(unsigned *)context;
}

static void after_two_minutes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	sendings_sweep(&parts->reapi, now);      /* what has moved until now is seen here */
	sendings_sweep(&parts->reapi, now + 2 * REAPI_READ_IDLE_NS);
}

/* A call that is answered is one of so many, and holds blobs or has megabytes to say. */
static void answers_that_nobody_takes_end(void **state)
{
	struct digest digest = send_blob(client, span_text("a blob")), unread;
	struct buffer bytes = noise(9000000, 71), requests[3] = { buffer_heap(64), request_find(&digest, 1, ""), buffer_heap(4096) };
	static const char *const paths[] = { REAPI_CAPABILITIES, REAPI_FIND_MISSING, REAPI_SPLIT };
	struct client_call *calls[3];
	char name[512], why[256];
	struct client *other;
	unsigned count = 3;
	int64_t committed;

	unread = digest_made(buffer_span(&bytes));
	message_put_digest(&requests[2], 2, &digest);
	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "w", false, &unread), buffer_span(&bytes), 3u << 20,
	                           &committed, why, sizeof(why)), GRPC_OK);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	other = full_client(gateway, &unread);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(client_call_open(&calls[i], other, paths[i], NULL, 0), 0);
		assert_int_equal(client_send(calls[i], buffer_span(&requests[i]), 0), CLIENT_OK);
		client_send_end(calls[i]);
	}
	client_run_until(other, gateway, all_are_answered, &count);
	gateway_thread_call(gateway, after_two_minutes, NULL);
	gateway_thread_until(gateway, blobs_are_idle, NULL);
	client_close(other);
	for (unsigned i = 0; i < count; i++)
		buffer_fini(&requests[i]);
	buffer_fini(&bytes);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capabilities_say_what_there_is),
		cmocka_unit_test(who_may_bring_results_is_told),
		cmocka_unit_test(only_sha256_is_served),
		cmocka_unit_test(instances_and_rights_are_kept_apart),
		cmocka_unit_test(a_question_makes_no_instance),
		cmocka_unit_test(services_are_listed),
		cmocka_unit_test(requests_that_do_not_come_end),
		cmocka_unit_test(answers_that_nobody_takes_end),
		cmocka_unit_test(a_tenant_leaves_room_for_others),
	};

	return blobs_run(argc, argv, tests);
}
