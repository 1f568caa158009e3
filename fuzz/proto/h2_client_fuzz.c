/*
 * h2_client: any bytes into a client engine with calls in progress. The first byte says how they are cut. Each call
 * must be closed once, with messages within their limit before it and none after.
 */
#include "proto/call.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define CALLS       4
#define MESSAGE_MAX ((size_t)4096)
#define HOLD        0x80
#define STEP        0x7f

struct guest {
	struct call call;
	bool ended, closed, holds;
};

static void on_message(struct call *call, struct span message)
{
	struct guest *guest = call->owner;

	REQUIRE(!guest->ended && !guest->closed && !call->held);
	REQUIRE(message.size <= MESSAGE_MAX);
	if (guest->holds)
		call_hold(call);
}

static void on_end(struct call *call)
{
	struct guest *guest = call->owner;

	REQUIRE(!guest->ended && !guest->closed);
	guest->ended = true;
}

static void on_closed(struct call *call, enum grpc_status status, struct span message)
{
	struct guest *guest = call->owner;

	REQUIRE(!guest->closed);
	REQUIRE(status <= GRPC_UNAUTHENTICATED && message.size <= CALL_STATUS_TEXT_MAX);
	REQUIRE(status != GRPC_OK || guest->ended);
	guest->closed = true;
	call_fini(call);
}

static const struct call_events call_events = { .on_message = on_message, .on_end = on_end, .on_closed = on_closed };
static const struct h2_events events = { 0 };

static void fetch(struct h2 *h2)
{
	while (h2_output(h2).size)
		continue;
}

static void release_all(struct guest *guests)
{
	for (size_t i = 0; i < CALLS; i++)
		if (!guests[i].closed)
			call_release(&guests[i].call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest guests[CALLS] = { 0 };
	const struct h2_config config = { .events = &events, .stream_window_bytes = 65535, .header_list_bytes_max = 8192 };
	size_t step = size && data[0] & STEP ? data[0] & STEP : 65536;
	struct h2 *h2;

	if (size == 0 || h2_create(&h2, &config) < 0)
		return 0;
	for (size_t i = 0; i < CALLS; i++) {
		guests[i].holds = data[0] & HOLD;
		REQUIRE(call_start(&guests[i].call, h2, "/s/m", span_text("h"), 0, NULL, 0, MESSAGE_MAX, &call_events,
		                   &guests[i]) == 0);
		call_send(&guests[i].call, span_text("request"), 0);
		if (i % 2)
			call_end(&guests[i].call);
	}
	fetch(h2);
	for (size_t at = 1; at < size; at += step) {
		int r = h2_feed(h2, span_make(data + at, size - at < step ? size - at : step));

		REQUIRE((r < 0) == (h2_fault(h2)->scope == H2_FAULT_CONNECTION));
		fetch(h2);
		release_all(guests);
		if (r < 0)
			break;
	}
	h2_destroy(h2);
	/* A held call whose stream ended well still has its messages to give, one a release. */
	for (size_t i = 0; i < CALLS; i++) {
		while (guests[i].call.closing)
			call_release(&guests[i].call);
		REQUIRE(guests[i].closed);
	}
	return 0;
}
