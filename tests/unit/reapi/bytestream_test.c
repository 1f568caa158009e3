/*
 * Shows that a blob of any length comes through ByteStream and goes out again, plain and compressed, whole and in part; that a
 * broken write of a long one is gone on with; that what lies about its digest or its size is refused, named, and never
 * visible; and that callers may leave at any moment. With an index that answers late when started with "late".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "chunker/profile.h"
#include "gateway/reapi/sending.h"
#include "gateway/reapi/upload.h"
#include "gateway/reapi/write.h"
#include "proto/zstd_message.h"
#include "requests.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/store/fixture.h"
#include "tests/unit/store/index_delay.h"

#define LONG_BYTES (11u << 20)

static struct gateway_thread *gateway;
static struct client *client;
static const struct index_engine *engine;
static char name[512], text[512];

static int setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .index = engine, .ceiling_bytes = 1u << 30 });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

static int teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	return 0;
}

static void assert_reads(const struct digest *digest, struct span blob, size_t offset, size_t limit)
{
	enum grpc_status status;
	struct buffer got = read_all(client, resource_name(name, sizeof(name), NULL, false, digest), (int64_t)offset,
	                             (int64_t)limit, &status);
	size_t left = blob.size - offset, wanted = limit && limit < left ? limit : left;

	assert_int_equal(status, GRPC_OK);
	assert_int_equal(got.size, wanted);
	if (wanted)
		assert_memory_equal(got.data, blob.data + offset, wanted);
	buffer_fini(&got);
}

static void assert_reads_zstd(const struct digest *digest, struct span blob, size_t offset)
{
	enum grpc_status status;
	struct buffer got = read_all(client, resource_name(name, sizeof(name), NULL, true, digest), (int64_t)offset, 0, &status);
	struct buffer plain = buffer_heap(blob.size + 1);

	assert_int_equal(status, GRPC_OK);
	assert_int_equal(zstd_message_inflate(&plain, buffer_span(&got)), ZSTD_MESSAGE_OK);
	assert_int_equal(plain.size, blob.size - offset);
	assert_memory_equal(plain.data, blob.data + offset, plain.size);
	buffer_fini(&plain);
	buffer_fini(&got);
}

/* Sends `size` bytes from `from` on, and leaves the call open. */
static struct client_call *begin(struct client *with, const char *resource, struct span blob, size_t from, size_t size)
{
	struct buffer message = write_message(resource, (int64_t)from, span_make(blob.data + from, size), false);
	struct client_call *call;

	assert_int_equal(client_call_open(&call, with, BYTESTREAM_WRITE, NULL, 0), 0);
	assert_int_equal(client_send(call, buffer_span(&message), 0), CLIENT_OK);
	buffer_fini(&message);
	return call;
}

static void goes_round(size_t size, size_t step, uint32_t seed)
{
	struct buffer blob = noise(size, seed);
	struct digest digest = digest_made(buffer_span(&blob));
	int64_t committed;

	assert_int_equal(find_missing(client, &digest, 1), 1);
	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "a-uuid", false, &digest), buffer_span(&blob), step,
	                           &committed, text, sizeof(text)), GRPC_OK);
	assert_int_equal(committed, size);
	assert_int_equal(find_missing(client, &digest, 1), 0);
	assert_reads(&digest, buffer_span(&blob), 0, 0);
	assert_reads(&digest, buffer_span(&blob), size / 2 + 1, 0);
	assert_reads(&digest, buffer_span(&blob), size / 3, size / 5 + 1);
	assert_reads(&digest, buffer_span(&blob), size, 0);
	assert_reads_zstd(&digest, buffer_span(&blob), size / 7);
	buffer_fini(&blob);
}

static void blobs_of_any_length_go_round(void **state)
{
	goes_round(1, 1, 1);
	goes_round(70000, 1000, 2);
	goes_round(4u << 20, 1u << 20, 3);
	goes_round((4u << 20) + 1, 100000, 4);
	goes_round(LONG_BYTES, 3u << 20, 5);
}

/* That a chunk has ended is known one byte, or two, behind its end: here what comes first ends there, and is hashed. */
static void what_comes_first_ends_behind_a_chunk(void **state)
{
	const struct fastcdc *fastcdc = profile_fastcdc(PROFILE_REAPI);

	for (uint32_t seed = 100; seed < 116; seed++) {
		struct buffer blob = noise(6u << 20, seed), message;
		struct digest digest = digest_made(buffer_span(&blob));
		size_t first = 0, rest;
		struct client_call *call;
		struct span answer;
		bool complete;

		while (first + 1 < UPLOAD_BATCH_BYTES)
			first += fastcdc_cut(fastcdc, blob.data + first, blob.size - first);
		first += 1;
		rest = blob.size - first;
		resource_name(name, sizeof(name), "behind", false, &digest);
		call = begin(client, name, buffer_span(&blob), 0, first);
		while (query_committed(client, name, &complete) < (int64_t)first)
			;
		assert_int_equal(query_committed(client, name, &complete), first);
		assert_false(complete);
		message = write_message("", (int64_t)first, span_make(blob.data + first, rest), true);
		assert_int_equal(client_send(call, buffer_span(&message), 0), CLIENT_OK);
		assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_OK);
		client_call_close(call);
		assert_reads(&digest, buffer_span(&blob), 0, 0);
		buffer_fini(&message);
		buffer_fini(&blob);
	}
}

static void compressed_ones_too(void **state)
{
	static const size_t sizes[] = { 1000, 37001, 1369038, LONG_BYTES };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = sizes[i];
		struct buffer blob = noise(size, 6), packed = buffer_heap(2 * size);
		struct client_call *call;
		struct digest digest;
		struct span answer;
		int64_t committed;

		memset(blob.data, 'x', size / 2);
		digest = digest_made(buffer_span(&blob));
		assert_true(zstd_message_deflate(&packed, buffer_span(&blob), 1));
		assert_int_equal(write_all(client, resource_name(name, sizeof(name), "z", true, &digest), buffer_span(&packed),
		                           700000, &committed, text, sizeof(text)), GRPC_OK);
		assert_int_equal(committed, packed.size);
		assert_reads(&digest, buffer_span(&blob), 0, 0);
		assert_reads_zstd(&digest, buffer_span(&blob), 0);
		/* And again: it ends early, whatever was sent of it. */
		call = begin(client, resource_name(name, sizeof(name), "z", true, &digest), buffer_span(&packed), 0, 10);
		assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_OK);
		assert_int_equal(committed_of(answer), -1);
		client_call_close(call);
		buffer_fini(&packed);
		buffer_fini(&blob);
	}
}

static void what_is_known_ends_early(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 5);
	struct digest digest = digest_made(buffer_span(&blob));
	struct client_call *call = begin(client, resource_name(name, sizeof(name), "b", false, &digest), buffer_span(&blob), 0, 1000);
	struct span answer;
	int64_t committed;

	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_OK);
	assert_int_equal(committed_of(answer), LONG_BYTES);
	client_call_close(call);
	/* The empty blob was never sent by anybody. */
	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "b", false, &digest_empty), (struct span){ 0 }, 1,
	                           &committed, text, sizeof(text)), GRPC_OK);
	assert_reads(&digest_empty, (struct span){ 0 }, 0, 0);
	buffer_fini(&blob);
}

static void refused(const char *resource, struct span data, enum grpc_status status, const char *says)
{
	int64_t committed;
	enum grpc_status got = write_all(client, resource, data, 1u << 20, &committed, text, sizeof(text));

	if (got != status || !strstr(text, says))
		fail_msg("%s: %s: %s", resource, grpc_status_name(got), text);
}

/* Long and short: a wrong byte, a size that is too small or too large. */
static void lies_are_named_and_leave_nothing(void **state)
{
	for (size_t size = 5000; size < LONG_BYTES; size = LONG_BYTES - 1) {
		struct buffer blob = noise(size, 7);
		struct digest good = digest_made(buffer_span(&blob)), wrong = good;
		char hex[DIGEST_TEXT_MAX];

		wrong.hash[5] ^= 1;
		refused(resource_name(name, sizeof(name), "l", false, &wrong), buffer_span(&blob), GRPC_INVALID_ARGUMENT,
		        digest_text(&good, hex));
		wrong = good;
		wrong.size--;
		refused(resource_name(name, sizeof(name), "l", false, &wrong), buffer_span(&blob), GRPC_INVALID_ARGUMENT,
		        "more data than");
		wrong.size += 2;
		refused(resource_name(name, sizeof(name), "l", false, &wrong), buffer_span(&blob), GRPC_INVALID_ARGUMENT,
		        "before all of the blob");
		refused(resource_name(name, sizeof(name), "l", true, &good), buffer_span(&blob), GRPC_INVALID_ARGUMENT, "zstd");
		assert_int_equal(find_missing(client, &good, 1), 1);
		buffer_fini(&blob);
		if (size > 5000)
			break;
	}
}

static void names_and_ranges_are_checked(void **state)
{
	struct buffer blob = noise(100, 8), got;
	struct digest digest = send_blob(client, buffer_span(&blob)), other = digest;
	enum grpc_status status;
	char hex[DIGEST_TEXT_MAX + 100];

	resource_name(name, sizeof(name), NULL, false, &digest);
	got = read_all(client, name, 101, 0, &status);
	assert_int_equal(status, GRPC_OUT_OF_RANGE);
	buffer_fini(&got);
	got = read_all(client, name, -1, 0, &status);
	assert_int_equal(status, GRPC_OUT_OF_RANGE);
	buffer_fini(&got);
	got = read_all(client, name, 0, -1, &status);
	assert_int_equal(status, GRPC_INVALID_ARGUMENT);
	buffer_fini(&got);
	other.hash[0] ^= 1;
	got = read_all(client, resource_name(name, sizeof(name), NULL, false, &other), 0, 0, &status);
	assert_int_equal(status, GRPC_NOT_FOUND);
	buffer_fini(&got);
	other.size = LONG_BYTES;
	got = read_all(client, resource_name(name, sizeof(name), NULL, false, &other), 0, 0, &status);
	assert_int_equal(status, GRPC_NOT_FOUND);
	buffer_fini(&got);
	snprintf(hex, sizeof(hex), "uploads/u/blobs/blake3/%s/5", digest_text(&digest, name) + 7);
	refused(hex, buffer_span(&blob), GRPC_INVALID_ARGUMENT, "SHA-256");
	refused("nothing", buffer_span(&blob), GRPC_INVALID_ARGUMENT, "resource name");
	buffer_fini(&blob);
}

/* A chunk that is damaged on the disk is found when part of the blob has gone out: it is not there, as any other that was lost. */
static void what_is_damaged_is_not_found(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 22), got;
	struct digest digest = digest_made(buffer_span(&blob));
	struct blob part = { .data = blob.data + 9000000, .digest.size = 64 };
	struct fixture store = { 0 };
	enum grpc_status status;
	int64_t committed;

	snprintf(store.path, sizeof(store.path), "%s", gateway_thread_path(gateway));
	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "damaged", false, &digest), buffer_span(&blob), 3u << 20,
	                           &committed, text, sizeof(text)), GRPC_OK);
	assert_int_equal(damage_blob(&store, &part), 1);
	for (int i = 0; i < 2; i++) {
		got = read_all(client, resource_name(name, sizeof(name), NULL, false, &digest), 0, 0, &status);
		assert_int_equal(status, GRPC_NOT_FOUND);
		assert_true(i ? got.size == 0 : got.size > 1u << 20);
		buffer_fini(&got);
	}
	assert_int_equal(find_missing(client, &digest, 1), 1);
	goes_round(LONG_BYTES, 3u << 20, 22);
	buffer_fini(&blob);
}

static bool took(struct gateway_parts *parts, void *context)
{
	/* Arrived, and no look-up stands between it and its upload any more. */
	return parts->reapi.counters.bytes_received >= *(uint64_t *)context && parts->reapi.uploads.used > 0;
}

static bool has_orphan(struct gateway_parts *parts, void *context)
{
	return parts->reapi.orphans_count == 1;
}

static bool has_orphans(struct gateway_parts *parts, void *context)
{
	return parts->reapi.orphans_count > 0;
}

static void count_received(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->reapi.counters.bytes_received;
}

/* Sends what is left from `from` on, and takes the answer; the call is closed. */
static void go_on(struct client_call *call, struct span blob, size_t from)
{
	struct span answer;

	for (size_t at = from; at < blob.size; at += 1u << 20) {
		size_t size = blob.size - at < 1u << 20 ? blob.size - at : 1u << 20;
		struct buffer message = write_message("", (int64_t)at, span_make(blob.data + at, size), at + size == blob.size);

		assert_int_equal(client_send(call, buffer_span(&message), 0), CLIENT_OK);
		buffer_fini(&message);
	}
	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_OK);
	assert_int_equal(committed_of(answer), blob.size);
	client_call_close(call);
}

static void assert_ends(struct client_call *call, enum grpc_status status, const char *says)
{
	struct span answer;
	const char *why;

	assert_int_equal(client_receive(call, &answer, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &why), status);
	assert_non_null(strstr(why, says));
	client_call_close(call);
}

/* The connection breaks in the middle: another one goes on where the first one stopped. */
static void a_broken_write_is_gone_on_with(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 9);
	struct digest digest = digest_made(buffer_span(&blob));
	struct client *other = gateway_thread_client(gateway, NULL);
	struct client_call *call;
	uint64_t received;
	int64_t committed;
	bool complete;

	resource_name(name, sizeof(name), "resumed", false, &digest);
	assert_int_equal(query_committed(client, name, &complete), 0);
	assert_false(complete);
	gateway_thread_call(gateway, count_received, &received);
	received += 4u << 20;
	call = begin(other, name, buffer_span(&blob), 0, 4u << 20);
	client_run_until(other, gateway, took, &received);
	client_close(other);
	gateway_thread_until(gateway, has_orphan, NULL);
	committed = query_committed(client, name, &complete);
	assert_false(complete);
	assert_true(committed > 0 && committed <= 4 << 20);
	/* Behind that it is refused, to be asked and tried again. */
	assert_ends(begin(client, name, buffer_span(&blob), (size_t)committed + 1, 10), GRPC_ABORTED, "ask QueryWriteStatus");
	call = begin(client, name, buffer_span(&blob), (size_t)committed, (3u << 20) - 1);
	go_on(call, buffer_span(&blob), (size_t)committed + (3u << 20) - 1);
	assert_reads(&digest, buffer_span(&blob), 0, 0);
	resource_name(name, sizeof(name), "resumed", false, &digest);
	assert_int_equal(query_committed(client, name, &complete), LONG_BYTES);
	assert_true(complete);
	buffer_fini(&blob);
}

/* Sends a MiB more, from time to time, as soon as those before it are here; tells how many that are. */
static int64_t trickle(struct client *from, struct client_call *call, struct span blob)
{
	int64_t committed = 0;
	bool complete;

	for (size_t at = 1u << 20; at < 4u << 20; at += 1u << 20) {
		struct buffer message = write_message("", (int64_t)at, span_make(blob.data + at, 1u << 20), false);

		while ((committed = query_committed(client, name, &complete)) < (int64_t)at)
			client_wait(from, NULL, 0, NULL, 1000000);
		assert_int_equal(client_send(call, buffer_span(&message), 0), CLIENT_OK);
		buffer_fini(&message);
	}
	return committed;
}

/* Bytes were on their way when a client asked how many are here: it goes on from what it was told, plain or compressed. */
static void what_came_meanwhile_is_passed_over(void **state)
{
	for (int zstd = 0; zstd < 2; zstd++) {
		struct client *other = gateway_thread_client(gateway, NULL);
		struct buffer blob = noise(LONG_BYTES, 19 + (uint32_t)zstd), sent = buffer_heap(2 * LONG_BYTES);
		struct buffer packed = buffer_heap(2 * LONG_BYTES);
		struct client_call *first, *second;
		size_t told = 2u << 20;
		struct span rest = span_make(blob.data + told, blob.size - told);
		struct digest digest;

		memset(blob.data + told, 'm', rest.size / 2);
		digest = digest_made(buffer_span(&blob));
		assert_true(zstd_message_deflate(&packed, rest, 1));
		buffer_put(&sent, blob.data, told);
		buffer_put(&sent, zstd ? packed.data : rest.data, zstd ? packed.size : rest.size);
		resource_name(name, sizeof(name), "meanwhile", false, &digest);
		assert_ends(begin(client, name, buffer_span(&blob), 5, 10), GRPC_ABORTED, "ask QueryWriteStatus");
		first = begin(other, name, buffer_span(&blob), 0, 1u << 20);
		assert_int_equal(trickle(other, first, buffer_span(&blob)), 3u << 20);
		/* The last of it may come before, while or after another call takes over. */
		resource_name(name, sizeof(name), "meanwhile", zstd, &digest);
		second = begin(client, name, buffer_span(&sent), told, 100);
		go_on(second, buffer_span(&sent), told + 100);
		assert_ends(first, GRPC_ABORTED, "another call");
		assert_reads(&digest, buffer_span(&blob), 0, 0);
		client_close(other);
		buffer_fini(&packed);
		buffer_fini(&sent);
		buffer_fini(&blob);
	}
}

/* Who ends before he has said what he began with has not sent it. */
static void what_is_passed_over_must_come_all_the_same(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 21), message;
	struct digest digest = digest_made(buffer_span(&blob));
	struct client *other = gateway_thread_client(gateway, NULL);
	struct client_call *first, *second;
	bool complete;

	resource_name(name, sizeof(name), "short", false, &digest);
	first = begin(other, name, buffer_span(&blob), 0, 1u << 20);
	trickle(other, first, buffer_span(&blob));
	second = begin(client, name, buffer_span(&blob), 1u << 20, 100);
	message = write_message("", (1 << 20) + 100, (struct span){ 0 }, true);
	assert_int_equal(client_send(second, buffer_span(&message), 0), CLIENT_OK);
	assert_ends(second, GRPC_INVALID_ARGUMENT, "before all of the blob");
	assert_ends(first, GRPC_ABORTED, "another call");
	assert_int_equal(query_committed(client, name, &complete), 0);
	client_close(other);
	buffer_fini(&message);
	buffer_fini(&blob);
}

static bool is_idle(struct gateway_parts *parts, void *context)
{
	return !parts->reapi.open && !parts->reapi.uploads.used && !parts->reapi.downloads.used && !parts->reapi.waiting_bytes &&
	       !parts->reapi.expanders.used;
}

static void drop_orphans(struct gateway_parts *parts, void *context)
{
	reapi_close(&parts->reapi);
	parts->reapi.closing = false;
}

/* Those that were still on their way in become orphans only now. */
static bool is_idle_without_orphans(struct gateway_parts *parts, void *context)
{
	drop_orphans(parts, NULL);
	return is_idle(parts, NULL);
}

/* Every call that is left behind gives back what it had. */
static void callers_may_leave_at_any_moment(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 10);

	for (unsigned i = 0; i < 60; i++) {
		struct client *other = gateway_thread_client(gateway, NULL);
		struct digest digest;

		blob.data[0] = (uint8_t)i;
		digest = digest_made(buffer_span(&blob));
		if (i % 3 == 0) {
			int64_t committed;

			resource_name(name, sizeof(name), "left", false, &digest);
			assert_int_equal(write_all(client, name, buffer_span(&blob), 4u << 20, &committed, text, sizeof(text)), GRPC_OK);
			read_open(other, resource_name(name, sizeof(name), NULL, i % 2, &digest), 0, 0);
		} else {
			begin(other, resource_name(name, sizeof(name), "left", false, &digest), buffer_span(&blob), 0,
			      i % 3 == 1 ? 10 : 3u << 20);
		}
		client_wait(other, NULL, 0, NULL, i * 20000);
		client_close(other);
	}
	gateway_thread_until(gateway, is_idle_without_orphans, NULL);
	buffer_fini(&blob);
}

static bool holds_nothing(struct gateway_parts *parts, void *context)
{
	return parts->reapi.uploads.used == 0;
}

static void count_open(struct gateway_parts *parts, void *context)
{
	*(unsigned *)context = parts->reapi.open;
}

/* A short one is not gone on with: what there is of it goes when the client has ended, not when the client has heard so. */
static void a_short_write_that_ends_half_way_keeps_no_memory(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 18);
	struct digest unread = digest_made(buffer_span(&blob)), digest = digest_made(span_make(blob.data, 5000));
	struct client_call *call;
	struct client *other;
	uint64_t received;
	int64_t committed;
	unsigned open;

	assert_int_equal(write_all(client, resource_name(name, sizeof(name), "unread", false, &unread), buffer_span(&blob), 3u << 20,
	                           &committed, text, sizeof(text)), GRPC_OK);
	gateway_thread_until(gateway, is_idle, NULL);
	other = full_client(gateway, &unread);
	gateway_thread_call(gateway, count_received, &received);
	received += 1000;
	call = begin(other, resource_name(name, sizeof(name), "half", false, &digest), buffer_span(&blob), 0, 1000);
	client_run_until(other, gateway, took, &received);
	client_send_end(call);
	client_run_until(other, gateway, holds_nothing, NULL);
	gateway_thread_call(gateway, count_open, &open);
	assert_int_equal(open, FULL_CLIENT_READS + 1);   /* its answer is still to be taken */
	client_close(other);
	gateway_thread_until(gateway, is_idle, NULL);
	buffer_fini(&blob);
}

static void get_counters(struct gateway_parts *parts, void *context)
{
	*(struct reapi_counters *)context = parts->reapi.counters;
}

static void after_a_minute(struct gateway_parts *parts, void *context)
{
	writes_sweep(&parts->reapi, ring_now_ns(parts->ring) + 2 * REAPI_WRITE_IDLE_NS);
}

static void after_two_minutes(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring);

	sendings_sweep(&parts->reapi, now);      /* what has moved until now is seen here */
	sendings_sweep(&parts->reapi, now + 2 * REAPI_READ_IDLE_NS);
}

static void after_ten_minutes(struct gateway_parts *parts, void *context)
{
	writes_sweep(&parts->reapi, ring_now_ns(parts->ring) + 2 * REAPI_ORPHAN_NS);
}

static bool has_no_orphan(struct gateway_parts *parts, void *context)
{
	return parts->reapi.orphans_count == 0;
}

static bool is_sending(struct gateway_parts *parts, void *context)
{
	return !list_empty(&parts->reapi.sendings);
}

/* Time passes, as the sweep sees it: a write in which nothing comes, what is left of a broken one, a read that nobody takes. */
static void what_idles_ends(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 14);
	struct digest digest = digest_made(buffer_span(&blob));
	struct client *other = gateway_thread_client(gateway, NULL);
	struct reapi_counters before, after;
	struct client_call *call;
	struct span message;
	const char *why;
	uint64_t received;
	int64_t committed;
	bool complete;

	gateway_thread_call(gateway, count_received, &received);
	received += 1000;
	resource_name(name, sizeof(name), "idle", false, &digest);
	call = begin(client, name, buffer_span(&blob), 0, 1000);
	client_run_until(client, gateway, took, &received);
	gateway_thread_call(gateway, get_counters, &before);
	gateway_thread_call(gateway, after_a_minute, NULL);
	assert_int_equal(client_receive(call, &message, UINT64_MAX), CLIENT_END);
	assert_int_equal(client_call_status(call, &why), GRPC_DEADLINE_EXCEEDED);
	client_call_close(call);
	gateway_thread_call(gateway, get_counters, &after);
	assert_int_equal(after.uploads_expired, before.uploads_expired + 1);
	assert_int_equal(after.uploads_refused, before.uploads_refused);         /* it is one or the other */
	received += 2000;
	begin(other, name, buffer_span(&blob), 0, 2000);
	client_run_until(other, gateway, took, &received);
	client_close(other);
	client_run_until(client, gateway, has_orphan, NULL);
	gateway_thread_call(gateway, after_ten_minutes, NULL);
	client_run_until(client, gateway, has_no_orphan, NULL);
	assert_int_equal(query_committed(client, name, &complete), 0);
	assert_int_equal(write_all(client, name, buffer_span(&blob), 1u << 20, &committed, text, sizeof(text)), GRPC_OK);
	call = read_open(client, resource_name(name, sizeof(name), NULL, false, &digest), 0, 0);
	client_run_until(client, gateway, is_sending, NULL);
	gateway_thread_call(gateway, after_two_minutes, NULL);
	while (client_receive(call, &message, UINT64_MAX) == CLIENT_OK)
		;                                /* what was on its way; the rest does not come */
	assert_int_equal(client_call_status(call, &why), GRPC_CANCELLED);
	client_call_close(call);
	client_run_until(client, gateway, is_idle, NULL);
	buffer_fini(&blob);
}

static bool uses_memory(struct gateway_parts *parts, void *context)
{
	return parts->reapi.uploads.used >= *(const uint64_t *)context;
}

static void set_crowd(struct gateway_parts *parts, void *context)
{
	bool crowd = *(bool *)context;

	parts->reapi.expanders.max = crowd ? 1u << 20 : REAPI_EXPANDERS_BYTES;
	parts->reapi.crowded_ns = 0;
}

static void get_crowded(struct gateway_parts *parts, void *context)
{
	*(uint64_t *)context = parts->reapi.crowded_ns;
}

static bool is_expanding(struct gateway_parts *parts, void *context)
{
	return parts->reapi.expanders.used > 2u << 20;
}

/* What a compressed write takes besides its bytes counts while it lasts; past the bound it is to be tried again. */
static void decompressors_have_a_bound(void **state)
{
	struct buffer blob = noise(LONG_BYTES, 16), packed = buffer_heap(2 * LONG_BYTES);
	struct client_call *call;
	struct digest digest;
	bool crowd = true;
	uint64_t crowded;
	int64_t committed;

	memset(blob.data, 'd', LONG_BYTES / 2);
	digest = digest_made(buffer_span(&blob));
	assert_true(zstd_message_deflate(&packed, buffer_span(&blob), 3));
	resource_name(name, sizeof(name), "crowd", true, &digest);
	gateway_thread_call(gateway, set_crowd, &crowd);
	refused(name, buffer_span(&packed), GRPC_RESOURCE_EXHAUSTED, "try again");
	gateway_thread_call(gateway, get_crowded, &crowded);
	assert_true(crowded > 0);
	crowd = false;
	gateway_thread_call(gateway, set_crowd, &crowd);
	call = begin(client, name, buffer_span(&packed), 0, 3u << 20);
	client_run_until(client, gateway, is_expanding, NULL);
	client_call_close(call);
	assert_int_equal(write_all(client, name, buffer_span(&packed), 1u << 20, &committed, text, sizeof(text)), GRPC_OK);
	assert_reads(&digest, buffer_span(&blob), 0, 0);
	gateway_thread_call(gateway, drop_orphans, NULL);
	gateway_thread_until(gateway, is_idle, NULL);
	buffer_fini(&packed);
	buffer_fini(&blob);
}

static void fill_line(struct gateway_parts *parts, void *context)
{
	bool full = *(bool *)context;

	parts->reapi.uploads.max = full ? 0 : REAPI_UPLOAD_BYTES;
	parts->reapi.waiting_bytes = full ? REAPI_WAITING_BYTES : 0;
	parts->reapi.crowded_ns = 0;
}

/* One that is whole waits in line, and its bytes with it: where there is no room for them others are hurried as well. */
static void the_line_has_a_bound(void **state)
{
	struct buffer blob = noise(1000, 17);
	struct digest digest = digest_made(buffer_span(&blob));
	bool full = true;
	uint64_t crowded;

	gateway_thread_until(gateway, is_idle, NULL);
	gateway_thread_call(gateway, fill_line, &full);
	resource_name(name, sizeof(name), "line", false, &digest);
	refused(name, buffer_span(&blob), GRPC_RESOURCE_EXHAUSTED, "try again");
	gateway_thread_call(gateway, get_crowded, &crowded);
	assert_true(crowded > 0);
	full = false;
	gateway_thread_call(gateway, fill_line, &full);
	buffer_fini(&blob);
}

/* Long ones whose ends do not come take all memory; one more is told to try again, and may when they are gone. */
static void one_too_many_is_told_to_try_again(void **state)
{
	enum { CALLS = REAPI_UPLOAD_BYTES >> 22 };
	struct client *other = gateway_thread_client(gateway, NULL);
	struct buffer blob = noise(LONG_BYTES, 12);
	struct digest digest;
	uint64_t used = 0;

	for (unsigned i = 0; i < CALLS; i++) {
		digest = digest_made(span_make(blob.data + i, 100));
		digest.size = LONG_BYTES;
		begin(other, resource_name(name, sizeof(name), "too-many", false, &digest), buffer_span(&blob), 0, 4u << 20);
		used += UPLOAD_BUFFER_BYTES;
		client_run_until(other, gateway, uses_memory, &used);
	}
	digest = digest_made(buffer_span(&blob));
	resource_name(name, sizeof(name), "too-many", false, &digest);
	refused(name, buffer_span(&blob), GRPC_RESOURCE_EXHAUSTED, "try again");
	client_close(other);
	gateway_thread_until(gateway, has_orphans, NULL);
	goes_round(LONG_BYTES, 1u << 20, 13);    /* of those that nobody may come back to */
	gateway_thread_call(gateway, drop_orphans, NULL);
	buffer_fini(&blob);
}

/* Many that are all under way at once come all through. */
static void many_at_a_time_come_through(void **state)
{
	enum { CALLS = 200 };
	struct client_call *calls[CALLS];
	struct buffer blob = noise(1u << 20, 11);
	struct digest digests[CALLS];
	struct span message;

	for (unsigned i = 0; i < CALLS; i++) {
		blob.data[0] = (uint8_t)i;
		digests[i] = digest_made(buffer_span(&blob));
		resource_name(name, sizeof(name), "many", false, &digests[i]);
		calls[i] = begin(client, name, buffer_span(&blob), 0, 1000 + i);
	}
	for (unsigned i = 0; i < CALLS; i++) {
		struct buffer rest;

		blob.data[0] = (uint8_t)i;
		rest = write_message("", 1000 + i, span_make(blob.data + 1000 + i, blob.size - 1000 - i), true);
		assert_int_equal(client_send(calls[i], buffer_span(&rest), 0), CLIENT_OK);
		buffer_fini(&rest);
	}
	for (unsigned i = 0; i < CALLS; i++) {
		assert_int_equal(client_receive(calls[i], &message, UINT64_MAX), CLIENT_OK);
		client_call_close(calls[i]);
	}
	assert_int_equal(find_missing(client, digests, CALLS), 0);
	buffer_fini(&blob);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blobs_of_any_length_go_round),
		cmocka_unit_test(what_comes_first_ends_behind_a_chunk),
		cmocka_unit_test(compressed_ones_too),
		cmocka_unit_test(what_is_known_ends_early),
		cmocka_unit_test(lies_are_named_and_leave_nothing),
		cmocka_unit_test(names_and_ranges_are_checked),
		cmocka_unit_test(what_is_damaged_is_not_found),
		cmocka_unit_test(a_broken_write_is_gone_on_with),
		cmocka_unit_test(what_came_meanwhile_is_passed_over),
		cmocka_unit_test(what_is_passed_over_must_come_all_the_same),
		cmocka_unit_test(a_short_write_that_ends_half_way_keeps_no_memory),
		cmocka_unit_test(many_at_a_time_come_through),
		cmocka_unit_test(what_idles_ends),
		cmocka_unit_test(decompressors_have_a_bound),
		cmocka_unit_test(the_line_has_a_bound),
		cmocka_unit_test(one_too_many_is_told_to_try_again),
		cmocka_unit_test(callers_may_leave_at_any_moment),
	};

	engine = argc > 1 && !strcmp(argv[1], "late") ? &index_late : NULL;
	return cmocka_run_group_tests(tests, setup, teardown);
}
