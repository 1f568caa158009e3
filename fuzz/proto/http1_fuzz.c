/*
 * http1: any bytes into a HTTP/1.1 engine. The first byte says how they are cut and how the consumer behaves. Bodies are echoed
 * into an answer of the length that the path's last digit says; paths that name blobs are parsed. Each stream that opened must
 * close once, output stays bounded, and nothing is told after a fault.
 */
#include "proto/cache_path.h"
#include "proto/http1.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define EARLY   0x80                             /* of the first byte: the answer comes before the body */
#define LAZY    0x40                             /* bodies are consumed at their end only */
#define STEP    0x3f

struct run {
	uint8_t mode;
	size_t opened, closed, body, unconsumed, left;
	struct stream *stream;
	bool over;
};

static void answer(struct run *run, struct stream *stream)
{
	char length[8];
	struct header headers[2] = { { .name = span_text(":status"), .value = span_text("200") },
	                             { .name = span_text("content-length") } };

	snprintf(length, sizeof(length), "%zu", run->left);
	headers[1].value = span_text(length);
	REQUIRE(stream_headers(stream, headers, 2, run->left == 0) == 0);
}

static void fill(struct run *run, struct stream *stream)
{
	static const uint8_t zeros[100000];

	while (run->left) {
		size_t taken = stream_write(stream, span_make(zeros, run->left < sizeof(zeros) ? run->left : sizeof(zeros)));

		if (!taken)
			return;
		run->left -= taken;
	}
	stream_end(stream);
}

static void on_data(struct stream *stream, struct span data)
{
	struct run *run = stream->owner;

	REQUIRE(!run->over && run->stream == stream && data.size);
	run->body += data.size;
	if (run->mode & LAZY)
		run->unconsumed += data.size;
	else
		stream_consumed(stream, data.size);
}

static void on_end(struct stream *stream)
{
	struct run *run = stream->owner;

	REQUIRE(!run->over && run->stream == stream);
	stream_consumed(stream, run->unconsumed);
	run->unconsumed = 0;
	if (!(run->mode & EARLY))
		answer(run, stream);
	fill(run, stream);
}

static void on_writable(struct stream *stream)
{
	fill(stream->owner, stream);
}

static void on_close(struct stream *stream, uint32_t code)
{
	struct run *run = stream->owner;

	REQUIRE(run->stream == stream);
	run->stream = NULL;
	run->closed++;
}

static const struct stream_events stream_events = {
	.on_data = on_data, .on_end = on_end, .on_writable = on_writable, .on_close = on_close,
};

static int on_stream(void *owner, struct stream *stream, const struct h2_request *head)
{
	struct run *run = owner;
	struct cache_path path;
	uint8_t last = head->path.data[head->path.size - 1];

	REQUIRE(!run->over && !run->stream && head->path.size && head->headers_count <= STREAM_HEADERS_MAX);
	if (cache_path_parse(&path, head->path))
		REQUIRE(path.instance.size < head->path.size && (path.result || !path.folder));
	if (span_is(head->path, "/refuse"))
		return -1;
	run->opened++;
	run->stream = stream;
	run->unconsumed = 0;
	run->left = last >= '0' && last <= '9' ? (size_t)(last - '0') * 90000 : 0;
	stream->events = &stream_events;
	stream->owner = run;
	stream_consumed(stream, 0);
	if (span_is(head->path, "/reset"))
		stream_reset(stream, 8);
	else if (run->mode & EARLY)
		answer(run, stream);
	return 0;
}

static const struct h2_events events = { .on_stream = on_stream };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .mode = size ? data[0] : 0 };
	size_t step = run.mode & STEP ? run.mode & STEP : 65536;
	struct http1 *http1;

	if (size == 0)
		return 0;
	http1 = http1_create(&events, &run);
	for (size_t at = 1; at < size; at += step) {
		int r = http1_feed(http1, span_make(data + at, size - at < step ? size - at : step));

		REQUIRE((r < 0) == (http1_fault(http1)->scope == H2_FAULT_CONNECTION));
		run.over = r < 0;
		while (http1_output(http1).size)
			REQUIRE(http1_streams_count(http1) <= 1);
		run.over = run.over || !http1_alive(http1);
		REQUIRE(run.opened - run.closed == http1_streams_count(http1));
	}
	http1_destroy(http1);
	REQUIRE(run.opened == run.closed);
	return 0;
}
