/*
 * Shows that a HTTP client of the cache holds nobody up: answers that nobody takes end, bodies that wait are charged and bounded,
 * and a value takes memory as it comes, within its time; that who only asks leaves no instance name behind, and a result that
 * clients of REAPI brought is found behind one that has gone; and from whom no credential is asked. Byte by byte over a socket, as
 * no client of ours would. With an index that answers late when started with "late".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/cas/results.h"
#include "gateway/reapi/upload.h"
#include "gateway/reapi/web.h"
#include "gateway/reapi/web_guard.h"
#include "proto/pb.h"
#include "proto/sluice_v1.h"
#include "requests.h"
#include "tests/unit/cas/gateway_thread.h"
#include "tests/unit/store/index_delay.h"

#define SECOND_NS 1000000000ull
#define KEY "5555555555555555555555555555555555555555555555555555555555555555"

static struct gateway_thread *gateway;
static struct client *client;
static const struct index_engine *engine;

static int setup(void **state)
{
	gateway = gateway_thread_start(&(struct gateway_thread_options){ .index = engine, .web = true });
	client = gateway_thread_client(gateway, NULL);
	return 0;
}

static int teardown(void **state)
{
	client_close(client);
	gateway_thread_stop(gateway, true);
	return 0;
}

/* ---- a client ---- */

static int dial(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", gateway_thread_path(gateway));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	return fd;
}

static void say(int fd, struct span data)
{
	while (data.size) {
		ssize_t n = send(fd, data.data, data.size, MSG_NOSIGNAL);

		assert_true(n > 0);
		data = span_make(data.data + n, data.size - (size_t)n);
	}
}

/* Requests of HTTP/1.1 as they are, the last of which closes; what comes back, with a 0 at its end. */
static struct buffer exchange(struct span requests)
{
	struct buffer text = buffer_heap(16u << 20);
	char piece[4096];
	int fd = dial();
	ssize_t n;

	/* Who is refused early cannot say all. */
	while (requests.size && (n = send(fd, requests.data, requests.size, MSG_NOSIGNAL)) > 0)
		requests = span_make(requests.data + n, requests.size - (size_t)n);
	while ((n = read(fd, piece, sizeof(piece))) > 0)
		buffer_put(&text, piece, (size_t)n);
	close(fd);
	buffer_put(&text, "", 1);
	return text;
}

/* One request of HTTP/1.1; the answer's status, and its body. */
static int ask(const char *method, const char *path, struct span body, struct buffer *answer)
{
	struct buffer out = buffer_heap(16u << 20), text;
	char head[512];
	const uint8_t *end;
	int status;

	snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", method, path, body.size);
	buffer_put_text(&out, head);
	buffer_put(&out, body.data, body.size);
	text = exchange(buffer_span(&out));
	buffer_fini(&out);
	assert_int_equal(sscanf((const char *)text.data, "HTTP/1.1 %d ", &status), 1);
	end = memmem(text.data, text.size, "\r\n\r\n", 4);
	assert_non_null(end);
	if (answer) {
		*answer = buffer_heap(16u << 20);
		buffer_put(answer, end + 4, text.size - 1 - (size_t)(end + 4 - text.data));
	}
	buffer_fini(&text);
	return status;
}

static void frame(struct buffer *out, uint8_t type, uint8_t flags, uint32_t stream, struct span payload)
{
	const uint8_t head[9] = { (uint8_t)(payload.size >> 16), (uint8_t)(payload.size >> 8), (uint8_t)payload.size, type, flags, 0, 0,
	                          (uint8_t)(stream >> 8), (uint8_t)stream };

	buffer_put(out, head, sizeof(head));
	buffer_put(out, payload.data, payload.size);
}

/* RFC 7541 section 6.2.2: a field without indexing, whose name is of the static table. */
static void field(struct buffer *out, uint8_t name, const char *value)
{
	const uint8_t head[2] = { name < 15 ? name : 15, (uint8_t)(name - 15) }, size = (uint8_t)strlen(value);

	assert_true(size < 127);
	buffer_put(out, head, name < 15 ? 1 : 2);
	buffer_put(out, &size, 1);
	buffer_put(out, value, size);
}

/* A request of HTTP/2. `length` NULL: it ends with its head; else a body follows. */
static void request(int fd, uint32_t stream, const char *method, const char *path, const char *length, struct span body, bool ends)
{
	uint8_t storage[512];
	struct buffer block = buffer_over(storage, sizeof(storage)), out = buffer_heap(1u << 20);

	field(&block, 2, method);
	buffer_put(&block, "\x86", 1);           /* :scheme http */
	field(&block, 4, path);
	field(&block, 1, "localhost");
	if (length)
		field(&block, 28, length);
	frame(&out, 1, length ? 4 : 5, stream, buffer_span(&block));
	if (length && (body.size || ends))
		frame(&out, 0, ends, stream, body);
	say(fd, buffer_span(&out));
	buffer_fini(&out);
}

/* Who opens no window: nothing but heads comes. */
static int dial_shut(void)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\6\4\0\0\0\0\0\0\4\0\0\0\0";
	int fd = dial();

	say(fd, span_make(hello, sizeof(hello) - 1));
	return fd;
}

/* ---- what the gateway knows ---- */

static size_t web_count(struct reapi *reapi, bool answered)
{
	size_t count = 0;

	list_for_each(link, &reapi->web)
		count += !answered || container_of(link, struct web, link)->answered;
	return count;
}

static bool answered(struct gateway_parts *parts, void *context)
{
	return web_count(&parts->reapi, true) == *(size_t *)context;
}

static bool begun(struct gateway_parts *parts, void *context)
{
	return web_count(&parts->reapi, false) == *(size_t *)context;
}

static bool over(struct gateway_parts *parts, void *context)
{
	struct reapi *reapi = &parts->reapi;

	return list_empty(&reapi->web) && !reapi->open && !reapi->downloads.used && !reapi->uploads.used && !reapi->waiting_bytes;
}

struct budgets {
	uint64_t downloads, uploads;
};

static void get_budgets(struct gateway_parts *parts, void *context)
{
	*(struct budgets *)context = (struct budgets){ parts->reapi.downloads.used, parts->reapi.uploads.used };
}

static void sweep(struct gateway_parts *parts, void *context)
{
	web_sweep(&parts->reapi, ring_now_ns(parts->ring) + *(uint64_t *)context);
}

static void touch(struct reapi *reapi, uint64_t now)
{
	list_for_each(link, &reapi->web)
		container_of(link, struct web, link)->idle_since_ns = now;
}

/* A sweep at which something has just come of each; and no later one finds that any of them idles. */
static void touch_and_sweep(struct gateway_parts *parts, void *context)
{
	uint64_t now = ring_now_ns(parts->ring), late = now + *(uint64_t *)context;

	touch(&parts->reapi, late);
	web_sweep(&parts->reapi, late);
	touch(&parts->reapi, now);
}

/* ---- tests ---- */

/* "/cas/HASH", "/ac/HASH" */
static void cache_path(char *path, size_t size, const char *kind, const struct digest *digest)
{
	char hex[DIGEST_HEX_BYTES];

	digest_hex(digest, hex);
	snprintf(path, size, "%s%.*s", kind, (int)sizeof(hex), hex);
}

static void answers_that_nobody_takes_end(void **state)
{
	struct buffer blob = noise(1u << 20, 1), value = noise(500000, 2);
	struct digest digest = send_blob(client, buffer_span(&blob)), missing = digest_made(span_text("nobody brought it"));
	struct buffer result = buffer_heap(4096);
	size_t mark = pb_begin(&result, 2);
	uint64_t soon = REAPI_READ_IDLE_NS / 2, late = REAPI_READ_IDLE_NS + SECOND_NS;
	struct budgets budgets;
	size_t count = 5;
	char path[100], length[12];
	int fd;

	pb_put_text(&result, 1, "out");
	message_put_digest(&result, 2, &missing);
	pb_end(&result, mark);
	snprintf(length, sizeof(length), "%zu", result.size);
	value.data[0] = 0xff;
	assert_int_equal(ask("PUT", "/ac/" KEY, buffer_span(&value), NULL), 200);
	cache_path(path, sizeof(path), "/cas/", &digest);
	fd = dial_shut();
	request(fd, 1, "GET", path, NULL, (struct span){ 0 }, true);
	request(fd, 3, "GET", "/ac/" KEY, NULL, (struct span){ 0 }, true);
	request(fd, 5, "PUT", path, "3", span_text("not"), true);
	request(fd, 7, "PUT", "/ac/" KEY, length, buffer_span(&result), true);
	request(fd, 9, "GET", "/nowhere", NULL, (struct span){ 0 }, true);
	gateway_thread_until(gateway, answered, &count);
	gateway_thread_call(gateway, get_budgets, &budgets);
	assert_true(budgets.downloads >= blob.size + value.size && budgets.downloads < 3 * blob.size);
	assert_int_equal(budgets.uploads, 0);
	gateway_thread_call(gateway, sweep, &soon);
	gateway_thread_until(gateway, answered, &count);
	gateway_thread_call(gateway, sweep, &late);
	gateway_thread_until(gateway, over, NULL);
	close(fd);
	buffer_fini(&blob);
	buffer_fini(&value);
	buffer_fini(&result);
}

static void a_value_takes_memory_as_it_comes(void **state)
{
	static uint8_t part[10000] = { 0xff };
	uint64_t late = 121 * SECOND_NS;
	struct buffer value = noise(4u << 20, 3);
	struct budgets budgets;
	size_t count = 100;
	int fd = dial_shut();

	for (uint32_t i = 0; i < count; i++)
		request(fd, 2 * i + 1, "PUT", "/ac/" KEY, "4194304", span_make(part, sizeof(part)), false);
	gateway_thread_until(gateway, begun, &count);
	gateway_thread_call(gateway, get_budgets, &budgets);
	assert_true(budgets.uploads > 0 && budgets.uploads <= count * UPLOAD_FIRST_BYTES);
	/* There is room for all of another one meanwhile. */
	value.data[0] = 0xff;
	assert_int_equal(ask("PUT", "/ac/" KEY, buffer_span(&value), NULL), 200);
	gateway_thread_call(gateway, touch_and_sweep, &late);
	gateway_thread_until(gateway, over, NULL);
	close(fd);
	buffer_fini(&value);
}

static void fill_waiting(struct gateway_parts *parts, void *context)
{
	parts->reapi.waiting_bytes = REAPI_WAITING_BYTES - *(uint64_t *)context;
}

static void empty_waiting(struct gateway_parts *parts, void *context)
{
	parts->reapi.waiting_bytes -= REAPI_WAITING_BYTES - *(uint64_t *)context;
}

/* A body that comes before it is known whether it is wanted waits in memory that others want, too. */
static void what_waits_is_bounded(void **state)
{
	struct buffer blob = noise(300000, 4);
	struct digest digest = digest_made(buffer_span(&blob));
	uint64_t none = 1000, plenty = 1u << 20;
	char path[100];

	cache_path(path, sizeof(path), "/cas/", &digest);
	gateway_thread_call(gateway, fill_waiting, &none);
	assert_int_equal(ask("PUT", path, buffer_span(&blob), NULL), engine ? 503 : 200);
	gateway_thread_call(gateway, empty_waiting, &none);
	gateway_thread_until(gateway, over, NULL);
	gateway_thread_call(gateway, fill_waiting, &plenty);
	assert_int_equal(ask("PUT", path, buffer_span(&blob), NULL), 200);
	gateway_thread_call(gateway, empty_waiting, &plenty);
	gateway_thread_until(gateway, over, NULL);
	assert_int_equal(find_missing(client, &digest, 1), 0);
	buffer_fini(&blob);
}

/* A PUT in chunks of `step` bytes, with an extension each and a trailer, and behind it a GET of the same. */
static struct buffer put_chunked(const char *path, struct span body, size_t step)
{
	struct buffer out = buffer_heap(16u << 20), text;
	char line[300];

	snprintf(line, sizeof(line), "PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", path);
	buffer_put_text(&out, line);
	for (size_t at = 0; at < body.size; at += step) {
		size_t size = body.size - at < step ? body.size - at : step;

		snprintf(line, sizeof(line), "%zx;a=b\r\n", size);
		buffer_put_text(&out, line);
		buffer_put(&out, body.data + at, size);
		buffer_put_text(&out, "\r\n");
	}
	snprintf(line, sizeof(line), "0\r\nt: u\r\n\r\nGET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
	buffer_put_text(&out, line);
	text = exchange(buffer_span(&out));
	buffer_fini(&out);
	return text;
}

static int status_of(const struct buffer *text)
{
	int status = 0;

	assert_int_equal(sscanf((const char *)text->data, "HTTP/1.1 %d ", &status), 1);
	return status;
}

/* A blob whose length nobody said is taken when it is what its path says, up to 4 MiB, and what comes behind it is a request. */
static void a_blob_comes_in_chunks(void **state)
{
	static const size_t sizes[] = { 0, 1, 70000, 4u << 20, (4u << 20) + 1 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct buffer blob = noise(sizes[i] + 1, (uint32_t)(40 + i)), text;
		bool fits = sizes[i] <= STORE_BLOB_BYTES_MAX;
		struct digest digest;
		char path[100];

		blob.size = sizes[i];            /* perhaps nothing */
		digest = digest_made(buffer_span(&blob));
		cache_path(path, sizeof(path), "/cas/", &digest);
		text = put_chunked(path, buffer_span(&blob), sizes[i] > 100000 ? 65000 : 7);
		assert_int_equal(status_of(&text), fits ? 200 : 413);
		if (fits)
			assert_memory_equal(text.data + text.size - 1 - blob.size, blob.data, blob.size);
		assert_true(!fits || memmem(text.data + 12, text.size - 12, "HTTP/1.1 200 ", 13));
		assert_int_equal(find_missing(client, &digest, 1), !fits);
		buffer_fini(&text);
		buffer_fini(&blob);
	}
	gateway_thread_until(gateway, over, NULL);
}

static void a_blob_in_chunks_is_verified(void **state)
{
	struct span blob = span_text("not what the path says");
	struct digest digest = digest_made(blob), other = digest_made(span_text("another one"));
	struct buffer out = buffer_heap(4096), text;
	char path[100], line[300];

	cache_path(path, sizeof(path), "/cas/", &other);
	text = put_chunked(path, blob, 5);
	assert_int_equal(status_of(&text), 400);
	assert_non_null(strstr((const char *)text.data, "the data is sha256:"));
	assert_int_equal(find_missing(client, (struct digest[]){ digest, other }, 2), 2);
	buffer_fini(&text);
	/* With a length besides, nobody knows where it ends: neither it nor what comes behind it is looked at. */
	cache_path(path, sizeof(path), "/cas/", &digest);
	snprintf(line, sizeof(line), "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", path,
	         blob.size, blob.size);
	buffer_put_text(&out, line);
	buffer_put(&out, blob.data, blob.size);
	buffer_put_text(&out, "\r\n0\r\n\r\nGET /cas/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	text = exchange(buffer_span(&out));
	assert_int_equal(status_of(&text), 400);
	assert_null(memmem(text.data + 12, text.size - 12, "HTTP/1.1 ", 9));
	assert_int_equal(find_missing(client, &digest, 1), 1);
	buffer_fini(&text);
	buffer_fini(&out);
	gateway_thread_until(gateway, over, NULL);
}

/* HTTP/2's own rules are kept below: a body of another length than it says is none. */
static void a_body_is_as_long_as_it_says(void **state)
{
	static const char *const lengths[] = { "2", "4", "x" };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int fd = dial_shut();

		request(fd, 1, "PUT", "/ac/" KEY, lengths[i], span_text("\xff\xff\xff"), true);
		request(fd, 3, "GET", "/nowhere", NULL, (struct span){ 0 }, true);
		gateway_thread_until(gateway, answered, &(size_t){ 1 });
		close(fd);
		gateway_thread_until(gateway, over, NULL);
		assert_int_equal(ask("GET", "/ac/" KEY, (struct span){ 0 }, NULL), 404);
	}
}

static void find_scope(struct gateway_parts *parts, void *context)
{
	struct scope scope;

	*(int *)context = store_scope_find(parts->store, span_text("default"), span_text("a/b"), SCOPE_ALL, &scope);
}

static void who_only_asks_leaves_no_name(void **state)
{
	int found;

	assert_int_equal(ask("GET", "/a/b/ac/" KEY, (struct span){ 0 }, NULL), 404);
	assert_int_equal(ask("HEAD", "/a/b/cas/" KEY, (struct span){ 0 }, NULL), 404);
	gateway_thread_call(gateway, find_scope, &found);
	assert_int_equal(found, -2);
	assert_int_equal(ask("PUT", "/a/b/ac/" KEY, span_text("\xff"), NULL), 200);
	gateway_thread_call(gateway, find_scope, &found);
	assert_int_equal(found, 0);
	assert_int_equal(ask("GET", "/a/b/ac/" KEY, (struct span){ 0 }, NULL), 200);
}

static bool noted;

static void on_noted(struct store_note *note)
{
	assert_int_equal(note->result, STORE_OK);
	noted = true;
}

/* What was put by HTTP under an action's hash, and has gone. */
static void forget_result(struct gateway_parts *parts, void *context)
{
	static struct store_note note;
	struct digest gone = digest_made(span_text("a result that was evicted"));
	struct buffer value = buffer_over(note.value, sizeof(note.value));
	struct scope scope;

	assert_int_equal(store_scope(parts->store, span_text("default"), span_text(""), SCOPE_ALL, &scope), 0);
	note = (struct store_note){ 0 };
	results_key_web(&note, &scope, context);
	buffer_put_text(&value, "r");
	digest_list_put(&value, &gone);
	note.value_size = value.size;
	note.fn = on_noted;
	store_note_put(parts->store, &note);
}

static bool is_noted(struct gateway_parts *parts, void *context)
{
	return noted;
}

static void a_result_stands_behind_one_that_has_gone(void **state)
{
	struct digest action = digest_made(span_text("an action"));
	struct buffer result = buffer_heap(4096), update = buffer_heap(4096), body;
	struct answer answer;
	char path[100];

	cache_path(path, sizeof(path), "/ac/", &action);
	pb_put_text(&result, 5, "said");
	message_put_digest(&update, 2, &action);
	pb_put_bytes_always(&update, 3, buffer_span(&result));
	answer = ask_method(client, REAPI_UPDATE_RESULT, update);
	assert_int_equal(answer.status, GRPC_OK);
	answer_fini(&answer);
	gateway_thread_call(gateway, forget_result, &action);
	gateway_thread_until(gateway, is_noted, NULL);
	assert_int_equal(ask("GET", path, (struct span){ 0 }, &body), 200);
	assert_true(span_equal(buffer_span(&body), buffer_span(&result)));
	buffer_fini(&body);
	buffer_fini(&result);
}

static void only_this_machine_needs_no_credential(void **state)
{
	static const struct {
		const char *host, *name, *value;
		bool local;
	} rows[] = {
		{ "localhost", "", "", true }, { "LocalHost:8372", "", "", true }, { "127.0.0.1:8372", "", "", true },
		{ "127.9.8.7", "", "", true }, { "[::1]", "", "", true }, { "[::1]:1", "", "", true }, { "", "host", "localhost:1", true },
		{ "localhost", "sec-fetch-site", "none", true }, { "localhost", "accept", "*/*", true },
		{ "", "", "", false }, { "x", "", "", false }, { "localhost.example", "", "", false }, { "127.0.0.1.example", "", "", false },
		{ "127.1", "", "", false }, { "128.0.0.1", "", "", false }, { "0127.0.0.1", "", "", false }, { "[::1]x", "", "", false },
		{ "[::2]", "", "", false }, { "localhost:x", "", "", false }, { "localhost:123456", "", "", false }, { ":80", "", "", false },
		{ "a@localhost", "", "", false }, { "localhost", "host", "evil.example", false }, { "evil.example", "host", "localhost", false },
		{ "localhost", "origin", "http://localhost", false }, { "localhost", "sec-fetch-site", "cross-site", false },
		{ "localhost", "sec-fetch-site", "same-origin", false }, { "localhost", "forwarded", "for=192.0.2.1", false },
		{ "localhost", "x-forwarded-for", "", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct header header = { .name = span_text(rows[i].name), .value = span_text(rows[i].value) };
		const struct h2_request head = { .authority = span_text(rows[i].host), .headers = &header, .headers_count = 1 };

		if (web_guard_local(&head) != rows[i].local)
			fail_msg("%s, %s: %s", rows[i].host, rows[i].name, rows[i].value);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_this_machine_needs_no_credential),
		cmocka_unit_test(a_body_is_as_long_as_it_says),
		cmocka_unit_test(answers_that_nobody_takes_end),
		cmocka_unit_test(a_value_takes_memory_as_it_comes),
		cmocka_unit_test(what_waits_is_bounded),
		cmocka_unit_test(a_blob_comes_in_chunks),
		cmocka_unit_test(a_blob_in_chunks_is_verified),
		cmocka_unit_test(who_only_asks_leaves_no_name),
		cmocka_unit_test(a_result_stands_behind_one_that_has_gone),
	};

	engine = argc > 1 && !strcmp(argv[1], "late") ? &index_late : NULL;
	return cmocka_run_group_tests(tests, setup, teardown);
}
