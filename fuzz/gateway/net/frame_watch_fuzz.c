/* frame_watch_split_invariance: any bytes leave the same state behind, whole or in pieces. Input: piece, then bytes. */
#include "gateway/net/frame_watch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_watch whole = frame_watch_make(false), pieces = frame_watch_make(false);
	size_t piece;

	if (size < 1)
		return 0;
	piece = data[0] ? data[0] : 1;
	frame_watch_feed(&whole, span_make(data + 1, size - 1));
	for (size_t at = 1; at < size; at += piece)
		frame_watch_feed(&pieces, span_make(data + at, piece < size - at ? piece : size - at));
	REQUIRE(whole.left == pieces.left && whole.head_size == pieces.head_size);
	REQUIRE(frame_watch_unfinished(&whole) == frame_watch_unfinished(&pieces));
	return 0;
}
