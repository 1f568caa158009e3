/* Shows that frames are followed the same in every split, and which middles count as unfinished. */
#include "gateway/net/frame_watch.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

/* Preface, SETTINGS, HEADERS without END_HEADERS, CONTINUATION with it, DATA, PING. */
static const uint8_t stream[] =
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	"\0\0\0\4\0\0\0\0\0"
	"\0\0\3\1\0\0\0\0\1abc"
	"\0\0\2\11\4\0\0\0\1de"
	"\0\0\4\0\1\0\0\0\1body"
	"\0\0\10\6\0\0\0\0\0pingpong";

/* After how many bytes the peer is between frames, or in the middle of a body. */
static bool finished_after(size_t n)
{
	static const size_t settings = 24 + 9, headers = settings + 9 + 3 + 9 + 2, data = headers + 9 + 4, ping = data + 9 + 8;

	return n == 24 || n == settings || n == headers || (n >= headers + 9 && n <= data) || n == ping;
}

static void every_split_says_the_same(void **state)
{
	size_t size = sizeof(stream) - 1;

	for (size_t n = 1; n <= size; n++) {
		for (size_t step = 1; step <= n; step++) {
			struct frame_watch watch = frame_watch_make(true);

			for (size_t at = 0; at < n; at += step)
				frame_watch_feed(&watch, span_make(stream + at, step < n - at ? step : n - at));
			if (frame_watch_unfinished(&watch) == finished_after(n))
				fail_msg("after %zu bytes in steps of %zu", n, step);
		}
	}
}

static void a_client_sees_no_preface(void **state)
{
	struct frame_watch watch = frame_watch_make(false);

	assert_false(frame_watch_unfinished(&watch));
	frame_watch_feed(&watch, span_make(stream + 24, 9));
	assert_false(frame_watch_unfinished(&watch));
	frame_watch_feed(&watch, span_make(stream + 24 + 9, 1));
	assert_true(frame_watch_unfinished(&watch));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_split_says_the_same),
		cmocka_unit_test(a_client_sees_no_preface),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
