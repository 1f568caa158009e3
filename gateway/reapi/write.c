/*
 * ByteStream/Write.
 *
 *	NAMING -> ASKING -> TAKING <-> IDLE
 *	             |         +-> ENDING -> ANSWERED
 *	             +-> ANSWERED (it is there already)
 *
 * While a message is being taken the call is held. write_step() is a loop, since what it starts may end inline; events only
 * call it.
 */
#include "gateway/reapi/write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/cas/presence.h"
#include "gateway/reapi/callers.h"
#include "gateway/reapi/expander.h"
#include "gateway/reapi/methods.h"
#include "gateway/reapi/rpc.h"
#include "gateway/reapi/upload.h"
#include "proto/pb.h"
#include "proto/reapi_resource.h"

enum write_state {
	WRITE_NAMING,                    /* for the first message */
	WRITE_ASKING,                    /* is the blob there? */
	WRITE_TAKING,                    /* a message goes into the upload */
	WRITE_IDLE,                      /* for the next message */
	WRITE_ENDING,                    /* the upload verifies and stores */
	WRITE_ANSWERED,
};

struct write {
	struct call call;
	struct reapi *reapi;
	struct access_caller caller;
	struct quota_place place;
	enum write_state state;
	bool closed, stepping, finish, room;
	bool asking;                     /* `presence` is in flight: also when the write has been refused meanwhile */
	struct scope scope;
	char name[REAPI_RESOURCE_BYTES_MAX];
	size_t name_size;
	struct reapi_resource resource;  /* borrows from `name` */
	int64_t began;                   /* at which offset of the blob */
	int64_t offset;                  /* where the next message begins, as the client counts */
	uint64_t overlap;                /* of what comes next: it is in the upload already */
	struct span rest;                /* of the message; in `message` once the handler has returned */
	struct buffer message;
	uint64_t waiting;                /* its bytes, as charged to reapi.waiting_bytes */
	struct expander expander;        /* of a compressed one */
	struct upload *upload;
	struct presence presence;
	bool present;
	uint64_t idle_since_ns;          /* 0: it is we who are at work */
	struct list link;                /* reapi.writes */
};

static void write_step(struct write *write);

static void write_free(struct write *write)
{
	struct reapi *reapi = write->reapi;

	list_remove(&write->link);
	reapi->waiting_bytes -= write->waiting;
	upload_destroy(write->upload);
	expander_drop(&write->expander);
	buffer_fini(&write->message);
	call_fini(&write->call);
	callers_close(reapi, &write->place);
	free(write);
}

/* ---- answers ---- */

static void write_drop_message(struct write *write)
{
	write->reapi->waiting_bytes -= write->waiting;
	write->waiting = 0;
	write->rest = (struct span){ 0 };
	buffer_fini(&write->message);
}

/* It ends with nothing stored. */
static void write_give_up(struct write *write, enum grpc_status status, const char *text)
{
	write->state = WRITE_ANSWERED;
	write->idle_since_ns = 0;
	upload_destroy(write->upload);
	write->upload = NULL;
	write_drop_message(write);
	expander_drop(&write->expander);
	call_finish(&write->call, status, text);
}

static void write_fail(struct write *write, enum grpc_status status, const char *text)
{
	write->reapi->counters.uploads_refused++;
	write_give_up(write, status, text);
}

static void write_answer(struct write *write, int64_t committed)
{
	uint8_t storage[16];
	struct buffer out = buffer_over(storage, sizeof(storage));

	pb_put_int64(&out, 1, committed);
	write->state = WRITE_ANSWERED;
	write->idle_since_ns = 0;
	write_drop_message(write);
	expander_drop(&write->expander);
	if (call_send(&write->call, buffer_span(&out), 0) == CALL_SENT)
		call_finish(&write->call, GRPC_OK, NULL);
	else
		call_finish(&write->call, GRPC_INTERNAL, "the response could not be queued");
}

static void write_fail_crowded(struct write *write)
{
	write->reapi->crowded_ns = ring_now_ns(write->reapi->cas->ring);
	write_fail(write, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_CROWDED);
}

static void write_fail_upload(struct write *write)
{
	const struct upload *upload = write->upload;
	char expected[DIGEST_TEXT_MAX], actual[DIGEST_TEXT_MAX], text[400];
	enum grpc_status status;
	const char *why;

	switch (upload->result) {
	case UPLOAD_WRONG:
		snprintf(text, sizeof(text), "the data is %s, not %s", digest_text(&upload->actual, actual),
		         digest_text(&upload->digest, expected));
		write_fail(write, GRPC_INVALID_ARGUMENT, text);
		break;
	case UPLOAD_TOO_LONG:
		write_fail(write, GRPC_INVALID_ARGUMENT, "more data than the size in the resource name");
		break;
	case UPLOAD_CROWDED:
		write_fail_crowded(write);
		break;
	default:
		status = rpc_store_status(upload->result, &why);
		write_fail(write, status, why);
	}
}

/* ---- who waits for whom ---- */

static void orphan_drop(struct upload *upload)
{
	struct reapi *reapi = upload->reapi;

	list_remove(&upload->link);
	reapi->orphans_count--;
	reapi->counters.uploads_expired++;
	upload_destroy(upload);
}

void writes_sweep(struct reapi *reapi, uint64_t now)
{
	bool crowded = reapi->crowded_ns && now - reapi->crowded_ns < REAPI_CROWDED_NS;
	uint64_t idle_max = crowded ? REAPI_CROWDED_NS : REAPI_WRITE_IDLE_NS;

	list_for_each_safe(link, after, &reapi->orphans) {
		struct upload *upload = container_of(link, struct upload, link);

		if (now - upload->orphaned_ns >= REAPI_ORPHAN_NS)
			orphan_drop(upload);
	}
	list_for_each_safe(link, after, &reapi->writes) {
		struct write *write = container_of(link, struct write, link);

		if (!write->idle_since_ns || now - write->idle_since_ns < idle_max)
			continue;
		reapi->counters.uploads_expired++;
		write_give_up(write, GRPC_DEADLINE_EXCEEDED, "nothing came for too long: begin the write again");
	}
}

void writes_close(struct reapi *reapi)
{
	while (!list_empty(&reapi->orphans))
		orphan_drop(container_of(reapi->orphans.next, struct upload, link));
}

bool writes_make_room(struct reapi *reapi, uint64_t bytes)
{
	while (!list_empty(&reapi->orphans) &&
	       (!budget_has(&reapi->uploads, bytes) || reapi->orphans_count > REAPI_ORPHANS_MAX))
		orphan_drop(container_of(reapi->orphans.next, struct upload, link));
	return budget_has(&reapi->uploads, bytes);
}

static bool upload_is(const struct upload *upload, const struct scope *scope, const struct reapi_resource *resource)
{
	return scope_same(&upload->scope, scope) && digest_equal(&upload->digest, &resource->digest) &&
	       span_equal(span_make(upload->uuid, upload->uuid_size), resource->uuid);
}

/* An upload of this name that was begun and has not come to its end; NULL: none. `holder`: the call that it comes on. */
static struct upload *upload_find(struct reapi *reapi, const struct scope *scope, const struct reapi_resource *resource,
                                  struct write **holder)
{
	list_for_each(link, &reapi->orphans) {
		struct upload *upload = container_of(link, struct upload, link);

		*holder = NULL;
		if (upload_is(upload, scope, resource))
			return upload;
	}
	list_for_each(link, &reapi->writes) {
		struct write *write = container_of(link, struct write, link);

		*holder = write;
		if (write->upload && write->state != WRITE_ENDING && upload_is(write->upload, scope, resource))
			return write->upload;
	}
	return NULL;
}

bool writes_progress(struct reapi *reapi, const struct scope *scope, const struct reapi_resource *resource, uint64_t *bytes)
{
	struct write *holder;
	const struct upload *upload = upload_find(reapi, scope, resource, &holder);

	*bytes = upload ? upload->bytes : 0;
	return upload;
}

/* The call has gone, or another one goes on with it. */
static void write_orphan(struct write *write)
{
	struct upload *upload = write->upload;
	struct reapi *reapi = write->reapi;

	if (!upload || write->state == WRITE_ENDING || reapi->closing || !pair_wanted(&upload->digest) || !upload->bytes ||
	    upload->result != STORE_OK)
		return;
	write->upload = NULL;
	upload->owner = NULL;
	upload->orphaned_ns = ring_now_ns(reapi->cas->ring);
	list_append(&reapi->orphans, &upload->link);
	reapi->orphans_count++;
	writes_make_room(reapi, 0);
	reapi_watch(reapi);
}

/* ---- the upload's events ---- */

static void on_room(struct upload *upload)
{
	struct write *write = upload->owner;

	if (!write)
		return;
	write->room = true;
	write_step(write);
}

static void on_done(struct upload *upload)
{
	struct write *write = upload->owner;

	if (upload->result != STORE_OK) {
		write_fail_upload(write);
		return;
	}
	upload_destroy(upload);
	write->upload = NULL;
	write_answer(write, write->offset);
}

/* ---- taking a message ---- */

/* Into the upload. False: not all of it went. */
static bool write_pass(struct write *write, struct span bytes, size_t *taken)
{
	if (write->overlap) {
		*taken = bytes.size < write->overlap ? bytes.size : (size_t)write->overlap;
		write->overlap -= *taken;
		return true;
	}
	write->room = false;
	*taken = upload_write(write->upload, bytes);
	return *taken == bytes.size || write->room;
}

/* True: go on. */
static bool write_take_zstd(struct write *write)
{
	struct span plain = expander_plain(&write->expander);
	size_t taken;
	bool all;

	if (plain.size) {
		all = write_pass(write, plain, &taken);
		expander_taken(&write->expander, taken);
		return all;
	}
	switch (expander_step(&write->expander, &write->rest)) {
	case EXPANDER_OK:
		return true;
	case EXPANDER_CORRUPT:
		write_fail(write, GRPC_INVALID_ARGUMENT, "the data is not valid zstd");
		break;
	case EXPANDER_CROWDED:
		write_fail_crowded(write);
		break;
	case EXPANDER_MEMORY:
		write_fail(write, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
		break;
	}
	return false;
}

static bool write_take(struct write *write)
{
	size_t taken;
	bool all;

	if (write->upload->result != STORE_OK) {
		write_fail_upload(write);
		return false;
	}
	if (write->resource.zstd)
		return write_take_zstd(write);
	all = write_pass(write, write->rest, &taken);
	write->rest = span_make(write->rest.data + taken, write->rest.size - taken);
	return all;
}

static bool write_taken(const struct write *write)
{
	return write->rest.size == 0 && expander_dry(&write->expander);
}

static void write_message_done(struct write *write)
{
	write_drop_message(write);
	if (!write->finish) {
		write->state = WRITE_IDLE;
		write->idle_since_ns = ring_now_ns(write->reapi->cas->ring);
		return;
	}
	if (write->overlap || write->expander.frame_open ||
	    (write->upload->result == STORE_OK && write->upload->bytes < write->resource.digest.size)) {
		write_fail(write, GRPC_INVALID_ARGUMENT, "the write was finished before all of the blob had come");
		return;
	}
	expander_drop(&write->expander);
	write->state = WRITE_ENDING;
	upload_finish(write->upload);
}

static void write_step(struct write *write)
{
	if (write->stepping)
		return;
	write->stepping = true;
	while (write->state == WRITE_TAKING && write->upload->granted) {
		if (write_taken(write))
			write_message_done(write);
		else if (!write_take(write))
			break;
	}
	write->stepping = false;
	if (write->state == WRITE_IDLE && write->call.held)
		call_release(&write->call);
}

/* ---- the first message ---- */

/*
 * An earlier write of the same name is gone on with. More of it may have come since the client asked how much is here, and what it
 * sends anew of that is passed over: the name says which bytes they are, and the digest is of all of them. When there is less the
 * client is to ask again: ABORTED, which it tries again. False: the call was refused.
 */
static bool write_resume(struct write *write)
{
	struct write *holder;
	struct upload *upload = upload_find(write->reapi, &write->scope, &write->resource, &holder);
	char text[160];

	if (!upload || upload->bytes < (uint64_t)write->began || (holder && holder->stepping)) {
		snprintf(text, sizeof(text), "write_offset is %lld, but %llu bytes are here: ask QueryWriteStatus",
		         (long long)write->began, upload ? (unsigned long long)upload->bytes : 0);
		write_fail(write, GRPC_ABORTED, text);
		return false;
	}
	if (holder) {
		holder->upload = NULL;
		write_give_up(holder, GRPC_ABORTED, "another call goes on with this write");
	} else {
		list_remove(&upload->link);
		write->reapi->orphans_count--;
	}
	write->upload = upload;
	write->overlap = upload->bytes - (uint64_t)write->began;
	upload->owner = write;
	write->reapi->counters.uploads_resumed++;
	return true;
}

/*
 * Who has sent all already waits in line. What others still send would fill the connection's window behind their backs, and those
 * whose turn it is would wait for bytes that cannot come any more. An executor's waits, too: a slot has a connection to itself, and a
 * refusal would throw away what it has run.
 */
static bool write_waits(const struct write *write)
{
	return write->finish || write->caller.executor;
}

static bool write_begin(struct write *write)
{
	const bool waits = write_waits(write);
	struct upload *upload;

	if (write->began)
		return write_resume(write);
	if (!writes_make_room(write->reapi, upload_memory(&write->resource.digest, waits)) && !waits) {
		write_fail_crowded(write);
		return false;
	}
	upload = upload_create(write->reapi, &write->scope, &write->resource.digest, on_room, on_done, write);
	if (!upload) {
		write_fail(write, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
		return false;
	}
	memcpy(upload->uuid, write->resource.uuid.data, write->resource.uuid.size);
	upload->uuid_size = write->resource.uuid.size;
	write->upload = upload;
	upload_start(upload, waits);
	return true;
}

static void write_on_presence(struct presence *presence)
{
	struct write *write = container_of(presence, struct write, presence);
	const char *text;
	enum grpc_status status;

	write->asking = false;
	if (write->closed) {
		write_free(write);
		return;
	}
	if (write->state != WRITE_ASKING)
		return;
	if (presence->result < 0) {
		status = rpc_store_status(presence->result, &text);
		write_fail(write, status, text);
		return;
	}
	if (write->present) {
		write->reapi->counters.uploads_known++;
		write_answer(write, write->resource.zstd ? -1 : (int64_t)write->resource.digest.size);
		return;
	}
	/* Before the upload says that there is room for it, perhaps at once. */
	write->state = WRITE_TAKING;
	write->stepping = true;
	if (write_begin(write)) {
		write->stepping = false;
		write_step(write);
	}
	write->stepping = false;
}

static bool write_name(struct write *write, struct span name)
{
	const char *fault;
	char why[256];
	enum grpc_status status;

	fault = reapi_resource_parse(&write->resource, name, true);
	if (!fault && write->resource.digest.size > REAPI_BLOB_BYTES_MAX)
		fault = "a blob longer than 64 GiB is not taken";
	if (!fault && write->resource.uuid.size > UPLOAD_UUID_BYTES_MAX)
		fault = "the UUID in the resource name is longer than 128 bytes";
	if (fault) {
		write_fail(write, GRPC_INVALID_ARGUMENT, fault);
		return false;
	}
	memcpy(write->name, name.data, name.size);
	write->name_size = name.size;
	reapi_resource_parse(&write->resource, span_make(write->name, name.size), true);
	status = access_enter(&write->reapi->cas->access, &write->caller, write->resource.instance, &write->scope, why,
	                      sizeof(why));
	if (status != GRPC_OK)
		write_fail(write, status, why);
	return status == GRPC_OK;
}

static void write_first(struct write *write, const struct bytestream_write_request *request)
{
	if (request->write_offset < 0) {
		write_fail(write, GRPC_INVALID_ARGUMENT, "write_offset is negative");
		return;
	}
	write->began = write->offset = request->write_offset;
	if (!write_name(write, request->resource_name))
		return;
	write->reapi->counters.uploads++;
	write->state = WRITE_ASKING;
	write->presence = (struct presence){
		.cas = write->reapi->cas, .scope = write->scope, .digests = &write->resource.digest, .count = 1,
		.present = &write->present, .fn = write_on_presence,
	};
}

static bool write_fits(struct write *write, const struct bytestream_write_request *request)
{
	char text[120];

	if (request->resource_name.size && !span_equal(request->resource_name, span_make(write->name, write->name_size))) {
		write_fail(write, GRPC_INVALID_ARGUMENT, "the resource name changes in mid-write");
		return false;
	}
	if (request->write_offset == write->offset)
		return true;
	snprintf(text, sizeof(text), "write_offset is %lld where %lld comes next", (long long)request->write_offset,
	         (long long)write->offset);
	write_fail(write, GRPC_INVALID_ARGUMENT, text);
	return false;
}

/* What could not be taken at once is kept until it can; an executor's in any case, as there are few. */
static void write_keep_rest(struct write *write)
{
	struct reapi *reapi = write->reapi;
	size_t size = write->rest.size;

	if (size == 0 || write->message.data)
		return;
	if (reapi->waiting_bytes + size > REAPI_WAITING_BYTES && !write->caller.executor) {
		write_fail_crowded(write);
		return;
	}
	write->message = buffer_heap(REAPI_MESSAGE_BYTES_MAX);
	buffer_put(&write->message, write->rest.data, size);
	if (write->message.failed) {
		write_fail(write, GRPC_RESOURCE_EXHAUSTED, RPC_TEXT_MEMORY);
		return;
	}
	write->waiting = size;
	reapi->waiting_bytes += size;
	write->rest = buffer_span(&write->message);
}

static void write_on_message(struct call *call, struct span message)
{
	struct write *write = container_of(call, struct write, call);
	struct bytestream_write_request request;

	if (write->state == WRITE_ANSWERED)
		return;
	if (!message_decode(&bytestream_write_request_type, message, &request)) {
		write_fail(write, GRPC_INVALID_ARGUMENT, "malformed WriteRequest");
		return;
	}
	if (write->finish) {
		write_fail(write, GRPC_INVALID_ARGUMENT, "a message after finish_write");
		return;
	}
	call_hold(call);
	write->idle_since_ns = 0;
	if (write->state == WRITE_NAMING)
		write_first(write, &request);
	else if (write_fits(write, &request))
		write->state = WRITE_TAKING;
	if (write->state == WRITE_ANSWERED)
		return;
	write->offset += (int64_t)request.data.size;
	write->finish = request.finish_write;
	write->rest = request.data;
	write->reapi->counters.bytes_received += request.data.size;
	if (write->state == WRITE_ASKING) {
		write->asking = true;
		presence_look(&write->presence);
	} else {
		write_step(write);
	}
	if (write->state == WRITE_ASKING || write->state == WRITE_TAKING)
		write_keep_rest(write);
}

/* ---- the call ---- */

static void write_on_end(struct call *call)
{
	struct write *write = container_of(call, struct write, call);
	int64_t committed;

	if (write->state == WRITE_NAMING) {
		write_fail(write, GRPC_INVALID_ARGUMENT, "a Write without a message");
	} else if (write->state == WRITE_IDLE) {
		committed = (int64_t)write->upload->bytes;
		write_orphan(write);
		if (write->upload) {             /* too short to be gone on with */
			upload_destroy(write->upload);
			write->upload = NULL;
			committed = 0;
		}
		write_answer(write, committed);
	}
}

static void write_on_writable(struct call *call)
{
}

static void write_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct write *write = container_of(call, struct write, call);

	write->closed = true;
	if (write->asking)
		return;
	write_orphan(write);
	write_free(write);
}

static const struct call_events write_events = {
	.on_message = write_on_message,
	.on_end = write_on_end,
	.on_writable = write_on_writable,
	.on_closed = write_on_closed,
};

int bytestream_write(struct reapi *reapi, const struct server_request *request, char *why, size_t why_size)
{
	struct write *write = calloc(1, sizeof(*write));
	enum grpc_status status = GRPC_RESOURCE_EXHAUSTED;
	uint64_t tenant;

	if (write)
		status = access_caller(&reapi->cas->access, request, SCOPE_WRITE, &write->caller, why, why_size);
	else
		snprintf(why, why_size, RPC_TEXT_MEMORY);
	tenant = status == GRPC_OK ? callers_tenant(&write->caller) : 0;
	if (!callers_admit(reapi, tenant, why, why_size))
		status = GRPC_RESOURCE_EXHAUSTED;
	if (status != GRPC_OK) {
		free(write);
		return status;
	}
	write->reapi = reapi;
	write->expander.budget = &reapi->expanders;
	write->idle_since_ns = ring_now_ns(reapi->cas->ring);
	callers_open(reapi, tenant, &write->place);
	list_append(&reapi->writes, &write->link);
	reapi_watch(reapi);
	call_accept(&write->call, request->stream, request->head, REAPI_MESSAGE_BYTES_MAX, &write_events, write);
	return 0;
}
