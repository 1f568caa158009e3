/* Following frame headers. */
#include "gateway/net/frame_watch.h"

enum {
	TYPE_DATA = 0,
	TYPE_HEADERS = 1,
	TYPE_CONTINUATION = 9,
	FLAG_END_HEADERS = 4,
};

struct frame_watch frame_watch_make(bool server)
{
	return (struct frame_watch){ .left = server ? FRAME_WATCH_PREFACE_BYTES : 0 };
}

static void frame_begin(struct frame_watch *watch)
{
	const uint8_t *head = watch->head;

	watch->head_size = 0;
	watch->left = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
	watch->data = head[3] == TYPE_DATA;
	if (head[3] == TYPE_HEADERS || head[3] == TYPE_CONTINUATION)
		watch->block = !(head[4] & FLAG_END_HEADERS);
}

void frame_watch_feed(struct frame_watch *watch, struct span data)
{
	size_t n;

	while (data.size) {
		if (watch->left) {
			n = data.size < watch->left ? data.size : watch->left;
			watch->left -= (uint32_t)n;
		} else {
			n = FRAME_WATCH_HEAD_BYTES - watch->head_size;
			n = data.size < n ? data.size : n;
			memcpy(watch->head + watch->head_size, data.data, n);
			watch->head_size += (uint8_t)n;
			if (watch->head_size == FRAME_WATCH_HEAD_BYTES)
				frame_begin(watch);
		}
		data = span_make(data.data + n, data.size - n);
	}
}
