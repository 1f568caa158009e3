/*
 * grpc_reader: split invariance. The first byte says how the rest is cut; the messages that come out must be the same
 * as when all comes at once, and lie inside what went in; and the same when those that are not compressed come in parts.
 */
#include "proto/grpc.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define MESSAGE_MAX ((size_t)3000)

static void write_down(struct buffer *log, bool compressed, struct span message)
{
	REQUIRE(message.size <= MESSAGE_MAX);
	buffer_put(log, &(uint8_t){ compressed }, 1);
	buffer_put(log, &message.size, sizeof(message.size));
	buffer_put(log, message.data, message.size);
}

static bool goes_on(enum grpc_read read)
{
	return read == GRPC_READ_MORE || read == GRPC_READ_MESSAGE || read == GRPC_READ_PART;
}

/* Writes down what came out: flag, size, bytes of each message, at last the outcome. */
static void run(struct buffer *log, struct span all, size_t step, bool in_parts)
{
	struct buffer parts = buffer_heap(MESSAGE_MAX);
	struct grpc_reader reader;
	enum grpc_read read = GRPC_READ_MORE;

	grpc_reader_init(&reader, MESSAGE_MAX);
	while (all.size && goes_on(read)) {
		/* A copy, so that reading past the piece is seen. */
		size_t piece_size = step && step < all.size ? step : all.size;
		uint8_t *piece = malloc(piece_size);
		struct span rest = span_make(piece, piece_size);

		memcpy(piece, all.data, piece_size);
		while (rest.size && goes_on(read)) {
			struct span message;
			bool compressed;
			size_t left = 0;

			if (in_parts)
				read = grpc_reader_feed_parts(&reader, &rest, &message, &compressed, &left);
			else
				read = grpc_reader_feed(&reader, &rest, &message, &compressed);
			if (read == GRPC_READ_MESSAGE)
				write_down(log, compressed, message);
			if (read == GRPC_READ_PART)
				buffer_put(&parts, message.data, message.size);
			REQUIRE(!parts.failed);
			if (read == GRPC_READ_PART && left == 0) {
				write_down(log, false, buffer_span(&parts));
				buffer_clear(&parts);
			}
			REQUIRE(read != GRPC_READ_MESSAGE || grpc_reader_idle(&reader));
			REQUIRE(read != GRPC_READ_PART || grpc_reader_idle(&reader) == (left == 0));
		}
		free(piece);
		all.data += piece_size;
		all.size -= piece_size;
	}
	buffer_put(log, &(uint8_t){ goes_on(read) ? grpc_reader_idle(&reader) : read }, 1);
	buffer_fini(&parts);
	grpc_reader_fini(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer whole = buffer_heap(64 << 20), split = buffer_heap(64 << 20), parts = buffer_heap(64 << 20);

	if (size == 0)
		return 0;
	run(&whole, span_make(data + 1, size - 1), 0, false);
	run(&split, span_make(data + 1, size - 1), (size_t)data[0] + 1, false);
	run(&parts, span_make(data + 1, size - 1), (size_t)data[0] + 1, true);
	REQUIRE(span_equal(buffer_span(&whole), buffer_span(&split)));
	REQUIRE(span_equal(buffer_span(&whole), buffer_span(&parts)));
	buffer_fini(&parts);
	buffer_fini(&whole);
	buffer_fini(&split);
	return 0;
}
