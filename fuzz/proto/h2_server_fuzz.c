/*
 * h2_server: any bytes into a server engine. The first byte says how they are cut and how lazy the consumer is. gRPC
 * requests are echoed by a call, others byte by byte; each stream that opened must close once, output stays bounded,
 * and nothing is told after a fault.
 */
#include "proto/call.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define HOLD    0x80                             /* of the first byte: calls hold after each message */
#define SILENT  0x40                             /* output is not fetched before the end */
#define STEP    0x3f

struct guest {                                   /* one stream's consumer */
	struct call call;
	struct run *run;
	struct guest *next;
	struct stream *stream;
	bool closed;
};

struct run {
	struct guest *guests;
	uint8_t mode;
	size_t opened, closed;
};

static void echo_on_message(struct call *call, struct span message)
{
	struct guest *guest = call->owner;

	call_send(call, message, 1);
	if (guest->run->mode & HOLD)
		call_hold(call);
}

static void echo_on_end(struct call *call)
{
	call_finish(call, GRPC_OK, "done");
}

static void guest_closed(struct guest *guest)
{
	REQUIRE(!guest->closed);
	guest->closed = true;
	guest->run->closed++;
}

static void echo_on_closed(struct call *call, enum grpc_status status, struct span message)
{
	guest_closed(call->owner);
	call_fini(call);
}

static const struct call_events echo_call_events = {
	.on_message = echo_on_message, .on_end = echo_on_end, .on_closed = echo_on_closed,
};

static void raw_on_data(struct stream *stream, struct span data)
{
	stream_write(stream, data);
	stream_consumed(stream, data.size);
}

static void raw_on_end(struct stream *stream)
{
	static const struct header trailers[] = { { .name = { (const uint8_t *)"x", 1 }, .value = { (const uint8_t *)"y", 1 } } };

	stream_trailers(stream, trailers, 1);
}

static void raw_on_close(struct stream *stream, uint32_t code)
{
	guest_closed(stream->owner);
}

static const struct stream_events raw_events = {
	.on_data = raw_on_data, .on_end = raw_on_end, .on_close = raw_on_close,
};

static int on_stream(void *owner, struct stream *stream, const struct h2_request *head)
{
	static const struct header ok[] = {
		{ .name = { (const uint8_t *)":status", 7 }, .value = { (const uint8_t *)"200", 3 } },
	};
	struct run *run = owner;
	struct grpc_request request;
	struct guest *guest;

	REQUIRE(head->headers_count <= STREAM_HEADERS_MAX);
	if (span_is(head->path, "/refuse"))
		return -1;
	guest = calloc(1, sizeof(*guest));
	guest->run = run;
	guest->next = run->guests;
	run->guests = guest;
	run->opened++;
	if (grpc_request_parse(&request, head)) {
		call_accept(&guest->call, stream, &request, 4096, &echo_call_events, guest);
		return 0;
	}
	stream->events = &raw_events;
	stream->owner = guest;
	stream_headers(stream, ok, 1, false);
	return 0;
}

static const struct h2_events events = { .on_stream = on_stream };

static void fetch(struct h2 *h2)
{
	while (h2_output(h2).size)
		continue;
}

static void release_all(struct run *run)
{
	for (struct guest *guest = run->guests; guest; guest = guest->next)
		if (guest->call.stream)
			call_release(&guest->call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .mode = size ? data[0] : 0 };
	const struct h2_config config = {
		.server = true, .events = &events, .owner = &run, .streams_max = 20, .stream_window_bytes = 65535,
		.out_queue_bytes = 16384, .header_list_bytes_max = 8192, .pieces = run.mode & 1,
	};
	size_t step = run.mode & STEP ? run.mode & STEP : 65536;
	struct h2 *h2;

	if (size == 0 || h2_create(&h2, &config) < 0)
		return 0;
	for (size_t at = 1; at < size; at += step) {
		size_t piece = size - at < step ? size - at : step;
		int r = h2_feed(h2, span_make(data + at, piece));

		REQUIRE((r < 0) == (h2_fault(h2)->scope == H2_FAULT_CONNECTION));
		if (!(run.mode & SILENT))
			fetch(h2);
		release_all(&run);
		if (r < 0)
			break;
	}
	fetch(h2);
	REQUIRE(h2_fault(h2)->scope != H2_FAULT_CONNECTION || !h2_alive(h2));
	h2_destroy(h2);
	REQUIRE(run.opened == run.closed);
	while (run.guests) {
		struct guest *guest = run.guests;

		run.guests = guest->next;
		free(guest);
	}
	return 0;
}
