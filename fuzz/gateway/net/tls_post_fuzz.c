/*
 * tls_post_split_invariance: any messages behind the handshake, in one record or in many, have the same outcome and leave the same
 * state behind. Input: side, size of a piece, then bytes.
 */
#include "gateway/net/tls_post.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(expr) do { if (!(expr)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_post whole = { .client = size && data[0] & 1 }, pieces = whole;
	size_t piece, n;
	int of_whole, of_pieces = TLS_POST_NOTHING;

	if (size < 3)
		return 0;
	piece = data[1] ? data[1] : 1;
	of_whole = tls_post_feed(&whole, span_make(data + 2, size - 2));
	for (size_t at = 2; of_pieces == TLS_POST_NOTHING && at < size; at += n) {
		n = piece < size - at ? piece : size - at;
		of_pieces = tls_post_feed(&pieces, span_make(data + at, n));
	}
	/* What follows an update in its record has to come in the next one. */
	REQUIRE(of_whole == of_pieces || (of_whole == -10 && of_pieces > TLS_POST_NOTHING));
	if (of_whole == TLS_POST_NOTHING)
		REQUIRE(whole.had == pieces.had && whole.skip == pieces.skip && tls_post_unfinished(&whole) == tls_post_unfinished(&pieces));
	return 0;
}
