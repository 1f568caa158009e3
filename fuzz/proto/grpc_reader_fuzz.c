/*
 * grpc_reader: split invariance. The first byte says how the rest is cut; the messages that come out must be the same
 * as when all comes at once, and lie inside what went in.
 */
#include "proto/grpc.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)
#define MESSAGE_MAX ((size_t)3000)

/* Writes down what came out: flag, size, bytes of each message, at last the outcome. */
static void run(struct buffer *log, struct span all, size_t step)
{
	struct grpc_reader reader;
	enum grpc_read read = GRPC_READ_MORE;

	grpc_reader_init(&reader, MESSAGE_MAX);
	while (all.size && read <= GRPC_READ_MESSAGE) {
		/* A copy, so that reading past the piece is seen. */
		size_t piece_size = step && step < all.size ? step : all.size;
		uint8_t *piece = malloc(piece_size);
		struct span rest = span_make(piece, piece_size);

		memcpy(piece, all.data, piece_size);
		while (rest.size && read <= GRPC_READ_MESSAGE) {
			struct span message;
			bool compressed;

			read = grpc_reader_feed(&reader, &rest, &message, &compressed);
			if (read != GRPC_READ_MESSAGE)
				continue;
			REQUIRE(message.size <= MESSAGE_MAX);
			REQUIRE(grpc_reader_idle(&reader));
			buffer_put(log, &(uint8_t){ compressed }, 1);
			buffer_put(log, &message.size, sizeof(message.size));
			buffer_put(log, message.data, message.size);
		}
		free(piece);
		all.data += piece_size;
		all.size -= piece_size;
	}
	buffer_put(log, &(uint8_t){ read > GRPC_READ_MESSAGE ? read : grpc_reader_idle(&reader) }, 1);
	grpc_reader_fini(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer whole = buffer_heap(64 << 20), split = buffer_heap(64 << 20);

	if (size == 0)
		return 0;
	run(&whole, span_make(data + 1, size - 1), 0);
	run(&split, span_make(data + 1, size - 1), (size_t)data[0] + 1);
	REQUIRE(span_equal(buffer_span(&whole), buffer_span(&split)));
	buffer_fini(&whole);
	buffer_fini(&split);
	return 0;
}
