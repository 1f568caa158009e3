/* A buildkitd as far as builds go. */
#include "tests/unit/buildkit/builder.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "gateway/base/check.h"
#include "proto/pb.h"

#define MESSAGE_MAX (20u << 20)
#define PIECE_BYTES 65536

struct builder_call {
	struct builder *builder;
	struct conn *conn;
	struct call call;
	struct list link;
	unsigned entry;
	char method[48], ref[64];
	bool internal, seen, answered;
	struct buffer kept;
	bool keeping;
	uint64_t received, to_send, sent;
};

/* Something that a test wants done on the builder's thread. */
struct order {
	struct post post;
	struct builder *builder;
	void (*fn)(struct order *order);
	const char *ref, *text;
	enum grpc_status status;
	bool sick;
	sem_t done;
};

static bool is(const struct builder_call *each, const char *method)
{
	return strcmp(each->method, method) == 0;
}

static void changed(struct builder *builder)
{
	pthread_cond_broadcast(&builder->changed);
	pthread_mutex_unlock(&builder->mutex);
}

/* ---- what it says ---- */

static void put_capability(struct buffer *out, uint32_t number, const char *id)
{
	size_t mark = pb_begin(out, number);

	pb_put_text(out, 1, id);
	pb_put_bool(out, 2, true);
	pb_end(out, mark);
}

static void put_named(struct buffer *out, uint32_t number, const char *name)
{
	size_t mark = pb_begin(out, number);

	pb_put_text(out, 1, name);
	pb_end(out, mark);
}

/* One step of the build that ended from the cache, one that was executed, twice. */
static void put_progress(struct buffer *out)
{
	static const char *const digests[] = { "sha256:aa", "sha256:bb", "sha256:bb" };

	for (unsigned i = 0; i < 3; i++) {
		size_t mark = pb_begin(out, 1), time;

		pb_put_text(out, 1, digests[i]);
		pb_put_text(out, 3, "a step");
		pb_put_bool(out, 4, i == 0);
		time = pb_begin(out, 6);
		pb_put_varint(out, 1, 1);
		pb_end(out, time);
		pb_end(out, mark);
	}
}

static void tell_progress(struct builder_call *each)
{
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));

	put_progress(&out);
	CHECK(!out.failed);
	call_send(&each->call, buffer_span(&out), 0);
}

static void give(struct builder_call *each, const struct buffer *message)
{
	CHECK(!message->failed);
	each->answered = true;
	call_send(&each->call, buffer_span(message), 0);
	call_finish(&each->call, GRPC_OK, NULL);
}

static struct builder_call *solve_of(struct builder *builder, const char *ref)
{
	list_for_each(link, &builder->calls) {
		struct builder_call *each = container_of(link, struct builder_call, link);

		if (is(each, "Solve") && each->seen && ref[0] && strcmp(each->ref, ref) == 0)
			return each;
	}
	return NULL;
}

static void finish_build(struct builder *builder, const char *ref, enum grpc_status status, const char *text)
{
	list_for_each(link, &builder->calls) {
		struct builder_call *each = container_of(link, struct builder_call, link);

		if (strcmp(each->ref, ref) != 0 || each->answered)
			continue;
		if (is(each, "Solve") || is(each, "Status")) {
			each->answered = true;
			if (is(each, "Solve") && status == GRPC_OK)
				call_send(&each->call, (struct span){ 0 }, 0);
			call_finish(&each->call, is(each, "Solve") ? status : GRPC_OK, is(each, "Solve") ? text : NULL);
		}
	}
}

/* What waits for a Solve, and it is there. */
static void serve_build_call(struct builder_call *each)
{
	struct builder *builder = each->builder;
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));

	if (!each->seen || each->answered || !solve_of(builder, each->ref))
		return;
	if (builder->hangs && is(each, builder->hangs))
		return;
	if (builder->refuses && is(each, builder->refuses)) {
		each->answered = true;
		call_finish(&each->call, GRPC_INTERNAL, "the frontend stumbled");
	} else if (is(each, "Status")) {
		tell_progress(each);
		each->seen = false;              /* once */
	} else if (is(each, "Bridge/Ping")) {
		put_capability(&out, 1, "frontend.return");
		put_capability(&out, 2, "llb.base");
		give(each, &out);
	} else if (is(each, "Bridge/Return")) {
		give(each, &out);
		if (!builder->exports)
			finish_build(builder, each->ref, GRPC_OK, NULL);
	} else if (strncmp(each->method, "Bridge/", 7) == 0) {
		pb_put_text(&out, 1, builder->name);
		give(each, &out);
	}
}

static void serve_build_calls(struct builder *builder)
{
	list_for_each(link, &builder->calls)
		serve_build_call(container_of(link, struct builder_call, link));
}

/* ---- messages ---- */

static void source_step(struct builder_call *each)
{
	static uint8_t pattern[PIECE_BYTES + 256];

	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7);
	while (each->sent < each->to_send) {
		uint64_t left = each->to_send - each->sent;
		size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;

		if (call_send(&each->call, span_make(pattern + each->sent % 256, size), 0) != CALL_SENT)
			return;
		each->sent += size;
	}
	call_finish(&each->call, GRPC_OK, NULL);
}

static void take_solve(struct builder_call *each, struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	bool session = false;
	struct pb_field field;

	while (pb_next(&reader, &field)) {
		if (field.number == 1)
			snprintf(each->ref, sizeof(each->ref), "%.*s", (int)field.bytes.size, (const char *)field.bytes.data);
		else if (field.number == 5)
			session = true;
		else if (field.number == 11)
			each->internal = field.value != 0;
	}
	CHECK(!reader.failed);
	pthread_mutex_lock(&each->builder->mutex);
	snprintf(each->builder->log[each->entry].ref, 64, "%s", each->ref);
	each->builder->log[each->entry].hidden = each->internal && !session;
	each->builder->log[each->entry].open = true;
	changed(each->builder);
}

static void take_status(struct builder_call *each, struct span message)
{
	struct pb_reader reader = pb_reader_make(message);
	struct pb_field field;

	while (pb_next(&reader, &field))
		if (field.number == 1)
			snprintf(each->ref, sizeof(each->ref), "%.*s", (int)field.bytes.size, (const char *)field.bytes.data);
	pthread_mutex_lock(&each->builder->mutex);
	each->builder->log[each->entry].open = true;
	changed(each->builder);
}

static void answer_control(struct builder_call *each)
{
	uint8_t storage[512];
	struct buffer out = buffer_over(storage, sizeof(storage));
	struct builder *builder = each->builder;

	if (is(each, "Check")) {
		bool sick;

		pthread_mutex_lock(&builder->mutex);
		sick = builder->sick;
		pthread_mutex_unlock(&builder->mutex);
		pb_put_varint(&out, 1, sick ? 2 : 1);
	} else if (is(each, "ListWorkers")) {
		put_named(&out, 1, "worker");
	} else if (is(each, "Info")) {
		put_named(&out, 1, "buildkit");
	} else if (is(each, "DiskUsage") || is(each, "ListenBuildHistory")) {
		put_named(&out, is(each, "DiskUsage") ? 1 : 2, builder->name);
		if (builder->follows && is(each, "ListenBuildHistory")) {
			call_send(&each->call, buffer_span(&out), 0);
			return;
		}
	} else if (is(each, "Prune") && builder->prune_bytes) {
		each->to_send = builder->prune_bytes;
		source_step(each);
		return;
	} else if (is(each, "Prune")) {
		pb_put_text(&out, 1, builder->name);
	} else {
		return;
	}
	give(each, &out);
}

static void take_return(struct builder *builder, struct span message)
{
	pthread_mutex_lock(&builder->mutex);
	snprintf(builder->named, sizeof(builder->named), "%.*s", (int)message.size, (const char *)message.data);
	changed(builder);
}

static bool echoes(const struct builder_call *each)
{
	static const char *const others[] = { "Check", "ListWorkers", "Info", "DiskUsage", "ListenBuildHistory", "Prune",
	                                      "Solve", "Status", "Session", "Hang", "Sink", "Source" };

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (is(each, others[i]))
			return false;
	return strncmp(each->method, "Bridge/", 7) != 0;
}

static void on_message(struct call *call, struct span message)
{
	struct builder_call *each = call->owner;

	each->received += message.size;
	if (is(each, "Source")) {
		CHECK(message.size == sizeof(each->to_send));
		memcpy(&each->to_send, message.data, sizeof(each->to_send));
		source_step(each);
		return;
	}

	if (each->builder->lacks && is(each, each->builder->lacks)) {
		call_finish(call, is(each, "Read") ? GRPC_NOT_FOUND : GRPC_UNKNOWN, "lease \"ref_r\": not found");
		return;
	}
	if (echoes(each)) {
		if (call_send(call, message, 0) != CALL_FULL)
			return;
		each->kept = buffer_heap(MESSAGE_MAX);
		buffer_put(&each->kept, message.data, message.size);
		each->keeping = true;
		call_hold(call);
		return;
	}
	if (is(each, "Solve"))
		take_solve(each, message);
	else if (is(each, "Status"))
		take_status(each, message);
	else if (is(each, "Bridge/Return"))
		take_return(each->builder, message);
	each->seen = true;
	answer_control(each);
	serve_build_calls(each->builder);
}

static void on_writable(struct call *call)
{
	struct builder_call *each = call->owner;

	if (each->to_send)
		source_step(each);
	if (!each->keeping || call_send(call, buffer_span(&each->kept), 0) == CALL_FULL)
		return;
	each->keeping = false;
	buffer_fini(&each->kept);
	call_release(call);
}

static void on_end(struct call *call)
{
	struct builder_call *each = call->owner;

	if (is(each, "Sink"))
		call_send(call, span_make(&each->received, sizeof(each->received)), 0);
	if (echoes(each) || is(each, "Sink") || is(each, "Session"))
		call_finish(call, GRPC_OK, NULL);
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct builder_call *each = call->owner;
	struct builder *builder = each->builder;

	(void)status;
	(void)message;
	list_remove(&each->link);
	pthread_mutex_lock(&builder->mutex);
	if (each->entry < BUILDER_LOG_MAX)
		builder->log[each->entry].open = false;
	changed(builder);
	/* A build whose client went is over. */
	if (is(each, "Solve") && !each->answered)
		finish_build(builder, each->ref, GRPC_OK, NULL);
	call_fini(&each->call);
	buffer_fini(&each->kept);
	free(each);
}

static const struct call_events events = {
	.on_message = on_message, .on_end = on_end, .on_writable = on_writable, .on_closed = on_closed,
};

/* ---- requests ---- */

static void name_method(char name[48], struct span path)
{
	char text[128];
	const char *last;

	snprintf(text, sizeof(text), "%.*s", (int)path.size, (const char *)path.data);
	last = strrchr(text, '/');
	snprintf(name, 48, "%s%.40s", strstr(text, "LLBBridge") ? "Bridge/" : "", last ? last + 1 : text);
}

static bool is_the_pools(struct builder *builder, const struct builder_call *each)
{
	const struct builder_call *solve = solve_of(builder, each->ref);

	return is(each, "Check") || is(each, "ListWorkers") || is(each, "Info") || is(each, "Bridge/Ping") ||
	       (is(each, "Bridge/Return") && solve && builder->log[solve->entry].hidden);
}

static int on_request(void *context, const struct server_request *request, char *why, size_t why_size)
{
	struct builder *builder = context;
	struct builder_call *each = calloc(1, sizeof(*each));

	each->builder = builder;
	each->conn = request->conn;
	name_method(each->method, request->head->path);
	for (size_t i = 0; i < request->head->headers_count; i++) {
		const struct header *header = &request->head->headers[i];

		if (span_is(header->name, "buildkit-controlapi-buildid") || span_is(header->name, "x-docker-expose-session-uuid"))
			snprintf(each->ref, sizeof(each->ref), "%.*s", (int)header->value.size, (const char *)header->value.data);
	}
	pthread_mutex_lock(&builder->mutex);
	each->entry = BUILDER_LOG_MAX;
	if (!is_the_pools(builder, each)) {
		struct builder_entry *entry = &builder->log[builder->logged];

		CHECK(builder->logged < BUILDER_LOG_MAX);
		each->entry = builder->logged++;
		*entry = (struct builder_entry){ .open = !is(each, "Solve") && !is(each, "Status") };    /* see builder_open() */
		snprintf(entry->method, sizeof(entry->method), "%s", each->method);
		snprintf(entry->ref, sizeof(entry->ref), "%s", each->ref);
	}
	changed(builder);
	if (is(each, "Refuse") || is(each, "No")) {
		bool no = is(each, "No");

		free(each);
		snprintf(why, why_size, no ? "unknown method" : "not you, 100 %% sure");
		return no ? GRPC_UNIMPLEMENTED : GRPC_PERMISSION_DENIED;
	}
	list_append(&builder->calls, &each->link);
	call_accept(&each->call, request->stream, request->head, MESSAGE_MAX, &events, each);
	return 0;
}

/* ---- the thread ---- */

static void on_drained(void *context)
{
	((struct builder *)context)->drained = true;
}

static void note_connections(struct builder *builder)
{
	struct server_status status;

	server_status(builder->server, &status);
	pthread_mutex_lock(&builder->mutex);
	builder->connections = status.connections;
	changed(builder);
}

static void *builder_run(void *context)
{
	static const struct server_method none[] = { { 0 } };
	struct builder *builder = context;
	struct ring_config ring = { .engine = builder->engine };
	struct server_config server = {
		.methods = none, .unknown = on_request, .context = builder, .on_drained = on_drained,
		.streams_max = builder->streams_max,
	};
	struct address address;
	char why[256] = "";

	CHECK(ring_create(&builder->ring, &ring) == 0);
	CHECK(server_create(&builder->server, builder->ring, &server) == 0);
	CHECK(address_parse(&address, builder->bound[0] ? builder->bound : "grpc://127.0.0.1:0", why, sizeof(why)));
	CHECK(server_listen(builder->server, &address, NULL, builder->bound, sizeof(builder->bound), why, sizeof(why)) == 0);
	pthread_mutex_lock(&builder->mutex);
	builder->listening = true;
	changed(builder);
	while (!builder->drained) {
		ring_run(builder->ring, UINT64_MAX);
		note_connections(builder);
	}
	server_destroy(builder->server);
	ring_destroy(builder->ring);
	return NULL;
}

void builder_start(struct builder *builder)
{
	pthread_mutex_init(&builder->mutex, NULL);
	pthread_cond_init(&builder->changed, NULL);
	builder->listening = builder->drained = builder->stopped = false;
	list_init(&builder->calls);
	assert_int_equal(pthread_create(&builder->thread, NULL, builder_run, builder), 0);
	pthread_mutex_lock(&builder->mutex);
	while (!builder->listening)
		pthread_cond_wait(&builder->changed, &builder->mutex);
	pthread_mutex_unlock(&builder->mutex);
	snprintf(builder->address, sizeof(builder->address), "tcp%s", strchr(builder->bound, ':'));
}

/* ---- orders ---- */

static void on_order(struct post *post)
{
	struct order *order = container_of(post, struct order, post);

	order->fn(order);
	sem_post(&order->done);
}

static void give_order(struct builder *builder, struct order *order)
{
	order->builder = builder;
	order->post.fn = on_order;
	sem_init(&order->done, 0, 0);
	ring_post(builder->ring, &order->post);
	while (sem_wait(&order->done) < 0)
		;
	sem_destroy(&order->done);
}

static void order_finish(struct order *order)
{
	finish_build(order->builder, order->ref, order->status, order->text);
}

void builder_finish(struct builder *builder, const char *ref, enum grpc_status status, const char *text)
{
	struct order order = { .fn = order_finish, .ref = ref, .status = status, .text = text };

	give_order(builder, &order);
}

static void order_goodbye(struct order *order)
{
	list_for_each(link, &order->builder->calls) {
		struct builder_call *each = container_of(link, struct builder_call, link);

		conn_drain(each->conn);
		if (is(each, "Status"))
			tell_progress(each);
	}
}

void builder_goodbye(struct builder *builder)
{
	struct order order = { .fn = order_goodbye };

	give_order(builder, &order);
}

static void order_stop(struct order *order)
{
	server_drain(order->builder->server, 0);
}

void builder_stop(struct builder *builder)
{
	struct order order = { .fn = order_stop };

	if (builder->stopped)
		return;
	builder->stopped = true;
	give_order(builder, &order);
	pthread_join(builder->thread, NULL);
	pthread_mutex_destroy(&builder->mutex);
	pthread_cond_destroy(&builder->changed);
}

void builder_set_sick(struct builder *builder, bool sick)
{
	pthread_mutex_lock(&builder->mutex);
	builder->sick = sick;
	pthread_mutex_unlock(&builder->mutex);
}

/* ---- questions ---- */

char *builder_named(struct builder *builder, char *text, size_t size)
{
	pthread_mutex_lock(&builder->mutex);
	snprintf(text, size, "%s", builder->named);
	pthread_mutex_unlock(&builder->mutex);
	return text;
}

static unsigned count_locked(struct builder *builder, const char *method, bool open)
{
	unsigned count = 0;

	for (unsigned i = 0; i < builder->logged; i++) {
		const struct builder_entry *entry = &builder->log[i];

		count += strcmp(entry->method, method) == 0 && !entry->hidden && (!open || entry->open);
	}
	return count;
}

static unsigned count_of(struct builder *builder, const char *method, bool open)
{
	unsigned count;

	pthread_mutex_lock(&builder->mutex);
	count = count_locked(builder, method, open);
	pthread_mutex_unlock(&builder->mutex);
	return count;
}

unsigned builder_count(struct builder *builder, const char *method)
{
	return count_of(builder, method, false);
}

unsigned builder_open(struct builder *builder, const char *method)
{
	return count_of(builder, method, true);
}

static void until(struct builder *builder, const char *method, bool open, uint64_t count)
{
	struct timespec end;
	bool there = false;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	pthread_mutex_lock(&builder->mutex);
	for (int r = 0; !there && r == 0;) {
		there = (method ? count_locked(builder, method, open) : builder->connections) == count;
		if (!there)
			r = pthread_cond_timedwait(&builder->changed, &builder->mutex, &end);
	}
	pthread_mutex_unlock(&builder->mutex);
	if (!there)
		fail_msg("%s: never %u %s", builder->name, (unsigned)count, method ? method : "connections");
}

void builder_until_count(struct builder *builder, const char *method, unsigned count)
{
	until(builder, method, false, count);
}

void builder_until_open(struct builder *builder, const char *method, unsigned count)
{
	until(builder, method, true, count);
}

void builder_until_connections(struct builder *builder, uint64_t count)
{
	until(builder, NULL, false, count);
}

char *builder_order(struct builder *builder, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	pthread_mutex_lock(&builder->mutex);
	for (unsigned i = 0; i < builder->logged && used < size; i++)
		if (!builder->log[i].hidden)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " " : "", builder->log[i].method);
	pthread_mutex_unlock(&builder->mutex);
	return text;
}
