/*
 * How many instructions do the hot loops take? One loop a run, prepared outside of what is counted: check.py counts under
 * callgrind what happens inside the function measure().
 *
 *	perf_hot LOOP    1: no such loop, 77: this CPU (or valgrind's) lacks its instructions
 */
#include "chunker/cutter.h"
#include "chunker/guide.h"
#include "chunker/profile.h"
#include "chunker/sha256_backends.h"
#include "chunker/sha256_schedule.h"
#include "proto/h2.h"
#include "proto/sluice_v1.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATA_BYTES  (2u << 20)
#define PIECE_BYTES (64u << 10)
#define JOBS        64
#define JOB_BYTES   8192
#define BLOB_BYTES  1024
#define WRITE_BYTES (128u << 10)
#define EXIT_SKIP   77

static uint8_t *data;
static volatile size_t seen;

struct loop {
	const char *name;
	bool (*prepare)(void); /* false: cannot be run here */
	void (*run)(void);
};

static bool prepare_nothing(void)
{
	return true;
}

static void run_cutter(void)
{
	struct cutter cutter;
	size_t chunk = 0, fed = 0;

	cutter_init(&cutter, profile_fastcdc(PROFILE_NATIVE));
	for (size_t end = PIECE_BYTES; end <= DATA_BYTES; end += PIECE_BYTES) {
		size_t length;

		while ((length = cutter_feed(&cutter, data + fed, end - fed))) {
			chunk += length;
			fed = chunk;
		}
		fed = end;
	}
	seen = cutter_finish(&cutter);
}

static struct guide_chunk former_chunks[DATA_BYTES / 4096];
static struct sha256_job guided[DATA_BYTES / 4096], guided_out[DATA_BYTES / 4096];
static struct guide_reason reasons[DATA_BYTES / 4096];
static size_t former_count;

static struct guide_chunk former_chunk(const void *context, size_t index)
{
	return former_chunks[index];
}

static bool prepare_guide(void)
{
	static uint8_t digests[DATA_BYTES / 4096][SHA256_BYTES];

	for (size_t at = 0; at < DATA_BYTES; former_count++) {
		size_t size = fastcdc_cut(profile_fastcdc(PROFILE_NATIVE), data + at, DATA_BYTES - at);

		sha256_once(data + at, size, digests[former_count]);
		former_chunks[former_count] = (struct guide_chunk){ digests[former_count], size };
		guided[former_count] = (struct sha256_job){ .data = data + at, .size = size };
		memcpy(guided[former_count].digest, digests[former_count], SHA256_BYTES);
		at += size;
	}
	return true;
}

/* The hashing between the two is counted as sha256-lanes. */
static void run_guide(void)
{
	static struct sha256_job proposed[DATA_BYTES / 4096];
	struct sha256 hasher = { .backend = SHA256_OPENSSL };
	struct guide guide;
	size_t count;

	guide_init(&guide, profile_fastcdc(PROFILE_NATIVE), former_chunk, NULL, former_count);
	count = guide_propose(&guide, data, DATA_BYTES, true, proposed, reasons, DATA_BYTES / 4096);
	seen = guide_confirm(&guide, data, DATA_BYTES, true, guided, reasons, count, &hasher, guided_out, DATA_BYTES / 4096);
}

static struct sha256_lanes_backend avx2;

static bool prepare_lanes(void)
{
	struct sha256_lanes_backend backends[SHA256_BACKENDS];
	size_t count = sha256_backends(backends);

	for (size_t i = 0; i < count; i++) {
		if (backends[i].backend == SHA256_AVX2)
			avx2 = backends[i];
	}
	return avx2.advance;
}

static void run_lanes(void)
{
	struct sha256_job jobs[JOBS];

	for (size_t i = 0; i < JOBS; i++)
		jobs[i] = (struct sha256_job){ .data = data + i * JOB_BYTES, .size = JOB_BYTES - i };
	sha256_schedule(avx2.advance, avx2.lanes, 1, jobs, JOBS);
	seen = jobs[0].digest[0];
}

static struct buffer pack;

static bool prepare_pack(void)
{
	pack = buffer_heap(SLUICE_MESSAGE_BYTES_MAX);
	return buffer_reserve(&pack, SLUICE_MESSAGE_BYTES_MAX);
}

static void run_pack(void)
{
	for (size_t at = 0; at < DATA_BYTES; at += BLOB_BYTES) {
		struct digest digest = { .size = BLOB_BYTES };

		pack_put(&pack, &digest, span_make(data + at, BLOB_BYTES));
	}
	seen = pack.size;
}

static struct h2 *server;
static struct buffer wire; /* what the client has sent, to be received */
static size_t received;

static void on_data(struct stream *stream, struct span bytes)
{
	received += bytes.size;
	stream_consumed(stream, bytes.size);
}

static const struct stream_events stream_events = { .on_data = on_data };

static int on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	stream->events = &stream_events;
	return 0;
}

static void take(struct h2 *from, struct h2 *to, struct buffer *kept)
{
	struct span out;

	while ((out = h2_output(from)).size) {
		int r = h2_feed(to, out);

		assert(r == 0);
		if (kept)
			buffer_put(kept, out.data, out.size);
	}
}

/* One transfer is recorded with a server that answers; what is measured is another server that receives the same. */
static bool prepare_h2(void)
{
	static const struct h2_events events = { .on_stream = on_stream };
	const struct h2_request request = { .method = span_text("POST"), .path = span_text("/"),
					    .scheme = span_text("http"), .authority = span_text("x") };
	struct h2 *client, *first;
	struct stream *stream;
	int r = h2_create(&client, &(struct h2_config){ .events = &events });

	r |= h2_create(&first, &(struct h2_config){ .events = &events, .server = true });
	r |= h2_create(&server, &(struct h2_config){ .events = &events, .server = true });
	r |= h2_open(client, &stream, &request, false, &stream_events, NULL);
	assert(r == 0);
	wire = buffer_heap(2 * DATA_BYTES);
	for (size_t sent = 0; sent < DATA_BYTES; sent += WRITE_BYTES) {
		size_t taken = stream_write(stream, span_make(data + sent, WRITE_BYTES));

		assert(taken == WRITE_BYTES);
		take(client, first, &wire);
		take(first, client, NULL);
	}
	assert(received == DATA_BYTES);
	received = 0;
	h2_destroy(client);
	h2_destroy(first);
	return true;
}

static void run_h2(void)
{
	for (size_t at = 0; at < wire.size; at += PIECE_BYTES) {
		size_t rest = wire.size - at;
		int r = h2_feed(server, span_make(wire.data + at, rest < PIECE_BYTES ? rest : PIECE_BYTES));

		assert(r == 0);
		while (h2_output(server).size)
			continue;
	}
	assert(received == DATA_BYTES);
}

static const struct loop loops[] = {
	{ "cutter-feed", prepare_nothing, run_cutter },
	{ "guide", prepare_guide, run_guide },
	{ "sha256-lanes", prepare_lanes, run_lanes },
	{ "pack-put", prepare_pack, run_pack },
	{ "h2-receive", prepare_h2, run_h2 },
};

/* Found by its name, so it must be there under it. */
__attribute__((noinline, used)) void measure(void (*run)(void));
void measure(void (*run)(void))
{
	run();
	__asm__ volatile("" ::: "memory");
}

static uint8_t *data_make(void)
{
	uint64_t state = 88172645463325252u;
	uint64_t *words = malloc(DATA_BYTES);

	for (size_t i = 0; words && i < DATA_BYTES / sizeof(*words); i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
	return (uint8_t *)words;
}

int main(int argc, char **argv)
{
	data = data_make();
	for (size_t i = 0; data && argc == 2 && i < sizeof(loops) / sizeof(loops[0]); i++) {
		if (strcmp(argv[1], loops[i].name) != 0)
			continue;
		if (!loops[i].prepare())
			return EXIT_SKIP;
		measure(loops[i].run);
		return 0;
	}
	fprintf(stderr, "usage: perf_hot LOOP\n");
	return 1;
}
