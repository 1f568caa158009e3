/*
 * What does the HTTP/2 engine cost a byte? DATA of 16 KiB frames goes from a client engine to a server engine in
 * memory: written to the stream, framed, parsed, consumed, windows reopened. Compared with one memcpy of the same
 * bytes: the engine copies twice (into the stream's out-queue, into the frame), and a socket would add its own.
 */
#include "proto/h2.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FRAME_BYTES ((size_t)16384)
#define WRITE_BYTES ((size_t)131072)
#define TOTAL_BYTES ((size_t)512 << 20)
#define ROUNDS      3

static uint64_t received;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void on_data(struct stream *stream, struct span data)
{
	received += data.size;
	stream_consumed(stream, data.size);
}

static const struct stream_events stream_events = { .on_data = on_data };

static int on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	stream->events = &stream_events;
	return 0;
}

static bool carry(struct h2 *from, struct h2 *to)
{
	struct span out = h2_output(from);

	if (out.size == 0)
		return false;
	assert(h2_feed(to, out) == 0);
	return true;
}

static void pump(struct h2 *client, struct h2 *server)
{
	bool more;

	do {
		more = carry(client, server);
		more |= carry(server, client);
	} while (more);
}

static uint64_t transfer(const uint8_t *data)
{
	const struct h2_events events = { .on_stream = on_stream };
	const struct h2_request request = { .method = span_text("POST"), .path = span_text("/"),
		                            .scheme = span_text("http"), .authority = span_text("x") };
	struct h2 *client, *server;
	struct stream *stream;
	uint64_t start, took;

	assert(h2_create(&client, &(struct h2_config){ .events = &events }) == 0);
	assert(h2_create(&server, &(struct h2_config){ .events = &events, .server = true }) == 0);
	assert(h2_open(client, &stream, &request, false, &stream_events, NULL) == 0);
	pump(client, server);
	received = 0;
	start = now_ns();
	for (size_t sent = 0; sent < TOTAL_BYTES; sent += WRITE_BYTES) {
		size_t taken = stream_write(stream, span_make(data, WRITE_BYTES));

		assert(taken == WRITE_BYTES);
		pump(client, server);
	}
	took = now_ns() - start;
	assert(received == TOTAL_BYTES);
	h2_destroy(client);
	h2_destroy(server);
	return took;
}

static uint64_t copy(const uint8_t *data)
{
	uint8_t *to = malloc(WRITE_BYTES);
	uint64_t start = now_ns();

	for (size_t sent = 0; sent < TOTAL_BYTES; sent += WRITE_BYTES) {
		memcpy(to, data, WRITE_BYTES);
		__asm__ volatile("" : : "r"(to) : "memory");
	}
	start = now_ns() - start;
	free(to);
	return start;
}

int main(void)
{
	uint8_t *data = malloc(WRITE_BYTES);
	uint64_t best = UINT64_MAX, best_copy = UINT64_MAX;

	memset(data, 0x5a, WRITE_BYTES);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t took = transfer(data);
		uint64_t copied = copy(data);

		best = took < best ? took : best;
		best_copy = copied < best_copy ? copied : best_copy;
	}
	printf("h2: %zu MiB in frames of %zu KiB: %.0f ns a frame, %.2f GB/s both ends together; memcpy %.2f GB/s; "
	       "%.1f times a memcpy\n", TOTAL_BYTES >> 20, FRAME_BYTES >> 10,
	       (double)best / (TOTAL_BYTES / FRAME_BYTES), (double)TOTAL_BYTES / (double)best,
	       (double)TOTAL_BYTES / (double)best_copy, (double)best / (double)best_copy);
	free(data);
	return 0;
}
