/* Two engines back to back. */
#include "h2_pair.h"

#include <stdio.h>
#include <stdlib.h>

static void note(struct probe *probe, const char *event)
{
	size_t used = strlen(probe->log);

	snprintf(probe->log + used, sizeof(probe->log) - used, "%s", event);
	if (probe->on_event)
		probe->on_event(probe, event[0]);
}

static void note_fields(struct probe *probe, const struct header *headers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t used = strlen(probe->fields);

		snprintf(probe->fields + used, sizeof(probe->fields) - used, "%.*s=%.*s\n", (int)headers[i].name.size,
		         headers[i].name.data, (int)headers[i].value.size, headers[i].value.data);
	}
}

static void probe_on_headers(struct stream *stream, const struct header *headers, size_t count)
{
	note_fields(stream->owner, headers, count);
	note(stream->owner, "H");
}

static void probe_on_trailers(struct stream *stream, const struct header *headers, size_t count)
{
	note_fields(stream->owner, headers, count);
	note(stream->owner, "T");
}

static void probe_on_data(struct stream *stream, struct span data)
{
	struct probe *probe = stream->owner;

	assert_int_not_equal(data.size, 0);
	if (probe->size + data.size > probe->capacity) {
		probe->capacity = (probe->size + data.size) * 2;
		probe->data = realloc(probe->data, probe->capacity);
		assert_non_null(probe->data);
	}
	memcpy(probe->data + probe->size, data.data, data.size);
	probe->size += data.size;
	probe->unconsumed += data.size;
	if (!probe->hold)
		probe_consume(probe, probe->unconsumed);
	if (probe->size == data.size)
		note(probe, "D");
}

static void probe_on_end(struct stream *stream)
{
	note(stream->owner, "E");
}

static void probe_push(struct probe *probe)
{
	size_t taken = stream_write(probe->stream, probe->writing);

	assert_true(taken <= probe->writing.size);
	probe->writing.data += taken;
	probe->writing.size -= taken;
	if (probe->writing.size == 0 && probe->end_after) {
		probe->end_after = false;
		stream_end(probe->stream);
	}
}

static void probe_on_writable(struct stream *stream)
{
	struct probe *probe = stream->owner;

	probe->writables++;
	if (probe->writing.size)
		probe_push(probe);
}

static void probe_on_close(struct stream *stream, uint32_t code)
{
	struct probe *probe = stream->owner;
	char text[16];

	assert_false(probe->closed);
	probe->closed = true;
	probe->code = code;
	snprintf(text, sizeof(text), "C%u", code);
	note(probe, text);
	probe->stream = NULL;
}

const struct stream_events probe_events = {
	.on_headers = probe_on_headers,
	.on_data = probe_on_data,
	.on_trailers = probe_on_trailers,
	.on_end = probe_on_end,
	.on_writable = probe_on_writable,
	.on_close = probe_on_close,
};

static int pair_on_stream(void *owner, struct stream *stream, const struct h2_request *request)
{
	struct h2_pair *pair = owner;
	struct probe *probe;

	if (pair->refuse)
		return -1;
	assert_true(pair->accepted_count < PROBES_MAX);
	probe = &pair->accepted[pair->accepted_count++];
	probe->stream = stream;
	probe->pair = pair;
	probe->hold = pair->hold;
	stream->events = &probe_events;
	stream->owner = probe;
	note_fields(probe, request->headers, request->headers_count);
	if (pair->on_stream)
		pair->on_stream(probe, request);
	return 0;
}

static void pair_on_output(void *owner)
{
	struct h2_pair *pair = owner;

	pair->outputs++;
}

static void pair_on_goaway(void *owner, uint32_t code)
{
	struct h2_pair *pair = owner;

	pair->goaways++;
}

const struct h2_events pair_client_events = { .on_output = pair_on_output, .on_goaway = pair_on_goaway };
const struct h2_events pair_server_events = {
	.on_stream = pair_on_stream, .on_output = pair_on_output, .on_goaway = pair_on_goaway,
};

bool h2_pair_pieces;

void h2_pair_init(struct h2_pair *pair, const struct h2_config *client, const struct h2_config *server)
{
	struct h2_config config = client ? *client : (struct h2_config){ 0 };

	memset(pair, 0, sizeof(*pair));
	config.server = false;
	config.pieces |= h2_pair_pieces;
	if (!config.events) {
		config.events = &pair_client_events;
		config.owner = pair;
	}
	assert_int_equal(h2_create(&pair->client, &config), 0);
	config = server ? *server : (struct h2_config){ 0 };
	config.server = true;
	config.pieces |= h2_pair_pieces;
	if (!config.events) {
		config.events = &pair_server_events;
		config.owner = pair;
	}
	assert_int_equal(h2_create(&pair->server, &config), 0);
}

void h2_pair_fini(struct h2_pair *pair)
{
	h2_destroy(pair->client);
	h2_destroy(pair->server);
	for (size_t i = 0; i < pair->accepted_count; i++) {
		assert_true(pair->accepted[i].closed);
		probe_fini(&pair->accepted[i]);
	}
}

bool h2_pair_carry(struct h2_pair *pair, bool from_client)
{
	struct h2 *from = from_client ? pair->client : pair->server;
	struct h2 *to = from_client ? pair->server : pair->client;
	struct span out = h2_output(from);

	if (out.size == 0)
		return false;
	pair->carried[!from_client] += out.size;
	while (out.size) {
		size_t step = pair->step && pair->step < out.size ? pair->step : out.size;
		/* A copy of just that size, so that a sanitizer sees whoever reads on or keeps it. */
		uint8_t *piece = malloc(step);
		int r;

		memcpy(piece, out.data, step);
		r = h2_feed(to, span_make(piece, step));
		free(piece);
		if (r < 0)
			pair->feed_error[!from_client] = r;
		out.data += step;
		out.size -= step;
	}
	return true;
}

void h2_pair_pump(struct h2_pair *pair)
{
	bool more;

	do {
		more = h2_pair_carry(pair, true);
		more |= h2_pair_carry(pair, false);
	} while (more);
}

int probe_open(struct h2_pair *pair, struct probe *probe, const char *path, bool end)
{
	const struct header headers[] = { HEADER("content-type", "application/grpc"), HEADER("te", "trailers") };
	const struct h2_request request = {
		.method = span_text("POST"), .path = span_text(path), .authority = span_text("test"),
		.scheme = span_text("http"), .headers = headers, .headers_count = 2,
	};

	probe->pair = pair;
	return h2_open(pair->client, &probe->stream, &request, end, &probe_events, probe);
}

void probe_write(struct probe *probe, struct span data, bool end)
{
	probe->writing = data;
	probe->end_after = end;
	probe_push(probe);
}

void probe_consume(struct probe *probe, size_t bytes)
{
	assert_true(bytes <= probe->unconsumed);
	probe->unconsumed -= bytes;
	if (probe->stream)
		stream_consumed(probe->stream, bytes);
}

void probe_fini(struct probe *probe)
{
	free(probe->data);
	probe->data = NULL;
}
